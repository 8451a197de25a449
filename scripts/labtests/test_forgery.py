"""Nobody without the key makes a backend open a socket, and nobody makes it do the same thing twice."""

import itertools
import socket
import struct
import time

import pytest
from helpers import ask, eventually, get, log_mark, log_since, sockets
from packets import HEADER_BYTES, HANDOFF_PORT, Handoff, Key, Tuple, ethernet, ipv4, tcp, udp

from lab_lib.topology import VIP, VIP_PORT, mac_of

BACKEND = "backend1"
# No host has this address: what the server answers goes nowhere, and its socket stays to be seen.
GHOST = "10.50.0.200"
SWITCH = "10.60.0.1"
_ports = itertools.count(20_000)


class Forger:
    """Somebody on the switch's own cable, who can send any frame to a backend."""

    def __init__(self, lab):
        self.lab = lab
        self.key = Key.read(lab.run_dir / "keys.toml")
        self.socket = lab.socket("switch", socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind(("data0", 3))
        self.backend_address = lab.address_of(BACKEND)

    def new_tuple(self):
        return Tuple(GHOST, next(_ports), VIP, VIP_PORT)

    def message(self):
        now = time.time_ns() // 1000
        return Handoff(base_seq=0x1000_0001, base_ack=0x2000_0001, generation=now, issued=now, key_id=self.key.id)

    def send(self, header, connection, *, seq=0x1000_0001, ack=0x2000_0001):
        data = f"GET /forged/{connection.client_port} HTTP/1.1\r\nHost: {VIP}\r\n\r\n".encode()
        segment = tcp(connection.client, connection.vip, connection.client_port, connection.vip_port, seq, ack, "PA",
                      data=data)
        inner = ipv4(connection.client, connection.vip, 6, segment)
        self.send_frame(ethernet(mac_of(SWITCH), mac_of(self.backend_address), ipv4(
            SWITCH, self.backend_address, 17, udp(0xC001, HANDOFF_PORT, header + inner))))

    def send_frame(self, frame):
        self.socket.send(frame)

    def ghosts(self):
        """Ports of the ghost's connections for which the backend has a socket in whatever state."""
        return {int(s["peer"].rpartition(":")[2]) for s in sockets(self.lab, BACKEND, f"dst {GHOST}")}

    def control(self):
        """A handoff with a right tag does open a socket: what the other tests send is wrong in one thing only."""
        connection = self.new_tuple()
        self.send(self.message().header_for(connection, self.key), connection)
        eventually(lambda: connection.client_port in self.ghosts(), timeout_s=2, what="a true handoff opens a socket")
        return connection


@pytest.fixture
def forger(lab):
    forger = Forger(lab)
    yield forger
    forger.socket.close()
    # The ghost never answers: end its sockets here rather than after the kernel's many retransmissions.
    lab.run(BACKEND, ["ss", "-K", "dst", GHOST], check=False)


def _check_refused(forger, send_all):
    """Run `send_all`, which returns the ports it tried, and see that none of them got a socket or a log line."""
    mark = log_mark(forger.lab, BACKEND)
    first = forger.control()
    tried = send_all()
    last = forger.control()
    time.sleep(0.2)
    assert tried, "nothing was sent"
    assert not forger.ghosts() & tried
    assert not {e["port"] for e in log_since(forger.lab, BACKEND, mark)} & tried
    assert {first.client_port, last.client_port} & forger.ghosts() == {first.client_port, last.client_port}


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_each_byte_of_the_header_counts(forger, mask):
    def send_all():
        tried = set()
        for offset in range(HEADER_BYTES):
            connection = forger.new_tuple()
            header = bytearray(forger.message().header_for(connection, forger.key))
            header[offset] ^= mask
            forger.send(bytes(header), connection)
            tried.add(connection.client_port)
        return tried
    _check_refused(forger, send_all)


def test_each_byte_of_the_4_tuple_counts(forger):
    """The client's address and both ports: a header tagged for one connection serves no other."""
    def send_all():
        tried = set()
        for offset in range(12):
            connection = forger.new_tuple()
            header = forger.message().header_for(connection, forger.key)
            raw = bytearray(socket.inet_aton(connection.client) + socket.inet_aton(connection.vip)
                            + struct.pack("!HH", connection.client_port, connection.vip_port))
            raw[offset] ^= 0x01
            client_port, vip_port = struct.unpack("!HH", raw[8:])
            other = Tuple(socket.inet_ntoa(raw[:4]), client_port, socket.inet_ntoa(raw[4:8]), vip_port)
            before = len(sockets(forger.lab, BACKEND, f"dst {other.client}"))
            forger.send(header, other)
            time.sleep(0.02)
            assert len(sockets(forger.lab, BACKEND, f"dst {other.client}")) == before, f"byte {offset}"
            tried.add(connection.client_port)
        return tried
    _check_refused(forger, send_all)


def test_wrong_key_id(forger):
    def send_all():
        tried = set()
        for key_id in (0, 2, 255):
            connection = forger.new_tuple()
            forger.send(forger.message().with_changes(key_id=key_id).header_for(connection, forger.key), connection)
            tried.add(connection.client_port)
        return tried
    _check_refused(forger, send_all)


def test_another_key(forger):
    def send_all():
        connection = forger.new_tuple()
        forger.send(forger.message().header_for(connection, Key(forger.key.id, bytes(16))), connection)
        return {connection.client_port}
    _check_refused(forger, send_all)


def test_stale_and_future_messages(forger):
    def send_all():
        tried = set()
        for seconds in (-3600, -5, 5, 3600):
            connection = forger.new_tuple()
            message = forger.message()
            message = message.with_changes(issued=message.issued + seconds * 1_000_000)
            forger.send(message.header_for(connection, forger.key), connection)
            tried.add(connection.client_port)
        return tried
    _check_refused(forger, send_all)


def test_only_the_base_segment_opens_a_socket(forger):
    def send_all():
        connection = forger.new_tuple()
        forger.send(forger.message().header_for(connection, forger.key), connection, seq=0x1000_0002)
        return {connection.client_port}
    _check_refused(forger, send_all)


def test_the_tag_of_another_connection(forger):
    """A whole header that is good for one connection, in front of a packet of another."""
    def send_all():
        own, other = forger.new_tuple(), forger.new_tuple()
        forger.send(forger.message().header_for(own, forger.key), other)
        return {own.client_port, other.client_port}
    _check_refused(forger, send_all)


class Tap:
    """Sees what arrives at a backend's data interface, before any program there does."""

    def __init__(self, lab):
        self.socket = lab.socket(BACKEND, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind(("data0", 3))

    def handoffs(self, port):
        """The frames in the tunnel that came until now for a client's port."""
        self.socket.settimeout(0.3)
        frames = []
        try:
            while True:
                frame = self.socket.recv(2048)
                # Ethernet 14, IP 20, UDP 8, header 56, IP 20: the ports of the client's packet.
                if frame[36:38] == struct.pack("!H", HANDOFF_PORT) and frame[42:46] == b"BTON" \
                        and frame[118:122] == struct.pack("!HH", port, VIP_PORT):
                    frames.append(frame)
        except TimeoutError:
            return frames


def _replay_is_harmless(lab, forger, delay_s, close):
    mark = log_mark(lab, BACKEND)
    tap = Tap(lab)
    with tap.socket, lab.connect("client1") as connection:
        port = connection.getsockname()[1]
        ask(connection, "/files/1k", close=close)
        if close:
            assert connection.recv(1) == b""
            connection.close()
        frames = tap.handoffs(port)
        assert frames, "no handoff was seen on the wire"
        time.sleep(delay_s)
        for frame in frames:
            forger.send_frame(frame)
        time.sleep(0.5)
        assert len([e for e in log_since(lab, BACKEND, mark) if e["port"] == port]) == 1, "the request ran again"
        states = {s["state"] for s in sockets(lab, BACKEND) if s["peer"].endswith(f":{port}")}
        assert states <= ({"TIME-WAIT"} if close else {"ESTAB"}), states
        if not close:
            assert ask(connection, "/files/1k").backend == BACKEND, "the connection goes on"
    assert get(lab, "/files/1k").status == 200


@pytest.mark.parametrize("delay_s", [0.0, 2.5])
def test_replay_after_close(lab, forger, delay_s):
    """Every frame the switch sent for a finished connection, sent again as it was: at once, and when it is stale."""
    _replay_is_harmless(lab, forger, delay_s, close=True)


def test_replay_within_a_connection(lab, forger):
    """The same while the connection lives: its socket is neither doubled nor disturbed."""
    _replay_is_harmless(lab, forger, 0.0, close=False)

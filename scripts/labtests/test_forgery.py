"""Nobody without the key makes a backend open a socket, and nobody makes it do the same thing twice."""

import hashlib
import itertools
import secrets
import socket
import struct
import time
from collections import Counter
from contextlib import contextmanager

import pytest
from helpers import ask, eventually, get, log_mark, log_since, logged, read_answer, request, socket_of, sockets
from packets import HEADER_BYTES, HANDOFF_PORT, Handoff, Key, Tuple, ethernet, ipv4, tcp, udp

from lab_lib.content import sha256_of
from lab_lib.topology import VIP, VIP_PORT, mac_of

BACKEND = "backend1"
# No host has this address: what the server answers goes nowhere, and its socket stays to be seen.
GHOST = "10.50.0.200"
SWITCH = "10.60.0.1"
# What is older than this is stale, whatever it is (docs/PROTOCOL.md).
FRESH_S = 2.0
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

    def handoffs(self, port, *, wait_s=0.3):
        """The frames in the tunnel that came until now for a client's port, or come within a time."""
        self.socket.settimeout(wait_s)
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


def _posted(lab, tap, first):
    """POST to BACKEND; `first` closes first. Returns the port, the body's digest, and every frame in the tunnel."""
    body = secrets.token_bytes(700)  # in one segment with its head: what is replayed is a whole request
    close = "Connection: close\r\n" if first == "server" else ""
    head = f"POST /b/{BACKEND}/upload HTTP/1.1\r\nHost: {VIP}\r\nContent-Length: {len(body)}\r\n{close}\r\n"
    with lab.connect("client1") as connection:
        port = connection.getsockname()[1]
        connection.sendall(head.encode() + body)
        answer = read_answer(connection)
        assert (answer.status, answer.headers["x-upload-bytes"]) == (201, str(len(body))), answer
        if first == "server":
            assert connection.recv(1) == b""
    # What was answered has been handed off: all of it is there.
    frames = tap.handoffs(port, wait_s=0.001)
    assert any(body in frame for frame in frames), "the handoff carries the whole request"
    return port, hashlib.sha256(body).hexdigest(), frames


def test_a_replayed_post_is_counted_once(lab, forger):
    """As often as it is handed to the server again: at once after its end, a second later, and when it is stale.

    A server that closed first keeps a TIME_WAIT; of one that closed last no socket is left, but the agent's memory.
    """
    uploads, mark, tap = lab.backend_dir(BACKEND) / "uploads", log_mark(lab, BACKEND), Tap(lab)
    before, posts, later = set(uploads.iterdir()), [], []
    with tap.socket:
        for first in ("server", "client"):
            for delay_s in (0, 1, 2.5):
                port, digest, frames = _posted(lab, tap, first)
                posts.append((port, digest))
                later.append((time.monotonic() + delay_s, frames))
                if not delay_s:
                    for frame in frames:
                        forger.send_frame(frame)
        for due, frames in sorted(later[1:], key=lambda entry: entry[0]):
            time.sleep(max(0.0, due - time.monotonic()))
            for frame in frames:
                forger.send_frame(frame)
        time.sleep(0.5)
        arrived = {port: len(tap.handoffs(port, wait_s=0.001)) for port, _ in posts[-1:]}
    assert all(arrived.values()), "what was replayed has arrived"
    runs = Counter(e["port"] for e in log_since(lab, BACKEND, mark) if "/upload" in e["request"])
    assert runs == {port: 1 for port, _ in posts}, "an upload ran again"
    stored = set(uploads.iterdir()) - before
    assert sorted(sha256_of(path) for path in stored) == sorted(digest for _, digest in posts)
    states = {s["state"] for s in sockets(lab, BACKEND) if int(s["peer"].rpartition(":")[2]) in runs}
    assert states <= {"TIME-WAIT"}, states
    for path in stored:
        path.unlink()


def _again(lab, end, **options):
    """A connection from the same end as one that is over."""
    def is_free():
        return not lab.run("client1", ["ss", "-Htan", "sport", "=", f":{end[1]}"]).stdout
    eventually(is_free, timeout_s=1, what="the client's kernel is rid of the port")
    connection = lab.socket("client1", socket.AF_INET, socket.SOCK_STREAM)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # the server must wait for its reader
    connection.settimeout(5)
    connection.bind(end)
    connection.connect((VIP, VIP_PORT))
    return connection


@contextmanager
def _resets_counted(lab, port):
    """Yields what tells how many RSTs from the VIP have come for a client's port, believed or not."""
    lab.run("client1", ["nft", "-f", "-"], stdin="table ip heard {\nchain in {\ntype filter hook input priority 0;\n"
            f"ip saddr {VIP} tcp dport {port} tcp flags & rst == rst counter\n}}\n}}\n")

    def count():
        words = lab.run("client1", ["nft", "list", "table", "ip", "heard"]).stdout.split()
        return int(words[words.index("packets") + 1])
    try:
        yield count
    finally:
        lab.run("client1", ["nft", "delete", "table", "ip", "heard"])


def test_a_replay_from_a_life_before_the_last_leaves_the_present_one_alone(lab, forger):
    """One 4-tuple is served by one backend, another, and the first again, while what that got first comes once more."""
    other, mark, tap, began = "backend2", log_mark(lab, BACKEND), Tap(lab), time.monotonic()
    with tap.socket:
        with lab.connect("client1") as first:
            end = first.getsockname()
            assert ask(first, f"/b/{BACKEND}/who", close=True).backend == BACKEND and first.recv(1) == b""
        frames = tap.handoffs(end[1], wait_s=0.001)
        assert any(b"/who" in frame for frame in frames)
        with _again(lab, end) as second:
            assert ask(second, f"/b/{other}/who", close=True).backend == other and second.recv(1) == b""
        with _again(lab, end) as third, _resets_counted(lab, end[1]) as resets:
            third.sendall(request(f"/b/{BACKEND}/files/10m"))
            third.recv(1, socket.MSG_PEEK)
            for _ in range(3):
                for frame in frames:
                    forger.send_frame(frame)
                time.sleep(0.05)
            assert time.monotonic() - began < FRESH_S, "the replay was fresh enough to count"
            assert socket_of(lab, BACKEND, third)["state"] == "ESTAB", "the download has not ended"
            answer = read_answer(third)
            assert answer.backend == BACKEND and answer.sha256 == sha256_of(lab.content_dir / "10m")
            assert ask(third, f"/b/{BACKEND}/files/1k").status == 200, "the connection goes on"
            assert resets() == 0, "nobody was told to end it"
        logged(lab, BACKEND, mark, lambda e: e["port"] == end[1], 3)
    paths = [e["request"].split()[1] for e in log_since(lab, BACKEND, mark) if e["port"] == end[1]]
    assert [path.rpartition("/")[2] for path in paths] == ["who", "10m", "1k"], paths

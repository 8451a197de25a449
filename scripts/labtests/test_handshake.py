"""What the switch's SYN-ACK says, byte by byte, and what the server's kernel made of it."""

import itertools
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROUTED_BACKEND
from helpers import ask, counters, eventually, flow_count, read_answer, request, socket_of
from packets import ethernet, ipv4, tcp
from rawclient import ADDRESS, ROUTER_MAC, RawClient

from lab_lib.topology import MTU_BYTES, VIP, VIP_PORT, mac_of

CLIENT = "client2"
# Outer IP, UDP and handoff header; then the client's IP and TCP headers, which an MSS does not count.
ANNOUNCED_MSS = MTU_BYTES - (20 + 8 + 56) - (20 + 20)
MSS, WSCALE, SACK, STAMPS, FAST_OPEN, MPTCP, STRANGE = 2, 3, 4, 8, 34, 30, 254
SO_RCVBUFFORCE = 33  # socket(7); Python does not name it
_ports = itertools.count(15_000)


def _options(block):
    """{kind: value} of a TCP option block."""
    found, at = {}, 0
    while at < len(block) and block[at] != 0:
        if block[at] == 1:
            at += 1
            continue
        found[block[at]] = block[at + 2:at + block[at + 1]]
        at += block[at + 1]
    return found


@pytest.fixture
def answer_to_syn(lab):
    """Sends a SYN with given options and returns flags and options of the SYN-ACK.

    No kernel has its address: one would reset what it did not ask for, and the switch would look for the backend of that.
    """
    client = RawClient(lab, CLIENT)
    raw = lab.socket(CLIENT, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    raw.bind(("data0", 0x0800))
    raw.settimeout(2)

    def ask_with(options, more_flags=0):
        port = next(_ports)
        padded = options + b"\x01" * (-len(options) % 4)
        segment = bytearray(tcp(ADDRESS, VIP, port, VIP_PORT, 0x0A0B0C0D, 0, "S", options=padded))
        if more_flags:
            # The checksum is over 16-bit words: what is added to one is taken from the sum.
            segment[13] |= more_flags
            total = struct.unpack_from("!H", segment, 16)[0] - more_flags
            struct.pack_into("!H", segment, 16, total if total > 0 else total + 0xFFFF)
        raw.send(ethernet(mac_of(lab.address_of(CLIENT)), ROUTER_MAC, ipv4(ADDRESS, VIP, 6, bytes(segment))))
        while True:
            frame = raw.recv(2048)
            if frame[23] == 6 and frame[26:30] == socket.inet_aton(VIP) and frame[36:38] == struct.pack("!H", port):
                reply = frame[34:14 + struct.unpack("!H", frame[16:18])[0]]
                assert struct.unpack("!I", reply[8:12])[0] == 0x0A0B0C0E, "it acknowledges our SYN"
                return reply[13], _options(reply[20:(reply[12] >> 4) * 4])
    yield ask_with
    raw.close()
    client.close()


USUAL = bytes([2, 4, 5, 0xB4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 9])


def test_a_usual_syn_gets_every_option_and_leaves_no_flow(lab, answer_to_syn):
    flows, before = flow_count(lab), counters(lab)["syn_acks"]
    flags, options = answer_to_syn(USUAL)
    assert flags == 0x12
    assert set(options) == {MSS, WSCALE, SACK, STAMPS}
    assert struct.unpack("!H", options[MSS])[0] == ANNOUNCED_MSS
    assert options[WSCALE] == b"\x07" and options[STAMPS][4:] == bytes([1, 2, 3, 4])
    assert counters(lab)["syn_acks"] == before + 1 and flow_count(lab) <= flows


def test_unknown_options_are_not_reflected(answer_to_syn):
    strange = bytes([FAST_OPEN, 2, MPTCP, 4, 0, 1, STRANGE, 4, 0xBA, 0x70])
    flags, options = answer_to_syn(USUAL + strange)
    assert flags == 0x12 and set(options) == {MSS, WSCALE, SACK, STAMPS}


@pytest.mark.parametrize("offered, answered", [
    (b"", {MSS}), (bytes([2, 4, 2, 24]), {MSS}), (bytes([2, 4, 5, 0xB4, 4, 2]), {MSS, SACK}),
    (bytes([3, 3, 14]), {MSS, WSCALE}), (bytes([8, 10, 0, 0, 0, 9, 0, 0, 0, 0]), {MSS, STAMPS}),
])
def test_only_what_is_offered_is_answered(answer_to_syn, offered, answered):
    assert set(answer_to_syn(offered)[1]) == answered


@pytest.mark.parametrize("asked, answered", [(0, 0x12), (0xC0, 0x52), (0x40, 0x12), (0x80, 0x12)])
def test_ecn_is_agreed_on_when_it_is_asked_for(answer_to_syn, asked, answered):
    """ECE and CWR together ask; ECE alone answers (RFC 3168, section 6.1.1)."""
    assert answer_to_syn(USUAL, asked)[0] == answered


@pytest.fixture
def client_ecn(lab):
    """Sets the client's kernel to ask for ECN or not; asking only when asked after the test."""
    def set_to(value):
        lab.run(CLIENT, ["sysctl", "-qw", f"net.ipv4.tcp_ecn={value}"])
    was = lab.run(CLIENT, ["sysctl", "-n", "net.ipv4.tcp_ecn"]).stdout.strip()
    yield set_to
    set_to(was)


@pytest.mark.parametrize("backend", ["backend1", ROUTED_BACKEND])
@pytest.mark.parametrize("value", [0, 1])
def test_ecn_is_in_force_at_the_server(lab, client_ecn, backend, value):
    client_ecn(value)
    with lab.connect(CLIENT) as connection:
        assert ask(connection, f"/b/{backend}/files/64k").status == 200
        words = socket_of(lab, backend, connection)["info"].split()
    assert ("ecn" in words) == (value == 1), words


def _number(words, name):
    """The value of `name:` in what `ss` says of a socket; 0 where it says nothing."""
    return int(next((word for word in words if word.startswith(f"{name}:")), ":0").partition(":")[2])


@pytest.mark.parametrize("backend", ["backend1", ROUTED_BACKEND])
def test_the_clients_window_scale_is_in_force(lab, backend):
    """A client with room that does not read: the server sends more than a window without scale allows."""
    room = (socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
    with lab.connect(CLIENT, options=[room]) as connection:
        connection.sendall(request(f"/b/{backend}/files/10m"))
        words = eventually(
            lambda: (w := socket_of(lab, backend, connection)["info"].split()) and _number(w, "snd_wnd") > 0
            and _number(w, "bytes_acked") > 4 * 65535 and w, timeout_s=5, what="more than 256 KB are under way")
        assert _number(words, "bytes_acked") < 10 << 20, "the client did not read"
        scale = next(word for word in words if word.startswith("wscale:"))
        assert int(scale[len("wscale:"):].partition(",")[0]) > 0, words


@pytest.mark.parametrize("backend", ["backend1", ROUTED_BACKEND])
def test_the_announced_window_scale_is_in_force(lab, backend):
    """An upload: the server's window, scaled by what the switch announced, grows beyond 64 KB."""
    body = bytes(32 << 20)
    head = f"POST /b/{backend}/upload HTTP/1.1\r\nHost: {VIP}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with lab.connect(CLIENT) as connection, ThreadPoolExecutor(1) as pool:
        port = connection.getsockname()[1]
        upload = pool.submit(connection.sendall, head + body)
        words = eventually(lambda: (w := lab.run(CLIENT, ["ss", "-Htni", "sport", "=", f":{port}"]).stdout.split())
                           and _number(w, "snd_wnd") > 65535 and w, timeout_s=5, what="a window beyond 64 KB")
        upload.result(timeout=30)
        answer = read_answer(connection)
    assert "wscale:7" in [word.partition(",")[0] for word in words], words
    assert answer.headers["x-upload-bytes"] == str(len(body))
    (lab.backend_dir(backend) / "uploads" / answer.headers["x-upload-id"]).unlink()


def test_the_servers_segments_have_the_clients_size(lab):
    """MSS, timestamps, SACK and scale, as the server's kernel has them after the handoff."""
    with lab.connect(CLIENT) as connection:
        assert ask(connection, "/files/64k").status == 200
        words = socket_of(lab, "backend1", connection)["info"].split()
        own = lab.run(CLIENT, ["ss", "-Htni", "dst", VIP]).stdout.split()
    assert "mss:1448" in words and {"ts", "sack"} <= set(words), words
    # The client keeps to what was announced: the tunnel has room around its segments.
    assert f"mss:{ANNOUNCED_MSS - 12}" in own, own

"""Frames nobody should send: each is dropped under a name of its own and disturbs nothing."""

import re
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from conftest import ROUTED_BACKEND
from helpers import counters, curl, eventually, flow_of, get, log_mark, logged, read_answer, request, told
from packets import checksum, ethernet, ipv4, tcp, udp

from rawclient import ADDRESS as RAW_ADDRESS
from rawclient import RawClient

from lab_lib.content import sha256_of
from lab_lib.topology import MTU_BYTES, VIP, VIP_PORT, mac_of

ROUTER_MAC, SWITCH_MAC, BROADCAST = mac_of("10.60.0.254"), mac_of("10.60.0.1"), "ff:ff:ff:ff:ff:ff"
# No host has this address.
GHOST, PORT = "10.50.0.202", 40_000
COPIES = 7
# What changes without anybody's doing. All else must stand still.
USUAL = ("rx_frames", "rx_bytes", "arp_", "drop_arp_other", "lcore_", "flows_expired")
FAR = 1 << 30
ETHERTYPE_OF_NOBODY = 0x88B5  # IEEE 802: for local experiments


@pytest.fixture
def send_within(lab):
    """Puts frames on the switch's own interface, where its driver sees them: for what the kernel would change on its way in.

    A packet socket in a fanout group, which is what the lab's driver uses, has the kernel put fragments together: of one
    alone it would never hear. It also hears what others send there, and what these do not declare as IP is left alone.
    """
    with lab.socket("switch", socket.AF_PACKET, socket.SOCK_RAW, 0) as cable:
        cable.bind(("data0", ETHERTYPE_OF_NOBODY))
        yield cable.send


@pytest.fixture
def send(lab):
    """Puts frames on the switch's cable, from the far end: nobody else sees them or mends them."""
    with lab.socket("fabric", socket.AF_PACKET, socket.SOCK_RAW, 0) as cable:
        cable.bind(("p-switch", 0))
        yield cable.send


def _ip(payload, *, first=0x45, total=None, fragment=0x4000, protocol=6, source=GHOST, destination=VIP, options=b"",
        sum_off_by=0):
    """An IPv4 packet with any header; its checksum is right unless it is to be off."""
    total = 20 + len(options) + len(payload) if total is None else total
    head = struct.pack("!BBHHHBBH4s4s", first, 0, total, 7, fragment, 64, protocol, 0, socket.inet_aton(source),
                       socket.inet_aton(destination)) + options
    return head[:10] + struct.pack("!H", checksum(head) ^ sum_off_by) + head[12:] + payload


def _tcp(flags, *, source=GHOST, ack=0, options=b"", data=b"", **fields):
    return tcp(source, VIP, PORT, VIP_PORT, 0x01020304, ack, flags, options=options, data=data, **fields)


def _with_byte(segment, at, value):
    """A segment with one byte changed, and its checksum wrong."""
    return segment[:at] + bytes([value]) + segment[at + 1:]


def _from(source, *, port=PORT):
    """A SYN from an address that cannot be a client's."""
    return _ip(tcp(source, VIP, port, VIP_PORT, 1, 0, "S"), source=source)


SYN = _tcp("S", options=bytes([2, 4, 5, 0xB4]))
REQUEST = request("/who")
DATA = _tcp("PA", ack=77, data=REQUEST)
# What is sent, as IPv4 packets, and what counts it.
PACKETS = {
    "another IP version": (_ip(SYN, first=0x65), "drop_malformed"),
    "IP header of 16 bytes": (_ip(SYN, first=0x44), "drop_malformed"),
    "IP header of 0 bytes": (_ip(SYN, first=0x40), "drop_malformed"),
    "IP header beyond the packet": (_ip(SYN, first=0x4F), "drop_malformed"),
    "IP length beyond the frame": (_ip(SYN, total=20 + len(SYN) + 1), "drop_malformed"),
    "IP length of 64 KB": (_ip(SYN, total=0xFFFF), "drop_malformed"),
    "IP length within its header": (_ip(SYN, total=19), "drop_malformed"),
    "IP length of 0": (_ip(SYN, total=0), "drop_malformed"),
    "IP header alone": (_ip(SYN, total=20), "drop_malformed"),
    "IP checksum wrong": (_ip(SYN, sum_off_by=1), "drop_ip_checksum"),
    "IP options": (_ip(SYN, first=0x46, options=b"\x01\x01\x01\x00"), "drop_ip_options"),
    "source route": (_ip(SYN, first=0x47, options=bytes([131, 7, 4, 10, 60, 0, 11, 0])), "drop_ip_options"),
    "TCP header cut": (_ip(SYN, total=20 + 19), "drop_malformed"),
    "TCP header of 16 bytes": (_ip(_with_byte(SYN, 12, 0x40)), "drop_malformed"),
    "TCP header beyond the segment": (_ip(_with_byte(SYN, 12, 0xF0)), "drop_malformed"),
    "TCP checksum wrong": (_ip(_with_byte(SYN, 4, 0x99)), "drop_tcp_checksum"),
    "TCP checksum of data wrong": (_ip(_with_byte(DATA, 30, 0x00)), "drop_tcp_checksum"),
    "option of length 0": (_ip(_tcp("S", options=bytes([2, 0, 5, 0xB4]))), "drop_tcp_options"),
    "option of length 1": (_ip(_tcp("S", options=bytes([8, 1, 1, 1]))), "drop_tcp_options"),
    "option beyond the header": (_ip(_tcp("S", options=bytes([1, 1, 2, 4]))), "drop_tcp_options"),
    "option without length": (_ip(_tcp("S", options=bytes([1, 1, 1, 8]))), "drop_tcp_options"),
    "MSS of three bytes": (_ip(_tcp("S", options=bytes([2, 3, 5, 0]))), "drop_tcp_options"),
    "no flags": (_ip(_tcp("")), "drop_tcp_flags"),
    "FIN alone": (_ip(_tcp("F")), "drop_tcp_flags"),
    "SYN and FIN": (_ip(_tcp("SF")), "drop_tcp_flags"),
    "SYN and RST": (_ip(_tcp("SR")), "drop_tcp_flags"),
    "SYN and ACK": (_ip(_tcp("SA", ack=77)), "drop_tcp_flags"),
    "christmas tree": (_ip(_tcp("FPU")), "drop_tcp_flags"),
    "all flags": (_ip(_tcp("FSRPAU", ack=77)), "drop_tcp_flags"),
    "urgent data": (_ip(_tcp("PAU", ack=77, data=REQUEST, urgent=3)), "drop_tcp_flags"),
    "urgent SYN": (_ip(_tcp("SU", urgent=3)), "drop_tcp_flags"),
    "LAND": (_from(VIP, port=VIP_PORT), "drop_source_invalid"),
    "source is the VIP": (_from(VIP), "drop_source_invalid"),
    "source is multicast": (_from("224.0.0.1"), "drop_source_invalid"),
    "source is broadcast": (_from("255.255.255.255"), "drop_source_invalid"),
    "source is loopback": (_from("127.0.0.1"), "drop_source_invalid"),
    "source is nobody": (_from("0.0.0.0"), "drop_source_invalid"),
    "another port of the VIP": (_ip(tcp(GHOST, VIP, PORT, 81, 1, 0, "S")), "drop_not_vip"),
    "no address of the switch": (_ip(SYN, destination="10.60.0.101"), "drop_not_vip"),
    "UDP to the VIP": (_ip(udp(PORT, VIP_PORT, b"?"), protocol=17), "drop_not_vip"),
    "another protocol": (_ip(b"?" * 20, protocol=47), "drop_not_vip"),
}
FRAGMENTS = {"first": _ip(SYN, fragment=0x2000), "middle": _ip(SYN, fragment=0x2010), "last": _ip(SYN, fragment=0x0010),
             "of data": _ip(DATA, fragment=0x2000)}
FRAMES = {name: (ethernet(ROUTER_MAC, SWITCH_MAC, packet), counter) for name, (packet, counter) in PACKETS.items()}
FRAMES |= {
    "Ethernet header alone": (ethernet(ROUTER_MAC, SWITCH_MAC, b""), "drop_malformed"),
    "IP in a broadcast": (ethernet(ROUTER_MAC, BROADCAST, _ip(SYN)), "drop_not_ours"),
    "no IP": (ethernet(ROUTER_MAC, SWITCH_MAC, _ip(SYN))[:12] + b"\x88\xB5" + b"?" * 46, "drop_not_ours"),
    "VLAN": (ethernet(ROUTER_MAC, SWITCH_MAC, _ip(SYN))[:12] + b"\x81\x00\x00\x07\x08\x00" + _ip(SYN), "drop_not_ours"),
    "ARP cut": (ethernet(ROUTER_MAC, SWITCH_MAC, b"")[:12] + b"\x08\x06\x00\x01\x08\x00\x06\x04", "drop_malformed"),
}


def _changed(before, after):
    return {name: value - before[name] for name, value in after.items()
            if value != before[name] and not name.startswith(USUAL)}


def _ghosts_flows(lab):
    return [flow for flow in told(lab, "flows", "--limit", "10000")["flows"] if flow["tuple"]["client"] == GHOST]


def _all_arrived(lab, before, count):
    # The frame counter moves before the reasons do; one turn of batonctl later all is counted.
    eventually(lambda: counters(lab)["rx_frames"] - before["rx_frames"] >= count, timeout_s=2, what="frames arrive")
    return counters(lab)


@pytest.mark.parametrize("name", FRAMES)
def test_a_bad_frame_is_dropped_and_counted_by_name(lab, send, name):
    frame, counter = FRAMES[name]
    before = counters(lab)
    for _ in range(COPIES):
        send(frame)
    after = _all_arrived(lab, before, COPIES)
    assert _changed(before, after) == {counter: COPIES}
    assert not _ghosts_flows(lab)


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_fragment_opens_nothing(lab, send_within, name):
    before = counters(lab)
    for _ in range(COPIES):
        send_within(ethernet(ROUTER_MAC, SWITCH_MAC, FRAGMENTS[name]))
    assert _changed(before, _all_arrived(lab, before, COPIES)) == {"drop_ip_fragment": COPIES}
    assert not _ghosts_flows(lab)


def test_fragments_of_a_request_are_not_put_together(lab, send_within):
    """Of a live connection, so that nothing but being in two pieces is wrong with it; its whole copy is served."""
    raw = RawClient(lab)
    try:
        connection, half = raw.connect(), 24
        segment = connection.segment(REQUEST)
        before = counters(lab)
        for fragment, part in ((0x2000, segment[:half]), (half // 8, segment[half:])):
            send_within(ethernet(ROUTER_MAC, SWITCH_MAC, _ip(part, fragment=fragment, source=RAW_ADDRESS)))
        changed = _changed(before, _all_arrived(lab, before, 2))
        assert changed == {"drop_ip_fragment": 2} and flow_of(lab, connection) is None, changed
        connection.send(REQUEST)
        assert b"200 OK" in connection.read(until=b"\r\n\r\n").data
    finally:
        raw.close()


def test_every_truncation_is_malformed(lab, send):
    """A frame that ends anywhere before its packet does."""
    whole = ethernet(ROUTER_MAC, SWITCH_MAC, _ip(DATA))
    before = counters(lab)
    for length in range(14, len(whole)):
        send(whole[:length])
    count = len(whole) - 14
    assert _changed(before, _all_arrived(lab, before, count)) == {"drop_malformed": count}
    assert not _ghosts_flows(lab)


@contextmanager
def _jumbo_cable(lab):
    """The switch's cable carries longer frames than its network."""
    ends = (("fabric", "p-switch"), ("switch", "data0"))
    for host, interface in ends:
        lab.run(host, ["ip", "link", "set", interface, "mtu", "4000"])
    try:
        yield
    finally:
        for host, interface in ends:
            lab.run(host, ["ip", "link", "set", interface, "mtu", str(MTU_BYTES)])


class LiveDownload:
    """A download that waits for its client to read on, and what an attacker who sees it knows."""

    def __init__(self, lab, backend):
        self.lab, self.backend = lab, backend
        self.connection = lab.connect("client1")
        self.own, self.port = self.connection.getsockname()
        with lab.socket("client1", socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap:
            tap.bind(("data0", 3))
            tap.settimeout(2)
            self.connection.sendall(request(f"/b/{backend}/files/10m"))
            # Until its kernel acknowledges data of the answer.
            while True:
                frame = tap.recv(2048)
                if frame[26:30] == socket.inet_aton(self.own) and frame[34:36] == struct.pack("!H", self.port) \
                        and len(frame) == 66:
                    self.seq, self.ack = struct.unpack("!II", frame[38:46])
                    self.window = struct.unpack("!H", frame[48:50])[0]
                    self.options = frame[54:66]
                    break
        eventually(lambda: (flow := flow_of(lab, self.connection)) and flow["state"] == "established", timeout_s=2,
                   what="the flow is confirmed")

    def frame(self, flags, *, ahead=0, ack_ahead=0, data=b""):
        segment = tcp(self.own, VIP, self.port, VIP_PORT, (self.seq + ahead) % (1 << 32),
                      (self.ack + ack_ahead) % (1 << 32), flags, options=self.options, data=data, window=self.window)
        return ethernet(ROUTER_MAC, SWITCH_MAC, ipv4(self.own, VIP, 6, segment))

    def comes_whole(self):
        answer = read_answer(self.connection)
        return answer.backend == self.backend and answer.sha256 == sha256_of(self.lab.content_dir / "10m")


@pytest.fixture(params=["backend1", ROUTED_BACKEND])
def download(lab, request):
    download = LiveDownload(lab, request.param)
    yield download
    download.connection.close()


FORGED = {
    "RST out of the window": ("R", {"ahead": FAR}, "fins_unbelieved"),
    "RST with ACK before the window": ("RA", {"ahead": -FAR}, "fins_unbelieved"),
    "RST in the window": ("R", {"ahead": 1000}, "fins_unbelieved"),
    "FIN out of the window": ("FA", {"ahead": FAR}, "fins_unbelieved"),
    "data out of the window": ("PA", {"ahead": FAR, "data": b"GET /forged HTTP/1.1\r\n\r\n"}, None),
    "data before the window": ("PA", {"ahead": -FAR, "data": b"GET /forged HTTP/1.1\r\n\r\n"}, None),
    "acknowledges what was never sent": ("A", {"ack_ahead": FAR}, None),
    "SYN in its midst": ("S", {"ahead": FAR}, "syn_acks"),
}


# What the switch forwards, as it keeps no window: the server's kernel drops each, on the very socket it is meant for.
DROPPED_BY_THE_KERNEL = {name for name, (_, _, counter) in FORGED.items() if counter is None}


def _dropped_by_kernel(download):
    """How many packets the kernel dropped on the socket of a download, by its own count."""
    shown = download.lab.run(download.backend, ["ss", "-Htnm", "src", VIP, "dport", "=", f":{download.port}"]).stdout
    return int(re.search(r"skmem:\(.*,d(\d+)\)", shown)[1])


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_segment_ends_no_download(lab, send, download, name):
    """With the right ports and timestamps, but numbers out of thin air."""
    flags, numbers, counter = FORGED[name]
    mark, before, dropped = log_mark(lab, download.backend), counters(lab), _dropped_by_kernel(download)
    for _ in range(COPIES):
        send(download.frame(flags, **numbers))
    after = _all_arrived(lab, before, COPIES)
    if counter:
        assert after[counter] - before[counter] == COPIES
    if name in DROPPED_BY_THE_KERNEL:
        assert not any(change.startswith("drop_") for change in _changed(before, after)), _changed(before, after)
        eventually(lambda: _dropped_by_kernel(download) == dropped + COPIES, timeout_s=2,
                   what=lambda: f"the kernel dropped {_dropped_by_kernel(download) - dropped} of {COPIES}")
    assert after["flows_gone"] == before["flows_gone"] and after["resets_sent"] == before["resets_sent"]
    assert flow_of(lab, download.connection)["state"] == "established"
    assert download.comes_whole()
    download.connection.sendall(request(f"/b/{download.backend}/who"))
    assert read_answer(download.connection).status == 200, "nor the connection"
    entries = logged(lab, download.backend, mark, lambda e: e["port"] == download.port, 2)
    assert [e["request"].split()[1].rpartition("/")[2] for e in entries] == ["10m", "who"]


def test_segments_longer_than_the_mtu(lab, send, download):
    """Of a live connection, so that nothing but the length is wrong. The longest exceed the driver's buffers, too."""
    with _jumbo_cable(lab):
        before = counters(lab)
        for data_bytes in (MTU_BYTES - 52 + 1, 1800, 3900):
            send(download.frame("PA", data=b"x" * data_bytes))
        after = _all_arrived(lab, before, 3)
    dropped = {name: value for name, value in _changed(before, after).items() if name.startswith("drop_")}
    assert sum(dropped.values()) == 3 and set(dropped) <= {"drop_malformed", "drop_too_long"}, _changed(before, after)
    assert download.comes_whole()


def test_downloads_go_on_through_all_of_it(lab, send, tmp_path):
    """Every frame above, again and again, while both kinds of backends deliver."""
    backends = ["backend1", ROUTED_BACKEND]
    before = counters(lab)
    with ThreadPoolExecutor(len(backends)) as pool:
        downloads = [pool.submit(curl, lab, "-o", tmp_path / backend, "--limit-rate", "25M",
                                 lab.url(f"/b/{backend}/files/50m")) for backend in backends]
        rounds = 0
        while not all(download.done() for download in downloads):
            for frame, _ in FRAMES.values():
                send(frame)
            rounds += 1
            time.sleep(0.005)  # what a ring of the lab's driver holds must not overflow
        for download in downloads:
            download.result()
    for backend in backends:
        assert sha256_of(tmp_path / backend) == sha256_of(lab.content_dir / "50m")
    assert rounds > 20
    after = _all_arrived(lab, before, rounds * len(FRAMES))
    for counter in {counter for _, counter in FRAMES.values()} - {"drop_not_ours"}:
        sent = sum(1 for _, name in FRAMES.values() if name == counter) * rounds
        assert after[counter] - before[counter] == sent, (counter, _changed(before, after))
    assert after["handoffs"] - before["handoffs"] == len(backends)
    eventually(lambda: not _ghosts_flows(lab), timeout_s=3, what="nobody is looked for any more")
    assert get(lab, "/who").status == 200

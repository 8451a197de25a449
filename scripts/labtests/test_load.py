"""Many connections, and many SYNs that never become one."""

import random
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

from conftest import CLOSING_TIMEOUT_S
from helpers import curl, eventually, flow_count
from packets import checksum, ethernet, ipv4, tcp

from lab_lib.load import run_wrk
from lab_lib.topology import VIP, VIP_PORT, mac_of

SYNS = 200_000
REAL_CLIENTS = 8
CONNECTIONS = 20_000


def _syn_frames(count, source_mac, router_mac, seed):
    """SYN frames from random addresses of a benchmarking range (RFC 2544) that leads nowhere in the lab."""
    choose = random.Random(seed)
    options = bytes([2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7])
    for _ in range(count):
        source = socket.inet_ntoa(struct.pack("!I", 0xC6120000 | choose.getrandbits(17)))
        segment = tcp(source, VIP, choose.randrange(1024, 65536), VIP_PORT, choose.getrandbits(32), 0, "S",
                      options=options)
        yield ethernet(source_mac, router_mac, ipv4(source, VIP, 6, segment))


def test_syn_flood_leaves_no_state_and_real_clients_are_served(lab):
    frames = list(_syn_frames(20_000, mac_of(lab.address_of("client2")), mac_of("10.50.0.254"), seed=20))
    assert checksum(frames[0][14:34]) == 0
    before_packets = lab.interface_counters("switch")["rx_packets"]
    before_flows = flow_count(lab)
    most_flows, sent = 0, 0
    with lab.socket("client2", socket.AF_PACKET, socket.SOCK_RAW) as raw, ThreadPoolExecutor(1) as pool:
        raw.bind(("data0", 0))
        real = pool.submit(run_wrk, lab, "client1", lab.url("/files/1k"), seconds=4, connections=REAL_CLIENTS,
                           close=False)
        while sent < SYNS:
            for frame in frames:
                raw.send(frame)
            sent += len(frames)
            most_flows = max(most_flows, flow_count(lab))
        report = real.result()
    assert lab.interface_counters("switch")["rx_packets"] - before_packets >= SYNS, "the flood did not arrive"
    assert most_flows <= before_flows + REAL_CLIENTS
    assert report["requests"] > 100 and sum(report["errors"].values()) == 0, report
    curl(lab, lab.url("/who"))


def test_20k_connections_leave_no_flow_behind(lab):
    output = lab.run("client1", ["ab", "-q", "-n", str(CONNECTIONS), "-c", "100", lab.url("/files/1k")],
                     timeout_s=120).stdout
    figures = dict(line.split(":", 1) for line in output.splitlines() if ":" in line)
    assert int(figures["Complete requests"]) == CONNECTIONS
    assert int(figures["Failed requests"]) == 0, output
    seen = flow_count(lab)
    eventually(lambda: flow_count(lab) == 0, timeout_s=CLOSING_TIMEOUT_S + 10,
               what=f"flow tables empty ({seen} flows when the load ended)")

"""Many connections, and many SYNs that never become one."""

import random
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

from conftest import CLOSING_TIMEOUT_S
from helpers import counters, curl, eventually, flow_count, status, told
from packets import checksum, ethernet, ipv4, tcp

from lab_lib.load import run_wrk
from lab_lib.topology import VIP, VIP_PORT, mac_of

SYNS = 200_000
REAL_CLIENTS = 8
CONNECTIONS = 20_000
# As many as the switch lists at most.
FLOWS_LISTED = "10000"
# What real clients get during the flood, beside what they get while the same frames go elsewhere. On two CPUs that
# clients, servers and the sender of the flood share with the switch, its answers cost them a part.
GOODPUT_RATIO_MIN = 0.3
# An address of the fabric that nobody has: the router looks for it in vain.
NOBODY = "10.60.0.99"


def _syn_frames(count, destination, source_mac, router_mac, seed):
    """SYN frames from random addresses of a benchmarking range (RFC 2544) that leads nowhere in the lab."""
    choose = random.Random(seed)
    options = bytes([2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7])
    for _ in range(count):
        source = socket.inet_ntoa(struct.pack("!I", 0xC6120000 | choose.getrandbits(17)))
        segment = tcp(source, destination, choose.randrange(1024, 65536), VIP_PORT, choose.getrandbits(32), 0, "S",
                      options=options)
        yield ethernet(source_mac, router_mac, ipv4(source, destination, 6, segment))


def _flood(lab, destination, after_each=lambda: None):
    """Send SYNS frames to an address while real clients load files; returns what these got."""
    frames = list(_syn_frames(20_000, destination, mac_of(lab.address_of("client2")), mac_of("10.50.0.254"), seed=20))
    assert checksum(frames[0][14:34]) == 0
    with lab.socket("client2", socket.AF_PACKET, socket.SOCK_RAW) as raw, ThreadPoolExecutor(1) as pool:
        raw.bind(("data0", 0))
        real = pool.submit(run_wrk, lab, "client1", lab.url("/files/1k"), seconds=4, connections=REAL_CLIENTS,
                           close=False)
        sent = 0
        while sent < SYNS:
            for frame in frames:
                raw.send(frame)
            sent += len(frames)
            after_each()
        return real.result()


def test_syn_flood_leaves_no_state_and_real_clients_are_served(lab):
    calm = _flood(lab, NOBODY)
    before, begin = counters(lab), status(lab)
    surplus = []

    def look():
        now = status(lab)
        # Real clients, whose server closes a connection after some thousand requests, make flows; nobody else does.
        surplus.append(now["flows"] - begin["flows"] - (now["handoffs"] - begin["handoffs"]))

    flooded = _flood(lab, VIP, look)
    after = counters(lab)
    assert after["syn_acks"] - before["syn_acks"] >= 0.9 * SYNS, "the flood did not arrive, or was not answered"
    assert max(surplus) <= 0, surplus
    assert sum(calm["errors"].values()) == 0 and sum(flooded["errors"].values()) == 0, (calm, flooded)
    assert calm["requests"] > 1000
    assert flooded["requests"] / calm["requests"] >= GOODPUT_RATIO_MIN, (calm, flooded)
    curl(lab, lab.url("/who"))


def _who(flow):
    return flow["tuple"]["client"], flow["tuple"]["client_port"]


def test_20k_connections_leave_no_flow_behind(lab):
    before = counters(lab)
    # A connection whose client says nothing more, though it has not closed, keeps its flow for long: one of another test may.
    others = {_who(flow) for flow in told(lab, "flows", "--limit", FLOWS_LISTED)["flows"]}
    output = lab.run("client1", ["ab", "-q", "-n", str(CONNECTIONS), "-c", "100", lab.url("/files/1k")],
                     timeout_s=120).stdout
    figures = dict(line.split(":", 1) for line in output.splitlines() if ":" in line)
    assert int(figures["Complete requests"]) == CONNECTIONS
    assert int(figures["Failed requests"]) == 0, output
    seen = flow_count(lab)
    assert seen > len(others), "nothing to wait for"

    def left():
        return [flow for flow in told(lab, "flows", "--limit", FLOWS_LISTED)["flows"] if _who(flow) not in others]

    eventually(lambda: not left(), timeout_s=CLOSING_TIMEOUT_S * 1.25 + 3,
               what=lambda: f"flow tables empty; of {seen} flows are left: {left()}")
    made = {name: value - before[name] for name, value in counters(lab).items()}
    assert made["handoffs"] == CONNECTIONS
    # A client that uses a port again replaces its flow before the timer does.
    assert made["flows_expired"] + made["flows_replaced"] >= CONNECTIONS

"""Connections come and go by the thousand on the same few ports."""

import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import ask, counters, log_mark, log_since, logged, setting

from lab_lib import network
from lab_lib.topology import VIP, VIP_PORT

CLIENT, BACKEND = "client2", "backend1"
PORTS = (20_000, 20_999)
CONNECTIONS_PER_S = 2_000
CONNECTIONS = 6_000
# Its clients catch up with what they were late for; what the last ones are late for is missing.
REACHED_PER_S = 0.95 * CONNECTIONS_PER_S
AT_A_TIME = 8


def _churn(lab, wanted, first, pause):
    """Fetch with a connection each, at a steady rate; returns [(number, seconds, status or exception)]."""
    results = []
    with network.entered(lab.plan.namespace(CLIENT)):
        begin = time.monotonic()
        for turn, number in enumerate(wanted):
            time.sleep(max(0.0, begin + turn * pause - time.monotonic()))
            began = time.monotonic()
            try:
                with socket.create_connection((VIP, VIP_PORT), timeout=5) as connection:
                    answer = ask(connection, f"/b/{BACKEND}/db/churn?id={number}", close=first == "server")
                    result = answer.status if first == "client" or connection.recv(1) == b"" else "not closed"
            except OSError as error:
                result = repr(error)
            results.append((number, time.monotonic() - began, result))
    return results


@pytest.mark.parametrize("first", ["server", "client"])
def test_ports_are_used_again_and_again(lab, first):
    """2,000 connections a second from 1,000 ports: each 4-tuple is new again while its last life is hardly over."""
    # A client that closes first keeps a port in TIME_WAIT; Linux may use it anew after a second, or as this says.
    with setting(lab, CLIENT, "net.ipv4.ip_local_port_range", "{} {}".format(*PORTS)), \
            setting(lab, CLIENT, "net.ipv4.tcp_tw_reuse", 1), \
            setting(lab, CLIENT, "net.ipv4.tcp_tw_reuse_delay", 100), ThreadPoolExecutor(AT_A_TIME) as pool:
        mark, before, began = log_mark(lab, BACKEND), counters(lab), time.monotonic()
        parts = [pool.submit(_churn, lab, range(at, CONNECTIONS, AT_A_TIME), first,
                             AT_A_TIME / CONNECTIONS_PER_S) for at in range(AT_A_TIME)]
        results = [result for part in parts for result in part.result()]
        took = time.monotonic() - began
    failed = [result for result in results if result[2] != 200]
    slowest = max(seconds for _, seconds, _ in results)
    logged(lab, BACKEND, mark, lambda e: "/db/churn?" in e["request"], CONNECTIONS)
    time.sleep(0.2)
    entries = [e for e in log_since(lab, BACKEND, mark) if "/db/churn?" in e["request"]]
    runs = Counter(e["request"] for e in entries)
    after = counters(lab)
    changed = {name: value - before[name] for name, value in after.items() if value != before[name]}
    rate = len(results) / took
    print(f"{rate:.0f} connections/s, slowest {slowest:.3f} s: {changed}")
    assert not failed, (failed[:5], len(failed), changed)
    assert len(runs) == CONNECTIONS and set(runs.values()) == {1}, [r for r in runs.items() if r[1] > 1][:5]
    assert slowest < 1.0, (slowest, changed)
    assert rate >= REACHED_PER_S, (rate, changed)
    ports = Counter(e["port"] for e in entries)
    assert min(ports) >= PORTS[0] and max(ports) <= PORTS[1] and max(ports.values()) >= 4, "ports were used again"

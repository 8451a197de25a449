"""What the switch tells monitoring and operators."""

import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from helpers import ask, counters, curl, eventually, flow_of, get, read_answer, status
from helpers import told as told_by

from lab_lib.baton import SWITCH_METRICS
from lab_lib.topology import VIP, mac_of

PROMTOOL = shutil.which("promtool") or str(Path(__file__).resolve().parents[2] / "target/tools/promtool")


def _metrics(lab):
    return curl(lab, f"http://{SWITCH_METRICS}/metrics", client="backend1")


def _promtool_check(lab, text):
    """What Prometheus' own checker says of a text. It tells mere offences against its rules with status 0."""
    result = lab.run("switch", [PROMTOOL, "check", "metrics"], stdin=text, check=False)
    return result.returncode, result.stdout + result.stderr


@pytest.mark.skipif(not os.access(PROMTOOL, os.X_OK), reason="no promtool: scripts/install --with-promtool")
def test_promtool_finds_no_fault_with_the_metrics(lab):
    text = _metrics(lab)
    assert "baton_port_rx_frames_total" in text and "baton_backend_report_age_seconds" in text
    assert _promtool_check(lab, text) == (0, "")
    without_help = "\n".join(line for line in text.splitlines() if not line.startswith("# HELP baton_flows ")) + "\n"
    assert _promtool_check(lab, without_help)[1], "it does find faults"


def _samples(text):
    """{name with labels: value} of a text in Prometheus' form."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def _sum(samples, name):
    """The sum of a metric over its labels."""
    values = [value for key, value in samples.items() if key.partition("{")[0] == name]
    assert values, f"no metric {name}"
    return sum(values)


def test_metrics_and_batonctl_tell_the_same(lab):
    before = _samples(_metrics(lab))
    with lab.connect("client1") as connection:
        ask(connection, "/files/4k")
        for _ in range(5):
            get(lab, "/who")
        after, told, now = _samples(_metrics(lab)), counters(lab), status(lab)
    assert _sum(after, "baton_handoffs_total") - _sum(before, "baton_handoffs_total") == 6
    assert _sum(after, "baton_handoffs_total") == told["handoffs"] == now["handoffs"]
    assert _sum(after, "baton_drop_not_ours_total") <= told["drop_not_ours"]
    assert _sum(after, "baton_flows") >= 1 and _sum(after, "baton_flows_capacity") == 65536 * len(lab.lcores)
    assert _sum(after, "baton_backend_usable") == 4
    assert {f'baton_backend_usable{{backend="backend{n}"}}' for n in range(1, 5)} <= set(after)


def test_busy_and_idle_time_make_up_the_time_of_every_lcore(lab):
    def times():
        samples = _samples(_metrics(lab))
        return [_sum(samples, f"baton_lcore_{kind}_seconds_total") for kind in ("busy", "idle")]
    busy, idle = times()
    began = time.monotonic()
    lab.run("client1", ["ab", "-q", "-n", "3000", "-c", "20", lab.url("/files/1k")])
    more_busy, more_idle = times()
    elapsed = (time.monotonic() - began) * len(lab.lcores)
    assert more_busy - busy > 0.005, "the load is to be seen"
    assert abs(more_busy - busy + more_idle - idle - elapsed) < 0.25 * elapsed + 0.1


def test_status_for_programs(lab):
    told = status(lab)
    assert told["address"] == "10.60.0.1" and told["mac"] == mac_of("10.60.0.1")
    assert told["vips"] == [{"name": "web", "vip": {"address": VIP, "port": 80}}]
    assert (told["backends_usable"], told["backends_configured"]) == (4, 4)
    assert [lcore["cpu"] for lcore in told["lcores"]] == lab.lcores and told["lcore_count"] == len(lab.lcores)
    text = lab.batonctl("status").stdout
    assert VIP in text and "4 of 4 usable" in text


def test_backends_for_programs(lab):
    told = {backend["name"]: backend for backend in told_by(lab, "backends")}
    assert set(told) == {"backend1", "backend2", "backend3", "backend4"}
    for name, backend in told.items():
        assert backend["usable"] and backend["reasons"] == [], backend
        # The one behind the router is reached by the router.
        via = "10.60.0.254" if name == "backend4" else lab.address_of(name)
        assert backend["next_hop_mac"] == mac_of(via) and backend["address"] == lab.address_of(name)
        assert backend["report_age_ms"] < 1000 and name in backend["pools"] and backend["load"] is not None
    assert "files" in told["backend1"]["pools"]


def test_flows_for_programs(lab):
    with lab.connect("client2") as connection:
        assert flow_of(lab, connection) is None, "a handshake leaves none"
        connection.sendall(b"GET /files/1k HTTP/1.1\r\n")
        held = eventually(lambda: flow_of(lab, connection), timeout_s=2, what="the unfinished head is held")
        assert held["state"] == "holding" and held["backend"] is None, held
        connection.sendall(f"Host: {VIP}\r\n\r\n".encode())
        read_answer(connection)
        flow = eventually(lambda: (f := flow_of(lab, connection))["state"] == "established" and f, timeout_s=2,
                          what="the flow is confirmed")
        assert flow["backend"] == "backend1" and flow["tuple"]["vip"] == VIP, flow
        port = connection.getsockname()[1]
        assert str(port) in lab.batonctl("flows", "--limit", "10000").stdout
        connection.shutdown(socket.SHUT_WR)
        eventually(lambda: flow_of(lab, connection)["state"] == "closing", timeout_s=2, what="its FIN is seen")
    assert len(told_by(lab, "flows", "--limit", "1")["flows"]) == 1


def test_every_counter_has_a_description(lab):
    entries = told_by(lab, "counters")
    assert len(entries) > 10 and all(entry["description"] for entry in entries)
    assert any(name.startswith("drop_") for name in counters(lab))
    assert "handoffs" in lab.batonctl("counters").stdout

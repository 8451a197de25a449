"""Rules pick the server; servers and agents that are gone are avoided."""

import os
import signal
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from conftest import ROUTED_BACKEND
from helpers import (answer_of, ask, backend_of, counters, eventually, get, grown, log_mark, log_since, logged,
                     read_answer, read_to_end, request, status)

BACKENDS = ["backend1", "backend2", "backend3", "backend4"]
# From the moment a backend goes silent or unhealthy.
AVOIDED_WITHIN_S = 1.0
# The backlog nginx asks for on Linux.
ACCEPT_QUEUE = 511


def test_path_rules_reach_three_servers(lab):
    """One handoff a connection, one connection a line: the switch's count and the servers' logs agree."""
    marks = {name: log_mark(lab, name) for name in BACKENDS}
    handoffs = status(lab)["handoffs"]
    paths = {"backend1": "/files/1k", "backend2": "/video/1k", "backend3": "/db/accounts?id=7"}
    for backend, path in paths.items():
        for _ in range(5):
            assert get(lab, path).backend == backend
    assert status(lab)["handoffs"] == handoffs + 15
    for name, path in paths.items():
        entries = logged(lab, name, marks[name], lambda entry: True, 5)
        assert Counter(e["request"] for e in entries) == {f"GET {path} HTTP/1.1": 5}, name
        assert len({e["connection"] for e in entries}) == 5 and {e["request_number"] for e in entries} == {1}
    assert not log_since(lab, "backend4", marks["backend4"])


def test_round_robin_uses_all_backends_alike(lab):
    served = Counter(get(lab, "/who").backend for _ in range(40))
    assert set(served) == set(BACKENDS)
    # Each lcore has a turn of its own.
    assert max(served.values()) - min(served.values()) <= len(lab.lcores), served


@pytest.mark.parametrize("backend", ["backend2", ROUTED_BACKEND])
def test_listener_down_goes_elsewhere_without_a_client_error(lab, nginx_stopped, backend):
    """Before anybody knows of it, refused handoffs must find another server: the agent, which would tell, is halted."""
    connections = [lab.connect("client1") for _ in range(80)]
    before = counters(lab)
    lab.processes.signal(f"agent@{backend}", signal.SIGSTOP)
    try:
        nginx_stopped(backend)
        for connection in connections:
            connection.sendall(request("/who", close=True))
        answers = [read_answer(connection) for connection in connections]
    finally:
        lab.processes.signal(f"agent@{backend}", signal.SIGCONT)
        for connection in connections:
            connection.close()
    assert {answer.status for answer in answers} == {200}
    assert {answer.backend for answer in answers} == set(BACKENDS) - {backend}
    after = counters(lab)
    # Every fourth is offered there, and then once to another, as long as the switch trusts the silent agent.
    refused = after["handoffs_refused"] - before["handoffs_refused"]
    assert 10 <= refused == after["handoffs_retried"] - before["handoffs_retried"]
    assert after["handoffs"] - before["handoffs"] == 80 and after["resets_sent"] == before["resets_sent"]
    # A refusal may arrive on either queue, and finds the lcore that has the flow.
    assert (after["steered"] > before["steered"]) == (len(lab.lcores) > 1)


def test_without_any_listener_the_client_is_told(lab, nginx_stopped):
    """A pool of one backend, whose server is gone: the client learns at once, though nobody has told the switch."""
    before = counters(lab)
    with lab.connect("client1") as connection:
        lab.processes.signal("agent@backend3", signal.SIGSTOP)
        try:
            nginx_stopped("backend3")
            began = time.monotonic()
            connection.sendall(request("/db/x"))
            answer = answer_of(read_to_end(connection))
            assert time.monotonic() - began < 0.2
        finally:
            lab.processes.signal("agent@backend3", signal.SIGCONT)
    assert (answer.status, answer.body) == (503, b"No server takes new connections for this address.\n")
    counted = grown(lab, before)
    assert counted["errors_503"] == counted["drop_refused_by_all"] == counted["handoffs_refused"] == 1, counted
    assert "resets_sent" not in counted and "handoffs_retried" not in counted, counted


def _is_avoided(lab, backend, seconds=0.5):
    """Ask for a while: all is answered, nothing by `backend`, and nothing was even tried there."""
    before, mark = counters(lab), log_mark(lab, backend)
    served, until = Counter(), time.monotonic() + seconds
    while time.monotonic() < until:
        served[get(lab, "/who").backend] += 1
    assert set(served) == set(BACKENDS) - {backend} and served.total() > 20, served
    assert not log_since(lab, backend, mark)
    assert counters(lab)["handoffs_refused"] == before["handoffs_refused"]


def test_unhealthy_server_gets_no_new_connection_within_one_second(lab, nginx_stopped):
    nginx_stopped("backend2")
    time.sleep(AVOIDED_WITHIN_S)
    _is_avoided(lab, "backend2")
    told = backend_of(lab, "backend2")
    assert not told["usable"] and any("10.60.0.100:80" in reason for reason in told["reasons"]), told
    assert "10.60.0.100:80" in lab.batonctl("backends").stdout


def test_agent_gone_gets_no_new_connection_within_one_second(lab):
    """What the backend has goes on: its programs are pinned."""
    with lab.connect("client1") as old, lab.connect("client1") as slow:
        assert ask(old, "/b/backend3/who").backend == "backend3"
        # nginx limits the rate by whole seconds: 5 MB at 1 MB/s take between three and five.
        slow.sendall(request("/b/backend3/slow/10m", headers=[f"Range: bytes=0-{(5 << 20) - 1}"]))
        slow.recv(1, socket.MSG_PEEK)  # it has begun
        with ThreadPoolExecutor(1) as pool:
            download = pool.submit(read_answer, slow)
            lab.kill_agent("backend3")
            try:
                time.sleep(AVOIDED_WITHIN_S)
                _is_avoided(lab, "backend3")
                told = backend_of(lab, "backend3")
                assert not told["usable"] and any("agent" in reason for reason in told["reasons"]), told
                assert ask(old, "/b/backend3/who").backend == "backend3"
                assert not download.done(), "the download was too fast to outlive anything"
            finally:
                lab.start_agent("backend3")
            answer = download.result(timeout=10)
    expected = (lab.content_dir / "10m").open("rb").read(5 << 20)
    assert answer.status == 206 and answer.backend == "backend3" and answer.body == expected
    eventually(lambda: get(lab, "/who").backend == "backend3", timeout_s=5, what="backend3 is used again")


@contextmanager
def _halted(lab, backend):
    """An agent that stands still: its connection stays open, and nothing closes it."""
    lab.processes.signal(f"agent@{backend}", signal.SIGSTOP)
    try:
        yield
    finally:
        lab.processes.signal(f"agent@{backend}", signal.SIGCONT)


@contextmanager
def _unheard(lab, backend):
    """An agent whose management network is cut: it speaks, and nobody hears it."""
    port = ["ip", "link", "set", f"p-{backend}"]
    lab.run("mgmt", [*port, "nomaster"])
    try:
        yield
    finally:
        lab.run("mgmt", [*port, "master", "mgmt"])


@pytest.mark.parametrize("falls_silent, backend", [(_halted, "backend2"), (_unheard, ROUTED_BACKEND)])
def test_a_silent_backend_gets_no_new_connection_within_one_second(lab, falls_silent, backend):
    """Nobody tells the switch, and no connection closes: it must notice that nothing comes any more."""
    with lab.connect("client1") as old:
        assert ask(old, f"/b/{backend}/who").backend == backend
        assert backend_of(lab, backend)["usable"]
        with falls_silent(lab, backend):
            time.sleep(AVOIDED_WITHIN_S)
            _is_avoided(lab, backend)
            told = backend_of(lab, backend)
            assert not told["usable"] and any("silent" in reason for reason in told["reasons"]), told
            assert ask(old, f"/b/{backend}/who").backend == backend, "what it has goes on"
        eventually(lambda: get(lab, "/who").backend == backend, timeout_s=10, what=f"{backend} is used again")


def test_agent_restarted_under_load_loses_nothing(lab):
    """An upgrade of the agent: every request, to that very backend, is answered."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: Counter(get(lab, "/who").status for _ in range(600)))
        for _ in range(2):
            lab.stop_agent("backend1")
            lab.start_agent("backend1")
    assert asked.result() == {200: 600}


def test_accept_queue_full_is_served_elsewhere(lab):
    """A server that no longer accepts: its queue fills, what no longer fits goes to the others, and what waits is served."""
    crowd = [lab.connect("client1") for _ in range(ACCEPT_QUEUE + 20)]
    others = [lab.connect("client1") for _ in range(16)]
    halted = [*lab.processes.members("nginx@backend2"), lab.processes.pid("agent@backend2")]
    before = counters(lab)
    try:
        for pid in halted:
            os.kill(pid, signal.SIGSTOP)
        for connection in crowd:
            connection.sendall(request("/b/backend2/who", close=True))
        eventually(lambda: counters(lab)["drop_refused_by_all"] > before["drop_refused_by_all"], timeout_s=0.5,
                   what="the queue is full")
        for connection in others:
            connection.sendall(request("/who", close=True))
        answers = [read_answer(connection) for connection in others]
    finally:
        for pid in halted:
            os.kill(pid, signal.SIGCONT)
    assert {answer.status for answer in answers} == {200}
    assert {answer.backend for answer in answers} == set(BACKENDS) - {"backend2"}
    outcomes = Counter(_outcome(connection) for connection in crowd)
    # One more than the backlog fits; the agent's own probes may take a place or two.
    assert outcomes["backend2"] >= ACCEPT_QUEUE - 5 and outcomes[503] >= 15, outcomes
    assert outcomes.total() == outcomes["backend2"] + outcomes[503], outcomes
    assert grown(lab, before)["errors_503"] == outcomes[503]
    for connection in (*crowd, *others):
        connection.close()
    lab.wait_served_by("backend2")


def _outcome(connection):
    """What became of a request that was sent: the backend that answered, or the status of the switch's error page."""
    answer = read_answer(connection)
    return answer.backend or answer.status

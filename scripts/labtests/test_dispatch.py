"""Rules pick the server; servers and agents that are gone are avoided."""

import time
from collections import Counter

import pytest
from helpers import ask, counters, eventually, get, log_mark, log_since

BACKENDS = ["backend1", "backend2", "backend3", "backend4"]


def test_path_rules_reach_three_servers(lab):
    marks = {name: log_mark(lab, name) for name in BACKENDS}
    paths = {"backend1": "/files/1k", "backend2": "/video/1k", "backend3": "/db/accounts?id=7"}
    for backend, path in paths.items():
        for _ in range(5):
            assert get(lab, path).backend == backend
    for name in BACKENDS:
        logged = Counter(e["request"] for e in log_since(lab, name, marks[name]))
        expected = {f"GET {paths[name]} HTTP/1.1": 5} if name in paths else {}
        assert logged == expected, name


def test_round_robin_uses_all_backends_alike(lab):
    served = Counter(get(lab, "/who").backend for _ in range(40))
    assert served == {name: 10 for name in BACKENDS}


@pytest.fixture
def nginx_stopped(lab):
    """Stops one backend's web server, and starts it after the test."""
    stopped = []

    def stop(backend):
        stopped.append(backend)
        lab.stop_nginx(backend)
    yield stop
    for backend in stopped:
        lab.start_nginx(backend)
        lab.wait_served_by(backend)


def test_listener_down_goes_elsewhere_without_a_client_error(lab, nginx_stopped):
    """Asked from the first moment on: before health checks notice, refusals must find another server."""
    refused_before = counters(lab)["refused"]
    nginx_stopped("backend2")
    answers = [get(lab, "/who") for _ in range(60)]
    assert {answer.status for answer in answers} == {200}
    assert {answer.backend for answer in answers} == set(BACKENDS) - {"backend2"}
    assert counters(lab)["refused"] > refused_before, "no handoff was refused: health was faster, nothing was tested"


def test_agent_gone_gets_no_new_connection_within_one_second(lab):
    with lab.connect("client1") as old:
        assert ask(old, "/b/backend3/who").backend == "backend3"
        lab.kill_agent("backend3")
        try:
            time.sleep(1.0)
            mark = log_mark(lab, "backend3")
            served = Counter(get(lab, "/who").backend for _ in range(30))
            assert "backend3" not in served and served.total() == 30
            assert not log_since(lab, "backend3", mark)
            # Its programs are pinned: what it has goes on.
            assert ask(old, "/b/backend3/who").backend == "backend3"
        finally:
            lab.start_agent("backend3")
    eventually(lambda: get(lab, "/who").backend == "backend3", timeout_s=5, what="backend3 is used again")

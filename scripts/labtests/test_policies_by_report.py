"""Policies that go by what agents report: traffic and response times of real servers, and what happens without."""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest
from dispatching import BACKENDS, applied, pool_of_all, served, usable
from helpers import backend_of, counters, eventually, get, grown

# Everybody else's requests are small; these go to one backend.
OWN_PATH = {"rule": [{"path_prefix": "/b/backend1/", "pool": "backend1"}, {"pool": "all"}]}


@contextmanager
def meanwhile(action, pause_s):
    """Within, something is done again and again."""
    stop = threading.Event()

    def repeat():
        while not stop.wait(pause_s):
            action()
    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("count", ["bytes", "packets"])
def test_least_traffic_spares_who_sends_large_answers(dispatch_lab, count):
    """Megabytes a second from one backend: of a hundred small requests it gets hardly any."""
    lab = dispatch_lab

    def download():
        assert len(get(lab, "/b/backend1/files/256k", client="client2").body) == 256 << 10

    def is_reported():
        return (backend_of(lab, "backend1")["load"]["rate"] or {}).get("bytes_per_s", 0) > 2_000_000

    def asked():
        """Who answers, during ten reports."""
        counts = Counter()
        for _ in range(100):
            counts[get(lab, "/who").backend] += 1
            time.sleep(0.01)
        return counts
    with applied(lab, pool_of_all({"name": "least-traffic", "count": count}), OWN_PATH):
        with meanwhile(download, pause_s=0.005), meanwhile(download, pause_s=0.005):
            eventually(is_reported, timeout_s=3, what="its traffic is reported")
            counts = asked()
        # A third would be 33. A report of a moment in which the downloads were held up lets some through.
        assert counts["backend1"] <= 15 and min(counts["backend2"], counts["backend3"]) >= 25, counts
        eventually(lambda: "backend1" in asked(), timeout_s=1, what="it is used again, as it has nothing to send")


def test_fastest_response_spares_who_answers_late(dispatch_lab):
    """A server that is halted most of the time answers some ten times later than the others, which get what it does not. It is
    the one that had most before."""
    lab = dispatch_lab

    def halt():
        pids = lab.processes.members(f"nginx@{fastest}")
        for number, pause_s in ((signal.SIGSTOP, 0.05), (signal.SIGCONT, 0.003)):
            for pid in pids:
                os.kill(pid, number)
            time.sleep(pause_s)
    with applied(lab, pool_of_all("fastest-response")):
        (fastest, before), *_ = served(lab, ["/who"] * 300, at_a_time=4).most_common()
        with meanwhile(halt, pause_s=0):
            time.sleep(0.3)  # three reports
            counts = served(lab, ["/who"] * 300, at_a_time=4)
    # Of three, one has a hundred at least. Late, it gets a few whenever a report knows no time of it: twenty to forty, more where
    # the others are kept waiting, too.
    assert before >= 100 and counts[fastest] <= 80, (fastest, before, counts)


def test_stale_reports_are_no_reports(dispatch_lab):
    """Agents that are halted for a moment, too short to make their backends unusable: the switch's own counts decide."""
    lab = dispatch_lab
    with applied(lab, pool_of_all({"name": "least-traffic", "count": "bytes"})):
        def decided_without():
            before = counters(lab)
            for name in BACKENDS:
                lab.processes.signal(f"agent@{name}", signal.SIGSTOP)
            try:
                time.sleep(0.42)  # a report is fresh for 350 ms, an agent silent after 600
                answer = get(lab, "/who")
            finally:
                for name in BACKENDS:
                    lab.processes.signal(f"agent@{name}", signal.SIGCONT)
            assert answer.status in (200, 503), answer
            usable(lab)
            return answer.status == 200 and grown(lab, before).get("stale_reports")
        eventually(decided_without, timeout_s=10, what="a choice without reports")

        def decided_with():
            before = counters(lab)
            return get(lab, "/who").status == 200 and "stale_reports" not in grown(lab, before)
        eventually(decided_with, timeout_s=5, what="a choice by fresh reports again")

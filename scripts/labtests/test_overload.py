"""Too many clients for all backends: who is refused first, and what is guaranteed."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from dispatching import Crowd, applied
from helpers import eventually, get, told

# Of the three backends together.
ROOM = 60
PATHS = {"gold": "/files/1k", "silver": "/video/1k", "bronze": "/who"}
RATE_PER_S = 20
GUARANTEED = "/db/1"


@contextmanager
def classes_in_force(lab):
    """Three priorities, refused from 50, 75 and 100 % on; the lowest has a class with a guaranteed rate beside it."""
    sections = {
        "backend": [{"name": host.name, "address": host.data_address, "connections_max": ROOM // 3}
                    for host in lab.plan.backends],
        "class": [{"name": "gold", "priority": 9}, {"name": "silver", "priority": 5}, {"name": "bronze", "priority": 1},
                  {"name": "guaranteed", "priority": 1, "rate_per_s": RATE_PER_S}],
        "overload": {"begin_percent": 50},
        "rule": [{"path_prefix": "/files/", "class": "gold", "pool": "all"},
                 {"path_prefix": "/video/", "class": "silver", "pool": "all"},
                 {"path_prefix": "/db/", "class": "guaranteed", "pool": "all"}, {"class": "bronze", "pool": "all"}],
    }
    with applied(lab, sections):
        yield


def established(lab):
    return [backend["load"]["established"] for backend in told(lab, "backends")]


def fill(lab, crowd, wanted):
    """Let clients of the highest class stay until so many do, evenly spread; then wait until the lcore knows of them all."""
    while sum(established(lab)) < wanted:
        # Those of the last 100 ms may not have been reported yet.
        for _ in range(wanted - sum(established(lab))):
            crowd.join(PATHS["gold"])
        time.sleep(0.15)
    time.sleep(0.15)


def fill_up(lab, crowd):
    """Until no backend has room. Clients of the highest class may find one full a moment before it is, and stay elsewhere."""
    def is_full():
        is_so = min(established(lab)) >= ROOM // 3
        if not is_so:
            crowd.join(PATHS["gold"])
        return is_so
    fill(lab, crowd, ROOM - 3)
    eventually(is_full, timeout_s=5, what=lambda: f"all are full: {established(lab)}")
    time.sleep(0.15)


def answers(lab, times=2):
    """The statuses of requests of all classes at the same time."""
    names = [*PATHS] * times
    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(lambda name: get(lab, PATHS[name], client="client2"), names))
    assert all(b"busy" in answer.body for answer in found if answer.status == 503)
    return {name: {answer.status for other, answer in zip(names, found) if other == name} for name in PATHS}


def test_the_lowest_of_three_classes_is_refused_first(dispatch_lab):
    """Six requests at a time are another 10 % at most: every step is further from the next border than that."""
    lab = dispatch_lab
    with classes_in_force(lab), Crowd(lab) as crowd:
        for percent, refused in [(30, set()), (60, {"bronze"}), (85, {"bronze", "silver"}), (100, set(PATHS))]:
            if percent < 100:
                fill(lab, crowd, ROOM * percent // 100)
            else:
                fill_up(lab, crowd)
            assert answers(lab) == {name: {503 if name in refused else 200} for name in PATHS}, percent
        crowd.leave()
        everybody = {name: {200} for name in PATHS}
        eventually(lambda: answers(lab) == everybody, timeout_s=2, what="all are served again")


def test_a_guaranteed_rate_is_kept_when_everything_is_full(dispatch_lab):
    """Four clients ask as often as they can: so many a second get through, and one second's worth at most that was saved up."""
    lab, seconds = dispatch_lab, 2
    with classes_in_force(lab), Crowd(lab) as crowd:
        fill_up(lab, crowd)
        began = time.monotonic()

        def ask_on(path):
            statuses = Counter()
            while time.monotonic() < began + seconds:
                statuses[get(lab, path, client="client2").status] += 1
            return statuses
        with ThreadPoolExecutor(5) as pool:
            others = pool.submit(ask_on, PATHS["gold"])
            guaranteed = sum(pool.map(ask_on, [GUARANTEED] * 4), Counter())
        took = time.monotonic() - began
    assert set(others.result()) == {503} and others.result()[503] > 50, others.result()
    # Of what was saved up, some is lost while the clients are still about to ask, and the last when they stop early.
    assert RATE_PER_S * seconds <= guaranteed[200] <= RATE_PER_S * (took + 1) + 1, (guaranteed, took)
    assert guaranteed[503] > guaranteed[200], "more was asked for than is guaranteed"

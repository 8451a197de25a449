"""Each policy that goes by turns, weights or its own counts, under real load: who gets how much."""

import json
import re
from collections import Counter

import pytest
from dispatching import BACKENDS, POLICIES, Crowd, applied, drained, pool_of_all, served, weighted
from helpers import counters, eventually, get, grown, told

REQUESTS = 120


def test_round_robin_is_even(dispatch_lab):
    with applied(dispatch_lab, pool_of_all("round-robin")):
        counts = served(dispatch_lab, ["/who"] * REQUESTS)
    assert counts == {name: REQUESTS // 3 for name in BACKENDS}


def test_weighted_round_robin_is_exact_per_cycle(dispatch_lab):
    with applied(dispatch_lab, pool_of_all("weighted-round-robin", backends=weighted(1, 2, 3))):
        counts = served(dispatch_lab, ["/who"] * REQUESTS)
    assert counts == dict(zip(BACKENDS, (REQUESTS // 6, REQUESTS // 3, REQUESTS // 2)))


@pytest.mark.parametrize("policy", ["least-connections", "two-choices", "weighted-least-load"])
def test_policies_that_count_connections_avoid_who_has_many(dispatch_lab, policy):
    lab = dispatch_lab
    with applied(lab, pool_of_all(policy), {"rule": [{"path_prefix": "/b/backend1/", "pool": "backend1"},
                                                     {"pool": "all"}]}):
        held = [lab.connect("client1") for _ in range(60)]
        try:
            for connection in held:
                connection.sendall(b"GET /b/backend1/slow/1m HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: next(b for b in told(lab, "backends") if b["name"] == "backend1")["load"]["established"]
                       >= 60, timeout_s=5, what="backend1 reports its connections")
            counts = served(lab, ["/who"] * 30, client="client2")
        finally:
            for connection in held:
                connection.close()
    # Also of two that are drawn, the other one always has fewer.
    assert not counts["backend1"], counts
    assert counts["backend2"] and counts["backend3"], counts


@pytest.mark.parametrize("policy", ["least-connections", "weighted-least-load"])
def test_who_has_twice_the_weight_gets_twice_the_connections(dispatch_lab, policy):
    """The next goes where it makes least for the weight: after every six that stay, each has its weight, whoever of equals was
    taken."""
    with applied(dispatch_lab, pool_of_all(policy, backends=weighted(1, 2, 3))), Crowd(dispatch_lab) as crowd:
        counts = Counter(crowd.join("/who") for _ in range(24))
    assert counts == dict(zip(BACKENDS, (4, 8, 12)))


def test_a_session_of_a_heavy_class_counts_for_several(dispatch_lab):
    """Beside one that weighs 5 the other backends get four light ones each; the ninth could go anywhere."""
    classes = {"class": [{"name": "heavy", "weight": 5}, {"name": "light", "weight": 1}],
               "rule": [{"path_prefix": "/video/", "class": "heavy", "pool": "all"}, {"class": "light", "pool": "all"}]}
    with applied(dispatch_lab, pool_of_all("weighted-least-load"), classes), Crowd(dispatch_lab) as crowd:
        heavy = crowd.join("/video/1k")
        counts = Counter(crowd.join("/who") for _ in range(8))
    assert counts == {name: 4 for name in BACKENDS if name != heavy}


def test_two_choices_are_nearly_even(dispatch_lab):
    """Of connections that stay. 100,000 trials of 45 by dice: never more than 6 apart; a single choice is, in four of ten."""
    with applied(dispatch_lab, pool_of_all("two-choices")), Crowd(dispatch_lab) as crowd:
        counts = Counter(crowd.join("/who") for _ in range(45))
    assert set(counts) == set(BACKENDS) and max(counts.values()) - min(counts.values()) <= 6, counts


def test_a_client_hash_keeps_a_client_at_its_backend(dispatch_lab):
    with applied(dispatch_lab, pool_of_all("client-hash")):
        for client in ("client1", "client2"):
            assert len(served(dispatch_lab, ["/who"] * 12, client=client)) == 1


def test_cap_takes_turns_in_each_class(dispatch_lab):
    classes = {"class": [{"name": "video", "priority": 1}, {"name": "db", "priority": 1}],
               "rule": [{"path_prefix": "/video/", "class": "video", "pool": "all"},
                        {"path_prefix": "/db/", "class": "db", "pool": "all"}, {"pool": "all"}]}
    with applied(dispatch_lab, pool_of_all("cap"), classes):
        # One of the one, two of the other, in turn: each class is spread evenly by itself.
        answers = [(path, get(dispatch_lab, path).backend) for path in ("/video/1k", "/db/1", "/db/2") * 12]
    for kind, expected in (("/video", 4), ("/db", 8)):
        counts = Counter(backend for path, backend in answers if path.startswith(kind))
        assert counts == {name: expected for name in BACKENDS}, (kind, counts)


@pytest.mark.parametrize("policy", POLICIES, ids=json.dumps)
def test_what_drains_gets_nothing_under_any_policy(dispatch_lab, policy):
    """It is the very backend that answered last: for those that have owners, the owner of what is asked for again."""
    lab = dispatch_lab
    with applied(lab, pool_of_all(policy)):
        last = get(lab, "/db/1").backend
        before = counters(lab)
        with drained(lab, last):
            counts = served(lab, ["/db/1"] * 12 + [f"/db/{number}" for number in range(6)], at_a_time=3)
        assert not counts[last] and sum(counts.values()) == 18, counts
        assert not {"handoffs_refused", "errors_503"} & set(grown(lab, before))


def test_no_policy_is_forgotten(dispatch_lab):
    """What the switch says it knows, when asked for one it does not know."""
    lab = dispatch_lab
    path = lab.run_dir / "policies.toml"
    path.write_text(lab.write_switch_config().read_text().replace('policy = "round-robin"', 'policy = "none-such"', 1))
    refused = lab.batonctl("config", "check", str(path), check=False)
    assert refused.returncode != 0
    known = re.findall(r'"([a-z-]+)"', refused.stderr.split("allowed are")[1])
    assert {policy if isinstance(policy, str) else policy["name"] for policy in POLICIES} == set(known) != set()

"""Policies that go by the content of requests: who is asked for what, and when a content moves or spreads."""

import math
from collections import Counter
from itertools import groupby

import pytest
from dispatching import BACKENDS, Crowd, applied, pool_of_all, served, weighted
from helpers import get

from compare_lib.workload import Document, write_script
from lab_lib.load import run_wrk

# Thresholds as small as a test: a fifth connection at one place is too much where another has less than two.
SMALL = {"low": 2, "high": 4}


def documents(count, prefix="document"):
    """So many paths, all served alike; the server strips the first two segments."""
    return [f"/b/{prefix}{number}/who" for number in range(count)]


@pytest.mark.parametrize("policy", [
    {"name": "maglev", "hash": "path", "bounded_load_percent": 200}, "url-hash", "lard",
])
def test_policies_by_content_keep_a_path_at_its_backend(dispatch_lab, policy):
    """Which for each path is settled once: asked again one after the other, it is the same, and all backends take part. (25, so
    that nobody who takes turns looks faithful.)"""
    paths = [f"/db/page{number}" for number in range(25)]
    with applied(dispatch_lab, pool_of_all(policy)):
        first = {path: get(dispatch_lab, path).backend for path in paths}
        again = {path: get(dispatch_lab, path).backend for path in paths}
    assert again == first
    assert set(first.values()) == set(BACKENDS), Counter(first.values())


@pytest.mark.parametrize("policy", [{"name": "maglev", "hash": "path"}, "url-hash"])
def test_paths_are_shared_out_by_weight(dispatch_lab, policy):
    """Hashed, 200 paths fall like dice: within four standard deviations of what weights 1, 2 and 5 give, the same every time."""
    with applied(dispatch_lab, pool_of_all(policy, backends=weighted(1, 2, 5))):
        counts = served(dispatch_lab, documents(200), at_a_time=2)
    for name, weight in zip(BACKENDS, (1, 2, 5)):
        share = weight / 8
        # For the last: 125, give or take 27. A third of all would be 67.
        assert abs(counts[name] - 200 * share) <= 4 * math.sqrt(200 * share * (1 - share)), counts


def test_lard_shares_new_targets_out_by_what_is_open(dispatch_lab):
    """Each goes to the backend with the least for its weight; asked again, where it is."""
    paths = documents(24)
    with applied(dispatch_lab, pool_of_all("lard", backends=weighted(1, 2, 5))), Crowd(dispatch_lab) as crowd:
        first = [crowd.join(path) for path in paths]
        again = [get(dispatch_lab, path).backend for path in paths]
    assert Counter(first) == dict(zip(BACKENDS, (3, 6, 15)))
    assert again == first


def test_lard_moves_a_hot_target_and_no_other(dispatch_lab):
    """Whoever has five of a document, while another has nothing, gets no sixth; a cold one leaves no backend that has fewer."""
    cold, hot = documents(2)
    with applied(dispatch_lab, pool_of_all({"name": "lard", **SMALL})), Crowd(dispatch_lab) as crowd:
        colds = [get(dispatch_lab, cold).backend]
        asked = []
        for _ in range(15):
            asked.append(crowd.join(hot))
            colds.append(get(dispatch_lab, cold).backend)
            assert colds[-1] == colds[-2] or asked.count(colds[-2]) == 5, (asked, colds)
        crowd.leave()
        after = [crowd.join(hot) for _ in range(3)]
    runs = [(name, len(list(run))) for name, run in groupby(asked)]
    assert [length for _, length in runs] == [5, 5, 5] and {name for name, _ in runs} == set(BACKENDS), runs
    assert after == [asked[-1]] * 3, "it has moved, and is at one place still"


def test_lard_replicates_a_hot_target_and_no_other(dispatch_lab):
    """Three backends have it in the end, and share in it as soon as there is little to do again."""
    cold, hot = documents(2)
    with applied(dispatch_lab, pool_of_all({"name": "lard-replicated", **SMALL})), Crowd(dispatch_lab) as crowd:
        asked = [crowd.join(hot) for _ in range(15)]
        crowd.leave()
        assert Counter(crowd.join(hot) for _ in range(6)) == {name: 2 for name in BACKENDS}
        assert len({crowd.join(cold) for _ in range(3)}) == 1
    assert [len(list(run)) for _, run in groupby(asked)] == [5, 5, 5] and set(asked) == set(BACKENDS), asked


def test_a_bound_on_maglev_holds_at_every_moment(dispatch_lab):
    """All want the same document and stay: nobody ever has more than 125 % of a third, rounded up, and all of that is used."""
    with applied(dispatch_lab, pool_of_all({"name": "maglev", "hash": "path", "bounded_load_percent": 125})), \
            Crowd(dispatch_lab) as crowd:
        counts = Counter()
        for connections in range(1, 31):
            counts[crowd.join("/who")] += 1
            assert max(counts.values()) <= math.ceil(connections * 1.25 / 3), (connections, counts)
    # Of 30: the first in the walk has ceil(12.5), so has the second, and what is left goes to the third.
    assert sorted(counts.values()) == [4, 13, 13], counts


def test_content_and_load_asks_two_backends_for_a_content_and_spares_who_is_busy(dispatch_lab):
    lab, paths = dispatch_lab, documents(30)
    held = {"rule": [{"path_prefix": "/b/backend1/", "pool": "backend1"}, {"pool": "all"}]}
    with applied(lab, pool_of_all({"name": "content-and-load", "hash": "path"}), held), Crowd(lab) as crowd:
        asked, shares = {path: set() for path in paths}, Counter()
        for path in paths * 4:
            backend = crowd.join(path)
            asked[path].add(backend)
            shares[backend] += 1
        # All 120 stay. By their first candidates alone backends would have as many documents as chance gives them; the second ones
        # keep connections even.
        assert max(len(names) for names in asked.values()) <= 2, asked
        assert set(shares) == set(BACKENDS) and max(shares.values()) - min(shares.values()) <= 8, shares
        # One that all want is too much for its first.
        wanted = {crowd.join(paths[0]) for _ in range(30)}
        assert len(wanted | asked[paths[0]]) == 2, wanted
        crowd.leave()
        for _ in range(60):
            crowd.join("/b/backend1/who")
        spared = served(lab, paths)
    # Nobody has a third of 60 open elsewhere; every document has another candidate.
    assert not spared["backend1"] and sum(spared.values()) == 30, spared


def test_racc_shares_out_what_has_a_size_by_size(dispatch_lab):
    """The largest first, each to who has least: 60 and 10, 50 and 20, 40 and 30 together."""
    sizes = (10, 60, 30, 50, 20, 40)
    racc = {"name": "racc", "subtrees": [{"path": f"/db/of{size}", "bytes": size * 1000} for size in sizes]}
    with applied(dispatch_lab, pool_of_all(racc)):
        has = {size: served(dispatch_lab, [f"/db/of{size}/{name}" for name in "abc"]) for size in sizes}
    assert all(len(names) == 1 for names in has.values()), has
    owner = {size: next(iter(names)) for size, names in has.items()}
    assert {frozenset(size for size in sizes if owner[size] == name) for name in BACKENDS} == \
        {frozenset({60, 10}), frozenset({50, 20}), frozenset({40, 30})}, owner


def test_racc_parts_the_working_set_and_its_load(dispatch_lab):
    """Asked alike for 61 documents of one directory, each backend has its own, about a third. When nine that one of them has
    are all that is asked for, they are shared out anew: three each."""
    lab, paths = dispatch_lab, documents(61)
    with applied(lab, pool_of_all({"name": "racc", "interval_s": 1})):
        by_wrk(lab, paths, seconds=3)
        asked = by_wrk(lab, paths, seconds=1)
        parts = {name: set(asked[name]) for name in BACKENDS}
        # In one interval a few may move, if more than 110 % of a third was asked of their backend.
        assert sum(map(len, parts.values())) <= 67 and set.union(*parts.values()) == set(paths), parts
        assert_even(asked, 0.20, 0.45)
        hot = sorted(max(parts.values(), key=len))[:9]
        by_wrk(lab, hot, seconds=4)
        asked = by_wrk(lab, hot, seconds=1)
        # With four at one backend it has 133 % of its share.
        assert_even(asked, 0.20, 0.45)


def by_wrk(lab, paths, *, seconds):
    """Has eight clients ask for these paths in turn, again and again; returns for each backend what it was asked for."""
    script = lab.run_dir / "documents.lua"
    write_script(script, [Document(path, 0) for path in paths], range(len(paths)))
    marks = {name: len(lab.access_log(name)) for name in BACKENDS}
    report = run_wrk(lab, "client1", lab.url("/"), seconds=seconds, connections=8, close=True, script=script)
    assert report["requests"] > 100 * seconds and not sum(report["errors"].values()), report
    return {name: Counter(entry["request"].split()[1] for entry in lab.access_log(name)[marks[name]:]) for name in BACKENDS}


def assert_even(asked, least, most):
    """Each backend's share of what was asked lies between these."""
    total = sum(counts.total() for counts in asked.values())
    shares = {name: counts.total() / total for name, counts in asked.items()}
    assert all(least <= share <= most for share in shares.values()), shares

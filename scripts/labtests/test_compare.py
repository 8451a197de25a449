"""`scripts/compare`: what it counts, and that it tells policies apart."""

import json
import subprocess
import sys

from conftest import BIN_DIR, COMPARE_PREFIX

from compare_lib import cache, report, workload
from lab_lib.console import SCRIPTS


def _asked(letters):
    """Documents of one byte, by their names."""
    return [(letter, 1) for letter in letters]


def test_a_cache_forgets_what_was_not_used_for_longest():
    assert cache.hits(_asked("abab"), room_bytes=2) == 2
    assert cache.hits(_asked("abcabc"), room_bytes=2) == 0, "each is forgotten just before it is wanted"
    assert cache.hits(_asked("abacab"), room_bytes=2) == 2, "a was used since b"
    assert cache.hits([("a", 3), ("a", 3), ("b", 1), ("b", 1)], room_bytes=2) == 1, "what does not fit drives nothing out"


def test_the_same_seed_asks_for_the_same_and_popular_documents_most():
    documents = workload.documents(100)
    order = workload.drawn(documents, 1.0, seed=5)
    assert order == workload.drawn(documents, 1.0, seed=5) != workload.drawn(documents, 1.0, seed=6)
    first, tenth = order.count(0), order.count(9)
    # Once a tenth as often: of 50,000 requests 9,639 and 964, by the 100th harmonic number.
    assert abs(first - 9639) < 500 and abs(tenth - 964) < 150, (first, tenth)


def test_all_policies_are_judged_by_as_many_requests():
    slow = report.Round({"requests": 6, "duration_us": 1e6, "p50_us": 1, "p99_us": 2, "errors": {}}, [_asked("abab"), _asked("cc")])
    fast = report.Round({**slow.wrk, "requests": 12}, [_asked("abababab"), _asked("cccc")])
    of_slow, of_fast = (report.summary([each], slow.count, room_bytes=2) for each in (slow, fast))
    assert of_slow["cache_hit_ratio"] == of_fast["cache_hit_ratio"] == 0.5
    assert of_fast["requests_per_s"] == 2 * of_slow["requests_per_s"]


def test_who_looks_at_the_content_needs_less_cache(tmp_path):
    found = tmp_path / "found.json"
    programs = BIN_DIR or SCRIPTS.parent / "target/release"
    subprocess.run([SCRIPTS / "compare", "--prefix", COMPARE_PREFIX, "--bin-dir", programs, "--policies", "round-robin,maglev",
                    "--rounds", "1", "--seconds", "2", "--held", "0", "--json", found],
                   check=True, timeout=60, stdout=sys.stderr)
    blind, by_content = json.loads(found.read_text())["policies"]
    assert blind["errors"] == by_content["errors"] == 0
    assert max(blind["requests_by_backend"]) - min(blind["requests_by_backend"]) <= 2, "in turns, on each of two lcores at most"
    assert sum(by_content["documents_by_backend"]) <= 1000 < sum(blind["documents_by_backend"])
    assert by_content["cache_hit_ratio"] > blind["cache_hit_ratio"] + 0.1

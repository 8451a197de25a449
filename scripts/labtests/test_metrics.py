"""What the switch tells monitoring and operators."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import counters, curl, get, status

from lab_lib.baton import SWITCH_METRICS

PROMTOOL = shutil.which("promtool") or str(Path(__file__).resolve().parents[2] / "target/tools/promtool")


def _metrics(lab):
    return curl(lab, f"http://{SWITCH_METRICS}/metrics", client="backend1")


def test_promtool_finds_no_fault_with_the_metrics(lab):
    if not Path(PROMTOOL).exists():
        pytest.skip("no promtool (scripts/install --with-promtool)")
    text = _metrics(lab)
    result = lab.run("switch", [PROMTOOL, "check", "metrics"], stdin=text, check=False)
    assert result.returncode == 0, result.stderr


def test_handoffs_show_in_metrics_and_counters(lab):
    before = status(lab)["handoffs"]
    for _ in range(5):
        get(lab, "/who")
    assert status(lab)["handoffs"] == before + 5
    assert "handoff" in _metrics(lab)


@pytest.mark.parametrize("what", ["status", "backends", "flows", "counters"])
def test_batonctl_speaks_to_people_and_programs(lab, what):
    assert lab.batonctl(what).stdout.strip()
    json.loads(lab.batonctl(what, "--json").stdout)


def test_every_counter_has_a_description(lab):
    entries = json.loads(lab.batonctl("counters", "--json").stdout)
    assert len(entries) > 10 and all(entry["description"] for entry in entries)
    assert any(name.startswith("drop_") for name in counters(lab))

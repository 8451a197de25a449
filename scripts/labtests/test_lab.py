"""The lab itself: what it leaves behind, and what it tells its user."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BIN_DIR, PREFIX

from lab_lib import Lab, LabError
from lab_lib.state import KEY_FILE, RUN_ROOT
from lab_lib.system import command

SCRIPTS = Path(__file__).resolve().parents[1]
# A lab of these tests' own, which comes and goes.
OWN_PREFIX = f"{PREFIX}l"
FOOTPRINT = SCRIPTS / "footprint"


@pytest.fixture
def own_lab():
    """A lab that is not up yet, and is down at the end of the test."""
    lab = Lab(OWN_PREFIX, bin_dir=BIN_DIR)
    yield lab
    lab.down()


def _lab_command(*arguments):
    return subprocess.run([SCRIPTS / "lab", "--prefix", OWN_PREFIX, *arguments], capture_output=True, text=True)


def _left():
    """What is on disk of the lab."""
    return sorted(str(path.relative_to(RUN_ROOT)) for path in RUN_ROOT.rglob("*")
                  if path.relative_to(RUN_ROOT).parts[0] in (OWN_PREFIX, f"{OWN_PREFIX}.lock"))


def test_down_leaves_nothing(own_lab):
    own_lab.up(backends=1, clients=1)
    assert (own_lab.run_dir / KEY_FILE).exists()
    assert own_lab.down()
    assert _left() == [] and not own_lab.down()


def test_kept_logs_are_without_keys_and_go_at_the_next_down(own_lab):
    own_lab.up(backends=1, clients=1)
    own_lab.down(keep_logs=True)
    names = {path.name for path in own_lab.run_dir.rglob("*") if not path.is_dir()}
    assert names == {"switch.log", "switch.toml", "agent.log", "agent.toml", "access.log", "error.log", "nginx.conf"}
    assert json.loads(_lab_command("status", "--json").stdout)["kept_logs"] == str(own_lab.run_dir)
    assert _lab_command("down").returncode == 0
    assert _left() == []


def test_a_failed_up_keeps_its_logs_until_the_next_up(own_lab):
    with pytest.raises(LabError, match="--- end of .*switch.log"):
        own_lab.up(backends=1, clients=1, switch_settings={"handshake": {"window_scale": 99}})
    left = _left()
    assert f"{OWN_PREFIX}/switch.log" in left and f"{OWN_PREFIX}/{KEY_FILE}" not in left
    own_lab.up(backends=1, clients=1, with_servers=False, with_baton=False)
    assert f"{OWN_PREFIX}/switch.log" not in _left()


def test_hints_name_the_prefix(own_lab):
    told = _lab_command("exec", "client1", "true")
    assert told.returncode == 1 and f"`scripts/lab --prefix {OWN_PREFIX} up`" in told.stderr
    own_lab.up(backends=1, clients=1, with_servers=False, with_baton=False)
    told = _lab_command("up", "--bare")
    assert told.returncode == 1 and f"`scripts/lab --prefix {OWN_PREFIX} down`" in told.stderr
    assert Lab("baton").hint("up") == "`scripts/lab up`"


def test_status_tells_what_ended_and_what_is_gone(own_lab):
    own_lab.up(backends=1, clients=1, with_baton=False)
    assert _lab_command("status").returncode == 0
    own_lab.run("backend1", ["kill", "-9", *own_lab.processes.members("nginx@backend1")])
    command(["ip", "netns", "delete", own_lab.plan.namespace("client1")])
    text = _lab_command("status").stdout
    assert "nginx ENDED, see " in text and f"{OWN_PREFIX}-client1 GONE" in text


def test_a_reader_that_leaves_early_is_no_fault(own_lab):
    own_lab.up(backends=1, clients=1, with_servers=False, with_baton=False)
    result = subprocess.run(f"{SCRIPTS}/lab --prefix {OWN_PREFIX} status --json | true", shell=True, text=True,
                            capture_output=True)
    assert result.returncode == 0 and result.stderr == ""


# --- scripts/footprint ---------------------------------------------------------------------------------------


def _footprint(path):
    path.write_text(command([sys.executable, FOOTPRINT]))
    return path


def _compared(before, after, own):
    """Compare two listings as scripts/test does. Other labs of this machine may come and go meanwhile."""
    return subprocess.run([FOOTPRINT, "--compare", before, after, "--own", own], capture_output=True, text=True)


@pytest.mark.parametrize("comes", [True, False], ids=["comes", "goes"])
def test_footprint_notes_a_strangers_lab_and_faults_ones_own(own_lab, tmp_path, comes):
    without = _footprint(tmp_path / "without")
    own_lab.up(backends=1, clients=1)
    with_lab = _footprint(tmp_path / "with")
    assert f"BPF pin /sys/fs/bpf/{OWN_PREFIX}-backend1" in with_lab.read_text()
    before, after = (without, with_lab) if comes else (with_lab, without)
    strangers = _compared(before, after, "nobodys")
    assert strangers.returncode == 0 and f"lab {OWN_PREFIX}" in strangers.stdout, strangers
    own = _compared(before, after, PREFIX)
    assert own.returncode == 1 and f"namespace {OWN_PREFIX}-client1" in own.stdout, own
    assert f"BPF pin /sys/fs/bpf/{OWN_PREFIX}-backend1" in own.stdout


def test_footprint_faults_a_namespace_of_no_lab_and_files_left(own_lab, tmp_path):
    before = _footprint(tmp_path / "before")
    stray = f"{OWN_PREFIX}-stray"
    command(["ip", "netns", "add", stray])
    try:
        found = _compared(before, _footprint(tmp_path / "after"), "nobodys")
    finally:
        command(["ip", "netns", "delete", stray])
    assert found.returncode == 1 and f"namespace {stray}" in found.stdout
    own_lab.run_dir.mkdir(parents=True)
    found = _compared(before, _footprint(tmp_path / "after"), PREFIX)
    assert found.returncode == 1 and f"files {own_lab.run_dir}" in found.stdout
    own_lab.down()
    assert _compared(before, _footprint(tmp_path / "after"), PREFIX).returncode == 0

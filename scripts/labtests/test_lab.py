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
    own_lab.up(backends=1, clients=1, with_baton=False, weather="delay=1ms")
    told = _lab_command("status")
    assert told.returncode == 0 and told.stdout.splitlines()[0] == f"lab {OWN_PREFIX}: up", told
    own_lab.run("backend1", ["kill", "-9", *own_lab.processes.members("nginx@backend1")])
    own_lab.run("backend1", ["kill", "-9", *own_lab.processes.members("weather@client1")])
    command(["ip", "netns", "delete", own_lab.plan.namespace("client1")])
    told = _lab_command("status")
    assert told.returncode == 1
    assert "nginx ENDED, see " in told.stdout and f"{OWN_PREFIX}-client1 GONE" in told.stdout
    assert told.stdout.splitlines()[0] == (
        f"lab {OWN_PREFIX}: up, but namespace {OWN_PREFIX}-client1 is gone; nginx of backend1 has ended; the weather of "
        f"client1 has ended")
    told = _lab_command("status", "--json")
    assert told.returncode == 1 and len(json.loads(told.stdout)["faults"]) == 3


@pytest.mark.parametrize("arguments, why", [
    (["up", "--backends", "0"], "backends: 0 is not within 1..64"),
    (["up", "--weather", "lss=2%"], "weather 'lss=2%': KEY=VALUE is needed, where KEY is one of loss, "),
    (["up", "--weather", "loss=200%"], "weather: invalid value '200%' for '--loss <PERCENT>': allowed are 0% to 100%"),
    (["up", "--weather", "jitter=100h"], "weather: jitter of 360000s: at most 60s"),
    (["up", "--weather", "loss=1%", "--weather-at", "routed"], "weather at 'routed': no such cable in this lab"),
    (["--prefix", "No!", "status"], "prefix 'No!': lower-case letters and digits"),
], ids=["backends", "key", "value", "condition", "place", "prefix"])
def test_wrong_usage_is_noticed_before_anything_is_built(own_lab, arguments, why):
    told = _lab_command(*arguments)
    assert (told.returncode, told.stdout) == (2, "") and told.stderr.startswith(f"lab: {why}"), told
    assert told.stderr.count("\n") == 1 and _left() == []


def test_a_host_that_does_not_exist_is_wrong_usage_and_down_says_that_it_is_done(own_lab):
    own_lab.up(backends=1, clients=1, with_servers=False, with_baton=False)
    told = _lab_command("exec", "backend7", "true")
    assert told.returncode == 2 and told.stderr.startswith("lab: no host 'backend7' in this lab: "), told
    told = _lab_command("down")
    assert (told.returncode, told.stderr) == (0, f"lab: '{OWN_PREFIX}' is down\n")
    told = _lab_command("down")
    assert told.returncode == 0 and told.stderr.endswith(": nothing to do\n")


def test_what_the_help_says_is_served_is_served(own_lab):
    own_lab.up(backends=1, clients=1, with_baton=False)
    base = own_lab.url("", own_lab.address_of("backend1"))

    def status_of(path, *arguments):
        written = own_lab.run("client1", ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *arguments, base + path])
        return int(written.stdout)

    told = _lab_command("--help").stdout
    paths = ("/", "/who", "/files/1k", "/files/50m", "/video/1k", "/video/50m", "/db/?id=7", "/b/backend2/who")
    for path in paths:
        assert path in told and status_of(path) == 200, path
    assert "/slow/1m" in told and status_of("/slow/1k") == 200
    assert [status_of(path) for path in ("/files/", "/video/")] == [200, 200]
    assert [status_of("/upload"), status_of("/upload", "--data", "x")] == [405, 201]
    index = own_lab.run("client1", ["curl", "-s", base + "/"]).stdout
    assert "backend1" in index and "/files/SIZE" in index and "50m" in index


def test_build_tells_of_itself():
    told = command([SCRIPTS / "build", "--help"])
    assert "scripts/build --offline" in told and "Exit status" in told and "set -euo" not in told


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

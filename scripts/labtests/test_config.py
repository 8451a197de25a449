"""What is wrong in a configuration is said with file and key; nothing is started then. Needs no network."""

import subprocess

import pytest
from conftest import BIN_DIR

from lab_lib import Lab, baton
from lab_lib.topology import Plan

PLAN = Plan("unused", backends=1)


class Files:
    """A key file, switch.toml and agent.toml in a directory, and the programs run on them."""

    def __init__(self, directory):
        self.directory = directory
        self.keys = directory / "keys.toml"
        baton.write_keys(self.keys)

    def check(self, program, text):
        """Exit status and everything said by `program --config FILE --check` about a configuration."""
        path = self.directory / "config.toml"
        path.write_text(text)
        return self.run(program, "--config", path, "--check")

    def run(self, program, *arguments):
        result = subprocess.run([Lab("unused", bin_dir=BIN_DIR).bin_dir / program, *map(str, arguments)],
                                capture_output=True, text=True, timeout=10)
        return result.returncode, result.stdout + result.stderr

    def switch(self, changes=None):
        return self.check("baton-switch", baton.switch_config(PLAN, self.directory, changes))

    def agent(self, changes=None):
        return self.check("baton-agent", baton.agent_config(PLAN, PLAN.backends[0], self.directory, changes))


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def test_a_good_switch_configuration_passes(files):
    assert files.switch() == (0, f"{files.directory}/config.toml: OK\n")


@pytest.mark.parametrize("changes, said", [
    ({"flows": {"capacty": 8}}, ["capacty", "capacity"]),
    ({"flows": {"capacity": 8}}, ["flows.capacity = 8", "16"]),
    ({"flows": {"capacity": "many"}}, ["capacity", "many"]),
    ({"dpdk": {"idle": "sleep"}}, ['dpdk.idle = "sleep"', "nap", "spin"]),
    ({"dpdk": {"lcores": [1, 1]}}, ["lcores"]),
    ({"dpdk": {"memory_mb": 4}}, ["memory_mb = 4"]),
    ({"dpdk": {"device": "eth0"}}, ['device = "eth0"']),
    ({"handshake": {"window_scale": 15}}, ["handshake.window_scale = 15", "0 to 14"]),
    ({"control": {"listen": "10.70.0.1"}}, ["control.listen", "10.70.0.1"]),
    ({"vip": [{"name": "web", "address": "10.60.0.300", "port": 80}]}, ["address", "10.60.0.300"]),
    ({"pool": [{"name": "all", "backends": ["backend9"]}], "rule": [{"pool": "all"}]}, ["backend9"]),
    ({"rule": [{"vip": "web", "pool": "nowhere"}]}, ["pool", "nowhere"]),
    ({"rule": [{"vip": "web", "path_prefix": "files", "pool": "all"}]}, ["path_prefix", "files"]),
    ({"unheard": {"of": 1}}, ["unheard"]),
    ({"requests": {"unfinished_timeout_s": 0}}, ["requests.unfinished_timeout_s = 0", "1 to 86400"]),
    ({"requests": {"unfinished_count_max": 70_000}}, ["requests.unfinished_count_max = 70000", "1 to 65535"]),
    ({"error_page": [{"status": 404, "file": "/dev/null"}]}, ["error_page[0].status = 404", "400, 408, 431, 503"]),
    ({"error_page": [{"status": 503}]}, ["error_page[0].file"]),
    ({"error_page": [{"status": 503, "file": "/nowhere/x.html"}]}, ["error_page[0].file", "/nowhere/x.html"]),
    ({"error_page": [{"status": 503, "file": "/dev/zero"}]}, ["error_page[0].file", "/dev/zero", "16384"]),
    ({"error_page": [{"status": 503, "file": "/dev/null"}] * 2}, ["error_page[1].status = 503", "already"]),
    ({"error_page": [{"status": 400, "file": "/dev/null", "content_type": "a/b\r\nX: y"}]}, ["error_page[0].content_type"]),
])
def test_faults_of_the_switch_name_file_and_key(files, changes, said):
    status, text = files.switch(changes)
    assert status == 2 and "config.toml" in text, text
    for words in said:
        assert words in text, text


def test_every_fault_is_told_at_once(files):
    status, text = files.switch({"flows": {"capacity": 1}, "dpdk": {"idle": "sleep"}})
    assert status == 2 and "flows.capacity" in text and "dpdk.idle" in text, text


def test_error_pages_of_up_to_16_kib_pass(files):
    page = files.directory / "page.html"
    page.write_bytes(b"x" * 16 * 1024)
    pages = [{"status": status, "file": str(page), "content_type": "text/plain"} for status in (400, 408, 431, 503)]
    assert files.switch({"error_page": pages})[0] == 0
    page.write_bytes(b"x" * (16 * 1024 + 1))
    assert files.switch({"error_page": pages})[0] == 2


@pytest.mark.parametrize("changes, said", [
    ({"agent": {"interfaces": "data0"}}, ["agent.interfaces", "interface"]),
    ({"agent": {"address": "10.60.0"}}, ["address", "10.60.0"]),
    ({"agent": {"switch": "10.70.0.1"}}, ["switch", "10.70.0.1"]),
    ({"agent": {"health_interval_ms": 7}}, ["agent.health_interval_ms", "7", "50 to 400"]),
    ({"vip": [{"address": "10.60.0.100", "port": 0}]}, ["port"]),
    ({"vip": [{"address": "10.60.0.100", "port": 80, "health": "udp"}]}, ["health", "udp"]),
    ({"vip": []}, ["vip"]),
])
def test_faults_of_the_agent_name_file_and_key(files, changes, said):
    status, text = files.agent(changes)
    assert status != 0 and "config.toml" in text and "fit for handoffs" not in text, text
    for words in said:
        assert words in text, text


@pytest.mark.parametrize("program", ["switch", "agent"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_keys_that_others_may_read_are_refused(files, program, mode):
    files.keys.chmod(mode)
    status, text = getattr(files, program)()
    assert status != 0 and str(files.keys) in text and "0600" in text and f"{mode:04o}" in text, text


@pytest.mark.parametrize("program", ["baton-switch", "baton-agent"])
def test_a_configuration_that_is_not_there_is_named(files, program):
    status, text = files.run(program, "--config", "/nowhere/x.toml")
    assert status != 0 and "/nowhere/x.toml" in text, text


def test_keygen_makes_a_private_file_once(files):
    path = files.directory / "new.toml"
    assert files.run("batonctl", "keygen", path)[0] == 0
    assert path.stat().st_mode & 0o7777 == 0o600
    first = path.read_text()
    status, text = files.run("batonctl", "keygen", path)
    assert status == 1 and str(path) in text and path.read_text() == first
    path.rename(files.keys)
    assert files.switch()[0] == 0, "what it makes can be used"


def test_batonctl_says_where_it_looked(files):
    socket = files.directory / "no.sock"
    status, text = files.run("batonctl", "--socket", socket, "status")
    assert status == 1 and str(socket) in text

"""`scripts/demo`, short and without its peers: what it claims of Baton holds, and programs can read it."""

import json
import subprocess
import sys

from conftest import BIN_DIR, DEMO_PREFIX

from lab_lib.console import SCRIPTS

KIB, MIB = 1024, 1024 * 1024
# Of the response bytes, at most so many may pass the switch.
SHARE_MAX = {64 * KIB: 0.03, MIB: 0.01}


def test_the_demo_holds_its_claims_and_writes_them_down(tmp_path):
    found = tmp_path / "found.json"
    programs = BIN_DIR or SCRIPTS.parent / "target/release"
    subprocess.run([SCRIPTS / "demo", "--prefix", DEMO_PREFIX, "--bin-dir", programs, "--targets", "baton", "--rounds", "1",
                    "--seconds", "1", "--json", found], check=True, timeout=180, stdout=sys.stderr)
    told = json.loads(found.read_text())
    assert told["claims_hold"] and told["client_address_seen"]
    assert {transfer["bytes"] for transfer in told["transfers"]} >= {KIB, 4 * KIB, 64 * KIB, MIB, 50 * MIB}
    for transfer in told["transfers"]:
        assert transfer["sha256_equal"]
        assert transfer["switch_bytes"] <= SHARE_MAX.get(transfer["bytes"], 1) * transfer["bytes"]
    assert {(cell["size"], cell["mode"], cell["target"]) for cell in told["load"]} == {
        (size, mode, "baton") for size in (KIB, 64 * KIB, MIB) for mode in ("close", "keep-alive")}
    for cell in told["load"]:
        assert cell["errors"] == 0 and 0 < cell["p50_us"] <= cell["p99_us"] and cell["requests_per_s"] > 0, cell
        assert 0 < cell["balancer_busy_us_per_request"] <= cell["balancer_cpu_us_per_request"], cell
        assert cell["balancer_bytes_per_response_byte"] <= SHARE_MAX.get(cell["size"], 1), cell
        assert cell["mode"] != "close" or cell["connections"] >= cell["requests"], cell

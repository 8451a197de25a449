"""What an lcore does when nothing arrives: nap, or poll on."""

import time

import pytest
from helpers import counters, get

WATCHED_S = 1.0


@pytest.mark.parametrize("idle", ["nap", "spin"])
def test_idle_policy(small_lab, idle):
    """Napping costs little, spinning a CPU; either serves, and a nap delays nobody by more than its length."""
    if "switch" in small_lab.processes.names():
        small_lab.write_switch_config({"dpdk": {"idle": idle}})
        small_lab.stop_switch()
        small_lab.start_switch()
        small_lab.wait_served_by("backend1")
    else:
        small_lab.start_baton({"dpdk": {"idle": idle}})
    before, used, began = counters(small_lab), small_lab.cpu_time_us("switch"), time.monotonic()
    time.sleep(WATCHED_S)
    share = (small_lab.cpu_time_us("switch") - used) / 1e6 / (time.monotonic() - began)
    naps = counters(small_lab)["lcore_naps"] - before["lcore_naps"]
    if idle == "nap":
        assert share < 0.4 and naps > 1000, (share, naps)
    else:
        assert share > 0.6 and naps == 0, (share, naps)
    for _ in range(50):
        assert get(small_lab, "/files/1k").status == 200

"""The lab all lab tests share: clients, router, switch, four backends (the last behind the router)."""

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab_lib import Lab  # noqa: E402
from lab_lib.system import tail  # noqa: E402

PREFIX = "batontest"
ROUTED_BACKEND = "backend4"
CLOSING_TIMEOUT_S = 3
UNCONFIRMED_TIMEOUT_S = 5
# How long a client may think between handshake and request in the test of that name.
PAUSE_S = 100


@pytest.fixture(scope="session")
def lab():
    """A lab that is up for the whole run. Its short timers let tests see flows end."""
    if os.geteuid() != 0:
        pytest.fail("lab tests make network namespaces: run them as root")
    lab = Lab(PREFIX, bin_dir=os.environ.get("BATON_BIN_DIR"))
    flows = {"closing_timeout_s": CLOSING_TIMEOUT_S, "unconfirmed_timeout_s": UNCONFIRMED_TIMEOUT_S}
    with lab.running(backends=3, clients=2, routed=1, switch_settings={"flows": flows}):
        yield lab


@pytest.fixture(scope="session", autouse=True)
def paused_connection(request):
    """A connection whose handshake is done when the run begins; test_pause.py asks on it when PAUSE_S are over."""
    if not any(item.path.name == "test_pause.py" for item in request.session.items):
        yield None
        return
    lab = request.getfixturevalue("lab")
    connection = lab.connect("client1")
    yield connection, time.monotonic()
    connection.close()


@pytest.fixture(autouse=True)
def parts_survive(request):
    """Every test leaves the very switch it found running, and every agent and server up."""
    if "lab" not in request.fixturenames:
        yield
        return
    lab = request.getfixturevalue("lab")
    switch = lab.processes.pid("switch")
    yield
    assert lab.processes.pid("switch") == switch and lab.processes.is_alive("switch"), "the switch died"
    dead = [name for name in lab.processes.names() if not lab.processes.is_alive(name)]
    assert not dead, f"left dead: {dead}"


def pytest_collection_modifyitems(items):
    """The test that waits longest comes last: the others fill its pause."""
    items.sort(key=lambda item: item.path.name == "test_pause.py")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """A failure shows the ends of the switch's and agents' logs."""
    outcome = yield
    report = outcome.get_result()
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and lab is not None and lab.plan:
        logs = [lab.run_dir / "switch.log", *(lab.backend_dir(h.name) / "agent.log" for h in lab.plan.backends)]
        for log in logs:
            report.sections.append((str(log), tail(log, 15)))

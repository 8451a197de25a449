"""The lab most lab tests share: clients, router, switch, four backends (the last behind the router)."""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dispatching  # noqa: E402
from helpers import ask, eventually, flow_count, status  # noqa: E402

from lab_lib import Lab  # noqa: E402
from lab_lib.system import tail  # noqa: E402
from lab_lib.topology import TLS_PORT, VIP, VIP_PORT  # noqa: E402

# BATON_TEST_PREFIX: for a second run of these tests on the same machine at the same time.
PREFIX = os.environ.get("BATON_TEST_PREFIX", "batontest")
# A second lab of one backend, for what would disturb the first: its host is checked, changed and restored.
SMALL_PREFIX = f"{PREFIX}s"
# A third one, in which a connection waits.
WAITING_PREFIX = f"{PREFIX}w"
# Labs with weather: one of Baton, one of nothing but the network.
WEATHER_PREFIX = f"{PREFIX}r"
BARE_PREFIX = f"{PREFIX}u"
# A lab whose switch soon forgets idle flows, and one whose switch is killed.
SHORT_PREFIX = f"{PREFIX}c"
TAKEOVER_PREFIX = f"{PREFIX}t"
# One whose rules and pools every test makes its own.
DISPATCH_PREFIX = f"{PREFIX}d"
# Those of scripts/compare and scripts/demo.
COMPARE_PREFIX = f"{PREFIX}p"
DEMO_PREFIX = f"{PREFIX}m"
WEATHER = "loss=1%,duplicate=1%,reorder=1%,delay=2ms,jitter=1ms,seed=7"
HEAVY_WEATHER = "loss=3%,duplicate=2%,reorder=1%,delay=5ms,jitter=1ms,seed=7"
# BATON_BIN_DIR: where the programs are, if not in target/release.
BIN_DIR = os.environ.get("BATON_BIN_DIR")
ROUTED_BACKEND = "backend4"
CLOSING_TIMEOUT_S = 3
UNCONFIRMED_TIMEOUT_S = 5
# How long a switch learns after its start whose connections there are.
LEARNING_S = 3
# In the lab of short timers.
ESTABLISHED_TIMEOUT_S = 10
# How long a client may think between handshake and request in the test of that name.
PAUSE_S = 100
# Everything in it is tested twice: with one lcore on one queue, and with two lcores on two queues.
CPUS = min(os.cpu_count() or 1, 2)
LCORES = {"one-lcore": [CPUS - 1], "two-lcores": list(range(CPUS))} if CPUS > 1 else {"one-lcore": [0]}


# Tests that measure, or put much load on the machine.
ALONE = ("test_compare.py", "test_demo.py", "test_load.py", "test_reuse.py")
# Those in the lab that most share are of the first part; these as well, so that the first two take about as long.
FIRST = ("test_takeover.py",)
PARTS = ("first", "second", "alone")


def pytest_addoption(parser):
    parser.addoption("--part", choices=PARTS, help="only some tests: those in the lab that most share; those in labs of "
                     "their own; or those that want the machine alone. The first two may run at the same time (all)")


def pytest_collection_modifyitems(config, items):
    """Leaves out what is not of the part asked for. The test that waits longest comes last: the others fill its pause."""
    def part(item):
        if item.path.name in ALONE:
            return "alone"
        return "first" if "lab" in item.fixturenames or item.path.name in FIRST else "second"
    wanted = config.getoption("--part")
    others = [item for item in items if wanted not in (None, part(item))]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if wanted == part(item)]
    items.sort(key=lambda item: item.path.name == "test_pause.py")


@contextmanager
def _running(lab, request, **options):
    """A lab that is up; if a test failed meanwhile, its logs stay until the next `up` of its prefix."""
    failed = request.session.testsfailed
    lab.up(**options)
    try:
        yield lab
    finally:
        lab.down(keep_logs=request.session.testsfailed > failed)


@pytest.fixture(scope="session", params=LCORES)
def lab(request):
    """A lab that is up for all its tests. Its short timers let tests see flows end."""
    _require_root()
    lab = Lab(PREFIX, bin_dir=BIN_DIR)
    lab.lcores = LCORES[request.param]
    settings = {"dpdk": {"lcores": lab.lcores},
                "flows": {"closing_timeout_s": CLOSING_TIMEOUT_S, "unconfirmed_timeout_s": UNCONFIRMED_TIMEOUT_S}}
    with _running(lab, request, backends=3, clients=2, routed=1, switch_settings=settings):
        yield lab


@pytest.fixture(scope="session")
def waiting_lab(request):
    """A lab in which nothing happens but a pause, beside the other tests."""
    _require_root()
    lab = Lab(WAITING_PREFIX, bin_dir=BIN_DIR)
    with _running(lab, request, backends=1, clients=1):
        yield lab


@pytest.fixture(scope="session", autouse=True)
def answer_after_pause(request):
    """How many flows there are PAUSE_S after a handshake, and the answer to the request sent then; beside the other tests, as
    a future."""
    if not any(item.path.name == "test_pause.py" for item in request.session.items):
        yield None
        return
    waiting_lab = request.getfixturevalue("waiting_lab")

    def ask_late():
        with waiting_lab.connect("client1") as connection:
            time.sleep(PAUSE_S)
            return flow_count(waiting_lab), ask(connection, "/who")
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(ask_late)


@pytest.fixture(scope="module")
def small_lab(request):
    """A lab with one backend and one client, at first without switch and agent."""
    _require_root()
    lab = Lab(SMALL_PREFIX, bin_dir=BIN_DIR)
    with _running(lab, request, backends=1, clients=1, with_baton=False):
        yield lab


@pytest.fixture(scope="module")
def short_lab(request):
    """A lab whose switch forgets an established flow after ESTABLISHED_TIMEOUT_S without a packet."""
    _require_root()
    lab = Lab(SHORT_PREFIX, bin_dir=BIN_DIR)
    settings = {"flows": {"established_timeout_s": ESTABLISHED_TIMEOUT_S, "closing_timeout_s": CLOSING_TIMEOUT_S}}
    with _running(lab, request, backends=3, clients=1, routed=2, switch_settings=settings):
        yield lab


@pytest.fixture(scope="module")
def takeover_lab(request):
    """A lab whose switch may be killed and started again, with as many lcores as there can be."""
    _require_root()
    lab = Lab(TAKEOVER_PREFIX, bin_dir=BIN_DIR)
    settings = {"dpdk": {"lcores": list(range(CPUS))}}
    with _running(lab, request, backends=2, clients=2, routed=1, switch_settings=settings):
        yield lab


@pytest.fixture(scope="session")
def dispatch_lab(request):
    """A lab with one lcore, so that turns are everybody's, and a second VIP for TLS, for tests that change rules and pools."""
    _require_root()
    lab = Lab(DISPATCH_PREFIX, bin_dir=BIN_DIR)
    agent_settings = {"vip": [{"address": VIP, "port": port, "health": "tcp"} for port in (VIP_PORT, TLS_PORT)]}
    with _running(lab, request, backends=3, clients=2, switch_settings=dispatching.OWN, agent_settings=agent_settings):
        # A choice made while the switch learns whose connections there are is made without the path.
        eventually(lambda: status(lab)["uptime_s"] > LEARNING_S, timeout_s=2 * LEARNING_S, what="the switch has learned")
        yield lab


@pytest.fixture(scope="module", params=["clients", "fabric", "routed"])
def weather_lab(request):
    """A lab with weather on the clients' cables, then ones with weather on the switch's and on the routed backend's."""
    _require_root()
    lab = Lab(WEATHER_PREFIX, bin_dir=BIN_DIR)
    with _running(lab, request, backends=3, clients=2, routed=1, weather=WEATHER, weather_at=request.param):
        yield lab


@pytest.fixture(scope="module")
def bare_lab(request):
    """A network with weather on it and without servers: what meets the weather, a test sent."""
    _require_root()
    lab = Lab(BARE_PREFIX, bin_dir=BIN_DIR)
    with _running(lab, request, backends=1, clients=1, with_servers=False, with_baton=False, weather=HEAVY_WEATHER):
        yield lab


def _require_root():
    if os.geteuid() != 0:
        pytest.fail("lab tests make network namespaces: run them as root")


@pytest.fixture(autouse=True)
def parts_survive(request):
    """Every test leaves the very switch it found running, and every agent and server up."""
    name = next((name for name in ("lab", "dispatch_lab") if name in request.fixturenames), None)
    if name is None:
        yield
        return
    lab = request.getfixturevalue(name)
    switch = lab.processes.pid("switch")
    yield
    assert lab.processes.pid("switch") == switch and lab.processes.is_alive("switch"), "the switch died"
    dead = [name for name in lab.processes.names() if not lab.processes.is_alive(name)]
    assert not dead, f"left dead: {dead}"


@pytest.fixture
def nginx_stopped(lab):
    """Stops one backend's web server, and starts it after the test."""
    stopped = []

    def stop(backend):
        stopped.append(backend)
        lab.stop_nginx(backend)
    yield stop
    for backend in stopped:
        lab.start_nginx(backend)
        lab.wait_served_by(backend)


@pytest.hookimpl(trylast=True)
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """A failure shows the ends of the switch's and agents' logs."""
    outcome = yield
    report = outcome.get_result()
    arguments = getattr(item, "funcargs", {})
    labs = ("lab", "small_lab", "waiting_lab", "weather_lab", "short_lab", "takeover_lab", "dispatch_lab")
    lab = next((arguments[name] for name in labs if name in arguments), None)
    if report.failed and lab is not None and lab.plan:
        logs = [lab.run_dir / "switch.log", *(lab.backend_dir(h.name) / "agent.log" for h in lab.plan.backends)]
        for log in logs:
            report.sections.append((str(log), tail(log, 15)))

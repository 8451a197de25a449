"""Puts load on the lab and measures it alike for every way to the servers: direct, Baton, HAProxy."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from .system import LabError
from .topology import VIP

REPORT_SCRIPT = Path(__file__).with_name("wrk_report.lua")
# All three ways lead to one and the same nginx: the rule for /files/ picks the first backend.
SERVER = "backend1"
MODES = ("close", "keep-alive")


@dataclass(frozen=True)
class Target:
    """A way to the server: the address clients ask, and the balancer in between (none: direct)."""

    name: str
    address: str
    process: str | None = None
    host: str | None = None


def target(lab, name):
    """The target "direct", "baton" or "haproxy" of a lab."""
    if name == "direct":
        return Target(name, lab.address_of(SERVER))
    if name == "baton":
        return Target(name, VIP, "switch", "switch")
    if name == "haproxy":
        return Target(name, lab.address_of("haproxy"), "haproxy", "haproxy")
    raise LabError(f"target {name!r}: direct, baton or haproxy")


@dataclass(frozen=True)
class Sample:
    """One run of wrk. Byte and CPU figures are differences of kernel counters around the run."""

    requests: int
    requests_per_s: float
    p50_us: float
    p99_us: float
    errors: int
    connections: int
    response_bytes: int
    balancer_bytes: int
    balancer_cpu_us: float
    balancer_busy_us: float

    @property
    def cpu_us_per_request(self):
        return self.balancer_cpu_us / self.requests

    @property
    def busy_us_per_request(self):
        return self.balancer_busy_us / self.requests

    @property
    def bytes_per_response_byte(self):
        return self.balancer_bytes / self.response_bytes


@dataclass(frozen=True)
class _Reading:
    connections: int
    bytes: int
    cpu_us: float
    busy_us: float


def _read(lab, client, way):
    cpu_us = lab.cpu_time_us(way.process) if way.process else 0.0
    return _Reading(lab.tcp_counters(client)["ActiveOpens"],
                    lab.interface_counters(way.host)["rx_bytes"] if way.host else 0, cpu_us,
                    # A balancer that sleeps when it has nothing to do is busy exactly when it uses CPU. The switch
                    # polls: of the time it takes, it tells which it had work in.
                    _switch_busy_us(lab) if way.process == "switch" else cpu_us)


def _switch_busy_us(lab):
    lcores = json.loads(lab.batonctl("status", "--json").stdout)["lcores"]
    return float(sum(lcore["busy_us"] for lcore in lcores))


def run_wrk(lab, client, url, *, seconds, connections, close, script=REPORT_SCRIPT):
    """Run wrk on a client; returns what wrk_report.lua wrote, with `errors` as a dictionary by kind.

    `script`: one that loads wrk_report.lua and makes requests of its own.
    """
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "-s", script]
    if close:
        argv += ["-H", "Connection: close"]
    output = lab.run(client, [*argv, url], timeout_s=seconds + 60).stdout
    try:
        return json.loads(output.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise LabError(f"wrk {url}: no report in its output:\n{output}") from None


def measure(lab, way, file_name, mode, *, seconds, connections, client="client1"):
    """One sample of one file through one target."""
    before = _read(lab, client, way)
    wrk = run_wrk(lab, client, lab.url(f"/files/{file_name}", way.address), seconds=seconds,
                  connections=connections, close=mode == "close")
    after = _read(lab, client, way)
    if wrk["requests"] == 0 or wrk["bytes"] == 0:
        raise LabError(f"{way.name}: no request of {file_name} ({mode}) was answered in {seconds} s: {wrk['errors']}")
    return Sample(requests=wrk["requests"], requests_per_s=wrk["requests"] / (wrk["duration_us"] / 1e6),
                  p50_us=wrk["p50_us"], p99_us=wrk["p99_us"], errors=sum(wrk["errors"].values()),
                  connections=after.connections - before.connections, response_bytes=wrk["bytes"],
                  balancer_bytes=after.bytes - before.bytes, balancer_cpu_us=after.cpu_us - before.cpu_us,
                  balancer_busy_us=after.busy_us - before.busy_us)


def summary(speed, costs):
    """The medians of several samples of the same cell, and their spread; errors, requests and connections are sums.

    `costs`: the samples that tell what a request costs the balancer, if others than those of `speed`.
    """
    def values(samples, attribute):
        return [getattr(sample, attribute) for sample in samples]

    def median(samples, attribute, digits):
        return round(statistics.median(values(samples, attribute)), digits)

    every = speed if costs is speed else [*speed, *costs]
    return {"requests_per_s": median(speed, "requests_per_s", 1),
            "requests_per_s_rounds": [round(rate, 1) for rate in values(speed, "requests_per_s")],
            "p50_us": median(speed, "p50_us", 0), "p99_us": median(speed, "p99_us", 0),
            "errors": sum(values(every, "errors")), "requests": sum(values(every, "requests")),
            "connections": sum(values(every, "connections")),
            "balancer_cpu_us_per_request": median(costs, "cpu_us_per_request", 2),
            "balancer_cpu_us_per_request_rounds": [round(cost, 2) for cost in values(costs, "cpu_us_per_request")],
            "balancer_busy_us_per_request": median(costs, "busy_us_per_request", 2),
            "balancer_bytes_per_response_byte": median(every, "bytes_per_response_byte", 5)}


def add_ratios(cells):
    """Put beside each cell how it stands to the other targets in the same size and mode: medians over the rounds.

    Rounds are interleaved, so a round's ratio holds for one minute of the machine, whatever the next one was like.
    """
    def ratio(cell, other, key):
        pairs = [(a, b) for a, b in zip(cell[key], other[key]) if b]
        return round(statistics.median(a / b for a, b in pairs), 3) if pairs else None

    of = {(cell["size"], cell["mode"], cell["target"]): cell for cell in cells}
    for cell in cells:
        for name in ("direct", "haproxy"):
            other = of.get((cell["size"], cell["mode"], name))
            if other is None or cell["target"] in (name, "direct"):
                continue
            cell[f"requests_vs_{name}"] = ratio(cell, other, "requests_per_s_rounds")
            if name == "haproxy":
                cell["cpu_vs_haproxy"] = ratio(cell, other, "balancer_cpu_us_per_request_rounds")

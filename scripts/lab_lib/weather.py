"""Bad weather on cables of the lab: what `--weather` asks for, and the program `weather` that makes it.

A cable with weather is two veth pairs: one from the network to the namespace `weather`, one from there to the host.
Each such cable has a process of its own, whose end A is the host's and whose end B is the network's.
"""

import json
import os
import subprocess
from dataclasses import dataclass

from .system import LabError, UsageError

BINARY = "weather"
# The program's own exit status for options that cannot be.
_WRONG_USAGE = 2
# Whose cables: role of the hosts, and, where it matters, the network they are in.
PLACES = {"clients": ("client", "clients"), "fabric": ("switch", "data"), "routed": ("backend", "routed")}
DEFAULT_PLACE = "clients"
_DIRECTIONS = {"from-host": "a-to-b", "to-host": "b-to-a", "both": "both"}
# Options of the program that may be given as KEY=VALUE; it checks their values itself.
_KEYS = ("loss", "duplicate", "reorder", "reorder-gap", "reorder-wait", "delay", "jitter", "match", "direction", "seed")


@dataclass(frozen=True)
class Forecast:
    """What weather to make: `options` of the program, by name."""

    seed: int
    options: dict
    place: str

    def argv(self, binary, number, host_end, network_end, stats):
        """The command line for the cable of that number: cables take seeds that follow each other."""
        options = [f"--{key}={value}" for key, value in self.options.items()]
        return [str(binary), "--a", host_end, "--b", network_end, "--seed", str(self.seed + number),
                "--stats", str(stats), *options]


def parse(text, place):
    """The Forecast of `loss=1%,delay=5ms,seed=7` at a place of PLACES."""
    if place not in PLACES:
        raise UsageError(f"weather at {place!r}: known are {', '.join(PLACES)}")
    options = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if key not in _KEYS or not equals or not value:
            raise UsageError(f"weather {part!r}: KEY=VALUE is needed, where KEY is one of {', '.join(_KEYS)}")
        if key in options:
            raise UsageError(f"weather: {key} is given twice")
        options[key] = value
    seed = options.pop("seed", "1")
    if not seed.isdecimal() or int(seed) >= 1 << 63:
        raise UsageError(f"weather: seed {seed!r} is no number below 2^63")
    if "direction" in options:
        if options["direction"] not in _DIRECTIONS:
            raise UsageError(f"weather: direction {options['direction']!r}: known are {', '.join(_DIRECTIONS)}")
        options["direction"] = _DIRECTIONS[options["direction"]]
    return Forecast(int(seed), options, place)


def ends(host):
    """The interfaces in the namespace `weather` that the cable of a host has: the host's end, the network's end."""
    return f"h-{host}", f"n-{host}"


def check_binary(bin_dir):
    """Refuse to start without the program."""
    if not os.access(bin_dir / BINARY, os.X_OK):
        raise LabError(f"{BINARY} not in {bin_dir}: run scripts/build (or give --bin-dir)")


def check_conditions(forecast, bin_dir):
    """Refuse what the program refuses. No interface has a name with a slash: that is where it ends if all else is good."""
    argv = forecast.argv(bin_dir / BINARY, 0, "/a", "/b", os.devnull)
    result = subprocess.run(argv, capture_output=True, text=True)
    if result.returncode == _WRONG_USAGE:
        raise UsageError(f"weather: {result.stderr.splitlines()[0].removeprefix('error: ').removeprefix('weather: ')}")


def report(stats):
    """What was counted on one cable, {"seed", "uptime_ms", "from_host": {...}, "to_host": {...}}; None before the first."""
    try:
        counted = json.loads(stats.read_text())
    except FileNotFoundError:
        return None
    return {**{key: counted[key] for key in ("seed", "uptime_ms")},
            "from_host": counted["a_to_b"], "to_host": counted["b_to_a"]}

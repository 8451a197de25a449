"""What experiments print: progress, tables, and which machine it was."""

import os
import platform
import signal
import subprocess
import time
from pathlib import Path

from .system import LabError

SCRIPTS = Path(__file__).resolve().parents[1]


class Progress:
    """Prints what is being done, with the time since the start."""

    def __init__(self):
        self._start = time.monotonic()

    def step(self, text):
        """The next thing begins."""
        print(f"\n[{time.monotonic() - self._start:5.0f} s] {text}", flush=True)

    def __call__(self, text):
        print(f"          {text}", flush=True)


def aligned(lines):
    """Rows of strings as text with columns set to the right, a rule under the first."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(value.rjust(width) for value, width in zip(line, widths)) for line in lines]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def machine():
    """Where and from which commit figures are, as plain data."""
    commit = subprocess.run(["git", "-C", SCRIPTS, "describe", "--always", "--dirty"], capture_output=True, text=True)
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {"commit": commit.stdout.strip() or None, "kernel": platform.release(), "cpus": os.cpu_count(),
            "cpu": models[0] if models else platform.machine()}


def machine_text(found):
    """The same, to stand under a table's title."""
    return (f"({found['cpus']} CPUs, {found['cpu']}, shared by clients, balancer and servers; Linux {found['kernel']}; "
            f"commit {found['commit']})")


def run_script(name, *arguments):
    """Run another program of this folder to its end, its output shown."""
    result = subprocess.run([SCRIPTS / name, *arguments])
    if result.returncode != 0:
        raise LabError(f"scripts/{name} failed (exit status {result.returncode})")


def leave_when_told():
    """Let SIGTERM and SIGHUP leave by way of the exception handlers, so that a lab is taken down."""
    def leave(number, _frame):
        raise SystemExit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)

"""Runs commands of the operating system and turns their failures into one exception."""

import os
import shlex
import subprocess
import time


class LabError(Exception):
    """Something the lab needs is missing, refused, or did not happen in time. The text is for the user."""


class UsageError(LabError):
    """What was asked for cannot be: nothing was tried, and nothing was made."""


def command(argv, *, stdin=None):
    """Run `argv`, return its standard output; raise LabError with its standard error if it fails."""
    try:
        result = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        raise LabError(f"command {argv[0]} not found: run scripts/install") from None
    if result.returncode != 0:
        reason = result.stderr.strip() or result.stdout.strip() or f"exit status {result.returncode}"
        raise LabError(f"{shlex.join(argv)}: {reason}")
    return result.stdout


def require_root():
    """Refuse early, in one clear sentence, what would fail later in many unclear ones."""
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces and loads BPF: run it as root")


def wait_until(condition, *, timeout_s, what, poll_s=0.05):
    """Poll `condition` until it returns something true, and return that. Raise LabError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise LabError(f"{what}: not within {timeout_s} s")
        time.sleep(poll_s)


def tail(path, lines=20):
    """The last lines of a log, or a remark that there is none."""
    try:
        with open(path, errors="replace") as log:
            text = log.readlines()
    except OSError:
        return f"(no log at {path})"
    return "".join(text[-lines:]).rstrip() or f"({path} is empty)"

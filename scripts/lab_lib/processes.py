"""Starts processes inside namespaces and ends exactly those, recognised by pid and start time."""

import os
import signal
import subprocess
import time
from pathlib import Path

from .network import inside
from .system import LabError, tail

TERM_GRACE_S = 5.0
KILL_GRACE_S = 5.0


def _stat_fields(pid):
    """The fields of /proc/<pid>/stat from the third (state) on, or None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _is_over(pid, fields):
    """Whether a process holds nothing any more. A leader is a zombie while its other threads still end."""
    if fields[0] not in "ZX":
        return False
    try:
        return len(os.listdir(f"/proc/{pid}/task")) <= 1
    except (FileNotFoundError, ProcessLookupError):
        return True


def start_time(pid):
    """When a process started, in clock ticks since boot; None if it is gone or a zombie."""
    fields = _stat_fields(pid)
    return int(fields[19]) if fields and not _is_over(pid, fields) else None


def group_members(leader_pid, leader_start):
    """Living processes of the group and session that a recorded process leads, the leader included.

    A pid is not given out again while a group of that number lives, so members are told from strangers by
    group, session, and having started no earlier than the leader.
    """
    members = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        fields = _stat_fields(entry)
        if fields and fields[2] == fields[3] == str(leader_pid) and int(fields[19]) >= leader_start \
                and not _is_over(entry, fields):
            members.append(int(entry))
    return sorted(members)


class Processes:
    """The processes of one lab, by name ("switch", "agent@backend1", "nginx@backend2")."""

    def __init__(self, state):
        self._state = state
        self._children = {}

    @property
    def _records(self):
        return self._state.data.get("processes", {})

    def start(self, name, host, namespace, argv, log_path, environment=None):
        """Start `argv` in a namespace as leader of a session of its own, output to `log_path`; record it."""
        if self.is_alive(name):
            raise LabError(f"{name} runs already (pid {self.pid(name)})")
        with open(log_path, "ab") as log:
            # nsenter executes argv in its own place, so this pid is the program's.
            child = subprocess.Popen(inside(namespace, argv), stdin=subprocess.DEVNULL, stdout=log,
                                     stderr=subprocess.STDOUT, start_new_session=True, cwd="/",
                                     env={**os.environ, **(environment or {})})
        self._children[name] = child
        self._records[name] = {"pid": child.pid, "start_time": start_time(child.pid) or 0, "host": host,
                               "argv": [str(a) for a in argv], "log": str(log_path)}
        self._state.save()

    def names(self):
        """Every recorded process, in the order they were started."""
        return list(self._records)

    def of_host(self, host):
        """name -> pid of a host's living processes."""
        return {name: record["pid"] for name, record in self._records.items()
                if record["host"] == host and self.is_alive(name)}

    def ended_of_host(self, host):
        """name -> log of a host's processes that ended without being told to."""
        return {name: record["log"] for name, record in self._records.items()
                if record["host"] == host and not self.is_alive(name)}

    def record(self, name):
        """What was recorded about a process."""
        if name not in self._records:
            raise LabError(f"{name} was not started in this lab")
        return self._records[name]

    def pid(self, name):
        """The pid of a recorded process, dead or alive."""
        return self.record(name)["pid"]

    def members(self, name):
        """The pids of a process and of those it started in its group (nginx's workers)."""
        record = self.record(name)
        return group_members(record["pid"], record["start_time"])

    def is_alive(self, name):
        """Whether the very process that was started still runs."""
        self._reap(name)
        record = self._records.get(name)
        return bool(record) and start_time(record["pid"]) == record["start_time"]

    def signal(self, name, number):
        """Send a signal to the leader only. Raises LabError if it is not running."""
        if not self.is_alive(name):
            raise LabError(f"{name} is not running; its log ends:\n{tail(self.record(name)['log'])}")
        os.kill(self.pid(name), number)

    def kill(self, name):
        """End a process and its group with SIGKILL and wait until all are gone."""
        for pid in self.members(name):
            _send(pid, signal.SIGKILL)
        if not self._wait_gone(name, KILL_GRACE_S):
            raise LabError(f"{name}: pids {self.members(name)} survive SIGKILL")
        self._forget(name)

    def stop(self, name, grace_s=TERM_GRACE_S):
        """End a process with SIGTERM, and what is left of its group after `grace_s` with SIGKILL.

        Returns whether SIGTERM was enough. Nothing happens to a process that is gone already.
        """
        if name not in self._records:
            return True
        if self.is_alive(name):
            _send(self.pid(name), signal.SIGTERM)
            in_time = self._wait_gone(name, grace_s)
        else:
            in_time = not self.members(name)
        if not in_time:
            self.kill(name)
            return False
        self._forget(name)
        return True

    def _wait_gone(self, name, seconds):
        deadline = time.monotonic() + seconds
        while True:
            self._reap(name)
            if not self.members(name):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)

    def _reap(self, name):
        child = self._children.get(name)
        if child is not None and child.poll() is not None:
            del self._children[name]

    def _forget(self, name):
        self._records.pop(name, None)
        self._state.save()


def _send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass

"""What a lab made, on disk: written before each thing is made, so that `down` finds it after any accident."""

import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path

from .system import LabError

RUN_ROOT = Path("/run/baton-lab")


class State:
    """The record of one lab (one prefix): its options, namespaces and processes."""

    def __init__(self, prefix):
        self.run_dir = RUN_ROOT / prefix
        self._file = self.run_dir / "state.json"
        self._lock_file = RUN_ROOT / f"{prefix}.lock"
        self.data = {}

    @contextmanager
    def locked(self):
        """Hold the lab's lock: one `up` or `down` of a prefix at a time."""
        RUN_ROOT.mkdir(mode=0o755, exist_ok=True)
        with open(self._lock_file, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LabError(f"another lab command is at work on this prefix ({self._lock_file})") from None
            yield

    def load(self):
        """Read the record. False if this lab left none."""
        try:
            self.data = json.loads(self._file.read_text())
        except FileNotFoundError:
            self.data = {}
        except ValueError as error:
            raise LabError(f"{self._file} is not readable as JSON ({error}); "
                           f"remove its namespaces and processes by hand, then the directory") from None
        return bool(self.data)

    def create(self, plan):
        """Begin a new record in a new run directory."""
        # 0755: nginx's workers run as www-data and read their files here. Secrets have modes of their own.
        self.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.chmod(self.run_dir, 0o755)
        self.data = {"prefix": plan.prefix, "options": plan.options, "phase": "starting",
                     "namespaces": {}, "processes": {}}
        self.save()

    def save(self):
        """Write the record, all of it or nothing."""
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(self.data, indent=1))
        os.replace(temporary, self._file)

    def forget(self):
        """The lab is gone: so is its record."""
        self.data = {}
        self._file.unlink(missing_ok=True)

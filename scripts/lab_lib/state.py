"""What a lab made, on disk: written before each thing is made, so that `down` finds it after any accident."""

import errno
import fcntl
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from .system import LabError

RUN_ROOT = Path("/run/baton-lab")
# What may outlive a lab so that a failure can be looked into: logs and configuration, and never the keys.
KEPT_SUFFIXES = (".log", ".toml", ".conf", ".cfg")
KEY_FILE = "keys.toml"


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
        lock = self._lock()
        try:
            yield
        finally:
            # Unlinked while it is held: who opened it meanwhile finds that it is no longer the one in the directory.
            self._lock_file.unlink(missing_ok=True)
            lock.close()
            _remove_if_empty(RUN_ROOT)

    def _lock(self):
        """The open lock file, once it is locked and still the one that others would open."""
        while True:
            RUN_ROOT.mkdir(mode=0o755, exist_ok=True)
            try:
                lock = open(self._lock_file, "w")
            except FileNotFoundError:
                continue  # another lab, the last one, just removed the directory
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock.fileno()), os.stat(self._lock_file)):
                    return lock
            except BlockingIOError:
                lock.close()
                raise LabError(f"another `up` or `down` of prefix {self.run_dir.name!r} is at work: try again when it "
                               f"is done ({self._lock_file})") from None
            except FileNotFoundError:
                pass
            lock.close()

    def load(self):
        """Read the record. False if this lab left none."""
        try:
            self.data = json.loads(self._file.read_text())
        except FileNotFoundError:
            self.data = {}
        except ValueError as error:
            raise LabError(f"{self._file} is not readable as JSON ({error}): end the processes in the namespaces "
                           f"{self.run_dir.name}-* (`ip netns pids NAME`), remove those (`ip netns delete NAME`), "
                           f"then {self.run_dir}") from None
        return bool(self.data)

    def create(self, plan):
        """Begin a new record in a new run directory; what an earlier lab left there goes."""
        self.remove_files()
        # 0755: nginx's workers run as www-data and read their files here. Secrets have modes of their own.
        self.run_dir.mkdir(mode=0o755, parents=True)
        os.chmod(self.run_dir, 0o755)
        self.data = {"prefix": plan.prefix, "options": plan.options, "phase": "starting",
                     "namespaces": {}, "processes": {}}
        self.save()

    def save(self):
        """Write the record, all of it or nothing."""
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(self.data, indent=1))
        os.replace(temporary, self._file)

    def forget(self, *, keep_logs=False):
        """The lab is gone: so are its record, its keys and its sockets, and all its files but logs to be kept."""
        self.data = {}
        if not keep_logs:
            self.remove_files()
            return
        # The record goes last: until then, `down` finds what there is to do.
        for directory, directories, files in os.walk(self.run_dir, topdown=False):
            for name in files:
                path = Path(directory, name)
                if path != self._file and (path.suffix not in KEPT_SUFFIXES or name == KEY_FILE):
                    path.unlink()
            for name in directories:
                _remove_if_empty(Path(directory, name))
        self._file.unlink(missing_ok=True)

    def remove_files(self):
        """Remove the run directory with all that is in it. Nothing happens where there is none."""
        if self.run_dir.is_dir():
            shutil.rmtree(self.run_dir)

    @property
    def has_files(self):
        """Whether there is a run directory: that of a lab, or logs that were kept."""
        return self.run_dir.is_dir()


def _remove_if_empty(directory):
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
            raise

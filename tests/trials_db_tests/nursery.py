"""The test's end of nursery_process.py."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

HERE = Path(__file__).parent


class Nursery:
    """Starts masters and workers, and kills what is left of them at the end.

    Args:
        url: The store.
        study: The study's name.
        folder: For the trials' files and `nursery.log`, which holds all that the processes say.
        lease_s: Of the trials.
    """

    def __init__(self, url: str, study: str, folder: Path, *, lease_s: float) -> None:
        self._arguments = [url, study, str(folder), str(lease_s)]
        self._log = folder / "nursery.log"
        self._pids: set[int] = set()

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "nursery_process.py"), *self._arguments],
                cwd="/",
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for pid in list(self._pids):
            self.kill(pid)
        self._process.communicate()

    @property
    def log(self) -> str:
        """All that the processes said."""
        return self._log.read_text()

    def start(self, role: str, *, max_trials: int = 0, death: str = "") -> int:
        """Start one; return its process."""
        pid = self._ask(f"{role} {max_trials} {death}")
        self._pids.add(pid)
        return pid

    def wait(self, pid: int) -> int:
        """Wait until it ends; return its exit status, minus the signal that ended it."""
        self._pids.remove(pid)
        return self._ask(f"wait {pid}")

    def kill(self, pid: int) -> int:
        """End it at once; return its exit status, another one where it had ended by itself."""
        os.kill(pid, signal.SIGKILL)
        return self.wait(pid)

    def has_ended(self, pid: int) -> bool:
        """Whether it has ended and was not waited for."""
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    def _ask(self, line: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self.log
        return int(answer)

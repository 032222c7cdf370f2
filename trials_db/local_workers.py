"""Worker processes that a master starts on its own machine, and keeps alive."""

import logging
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from trials_db.stopping import Stop

_log = logging.getLogger(__name__)

MAX_RESTARTS = 3
STOP_S = 20.0


class LocalWorkers:
    """Starts workers on entering the block, starts a dead one again, and stops all on leaving.

    A worker that dies more than `MAX_RESTARTS` times is not started again. Where none is left, nothing would ever be
    tried, so `failure` says why.

    Args:
        num_workers: How many.
        command: Program and arguments of one worker.
        environment: Variables of a worker besides those of this process. Secrets go here: a command line can be
            read by everyone on the machine.
    """

    def __init__(self, num_workers: int, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.failure: str | None = None
        self._num_workers = num_workers
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._restarts: dict[int, int] = {}

    def __enter__(self) -> Self:
        for slot in range(self._num_workers):
            self._restarts[slot] = 0
            self._start(slot)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        running = [process for process in self._processes.values() if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                _log.warning("worker %d does not stop; killing it", process.pid)
                process.kill()
                process.wait()

    def tend(self) -> bool:
        """Start dead workers again; return whether any is left, or none was wanted."""
        for slot, process in list(self._processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self._processes[slot]
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            if self._restarts[slot] == MAX_RESTARTS:
                self.failure = f"a worker {how} {MAX_RESTARTS + 1} times"
                _log.error("%s; it is not started again", self.failure)
                continue
            self._restarts[slot] += 1
            _log.warning("worker %d %s; starting another", process.pid, how)
            self._start(slot)
        return bool(self._processes) or not self._num_workers

    def _start(self, slot: int) -> None:
        # In a process group of its own, a worker learns of Ctrl-C from its master alone, and only once.
        self._processes[slot] = subprocess.Popen(self._command, env=self._environment, start_new_session=True)


class TendedStop:
    """A stop that is also set when no local worker is left; asking it tends the workers.

    Args:
        stop: Asks to stop.
        workers: Are tended.
    """

    def __init__(self, stop: Stop, workers: LocalWorkers) -> None:
        self._stop = stop
        self._workers = workers

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._stop.is_set() or not self._workers.tend()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until asked to stop, at most `timeout` seconds; return whether to stop."""
        return self._stop.wait(timeout)

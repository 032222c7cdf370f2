"""Worker processes that another one starts on its own machine, keeps alive, and takes with it when it ends."""

import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import psutil

from trials_db.records import WorkerRecord
from trials_db.stopping import DRAIN_SIGNAL, Stop

_log = logging.getLogger(__name__)

MAX_RESTARTS = 3
STOP_S = 20.0
LIFELINE_VARIABLE = "MAPGROVE_LIFELINE"
_POLL_S = 0.05
_CLOCKS_S = 1.0
"""What times of processes may be off by."""


@dataclass(frozen=True)
class Slot:
    """Where one worker runs.

    Attributes:
        options: Words of its command beside those of all.
        environment: Variables beside those of this process. Secrets go here: a command line can be read by everyone
            on the machine.
    """

    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class LocalWorkers:
    """Starts workers on entering the block, starts one again that was killed, and stops all on leaving.

    A worker that ended with an error of its own has told it, and would only tell it again: it is not started again,
    nor is one that was killed more than `MAX_RESTARTS` times. Where none is left, nothing would ever be tried, so
    `failure` says why. One that left without an error has done what it was asked for.

    The workers hold one end of a pipe, this process the other. However this process ends, the pipe is closed, and
    they stop by themselves; see `follow_master`.

    Args:
        command: Program and arguments of a worker.
        slots: One for each.
    """

    def __init__(self, command: Sequence[str], slots: Sequence[Slot]) -> None:
        self.failure: str | None = None
        self._command = list(command)
        self._slots = list(slots)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._restarts: dict[int, int] = {}
        self._lifeline = self._lifeline_of_workers = -1

    def __enter__(self) -> Self:
        self._lifeline_of_workers, self._lifeline = os.pipe()
        for slot in range(len(self._slots)):
            self._restarts[slot] = 0
            self._start(slot)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            os.kill(process.pid, signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_S
        for process in self._processes.values():
            while _exit_code(process) is None and time.monotonic() < deadline_s:
                time.sleep(_POLL_S)
            if process.returncode is None:
                _log.warning("worker %d does not stop; killing it", process.pid)
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        os.close(self._lifeline)
        os.close(self._lifeline_of_workers)

    def tend(self) -> bool:
        """Start killed workers again; return whether any is left, or none was wanted."""
        for slot, process in list(self._processes.items()):
            code = _exit_code(process)
            if code is None:
                continue
            del self._processes[slot]
            if code == 0:
                continue
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            if code > 0 or self._restarts[slot] == MAX_RESTARTS:
                self.failure = f"a worker {how}" + (f", after {self._restarts[slot]} restarts" if code < 0 else "")
                _log.error("%s; it is not started again", self.failure)
                continue
            self._restarts[slot] += 1
            _log.warning("worker %d %s; starting another", process.pid, how)
            self._start(slot)
        return bool(self._processes) or not self._slots

    def drain(self) -> None:
        """Let each worker end the trial that it runs, and leave."""
        for process in self._processes.values():
            os.kill(process.pid, DRAIN_SIGNAL)

    def _start(self, slot: int) -> None:
        # In a process group of its own, a worker learns of Ctrl-C from its master alone, and only once.
        self._processes[slot] = subprocess.Popen(
            [*self._command, *self._slots[slot].options],
            env={**os.environ, **self._slots[slot].environment, LIFELINE_VARIABLE: str(self._lifeline_of_workers)},
            pass_fds=[self._lifeline_of_workers],
            start_new_session=True,
        )


def follow_master(stop: threading.Event) -> bool:
    """Set `stop` when the master that started this process is gone, even where it was killed.

    Returns:
        Whether there is one; a worker that was started by hand has none, and nothing is done.
    """
    lifeline = os.environ.pop(LIFELINE_VARIABLE, None)
    if lifeline is None:
        return False
    threading.Thread(target=_wait_for_end, args=(int(lifeline), stop), daemon=True).start()
    return True


def is_gone(worker: WorkerRecord, now_s: float) -> bool:
    """Whether the process of a worker of this machine is surely no more; of those elsewhere nobody knows.

    Args:
        worker: As the store knows it.
        now_s: The store's time.
    """
    if worker.host != socket.gethostname():
        return False
    try:
        process = psutil.Process(worker.pid)
        age_s: float = time.time() - process.create_time()
        ended: bool = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
    # One that began after the worker was last heard of has got its number.
    return ended or age_s < now_s - worker.last_seen_s - _CLOCKS_S


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


def _wait_for_end(lifeline: int, stop: threading.Event) -> None:
    # Nobody ever writes: reading returns when the other end is closed.
    os.read(lifeline, 1)
    stop.set()
    _log.warning("the master is gone; stopping")


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a worker, None while it runs; what it left behind is ended."""
    if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        return None
    # Not waited for yet, its number still names its own process group and no other.
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait()

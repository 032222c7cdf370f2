"""A trial's process as its worker sees it: started, listened to, measured, ended."""

import logging
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from trials_db.child import Job, Message, run_trial
from trials_db.errors import WorkerError
from trials_db.stopping import STOP_SIGNALS, Stop

_log = logging.getLogger(__name__)

_GRACE_S = 5.0
_POLL_S = 0.1


def process_context(preload: Sequence[str], stop: Stop) -> ForkServerContext:
    """How trial processes are started: each is forked from a server that has imported `preload` and runs nothing.

    So a trial's memory is given back when it ends, and the framework is imported once. The list of the first call
    in a process holds for all. Returns when the server has imported everything, so that no claimed trial waits for
    it; or when `stop` is set, after ending a server that is still importing.

    Raises:
        WorkerError: The server died.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trials_db.child", *preload])
    with _modules_found_from_anywhere(), _stop_signals_held_back():
        forkserver.ensure_running()
    with futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(_first_process, context)
        while not futures.wait([answer], _POLL_S).done:
            if stop.is_set():
                # It would look up from its imports only after many seconds.
                _kill_server()
    error = answer.exception()
    if error is not None and not stop.is_set():
        raise WorkerError(
            f"The process that imports {', '.join(preload) or 'the modules'} for all trials died",
            remedy="Its own lines are above; `run_search.py doctor` checks the framework",
        ) from error
    return context


@contextmanager
def _modules_found_from_anywhere() -> Iterator[None]:
    """The server looks for modules where a bare `python` would; it must find ours from any current folder."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _stop_signals_held_back() -> Iterator[None]:
    """What is started in the block never sees the signals that a terminal or `timeout` sends to a worker's group.

    The server would die of them, and the trial with it, before the worker has handed it back.
    """
    # Starting it lets the signals through again, so it comes first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _first_process(context: ForkServerContext) -> None:
    """Start a process that does nothing: the server answers its first request when its imports are done."""
    first = context.Process(target=_do_nothing, name="warm-up")
    first.start()
    first.join()


def _do_nothing() -> None:
    """What the first process of a server runs."""


def _kill_server() -> None:
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


class TrialProcess:
    """One trial's process; leaving the `with` block ends it and all it started.

    Args:
        context: See `process_context`.
        job: What it runs.

    Raises:
        WorkerError: The process cannot be started.
    """

    def __init__(self, context: ForkServerContext, job: Job) -> None:
        self._messages, messages = context.Pipe(duplex=False)
        lifeline, self._lifeline = context.Pipe(duplex=False)
        self._process = context.Process(target=run_trial, args=(job, messages, lifeline), name=f"trial-{job.number}")
        try:
            self._process.start()
        except (OSError, EOFError, pickle.PicklingError) as error:
            self._close()
            raise WorkerError("A training process cannot be started", received=str(error)) from error
        finally:
            messages.close()
            lifeline.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._close()

    def receive(self, timeout_s: float) -> list[Message]:
        """Wait for messages; return those that came, none after `timeout_s` or when the process has ended."""
        received: list[Message] = []
        ready: list[Connection | int] = list(wait([self._messages, self._process.sentinel], timeout_s))  # type: ignore[arg-type]
        if not ready:
            return received
        try:
            while self._messages.poll():
                received.append(self._messages.recv())
        except (EOFError, OSError):
            # Its end is closed: it is about to leave, or was killed in the middle of a message.
            self._process.join(_GRACE_S)
        return received

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone; messages may still wait to be received."""
        return not self._process.is_alive()

    def memory_mb(self) -> float:
        """Resident memory of the process and all it started, in 10**6 bytes; 0 when it is gone."""
        try:
            parent = psutil.Process(self._process.pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0.0
        return sum(_resident_bytes(process) for process in family) / 1e6

    @property
    def was_killed(self) -> bool:
        """Whether a signal that no process can heed ended it."""
        return self._process.exitcode == -signal.SIGKILL

    def death(self) -> str:
        """How the process ended without telling, in words."""
        code = self._process.exitcode
        if code is None:
            return "the training process fell silent"
        if code >= 0:
            return f"the training process ended with exit code {code} and no outcome"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        hint = "; often the system being out of memory" if name == "SIGKILL" else ""
        return f"the training process was killed by signal {-code} ({name}){hint}"

    def kill(self) -> None:
        """End the process and all it started, at once."""
        pid = self._process.pid
        if pid is not None:
            try:
                # Its group outlives it where it started others.
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                _log.debug("process group %d is gone", pid)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def _close(self) -> None:
        self._messages.close()
        self._lifeline.close()


def oom_kills() -> int:
    """How many processes the system has killed for want of memory so far: those of our group, else of the machine."""
    for path in (*_cgroup_events(), Path("/proc/vmstat")):
        try:
            words = path.read_text().split()
        except OSError:
            continue
        if "oom_kill" in words:
            return int(words[words.index("oom_kill") + 1])
    return 0


def _cgroup_events() -> list[Path]:
    """Where version 2 of control groups counts what happened to ours."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    return [Path(f"/sys/fs/cgroup{line.removeprefix('0::')}/memory.events") for line in lines if line.startswith("0::")]


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0

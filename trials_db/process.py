"""A trial's process as its worker sees it: started, listened to, measured, ended."""

import logging
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from types import TracebackType
from typing import Self

import psutil

from trials_db.child import Job, Message, run_trial
from trials_db.errors import WorkerError

_log = logging.getLogger(__name__)

_GRACE_S = 5.0


def process_context(preload: Sequence[str]) -> ForkServerContext:
    """How trial processes are started: each is forked from a server that has imported `preload` and runs nothing.

    So a trial's memory is given back when it ends, and the framework is imported once. The list of the first call
    in a process holds for all. Returns when the server has imported everything, so that no claimed trial waits for it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trials_db.child", *preload])
    before = os.environ.get("PYTHONPATH")
    # The server looks for modules where a bare `python` would; it must find ours from any current folder.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    # The server answers its first request when its imports are done.
    first = context.Process(target=_do_nothing, name="warm-up")
    first.start()
    first.join()
    return context


def _do_nothing() -> None:
    """What the first process of a server runs."""


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


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0

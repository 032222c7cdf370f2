"""What runs in a trial's own process: the objective, with every way it may end told to the worker."""

import contextlib
import errno
import json
import logging
import math
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.errors import InfeasibleError, MalformedError, MapgroveError, UnableError, is_out_of_memory
from search_space.objective import EpochReport, Objective, Outcome
from search_space.task import Task
from trials_db.stopping import STOP_SIGNALS

_log = logging.getLogger(__name__)

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

_DISK_FAULTS = {
    errno.ENOSPC: "Make room on the disk (df shows it)",
    errno.EDQUOT: "Make room within your quota",
    errno.EIO: "Check the disk (dmesg may tell more)",
    errno.EROFS: "Mount the disk for writing",
    errno.ENOTCONN: "Mount the disk again",
    errno.ESTALE: "Mount the disk again",
}
"""What any trial would meet, by the number of the system's error, and what to do about it."""


class Job(NamedTuple):
    """What the worker sends to the trial's process.

    Attributes:
        objective: The pickled objective.
        candidate: The plain form of the candidate.
        number: The trial's number.
        seed: Seed of everything random in the trial.
        folder: The trial's folder.
        attempt: 1 for the first attempt.
        task: The plain form of what a retraining does with the candidate; None in a search.
    """

    objective: bytes
    candidate: dict[str, Any]
    number: int
    seed: int
    folder: Path
    attempt: int
    task: dict[str, Any] | None = None


class Message(NamedTuple):
    """What the trial's process tells the worker.

    Attributes:
        kind: "ready" (warmed up: from here on a silent death is the trial's fault), "report", "restored" (reports of
            an earlier attempt), "warning" (what does not end it), "outcome", "malformed" (a bug: the search stops), or
            "unable" (no trial can run here now), "full" (none, until there is room on its disk).
        body: An encoded `EpochReport` or `Outcome`, a list of reports, or a line of text.
    """

    kind: Literal["ready", "report", "restored", "warning", "outcome", "malformed", "unable", "full"]
    body: Any = None


@dataclass(frozen=True)
class ChildContext:
    """The surroundings that the objective sees; see `search_space.objective.TrialContext`.

    Attributes:
        number: The trial's number in its study.
        seed: Seed of everything random in the trial.
        folder: The trial's folder.
        pipe: Where reports go.
        task: What a retraining does with the candidate; None in a search.
    """

    number: int
    seed: int
    folder: Path
    pipe: Connection
    task: Task | None = None

    def report(self, report: EpochReport) -> None:
        """Record one epoch."""
        self.pipe.send(Message("report", encode(report)))

    def restored(self, reports: Sequence[EpochReport]) -> None:
        """Tell again of the epochs that an earlier attempt had."""
        self.pipe.send(Message("restored", [encode(report) for report in reports]))

    def warn(self, text: str) -> None:
        """Tell of what does not end the trial, in its log and by its worker."""
        _log.warning("%s", text)
        self.pipe.send(Message("warning", text))


def run_trial(job: Job, pipe: Connection, lifeline: Connection) -> None:
    """Run one trial and tell the worker; the entry point of the trial's process.

    Args:
        job: What to run.
        pipe: Where messages go.
        lifeline: Its other end lives as long as the worker; the process dies with it.
    """
    # A group of its own: Ctrl-C does not reach it, and processes it starts can be ended with it.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Inherited from the server, which is safe from them; processes that the objective starts must know them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    threading.Thread(target=_die_with, args=(lifeline,), daemon=True).start()
    _redirect_output(job)
    end = _run(job, pipe)
    # The worker ends this process on the last message, with whatever the objective left behind.
    with contextlib.suppress(OSError):
        # A full disk takes the last lines of the log; the outcome it shall not take.
        sys.stdout.flush()
        sys.stderr.flush()
    pipe.send(end)
    pipe.close()


def describe(error: BaseException) -> str:
    """One line: type, message and the innermost place."""
    message = " ".join(str(error).split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"


def _die_with(lifeline: Connection) -> None:
    try:
        lifeline.recv_bytes()
    except EOFError:
        # The worker is gone: nobody would read what the trial still does.
        os.killpg(0, signal.SIGKILL)


def _redirect_output(job: Job) -> None:
    """Send everything printed, also by libraries, to the trial's log."""
    with (job.folder / "log.txt").open("a") as log:
        log.write(f"--- attempt {job.attempt} ---\n")
        log.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")


def _run(job: Job, pipe: Connection) -> Message:
    try:
        objective: Objective = pickle.loads(job.objective)
        objective.warm_up()
    except BaseException as error:  # noqa: BLE001  (told to the worker, which raises it)
        _keep_traceback(job.folder)
        return Message("unable", str(error) if isinstance(error, MapgroveError) else describe(error))
    pipe.send(Message("ready"))
    try:
        candidate = decode(Candidate, job.candidate, where=f"trial {job.number}")
        task = None if job.task is None else decode(Task, job.task, where=f"the task of trial {job.number}")
        outcome = _checked(objective(candidate, ChildContext(job.number, job.seed, job.folder, pipe, task)))
    except MalformedError as error:
        _keep_traceback(job.folder)
        return Message("malformed", str(error))
    except BaseException as error:  # noqa: BLE001  (recorded as the trial's end)
        if met_by_any := _met_by_any(error):
            _keep_traceback(job.folder)
            return met_by_any
        outcome = _outcome_of(error)
        if outcome.state == "failed":
            _keep_traceback(job.folder)
    return Message("outcome", encode(outcome))


def _checked(returned: Any) -> Outcome:
    """Refuse what is no outcome, also one that was made past its checks."""
    if not isinstance(returned, Outcome):
        raise TypeError(f"the objective returned {type(returned).__name__}, not an Outcome")
    if returned.loss is not None and not math.isfinite(returned.loss):
        return Outcome(state="failed", reason=f"the loss is {returned.loss}")
    return Outcome.model_validate(dict(returned))


def _met_by_any(error: BaseException | None) -> Message | None:
    """What tells that no other trial would fare better here now; None where the error is the trial's own.

    The outermost error that says so gives the reason; one that a full disk caused, however deep, ends with the room.
    """
    reason, is_full = "", False
    while error is not None:
        if isinstance(error, UnableError):
            reason = reason or str(error)
        elif isinstance(error, OSError) and error.errno in _DISK_FAULTS:
            reason = reason or f"{describe(error)}. {_DISK_FAULTS[error.errno]}"
            is_full = is_full or error.errno in FULL_DISK
        error = error.__cause__
    return Message("full" if is_full else "unable", reason) if reason else None


def _outcome_of(error: BaseException) -> Outcome:
    """The end of a trial whose objective raised."""
    if isinstance(error, InfeasibleError):
        return Outcome(state="infeasible", reason=str(error))
    if is_out_of_memory(error):
        return Outcome(state="infeasible", reason=f"memory: {describe(error)}")
    if isinstance(error, ValidationError):
        for problem in error.errors(include_url=False):
            if problem["type"] == "finite_number":
                name = ".".join(str(part) for part in problem["loc"]).replace("_", " ")
                return Outcome(state="failed", reason=f"the {name} is {problem['input']}")
    return Outcome(state="failed", reason=describe(error))


def _keep_traceback(folder: Path) -> None:
    try:
        (folder / "traceback.txt").write_text(traceback.format_exc())
    except OSError as error:
        # The folder may be what is at fault; the worker is told all the same.
        _log.warning("%s", error)


def write_plain(path: Path, plain: dict[str, Any]) -> None:
    """Write what is tried into the trial's folder, for people to read, whole or not at all."""
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_text(json.dumps(plain, indent=2) + "\n")
    beside.replace(path)

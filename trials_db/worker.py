"""The worker: claims trials and watches over the process that runs each."""

import logging
import os
import pickle
import socket
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from search_space.candidate import Candidate
from search_space.decode import Frozen, Whole, decode
from search_space.errors import MalformedError
from search_space.objective import EpochReport, Objective, Outcome
from trials_db.artifacts import FolderArtifacts
from trials_db.child import Job, write_candidate
from trials_db.errors import LeaseLostError, StoreError, WorkerError
from trials_db.keeping import Keeper, Keeping
from trials_db.process import TrialProcess, oom_kills, process_context
from trials_db.pruning import Pruning
from trials_db.reaping import Reaper
from trials_db.records import Claim, StudyRecord, WorkerRecord
from trials_db.stopping import Stop
from trials_db.store import TrialStore, check_same_study

_log = logging.getLogger(__name__)

POLL_S = 0.2
FIND_S = 10.0
"""How often a worker looks for further studies."""

HAND_BACK_S = 10.0
"""How long a worker that was asked to stop takes for sending the checkpoint of its trial."""

_SIGNAL_S = 0.5
_MEMORY_POLL_S = 0.1


class WorkerLimits(Frozen):
    """What a worker grants a trial, and how often it must be heard of.

    Attributes:
        lease_s: A worker that is silent for longer loses its trial; it tells of itself three times as often.
        trial_s: A trial that takes longer has failed; 0 for no limit.
        stuck_s: A trial that tells nothing for so long has failed; 0 for no limit.
        trial_memory_mb: A trial whose processes hold more, in 10**6 bytes, is infeasible; 0 for no limit.
    """

    lease_s: Annotated[float, Field(gt=0.0)] = 60.0
    trial_s: Annotated[float, Field(ge=0.0)] = 0.0
    stuck_s: Annotated[float, Field(ge=0.0)] = 0.0
    trial_memory_mb: Annotated[Whole, Field(ge=0)] = 0


OnEnd = Callable[[str, int, Outcome], None]


@dataclass(frozen=True)
class Assignment:
    """One study that a worker serves.

    Attributes:
        study: The study as this process knows it; space, data and seed must be those of the stored one.
        objective: What is run for each trial; it must be picklable.
        folder: The study's folder; each trial gets `trials/0007/` in it, with `candidate.json` and `log.txt`, and
            `traceback.txt` where it failed.
        limits: Time, memory and lease.
        pruning: Which trials end early; None for none.
        keeping: What is kept of trials; None for nothing.
    """

    study: StudyRecord
    objective: Objective
    folder: Path
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    pruning: Pruning | None = None
    keeping: Keeping | None = None

    @property
    def kept(self) -> Keeping:
        """What is kept of trials."""
        here = FolderArtifacts(self.folder / "artifacts", carries_checkpoints=False)
        return self.keeping or Keeping(here, num_models=0)

    def trial_folder(self, number: int) -> Path:
        """Where a trial's files go."""
        return self.folder.resolve() / "trials" / f"{number:04d}"


@dataclass
class Worker:
    """Runs trials, one at a time, each in a process of its own; of several studies in turn.

    Args:
        store: Where the studies are; the worker uses it alone.
        assignments: The studies, at least one.
        name: Its name, unique in each study.
        preload: Modules that are imported once for all trials, such as the framework.
        find_more: Asked between trials for studies that have come meanwhile.
        device: What it computes on, for others to read.
    """

    store: TrialStore
    assignments: Sequence[Assignment]
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    preload: Sequence[str] = ()
    find_more: Callable[[], Sequence[Assignment]] = lambda: ()
    device: str = ""
    _served: list[Assignment] = field(default_factory=list, init=False)
    _reaper: Reaper = field(init=False)
    _stop: Stop = field(default_factory=threading.Event, init=False)
    _turn: int = field(default=0, init=False)
    _seen_at_s: float = field(default=float("-inf"), init=False)

    def run(
        self,
        stop: Stop,
        *,
        drain: Stop | None = None,
        max_trials: int | None = None,
        idle_exit_s: float | None = None,
        on_end: OnEnd = lambda *_: None,
    ) -> int:
        """Run trials until `stop` is set; a trial that is running then is handed back.

        Args:
            stop: Asks to stop at once.
            drain: Asks to stop after the trial that is running.
            max_trials: Leave after this many trials.
            idle_exit_s: Leave after so long without a trial; None waits for ever.
            on_end: Called with the study, the number and the outcome of every trial that ended here, in this thread.

        Returns:
            How many trials ended here.

        Raises:
            StudyConflictError: A stored study is another one; the difference is named.
            MalformedError: A candidate or the objective is malformed: a bug. The trial has failed.
            WorkerError: No trial of any study can run here now: the framework cannot be imported, the data cannot be
                opened or the disk is full. The trial was handed back.
            StoreError: The store failed.
        """
        self._stop = stop
        self._reaper = Reaper(self.store)
        self.store.heed(stop)
        for assignment in self.assignments:
            self._serve(assignment)
        # Of workers that start together, not all begin with the same study.
        self._turn = zlib.crc32(self.name.encode())
        context = process_context(self.preload, stop)
        num_ended, idle_since_s, looked_at_s = 0, time.monotonic(), time.monotonic()
        drain = drain or threading.Event()
        try:
            while not (stop.is_set() or drain.is_set()) and (max_trials is None or num_ended < max_trials):
                self._heartbeat(None)
                if time.monotonic() - looked_at_s >= FIND_S:
                    for assignment in self.find_more():
                        self._serve(assignment)
                    looked_at_s = time.monotonic()
                found = self._claim()
                if found is not None:
                    assignment, claim = found
                    outcome = self._attempt(assignment, claim, context, stop)
                    if outcome is not None:
                        num_ended += 1
                        on_end(claim.study, claim.number, outcome)
                    idle_since_s = time.monotonic()
                elif self._take_from_silent():
                    continue
                elif idle_exit_s is not None and time.monotonic() - idle_since_s >= idle_exit_s:
                    break
                else:
                    _wait(POLL_S, stop, drain)
        finally:
            for assignment in self._served:
                self.store.forget_worker(assignment.study.name, self.name)
        return num_ended

    @property
    def _lease_s(self) -> float:
        return min(assignment.limits.lease_s for assignment in self._served)

    def _serve(self, assignment: Assignment) -> None:
        stored = self.store.load_study(assignment.study.name)
        # Settings such as the number of trials may have been changed since this process read them.
        check_same_study(stored, assignment.study.model_copy(update={"settings": stored.settings}))
        assignment.kept.artifacts.heed(self._stop)
        self._reaper.watch(assignment.study.name, assignment.limits.lease_s)
        self._served.append(assignment)

    def _claim(self) -> tuple[Assignment, Claim] | None:
        """A trial of the study whose turn it is, or of the next one that has any."""
        for place in range(self._turn, self._turn + len(self._served)):
            assignment = self._served[place % len(self._served)]
            claim = self.store.claim(assignment.study.name, self.name, assignment.limits.lease_s)
            if claim is not None:
                self._turn = place + 1
                return assignment, claim
        return None

    def _take_from_silent(self) -> bool:
        return bool([number for each in self._served for number in self._reaper.look(each.study.name)])

    def _attempt(self, assignment: Assignment, claim: Claim, context: ForkServerContext, stop: Stop) -> Outcome | None:
        """Run a claimed trial; return its outcome, None where it was handed back or lost."""
        told = self._told(claim)
        _log.info("%s: attempt %d", told, claim.attempt)
        keeper = Keeper(assignment.kept, self.store, claim, assignment.trial_folder(claim.number))

        def renew() -> None:
            if self._heartbeat(claim):
                self.store.renew(claim)

        try:
            self._heartbeat(claim, at_once=True)
            if damage := _damage(claim):
                self.store.finish(claim, damage)
                _log.error("%s: %s", told, damage.reason)
                return damage
            job = _job(assignment, claim, keeper, renew)
            with TrialProcess(context, job) as process:
                outcome = _Watch(self, assignment, claim, process, keeper).until_end(stop)
            if outcome is None:
                keeper.hand_back(HAND_BACK_S, renew)
                self._hand_back(claim)
                return None
            keeper.before_end(outcome, renew)
            self.store.finish(claim, outcome)
        except LeaseLostError as error:
            _log.warning("%s", error)
            keeper.abandon()
            return None
        except MalformedError as error:
            self.store.finish(claim, Outcome(state="failed", reason=f"malformed: {error}"))
            raise
        except StoreError:
            # Nothing can be handed back to a store out of reach; the lease runs out by itself.
            raise
        except WorkerError as error:
            self._hand_back(claim)
            if len(self._served) == 1:
                raise
            self._served.remove(assignment)
            self._reaper.forget(assignment.study.name)
            self.store.forget_worker(claim.study, self.name)
            _log.error("%s no longer serves %s: %s", self.name, claim.study, error)
            return None
        except BaseException:
            # Whatever else goes wrong here is not the trial's fault.
            self._hand_back(claim)
            raise
        finally:
            self._seen_at_s = float("-inf")
        keeper.after_end()
        _log.info("%s: %s", told, outcome.reason or f"loss {outcome.loss:.4f}")
        return outcome

    def _hand_back(self, claim: Claim) -> None:
        try:
            self.store.release(claim)
        except LeaseLostError as error:
            _log.warning("%s", error)
        else:
            _log.info("%s: handed back", self._told(claim))

    def _told(self, claim: Claim) -> str:
        """A trial in words; with its study where there are several."""
        return f"trial {claim.number}" + (f" of {claim.study}" if len(self._served) > 1 else "")

    def _heartbeat(self, claim: Claim | None, *, memory_mb: float = 0.0, at_once: bool = False) -> bool:
        """Tell the store that the worker lives if it is time; return whether it was."""
        if not at_once and time.monotonic() - self._seen_at_s < self._lease_s / 3:
            return False
        self._seen_at_s = time.monotonic()
        for assignment in self._served:
            name = assignment.study.name
            record = WorkerRecord(
                name=self.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                study=name,
                trial=claim.number if claim and claim.study == name else None,
                elsewhere=claim.study if claim and claim.study != name else "",
                device=self.device,
                memory_mb=memory_mb,
            )
            self.store.heartbeat(record)
        return True


def _damage(claim: Claim) -> Outcome | None:
    """The end of a trial whose candidate is none: the master stored one, so this happened to it in the store."""
    try:
        decode(Candidate, claim.candidate, where="damaged in the store: its candidate")
    except MalformedError as error:
        return Outcome(state="failed", reason=error.what)
    return None


def _job(assignment: Assignment, claim: Claim, keeper: Keeper, renew: Callable[[], None]) -> Job:
    folder = assignment.trial_folder(claim.number)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "traceback.txt").unlink(missing_ok=True)
        write_candidate(folder, claim.candidate)
        keeper.begin(renew)
    except OSError as error:
        raise WorkerError(
            f"The trial's folder {folder} cannot be written",
            received=str(error),
            remedy="Check free space (df) and rights there; the trial was handed back",
        ) from error
    objective = pickle.dumps(assignment.objective)
    return Job(objective, claim.candidate, claim.number, claim.seed, folder, claim.attempt)


def _wait(seconds: float, stop: Stop, drain: Stop) -> None:
    """Until either is set, looking at one of them in turns."""
    end_s = time.monotonic() + seconds
    while not drain.is_set() and not stop.wait(min(seconds, 0.05)) and time.monotonic() < end_s:
        pass


class _Watch:
    """Watches one trial's process to its end."""

    def __init__(
        self, worker: Worker, assignment: Assignment, claim: Claim, process: TrialProcess, keeper: Keeper
    ) -> None:
        self._worker = worker
        self._assignment = assignment
        self._claim = claim
        self._process = process
        self._keeper = keeper
        self._started_s = self._heard_s = time.monotonic()
        self._oom_kills = oom_kills()
        self._poll_s = min(_MEMORY_POLL_S if assignment.limits.trial_memory_mb else POLL_S, worker._lease_s / 4)
        self._is_warm = False

    def until_end(self, stop: Stop) -> Outcome | None:
        """Return how the trial ended, None where `stop` came first.

        Raises:
            LeaseLostError: The trial was taken away.
            MalformedError: The objective found something malformed.
            WorkerError: The process could not warm up, or met what any other trial would meet.
        """
        while not stop.is_set():
            self._worker._reaper.stay_awake()
            # Asked first: what was sent before the end is then received below.
            has_ended = self._process.has_ended
            for message in self._process.receive(0.0 if has_ended else self._poll_s):
                self._heard_s = time.monotonic()
                outcome = self._hear(message.kind, message.body)
                if outcome is not None:
                    return outcome
            if has_ended:
                # Where a signal is sent to all processes at once, the trial may die of it before `stop` is set.
                return None if stop.wait(_SIGNAL_S) else self._death()
            if self._worker._heartbeat(self._claim, memory_mb=round(self._process.memory_mb())):
                self._worker.store.renew(self._claim)
            over = self._over_limits()
            if over is not None:
                return over
        return None

    def _hear(self, kind: str, body: object) -> Outcome | None:
        where = f"trial {self._claim.number}"
        match kind, body:
            case "ready", _:
                self._is_warm = True
            case "report", dict():
                return self._take(decode(EpochReport, body, where=f"a report of {where}"))
            case "restored", list():
                # Not judged again: by now others may have left it behind.
                for each in body:
                    self._worker.store.report(self._claim, decode(EpochReport, each, where=f"a report of {where}"))
            case "outcome", dict():
                return decode(Outcome, body, where=f"the outcome of {where}")
            case "malformed", _:
                raise MalformedError(str(body))
            case _:
                raise self._unable(str(body))
        return None

    def _take(self, report: EpochReport) -> Outcome | None:
        """Record an epoch; return the trial's end where others do better."""
        store, pruning = self._worker.store, self._assignment.pruning
        store.report(self._claim, report)
        self._keeper.after_report()
        reason = pruning.judge(store, self._claim, report.epoch) if pruning else ""
        return Outcome(state="pruned", reason=reason) if reason else None

    def _over_limits(self) -> Outcome | None:
        limits, now_s = self._assignment.limits, time.monotonic()
        if limits.trial_s and now_s - self._started_s > limits.trial_s:
            return self._fault("failed", f"over its time limit of {limits.trial_s:g} s")
        if limits.stuck_s and now_s - self._heard_s > limits.stuck_s:
            return self._fault("failed", f"stuck: no report for {limits.stuck_s:g} s")
        if limits.trial_memory_mb:
            used_mb = self._process.memory_mb()
            if used_mb > limits.trial_memory_mb:
                return self._fault("infeasible", f"memory: used {used_mb:.0f} MB of {limits.trial_memory_mb} MB")
        return None

    def _death(self) -> Outcome:
        """The end of a trial whose process ended without telling."""
        if self._process.was_killed and oom_kills() > self._oom_kills:
            return self._fault("infeasible", "memory: killed by the system, which had no more")
        return self._fault("failed", self._process.death())

    def _fault(self, state: Literal["failed", "infeasible"], reason: str) -> Outcome:
        """The trial's end; or, before the process was warm, the worker's: no trial would fare better."""
        if not self._is_warm:
            raise self._unable(reason)
        return Outcome(state=state, reason=reason)

    def _unable(self, reason: str) -> WorkerError:
        folder = self._assignment.trial_folder(self._claim.number)
        return WorkerError(
            f"Training cannot {'go on' if self._is_warm else 'start'} here: {reason}",
            remedy=f"The trial was handed back; log.txt in {folder} may tell more",
        )

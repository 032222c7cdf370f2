"""The worker: claims trials and watches over the process that runs each."""

import logging
import os
import pickle
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from search_space.candidate import Candidate
from search_space.decode import Frozen, Whole, decode
from search_space.errors import MalformedError
from search_space.objective import CHECKPOINT_FILE, EpochReport, Objective, Outcome
from trials_db.child import Job, write_candidate
from trials_db.errors import LeaseLostError, StoreError, WorkerError
from trials_db.process import TrialProcess, oom_kills, process_context
from trials_db.pruning import Pruning
from trials_db.records import Claim, StudyRecord, WorkerRecord
from trials_db.stopping import AwakeGuard, Stop
from trials_db.store import TrialStore, check_same_study

_log = logging.getLogger(__name__)

POLL_S = 0.2
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


OnEnd = Callable[[int, Outcome], None]


@dataclass
class Worker:
    """Runs trials of one study, one at a time, each in a process of its own.

    Args:
        store: Where the study is; the worker uses it alone.
        study: The study as this process knows it; space, data and seed must be those of the stored one.
        objective: What is run for each trial; it must be picklable.
        folder: The study's folder; each trial gets `trials/0007/` in it, with `candidate.json` and `log.txt`, and
            `traceback.txt` where it failed.
        limits: Time, memory and lease.
        name: Its name, unique in the study.
        preload: Modules that are imported once for all trials, such as the framework.
        pruning: Which trials end early; None for none.
    """

    store: TrialStore
    study: StudyRecord
    objective: Objective
    folder: Path
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    preload: Sequence[str] = ()
    pruning: Pruning | None = None
    _seen_at_s: float = field(default=float("-inf"), init=False)

    def run(
        self,
        stop: Stop,
        *,
        max_trials: int | None = None,
        idle_exit_s: float | None = None,
        on_end: OnEnd = lambda *_: None,
    ) -> int:
        """Run trials until `stop` is set; a trial that is running then is handed back.

        Args:
            stop: Asks to stop.
            max_trials: Leave after this many trials.
            idle_exit_s: Leave after so long without a trial; None waits for ever.
            on_end: Called with the number and the outcome of every trial that ended here, in this thread.

        Returns:
            How many trials ended here.

        Raises:
            StudyConflictError: The stored study is another one; the difference is named.
            MalformedError: A candidate or the objective is malformed: a bug. The trial has failed.
            WorkerError: No trial can run here now: the framework cannot be imported, the data cannot be opened or the
                disk is full. The trial was handed back.
            StoreError: The store failed.
        """
        self.store.heed(stop)
        stored = self.store.load_study(self.study.name)
        # Settings such as the number of trials may have been changed since this process read them.
        check_same_study(stored, self.study.model_copy(update={"settings": stored.settings}))
        context = process_context(self.preload, stop)
        guard = AwakeGuard(self.limits.lease_s)
        num_ended, idle_since_s = 0, time.monotonic()
        try:
            while not stop.is_set() and (max_trials is None or num_ended < max_trials):
                self._heartbeat(None)
                claim = self.store.claim(self.study.name, self.name, self.limits.lease_s)
                if claim is not None:
                    outcome = self._attempt(claim, context, stop)
                    if outcome is not None:
                        num_ended += 1
                        on_end(claim.number, outcome)
                    idle_since_s = time.monotonic()
                    guard = AwakeGuard(self.limits.lease_s)
                elif guard.may_judge() and self.store.requeue_expired(self.study.name):
                    continue
                elif idle_exit_s is not None and time.monotonic() - idle_since_s >= idle_exit_s:
                    break
                else:
                    stop.wait(POLL_S)
        finally:
            self.store.forget_worker(self.study.name, self.name)
        return num_ended

    def _attempt(self, claim: Claim, context: ForkServerContext, stop: Stop) -> Outcome | None:
        """Run a claimed trial; return its outcome, None where it was handed back or lost."""
        _log.info("trial %d: attempt %d", claim.number, claim.attempt)
        try:
            self._heartbeat(claim.number, at_once=True)
            with TrialProcess(context, self._job(claim)) as process:
                outcome = _Watch(self, claim, process).until_end(stop)
            if outcome is None:
                self._hand_back(claim)
                return None
            self.store.finish(claim, outcome)
        except LeaseLostError as error:
            _log.warning("%s", error)
            return None
        except MalformedError as error:
            self.store.finish(claim, Outcome(state="failed", reason=f"malformed: {error}"))
            raise
        except StoreError:
            # Nothing can be handed back to a store out of reach; the lease runs out by itself.
            raise
        except BaseException:
            # Whatever else goes wrong here is not the trial's fault.
            self._hand_back(claim)
            raise
        finally:
            self._seen_at_s = float("-inf")
        (self._trial_folder(claim) / CHECKPOINT_FILE).unlink(missing_ok=True)
        _log.info("trial %d: %s", claim.number, outcome.reason or f"loss {outcome.loss:.4f}")
        return outcome

    def _job(self, claim: Claim) -> Job:
        decode(Candidate, claim.candidate, where=f"trial {claim.number}")
        folder = self._trial_folder(claim)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "traceback.txt").unlink(missing_ok=True)
            write_candidate(folder, claim.candidate)
        except OSError as error:
            raise WorkerError(
                f"The trial's folder {folder} cannot be written",
                received=str(error),
                remedy="Check free space (df) and rights there; the trial was handed back",
            ) from error
        objective = pickle.dumps(self.objective)
        return Job(objective, claim.candidate, claim.number, claim.seed, folder, claim.attempt)

    def _trial_folder(self, claim: Claim) -> Path:
        return self.folder.resolve() / "trials" / f"{claim.number:04d}"

    def _hand_back(self, claim: Claim) -> None:
        try:
            self.store.release(claim)
        except LeaseLostError as error:
            _log.warning("%s", error)
        else:
            _log.info("trial %d: handed back", claim.number)

    def _heartbeat(self, trial: int | None, *, at_once: bool = False) -> bool:
        """Tell the store that the worker lives if it is time; return whether it was."""
        if not at_once and time.monotonic() - self._seen_at_s < self.limits.lease_s / 3:
            return False
        self._seen_at_s = time.monotonic()
        record = WorkerRecord(
            name=self.name, host=socket.gethostname(), pid=os.getpid(), study=self.study.name, trial=trial
        )
        self.store.heartbeat(record)
        return True


class _Watch:
    """Watches one trial's process to its end."""

    def __init__(self, worker: Worker, claim: Claim, process: TrialProcess) -> None:
        self._worker = worker
        self._claim = claim
        self._process = process
        self._started_s = self._heard_s = time.monotonic()
        self._oom_kills = oom_kills()
        self._poll_s = min(_MEMORY_POLL_S if worker.limits.trial_memory_mb else POLL_S, worker.limits.lease_s / 4)
        self._is_warm = False

    def until_end(self, stop: Stop) -> Outcome | None:
        """Return how the trial ended, None where `stop` came first.

        Raises:
            LeaseLostError: The trial was taken away.
            MalformedError: The objective found something malformed.
            WorkerError: The process could not warm up, or met what any other trial would meet.
        """
        while not stop.is_set():
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
            if self._worker._heartbeat(self._claim.number):
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
            case "outcome", dict():
                return decode(Outcome, body, where=f"the outcome of {where}")
            case "malformed", _:
                raise MalformedError(str(body))
            case _:
                raise self._unable(str(body))
        return None

    def _take(self, report: EpochReport) -> Outcome | None:
        """Record an epoch; return the trial's end where others do better."""
        store, pruning = self._worker.store, self._worker.pruning
        store.report(self._claim, report)
        reason = pruning.judge(store, self._claim, report.epoch) if pruning else ""
        return Outcome(state="pruned", reason=reason) if reason else None

    def _over_limits(self) -> Outcome | None:
        limits, now_s = self._worker.limits, time.monotonic()
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
        folder = self._worker._trial_folder(self._claim)
        return WorkerError(
            f"Training cannot {'go on' if self._is_warm else 'start'} here: {reason}",
            remedy=f"The trial was handed back; log.txt in {folder} may tell more",
        )

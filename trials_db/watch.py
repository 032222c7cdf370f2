"""How a worker watches over the process that runs a trial."""

import logging
import time
from collections.abc import Callable
from typing import Literal

from search_space.decode import decode
from search_space.errors import MalformedError
from search_space.objective import EpochReport, Outcome
from trials_db.assignment import Assignment
from trials_db.errors import NoRoomError, WorkerError
from trials_db.keeping import Keeper
from trials_db.process import TrialProcess, oom_kills
from trials_db.pruning import Judging
from trials_db.records import Claim
from trials_db.stopping import Stop
from trials_db.store import TrialStore

_log = logging.getLogger(__name__)

Alive = Callable[[Callable[[], float]], None]

POLL_S = 0.2

_SIGNAL_S = 0.5
_MEMORY_POLL_S = 0.1


class Watch:
    """Watches one trial's process to its end.

    Args:
        store: Where the trial is.
        assignment: Its study.
        claim: The attempt.
        process: What runs it.
        keeper: Keeps its files.
        alive: Called with how to measure the trial's memory, at every look: renews the lease when it is time.
        lease_s: How often at least.
    """

    def __init__(
        self,
        store: TrialStore,
        assignment: Assignment,
        claim: Claim,
        process: TrialProcess,
        keeper: Keeper,
        alive: Alive,
        lease_s: float,
    ) -> None:
        self._store = store
        self._assignment = assignment
        self._claim = claim
        self._process = process
        self._keeper = keeper
        self._alive = alive
        self._started_s = self._heard_s = time.monotonic()
        self._oom_kills = oom_kills()
        self._poll_s = min(_MEMORY_POLL_S if assignment.limits.trial_memory_mb else POLL_S, lease_s / 4)
        self._is_warm = False
        self._judging = Judging(assignment.pruning) if assignment.pruning else None

    def until_end(self, stop: Stop) -> Outcome | None:
        """Return how the trial ended, None where `stop` came first.

        Raises:
            LeaseLostError: The trial was taken away.
            MalformedError: The objective found something malformed.
            WorkerError: The process could not warm up, or met what any other trial would meet.
            NoRoomError: It met a full disk.
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
            self._alive(self._process.memory_mb)
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
                    report = decode(EpochReport, each, where=f"a report of {where}")
                    self._store.report(self._claim, report)
                    if self._judging:
                        self._judging.is_scored |= report.mean_jaccard is not None
            case "warning", _:
                _log.warning("%s: %s", where, body)
            case "outcome", dict():
                return decode(Outcome, body, where=f"the outcome of {where}")
            case "malformed", _:
                raise MalformedError(str(body))
            case "full", _:
                raise self._unable(str(body), NoRoomError)
            case _:
                raise self._unable(str(body))
        return None

    def _take(self, report: EpochReport) -> Outcome | None:
        """Record an epoch; return the trial's end where others do better."""
        store, judging = self._store, self._judging
        store.report(self._claim, report)
        self._keeper.after_report()
        is_due = judging is not None and judging.is_due(report)
        reason = judging.pruning.judge(store, self._claim, report.epoch) if judging and is_due else ""
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

    def _unable(self, reason: str, kind: type[WorkerError] = WorkerError) -> WorkerError:
        folder = self._assignment.trial_folder(self._claim.number)
        return kind(
            f"Training cannot {'go on' if self._is_warm else 'start'} here: {reason}",
            remedy=f"The trial was handed back; log.txt in {folder} may tell more",
        )

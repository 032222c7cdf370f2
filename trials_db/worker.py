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

from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.errors import MalformedError
from search_space.objective import Outcome
from search_space.study import LONGEST_LEASE_S
from search_space.task import Task
from trials_db.assignment import Assignment
from trials_db.child import FULL_DISK, Job, write_plain
from trials_db.errors import LeaseLostError, NoRoomError, StoreError, WorkerError
from trials_db.keeping import Keeper
from trials_db.process import TrialProcess, process_context
from trials_db.reaping import Reaper
from trials_db.records import Claim, WorkerRecord
from trials_db.stopping import Stop
from trials_db.store import TrialStore, check_same_study
from trials_db.watch import POLL_S, Watch

_log = logging.getLogger(__name__)

FIND_S = 10.0
"""How often a worker looks for further studies."""

HAND_BACK_S = 10.0
"""How long a worker that was asked to stop takes for sending the checkpoint of its trial."""

PATIENCE_S = 600.0
"""How long trials may meet a full disk before the worker leaves."""

FULL_WAIT_S = 5.0
LONGEST_FULL_WAIT_S = 60.0
"""So long it waits for room before it tries again: at first, and at last."""

OnEnd = Callable[[str, int, Outcome], None]


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
    _full_since_s: float | None = field(default=None, init=False)
    _full_wait_s: float = field(default=FULL_WAIT_S, init=False)
    _full_at_s: float = field(default=float("-inf"), init=False)

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
        return min(LONGEST_LEASE_S, *(assignment.limits.lease_s for assignment in self._served))

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
            claim = self.store.claim(assignment.study.name, self.name, assignment.limits.lease_s, assignment.only)
            if claim is not None:
                self._turn = place + 1
                return assignment, claim
        return None

    def _take_from_silent(self) -> bool:
        return bool([number for each in self._served for number in self._reaper.look(each.study.name)])

    def _attempt(self, assignment: Assignment, claim: Claim, context: ForkServerContext, stop: Stop) -> Outcome | None:
        """Run a claimed trial; return its outcome, None where it was handed back or lost."""
        told = self._told(claim)
        _log.log(self._level, "%s: attempt %d", told, claim.attempt)
        keeper = Keeper(assignment.kept, self.store, claim, assignment.trial_folder(claim.number))

        def alive(memory_mb: Callable[[], float] = lambda: 0.0) -> None:
            self._reaper.stay_awake()
            if self._heartbeat(claim, memory_mb):
                self.store.renew(claim)

        try:
            self._heartbeat(claim, at_once=True)
            if damage := _damage(claim):
                self.store.finish(claim, damage)
                _log.error("%s: %s", told, damage.reason)
                return damage
            job = _job(assignment, claim, keeper, alive)
            with TrialProcess(context, job) as process:
                watch = Watch(self.store, assignment, claim, process, keeper, alive, self._lease_s)
                outcome = watch.until_end(stop)
            if outcome is None:
                keeper.hand_back(HAND_BACK_S, alive)
                self._hand_back(claim)
                return None
            keeper.before_end(outcome, alive)
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
        except NoRoomError as error:
            self._hand_back(claim)
            self._wait_for_room(error)
            return None
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
        if self._waits_for_room:
            _log.info("There is room again")
        self._full_since_s = None
        _log.info("%s: %s", told, outcome.reason or f"loss {outcome.loss:.4f}")
        return outcome

    def _wait_for_room(self, error: NoRoomError) -> None:
        """Wait a while before the next trial; give up where trials have met a full disk for too long.

        What was full long ago, and nobody asked since, counts no more: there may have been no trial meanwhile.
        """
        now_s = time.monotonic()
        last_s, self._full_at_s = self._full_at_s, now_s
        if self._full_since_s is None or now_s - last_s > PATIENCE_S:
            self._full_since_s, self._full_wait_s = now_s, FULL_WAIT_S
            _log.warning("%s Trying again for %.0f s.", error, PATIENCE_S)
        elif now_s - self._full_since_s > PATIENCE_S:
            raise error
        self._stop.wait(self._full_wait_s)
        self._full_wait_s = max(self._full_wait_s, min(2 * self._full_wait_s, LONGEST_FULL_WAIT_S))

    @property
    def _waits_for_room(self) -> bool:
        """Whether the last trial met a full disk, not long ago, which was told."""
        return self._full_since_s is not None and time.monotonic() - self._full_at_s <= PATIENCE_S

    @property
    def _level(self) -> int:
        """At which level attempts are told: those that only find the disk full again are not worth a line each."""
        return logging.DEBUG if self._waits_for_room else logging.INFO

    def _hand_back(self, claim: Claim) -> None:
        try:
            self.store.release(claim)
        except LeaseLostError as error:
            _log.warning("%s", error)
        else:
            _log.log(self._level, "%s: handed back", self._told(claim))

    def _told(self, claim: Claim) -> str:
        """A trial in words; with its study where there are several."""
        return f"trial {claim.number}" + (f" of {claim.study}" if len(self._served) > 1 else "")

    def _heartbeat(
        self, claim: Claim | None, memory_mb: Callable[[], float] = lambda: 0.0, *, at_once: bool = False
    ) -> bool:
        """Tell the store that the worker lives if it is time; return whether it was."""
        if not at_once and time.monotonic() - self._seen_at_s < self._lease_s / 3:
            return False
        self._seen_at_s = time.monotonic()
        held_mb = round(memory_mb())
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
                memory_mb=held_mb,
            )
            self.store.heartbeat(record)
        return True


def _damage(claim: Claim) -> Outcome | None:
    """The end of a trial whose candidate or task is none: one was stored, so this happened to it in the store."""
    try:
        decode(Candidate, claim.candidate, where="damaged in the store: its candidate")
        if claim.task is not None:
            decode(Task, claim.task, where="damaged in the store: its task")
    except MalformedError as error:
        return Outcome(state="failed", reason=error.what)
    return None


def _job(assignment: Assignment, claim: Claim, keeper: Keeper, renew: Callable[[], None]) -> Job:
    folder = assignment.trial_folder(claim.number)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "traceback.txt").unlink(missing_ok=True)
        write_plain(folder / "candidate.json", claim.candidate)
        if claim.task is not None:
            write_plain(folder / "task.json", claim.task)
        keeper.begin(renew)
    except OSError as error:
        kind = NoRoomError if error.errno in FULL_DISK else WorkerError
        raise kind(
            f"The trial's folder {folder} cannot be written",
            received=str(error),
            remedy="Check free space (df) and rights there; the trial was handed back",
        ) from error
    objective = pickle.dumps(assignment.objective)
    return Job(objective, claim.candidate, claim.number, claim.seed, folder, claim.attempt, claim.task)


def _wait(seconds: float, stop: Stop, drain: Stop) -> None:
    """Until either is set, looking at one of them in turns."""
    end_s = time.monotonic() + seconds
    while not drain.is_set() and not stop.wait(min(seconds, 0.05)) and time.monotonic() < end_s:
        pass

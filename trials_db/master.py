"""The master: proposes trials as results come in, and holds nothing that is not in the store."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from search_space.default_space import Space
from search_space.space import space_fingerprint
from search_space.study import LimitSettings, SearchSettings
from trials_db.bridge import fits, new_trial
from trials_db.ending import ending, told_history
from trials_db.errors import LeaseLostError
from trials_db.history import History
from trials_db.reaping import Reaper
from trials_db.records import Lead, StudyRecord, Trial, TrialState, WorkerRecord
from trials_db.stopping import Stop
from trials_db.store import TrialStore, check_same_study

_log = logging.getLogger(__name__)

POLL_S = 0.2
LEAD_LEASE_S = 15.0
COUNT_WORKERS_S = 2.0
FORGET_S = 86_400.0
"""A worker that was not heard of for so long is taken off the list."""


@dataclass(frozen=True)
class Progress:
    """How far a search is.

    Attributes:
        counts: Number of trials in each state.
        max_trials: Number of trials after which the search ends.
        best: The trial with the lowest loss, the oldest of equals; None while none has a loss.
        ending: Why no further trial is proposed before there are `max_trials`; empty while the search goes on.
        leader: Another master that leads while this one waits, None where this one leads.
    """

    counts: dict[TrialState, int]
    max_trials: int
    best: Trial | None
    ending: str = ""
    leader: str | None = None

    @property
    def num_ended(self) -> int:
        """Number of trials that have ended."""
        return sum(count for state, count in self.counts.items() if state.is_final)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        under_way = self.counts[TrialState.NEW] + self.counts[TrialState.RUNNING]
        return self.num_ended >= self.max_trials or (bool(self.ending) and not under_way)


OnProgress = Callable[[Progress], None]


@dataclass
class Master:
    """Proposes the trials of one study; several may be started, one leads.

    Args:
        store: Where the study is; the master uses it alone.
        study: The study as this process knows it.
        space: What can be tried.
        settings: How proposals are made, and how long a worker may be silent.
        limits: When the search ends.
        name: Who leads, for others to read.
    """

    store: TrialStore
    study: StudyRecord
    space: Space
    settings: SearchSettings
    limits: LimitSettings
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    _history: History = field(default_factory=History, init=False)
    _told: History = field(default_factory=History, init=False)
    _cursor: str = field(default="", init=False)
    _lead: Lead | None = field(default=None, init=False)
    _reaper: Reaper = field(init=False)
    _renew_at_s: float = field(default=0.0, init=False)
    _num_workers: int = field(default=0, init=False)
    _count_workers_at_s: float = field(default=0.0, init=False)

    def run(self, stop: Stop, on_progress: OnProgress = lambda _: None) -> Progress:
        """Propose until every trial has ended or `stop` is set; a later run goes on where this one was.

        While another master leads, this one waits, ready to follow it.

        Args:
            stop: Asks to stop; a trial that runs goes on without the master.
            on_progress: Called at the start and after every change, in this thread.

        Returns:
            How far the search is.

        Raises:
            StudyConflictError: The stored study is another one; the difference is named.
            MalformedError: The space proposes what is no candidate.
            StoreError: The store failed.
        """
        return lead_all([self], stop, lambda _, progress: on_progress(progress))[self.study.name]

    @contextmanager
    def leading(self, stop: Stop) -> Iterator[None]:
        """Inside the block `step` may be called; after it another master may lead at once.

        Raises:
            StudyConflictError: The stored study is another one; the difference is named.
            StoreError: The store failed.
        """
        self.store.heed(stop)
        self._check_study()
        self._reaper = Reaper(self.store)
        self._reaper.watch(self.study.name, self.settings.lease_s)
        try:
            yield
        finally:
            if self._lead:
                self.store.release_lead(self._lead)
                self._lead = None

    def step(self) -> tuple[bool, Progress]:
        """Lead, take trials from silent workers, read what changed, and propose a trial if one is wanted.

        Returns:
            Whether a trial was proposed, so that there may be more to do at once; and how far the search is.

        Raises:
            MalformedError: The space proposes what is no candidate.
            StoreError: The store failed.
        """
        self._take_lead()
        if self._lead:
            self._reaper.look(self.study.name)
        else:
            self._reaper.stay_awake()
        self._refresh()
        proposed = self._lead is not None and self._propose_next()
        return proposed, self._progress(None if self._lead else self.store.leader(self.study.name))

    def progress(self) -> Progress:
        """How far the search is by now."""
        self._refresh()
        return self._progress(None)

    def _progress(self, leader: str | None) -> Progress:
        """How far the search is, by what this master last read."""
        history = self._history
        return Progress(dict(history.counts), self.limits.max_trials, history.best, self._ending(), leader)

    def _ending(self) -> str:
        return ending(self.limits, self._told, self.store.now() if self.limits.hours else 0.0)

    def _check_study(self) -> None:
        stored = self.store.load_study(self.study.name)
        # The caller has already decided which settings may differ; what the proposals rest on may not.
        check_same_study(stored, self.study.model_copy(update={"settings": stored.settings}))
        given = self.study.model_copy(update={"space_fingerprint": space_fingerprint(self.space)})
        check_same_study(self.study, given)

    def _take_lead(self) -> None:
        """Renew the lead when it is time, or try to win it."""
        if self._lead is not None and time.monotonic() < self._renew_at_s:
            return
        self._renew_at_s = time.monotonic() + LEAD_LEASE_S / 5
        if self._lead is not None:
            try:
                self.store.renew_lead(self._lead)
            except LeaseLostError as error:
                _log.warning("%s", error)
            else:
                return
        self._lead = self.store.acquire_lead(self.study.name, self.name, LEAD_LEASE_S)

    def _refresh(self) -> None:
        changed, self._cursor = self.store.changed_since(self.study.name, self._cursor)
        self._history.update([self._fitting(trial) for trial in changed])
        self._told = told_history(self._history, self.settings.lookahead, self._told)

    def _fitting(self, trial: Trial) -> Trial:
        """The trial, without its point where that is none of the space: someone changed it in the store."""
        if fits(self.space, trial.point):
            return trial
        _log.warning("the point of trial %d is none of the study's space; nothing is learned from it", trial.number)
        return trial.model_copy(update={"point": {}})

    def _propose_next(self) -> bool:
        """Add the next trial if one is wanted and all it rests on has ended; return whether it was added."""
        number = self._history.next_number
        if number >= self.limits.max_trials or not self._is_wanted(number) or self._ending():
            return False
        history = list(self._history.trials.values())
        trial = new_trial(self.space, history, number, self.study.seed, self.settings)
        if not self.store.add_trial(self.study.name, trial):
            _log.warning("trial %d was added by another master", number)
        return True

    def _is_wanted(self, number: int) -> bool:
        if self.settings.lookahead:
            return self._history.first_open >= number - self.settings.lookahead
        return self._history.counts[TrialState.NEW] < max(1, self._live_workers())

    def _live_workers(self) -> int:
        """Number of workers that were heard of within their lease, by a count that is not quite new.

        Without those that are busy with another study: of several served in turn, each needs but its share.
        """
        if time.monotonic() >= self._count_workers_at_s:
            live, dead = self._workers()
            for worker in dead:
                self.store.forget_worker(self.study.name, worker.name)
            self._num_workers = sum(not worker.elsewhere for worker in live)
            self._count_workers_at_s = time.monotonic() + COUNT_WORKERS_S
        return self._num_workers

    def _workers(self) -> tuple[list[WorkerRecord], list[WorkerRecord]]:
        """The workers that were heard of within their lease, and those that were not for a day."""
        workers = self.store.workers(self.study.name)
        now_s = self.store.now() if workers else 0.0
        lease_s, forget_s = self.settings.lease_s, max(FORGET_S, self.settings.lease_s)
        # In either direction: heard of in times to come was who told of itself while the store's clock was wrong.
        live = [worker for worker in workers if abs(now_s - worker.last_seen_s) <= lease_s]
        dead = [worker for worker in workers if abs(now_s - worker.last_seen_s) > forget_s]
        return live, dead


def lead_all(
    masters: Sequence[Master], stop: Stop, on_progress: Callable[[str, Progress], None] = lambda *_: None
) -> dict[str, Progress]:
    """Propose for several studies in turn, each until all its trials have ended; see `Master.run`.

    Args:
        masters: One for each study, all on one store.
        stop: Asks to stop.
        on_progress: Told the study and how far it is, at the start and after every change, in this thread.

    Returns:
        How far each study is, by name.

    Raises:
        StudyConflictError, MalformedError, StoreError: As `Master.run`.
    """
    told: dict[str, Progress] = {}
    with ExitStack() as stack:
        for master in masters:
            stack.enter_context(master.leading(stop))
        under_way = list(masters)
        while under_way and not stop.is_set():
            has_proposed = False
            for master in list(under_way):
                proposed, progress = master.step()
                has_proposed |= proposed
                name = master.study.name
                if progress != told.get(name):
                    on_progress(name, progress)
                    told[name] = progress
                if progress.is_complete:
                    under_way.remove(master)
            if under_way and not has_proposed:
                stop.wait(POLL_S)
    return {master.study.name: master.progress() for master in masters}

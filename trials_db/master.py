"""The master: proposes trials as results come in, and holds nothing that is not in the store."""

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from search_space.space import Space, space_fingerprint
from search_space.study import SearchSettings
from trials_db.bridge import new_trial
from trials_db.errors import LeaseLostError
from trials_db.records import Lead, StudyRecord, Trial, TrialState
from trials_db.stopping import AwakeGuard, Stop
from trials_db.store import TrialStore, check_same_study

_log = logging.getLogger(__name__)

POLL_S = 0.2
LEAD_LEASE_S = 15.0


@dataclass(frozen=True)
class Progress:
    """How far a search is.

    Attributes:
        counts: Number of trials in each state.
        max_trials: Number of trials after which the search ends.
        best: The trial with the lowest loss, the oldest of equals; None while none has a loss.
        leader: Another master that leads while this one waits, None where this one leads.
    """

    counts: dict[TrialState, int]
    max_trials: int
    best: Trial | None
    leader: str | None = None

    @property
    def num_ended(self) -> int:
        """Number of trials that have ended."""
        return sum(count for state, count in self.counts.items() if state.is_final)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.num_ended >= self.max_trials


OnProgress = Callable[[Progress], None]


@dataclass
class Master:
    """Proposes the trials of one study; several may be started, one leads.

    Args:
        store: Where the study is; the master uses it alone.
        study: The study as this process knows it.
        space: What can be tried.
        settings: How proposals are made, and how long a worker may be silent.
        max_trials: The study ends with this many trials.
        name: Who leads, for others to read.
    """

    store: TrialStore
    study: StudyRecord
    space: Space
    settings: SearchSettings
    max_trials: int
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    _trials: dict[int, Trial] = field(default_factory=dict, init=False)
    _cursor: str = field(default="", init=False)
    _renew_at_s: float = field(default=0.0, init=False)

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
        self.store.heed(stop)
        self._check_study()
        told: Progress | None = None
        lead: Lead | None = None
        guard = AwakeGuard(self.settings.lease_s)
        try:
            while not stop.is_set():
                lead = self._lead(lead)
                may_judge = guard.may_judge()
                if lead and may_judge:
                    self.store.requeue_expired(self.study.name)
                self._refresh()
                proposed = lead is not None and self._propose_next()
                progress = self.progress(None if lead else self.store.leader(self.study.name))
                if progress != told:
                    on_progress(progress)
                    told = progress
                if progress.is_complete:
                    break
                if not proposed:
                    stop.wait(POLL_S)
        finally:
            if lead:
                self.store.release_lead(lead)
        self._refresh()
        return self.progress()

    def progress(self, leader: str | None = None) -> Progress:
        """How far the search is, by what this master last read."""
        trials = [self._trials[number] for number in sorted(self._trials)]
        counts = {state: sum(trial.state is state for trial in trials) for state in TrialState}
        with_loss = [(trial.loss, trial.number) for trial in trials if trial.loss is not None]
        best = self._trials[min(with_loss)[1]] if with_loss else None
        return Progress(counts, self.max_trials, best, leader)

    def _check_study(self) -> None:
        stored = self.store.load_study(self.study.name)
        # The caller has already decided which settings may differ; what the proposals rest on may not.
        check_same_study(stored, self.study.model_copy(update={"settings": stored.settings}))
        given = self.study.model_copy(update={"space_fingerprint": space_fingerprint(self.space)})
        check_same_study(self.study, given)

    def _lead(self, lead: Lead | None) -> Lead | None:
        """Renew the lead when it is time, or try to win it."""
        if lead is not None and time.monotonic() < self._renew_at_s:
            return lead
        self._renew_at_s = time.monotonic() + LEAD_LEASE_S / 5
        if lead is not None:
            try:
                self.store.renew_lead(lead)
            except LeaseLostError as error:
                _log.warning("%s", error)
            else:
                return lead
        return self.store.acquire_lead(self.study.name, self.name, LEAD_LEASE_S)

    def _refresh(self) -> None:
        changed, self._cursor = self.store.changed_since(self.study.name, self._cursor)
        self._trials |= {trial.number: trial for trial in changed}

    def _propose_next(self) -> bool:
        """Add the next trial if all it rests on has ended; return whether it was added."""
        number = next(number for number in range(len(self._trials) + 1) if number not in self._trials)
        rests_on = range(max(0, number - self.settings.lookahead))
        if number >= self.max_trials or not all(self._trials[each].state.is_final for each in rests_on):
            return False
        history = list(self._trials.values())
        trial = new_trial(self.space, history, number, self.study.seed, self.settings)
        if not self.store.add_trial(self.study.name, trial):
            _log.warning("trial %d was added by another master", number)
        return True

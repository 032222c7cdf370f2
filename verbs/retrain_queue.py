"""The trainings of a retraining as trials of a study: what is kept, what is added, how all are seen to their end."""

import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from search_space.decode import encode
from search_space.errors import MapgroveError
from search_space.names import searched_name
from search_space.objective import MODEL_FILE, START_FILE, Outcome
from search_space.study import Study
from verbs.common import STORE_VARIABLE, say
from verbs.option_types import spelled_numbers
from verbs.retrain_lead import LEASE_S, Leading, StoppedError, leading
from verbs.retrain_wishes import Wish, key_of
from verbs.retrain_withdrawal import tidy

if TYPE_CHECKING:
    from trials_db.artifacts import Artifacts
    from trials_db.local_workers import LocalWorkers
    from trials_db.records import NewTrial, Trial, WorkerRecord
    from trials_db.stopping import Stop
    from trials_db.store import TrialStore

ENTRY = Path(__file__).parents[1] / "run_search.py"

_TOLD = 3
_POLL_S = 0.3
_LOOK_S = 5.0
_FIND_S = 30.0
"""So long workers of the search may take to find that there is a retraining."""


class Queue:
    """What was asked for, in the store.

    Args:
        store: Where the study is.
        artifacts: Where the models are.
        study: The study of the retraining.
        wishes: What is asked for, no two of them alike.
        models: A folder for the models of trainings that are done.
        starts: SHA-256 to the file of each model that trainings start from.
    """

    def __init__(
        self,
        store: "TrialStore",
        artifacts: "Artifacts",
        study: Study,
        wishes: Sequence[Wish],
        models: Path,
        starts: Mapping[str, Path] | None = None,
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._study = study
        self._models = models
        self._starts = starts or {}
        self.wishes = {wish.key: wish for wish in wishes}
        self.trials: dict[str, Trial] = {}
        """The trial of each wish, by its key, as it was last seen."""

    def fill(self, stop: "Stop | None" = None) -> bool:
        """Find what is done or under way already, and add the rest; one process at a time does so.

        What is added comes before what others, or an earlier call, left waiting.

        Args:
            stop: Asks to stop.

        Returns:
            Whether all of it is there; False where somebody asked to stop before.
        """
        from trials_db.errors import LeaseLostError

        stop = stop or threading.Event()
        for trial in self._store.trials(self._study.name):
            if stop.is_set():
                return False
            # Large models take their time, for which others should not wait.
            if key_of(trial) in self.wishes:
                self.model(trial)
        while True:
            try:
                with leading(self._store, self._study.name, stop) as lead:
                    self._fill(lead)
                return True
            except StoppedError:
                return False
            except LeaseLostError:
                # What was added is found by the next attempt.
                continue

    def _fill(self, lead: Leading) -> None:
        trials = self._store.trials(self._study.name)
        self._end_strays(trials)
        known: dict[str, int] = {}
        for trial in trials:
            key = key_of(trial)
            if key in self.wishes and key not in known and (not trial.state.is_final or self._has_model(trial, lead)):
                known[key] = trial.number
        number = max((trial.number for trial in trials), default=-1)
        waiting = [trial for trial in trials if trial.state == "new" and key_of(trial) not in self.wishes]
        priority = max((trial.priority for trial in waiting), default=-1) + 1
        for key, wish in self.wishes.items():
            if key not in known:
                known[key] = number = self._add(wish, number + 1, priority, lead)
        found = {trial.number: trial for trial in self._store.trials(self._study.name)}
        self.trials = {key: found[known[key]] for key in self.wishes}

    def _has_model(self, trial: "Trial", lead: Leading) -> bool:
        return trial.state == "done" and lead.carry(lambda: self.model(trial)) is not None

    @property
    def open(self) -> "list[Trial]":
        """Those that have not ended."""
        return [trial for trial in self.trials.values() if not trial.state.is_final]

    def update(self, changed: "Sequence[Trial]") -> "list[tuple[Wish, Trial]]":
        """Take note of trials that changed; return those that were asked for."""
        keys = {trial.number: key for key, trial in self.trials.items()}
        ours = [(keys[trial.number], trial) for trial in changed if trial.number in keys]
        self.trials |= dict(ours)
        return [(self.wishes[key], trial) for key, trial in ours]

    def model(self, trial: "Trial") -> Path | None:
        """The model of a training that is done, None where there is none; one that is damaged is dropped, and told."""
        from pipeline.models.trial_model import read_about

        path = self._models / f"{trial.number:04d}.keras"
        if trial.state != "done" or path.is_file():
            return path if path.is_file() else None
        newest = self._artifacts.newest(self._study.name, trial.number, MODEL_FILE)
        if newest is None or not self._artifacts.fetch(self._study.name, newest, path):
            return None
        try:
            read_about(path)
        except MapgroveError:
            say(f"The model of training {trial.number} is damaged, and not used")
            self._artifacts.drop(self._study.name, [newest])
            path.unlink()
            return None
        return path

    def tidy(self) -> None:
        """Drop the files that trainings which have ended left in the store, other than models."""
        tidy(self._store, self._artifacts, self._study.name)

    def _add(self, wish: Wish, number: int, priority: int, lead: Leading) -> int:
        """Add a training under the next free number, what it starts from first; return the number."""
        from trials_db.artifacts import Artifact

        source = self._starts.get(wish.task.start)
        while True:
            start = Artifact(number, 1, START_FILE)
            if source is not None:
                lead.carry(partial(self._artifacts.put, self._study.name, start, source))
            if self._store.add_trial(self._study.name, _as_new(wish, number, priority)):
                return number
            if source is not None:
                self._artifacts.drop(self._study.name, [start])
            number += 1

    def _end_strays(self, trials: "Sequence[Trial]") -> None:
        """End trainings that wait for the data or folds of before, which no worker has any more."""
        ground = {wish.task.ground for wish in self.wishes.values()}
        strays = [trial.number for trial in trials if trial.state == "new" and _ground(trial.task) not in ground]
        reason = "retrain was called with other data or folds since"
        # Claimed, as a worker may have begun with one meanwhile.
        while strays and (claim := self._store.claim(self._study.name, "retrain", LEASE_S, strays)) is not None:
            self._store.finish(claim, Outcome(state="failed", reason=reason))


class Workers:
    """Who serves a retraining: others, where there are any, else processes of this one; leaving the block stops these.

    Args:
        store: Where the study is.
        study: The study of the retraining.
        wanted: So many are started here; None for one, where nobody else serves it.
        numbers: The trainings that these do, and no others that wait.
        command: What starts one elsewhere, for the user to read.
    """

    def __init__(
        self,
        store: "TrialStore",
        study: Study,
        wanted: int | None,
        numbers: Collection[int] | None = None,
        command: str = "",
    ) -> None:
        from results.commands import StudyCommands

        self._store = store
        self._study = study
        self._wanted = wanted
        self._numbers = numbers
        self._command = command or StudyCommands(study, searched_name(study.name)).line("worker")
        self._opened = ExitStack()
        self._own: LocalWorkers | None = None
        self._begun_s = time.monotonic()
        self._looked_s = float("-inf")

    def __enter__(self) -> Self:
        if self._wanted:
            self._start(self._wanted)
            return self
        others = self._others()
        if others:
            say(told_workers(others, self._store.now()))
        elif self._wanted == 0:
            say(f"No worker serves it yet. Start some: {self._command}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.close()

    def tend(self) -> None:
        """Start one where nobody serves it any more, and those again that were killed.

        Raises:
            MapgroveError: None of those that were started is left.
        """
        if self._own is not None:
            if not self._own.tend():
                why = self._own.failure or "all were asked to leave"
                raise MapgroveError(f"no worker is left: {why}", remedy="The same command goes on")
        elif self._wanted is None and time.monotonic() - self._looked_s >= _LOOK_S:
            if not self._others():
                self._start(1)
            self._looked_s = time.monotonic()

    def _start(self, number: int) -> None:
        from trials_db.local_workers import LocalWorkers, Slot

        command = [sys.executable, str(ENTRY), "worker", "--study", self._study.name]
        if self._numbers is not None:
            command += ["--only", spelled_numbers(self._numbers)]
        slots = [Slot(environment={STORE_VARIABLE: self._study.store_url})] * number
        self._own = self._opened.enter_context(LocalWorkers(command, slots))

    def _others(self) -> "list[WorkerRecord]":
        """Who serves it, or may: workers of the search look for it between their trials."""
        now_s = self._store.now()
        serving = self._alive(self._study.name, now_s)
        if serving:
            return serving
        may_find = time.monotonic() - self._begun_s < _FIND_S
        searching = self._alive(searched_name(self._study.name), now_s)
        return [each for each in searching if may_find or each.trial is not None or each.elsewhere]

    def _alive(self, study: str, now_s: float) -> "list[WorkerRecord]":
        from trials_db.local_workers import is_gone

        return [
            worker
            for worker in self._store.workers(study)
            if now_s - worker.last_seen_s <= self._study.search.lease_s and not is_gone(worker, now_s)
        ]


def told_workers(workers: "Sequence[WorkerRecord]", now_s: float) -> str:
    """Who seems to train what was asked for, and when each was heard of last.

    Args:
        workers: At least one.
        now_s: The store's time.
    """
    from results.phrases import duration_text

    seen = [f"{each.name}, last seen {duration_text(max(0.0, now_s - each.last_seen_s))} ago" for each in workers]
    if len(seen) == 1:
        return f"Worker {seen[0]}, seems to train them"
    more = f" and {len(seen) - _TOLD} more" if len(seen) > _TOLD else ""
    return f"Workers seem to train them: {'; '.join(seen[:_TOLD])}{more}"


def see_through(
    store: "TrialStore",
    study: Study,
    queue: Queue,
    workers: Workers,
    stop: "Stop",
    tell: "Callable[[Wish, Trial], None]",
) -> None:
    """Return when every training that was asked for has ended, or `stop` is set.

    Args:
        store: Where the study is.
        study: The study of the retraining.
        queue: What was asked for.
        workers: Are tended.
        stop: Asks to stop.
        tell: Told of each of them whenever it has changed.

    Raises:
        MapgroveError: No worker is left.
    """
    cursor = ""
    while not stop.is_set():
        changed, cursor = store.changed_since(study.name, cursor)
        for wish, trial in queue.update(changed):
            tell(wish, trial)
        if not queue.open:
            return
        workers.tend()
        stop.wait(_POLL_S)


def _as_new(wish: Wish, number: int, priority: int) -> "NewTrial":
    from trials_db.records import NewTrial

    plain, task = encode(wish.candidate), encode(wish.task)
    return NewTrial(number=number, point={}, candidate=plain, seed=wish.seed, priority=priority, task=task)


def _ground(task: "Mapping[str, Any] | None") -> Any:
    return (task or {}).get("ground")

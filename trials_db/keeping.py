"""What is kept of a trial, and how long: its checkpoint until it ends, its model while it is among the best."""

import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from search_space.objective import BEFORE_CHECKPOINT_FILE, CHECKPOINT_FILE, MODEL_FILE, START_FILE, Outcome
from trials_db.artifacts import Artifact, Artifacts
from trials_db.errors import NoRoomError, StoreError, WorkerError
from trials_db.records import Claim
from trials_db.store import TrialStore

_log = logging.getLogger(__name__)

ATTEMPT_FILE = "attempt"
"""In a trial's folder: the number of the last attempt that worked there."""

_POLL_S = 0.1


@dataclass(frozen=True)
class Keeping:
    """What is kept of a study's trials.

    Attributes:
        artifacts: Where.
        num_models: So many of the best trials' models; None for all of them, and for ever.
        checkpoint_s: How often the checkpoint of a trial that runs is sent there, where workers share no folder; 0 for
            when it is handed back alone.
    """

    artifacts: Artifacts
    num_models: int | None = 1
    checkpoint_s: float = 300.0

    def sweep(self, store: TrialStore, study: str, *, is_over: bool = False) -> None:
        """Drop the models of all but the best trials; when the study is over, all checkpoints too.

        A trial that has not ended keeps its files, as it may be about to become one of the best. Any number of
        processes may sweep at once, each as slowly as it likes.
        """
        if self.num_models is None and not is_over:
            return
        held = self.artifacts.held(study)
        if not self._surplus(held, store, study, is_over=is_over):
            return
        going_on = {trial.number for trial in store.trials(study) if not trial.state.is_final}
        # In this order: a trial that had ended before it was found not to be among the best will never be.
        gone = self._surplus(held, store, study, is_over=is_over)
        self.artifacts.drop(study, [each for each in gone if each.number not in going_on])

    def best(self, store: TrialStore, study: str) -> dict[int, float] | None:
        """Numbers and losses of the trials whose models are kept, the best first; None for all."""
        return None if self.num_models is None else dict(store.best(study, self.num_models))

    def _surplus(self, held: Sequence[Artifact], store: TrialStore, study: str, *, is_over: bool) -> list[Artifact]:
        """The models of trials that are not among the best; when the study is over, all that is no model too."""
        best = self.best(store, study)
        return [
            each
            for each in held
            if (best is not None and each.number not in best if each.file == MODEL_FILE else is_over)
        ]


@dataclass
class Keeper:
    """Keeps the files of one attempt at a trial. What cannot be kept is told, and costs no trial.

    Args:
        keeping: The study's.
        store: Tells which trials are the best.
        claim: The attempt.
        folder: The trial's.
    """

    keeping: Keeping
    store: TrialStore
    claim: Claim
    folder: Path
    _under_way: "_UnderWay | None" = field(default=None, init=False)
    _sent_at_s: float = field(default_factory=time.monotonic, init=False)

    def begin(self, renew: Callable[[], None]) -> None:
        """Fetch the model that the trial starts from, and the checkpoint of an attempt on another machine.

        Args:
            renew: Called often while it is fetched.

        Raises:
            OSError: The trial's folder cannot be written.
            WorkerError: The model that the trial starts from cannot be fetched, which is not the trial's fault.
        """
        if self.claim.task and self.claim.task.get("start"):
            fetching = _UnderWay(self._fetch_start, f"trial {self.claim.number} has nothing to start from")
            self._under_way = fetching
            self._wait(float("inf"), renew)
            if fetching.has_failed:
                raise WorkerError(
                    f"The model that trial {self.claim.number} starts from cannot be fetched; it was handed back",
                    remedy="The line above says why; start the worker again when it is mended",
                )
        if not self._carries:
            return
        marker = self.folder / ATTEMPT_FILE
        if self.claim.attempt > 1:
            earlier = _read_number(marker)
            self._under_way = _UnderWay(
                lambda: self._fetch_newer_than(earlier), f"trial {self.claim.number} begins anew"
            )
            self._wait(float("inf"), renew)
        marker.write_text(str(self.claim.attempt), encoding="utf-8")

    def after_report(self) -> None:
        """Send the checkpoint, if it is time and the last one is through."""
        every_s = self.keeping.checkpoint_s
        is_due = every_s > 0 and time.monotonic() - self._sent_at_s >= every_s
        if self._carries and is_due and (self._under_way is None or self._under_way.has_ended):
            self._send(CHECKPOINT_FILE)

    def hand_back(self, wait_s: float, renew: Callable[[], None]) -> None:
        """Send the last checkpoint before another worker goes on; give up after `wait_s`.

        Args:
            wait_s: Who was asked to stop has not long.
            renew: Called often while it is sent.
        """
        if not self._carries:
            return
        deadline_s = time.monotonic() + wait_s
        self._wait(deadline_s, renew)
        if time.monotonic() < deadline_s:
            self._send(CHECKPOINT_FILE)
            self._wait(deadline_s, renew)

    def before_end(self, outcome: Outcome, renew: Callable[[], None]) -> None:
        """Keep the model, if the trial is one of the best; `renew` is called often while it is sent.

        Raises:
            NoRoomError: It cannot be kept, and every model is wanted: the trial is worth nothing without.
        """
        self._wait(float("inf"), renew)
        if self._is_among_best(outcome):
            sent = self._send(MODEL_FILE)
            self._wait(float("inf"), renew)
            if sent is not None and sent.has_failed and self.keeping.num_models is None:
                raise NoRoomError(f"The model of trial {self.claim.number} cannot be kept; its line is above")

    def after_end(self) -> None:
        """Drop what the end of the trial has superseded."""
        study, number = self.claim.study, self.claim.number
        ours = self._artifact(MODEL_FILE)
        for file in (CHECKPOINT_FILE, BEFORE_CHECKPOINT_FILE, ATTEMPT_FILE, START_FILE):
            (self.folder / file).unlink(missing_ok=True)
        if self.keeping.num_models == 0 and not self._carries:
            return
        try:
            earlier = [each for each in self.keeping.artifacts.held(study, number) if each != ours]
            self.keeping.artifacts.drop(study, earlier)
            self.keeping.sweep(self.store, study)
        except StoreError as error:
            _log.warning("files that are no longer wanted stay: %s", error)
        (self.folder / MODEL_FILE).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Drop what this attempt has kept: the trial was taken from it.

        Its checkpoint stays as long as the next attempt may want to go on from it, which drops it in the end.
        """
        self._wait(float("inf"), lambda: None)
        try:
            files = (CHECKPOINT_FILE, MODEL_FILE) if self._is_surpassed() else (MODEL_FILE,)
            self.keeping.artifacts.drop(self.claim.study, [self._artifact(file) for file in files])
        except StoreError as error:
            _log.warning("files that are no longer wanted stay: %s", error)

    @property
    def _carries(self) -> bool:
        return self.keeping.artifacts.carries_checkpoints

    def _artifact(self, file: str) -> Artifact:
        return Artifact(self.claim.number, self.claim.attempt, file)

    def _is_surpassed(self) -> bool:
        """Whether nobody goes on from its checkpoint: a later attempt has sent one, or the trial has ended."""
        study, number = self.claim.study, self.claim.number
        newest = self.keeping.artifacts.newest(study, number, CHECKPOINT_FILE)
        is_later = newest is not None and newest.attempt > self.claim.attempt
        return is_later or any(each.number == number and each.state.is_final for each in self.store.trials(study))

    def _fetch_newer_than(self, attempt: int) -> None:
        study, number = self.claim.study, self.claim.number
        newest = self.keeping.artifacts.newest(study, number, CHECKPOINT_FILE)
        target = self.folder / CHECKPOINT_FILE
        # What an attempt has left in this very folder is at least as far as what it has sent.
        if newest is None or (newest.attempt <= attempt and target.is_file()):
            return
        if self.keeping.artifacts.fetch(study, newest, target):
            _log.info("trial %d goes on from what attempt %d has sent", number, newest.attempt)

    def _fetch_start(self) -> None:
        target = self.folder / START_FILE
        newest = self.keeping.artifacts.newest(self.claim.study, self.claim.number, START_FILE)
        # What lies there may be another trial's: of a study of this name that was deleted since.
        if newest is not None and _sha256_of(target) != (self.claim.task or {}).get("start"):
            self.keeping.artifacts.fetch(self.claim.study, newest, target)

    def _is_among_best(self, outcome: Outcome) -> bool:
        if outcome.loss is None or self.keeping.num_models == 0 or not (self.folder / MODEL_FILE).is_file():
            return False
        best = self.keeping.best(self.store, self.claim.study)
        if best is None or self.keeping.num_models is None:
            return True
        # Of equals the older is the better, as the store has it.
        worst = max((loss, number) for number, loss in best.items()) if best else (math.inf, 0)
        return len(best) < self.keeping.num_models or (outcome.loss, self.claim.number) < worst

    def _send(self, file: str) -> "_UnderWay | None":
        source, artifacts = self.folder / file, self.keeping.artifacts
        if source.is_file():
            self._sent_at_s = time.monotonic()
            self._under_way = _UnderWay(
                lambda: artifacts.put(self.claim.study, self._artifact(file), source),
                f"{file} of trial {self.claim.number} is not kept",
            )
            return self._under_way
        return None

    def _wait(self, deadline_s: float, renew: Callable[[], None]) -> None:
        while self._under_way and not self._under_way.wait(_POLL_S) and time.monotonic() < deadline_s:
            renew()
        if self._under_way and self._under_way.has_ended:
            self._under_way = None


class _UnderWay:
    """A file on its way, in a thread of its own: the lease must be renewed meanwhile, however large it is.

    Args:
        carry: Sends or fetches it.
        otherwise: What a failure means, for the log.
    """

    def __init__(self, carry: Callable[[], None], otherwise: str) -> None:
        self._carry = carry
        self._otherwise = otherwise
        # Until it is done: whatever ends it else, it is not.
        self.has_failed = True
        # A process that leaves does not wait for it.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Wait; return whether it has ended."""
        self._thread.join(seconds)
        return self.has_ended

    def _run(self) -> None:
        try:
            self._carry()
            self.has_failed = False
        except StoreError as error:
            _log.warning("%s: %s", self._otherwise, error)


def _sha256_of(path: Path) -> str:
    """Empty where there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0

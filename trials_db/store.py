"""Where studies and trials are kept: what every store promises."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Self

from search_space.objective import EpochReport, Outcome
from trials_db.errors import LeaseLostError, StudyConflictError, StudyNotFoundError
from trials_db.records import (
    Claim,
    Lead,
    NewTrial,
    StudyRecord,
    Trial,
    TrialState,
    WorkerRecord,
    is_covered,
    study_differences,
)
from trials_db.stopping import Stop

MOST_SCORES = 1000
"""Against so many others a trial is judged: more would change no verdict, and cost as the study grows."""


class TrialStore(ABC):
    """Studies with their trials, shared by one master and many workers in several processes.

    What every store holds to, and the contract tests check:

    - **Pass by value.** What goes in is copied, what comes out is frozen; only methods change a store.
    - **Each method is atomic**, and what it wrote survives the death of any process.
    - **A number is added once** per study; adding it again changes nothing.
    - **A claim is exclusive.** Of the new trials, the oldest of the highest priority is claimed by exactly one worker,
      under a fresh token.
    - **Fencing.** `renew`, `report`, `finish` and `release` compare the claim's token and that the trial runs: a worker
      whose trial was taken from it gets `LeaseLostError` and has changed nothing. Finishing twice with the
      token that finished is harmless, so that a doubtful write may be repeated.
    - **A lease that ran out still holds** until `requeue_expired` takes the trial or the worker renews.
    - **Every lease ends.** None is longer than `LONGEST_LEASE_S`, whatever is asked for; one that ends further ahead
      than `FURTHEST_LEASE_S` has run out: a clock that was wrong keeps no trial and no lead for ever.
    - **Three lives.** A trial whose lease runs out is new again, the third time failed ("lost 3 workers"); one
      that is released loses no life. It keeps its reports: the next attempt goes on after the last checkpoint.
    - **What nobody wants any more can be withdrawn** until it has ended, whoever runs it: its worker has lost it.
    - **A final state never changes**, and is told by `changed_since` like every change before it.
    - **A damaged trial is one failed trial.** What is stored of a trial and cannot be read is told as one that failed,
      its reason names the damage; `claim` ends it and takes the next. A damaged worker is left out, and both are
      warned of once. A damaged study is refused with `DamagedError`; the others go on.
    - **Time is the store's own**, not that of the machine that asks.
    """

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; the store is of no use afterwards."""

    @abstractmethod
    def heed(self, stop: Stop) -> None:
        """Wait no longer for a server that is away once `stop` is set; a store that never waits need not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def create_study(self, record: StudyRecord) -> None:
        """Add a study; do nothing where an equal one exists.

        Raises:
            StudyConflictError: One of this name differs; the error says in what.
        """

    @abstractmethod
    def load_study(self, name: str) -> StudyRecord:
        """Return the study of this name.

        Raises:
            StudyNotFoundError: There is none; the error names those there are.
        """

    @abstractmethod
    def list_studies(self) -> list[str]:
        """Names of all studies, in the order of their creation."""

    @abstractmethod
    def update_study_settings(self, record: StudyRecord, may_change: Collection[str]) -> StudyRecord:
        """Give an existing study the settings of `record`.

        Args:
            record: The study as it shall be.
            may_change: Dotted paths inside `settings` that may differ, with all below them: `limits.max_trials`; or
                other fields of the record: `data_fingerprint`.

        Returns:
            The study as it is stored now.

        Raises:
            StudyNotFoundError: There is no study of this name.
            StudyConflictError: Something else differs; nothing was changed.
        """

    def open_study(self, record: StudyRecord, may_change: Collection[str] = ()) -> StudyRecord:
        """Create the study, or go on with the one of this name; see `update_study_settings`.

        Raises:
            StudyConflictError: A study of this name differs in what may not change.
        """
        if record.name not in self.list_studies():
            self.create_study(record)
        return self.update_study_settings(record, may_change)

    @abstractmethod
    def add_trial(self, study: str, trial: NewTrial) -> bool:
        """Add a proposal; return False, changing nothing, where the study already has a trial of this number."""

    @abstractmethod
    def restore_trial(self, study: str, trial: Trial) -> bool:
        """Add a trial as another store knew it, with its reports, its end and its times.

        One that was running there is new here, as its worker knows nothing of this store.

        Returns:
            False, changing nothing, where the study already has a trial of this number.
        """

    def restore_study(self, record: StudyRecord, trials: Iterable[Trial]) -> int:
        """Add a study as another store knew it; one that was interrupted may be repeated.

        Returns:
            Number of trials that were added.

        Raises:
            StudyConflictError: A study of this name differs.
        """
        self.create_study(record)
        return sum(self.restore_trial(record.name, trial) for trial in trials)

    @abstractmethod
    def claim(self, study: str, worker: str, lease_s: float, only: Collection[int] | None = None) -> Claim | None:
        """Start the new trial of the lowest number among those of the highest priority; None where no trial is new.

        Args:
            study: Name of the study.
            worker: Who claims.
            lease_s: How long the worker may be silent.
            only: Numbers of trials; no other one is started. None for all.
        """

    @abstractmethod
    def renew(self, claim: Claim) -> None:
        """Let the lease begin anew.

        Raises:
            LeaseLostError: The trial is no longer this claim's.
        """

    @abstractmethod
    def report(self, claim: Claim, report: EpochReport) -> None:
        """Record one epoch, in place of what an earlier attempt told of it and of later ones.

        Raises:
            LeaseLostError: The trial is no longer this claim's.
        """

    @abstractmethod
    def finish(self, claim: Claim, outcome: Outcome) -> None:
        """End the trial with the state that `outcome` names.

        Raises:
            LeaseLostError: The trial is no longer this claim's.
        """

    @abstractmethod
    def release(self, claim: Claim) -> None:
        """Hand the trial back: it is new again and has lost no life.

        Raises:
            LeaseLostError: The trial is no longer this claim's.
        """

    @abstractmethod
    def withdraw(self, study: str, number: int, reason: str) -> bool:
        """End a trial that has not ended, also one that runs, as failed for this reason.

        Returns:
            False, changing nothing, where it has ended, or there is none of this number.
        """

    @abstractmethod
    def requeue_expired(self, study: str, at_s: float | None = None) -> list[int]:
        """Take every trial whose lease ran out from its worker; return their numbers, lowest first.

        A caller that was itself cut off or asleep for long must first wait a whole lease: the workers were perhaps
        cut off with it, and are about to renew.

        Args:
            study: Name of the study.
            at_s: Take those whose lease had run out at this moment of the store's time, when the caller made sure
                that it is awake; None for now.
        """

    @abstractmethod
    def trials(self, study: str) -> list[Trial]:
        """All trials, by number.

        Raises:
            StudyNotFoundError: There is no study of this name.
        """

    @abstractmethod
    def changed_since(self, study: str, cursor: str = "") -> tuple[list[Trial], str]:
        """The trials that changed after an earlier call.

        Args:
            study: Name of the study.
            cursor: What the earlier call returned; empty for all trials.

        Returns:
            The changed trials by number, each as it is now, and the cursor for the next call. No change is ever
            left out; one may be told twice.

        Raises:
            StudyNotFoundError: There is no study of this name.
        """

    @abstractmethod
    def scores(self, study: str, epoch: int) -> dict[int, float]:
        """How well each trial did up to an epoch, for those that judge one by the others.

        Returns:
            By number, the best mean Jaccard up to `epoch` of every trial that reported this epoch, however it
            stands now; without those that reported none. Of more than `MOST_SCORES` trials the newest.
        """

    @abstractmethod
    def best(self, study: str, count: int) -> list[tuple[int, float]]:
        """Number and loss of the trials with the lowest losses, at most `count`, the best first, then the older."""

    @abstractmethod
    def counts(self, study: str) -> dict[TrialState, int]:
        """Number of trials in each state, zeros included.

        Raises:
            StudyNotFoundError: There is no study of this name.
        """

    @abstractmethod
    def acquire_lead(self, study: str, owner: str, lease_s: float) -> Lead | None:
        """Become the study's only master; None where another one's lease has not run out."""

    @abstractmethod
    def renew_lead(self, lead: Lead) -> None:
        """Let the master's lease begin anew.

        Raises:
            LeaseLostError: Another master leads.
        """

    @abstractmethod
    def release_lead(self, lead: Lead) -> None:
        """Let another master lead at once; do nothing where one does."""

    @abstractmethod
    def leader(self, study: str) -> str | None:
        """Who leads, None where nobody does or the lease ran out."""

    @abstractmethod
    def heartbeat(self, worker: WorkerRecord) -> None:
        """Record that the worker lives and what it does; the store sets the time."""

    @abstractmethod
    def forget_worker(self, study: str, name: str) -> None:
        """Take a worker that leaves off the list."""

    @abstractmethod
    def workers(self, study: str) -> list[WorkerRecord]:
        """All workers that have not left, by name; the dead show by `last_seen_s`."""

    @abstractmethod
    def probe(self) -> None:
        """Write, and take it back: so that rights that are missing show before they are needed.

        Raises:
            StoreError: The store cannot be written.
        """

    @abstractmethod
    def now(self) -> float:
        """The store's time, in seconds since the epoch, to the millisecond."""


def check_same_study(stored: StudyRecord, given: StudyRecord, may_change: Collection[str] = ()) -> None:
    """Refuse a study that is not the stored one.

    Args:
        stored: The study in the store.
        given: What a master or worker was told.
        may_change: See `TrialStore.update_study_settings`.

    Raises:
        StudyConflictError: They differ elsewhere; every such place is named with both values.
    """
    if not stored.software:
        # Begun when nobody asked.
        given = given.model_copy(update={"software": {}})
    allowed = [path if path in StudyRecord.model_fields else f"settings.{path}" for path in may_change]
    paths = [path for path in study_differences(stored, given) if not is_covered(path, allowed)]
    if paths:
        ours, theirs = stored.model_dump(mode="json"), given.model_dump(mode="json")
        told = [f"{path} (stored {_at(ours, path)}, given {_at(theirs, path)})" for path in paths[:4]]
        more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
        raise StudyConflictError(
            f"A study named {stored.name!r} exists and differs in {', '.join(told)}{more}",
            remedy="Give the new study another name, or undo the change",
        )


def no_such_study(name: str, known: list[str]) -> StudyNotFoundError:
    """The error for a name that the store does not hold."""
    return StudyNotFoundError(
        f"The store holds no study named {name!r}",
        remedy=f"It holds: {', '.join(known)}" if known else "Run `run_search.py search` first",
    )


def lost_lease(claim: Claim) -> LeaseLostError:
    """The error for a claim that holds its trial no longer."""
    return LeaseLostError(
        f"Trial {claim.number} of {claim.study!r} is no longer held by {claim.worker}",
        remedy="It was withdrawn, or its worker was silent for longer than its lease; raise search.lease_s if that was "
        "not its death",
    )


def _at(plain: object, path: str) -> str:
    """The value at a dotted path, shortened; keys may themselves hold dots."""
    if not path:
        text = repr(plain)
        return text if len(text) <= 60 else f"{text[:57]}..."
    if isinstance(plain, Mapping):
        for key, value in plain.items():
            if path == key or path.startswith(f"{key}."):
                return _at(value, path[len(key) + 1 :])
    return "nothing"

"""What a store holds, as frozen objects: studies, trials, claims, workers."""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from search_space.candidate import Candidate
from search_space.decode import Frozen, ListAsTuple, Whole, decode, encode
from search_space.errors import MalformedError
from search_space.objective import EpochReport, Outcome
from search_space.study import LONGEST_LEASE_S
from search_space.task import Task

MAX_LIVES = 3
"""A trial that loses this many workers has failed."""

FURTHEST_LEASE_S = 2 * LONGEST_LEASE_S
"""A lease that ends further ahead was made by a clock that was wrong, or by no store, and has run out. Twice the
longest: a server that takes over after another may be behind it."""


class TrialState(StrEnum):
    """Where a trial is in its life.

    ::

        new ──claim──> running ──finish──> done | pruned | infeasible | failed
         ^                │
         ├── release ─────┤
         └── lease ran out┘   (the third time: failed, "lost 3 workers")
    """

    NEW = "new"
    RUNNING = "running"
    DONE = "done"
    PRUNED = "pruned"
    INFEASIBLE = "infeasible"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing changes any more."""
        return self not in (TrialState.NEW, TrialState.RUNNING)


def _as_state(value: Any) -> Any:
    return TrialState(value) if isinstance(value, str) else value


State = Annotated[TrialState, BeforeValidator(_as_state)]
Count = Annotated[Whole, Field(ge=0)]
Coordinate = Annotated[int | float, Field(ge=-1e15, le=1e15)]
Point = dict[str, Coordinate]
"""Label of each hyperparameter to its number; for a choice, the index of the option, as Hyperopt records it."""


class StudyRecord(Frozen):
    """One search, as all its masters and workers must agree on it.

    Attributes:
        name: Its name, unique in the store.
        settings: The resolved study as plain data (`encode(study)`).
        space_fingerprint: See `search_space.space.space_fingerprint`.
        data_fingerprint: Fingerprint of the prepared data set.
        seed: Everything random derives from it and the trial's number.
        software: What else the losses depend on, by name: the version, the backend, its precision.
    """

    name: Annotated[str, Field(min_length=1)]
    settings: dict[str, Any]
    space_fingerprint: str
    data_fingerprint: str
    seed: Count
    software: dict[str, str] = {}


class NewTrial(Frozen):
    """A proposal on its way into the store.

    Attributes:
        number: Number in the study, from 0.
        point: What Hyperopt chose.
        candidate: The plain form of the candidate made from it.
        seed: Seed of everything random in the trial.
        priority: Those of a higher one are tried first.
        task: The plain form of what a retraining does with the candidate; None in a search.
    """

    number: Count
    point: Point
    candidate: dict[str, Any]
    seed: Count
    priority: Whole = 0
    task: dict[str, Any] | None = None


class Trial(Frozen):
    """One candidate tried once, as the store knows it at one moment. Times are seconds since the epoch.

    Attributes:
        number: Number in the study, from 0.
        state: Where it is in its life.
        point: What Hyperopt chose.
        candidate: The plain form of the candidate; see `decoded`.
        seed: Seed of everything random in the trial.
        priority: Those of a higher one are tried first.
        task: The plain form of what a retraining does with the candidate, see `decoded_task`; None in a search.
        attempts: How many times a worker claimed it.
        lost_workers: How many of these workers fell silent.
        worker: Who claimed it last.
        reports: One per epoch, by epoch; those of an attempt that another went on from are kept.
        outcome: How it ended, None before.
        created_s: When it was proposed.
        started_s: When it was claimed last.
        finished_s: When it ended.
    """

    number: Count
    state: State
    point: Point
    candidate: dict[str, Any]
    seed: Count
    priority: Whole = 0
    task: dict[str, Any] | None = None
    attempts: Count = 0
    lost_workers: Count = 0
    worker: str | None = None
    reports: Annotated[tuple[EpochReport, ...], ListAsTuple] = ()
    outcome: Outcome | None = None
    created_s: float
    started_s: float | None = None
    finished_s: float | None = None

    def known(self) -> Candidate | None:
        """The candidate as an object; None where the store holds no readable one."""
        try:
            return self.decoded() if self.candidate else None
        except MalformedError:
            return None

    def decoded(self) -> Candidate:
        """The candidate as an object.

        Raises:
            MalformedError: The stored mapping describes no candidate.
        """
        return decode(
            Candidate,
            self.candidate,
            where=f"the stored candidate of trial {self.number}",
            remedy="Restore the trial store from a copy, or search again under another study.name",
        )

    def decoded_task(self) -> Task | None:
        """What a retraining does with the candidate, as an object; None in a search, or where it cannot be read."""
        try:
            return None if self.task is None else decode(Task, self.task, where=f"the task of trial {self.number}")
        except MalformedError:
            return None

    def as_new(self) -> "Trial":
        """The same trial where nobody runs it."""
        running = self.state is TrialState.RUNNING
        return self.model_copy(update={"state": TrialState.NEW}) if running else self

    @property
    def proposal(self) -> NewTrial:
        """What was proposed."""
        return NewTrial(**{name: getattr(self, name) for name in NewTrial.model_fields})

    @property
    def loss(self) -> float | None:
        """The loss it ended with, None where it has none."""
        return self.outcome.loss if self.outcome else None

    @property
    def best_reported(self) -> float | None:
        """The best mean Jaccard of its epochs so far, None where none has one."""
        return max((each.mean_jaccard for each in self.reports if each.mean_jaccard is not None), default=None)


class Claim(Frozen):
    """A worker's right to write about one trial, for as long as the store knows its token.

    Attributes:
        study: Name of the study.
        number: Number of the trial.
        token: Changes with every claim; every write compares it.
        worker: Who claimed.
        candidate: The plain form of the candidate.
        seed: Seed of everything random in the trial.
        attempt: 1 for the first claim of the trial.
        lease_s: How long the worker may be silent.
        task: The plain form of what a retraining does with the candidate; None in a search.
    """

    study: str
    number: Count
    token: str
    worker: str
    candidate: dict[str, Any]
    seed: Count
    attempt: Annotated[Whole, Field(ge=1)]
    lease_s: Annotated[float, Field(gt=0.0)]
    task: dict[str, Any] | None = None


class Lead(Frozen):
    """The right to add trials to a study: a master's, or that of whoever retrains.

    Attributes:
        study: Name of the study.
        owner: Who leads.
        token: Changes with every acquisition.
        lease_s: How long whoever leads may be silent.
    """

    study: str
    owner: str
    token: str
    lease_s: Annotated[float, Field(gt=0.0)]


class WorkerRecord(Frozen):
    """A worker as it last told of itself.

    Attributes:
        name: Its name, unique in the study.
        host: Machine it runs on.
        pid: Process there.
        study: Name of the study it works on.
        trial: Number of the trial it is running, None while it waits.
        elsewhere: Another study whose trial it is running; empty where it runs one of this, or none.
        device: What it computes on, such as "GPU 0"; empty where it did not tell.
        memory_mb: What its trial's processes held when it last told, in 10**6 bytes.
        last_seen_s: When it was last heard of, in the store's time; set by the store.
    """

    name: Annotated[str, Field(min_length=1)]
    host: str
    pid: Count
    study: str
    trial: Count | None = None
    elsewhere: str = ""
    device: str = ""
    memory_mb: Annotated[float, Field(ge=0.0)] = 0.0
    last_seen_s: float = 0.0


def study_differences(stored: StudyRecord, given: StudyRecord) -> list[str]:
    """Name where two records of one study differ.

    Returns:
        Paths such as `seed` or `settings.limits.max_trials`, in the order of the fields.
    """
    return _differences(encode(stored), encode(given), "")


def is_covered(path: str, allowed: Collection[str]) -> bool:
    """Whether the dotted `path` is one of `allowed`, or lies under one."""
    return any(path == each or path.startswith(f"{each}.") for each in allowed)


def _differences(left: Mapping[str, Any], right: Mapping[str, Any], prefix: str) -> list[str]:
    paths = []
    for key in dict.fromkeys([*left, *right]):
        path = f"{prefix}{key}"
        ours, theirs = left.get(key), right.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            paths += _differences(ours, theirs, f"{path}.")
        elif key not in left or key not in right or ours != theirs:
            paths.append(path)
    return paths

"""The contract between whoever runs a trial and whoever trains: what goes in, what comes out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self

from pydantic import Field, model_validator

from search_space.candidate import Candidate
from search_space.decode import Frozen, Whole
from search_space.task import Task

CHECKPOINT_FILE = "checkpoint.npz"
"""In a trial's folder: what the next attempt goes on from. Whoever runs trials removes it when one has ended."""

BEFORE_CHECKPOINT_FILE = "before.checkpoint.npz"
"""Beside it: the one of the epoch before, for where the newest is damaged. It never leaves the folder."""

EVENTS_FOLDER = "events"
"""In a trial's folder: what TensorBoard shows of its epochs."""


MODEL_FILE = "model.keras"
"""In a trial's folder: what it has trained. Whoever runs trials keeps it, if it is among the best, and removes it."""


START_FILE = "start.keras"
"""In a trial's folder: the model that its training starts from, where its task names one. Whoever runs trials fetches
it before the trial, and removes it."""

Measured = Annotated[float, Field(ge=0.0)]


class EpochReport(Frozen):
    """What is known after one epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        training_loss: Mean training loss over the epoch.
        jaccard: Validation Jaccard per class at the best threshold; classes absent from the fold are left out; empty
            after an epoch that was not validated.
        seconds: Duration of the epoch, validation included.
        loss_parts: Mean over the epoch of what each loss adds to `training_loss`, by its name in the training plan;
            `energy`, and `l2` for what large weights cost, where there are such.
        learning_rate: At the end of the epoch.
        patches_per_s: Patches trained per second, validation apart.
        data_wait_share: Share of that time in which the training stood still for want of a batch.
        validation_s: Duration of the validation; None where there was none.
        memory_mb: Memory that the process holds at the end of the epoch, in 10**6 bytes.
    """

    epoch: Annotated[Whole, Field(ge=1)]
    training_loss: float
    jaccard: dict[str, float] = {}
    seconds: Annotated[float, Field(ge=0.0)] = 0.0
    loss_parts: dict[str, float] = {}
    learning_rate: Measured | None = None
    patches_per_s: Measured | None = None
    data_wait_share: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    validation_s: Measured | None = None
    memory_mb: Measured | None = None

    @property
    def mean_jaccard(self) -> float | None:
        """Mean over the classes present, None where there are none."""
        return sum(self.jaccard.values()) / len(self.jaccard) if self.jaccard else None


class Outcome(Frozen):
    """How a trial ended.

    Attributes:
        state: "done", "pruned" (stopped early, as others did better), "infeasible" (no model can be built or trained
            within the limits), or "failed".
        loss: 1 - mean validation Jaccard; given exactly when done.
        reason: Why it is not done; one line.
        jaccard: Validation Jaccard per class at its best threshold.
        thresholds: The threshold per class at which `jaccard` was reached.
        figures: Further numbers with their unit in the name, such as `num_parameters`, `train_s`.
    """

    state: Literal["done", "pruned", "infeasible", "failed"]
    loss: float | None = None
    reason: str | None = None
    jaccard: dict[str, float] = {}
    thresholds: dict[str, float] = {}
    figures: dict[str, float] = {}

    @model_validator(mode="after")
    def _loss_or_reason(self) -> Self:
        if (self.state == "done") != (self.loss is not None):
            raise ValueError("a loss is given exactly when the state is 'done'")
        if self.state != "done" and not self.reason:
            raise ValueError("a trial that is not done needs a reason")
        return self


class TrialContext(Protocol):
    """What a running trial may use of its surroundings."""

    @property
    def number(self) -> int:
        """The trial's number in its study, from 0."""

    @property
    def seed(self) -> int:
        """Seed of everything random in the trial."""

    @property
    def folder(self) -> Path:
        """An existing folder for the trial's files."""

    @property
    def task(self) -> Task | None:
        """What a retraining does with the candidate; None in a search."""

    def report(self, report: EpochReport) -> None:
        """Record one epoch."""

    def restored(self, reports: Sequence[EpochReport]) -> None:
        """Tell again of the epochs that an earlier attempt had: it may have been cut off before they were recorded."""

    def warn(self, text: str) -> None:
        """Tell of what does not end the trial, but whoever watches its worker should know; one line."""


class Objective(Protocol):
    """What is run for each trial. It is sent to child processes, so it must be picklable."""

    def warm_up(self) -> None:
        """Do what is slow and the same for every trial, such as importing the framework."""

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        """Try `candidate`; raise `InfeasibleError` for one that cannot be tried."""

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


MODEL_FILE = "model.keras"
"""In a trial's folder: what it has trained. Whoever runs trials keeps it, if it is among the best, and removes it."""


START_FILE = "start.keras"
"""In a trial's folder: the model that its training starts from, where its task names one. Whoever runs trials fetches
it before the trial, and removes it."""


class EpochReport(Frozen):
    """What is known after one epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        training_loss: Mean training loss over the epoch.
        jaccard: Validation Jaccard per class at the best threshold; classes absent from the fold are left out.
        seconds: Duration of the epoch, validation included.
    """

    epoch: Annotated[Whole, Field(ge=1)]
    training_loss: float
    jaccard: dict[str, float] = {}
    seconds: Annotated[float, Field(ge=0.0)] = 0.0

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


class Objective(Protocol):
    """What is run for each trial. It is sent to child processes, so it must be picklable."""

    def warm_up(self) -> None:
        """Do what is slow and the same for every trial, such as importing the framework."""

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        """Try `candidate`; raise `InfeasibleError` for one that cannot be tried."""

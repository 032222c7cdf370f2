"""A training of a retraining that has ended well, and what its model says of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.models.trial_model import read_about
from search_space.candidate import Candidate
from search_space.errors import MapgroveError
from search_space.objective import EpochReport
from search_space.records import TrialModel
from search_space.task import Task

AGAIN = "Run `retrain` again"


@dataclass(frozen=True)
class FinishedTraining:
    """A training of a retraining that has ended well.

    Attributes:
        task: What it was to do.
        candidate: What it trained.
        model_file: The `.keras` file that `write_trial_model` made of it.
        reports: One per epoch.
        figures: Further numbers with their unit in the name.
    """

    task: Task
    candidate: Candidate
    model_file: Path
    reports: Sequence[EpochReport] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    def about(self) -> TrialModel:
        """What the model says of itself, if it is what the training was to make.

        Raises:
            MapgroveError: It is missing, damaged, another one, or says nothing of what was counted.
        """
        about = read_about(self.model_file)
        class_name = self.task.class_name
        if about.classes != (class_name,) or about.candidate != self.candidate:
            raise MapgroveError(
                f"{self.model_file} is not the model that a training of {class_name} was to make",
                received=", ".join(about.classes),
                remedy=AGAIN,
            )
        if not about.counts.get(class_name):
            raise MapgroveError(
                f"{self.model_file} does not say what was counted in its validation, so no threshold can be chosen",
                remedy=AGAIN,
            )
        return about

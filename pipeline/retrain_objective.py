"""What one trial of a retraining does: train the network of one class against the rest, and keep the model."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backend import use_backend
from search_space.candidate import Candidate
from search_space.errors import InfeasibleError, MapgroveError, UnableError
from search_space.objective import START_FILE, Outcome, TrialContext
from search_space.study import Study
from search_space.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

    from pipeline.study_data import StudyData

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetrainObjective:
    """The objective of a retraining: loss is 1 - validation Jaccard of the task's class.

    The number of threads is left to the framework: nothing is ranked by the last digits of these losses.

    Attributes:
        study: Data, folds and limits; its name is that of the retraining.
        num_devices: Accelerators that train together.
    """

    study: Study
    num_devices: int = 1

    def warm_up(self) -> None:
        """Import the framework, which takes seconds."""
        use_backend()

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        """Train, validate and write the model; go on where an earlier attempt was cut off.

        A training that diverges ends with its best epoch before: another attempt would diverge in the same place.

        Raises:
            InfeasibleError: The network needs more memory than there is, or the class is not labelled in the ground
                that trains or in that which validates.
            DivergedError: Its training loss became NaN or infinite before an epoch was validated.
            UnableError: The prepared data, or the weights that the encoder starts from, are gone or others, or there
                are fewer devices.
            MapgroveError: The trial has no task, or what it starts from is not there.
        """
        if trial.task is None:
            raise MapgroveError("a trial of a retraining without a task", received=trial.number)
        candidate.check_feasible()
        self.warm_up()
        from pipeline.scene import DataError
        from pipeline.study_data import StudyData, ground_of
        from pipeline.training.trial_training import TrialTraining

        _check_weights(candidate, trial.task)
        try:
            data = StudyData.open(self.study, trial.task.fold, trial.task.num_folds)
            if trial.task.ground not in ("", ground_of(self.study, data.dataset)):
                raise UnableError(
                    "the data or their split are not those that `retrain` was called with: start the worker again"
                )
            check_labelled(trial.task, data)
            training = TrialTraining(
                self.study,
                (trial.task.class_name,),
                trial.task.budget,
                trial.task.limits(self.study.limits),
                num_devices=self.num_devices,
                start=trial.task.start,
                keeps_best=True,
            )
            return training.run(candidate, trial, data, _initialise(trial.folder, trial.task, data))
        except DataError as error:
            raise UnableError(f"the prepared data cannot be used: {error}") from error


def check_labelled(task: Task, data: "StudyData") -> None:
    """Refuse ground from which a class cannot be learned, or on which no threshold can be chosen.

    Raises:
        InfeasibleError: Of the task's class nothing is labelled in one of both.
    """
    for where, absent in (("training", data.fold.absent_in_training), ("validation", data.fold.absent_in_validation)):
        if task.class_name in absent:
            fold = f" of fold {task.fold} of {task.num_folds}" if task.num_folds else ""
            raise InfeasibleError(f"no {where} ground{fold} has {task.class_name}")


def weights_sha256(candidate: Candidate) -> str:
    """SHA-256 of the file that a candidate's encoder starts from; empty where it names none that is here."""
    from pipeline.files import sha256_of

    path = candidate.architecture.weights_file
    return sha256_of(path) if path is not None and path.is_file() else ""


def _check_weights(candidate: Candidate, task: Task) -> None:
    """Refuse to begin with other weights than those the retraining was asked for with."""
    here = weights_sha256(candidate)
    if task.weights and here != task.weights:
        raise UnableError(
            f"{candidate.architecture.weights_file} is not here the file that `retrain` was called with"
            if here
            else f"there is no file {candidate.architecture.weights_file} here"
        )


def _initialise(folder: Path, task: Task, data: "StudyData") -> "Callable[[keras.Model], None] | None":
    """What gives a new network the weights that its task starts from; None from scratch.

    Raises:
        MapgroveError: As `start_file`.
    """
    source = start_file(folder, task)
    if source is None:
        return None

    def initialise(model: "keras.Model") -> None:
        from pipeline.models.starting_weights import start_from

        logger.info("starts from %s", start_from(model, source, data.dataset.input_bands, (task.class_name,)).text)

    return initialise


def start_file(folder: Path, task: Task) -> Path | None:
    """The model that a task starts from, in the trial's folder; None where it starts from scratch.

    Raises:
        MapgroveError: It is not there, or is another one.
    """
    from pipeline.files import sha256_of

    if not task.start:
        return None
    path = folder / START_FILE
    if not path.is_file() or sha256_of(path) != task.start:
        raise MapgroveError("the model that training starts from is not kept", remedy="Run `retrain` again")
    return path

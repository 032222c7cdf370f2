"""The training of a trial, of a search or a retraining: on a study's ground, resumed, reported, and its model kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.models.trial_model import about_trial, write_trial_model
from pipeline.networks.devices import data_parallel
from pipeline.study_data import StudyData
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.train import train
from search_space.candidate import Candidate
from search_space.objective import CHECKPOINT_FILE, EVENTS_FOLDER, MODEL_FILE, Outcome, TrialContext
from search_space.study import Budget, LimitSettings, Study


@dataclass(frozen=True)
class TrialTraining:
    """What a trial trains, and how long.

    Attributes:
        study: Whose trial it is.
        classes: What is mapped, in order.
        budget: Epochs and steps.
        limits: How large the network may be, and what it computes in.
        num_devices: Accelerators that train together.
        start: SHA-256 of the model that `initialise` takes weights from; empty from scratch.
        keeps_model: Whether the model is written into the trial's folder.
        keeps_best: Whether a training that diverges ends with its best epoch before.
    """

    study: Study
    classes: tuple[str, ...]
    budget: Budget
    limits: LimitSettings
    num_devices: int = 1
    start: str = ""
    keeps_model: bool = True
    keeps_best: bool = False

    def run(
        self,
        candidate: Candidate,
        trial: TrialContext,
        data: StudyData,
        initialise: Callable[[Any], None] | None = None,
    ) -> Outcome:
        """Train, go on where an earlier attempt was cut off, write the model.

        Args:
            candidate: What to train.
            trial: Where files and reports go.
            data: Which ground trains and validates.
            initialise: See `train`.

        Returns:
            Loss 1 - mean validation Jaccard over the classes present.

        Raises:
            InfeasibleError: See `train`.
            DivergedError: See `train`.
            UnableError: There are fewer devices.
        """
        normalisation = data.normalisation(candidate.plan.scaling)
        depends_on = {"data": data.dataset.fingerprint, "folds": data.fold.fingerprint, "start": self.start}
        with data_parallel(self.num_devices, candidate.plan.batch_size):
            trained = train(
                candidate,
                data.scenes(data.fold.training, self.classes, normalisation),
                data.scenes(data.fold.validation, self.classes, normalisation),
                self.classes,
                data.dataset.input_bands,
                self.budget,
                seed=trial.seed,
                limits=self.limits,
                on_epoch=trial.report,
                on_restored=trial.restored,
                checkpoint=Checkpoint(trial.folder / CHECKPOINT_FILE, depends_on, trial.warn),
                initialise=initialise,
                keeps_best=self.keeps_best,
                events=trial.folder / EVENTS_FOLDER,
            )
        reached, figures = trained.validation, trained.figures
        if "diverged_in_epoch" in figures:
            trial.warn("diverged in epoch {diverged_in_epoch:.0f}; epoch {best_epoch:.0f} is kept".format_map(figures))
        if self.keeps_model:
            numbers = normalisation.numbers
            about = about_trial(self.study, trial.number, candidate, self.classes, numbers, data, reached, trial.task)
            write_trial_model(trial.folder / MODEL_FILE, trained.model, about)
        return Outcome(
            state="done",
            loss=1.0 - reached.mean_jaccard,
            jaccard=reached.jaccard,
            thresholds=reached.thresholds,
            figures=figures,
        )

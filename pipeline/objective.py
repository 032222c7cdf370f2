"""What one trial does: train the candidate on all classes of the study, and say how well it validates."""

from dataclasses import dataclass

from pipeline.backend import use_backend
from search_space.candidate import Candidate
from search_space.errors import UnableError
from search_space.objective import CHECKPOINT_FILE, EVENTS_FOLDER, MODEL_FILE, Outcome, TrialContext
from search_space.study import Study


@dataclass(frozen=True)
class TrainingObjective:
    """The objective of a study: loss is 1 - mean validation Jaccard over the classes present.

    Attributes:
        study: Data, folds, budget and limits.
        num_devices: Accelerators that train together.
    """

    study: Study
    num_devices: int = 1

    def warm_up(self) -> None:
        """Import the framework, which takes seconds."""
        use_backend(self.study.limits.trial_threads)

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        """Train and validate; go on where an earlier attempt was cut off.

        Raises:
            InfeasibleError: No network can be built from the candidate within the study's limits.
            DivergedError: Its training loss became NaN or infinite.
            UnableError: The prepared data are gone or others than the study's, or there are fewer devices.
        """
        candidate.check_feasible()
        self.warm_up()
        from pipeline.checkpoint import Checkpoint
        from pipeline.devices import data_parallel
        from pipeline.scene import DataError
        from pipeline.study_data import StudyData
        from pipeline.training import train
        from pipeline.trial_model import about_trial, write_trial_model

        try:
            data = StudyData.open(self.study)
            classes = self.study.classes
            normalisation = data.normalisation(candidate.plan.scaling)
            depends_on = {"data": data.dataset.fingerprint, "folds": data.fold.fingerprint}
            with data_parallel(self.num_devices, candidate.plan.batch_size):
                trained = train(
                    candidate,
                    data.scenes(data.fold.training, classes, normalisation),
                    data.scenes(data.fold.validation, classes, normalisation),
                    classes,
                    data.dataset.input_bands,
                    self.study.budget,
                    seed=trial.seed,
                    limits=self.study.limits,
                    on_epoch=trial.report,
                    on_restored=trial.restored,
                    checkpoint=Checkpoint(trial.folder / CHECKPOINT_FILE, depends_on),
                    events=trial.folder / EVENTS_FOLDER,
                )
        except DataError as error:
            # Were this the trial's failure, one unmounted disk would end a whole search.
            raise UnableError(f"the prepared data cannot be used: {error}") from error
        validation = trained.validation
        if self.study.search.keep_models:
            about = about_trial(self.study, trial.number, candidate, classes, normalisation.numbers, data, validation)
            write_trial_model(trial.folder / MODEL_FILE, trained.model, about)
        return Outcome(
            state="done",
            loss=1.0 - validation.mean_jaccard,
            jaccard=validation.jaccard,
            thresholds=validation.thresholds,
            figures=trained.figures,
        )

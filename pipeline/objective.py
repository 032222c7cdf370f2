"""What one trial does: train the candidate on all classes of the study, and say how well it validates."""

from dataclasses import dataclass

from pipeline.backend import use_backend
from search_space.candidate import Candidate
from search_space.errors import UnableError
from search_space.objective import Outcome, TrialContext
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
        from pipeline.scene import DataError
        from pipeline.study_data import StudyData
        from pipeline.training.trial_training import TrialTraining

        study = self.study
        training = TrialTraining(
            study,
            study.classes,
            study.budget,
            study.limits,
            num_devices=self.num_devices,
            keeps_model=bool(study.search.keep_models),
        )
        try:
            return training.run(candidate, trial, StudyData.open(study))
        except DataError as error:
            # Were this the trial's failure, one unmounted disk would end a whole search.
            raise UnableError(f"the prepared data cannot be used: {error}") from error

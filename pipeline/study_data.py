"""What a study trains and validates on: its prepared scenes, split into folds, and scaled as a plan asks for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.folds.cross_folds import cross_folds
from pipeline.folds.folds import Fold, make_fold
from pipeline.folds.ground import Part
from pipeline.patches.scenes import TrainingScene
from pipeline.preparation.normalisation import Normalisation
from pipeline.preparation.prepared import PreparedDataset
from search_space.decode import encode, fingerprint
from search_space.study import Study
from search_space.training_plan import Scaling


def ground_of(study: Study, dataset: PreparedDataset) -> str:
    """16 hexadecimal digits: equal only where the data and all that splits them are the same."""
    return fingerprint([dataset.fingerprint, encode(study.folds)])


@dataclass(frozen=True)
class StudyData:
    """A study's scenes.

    Attributes:
        dataset: All prepared scenes.
        fold: Which ground trains, validates and tests.
    """

    dataset: PreparedDataset
    fold: Fold

    @classmethod
    def open(cls, study: Study, fold: int = 0, num_folds: int = 0) -> "StudyData":
        """Open the prepared data set and split it.

        Args:
            study: Whose data.
            fold: Which of `num_folds` validates, from 1; 0 for the study's own split.
            num_folds: See `cross_folds`; 0 with the study's own split.

        Raises:
            DataError: Not prepared, prepared with other settings, or a fold that cannot be made.
        """
        dataset = PreparedDataset.open_for(study.data)
        if num_folds:
            return cls(dataset, cross_folds(study.folds, dataset, num_folds)[fold - 1])
        return cls(dataset, make_fold(study.folds, dataset))

    def normalisation(self, scaling: Scaling) -> Normalisation:
        """Fit a scaling on the training ground alone.

        Raises:
            MapgroveError: None of it has a pixel with data.
        """
        return Normalisation.fit(scaling, (part.imagery for part in self.fold.training))

    def scenes(
        self, parts: Iterable[Part], class_names: Sequence[str], normalisation: Normalisation
    ) -> list[TrainingScene]:
        """Parts of scenes, each scaled as its whole scene is, for the training of some classes."""
        classes = tuple(self.dataset.classes.index(name) for name in class_names)
        return [TrainingScene(p, normalisation.for_scene(p.scene), classes, p.held_out) for p in parts]

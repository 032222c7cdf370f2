"""What a study trains and validates on: its prepared scenes, split into folds and scaled."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.folds import Fold, make_fold
from pipeline.ground import Part
from pipeline.normalisation import Normalisation
from pipeline.prepared import PreparedDataset
from pipeline.sampler import TrainingScene
from search_space.study import Study


@dataclass(frozen=True)
class StudyData:
    """A study's scenes.

    Attributes:
        dataset: All prepared scenes.
        fold: Which ground trains, validates and tests.
        normalisation: Fitted on the training ground alone.
    """

    dataset: PreparedDataset
    fold: Fold
    normalisation: Normalisation

    @classmethod
    def open(cls, study: Study) -> "StudyData":
        """Open the prepared data set and split it.

        Raises:
            DataError: Not prepared, prepared with other settings, or a fold that cannot be made.
        """
        dataset = PreparedDataset.open_for(study.data)
        fold = make_fold(study.folds, dataset)
        training = (part.imagery for part in fold.training)
        return cls(dataset, fold, Normalisation.fit(study.data.normalise, training))

    def scenes(self, parts: Iterable[Part], class_names: Sequence[str]) -> list[TrainingScene]:
        """Parts of scenes, each scaled as its whole scene is, for the training of some classes."""
        classes = tuple(self.dataset.classes.index(name) for name in class_names)
        return [TrainingScene(p, self.normalisation.for_scene(p.scene), classes, p.held_out) for p in parts]

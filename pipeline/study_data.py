"""What a study trains and validates on: its prepared scenes, split into folds, and scaled as a plan asks for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.folds import Fold, make_fold
from pipeline.normalisation import Normalisation
from pipeline.patches.scenes import TrainingScene
from pipeline.prepared import PreparedDataset
from search_space.study import Study
from search_space.training_plan import Scaling


@dataclass(frozen=True)
class StudyData:
    """A study's scenes.

    Attributes:
        dataset: All prepared scenes.
        fold: Which of them train, validate and test.
    """

    dataset: PreparedDataset
    fold: Fold

    @classmethod
    def open(cls, study: Study) -> "StudyData":
        """Open the prepared data set and split it.

        Raises:
            DataError: Not prepared, prepared with other settings, or a fold that cannot be made.
        """
        dataset = PreparedDataset.open_for(study.data)
        return cls(dataset, make_fold(study.folds, dataset))

    def normalisation(self, scaling: Scaling) -> Normalisation:
        """Fit a scaling on the training scenes alone.

        Raises:
            MapgroveError: None of them has a pixel with data.
        """
        return Normalisation.fit(scaling, (self.dataset.scene(scene_id) for scene_id in self.fold.training))

    def scenes(
        self, scene_ids: Iterable[str], class_names: Sequence[str], normalisation: Normalisation
    ) -> list[TrainingScene]:
        """The named scenes, scaled, for the training of some classes."""
        classes = tuple(self.dataset.classes.index(name) for name in class_names)
        scenes = [self.dataset.scene(scene_id) for scene_id in scene_ids]
        return [TrainingScene(scene, normalisation.for_scene(scene), classes) for scene in scenes]

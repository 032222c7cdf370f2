"""What a study trains and validates on: its prepared scenes, split into folds, and scaled as a plan asks for."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.folds import Fold, make_fold
from pipeline.ground import Part
from pipeline.normalisation import Normalisation
from pipeline.patches.scenes import TrainingScene
from pipeline.prepared import PreparedDataset
from search_space.network.unet import InputBand
from search_space.study import Study
from search_space.training_plan import Scaling


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
    def open(cls, study: Study) -> "StudyData":
        """Open the prepared data set and split it.

        Raises:
            DataError: Not prepared, prepared with other settings, or a fold that cannot be made.
        """
        dataset = PreparedDataset.open_for(study.data)
        return cls(dataset, make_fold(study.folds, dataset))

    @cached_property
    def input_bands(self) -> tuple[InputBand, ...]:
        """The bands of the cubes, each with how often its sensor's resolution is half of the grid's.

        Indices are computed on the grid and have its resolution. Scenes are of one sensor: the first one tells.
        """
        record = self.dataset.manifest.scenes[0]
        levels = {
            band: max(0, round(math.log2(record.height_px / group.height_px)))
            for group in record.groups
            for band in group.bands
        }
        return tuple(InputBand(band.name, levels.get(band.name, 0)) for band in self.dataset.manifest.bands)

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

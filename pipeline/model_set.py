"""A set of retrained models, one per class, as it lies in one folder that can be moved."""

import importlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from pipeline.normalisation import BandScaling, Imagery, Normalisation
from pipeline.prediction import Predictor, model_predictor, predict_scene
from search_space.decode import decode
from search_space.errors import MapgroveError
from search_space.prediction import PredictionSettings, tiling_for
from search_space.records import ModelMember, ModelSet
from search_space.study import Study

MODEL_SET_FILE = "model_set.json"
STUDY_FILE = "study.json"

Model = TypeVar("Model", bound=BaseModel)


def read_model_set(folder: Path) -> ModelSet:
    """Read what is in the model set of `folder`.

    Raises:
        MapgroveError: There is none, or it is damaged.
    """
    return _read(ModelSet, folder / MODEL_SET_FILE)


def read_model_set_study(folder: Path) -> Study:
    """Read the resolved study that the models of `folder` were retrained for.

    Raises:
        MapgroveError: There is no model set, or it is damaged.
    """
    return _read(Study, folder / STUDY_FILE)


@dataclass(frozen=True)
class LoadedModelSet:
    """The models of a folder, ready to predict.

    Attributes:
        description: What is in the set.
        predictors: One per member, in the members' order.
    """

    description: ModelSet
    predictors: tuple[Predictor, ...]

    @classmethod
    def open(cls, folder: Path) -> "LoadedModelSet":
        """Load every model of the set; Keras must run on a backend already.

        Raises:
            MapgroveError: No model set, an empty one, or a damaged file.
        """
        description = read_model_set(folder)
        if not description.members:
            raise MapgroveError(f"the model set in {folder} is empty", remedy="Run `retrain` again")
        strangers = [each.file for each in description.members if not _lies_in(folder, each.file)]
        if strangers:
            raise MapgroveError(f"the model set in {folder} names files outside of it", received=strangers)
        for member in description.members:
            _check_numbers(member, len(description.bands) + len(description.indices), folder)
        return cls(description, tuple(_load(folder / each.file) for each in description.members))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that have a model, in the order of the predicted channels."""
        return tuple(member.class_name for member in self.description.members)

    @property
    def thresholds(self) -> NDArray[np.float32]:
        """Per class the probability from which a pixel is of the class."""
        return np.array([member.threshold for member in self.description.members], np.float32)

    def check_bands(self, bands: Iterable[str]) -> None:
        """Refuse imagery with other bands than the models were trained on.

        Raises:
            MapgroveError: Other bands, or another order.
        """
        wanted = (*self.description.bands, *self.description.indices)
        if tuple(bands) != wanted:
            raise MapgroveError(
                f"the models read the bands {', '.join(wanted)}", received=list(bands), remedy="Prepare these bands"
            )

    def predict(self, scene: Imagery, settings: PredictionSettings) -> NDArray[np.float32]:
        """Map every class of the set; each model gets the bands scaled as in its training.

        Args:
            scene: Bands in the models' order.
            settings: How tiles become a map; each model takes its own patch size where `tile_px` is 0,
                and the overlap that its context asks for where none is given; one that was made by a recipe takes
                what that says.

        Returns:
            Blended probabilities, float32 `(H, W, K)` in the order of `classes`, NaN where there is no data.
        """
        if not np.any(scene.valid):
            return np.full((*scene.valid.shape, len(self.predictors)), np.nan, np.float32)
        scalings = self._scalings(scene)
        maps = [
            predict_scene(predict, scene, scaling, tiling_for(member.candidate, settings.shaped_as(member.prediction)))
            for predict, scaling, member in zip(self.predictors, scalings, self.description.members, strict=True)
        ]
        return np.concatenate(maps, axis=-1)

    def _scalings(self, scene: Imagery) -> list[BandScaling]:
        """One per member; those of one normalisation share theirs."""
        wanted = [_normalisation(member) for member in self.description.members]
        found = {each: each.for_scene(scene) for each in dict.fromkeys(wanted)}
        return [found[each] for each in wanted]


def _normalisation(member: ModelMember) -> Normalisation:
    return Normalisation(member.candidate.plan.scaling, member.numbers)


def _check_numbers(member: ModelMember, num_bands: int, folder: Path) -> None:
    """A model that was scaled by training scenes has a number for each band, any other none."""
    expected = num_bands if member.candidate.plan.scaling.scope == "dataset" else 0
    found = len(member.numbers.mean) if member.numbers else 0
    if found != expected:
        raise MapgroveError(
            f"{folder / MODEL_SET_FILE} is damaged: the model of {member.class_name} must have numbers for "
            f"{expected} bands",
            received=found,
            remedy="Run `retrain` again",
        )


def _lies_in(folder: Path, file: str) -> bool:
    return (folder / file).resolve().is_relative_to(folder.resolve())


def _load(path: Path) -> Predictor:
    # Keras fixes its backend on import, which whoever calls has chosen by now; it then finds our layers by their names.
    saving: Any = importlib.import_module("keras").saving
    importlib.import_module("pipeline.keras_layers")
    try:
        return model_predictor(saving.load_model(path, compile=False))
    except (OSError, TypeError, ValueError) as error:
        # Keras calls a damaged file one that is not found.
        reason = "it is damaged" if path.is_file() else "it is missing"
        raise MapgroveError(f"{path} cannot be loaded: {reason}", remedy="Run `retrain` again") from error


def _read(model: type[Model], path: Path) -> Model:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MapgroveError(
            f"no model set in {path.parent}: {path.name} is missing",
            remedy="Make one: run_search.py retrain --study ...",
        ) from None
    except (OSError, ValueError) as error:
        raise MapgroveError(f"{path} cannot be read ({error})", remedy="Run `retrain` again") from None
    return decode(model, plain, where=str(path), remedy="Run `retrain` again")

"""A set of retrained models, one or several per class, as it lies in one folder that can be moved."""

import gc
import importlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray
from pydantic import BaseModel

from pipeline.backend import free_device_bytes
from pipeline.files import sha256_of
from pipeline.models.passes import Layers, Pass, joined, layers_of, passes_of, shares_of, sized
from pipeline.networks.prediction import Predictor, has_energy, model_predictor, predict_scene
from pipeline.preparation.normalisation import Imagery
from search_space.decode import decode
from search_space.errors import MapgroveError
from search_space.prediction import PredictionSettings
from search_space.records import ModelMember, ModelSet
from search_space.study import Study

MODEL_SET_FILE = "model_set.json"
STUDY_FILE = "study.json"

MOST_KEPT_BYTES = 1 << 30
"""Of model files: so many are loaded once and kept in memory, further ones are loaded anew for each scene, and never
more than so many at once."""

MOST_TILES, MOST_TILES_ON_DEVICE = 16, 64
"""At a time, on a processor and on an accelerator: more are no faster."""

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
class SceneMap:
    """What the models of a set say of a scene.

    Attributes:
        probabilities: float32 `(H, W, K)` in the order of the set's classes, NaN where there is no data.
        energies: How deep within a class pixels lie, float32 `(H, W)`, NaN where there is no data; of the classes whose
            things are told apart, where a model maps it.
    """

    probabilities: NDArray[np.float32]
    energies: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class LoadedModelSet:
    """The models of a folder, ready to predict.

    Attributes:
        description: What is in the set.
        predictor_of: Gives the network of a member, from scaled tiles to probabilities `(N, t, t, 1)`; where it maps
            the energy too, that is a second channel.
        size_of: Bytes of a member's file.
    """

    description: ModelSet
    predictor_of: Callable[[ModelMember], Predictor]
    size_of: Callable[[ModelMember], int] = lambda _: 0

    @classmethod
    def open(cls, folder: Path) -> "LoadedModelSet":
        """Look at every model of the set; Keras must run on a backend already.

        Models are loaded when they are first asked for. They stay in memory up to `MOST_KEPT_BYTES`: a set of five
        folds, three seeds and twenty classes may be larger than memory, and what is beyond is loaded scene by scene.

        Raises:
            MapgroveError: There is no model set, it is empty, or damaged.
        """
        description = read_model_set(folder)
        if not description.members:
            raise MapgroveError(f"the model set in {folder} is empty", remedy="Run `retrain` again")
        strangers = [each.file for each in description.members if not _lies_in(folder, each.file)]
        if strangers:
            raise MapgroveError(
                f"the model set in {folder} names files outside of it", received=strangers, remedy="Run `retrain` again"
            )
        for member in description.members:
            _check_numbers(member, len(description.bands) + len(description.indices), folder)
        for member in description.members:
            _check_file(member, folder)
        return cls(description, _Shelf(folder), lambda member: (folder / member.file).stat().st_size)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that have models, in the order of the predicted channels."""
        return tuple(each.class_name for each in self.description.maps)

    @property
    def thresholds(self) -> NDArray[np.float32]:
        """Per class the probability from which a pixel is of the class."""
        return np.array([each.threshold for each in self.description.maps], np.float32)

    def check_bands(self, bands: Iterable[str]) -> None:
        """Refuse imagery with other bands than the models were trained on.

        Raises:
            MapgroveError: Other bands, or another order.
        """
        wanted = (*self.description.bands, *self.description.indices)
        if tuple(bands) != wanted:
            raise MapgroveError(
                f"the models read the bands {', '.join(wanted)}",
                received=list(bands),
                remedy="Map imagery that has them, in this order, or retrain on the bands that there are",
            )

    def predict(self, scene: Imagery, settings: PredictionSettings) -> NDArray[np.float32]:
        """Map every class of the set: blended probabilities, float32 `(H, W, K)`; see `map_scene`."""
        return self.map_scene(scene, settings.model_copy(update={"instances": ()})).probabilities

    def map_scene(self, scene: Imagery, settings: PredictionSettings) -> SceneMap:
        """Map every class of the set in memory: the mean of what its members say, each with its own scaling and tiles.

        Args:
            scene: Bands in the models' order.
            settings: How tiles become a map; see `passes_of`. Of the classes in `instances` the energy is kept, the
                mean over those that map it.
        """
        layers = layers_of(self.description, settings)
        maps = np.full((*scene.valid.shape, layers.num), np.nan, np.float32)
        if np.any(scene.valid):
            maps[np.asarray(scene.valid)] = 0.0
            for each in self.passes(settings):
                maps[..., each.layers] += predict_scene(
                    self.predictor(each, layers), scene, each.normalisation.for_scene(scene), each.tiling
                )
        num = len(layers.classes)
        return SceneMap(maps[..., :num], {name: maps[..., num + k] for k, name in enumerate(layers.energies)})

    def passes(self, settings: PredictionSettings) -> list[Pass]:
        """In how few passes over an image all layers are mapped; see `passes_of` and `sized`."""
        found = passes_of(self.description, settings, self.size_of, MOST_KEPT_BYTES)
        if all(each.tiling.batch_size for each in found):
            return found
        device_bytes = free_device_bytes()
        host_bytes = psutil.virtual_memory().available
        free_bytes = host_bytes if device_bytes is None else device_bytes
        most = MOST_TILES if device_bytes is None else MOST_TILES_ON_DEVICE
        bands = (*self.description.bands, *self.description.indices)
        return [sized(each, bands, free_bytes, host_bytes, most) for each in found]

    def predictor(self, of_pass: Pass, layers: Layers) -> Predictor:
        """What all members of a pass say together, of its layers; their networks are loaded."""
        predictors = [self.predictor_of(member) for member in of_pass.members]
        return joined(of_pass, predictors, layers, shares_of(self.description, layers))


class _Shelf:
    """The networks of a folder; those that fit are kept when they have been loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, Predictor] = {}
        self._kept_bytes = 0
        self._dropped = False

    def __call__(self, member: ModelMember) -> Predictor:
        """The network of a member.

        Raises:
            MapgroveError: Its file is gone or damaged.
        """
        if member.file in self._kept:
            return self._kept[member.file]
        if self._dropped:
            # Networks refer to themselves: those that were dropped stay until somebody looks.
            gc.collect()
        path = self._folder / member.file
        predictor = _load(path)
        num_bytes = path.stat().st_size
        self._dropped = self._kept_bytes + num_bytes > MOST_KEPT_BYTES
        if not self._dropped:
            self._kept[member.file] = predictor
            self._kept_bytes += num_bytes
        return predictor


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


def _check_file(member: ModelMember, folder: Path) -> None:
    path = folder / member.file
    if not path.is_file():
        raise MapgroveError(f"{path} cannot be loaded: it is missing", remedy="Run `retrain` again")
    if member.sha256 and sha256_of(path) != member.sha256:
        raise MapgroveError(f"{path} cannot be loaded: it is damaged", remedy="Run `retrain` again")


def _lies_in(folder: Path, file: str) -> bool:
    return (folder / file).resolve().is_relative_to(folder.resolve())


def _load(path: Path) -> Predictor:
    # Keras fixes its backend on import, which whoever calls has chosen by now; it then finds our layers by their names.
    saving: Any = importlib.import_module("keras").saving
    importlib.import_module("pipeline.networks.keras_layers")
    try:
        model = saving.load_model(path, compile=False)
        return model_predictor(model, with_energy=has_energy(model))
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
    if model is ModelSet and isinstance(plain, dict) and "members" in plain and "maps" not in plain:
        raise MapgroveError(
            f"{path} is of an earlier version, which wrote candidates in another way", remedy="Run `retrain` again"
        )
    return decode(model, plain, where=str(path), remedy="Run `retrain` again")

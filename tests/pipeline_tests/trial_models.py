"""Networks with weights that nobody trained but that tell layers, bands and classes apart, as files of trials."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.models.trial_model import write_trial_model
from pipeline.networks.builder import build_model
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.network.unet import InputBand
from search_space.records import TrialModel

TINY = {"depth": 1, "base_filters": 4, "units_per_stage": 1}


def bands_of(text: str) -> list[InputBand]:
    """Bands such as "red nir/1": names with the level of their resolution."""
    parts = [name.partition("/") for name in text.split()]
    return [InputBand(name, int(level or 0)) for name, _, level in parts]


def architecture_of(**fields: Any) -> Architecture:
    return decode(Architecture, {**TINY, **fields}, where="test")


def random_network(architecture: Architecture, bands: str, num_classes: int, seed: int = 0) -> keras.Model:
    model = build_model(architecture, bands_of(bands), num_classes)
    rng = np.random.default_rng(seed)
    for weights in model.weights:
        if "seed" in weights.path:
            continue
        around = 1.0 if weights.path.rpartition("/")[2] in ("gamma", "moving_variance") else 0.0
        # So that no signal grows on its way.
        spread = 0.05 if around or len(weights.shape) < 2 else math.prod(weights.shape[:-1]) ** -0.5
        weights.assign(rng.normal(around, spread, weights.shape))
    return model


def about(architecture: Architecture, bands: str, classes: Sequence[str]) -> TrialModel:
    names = tuple(band.name for band in bands_of(bands))
    return TrialModel(
        study="whole",
        trial=3,
        classes=tuple(classes),
        bands=names,
        candidate=Candidate(architecture=architecture),
        thresholds=dict.fromkeys(classes, 0.5),
        jaccard=dict.fromkeys(classes, 0.5),
    )


def write_source(path: Path, architecture: Architecture, bands: str, classes: Sequence[str]) -> keras.Model:
    """Write a trial's model."""
    model = random_network(architecture, bands, len(classes))
    write_trial_model(path, model, about(architecture, bands, classes))
    return model


def maps_of(model: keras.Model, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
    found = model(image.astype(np.float32), training=False)
    maps = found if isinstance(found, dict) else {"masks": found}
    return {name: np.asarray(keras.ops.convert_to_numpy(each)) for name, each in maps.items()}

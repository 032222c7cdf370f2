"""Maps of arrays, for notebooks and scripts: an array in, an array out.

from pipeline.maps.array_maps import open_models, predict_array

models = open_models("runs/demo/models")
probabilities = predict_array(models, image)         # (H, W, B) -> (H, W, K)
masks = probabilities >= models.thresholds           # in the order of models.classes
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backend import use_backend
from pipeline.imagery import indices as spectral
from pipeline.models.model_set import LoadedModelSet, read_model_set_study
from pipeline.scene import Band, DataError
from search_space.errors import MapgroveError
from search_space.prediction import PredictionSettings


@dataclass(frozen=True)
class _Pixels:
    cube: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class ArrayModels:
    """A model set that maps arrays.

    Attributes:
        models: The set.
        settings: How tiles become a map, as the set's study has it.
        wavelengths_nm: Shortest and longest, of those bands of which the study tells them.
    """

    models: LoadedModelSet
    settings: PredictionSettings
    wavelengths_nm: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands of an image, in order."""
        return self.models.description.bands

    @property
    def classes(self) -> tuple[str, ...]:
        """What is mapped, in the order of a map's channels."""
        return self.models.classes

    @property
    def thresholds(self) -> NDArray[np.float32]:
        """Per class the probability from which a pixel is of the class."""
        return self.models.thresholds


def open_models(folder: Path | str) -> ArrayModels:
    """Open a model set; Keras runs on the backend that `MAPGROVE_BACKEND` names, TensorFlow where it names none.

    Raises:
        MapgroveError: There is no model set, or it is damaged.
    """
    study = read_model_set_study(Path(folder))
    use_backend()
    told: Mapping[str, Any] = study.data.options.get("wavelengths_nm", {})
    wavelengths_nm = {name: (float(shortest), float(longest)) for name, (shortest, longest) in told.items()}
    return ArrayModels(LoadedModelSet.open(Path(folder)), study.prediction, wavelengths_nm)


def predict_array(
    models: ArrayModels,
    image: NDArray[np.number],
    *,
    valid: NDArray[np.bool_] | None = None,
    settings: PredictionSettings | None = None,
) -> NDArray[np.float32]:
    """Map an image.

    Args:
        models: What maps it.
        image: `(H, W, B)`, real numbers, in the units of the imagery that the models were trained on: bands in the
            order of `models.bands`, from which spectral indices are computed; or all bands and indices, where
            these need other bands.
        valid: bool `(H, W)`, False where there is no data. There is none either where any band is not-a-number, or
            hidden by a masked array.
        settings: How tiles become a map; those of the study where None.

    Returns:
        Probabilities, float32 `(H, W, K)` in the order of `models.classes`, NaN where there is no data.

    Raises:
        MapgroveError: Another number of bands, no pixels, no real numbers, a `valid` of another shape or kind, or
            settings that are none.
    """
    if not isinstance(settings, PredictionSettings | None):
        raise MapgroveError(
            "settings are PredictionSettings",
            received=type(settings).__name__,
            remedy='Copy those of the study: models.settings.model_copy(update={"symmetries": "none"})',
        )
    description = models.models.description
    num_bands, num_indices = len(description.bands), len(description.indices)
    try:
        image = np.asanyarray(image)
    except ValueError as error:
        raise MapgroveError("an image is an array of real numbers", received=str(error)) from error
    if image.dtype.kind not in "buif":
        raise MapgroveError("an image holds real numbers", received=str(image.dtype))
    if image.ndim != 3 or 0 in image.shape or image.shape[2] not in (num_bands, num_bands + num_indices):
        wanted = ", ".join(description.bands)
        raise MapgroveError(f"an image is (H, W, {num_bands}), its bands {wanted}", received=image.shape)
    has_data = np.ones(image.shape[:2], bool) if valid is None else np.array(valid)
    if has_data.dtype != bool:
        raise MapgroveError("`valid` tells by bool where there is data", received=str(has_data.dtype))
    if has_data.shape != image.shape[:2]:
        raise MapgroveError(f"`valid` must be {image.shape[:2]} as the image is", received=has_data.shape)
    # Of a masked array it is what lies under the mask.
    cube = np.array(image, np.float32)
    if image.shape[2] == num_bands and num_indices:
        cube = np.concatenate([cube, _indices(models, cube)], axis=-1)
    if isinstance(image, np.ma.MaskedArray):
        has_data &= ~np.ma.getmaskarray(image).any(axis=-1)
    has_data &= np.isfinite(cube[..., :num_bands]).all(axis=-1)
    cube[~has_data] = np.nan
    return models.models.predict(_Pixels(cube, has_data), settings or models.settings)


def _indices(models: ArrayModels, cube: NDArray[np.float32]) -> NDArray[np.float32]:
    """The spectral indices of a set, `(H, W, I)`.

    Raises:
        MapgroveError: One needs a band that the image does not have, or whose name does not tell what it is.
    """
    description = models.models.description
    sensor = [Band(name=name, wavelength_nm=models.wavelengths_nm.get(name)) for name in description.bands]
    planes = {name: cube[..., k] for k, name in enumerate(description.bands)}
    try:
        computed = [spectral.compute(index, planes, sensor) for index in description.indices]
    except DataError as error:
        wanted = ", ".join((*description.bands, *description.indices))
        raise MapgroveError(
            f"the indices cannot be computed from the bands of an array: {error.what}",
            received=list(description.bands),
            remedy=f"Give bands and indices, (H, W, {len(sensor) + len(description.indices)}): {wanted}",
        ) from error
    return np.stack(computed, axis=-1)

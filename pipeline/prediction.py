"""From scenes to blended probability maps."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.devices import shared_out
from pipeline.normalisation import BandScaling, Imagery
from search_space.errors import MapgroveError
from search_space.prediction import Tiling
from smoothing.blending import blend

Predictor = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def model_predictor(model: Any) -> Predictor:
    """Wrap a Keras model as a function from scaled tiles `(N, T, T, B)` to probabilities `(N, t, t, K)`.

    Of a model with further outputs only the maps of the classes are computed; t is T less both margins of the model.
    Where several devices train, each predicts its share of the tiles.
    """
    masks = masks_only(model)

    def predict(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        # `predict` would rebuild an input pipeline for every batch.
        return np.asarray(masks.predict_on_batch(shared_out(tiles)), dtype=np.float32)[: len(tiles)]

    return predict


def masks_only(model: Any) -> Any:
    """A model without those outputs that only its training needs."""
    return type(model)(model.inputs[0], model.output["masks"]) if isinstance(model.output, dict) else model


def predict_scene(predict: Predictor, scene: Imagery, scaling: BandScaling, tiling: Tiling) -> NDArray[np.float32]:
    """Predict one scene by blended tiles.

    Args:
        predict: From scaled tiles to probabilities.
        scene: Bands and validity.
        scaling: How its bands are scaled.
        tiling: Size and overlap of the tiles, their views, tiles per call.

    Returns:
        Probabilities, float32 `(H, W, K)`, NaN where there is no data.

    Raises:
        MapgroveError: The model predicts NaN, or another shape than its tiles.
    """
    try:
        return blend(
            scene.cube,
            lambda tiles: predict(scaling.apply(tiles)),
            tile_px=tiling.tile_px,
            margin_px=tiling.margin_px,
            overlap=tiling.overlap,
            symmetries=tiling.symmetries,
            batch_size=tiling.batch_size,
            valid=np.asarray(scene.valid),
        )
    except ValueError as error:
        raise MapgroveError(str(error)) from error

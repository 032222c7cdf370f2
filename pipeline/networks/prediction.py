"""From scenes to blended probability maps."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.preparation.normalisation import BandScaling, Imagery
from search_space.errors import MapgroveError
from search_space.prediction import Tiling
from smoothing.blending import Progress, stream
from smoothing.errors import BlendingError, PredictorNumberError
from smoothing.settings import Blending
from smoothing.streams import ArraySink, Sink

Predictor = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def model_predictor(model: Any, *, with_energy: bool = False) -> Predictor:
    """Wrap a Keras model as a function from scaled tiles `(N, T, T, B)` to probabilities `(N, t, t, K)`.

    Of a model with further outputs only the maps of the classes are computed; t is T less both margins of the model.
    Where several devices train, each predicts its share of the tiles.

    Args:
        model: The model.
        with_energy: Compute the energies too, in the same pass: then `(N, t, t, 2 K)`, the probabilities first.

    Raises:
        MapgroveError: Energies are wanted of a model that does not map them.
    """
    # Who reads maps alone comes without a framework.
    from pipeline.networks.devices import shared_out

    if with_energy and not has_energy(model):
        raise MapgroveError("the model maps no energy", remedy="Train one whose architecture has energy = true")
    shown = _shown(model, ("masks", "energy")) if with_energy else masks_only(model)

    def predict(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        # `predict` would rebuild an input pipeline for every batch.
        outputs = shown.predict_on_batch(shared_out(tiles))
        maps = np.concatenate(outputs, axis=-1, dtype=np.float32) if with_energy else np.asarray(outputs, np.float32)
        return maps[: len(tiles)]

    return predict


def has_energy(model: Any) -> bool:
    """Whether a Keras model also maps how deep within each class pixels lie."""
    return isinstance(model.output, dict) and "energy" in model.output


def masks_only(model: Any) -> Any:
    """A model without those outputs that only its training needs; itself where it has no others."""
    return _shown(model, ("masks",))


def _shown(model: Any, names: tuple[str, ...]) -> Any:
    if not isinstance(model.output, dict):
        return model
    outputs = [model.output[name] for name in names]
    return type(model)(model.inputs[0], outputs[0] if len(outputs) == 1 else outputs)


class NoNumbersError(MapgroveError):
    """A model predicts what is no finite number."""


class ScaledRows:
    """A scene as blending reads it: rows, each scaled once.

    Args:
        scene: Bands and validity; of each rows are taken by a slice.
        scaling: How its bands are scaled.
    """

    is_slow = True

    def __init__(self, scene: Imagery, scaling: BandScaling) -> None:
        self._scene = scene
        self._scaling = scaling
        height, width, num_bands = scene.cube.shape
        self.shape: tuple[int, int, int] = (height, width, num_bands)

    def read(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Rows with 0 where there is no data, and where there is."""
        return self._scaling.apply(self._scene.cube[rows]), np.asarray(self._scene.valid[rows])


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
        NoNumbersError: The model predicts NaN or infinity.
        MapgroveError: It predicts another shape than its tiles.
    """
    sink = ArraySink(scene.cube.shape[0])
    predict_rows(predict, scene, scaling, tiling, sink)
    return sink.result


def predict_rows(
    predict: Predictor,
    scene: Imagery,
    scaling: BandScaling,
    tiling: Tiling,
    sink: Sink,
    *,
    first_row: int = 0,
    progress: Progress | None = None,
) -> None:
    """Predict one scene row by row, in memory that its width decides.

    Args:
        predict: See `predict_scene`.
        scene: See `predict_scene`.
        scaling: See `predict_scene`.
        tiling: See `predict_scene`.
        sink: Takes the rows of the map in order.
        first_row: Those before are there already.
        progress: Told how many tiles are done, of how many.

    Raises:
        NoNumbersError: The model predicts NaN or infinity.
        MapgroveError: It predicts another shape than its tiles.
    """
    source, blending = ScaledRows(scene, scaling), Blending(**tiling._asdict())
    try:
        stream(source, predict, sink, blending, first_row=first_row, progress=progress)
    except PredictorNumberError as error:
        raise NoNumbersError(str(error)) from error
    except BlendingError as error:
        raise MapgroveError(str(error)) from error

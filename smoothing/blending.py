"""Predictions of overlapping tiles, blended into one map of the whole image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smoothing.errors import BlendingError, PredictorNumberError, PredictorShapeError
from smoothing.symmetries import SYMMETRIES, Symmetry
from smoothing.tiling import Span, spans
from smoothing.windows import window_weights

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Predictor = Callable[[Array], Array]
Progress = Callable[[int, int], None]


def blend(
    image: npt.NDArray[np.number],
    predict: Predictor,
    *,
    tile_px: int,
    margin_px: int = 0,
    overlap: float = 0.5,
    symmetries: str = "d4",
    window: str = "spline",
    batch_size: int = 16,
    valid: Mask | None = None,
    progress: Progress | None = None,
) -> Array:
    """Blend overlapping tile predictions into one map.

    Every pixel is the weighted mean of all tiles that saw it, each tile the mean of all its turned views. Weights are
    accumulated and divided by, so any window, overlap and image shape are exact: a constant stays constant up to the
    corners. Tiles lie symmetrically, so with symmetries turning the image turns the map. An image smaller than a tile
    is mirrored at its borders. Beside the map, memory is needed for one weight per pixel and one batch of tiles.

    Args:
        image: `(H, W, B)`, used as float32; may be a memory map, from which tiles are read as they are needed.
        predict: `(N, t, t, B) -> (N, t - 2m, t - 2m, K)`, t being `tile_px` and m `margin_px`. N is always
            `batch_size`, the last batch is filled up, so that a compiled model compiles once. It may overwrite its
            argument.
        tile_px: Side length of a tile.
        margin_px: How much less than the tile `predict` returns on each side; what it lacks, neighbours have. Beyond
            the image's borders a tile sees the image mirrored.
        overlap: Least share of a tile, less its margin, that its neighbour covers too, in [0, 1).
        symmetries: "none", "flips" (4 views) or "d4" (8 views).
        window: "spline", "hann" or "flat".
        batch_size: Tiles per call of `predict`.
        valid: bool `(H, W)`, False where there is no data. A tile without data is not predicted; other tiles are
            shown to `predict` as they are, and what it returns where there is no data, NaN included, is dropped.
        progress: Called after each batch with the number of tiles done and of all tiles.

    Returns:
        float32 `(H, W, K)`, NaN where there is no data. An image without any data costs one batch of zeros, which
        tells K.

    Raises:
        BlendingError: An argument out of range, or shapes that do not belong together.
        PredictorShapeError: `predict` returned another shape; both shapes are named.
        PredictorNumberError: `predict` returned NaN or infinity for a pixel with data; the first place is named.
    """
    _check(image, symmetries, batch_size, valid)
    shown_px = tile_px - 2 * margin_px
    if margin_px < 0 or 0 < tile_px <= 2 * margin_px:
        raise BlendingError(f"`margin_px` must leave something of a tile of {tile_px} px. Received {margin_px}.")
    weights = window_weights(window, shown_px)
    tiles = [tile for tile in _tiles(image.shape, shown_px, overlap) if tile.has_data(valid)]
    views = _Views(predict, SYMMETRIES[symmetries], valid, shown_px)
    canvas = _Canvas(image.shape[0], image.shape[1], weights)
    batch = np.zeros((batch_size, tile_px, tile_px, image.shape[2]), np.float32)
    if not tiles:
        canvas.prepare(views.count_classes(batch))
    for first in range(0, len(tiles), batch_size):
        chunk = tiles[first : first + batch_size]
        for place, tile in enumerate(chunk):
            batch[place] = tile.grown(margin_px).read(image)
        batch[len(chunk) :] = batch[len(chunk) - 1]
        predictions = views.mean(batch, chunk)
        canvas.prepare(predictions.shape[-1])
        for tile, prediction in zip(chunk, predictions, strict=False):
            canvas.add(tile, prediction)
        if progress is not None:
            progress(first + len(chunk), len(tiles))
    return canvas.finish(valid)


def num_tiles(
    shape: tuple[int, ...], *, tile_px: int, margin_px: int = 0, overlap: float = 0.5, valid: Mask | None = None
) -> int:
    """How many tiles `blend` predicts of an image of this shape `(H, W, ...)`, not counting views; 0 without data."""
    return sum(tile.has_data(valid) for tile in _tiles(shape, tile_px - 2 * margin_px, overlap))


@dataclass(frozen=True)
class _Tile:
    rows: Span
    columns: Span

    def grown(self, margin_px: int) -> "_Tile":
        return _Tile(self.rows.grown(margin_px), self.columns.grown(margin_px))

    def has_data(self, valid: Mask | None) -> bool:
        return valid is None or bool(valid[self.rows.in_image, self.columns.in_image].any())

    def read(self, image: npt.NDArray[np.number]) -> Array:
        """Copy the tile out of the image, mirrored where it sticks out."""
        rows, columns = self.rows.seen, self.columns.seen
        top, left = int(rows.min()), int(columns.min())
        pixels: Array = np.asarray(image[top : int(rows.max()) + 1, left : int(columns.max()) + 1], np.float32)
        if self.rows.sticks_out:
            pixels = pixels[rows - top]
        if self.columns.sticks_out:
            pixels = pixels[:, columns - left]
        return pixels


def _tiles(shape: tuple[int, ...], tile_px: int, overlap: float) -> Iterator[_Tile]:
    all_columns = spans(shape[1], tile_px, overlap)
    return (_Tile(rows, columns) for rows in spans(shape[0], tile_px, overlap) for columns in all_columns)


class _Canvas:
    """Weighted sums of predictions, and the weights they came with."""

    def __init__(self, height_px: int, width_px: int, window: Array) -> None:
        self._window = window
        self._sums: Array = np.zeros((height_px, width_px, 0), np.float32)
        self._weights: Array = np.zeros((height_px, width_px), np.float32)

    def prepare(self, num_classes: int) -> None:
        """Make room for the classes, whose number the first prediction tells."""
        if self._sums.shape[2] == 0:
            self._sums = np.zeros((*self._weights.shape, num_classes), np.float32)

    def add(self, tile: _Tile, prediction: Array) -> None:
        inside = (tile.rows.in_tile, tile.columns.in_tile)
        place = (tile.rows.in_image, tile.columns.in_image)
        window = self._window[inside]
        self._sums[place] += prediction[inside] * window[..., None]
        self._weights[place] += window

    def finish(self, valid: Mask | None) -> Array:
        if valid is not None:
            self._weights[~np.asarray(valid, bool)] = np.nan
        self._sums /= self._weights[..., None]
        return self._sums


class _Views:
    """A predictor that looks at tiles from all sides, and whose answers are checked."""

    def __init__(self, predict: Predictor, symmetries: tuple[Symmetry, ...], valid: Mask | None, side_px: int) -> None:
        self._predict = predict
        self._side_px = side_px
        self._symmetries = symmetries
        self._valid = valid
        self._num_classes = 0

    def count_classes(self, batch: Array) -> int:
        self._predicted(batch)
        return self._num_classes

    def mean(self, batch: Array, chunk: list[_Tile]) -> Array:
        """The mean over all views, turned back: `(N, t, t, K)`; `chunk` tells the tiles in the batch."""
        first, *others = self._symmetries
        total = np.array(self._upright(first, batch, chunk), order="C")
        for view in others:
            total += self._upright(view, batch, chunk)
        total /= np.float32(len(self._symmetries))
        return total

    def _upright(self, view: Symmetry, batch: Array, chunk: list[_Tile]) -> Array:
        return _finite(view.inverse(self._predicted(view.forward(batch))), chunk, self._valid)

    def _predicted(self, tiles: Array) -> Array:
        prediction = np.asarray(self._predict(np.array(tiles, order="C")), np.float32)
        shape = prediction.shape
        num_classes = self._num_classes or (shape[-1] if len(shape) == 4 else 0)
        sides = (len(tiles), self._side_px, self._side_px)
        if shape != (*sides, num_classes) or num_classes == 0:
            wanted = ", ".join(str(side) for side in (*sides, self._num_classes or "K"))
            raise PredictorShapeError(
                f"`predict` must return the shape ({wanted}) for tiles of the shape {tiles.shape}. Received {shape}."
            )
        self._num_classes = num_classes
        return prediction


def _finite(upright: Array, chunk: list[_Tile], valid: Mask | None) -> Array:
    """Refuse NaN and infinity where there is data; elsewhere replace them by 0, which never reaches the map."""
    if np.isfinite(upright).all():
        return upright
    for tile, prediction in zip(chunk, upright, strict=False):
        bad = ~np.isfinite(prediction[tile.rows.in_tile, tile.columns.in_tile])
        if valid is not None:
            bad &= valid[tile.rows.in_image, tile.columns.in_image, None]
        if bad.any():
            row, column, k = (int(value) for value in np.argwhere(bad)[0])
            place = (row + tile.rows.in_image.start, column + tile.columns.in_image.start)
            raise PredictorNumberError(
                f"`predict` must return finite numbers. Received NaN or infinity of class {k} at (row, column) {place}."
            )
    return np.nan_to_num(upright, nan=0.0, posinf=0.0, neginf=0.0)


def _check(image: npt.NDArray[np.number], symmetries: str, batch_size: int, valid: Mask | None) -> None:
    if image.ndim != 3 or 0 in image.shape:
        raise BlendingError(f"`image` must be (H, W, B) with no side of 0. Received the shape {image.shape}.")
    if symmetries not in SYMMETRIES:
        raise BlendingError(f"`symmetries` must be one of {', '.join(SYMMETRIES)}. Received {symmetries!r}.")
    if batch_size < 1:
        raise BlendingError(f"`batch_size` must be at least 1. Received {batch_size!r}.")
    if valid is not None and valid.shape != image.shape[:2]:
        raise BlendingError(f"`valid` must have the shape {image.shape[:2]} of the image. Received {valid.shape}.")

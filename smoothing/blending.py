"""Predictions of overlapping tiles, blended into one map: of an array, or of an image that comes and goes by rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from operator import index
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from smoothing.canvas import Canvas
from smoothing.errors import BlendingError
from smoothing.settings import Blending
from smoothing.streams import Array, ArraySink, ArraySource, Behind, Mask, Pixels, Sink, Source, Strips, check_mask
from smoothing.tiling import Axis, Span, spans
from smoothing.views import Predictor, Tile, Views

Region = tuple[slice, slice]
Progress = Callable[[int, int], None]
Pixel = TypeVar("Pixel", bound=np.generic)


def blend(
    image: Pixels,
    predict: Predictor,
    *,
    valid: Mask | None = None,
    region: Region | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Array:
    """Blend overlapping tile predictions into one map.

    Every pixel is the weighted mean of all tiles that saw it, each tile the mean of all its turned views. Weights are
    accumulated and divided by, so any window, overlap and image shape are exact: a constant stays constant up to the
    corners. Tiles lie symmetrically, so with symmetries turning the image turns the map. An image smaller than a tile
    is mirrored at its borders. Beside the map, memory is needed for as many rows of it as a tile has, and for a batch.

    Args:
        image: `(H, W, B)`, used as float32; may be a memory map, from which tiles are read as they are needed.
        predict: `(N, t, t, B) -> (N, t - 2m, t - 2m, K)`, t being `tile_px` and m `margin_px`. N is always
            `batch_size`, the last batch is filled up, so that a compiled model compiles once. It may overwrite its
            argument, which is used again after it has returned.
        valid: bool `(H, W)`, False where there is no data. A tile without data is not predicted; other tiles are
            shown to `predict` as they are, and what it returns where there is no data, NaN included, is dropped.
        region: Rows and columns that are mapped, all where None. Tiles at its borders see the image beyond.
        progress: Called after each batch with the number of tiles done and of all tiles.
        **settings: Those of `Blending`; `tile_px` there must be.

    Returns:
        float32 `(H, W, K)` of the region, NaN where there is no data. An image without any data costs one batch of
        zeros, which tells K.

    Raises:
        BlendingError: An argument out of range, or shapes that do not belong together.
        PredictorShapeError: `predict` returned another shape; both shapes are named.
        PredictorNumberError: `predict` returned NaN or infinity for a pixel with data; the first place is named.
    """
    source = ArraySource(image, valid)
    rows, _ = _axes(source.shape, region)
    sink = ArraySink(rows.mapped_px)
    stream(source, predict, sink, Blending(**settings), region=region, progress=progress)
    return sink.result


def stream(
    source: Source,
    predict: Predictor,
    sink: Sink,
    blending: Blending,
    *,
    region: Region | None = None,
    first_row: int = 0,
    progress: Progress | None = None,
) -> None:
    """Blend an image that is read by rows into a map that is written by rows, in memory that its width decides.

    Rows are read ahead, and written behind, while tiles are predicted.

    Args:
        source: The image.
        predict: See `blend`.
        sink: Takes the finished rows in order.
        blending: How tiles become a map.
        region: See `blend`.
        first_row: Rows of the map before this one are there already: the first one that the sink gets. Tiles that show
            nothing of others are not predicted again.
        progress: Called after each batch with the number of tiles done, those without data among them, and of all.

    Raises:
        BlendingError: See `blend`.
    """
    if not callable(predict):
        raise BlendingError(f"`predict` must be a function of tiles. Received {type(predict).__name__}.")
    if not all(source.shape):
        raise BlendingError(f"An image must have no side of 0. Received the shape {source.shape}.")
    rows, columns = _axes(source.shape, region)
    if not _is_integer(first_row) or not 0 <= first_row <= rows.mapped_px:
        raise BlendingError(f"`first_row` must be in the map of {rows.mapped_px} rows. Received {first_row!r}.")
    if first_row == rows.mapped_px:
        return
    tile_rows = [each for each in _spread(rows, blending) if each.in_map.stop > first_row]
    if isinstance(sink, ArraySink) and sink.num_rows != rows.mapped_px:
        raise BlendingError(f"The sink must have the {rows.mapped_px} rows of the map. Received {sink.num_rows}.")
    memory = sink.memory if isinstance(sink, ArraySink) else None
    canvas = Canvas(columns.mapped_px, first_row, (rows.first, columns.first), memory)
    blender = _Blender(source, predict, blending, _spread(columns, blending), canvas)
    needed = [each.grown(blender.beyond_px).needed for each in tile_rows]
    with Behind(sink, is_needed=source.is_slow) as behind, Strips(source, needed) as strips:
        told, total = -1, len(tile_rows) * len(blender.columns)
        for finished, done in blender.batches(zip(tile_rows, needed, strips, strict=True)):
            for first, part in blender.canvas.finish(finished):
                behind.write(first, part)
            if progress is not None and done > told:
                progress(done, total)
                told = done
        for first, part in blender.last_rows(rows.mapped_px):
            behind.write(first, part)


def num_tiles(
    shape: tuple[int, ...],
    *,
    tile_px: int,
    margin_px: int = 0,
    overlap: float = 0.5,
    borders: str = "snap",
    valid: Mask | None = None,
) -> int:
    """How many tiles `blend` predicts of an image of this shape `(H, W, ...)`, not counting views; 0 without data.

    Raises:
        BlendingError: An argument out of range, or a `valid` of another shape.
    """
    blending = Blending(tile_px=tile_px, margin_px=margin_px, overlap=overlap, borders=borders)
    if len(shape) < 2 or not all(_is_integer(side) and side > 0 for side in shape[:2]):
        raise BlendingError(f"`shape` must be (H, W, ...) with no side of 0. Received {shape}.")
    rows, columns = (_spread(axis, blending) for axis in _axes(shape, None))
    if valid is None:
        return len(rows) * len(columns)
    check_mask(valid, tuple(shape[:2]))
    return sum(bool(valid[row.in_image, column.in_image].any()) for row in rows for column in columns)


@dataclass
class _Blender:
    """Goes over the tiles of an image.

    Attributes:
        source: The image.
        predict: Looks at tiles.
        blending: How these become a map.
        columns: Where tiles lie along a row of them.
        canvas: What of the map is open.
    """

    source: Source
    predict: Predictor
    blending: Blending
    columns: Sequence[Span]
    canvas: Canvas
    _views: Views = field(init=False)
    _waiting: list[Tile] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._views = Views(self.predict, self.blending)
        side_px = self.blending.tile_px + 2 * self.blending.reach_px
        self._batch = np.zeros((self.blending.batch_size, side_px, side_px, self.source.shape[2]), np.float32)
        self._wide = [each.grown(self.beyond_px) for each in self.columns]
        weights = self._views.weights
        self._row_weights = np.zeros((self.blending.shown_px, self.columns[0].axis.mapped_px), np.float32)
        for each in self.columns:
            self._row_weights[:, each.in_map] += weights[:, each.in_tile]

    @property
    def beyond_px(self) -> int:
        """How far beyond what it shows a tile is read."""
        return self.blending.margin_px + self.blending.reach_px

    def batches(self, strips: "Iterator[tuple[Span, slice, tuple[Pixels, Mask | None]]]") -> Iterator[tuple[int, int]]:
        """Predict batch by batch.

        Args:
            strips: Each row of tiles, the rows of the image that it needs, and these.

        Yields:
            After each batch and each row of tiles: before which row of the map all is summed up, and how many tiles
            are done.
        """
        rows_done = 0
        for span, needed, (pixels, valid) in strips:
            # Where data is sparse, tiles that wait for a batch would keep ever more rows of the map open.
            if self._waiting and span.start - self._waiting[0].rows.start > self._most_open_px:
                yield self._flush(span), rows_done
            strip = _Strip(span, span.grown(self.beyond_px), needed, pixels, valid)
            if strip.is_whole:
                # At once, which is faster than tile by tile.
                self.canvas.weigh(span, self._row_weights)
            for place, (column, wide) in enumerate(zip(self.columns, self._wide, strict=True)):
                tile = strip.tile(column, wide, looks_around=bool(self.blending.reach_px))
                if tile is None:
                    continue
                strip.copy(wide, self._batch[len(self._waiting)])
                self._waiting.append(tile)
                if len(self._waiting) == self.blending.batch_size:
                    yield self._flush(span), rows_done + place + 1
            rows_done += len(self.columns)
            if not self._waiting:
                yield span.first_mapped, rows_done
        if self._waiting:
            yield self._flush(self._waiting[-1].rows), rows_done

    def last_rows(self, stop: int) -> Iterator[tuple[int, Array]]:
        """The rows of the map that are not finished when all tiles are done."""
        if not self.canvas.num_classes:
            self.canvas.prepare(self._views.count_classes(self.source.shape[2]))
        yield from self.canvas.finish(stop)

    @property
    def _most_open_px(self) -> int:
        """Rows over which the tiles of a batch lie where all have data, and some more."""
        return self.blending.shown_px * (2 + self.blending.batch_size // len(self.columns))

    def _flush(self, going_on: Span) -> int:
        """Predict the tiles that wait; return the row of the map before which no tile after them lies."""
        self._batch[len(self._waiting) :] = self._batch[len(self._waiting) - 1]
        said = self._views.weighted(self._batch, self._waiting)
        for tile, (weighted, weights) in zip(self._waiting, said, strict=False):
            self.canvas.prepare(weighted.shape[-1])
            self.canvas.add(tile.rows, tile.columns, weighted, None if tile.is_weighed else weights, tile.valid)
        self._waiting.clear()
        return going_on.first_mapped


@dataclass(frozen=True)
class _Strip:
    """The rows of the image that a row of tiles needs.

    Attributes:
        rows: What the tiles show.
        wide: All that is read of them.
        needed: Which rows of the image these are.
        pixels: `(h, W, B)`.
        valid: `(h, W)`.
    """

    rows: Span
    wide: Span
    needed: slice
    pixels: Pixels
    valid: Mask | None

    @cached_property
    def is_whole(self) -> bool:
        """Whether there is data everywhere."""
        return self.valid is None or bool(self.valid.all())

    def tile(self, columns: Span, wide: Span, *, looks_around: bool) -> Tile | None:
        """The tile at a place, None where it has no data."""
        if self.valid is None or self.is_whole:
            return Tile(self.rows, columns, None, None, is_weighed=True)
        inside = self.rows.in_image
        own = self.valid[inside.start - self.needed.start : inside.stop - self.needed.start, columns.in_image]
        if not own.any():
            return None
        around = self._cut(self.valid, wide) if looks_around else None
        is_whole = around is None or bool(around.all())
        return Tile(self.rows, columns, None if own.all() else own, None if is_whole else around)

    def copy(self, wide: Span, target: Array) -> None:
        """Copy a tile into its place in the batch."""
        np.copyto(target, self._cut(self.pixels, wide), casting="unsafe")

    def _cut(self, pixels: npt.NDArray[Pixel], wide: Span) -> npt.NDArray[Pixel]:
        """A tile of pixels `(h, W, ...)`, mirrored where it sticks out of the image."""
        across = wide.needed
        cut = pixels[:, across]
        if self.wide.sticks_out:
            cut = cut[self.wide.seen - self.needed.start]
        return cut[:, wide.seen - across.start] if wide.sticks_out else cut


def _axes(shape: Sequence[int], region: Region | None) -> tuple[Axis, Axis]:
    """Rows and columns of an image, with what is mapped of each."""
    height, width = shape[:2]
    if region is None:
        return Axis(height, 0, height), Axis(width, 0, width)
    try:
        rows, columns = (
            _part(part.start, part.stop, part.step, length)
            for part, length in zip(region, (height, width), strict=True)
        )
    except (AttributeError, TypeError, ValueError):
        raise BlendingError(
            f"`region` must be two slices within the image of {height} x {width} px. Received {region}."
        ) from None
    return rows, columns


def _part(start: int | None, stop: int | None, step: int | None, length: int) -> Axis:
    """What a slice takes of a side.

    Raises:
        TypeError: Its ends are no whole numbers.
        ValueError: It does not lie within.
    """
    axis = Axis(length, index(0 if start is None else start), index(length if stop is None else stop))
    if step not in (None, 1) or not 0 <= axis.first < axis.stop <= length:
        raise ValueError(axis)
    return axis


def _is_integer(number: object) -> bool:
    return isinstance(number, Integral)


def _spread(axis: Axis, blending: Blending) -> tuple[Span, ...]:
    return spans(axis, blending.shown_px, blending.overlap, blending.borders)

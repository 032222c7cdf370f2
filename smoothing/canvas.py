"""The rows of a map that are still being summed up; finished ones leave it."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from smoothing.tiling import Span

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


BLANK_ROWS = 256
"""So many rows without any tile are given away at a time."""


class Canvas:
    """Weighted sums of predictions, and the weights they came with, of as many rows as are open at a time.

    Args:
        width_px: Columns of the map.
        first_row: The first row that is wanted.
    """

    def __init__(self, width_px: int, first_row: int = 0) -> None:
        self._width_px = width_px
        self._given = self._first = first_row
        """Up to which row all are given away, and from which on they are summed up; between them there is no data."""
        self._sums: Array = np.zeros((0, width_px, 0), np.float32)
        self._weights: Array = np.zeros((0, width_px), np.float32)
        self._used = 0

    @property
    def num_classes(self) -> int:
        """K; 0 as long as nobody knows."""
        return int(self._sums.shape[2])

    def prepare(self, num_classes: int) -> None:
        """Take note of the number of classes, which the first prediction tells."""
        if not self.num_classes:
            self._sums = np.zeros((*self._weights.shape, num_classes), np.float32)

    def add(self, rows: Span, columns: Span, weighted: Array, weights: Array, valid: Mask | None) -> None:
        """Add what a tile says.

        Args:
            rows: Where the tile lies.
            columns: Where the tile lies.
            weighted: `(t, t, K)`, each prediction times its weight.
            weights: `(t, t)`.
            valid: Of the tile's pixels that lie within the map those with data; None for all.
        """
        cut = max(0, self._first - rows.first_mapped)
        place = slice(rows.first_mapped + cut - self._first, rows.in_map.stop - self._first)
        if place.stop <= place.start:
            return
        self._grow(place.stop)
        inside = (slice(rows.in_tile.start + cut, rows.in_tile.stop), columns.in_tile)
        shown, added = weighted[inside], weights[inside]
        if valid is not None:
            added = added * valid[cut:]
        self._sums[place, columns.in_map] += shown
        self._weights[place, columns.in_map] += added

    def finish(self, stop: int) -> Iterator[tuple[int, Array]]:
        """Give away the rows before `stop`, which no tile will add to: where they begin, and `(h, W, K)`.

        What no tile has seen, or has no data, is NaN. A stretch without any tile comes in parts. As long as nobody
        knows K, nothing does: what ends before the first tile is given away with the rows after it.
        """
        if not self.num_classes:
            self._first = max(self._first, stop)
            return
        yield from self._blanks(self._first)
        num = min(stop - self._first, self._used)
        if num > 0:
            first = self._first
            self._given = self._first = first + num
            yield first, self._divided(num)
        yield from self._blanks(stop)

    def _blanks(self, stop: int) -> Iterator[tuple[int, Array]]:
        """Rows without data, up to `stop`."""
        while self._given < stop:
            first, num = self._given, min(stop - self._given, BLANK_ROWS)
            self._given += num
            self._first = max(self._first, self._given)
            yield first, np.full((num, self._width_px, self.num_classes), np.nan, np.float32)

    def _divided(self, num: int) -> Array:
        """The mean of the first rows, which make room for others."""
        weights = self._weights[:num]
        weights[weights == 0.0] = np.nan
        mean: Array = np.empty((num, *self._sums.shape[1:]), np.float32)
        inverse = 1.0 / weights
        if self.num_classes > 1:
            # Along the last axis alone, which is short, NumPy would be slow.
            inverse = np.repeat(inverse, self.num_classes, axis=1)
        np.multiply(self._sums[:num], inverse.reshape(mean.shape), out=mean)
        left = self._used - num
        for held in (self._sums, self._weights):
            held[:left] = held[num : self._used]
            held[left : self._used] = 0.0
        self._used = left
        return mean

    def _grow(self, num_rows: int) -> None:
        """Open so many rows."""
        if num_rows > len(self._weights):
            for name in ("_sums", "_weights"):
                held = getattr(self, name)
                larger = np.zeros((num_rows, *held.shape[1:]), np.float32)
                larger[: self._used] = held[: self._used]
                setattr(self, name, larger)
        self._used = max(self._used, num_rows)

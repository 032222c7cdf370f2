"""The rows of a map that are still being summed up; finished ones leave it."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from smoothing.errors import number_error
from smoothing.tiling import Span

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Memory = Callable[[int, int], Array]

BLANK_ROWS = 256
"""So many rows without any tile are given away at a time."""


class Canvas:
    """Weighted sums of predictions, and the weights they came with, of as many rows as are open at a time.

    Args:
        width_px: Columns of the map.
        first_row: The first row that is wanted.
        origin: Row and column of the image where the map begins.
        memory: Gives that of the whole map `(H, W, K)` for W and K, where there is any: rows are summed up and divided
            in their place.
    """

    def __init__(
        self, width_px: int, first_row: int = 0, origin: tuple[int, int] = (0, 0), memory: Memory | None = None
    ) -> None:
        self._width_px = width_px
        self._origin = origin
        self._memory = memory
        self._given = self._first = first_row
        """Up to which row all are given away, and from which on they are summed up; between them there is no data."""
        self._weights = _Window(width_px)
        self._sums: _Window | _Whole = _Window(width_px, 0)

    @property
    def num_classes(self) -> int:
        """K; 0 as long as nobody knows."""
        return int(self._sums.rows.shape[2])

    def prepare(self, num_classes: int) -> None:
        """Take note of the number of classes, which the first prediction tells."""
        if self.num_classes:
            return
        if self._memory is None:
            self._sums = _Window(self._width_px, num_classes)
        else:
            self._sums = _Whole(self._memory(self._width_px, num_classes)[self._first :])

    def weigh(self, rows: Span, weights: Array) -> None:
        """Add the weights `(t, W)` of a row of tiles at once, all of whose pixels have data."""
        opened = self._open(rows)
        if opened is not None:
            place, shown = opened
            self._weights.rows[place] += weights[shown]

    def add(self, rows: Span, columns: Span, weighted: Array, weights: Array | None, valid: Mask | None) -> None:
        """Add what a tile says.

        Args:
            rows: Where the tile lies.
            columns: Where the tile lies.
            weighted: `(t, t, K)`, each prediction times its weight.
            weights: `(t, t)`; None where they are there already.
            valid: Of the tile's pixels that lie within the map those with data; None for all.
        """
        opened = self._open(rows)
        if opened is None:
            return
        place, shown = opened
        with np.errstate(invalid="ignore", over="ignore"):
            self._sums.rows[place, columns.in_map] += weighted[shown, columns.in_tile]
        if weights is not None:
            added = weights[shown, columns.in_tile]
            if valid is not None:
                added = added * valid[shown.start - rows.in_tile.start :]
            self._weights.rows[place, columns.in_map] += added

    def finish(self, stop: int) -> Iterator[tuple[int, Array]]:
        """Give away the rows before `stop`, which no tile will add to: where they begin, and `(h, W, K)`.

        What no tile has seen, or has no data, is NaN. A stretch without any tile comes in parts. As long as nobody
        knows K, nothing does: what ends before the first tile is given away with the rows after it. What was given
        away is used again for the next but one, unless it is a part of the whole map.

        Raises:
            PredictorNumberError: There is data, and what was summed up is no number.
        """
        if not self.num_classes:
            self._first = max(self._first, stop)
            return
        yield from self._blanks(self._first)
        num = min(stop - self._first, self._weights.num_open)
        if num > 0:
            first, mean = self._first, self._divided(num)
            self._given = first + num
            self._drop()
            yield first, mean
        yield from self._blanks(stop)

    def _open(self, rows: Span) -> tuple[slice, slice] | None:
        """Open the rows of a tile: which they are here, and in the tile; None where all of them are given away."""
        cut = max(0, self._first - rows.first_mapped)
        place = slice(rows.first_mapped + cut - self._first, rows.in_map.stop - self._first)
        if place.stop <= place.start:
            return None
        self._weights.open(place.stop)
        if self.num_classes:
            self._sums.open(place.stop)
        return place, slice(rows.in_tile.start + cut, rows.in_tile.stop)

    def _blanks(self, stop: int) -> Iterator[tuple[int, Array]]:
        """Rows without data, up to `stop`."""
        while self._given < stop:
            first, num = self._given, min(stop - self._given, BLANK_ROWS)
            self._given += num
            self._drop()
            yield first, np.full((num, self._width_px, self.num_classes), np.nan, np.float32)

    def _drop(self) -> None:
        """Close the rows that are given away."""
        num = self._given - self._first
        if num > 0:
            self._first = self._given
            self._weights.drop(num)
            self._sums.drop(num)

    def _divided(self, num: int) -> Array:
        """The mean of the first rows."""
        sums, weights = self._sums.rows[:num], self._weights.rows[:num]
        # One number that is none makes the sum none.
        with np.errstate(invalid="ignore", over="ignore"):
            is_finite = np.isfinite(sums.sum())
        if not is_finite:
            self._refuse_numbers(sums, weights)
        weights[weights == 0.0] = np.nan
        mean = self._sums.target(num)
        np.multiply(sums, np.reciprocal(weights)[..., None], out=mean)
        return mean

    def _refuse_numbers(self, sums: Array, weights: Array) -> None:
        """Refuse NaN and infinity where there is data."""
        bad = ~np.isfinite(sums) & (weights > 0.0)[..., None]
        if bad.any():
            row, column, k = (int(value) for value in np.argwhere(bad)[0])
            raise number_error(k, "at", (self._origin[0] + self._first + row, self._origin[1] + column))


class _Window:
    """Rows of a map that is never held whole.

    Attributes:
        rows: From the first one that is open on, `(h, ...)`, 0 where nothing was added yet.
        num_open: How many are.
    """

    def __init__(self, *shape: int) -> None:
        self.rows: Array = np.zeros((0, *shape), np.float32)
        self.num_open = 0
        self._targets = [self.rows, self.rows]

    def open(self, num: int) -> None:
        """Have so many open at least."""
        if num > len(self.rows):
            more = np.zeros((num - self.num_open, *self.rows.shape[1:]), np.float32)
            self.rows = np.concatenate([self.rows[: self.num_open], more])
        self.num_open = max(self.num_open, num)

    def drop(self, num: int) -> None:
        """Close the first ones, which makes room for others."""
        left = max(0, self.num_open - num)
        self.rows[:left] = self.rows[num : num + left]
        self.rows[left : self.num_open] = 0.0
        self.num_open = left

    def target(self, num: int) -> Array:
        """Memory for so many rows: fresh one would cost more than what is done with it."""
        # Two in turn, as the one before may still be written.
        room, other = self._targets
        if len(room) < num:
            room = np.empty((num, *self.rows.shape[1:]), np.float32)
        self._targets = [other, room]
        return room[:num]


class _Whole:
    """Rows of a map for which all memory is there.

    Args:
        rows: From the first one that is wanted on, `(h, W, K)`.
    """

    def __init__(self, rows: Array) -> None:
        self.rows = rows
        self._num_open = 0

    def open(self, num: int) -> None:
        """See `_Window`."""
        if num > self._num_open:
            # Fresh memory is best written first: to read it, as a sum does, would touch it twice.
            self.rows[self._num_open : num] = 0.0
            self._num_open = num

    def drop(self, num: int) -> None:
        """See `_Window`."""
        self.rows = self.rows[num:]
        self._num_open = max(0, self._num_open - num)

    def target(self, num: int) -> Array:
        """The rows themselves."""
        return self.rows[:num]

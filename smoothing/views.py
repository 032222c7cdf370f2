"""Tiles looked at from all sides by a predictor, whose answers are checked and become one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smoothing.diagonals import Turn
from smoothing.errors import BlendingError, PredictorShapeError, number_error
from smoothing.settings import Blending
from smoothing.symmetries import Symmetry
from smoothing.tiling import Span

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Predictor = Callable[[Array], Array]

_TINY = float(np.finfo(np.float32).tiny)
_ALL = 0.999
"""Less is a rounding error below 1."""


@dataclass(frozen=True)
class Tile:
    """A square of the image.

    Attributes:
        rows: What is shown of it.
        columns: What is shown of it.
        valid: Which of its pixels that are mapped have data; None for all.
        around: Which of all its pixels that are read have data, `(t + 2 reach, t + 2 reach)`; None for all.
        is_weighed: Whether its weights are in the map already.
    """

    rows: Span
    columns: Span
    valid: Mask | None
    around: Mask | None
    is_weighed: bool = False


class Views:
    """A predictor that looks at tiles from all sides.

    Args:
        predict: `(N, t, t, B) -> (N, t - 2m, t - 2m, K)`.
        blending: Sizes, symmetries and how views become one.
    """

    def __init__(self, predict: Predictor, blending: Blending) -> None:
        self._predict = predict
        self._blending = blending
        self._num_classes = 0
        self._buffers: dict[str, Array] = {}
        symmetries = blending.views
        share = np.float32(1.0 / symmetries.num_views)
        self._upright = blending.weights * share
        """What pixels weigh in each upright view."""
        self._all_upright: Array = self._upright * np.float32(len(symmetries.upright))
        self._diagonals: _Diagonals | None = None
        if symmetries.diagonal:
            self._diagonals = _Diagonals(blending, blending.diagonal_weights * share)

    @property
    def weights(self) -> Array:
        """What the pixels of a tile weigh in all views together where there is data all around, `(s, s)`."""
        if self._diagonals is None:
            return self._all_upright
        return self._all_upright + self._diagonals.weights * np.float32(len(self._blending.views.diagonal))

    def count_classes(self, num_bands: int) -> int:
        """K, for which a batch of zeros is predicted where nothing was yet."""
        if not self._num_classes:
            sides = (self._blending.batch_size, self._blending.tile_px, self._blending.tile_px)
            self._predicted(np.zeros((*sides, num_bands), np.float32))
        return self._num_classes

    def weighted(self, batch: Array, tiles: Sequence[Tile]) -> Iterator[tuple[Array, Array]]:
        """What all views say of a batch, tile by tile, each to be used before the next is asked for.

        Of a mean of upright views nobody has looked yet whether it is a number everywhere: in the map there are fewer.

        Args:
            batch: Tiles with what their views see beyond them, `(N, t + 2 reach, t + 2 reach, B)`; may be overwritten.
            tiles: Which they are; what comes after these fills the batch up.

        Yields:
            A tile times its weights, `(s, s, K)`, s being t - 2m, and the weights, `(s, s)`.
        """
        if self._blending.average != "mean":
            averaged = _geometric if self._blending.average == "geometric" else _median
            yield from averaged(self._one_by_one(batch, tiles), len(tiles))
            return
        turned = None if self._diagonals is None else self._diagonals.turn(batch, tiles)
        diagonal: tuple[Array, Array] | None = None
        total = self._sum(self._own(batch), self._blending.views.upright, "sum")
        if self._diagonals is not None and turned is not None:
            # These first, as they tell the place of what is no number to the pixel.
            self._refuse(total, tiles, "at")
            diagonal = self._weighted_diagonals(self._diagonals, *turned, tiles)
        # Tile by tile, as a tile stays in the processor's cache until it is added to the map, which a batch does not.
        wide = np.repeat(self._upright, total.shape[-1], axis=1)
        result = self._buffer("weighted", total.shape[1:])
        for place in range(len(tiles)):
            # Along the last axis alone, which is short, NumPy would be slow.
            said = np.ascontiguousarray(total[place]).reshape(wide.shape)
            with np.errstate(invalid="ignore", over="ignore"):
                np.multiply(said, wide, out=result.reshape(wide.shape))
            if diagonal is None:
                yield result, self._all_upright
            else:
                result += diagonal[0][place]
                yield result, self._all_upright + diagonal[1][place]

    def _weighted_diagonals(
        self, diagonals: "_Diagonals", turned: Array, seen: Array | None, tiles: Sequence[Tile]
    ) -> tuple[Array, Array]:
        """What views that lie at 45° say, times its weights, `(N, s, s, K)`, and these, `(N, s, s)`."""
        views = self._blending.views.diagonal
        # It is summed up as it lies, and turned back once.
        said, weights = diagonals.turn_back(self._sum(turned, views, "diagonal sum"), seen)
        self._refuse(said, tiles, "near")
        said *= diagonals.weights[..., None]
        return said, np.broadcast_to(weights * np.float32(len(views)), said.shape[:3])

    def _sum(self, batch: Array, views: Sequence[Symmetry], name: str) -> Array:
        """The sum of what views say, turned back; of a single view what it says."""
        if len(views) == 1:
            return views[0].inverse(self._predicted(self._lying(batch, views[0], name)))
        # To make columns of rows is slow: it is done once to tiles, and once to what was said of them.
        across = [view for view in views if view.lies_across]
        along = [view for view in views if not view.lies_across]
        turned = self._sum_of_alike(batch, across, f"{name} across") if across else None
        # These come last, as it may be the batch itself that is shown to the predictor, which may overwrite it.
        total = self._sum_of_alike(batch, along, name)
        if turned is not None:
            self._add(total, across[0].inverse(turned))
        return total

    def _sum_of_alike(self, batch: Array, views: Sequence[Symmetry], name: str) -> Array:
        """The same of views all of which make columns of rows, or none of which does; lying as the first one does."""
        first = views[0]
        lying = self._lying(batch, first, name)
        total: Array = np.zeros((0, 0, 0, 0), np.float32)
        # The first one comes last, as it may look at these tiles themselves, which saves a copy.
        for number, view in enumerate(reversed(views)):
            further = view.relative_to(first)
            said = self._predicted(lying if view is first else self._copy(further.forward(lying), "turned"))
            if number == 0:
                total = self._copy(further.inverse(said), f"sum {name}")
            else:
                self._add(total, further.inverse(said))
        return total

    def _lying(self, batch: Array, view: Symmetry, name: str) -> Array:
        """Tiles as a view wants them, contiguous; the batch itself where it lies so."""
        turned = view.forward(batch)
        return turned if turned.flags.c_contiguous else self._copy(turned, f"lying {name}")

    def _add(self, total: Array, turned: Array) -> None:
        """Add what may lie otherwise in memory."""
        if turned.strides[2] != total.strides[2]:
            # A copy that is turned pixel by pixel, and is added as it lies, is faster than adding across.
            turned = self._copy(turned, "turned back")
        with np.errstate(invalid="ignore", over="ignore"):
            total += turned

    def _copy(self, turned: Array, name: str) -> Array:
        """Turned tiles `(N, t, t, C)`, contiguous, in the buffer of this name."""
        copied = self._buffer(name, turned.shape)
        if turned.shape[-1] == 1 or turned.strides[-1] != turned.itemsize:
            np.copyto(copied, turned)
        else:
            # Pixel by pixel, with all its numbers: NumPy copies them twice as fast as number by number.
            pixel = np.dtype((np.void, turned.itemsize * turned.shape[-1]))
            np.copyto(copied.view(pixel), turned.view(pixel))
        return copied

    def _buffer(self, name: str, shape: tuple[int, ...]) -> Array:
        """An array that every batch uses again: fresh memory costs as much as what is done with it."""
        held = self._buffers.get(name)
        if held is None or held.shape != shape:
            held = self._buffers[name] = np.empty(shape, np.float32)
        return held

    def _one_by_one(self, batch: Array, tiles: Sequence[Tile]) -> Iterator[tuple[Array, Array]]:
        """What each view says, upright, `(N, s, s, K)`, and what its pixels weigh, `(s, s)` or `(N, s, s)`."""
        own = self._own(batch)
        for view in self._blending.views.upright:
            said = np.array(view.inverse(self._predicted(self._copy(view.forward(own), "turned"))), order="C")
            self._refuse(said, tiles, "at")
            yield said, self._upright
        if self._diagonals is None:
            return
        turned, seen = self._diagonals.turn(batch, tiles)
        for view in self._blending.views.diagonal:
            said = np.array(view.inverse(self._predicted(self._copy(view.forward(turned), "turned"))), order="C")
            upright, weights = self._diagonals.turn_back(said, seen)
            self._refuse(upright, tiles, "near")
            if seen is not None:
                # What is seen in part only is a part of what it would be.
                shares = np.where(weights > 0.0, weights / self._diagonals.weights.clip(_TINY), np.float32(1.0))
                upright /= shares[..., None]
            yield upright, weights

    def _refuse(self, upright: Array, tiles: Sequence[Tile], where: str) -> None:
        for each, tile in zip(upright, tiles, strict=False):
            _refuse_numbers(each, tile, where)
        if self._blending.average == "geometric":
            _refuse_negative(upright, tiles)

    def _own(self, batch: Array) -> Array:
        """The tiles without what lies around them."""
        reach = self._blending.reach_px
        return batch[:, reach:-reach, reach:-reach] if reach else batch

    def _predicted(self, tiles: Array) -> Array:
        asked = tiles.shape
        # A view, as who freezes or reshapes it shall not do so to what is used again.
        prediction = _array(self._predict(tiles.view()))
        shape, side_px = prediction.shape, self._blending.shown_px
        num_classes = self._num_classes or (shape[-1] if len(shape) == 4 else 0)
        sides = (asked[0], side_px, side_px)
        if shape != (*sides, num_classes) or num_classes == 0:
            wanted = ", ".join(str(side) for side in (*sides, self._num_classes or "K"))
            raise PredictorShapeError(
                f"`predict` must return the shape ({wanted}) for tiles of the shape {asked}. Received {shape}."
            )
        self._num_classes = num_classes
        return prediction


class _Diagonals:
    """Tiles that lie at 45°.

    Args:
        blending: Sizes.
        weights: What pixels of a tile weigh in each view that lies so.
    """

    def __init__(self, blending: Blending, weights: Array) -> None:
        tile_px, shown_px, self._margin_px = blending.tile_px, blending.shown_px, blending.margin_px
        self._turn = Turn(tile_px + 2 * blending.reach_px, tile_px)
        self._turn_back = Turn(shown_px, shown_px, backwards=True)
        self.weights: Array = weights * self._turn_back.sees

    def turn(self, batch: Array, tiles: Sequence[Tile]) -> tuple[Array, Array | None]:
        """Turn tiles.

        Returns:
            `(N, t, t, B)`, and which of the pixels that are shown have data on all sides `(N, s, s, 1)`; None for all.
            0 stands where there is none.
        """
        if all(tile.around is None for tile in tiles):
            return self._turn.apply(batch), None
        known = np.ones((*batch.shape[:3], 1), np.float32)
        for place, tile in enumerate(tiles):
            if tile.around is not None:
                known[place, :, :, 0] = tile.around
        batch = np.where(known > 0.0, batch, np.float32(0.0))
        inner = slice(self._margin_px, -self._margin_px or None)
        return self._turn.apply(batch), (self._turn.apply(known)[:, inner, inner] > _ALL).astype(np.float32)

    def turn_back(self, said: Array, seen: Array | None) -> tuple[Array, Array]:
        """Turn what was said of them back.

        Args:
            said: `(N, s, s, K)`; may be overwritten.
            seen: Which of it counts, `(N, s, s, 1)`; None for all.

        Returns:
            What is upright, 0 where nothing was seen, and the weights, `(s, s)` or `(N, s, s)`.
        """
        if seen is None:
            return self._turn_back.apply(said), self.weights
        upright = self._turn_back.apply(np.where(seen > 0.0, said, np.float32(0.0)))
        return upright, self._turn_back.apply(seen)[..., 0] * self.weights


def _array(said: object) -> Array:
    if isinstance(said, np.ma.MaskedArray):
        raise PredictorShapeError("`predict` must return a plain array. Received a masked one.")
    if np.issubdtype(getattr(said, "dtype", np.float32), np.complexfloating):
        raise PredictorShapeError("`predict` must return an array of real numbers. Received complex ones.")
    try:
        return np.asarray(said, np.float32)
    except (TypeError, ValueError) as error:
        raise PredictorShapeError(
            f"`predict` must return an array of numbers. Received {type(said).__name__}: {error}."
        ) from error


def _geometric(views: Iterable[tuple[Array, Array]], num: int) -> Iterator[tuple[Array, Array]]:
    """The geometric means of what views say of so many tiles, times their weights, and these."""
    logs: Array = np.zeros((0, 0, 0, 0), np.float32)
    weights: Array = np.zeros((0, 0, 0), np.float32)
    for upright, each in views:
        if not logs.size:
            logs, weights = np.zeros_like(upright), np.zeros(upright.shape[:3], np.float32)
        weights += each
        is_seen = np.broadcast_to((each > 0.0)[..., None], upright.shape)
        with np.errstate(divide="ignore"):
            log = np.log(upright, out=np.zeros_like(upright), where=is_seen)
        logs += np.multiply(log, each[..., None], out=log)
    for log, weight in zip(logs[:num], weights, strict=False):
        yield np.exp(log / weight[..., None]) * weight[..., None], weight


def _median(views: Iterable[tuple[Array, Array]], num: int) -> Iterator[tuple[Array, Array]]:
    """The medians of what views say of so many tiles, times their weights, and these."""
    found = list(views)
    for place in range(num):
        shares = [each if each.ndim == 2 else each[place] for _, each in found]
        said = np.stack([upright[place] for upright, _ in found])
        is_partly_seen = False
        for view, share in zip(said, shares, strict=True):
            if not share.all():
                # What a view does not see, it has no say in.
                view[share == 0.0] = np.nan
                is_partly_seen = True
        middle = (np.nanmedian if is_partly_seen else np.median)(said, axis=0)
        weight: Array = np.sum(shares, axis=0, dtype=np.float32)
        yield np.asarray(middle, np.float32) * weight[..., None], weight


def _refuse_numbers(upright: Array, tile: Tile, where: str = "at") -> None:
    """Refuse NaN and infinity where a tile has data; elsewhere put 0, which never reaches the map, in their place.

    What was turned by 45° has them only near the place where they were.
    """
    # One of them makes the sum one of them.
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(upright.sum()):
            return
    bad = ~np.isfinite(upright[tile.rows.in_tile, tile.columns.in_tile])
    if tile.valid is not None:
        bad &= tile.valid[:, :, None]
    if bad.any():
        row, column, k = (int(value) for value in np.argwhere(bad)[0])
        place = (row + tile.rows.in_image.start, column + tile.columns.in_image.start)
        raise number_error(k, where, place)
    np.nan_to_num(upright, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _refuse_negative(upright: Array, tiles: Sequence[Tile]) -> None:
    """Refuse what is below 0 where there is data; elsewhere put 0 in its place."""
    if not (upright < 0.0).any():
        return
    for tile, prediction in zip(tiles, upright, strict=False):
        shown = prediction[tile.rows.in_tile, tile.columns.in_tile]
        if tile.valid is not None:
            shown = shown[tile.valid]
        if (shown < 0.0).any():
            raise BlendingError(
                "The geometric mean is one of predictions that are not below 0. "
                f"Received {float(shown.min()):g} of the predictor."
            )
    np.maximum(upright, np.float32(0.0), out=upright)

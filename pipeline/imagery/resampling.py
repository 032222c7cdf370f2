"""One resampling from the pixels of a group of bands to another grid, whatever lies between: size, place and shift.

Coordinates are continuous, in pixels, with the corners of pixels at whole numbers; so edges stay edges and no grid is
moved by half a pixel. OpenCV would be quicker still, but its integer path moves a grid by two pixels, its affine one
rounds places to a thirty-second of a pixel, and neither takes a mean where the target is coarser.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.scene import Affine

Planes = NDArray[np.float32]
Shape = tuple[int, int]

HALF = 0.5 - 1e-4
"""A pixel has data where at least half of it has; the rest is rounding."""

_NEGLIGIBLE = 1e-9


def composed(outer: Affine, inner: Affine) -> Affine:
    """The transform that applies `inner` first."""
    a, b, c, d, e, f = outer
    g, h, i, j, k, m = inner
    return (a * g + b * j, a * h + b * k, a * i + b * m + c, d * g + e * j, d * h + e * k, d * i + e * m + f)


def edge_to_edge(source: Shape, target: Shape) -> Affine:
    """From pixels of the target to those of the source where both show the same ground from edge to edge."""
    return (source[1] / target[1], 0.0, 0.0, 0.0, source[0] / target[0], 0.0)


@dataclass(frozen=True)
class _Taps:
    """Along one axis: which source pixels make each target pixel, and with which weight.

    Attributes:
        indices: `(N, T)`, all within the source.
        weights: float32 `(N, T)`; those of a pixel sum to 1, or to the share of it that lies within the source.
    """

    indices: NDArray[np.intp]
    weights: NDArray[np.float32]

    @classmethod
    def linear(cls, scale: float, offset: float, target: int, source: int) -> "_Taps":
        """Between pixel centres where the target is finer, the mean over the pixel where it is coarser."""
        if abs(scale) > 1.0 + _NEGLIGIBLE:
            return cls.mean(scale, offset, target, source, repeat=True)
        at = (np.arange(target) + 0.5) * scale + offset - 0.5
        # What differs from a whole number by rounding only is one.
        at = np.where(np.abs(at - np.rint(at)) < _NEGLIGIBLE, np.rint(at), at)
        first = np.floor(at)
        share = at - first
        return cls._of(first[:, None] + np.arange(2), np.stack([1.0 - share, share], axis=1), source)

    @classmethod
    def mean(cls, scale: float, offset: float, target: int, source: int, *, repeat: bool) -> "_Taps":
        """By the share of the target pixel that each source pixel covers.

        Args:
            scale: Source pixels per target pixel.
            offset: Where the target begins, in source pixels.
            target: Number of target pixels.
            source: Number of source pixels.
            repeat: Go on with the outermost pixel beyond the source; otherwise nothing is there.
        """
        ends = np.arange(target + 1) * scale + offset
        ends = np.where(np.abs(ends - np.rint(ends)) < _NEGLIGIBLE, np.rint(ends), ends)
        low, high = np.minimum(ends[:-1], ends[1:]), np.maximum(ends[:-1], ends[1:])
        indices = np.floor(low)[:, None] + np.arange(math.ceil(abs(scale)) + 1)
        shared = np.minimum(indices + 1.0, high[:, None]) - np.maximum(indices, low[:, None])
        weights = np.maximum(shared, 0.0) / abs(scale)
        if not repeat:
            weights[(indices < 0) | (indices >= source)] = 0.0
        return cls._of(indices, weights, source)

    @classmethod
    def _of(cls, indices: NDArray[np.float64], weights: NDArray[np.float64], source: int) -> "_Taps":
        used = int(np.flatnonzero(weights.any(axis=0)).max(initial=0)) + 1
        # Far outside, a place would not fit an integer.
        within = np.clip(indices[:, :used], 0, source - 1).astype(np.intp)
        return cls(within, weights[:, :used].astype(np.float32))

    @cached_property
    def is_copy(self) -> bool:
        """Whether target pixels are source pixels, one by one from the first."""
        return self.indices.shape[1] == 1 and np.array_equal(self.indices[:, 0], np.arange(len(self.indices)))

    def part(self, first: int, last: int) -> "_Taps":
        """Those of target pixels `first` to `last`, with source pixels counted from `self.span(...)[0]`."""
        start, _ = self.span(first, last)
        return _Taps(self.indices[first:last] - start, self.weights[first:last])

    def span(self, first: int, last: int) -> tuple[int, int]:
        """First source pixel and the one after the last that target pixels `first` to `last` need."""
        indices = self.indices[first:last]
        return int(indices.min()), int(indices.max()) + 1

    def along_rows(self, image: NDArray[np.generic]) -> Planes:
        """Apply to axis 0 of `(h, ...)`, of any real type."""
        shape = (-1, *(1,) * (image.ndim - 1))
        total = image[self.indices[:, 0]].astype(np.float32)
        total *= self.weights[:, 0].reshape(shape)
        for tap in range(1, self.indices.shape[1]):
            part = image[self.indices[:, tap]].astype(np.float32)
            part *= self.weights[:, tap].reshape(shape)
            total += part
        return total

    def along_columns(self, image: Planes) -> Planes:
        """Apply to axis 1 of `(h, w, B)`."""
        if self.is_copy:
            return image[:, : len(self.indices)]
        total = image.take(self.indices[:, 0], axis=1)
        total *= self.weights[:, 0, None]
        for tap in range(1, self.indices.shape[1]):
            part = image.take(self.indices[:, tap], axis=1)
            part *= self.weights[:, tap, None]
            total += part
        return total


@dataclass(frozen=True)
class Resampling:
    """From a group's pixels to a target grid; linear where that is finer, the mean over each pixel where coarser.

    Attributes:
        to_source: Pixels of the target to those of the source, shift included, `(a, b, c, d, e, f)`.
        source: Rows and columns of the source.
        target: Rows and columns of the target.
        footprint: Pixels of the target to those of the source, shift left out; None where the source covers all of
            the target. Outside of it there is no data. Within it the outermost pixel is repeated where a shift
            has moved the source away: a shift of a pixel or two must not cost the border of a scene.
    """

    to_source: Affine
    source: Shape
    target: Shape
    footprint: Affine | None = None

    @property
    def is_copy(self) -> bool:
        """Whether the source lies on the target, pixel by pixel."""
        same = np.allclose(self.to_source, (1, 0, 0, 0, 1, 0), rtol=0.0, atol=_NEGLIGIBLE)
        return self.source == self.target and same and self.footprint is None

    def rows(
        self, planes: NDArray[np.generic], valid: NDArray[np.bool_] | None, first: int, last: int
    ) -> tuple[Planes, NDArray[np.bool_] | None]:
        """Make some rows of the target.

        Args:
            planes: `(B, h, w)` of the source, of any real type.
            valid: Bool `(h, w)`, False where there is no data; None where there is data everywhere.
            first: First row of the target.
            last: The row after the last one.

        Returns:
            float32 `(last - first, W, B)`, and bool `(last - first, W)`, True where at least half of a pixel has
            data; None where all have. What has no data never goes into a value; values there mean nothing.
        """
        if self.is_copy:
            values = np.moveaxis(planes[:, first:last], 0, -1).astype(np.float32)
            return values, None if valid is None else valid[first:last]
        kernel = self._separable if _is_straight(self.to_source) else self._turned
        if valid is None:
            values, known = kernel(planes, None, first, last)
        else:
            values, known = kernel(planes, valid, first, last)
        inside = self._inside(first, last)
        if inside is None or known is None:
            return values, known if inside is None else inside
        return values, known & inside

    def _separable(
        self, planes: NDArray[np.generic], valid: NDArray[np.bool_] | None, first: int, last: int
    ) -> tuple[Planes, NDArray[np.bool_] | None]:
        down, across = self._down, self._across
        start, stop = down.span(first, last)
        down = down.part(first, last)
        if valid is None:
            return self._applied(down, across, planes[:, start:stop]), None
        weights = valid[None, start:stop]
        # Whatever a pixel without data holds, not-a-number included, it must not get into a sum.
        known = np.where(weights, planes[:, start:stop], np.zeros((), planes.dtype))
        values, total = self._applied(down, across, known), self._applied(down, across, weights)
        values /= np.maximum(total, np.float32(1e-6))
        return values, self._share_of(valid, first, last) >= HALF

    def _share_of(self, valid: NDArray[np.bool_], first: int, last: int) -> Planes:
        """How much of each pixel has data."""
        down, across = self._areas
        start, stop = down.span(first, last)
        return self._applied(down.part(first, last), across, valid[None, start:stop])[..., 0]

    def _applied(self, down: _Taps, across: _Taps, planes: NDArray[np.generic]) -> Planes:
        """From `(B, h, w)` to `(n, W, B)`; what makes it smaller first, whatever part of the target is made."""
        if self.target[0] < self.source[0]:
            return across.along_columns(_image(np.stack([down.along_rows(plane) for plane in planes])))
        return down.along_rows(across.along_columns(_image(planes)))

    @cached_property
    def _down(self) -> _Taps:
        return _Taps.linear(self.to_source[4], self.to_source[5], self.target[0], self.source[0])

    @cached_property
    def _across(self) -> _Taps:
        return _Taps.linear(self.to_source[0], self.to_source[2], self.target[1], self.source[1])

    @cached_property
    def _areas(self) -> tuple[_Taps, _Taps]:
        a, _, c, _, e, f = self.to_source
        return (
            _Taps.mean(e, f, self.target[0], self.source[0], repeat=True),
            _Taps.mean(a, c, self.target[1], self.source[1], repeat=True),
        )

    @cached_property
    def _footprint_shares(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Share of each row, and of each column, that a footprint without a turn covers."""
        a, _, c, _, e, f = self.footprint or self.to_source
        down = _Taps.mean(e, f, self.target[0], self.source[0], repeat=False)
        across = _Taps.mean(a, c, self.target[1], self.source[1], repeat=False)
        return down.weights.sum(axis=1), across.weights.sum(axis=1)

    def _inside(self, first: int, last: int) -> NDArray[np.bool_] | None:
        if self.footprint is None:
            return None
        if _is_straight(self.footprint):
            down, across = self._footprint_shares
            inside: NDArray[np.bool_] = down[first:last, None] * across[None, :] >= HALF
            return inside
        x, y = _places(self.footprint, self.target[1], first, last, (0.5, 0.5))
        centred: NDArray[np.bool_] = (x >= 0) & (x <= self.source[1]) & (y >= 0) & (y <= self.source[0])
        return centred

    def _turned(
        self, planes: NDArray[np.generic], valid: NDArray[np.bool_] | None, first: int, last: int
    ) -> tuple[Planes, NDArray[np.bool_] | None]:
        """Linear at the pixel's centre; where the target is coarser, the mean over enough places within the pixel."""
        a, b, _, d, e, _ = self.to_source
        num = max(1, math.ceil(max(math.hypot(a, d), math.hypot(b, e)) - _NEGLIGIBLE))
        shape = (last - first, self.target[1])
        values = np.zeros((*shape, len(planes)), np.float32)
        total = np.zeros((*shape, 1), np.float32)
        for sub_row in range(num):
            for sub_column in range(num):
                within = ((sub_column + 0.5) / num, (sub_row + 0.5) / num)
                x, y = _places(self.to_source, self.target[1], first, last, within)
                for row, column, weight in _corners(x, y, self.source):
                    share = weight if valid is None else weight * valid[row, column]
                    pixels = np.moveaxis(planes[:, row, column], 0, -1).astype(np.float32)
                    if valid is not None:
                        pixels[~valid[row, column]] = 0.0
                    values += pixels * share[..., None].astype(np.float32)
                    total[..., 0] += share.astype(np.float32)
        values /= np.maximum(total, np.float32(1e-6))
        return values, None if valid is None else total[..., 0] >= HALF * num**2


def resized(plane: Planes, height_px: int, width_px: int) -> Planes:
    """Bring a plane to another size over the same ground: edges stay edges, so the grid is not shifted.

    Args:
        plane: Real `(h, w)`.
        height_px: Rows wanted.
        width_px: Columns wanted.

    Returns:
        float32 `(height_px, width_px)`: along each axis linear between pixel centres and constant beyond the outermost
        ones where the plane is coarser, the mean over each pixel where it is finer.
    """
    shape = (plane.shape[0], plane.shape[1])
    target = (height_px, width_px)
    values, _ = Resampling(edge_to_edge(shape, target), shape, target).rows(plane[None], None, 0, height_px)
    return values[..., 0]


def area_shares(mask: NDArray[np.bool_], height_px: int, width_px: int) -> Planes:
    """Share of each pixel of another grid over the same ground that a mask covers.

    Returns:
        float32 `(height_px, width_px)` in [0, 1].
    """
    shape, target = (mask.shape[0], mask.shape[1]), (height_px, width_px)
    resampling = Resampling(edge_to_edge(shape, target), shape, target)
    blocks = [resampling._share_of(mask, *rows) for rows in row_blocks(target, 1)]
    return np.concatenate(blocks)


BLOCK_VALUES = 2_000_000
"""Rows are made in blocks of about so many values, which a processor's cache holds."""


def row_blocks(shape: Shape, num_bands: int) -> Sequence[tuple[int, int]]:
    """First row and the row after the last of each block of an image."""
    step = max(1, BLOCK_VALUES // max(1, shape[1] * num_bands))
    return [(first, min(shape[0], first + step)) for first in range(0, shape[0], step)]


def _is_straight(affine: Affine) -> bool:
    """Whether rows stay rows; a turn so small that it moves no pixel by a thousandth counts as none."""
    return abs(affine[1]) < 1e-8 and abs(affine[3]) < 1e-8


def _image(planes: NDArray[np.generic]) -> Planes:
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1), dtype=np.float32)


def _places(
    affine: Affine, width: int, first: int, last: int, within: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a point of each target pixel lies in the source."""
    a, b, c, d, e, f = affine
    column = np.arange(width)[None, :] + within[0]
    row = np.arange(first, last)[:, None] + within[1]
    return a * column + b * row + c, d * column + e * row + f


def _corners(
    x: NDArray[np.float64], y: NDArray[np.float64], source: Shape
) -> list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]]:
    """The four pixels around each place, and their linear weights; the outermost ones go on beyond the border."""
    left, top = np.floor(x - 0.5), np.floor(y - 0.5)
    right_share, low_share = x - 0.5 - left, y - 0.5 - top
    found = []
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row = np.clip(top + down, 0, source[0] - 1).astype(np.intp)
        column = np.clip(left + across, 0, source[1] - 1).astype(np.intp)
        weight = (low_share if down else 1 - low_share) * (right_share if across else 1 - right_share)
        found.append((row, column, weight))
    return found

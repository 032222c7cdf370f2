"""Squares turned by 45°, and what was seen through them turned back: bilinear, by places that are computed once."""

import math

import numpy as np
import numpy.typing as npt

Batch = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.float64]


def reach_px(tile_px: int) -> int:
    """How far beyond each side of a tile the tile of the same size and middle reaches that lies at 45°."""
    return math.ceil((math.sqrt(2.0) - 1.0) * (tile_px - 1) / 2.0) if tile_px > 1 else 0


class Turn:
    """Squares of one size, turned by 45° about their middle into squares of another size.

    Args:
        from_px: Side length of what is turned.
        to_px: Side length of the result. What of it lies beyond the middles of the outermost pixels is nobody's.
        backwards: Turn clockwise, which undoes the other.
    """

    def __init__(self, from_px: int, to_px: int, *, backwards: bool = False) -> None:
        self._to_px = to_px
        rows, columns = turned_offsets(to_px, backwards=backwards)
        middle = (from_px - 1) / 2.0
        rows, columns = rows + middle, columns + middle
        rounding = 1e-9 * from_px
        inside = (np.minimum(rows, columns) >= -rounding) & (np.maximum(rows, columns) <= 2 * middle + rounding)
        self.sees: npt.NDArray[np.bool_] = inside
        """Bool `(to_px, to_px)`, which pixels of the result come from pixels of what is turned."""
        rows, columns = rows.clip(0.0, 2 * middle), columns.clip(0.0, 2 * middle)
        top, left = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
        down, right = rows - top, columns - left
        bottom, beyond = np.minimum(top + 1, from_px - 1), np.minimum(left + 1, from_px - 1)
        corners = (
            (top, left, (1 - down) * (1 - right)),
            (top, beyond, (1 - down) * right),
            (bottom, left, down * (1 - right)),
            (bottom, beyond, down * right),
        )
        self._corners = [
            ((row * from_px + column).ravel(), (share * inside).astype(np.float32).reshape(-1, 1))
            for row, column, share in corners
        ]

    def apply(self, tiles: Batch) -> Batch:
        """Turn tiles `(N, from, from, C)` into `(N, to, to, C)`; 0 where nothing is seen."""
        turned = np.empty((len(tiles), self._to_px**2, tiles.shape[-1]), np.float32)
        for tile, result in zip(tiles, turned, strict=True):
            pixels = np.ascontiguousarray(tile).reshape(-1, tiles.shape[-1])
            (places, shares), *others = self._corners
            np.multiply(pixels[places], shares, out=result)
            for places, shares in others:
                result += pixels[places] * shares
        return turned.reshape(len(tiles), self._to_px, self._to_px, tiles.shape[-1])


def turned_offsets(tile_px: int, *, backwards: bool = False) -> tuple[Offsets, Offsets]:
    """Where the pixels of a square lie in one that is turned by 45° about the same middle, as (row, column) offsets.

    Args:
        tile_px: Side length of the square.
        backwards: The other one is turned the other way round.

    Returns:
        Offsets from the middle in pixels, each float64 `(tile_px, tile_px)`.
    """
    places = np.arange(tile_px) - (tile_px - 1) / 2.0
    rows, columns = places[:, None], places[None, :]
    sign = -1.0 if backwards else 1.0
    return (rows + sign * columns) * math.sqrt(0.5), (columns - sign * rows) * math.sqrt(0.5)

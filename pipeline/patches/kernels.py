"""Compiled loops: from the pixels on disk to a scaled, turned and varied patch.

A patch is cut in four passes: where its pixels lie; the ground that they see, read row by row, clipped, scaled and
varied; the interpolation between those pixels; the masks. Read along the turned rows of a patch, a scene of several
hundred megabytes would miss the caches at every pixel; for the same reason each pass asks for what the next row needs.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np import arrayobj
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_LAID_DOWN = os.access(Path(__file__).parent, os.W_OK)
"""Whether compiled code can be kept beside this file; elsewhere each process compiles for itself."""

_FAR = 2**40
_CACHE_LINE = 64


def _compiled(function: Function) -> Function:
    # Contraction alone: not-a-number must stay what it is.
    compiled: Function = numba.njit(
        function, nogil=True, cache=_LAID_DOWN, fastmath={"contract", "nsz"}, error_model="numpy"
    )
    return compiled


def _prefetch_code(typing_context: Any, array: Any, position: Any) -> Any:  # noqa: ARG001
    """Ask the processor for the byte at `position` of an array; nothing happens where there is none."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        make_array: Any = arrayobj.make_array
        start = make_array(signature.args[0])(context, builder, arguments[0]).data
        byte = builder.gep(builder.bitcast(start, ir.IntType(8).as_pointer()), [arguments[1]])
        number = ir.IntType(32)
        shape = ir.FunctionType(ir.VoidType(), [byte.type, number, number, number])
        # To be read, into the nearest cache, as data.
        how = [ir.Constant(number, value) for value in (0, 3, 1)]
        builder.call(builder.module.declare_intrinsic("llvm.prefetch", [byte.type], shape), [byte, *how])
        return context.get_dummy_value()

    return types.void(array, position), generate


_prefetch: Any = intrinsic(_prefetch_code)


@_compiled
def mirrored(position: int, size: int) -> int:
    """Fold a position back into `0 … size - 1`; the border is not repeated."""
    if 0 <= position < size:
        return position
    period = max(1, 2 * (size - 1))
    position %= period
    return position if position < size else period - position


@_compiled
def locate(where: Doubles, displacement: Floats, positions: Doubles) -> tuple[int, int, int, int]:
    """Find which part of a scene a patch shows.

    Args:
        where: `(2, 3)`: pixel `(i, j)` shows row `where[0] @ (i, j, 1)` and column `where[1] @ (i, j, 1)`.
        displacement: `(P, P, 2)` more rows and columns, or `(0, 0, 2)` for none.
        positions: `(P, P, 2)`, written: row and column of each pixel.

    Returns:
        First row, first column, rows and columns of what must be read to interpolate there.
    """
    lowest, leftmost, highest, rightmost = np.inf, np.inf, -np.inf, -np.inf
    bent = displacement.shape[0] > 0
    for i in range(positions.shape[0]):
        for j in range(positions.shape[1]):
            row = where[0, 0] * i + where[0, 1] * j + where[0, 2]
            column = where[1, 0] * i + where[1, 1] * j + where[1, 2]
            if bent:
                row += displacement[i, j, 0]
                column += displacement[i, j, 1]
            positions[i, j, 0], positions[i, j, 1] = row, column
            lowest, highest = min(lowest, row), max(highest, row)
            leftmost, rightmost = min(leftmost, column), max(rightmost, column)
    top, left = int(np.floor(lowest)), int(np.floor(leftmost))
    return top, left, int(np.floor(highest)) + 2 - top, int(np.floor(rightmost)) + 2 - left


@_compiled
def find_spans(positions: Doubles, top: int, left: int, spans: NDArray[np.int64]) -> None:
    """Find which columns of each row are needed: of a turned square only about half its box.

    Args:
        positions: As `locate` writes them.
        top: First row of the box.
        left: First column of the box.
        spans: `(rows, 2)`, written: first column and the one after the last, counted from `left`.
    """
    spans[:, 0], spans[:, 1] = _FAR, 0
    for i in range(positions.shape[0]):
        for j in range(positions.shape[1]):
            row, column = int(np.floor(positions[i, j, 0])) - top, int(np.floor(positions[i, j, 1])) - left
            for y in range(row, row + 2):
                spans[y, 0], spans[y, 1] = min(spans[y, 0], column), max(spans[y, 1], column + 2)


@lru_cache(maxsize=64)
def band_cutter(num_bands: int, rounds: bool) -> tuple[Callable[..., None], Callable[..., None]]:
    """Compile `read` and `interpolate` for a number of bands, and for whether their values are rounded.

    As numbers in the code instead of arguments they make it several times faster.
    """
    lines = -(-4 * num_bands // _CACHE_LINE)

    @_compiled
    def read(
        cube: Floats,
        scaling: Floats,
        top: int,
        left: int,
        spans: NDArray[np.int64],
        window: Floats,
        width: int,
    ) -> None:
        """Read, clip, scale and vary what the spans tell.

        Args:
            cube: `(H, W, B)`, NaN where there is no data.
            scaling: `(6, B)`: values are clipped to the first two rows, and rounded to whole multiples of the last one
                above the first where `rounds`; then less the fourth, times the third, plus the fifth. No data becomes
                the fifth.
            top: First row of the box, which may lie outside of the scene: there it is mirrored.
            left: First column.
            spans: As `find_spans` writes them.
            window: `(rows * width, B)` or more, written.
            width: Columns of the box.
        """
        # Unpacked in one go, rows would pass for scattered numbers, and nothing would be vectorised.
        low, high, slope, mean, offset, step = (
            scaling[0],
            scaling[1],
            scaling[2],
            scaling[3],
            scaling[4],
            scaling[5],
        )
        for y in range(spans.shape[0]):
            row, next_row = mirrored(top + y, cube.shape[0]), mirrored(top + y + 1, cube.shape[0])
            for x in range(spans[y, 0], spans[y, 1]):
                column = mirrored(left + x, cube.shape[1])
                ahead = next_row * cube.strides[0] + column * cube.strides[1]
                for line in range(lines):
                    _prefetch(cube, ahead + line * _CACHE_LINE)
                at = y * width + x
                for k in range(num_bands):
                    value = cube[row, column, k]
                    clipped = min(max(value, low[k]), high[k])
                    if rounds:
                        clipped = low[k] + np.rint((clipped - low[k]) / step[k]) * step[k]
                    # The mean first: of large numbers that differ little, nothing would be left after the product.
                    window[at, k] = (clipped - mean[k]) * slope[k] + offset[k] if value == value else offset[k]

    @_compiled
    def interpolate(window: Floats, width: int, top: int, left: int, positions: Doubles, patch: Floats) -> None:
        """Interpolate linearly between the window's pixels into a `(P, P, B)` patch."""
        one = np.float32(1.0)
        for i in range(patch.shape[0]):
            for j in range(patch.shape[1]):
                row, column = positions[i, j, 0] - top, positions[i, j, 1] - left
                above, beside = int(row), int(column)
                down, right = np.float32(row - above), np.float32(column - beside)
                w00, w01 = (one - down) * (one - right), (one - down) * right
                w10, w11 = down * (one - right), down * right
                at = above * width + beside
                for k in range(num_bands):
                    patch[i, j, k] = (
                        w00 * window[at, k]
                        + w01 * window[at + 1, k]
                        + w10 * window[at + width, k]
                        + w11 * window[at + width + 1, k]
                    )

    return read, interpolate


@lru_cache(maxsize=64)
def target_cutter(num_classes: int, all_classes: bool) -> Callable[..., None]:
    """Compile `cut_targets` for a number of classes, and for whether these are all that the masks have, in order."""

    @_compiled
    def cut_targets(
        masks: NDArray[np.uint8],
        known: NDArray[np.bool_],
        classes: NDArray[np.int64],
        positions: Doubles,
        target: Floats,
    ) -> None:
        """Cut the masks of one patch, each pixel its nearest neighbour's, and last which pixels are known.

        Args:
            masks: `(H, W, M)`, 0 or 1.
            known: `(H, W)`.
            classes: `(K,)`: which of the M masks are wanted.
            positions: As `locate` writes them.
            target: `(P, P, K + 1)`, written.
        """
        height, width = known.shape
        for i in range(target.shape[0]):
            ahead = min(i + 2, target.shape[0] - 1)
            for j in range(target.shape[1]):
                row = mirrored(int(positions[ahead, j, 0]), height)
                column = mirrored(int(positions[ahead, j, 1]), width)
                _prefetch(masks, row * masks.strides[0] + column * masks.strides[1])
                _prefetch(known, row * known.strides[0] + column * known.strides[1])
                row = mirrored(int(np.floor(positions[i, j, 0] + 0.5)), height)
                column = mirrored(int(np.floor(positions[i, j, 1] + 0.5)), width)
                for k in range(num_classes):
                    target[i, j, k] = masks[row, column, k if all_classes else classes[k]]
                target[i, j, num_classes] = known[row, column]

    return cut_targets


@_compiled
def cut_soft_targets(
    masks: NDArray[np.uint8], known: NDArray[np.bool_], classes: NDArray[np.int64], positions: Doubles, target: Floats
) -> None:
    """Do what `target_cutter` compiles, but with interpolated shares between 0 and 1.

    A pixel is known where all that it is made of is known.
    """
    height, width = known.shape
    num_classes = len(classes)
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            above, left = np.floor(positions[i, j, 0]), np.floor(positions[i, j, 1])
            down, right = positions[i, j, 0] - above, positions[i, j, 1] - left
            target[i, j] = 0
            certain = True
            for corner in range(4):
                below, beside = corner // 2, corner % 2
                weight = (down if below else 1 - down) * (right if beside else 1 - right)
                if weight == 0:
                    continue
                row, column = mirrored(int(above) + below, height), mirrored(int(left) + beside, width)
                certain = certain and known[row, column]
                for k in range(num_classes):
                    target[i, j, k] += np.float32(weight) * masks[row, column, classes[k]]
            target[i, j, num_classes] = certain


@_compiled
def add_noise(patch: Floats, table: Floats, start: int, std: Floats) -> None:
    """Add `std` times the table's numbers from `start` on, round and round, to a `(P, P, B)` patch."""
    at = start
    for i in range(patch.shape[0]):
        for j in range(patch.shape[1]):
            for k in range(patch.shape[2]):
                patch[i, j, k] += std[k] * table[at]
                at += 1
                if at == len(table):
                    at = 0

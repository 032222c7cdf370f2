"""Compiled loops: one pass from the pixels on disk to a scaled, turned and varied patch.

NumPy and OpenCV need a pass over memory for each of clipping, scaling, turning and varying; here every pixel is touched
once, and nothing is interpolated on a coarser grid than asked for.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])

_LAID_DOWN = os.access(Path(__file__).parent, os.W_OK)
"""Whether compiled code can be kept beside this file; elsewhere each process compiles for itself."""


def _compiled(function: Function) -> Function:
    # Contraction alone: not-a-number must stay what it is.
    compiled: Function = numba.njit(function, nogil=True, cache=_LAID_DOWN, fastmath={"contract", "nsz"})
    return compiled


@_compiled
def mirrored(position: int, size: int) -> int:
    """Fold a position back into `0 … size - 1`; the border is not repeated."""
    if 0 <= position < size:
        return position
    period = max(1, 2 * (size - 1))
    position %= period
    return position if position < size else period - position


@_compiled
def cut_bands(
    cube: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    factor: NDArray[np.float32],
    offset: NDArray[np.float32],
    where: NDArray[np.float64],
    displacement: NDArray[np.float32],
    patch: NDArray[np.float32],
) -> None:
    """Cut one patch: clip, interpolate linearly, scale and vary.

    Args:
        cube: `(H, W, B)`, NaN where there is no data, which counts as `mean`.
        low: `(B,)`, values below are raised to it.
        high: `(B,)`, values above are lowered to it.
        mean: `(B,)`, becomes 0.
        std: `(B,)`, becomes 1.
        factor: `(B,)`, of the scaled values.
        offset: `(B,)`, added last.
        where: `(2, 3)`: pixel `(i, j)` shows row `where[0] @ (i, j, 1)` and column `where[1] @ (i, j, 1)`.
        displacement: `(P, P, 2)` more rows and columns, or `(0, 0, 2)` for none.
        patch: `(P, P, B)`, written.
    """
    height, width, num_bands = cube.shape
    one = np.float32(1.0)
    slope = factor / std
    bent = displacement.shape[0] > 0
    for i in range(patch.shape[0]):
        for j in range(patch.shape[1]):
            row = where[0, 0] * i + where[0, 1] * j + where[0, 2]
            column = where[1, 0] * i + where[1, 1] * j + where[1, 2]
            if bent:
                row += displacement[i, j, 0]
                column += displacement[i, j, 1]
            above, left = np.floor(row), np.floor(column)
            down, right = np.float32(row - above), np.float32(column - left)
            r0, r1 = mirrored(int(above), height), mirrored(int(above) + 1, height)
            c0, c1 = mirrored(int(left), width), mirrored(int(left) + 1, width)
            w00, w01 = (one - down) * (one - right), (one - down) * right
            w10, w11 = down * (one - right), down * right
            p00, p01, p10, p11 = cube[r0, c0], cube[r0, c1], cube[r1, c0], cube[r1, c1]
            pixel = patch[i, j]
            for k in range(num_bands):
                lowest, highest, middle = low[k], high[k], mean[k]
                v00 = min(max(p00[k], lowest), highest) if p00[k] == p00[k] else middle
                v01 = min(max(p01[k], lowest), highest) if p01[k] == p01[k] else middle
                v10 = min(max(p10[k], lowest), highest) if p10[k] == p10[k] else middle
                v11 = min(max(p11[k], lowest), highest) if p11[k] == p11[k] else middle
                value = w00 * v00 + w01 * v01 + w10 * v10 + w11 * v11
                pixel[k] = (value - middle) * slope[k] + offset[k]


@_compiled
def cut_targets(
    masks: NDArray[np.uint8],
    known: NDArray[np.bool_],
    classes: NDArray[np.int64],
    where: NDArray[np.float64],
    displacement: NDArray[np.float32],
    soft: bool,
    target: NDArray[np.float32],
) -> None:
    """Cut the masks of one patch, and last which pixels are known.

    Args:
        masks: `(H, W, M)`, 0 or 1.
        known: `(H, W)`.
        classes: `(K,)`: which of the M masks are wanted.
        where: As for `cut_bands`.
        displacement: As for `cut_bands`.
        soft: Whether masks are interpolated to shares between 0 and 1, and a pixel is known where all it is made of
            is known; otherwise each pixel is its nearest neighbour's.
        target: `(P, P, K + 1)`, written.
    """
    height, width = known.shape
    num_classes = len(classes)
    bent = displacement.shape[0] > 0
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            row = where[0, 0] * i + where[0, 1] * j + where[0, 2]
            column = where[1, 0] * i + where[1, 1] * j + where[1, 2]
            if bent:
                row += displacement[i, j, 0]
                column += displacement[i, j, 1]
            pixel = target[i, j]
            if not soft:
                r, c = mirrored(int(np.floor(row + 0.5)), height), mirrored(int(np.floor(column + 0.5)), width)
                for k in range(num_classes):
                    pixel[k] = masks[r, c, classes[k]]
                pixel[num_classes] = known[r, c]
                continue
            above, left = np.floor(row), np.floor(column)
            pixel[:] = 0
            certain = True
            for corner in range(4):
                below, beside = corner // 2, corner % 2
                weight = (row - above if below else 1 - row + above) * (column - left if beside else 1 - column + left)
                if weight == 0:
                    continue
                r, c = mirrored(int(above) + below, height), mirrored(int(left) + beside, width)
                certain = certain and known[r, c]
                for k in range(num_classes):
                    pixel[k] += np.float32(weight) * masks[r, c, classes[k]]
            pixel[num_classes] = certain


@_compiled
def add_noise(patch: NDArray[np.float32], table: NDArray[np.float32], start: int, std: NDArray[np.float32]) -> None:
    """Add `std` times the table's numbers from `start` on, round and round, to a `(P, P, B)` patch."""
    at = start
    size = len(table)
    for i in range(patch.shape[0]):
        for j in range(patch.shape[1]):
            for k in range(patch.shape[2]):
                patch[i, j, k] += std[k] * table[at]
                at += 1
                if at == size:
                    at = 0

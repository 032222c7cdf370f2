"""A scene's edges in small: what stays the same when the same ground is seen on another day."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.imagery.cube import BandStack
from pipeline.imagery.registration import Shift
from pipeline.imagery.resampling import Shape, resized
from pipeline.scene import Scene

Plane = NDArray[np.float32]

SIDE_PX, FINER = 128, 4
"""The longer side of a thumbnail has at most so many pixels, each of them the mean of so many squared edges."""

_CLIP_PERCENTILE = 90.0
_REACH_PX = 7


def edge_thumbnail(scene: Scene, shape: Shape, shifts: tuple[Shift, ...] = ()) -> Plane:
    """Shrink the edges of a scene.

    Edges are found on four times the thumbnail's size and then averaged: where they lie depends less on season and
    light than how bright things are.

    Args:
        scene: The mean over the bands of its first group is looked at.
        shape: Rows and columns of the cube, whose pixels `thumbnail_scale` counts in.
        shifts: Of the scene's groups.

    Returns:
        float32 `(h, w)`; NaN where there is no data.
    """
    step = _fine_step(shape)
    fine = (max(1, round(shape[0] / step)), max(1, round(shape[1] / step)))
    stack = BandStack(scene, scene.groups[0].names, (), fine, shifts)
    plane, valid = np.empty(fine, np.float32), np.empty(fine, bool)
    for rows in stack.blocks():
        place = slice(rows.first, rows.first + len(rows.bands))
        plane[place], valid[place] = rows.bands.mean(axis=-1), rows.valid
    small = (max(1, round(fine[0] / FINER)), max(1, round(fine[1] / FINER)))
    # The smoothed border of a hole would pass for an edge.
    valid = cv2.erode(valid.astype(np.uint8), np.ones((_REACH_PX, _REACH_PX), np.uint8), borderValue=1) > 0
    if not valid.any():
        return np.full(small, np.nan, np.float32)
    share = resized(valid.astype(np.float32), *small)
    edges = resized(np.where(valid, _edges(plane, valid), np.float32(0.0)), *small)
    return np.where(share >= 0.5, edges / np.maximum(share, np.float32(1e-6)), np.float32(np.nan)).astype(np.float32)


def thumbnail_scale(shape: Shape) -> float:
    """Pixels of a cube of this shape per pixel of its thumbnail.

    One of few steps, so that scenes of nearly the same size have thumbnails of the same scale.
    """
    return FINER * _fine_step(shape)


def _fine_step(shape: Shape) -> float:
    quarters = math.ceil(4.0 * math.log2(max(1.0, max(shape) / (SIDE_PX * FINER))))
    return float(2.0 ** (quarters / 4.0))


def _edges(plane: Plane, valid: NDArray[np.bool_]) -> Plane:
    """Magnitude of the gradient, the strongest cut off so that no single roof decides."""
    filled = np.nan_to_num(plane, nan=0.0)
    # Numbers of any size: float32 squares them without loss only around one.
    filled = (filled - filled[valid].mean(dtype=np.float64)).astype(np.float32)
    filled /= max(float(np.abs(filled[valid]).max()), 1e-30)
    smooth = cv2.GaussianBlur(filled, (0, 0), 1.0)
    magnitude = np.hypot(cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1))
    edges: Plane = np.minimum(magnitude, np.percentile(magnitude[valid], _CLIP_PERCENTILE)).astype(np.float32)
    return edges

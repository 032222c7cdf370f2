"""Polygons to pixels: a pixel belongs to a polygon when its centre does, so areas are unbiased."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from pipeline.scene import DataError

Geometries = NDArray[Any]
"""Array of shapely geometries."""

_POLYGON, _FIRST_COLLECTION = 3, 4
"""Type numbers of GEOS: points, lines and rings come before polygons, all kinds of collections after."""

_SPARSE = 4
"""A pixel set by its number takes about this many times longer than a pixel that is passed over."""


def rasterise(geometries: Iterable[BaseGeometry], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Draw polygons into a mask.

    Invalid polygons are repaired (both lobes of a self-crossing one are kept), overlapping ones merge, empty ones
    and what lies outside the image are left out. Lines and points have no area and draw nothing. A centre on an edge
    belongs to the polygon on its right or below, so that neighbours neither overlap nor leave a gap.

    Args:
        geometries: Polygons and multipolygons in pixel coordinates (x right, y down).
        height_px: Rows of the mask.
        width_px: Columns of the mask.

    Returns:
        uint8 `(height_px, width_px)`, 1 inside.

    Raises:
        DataError: A coordinate is not a number.
    """
    mask = np.zeros((height_px, width_px), np.uint8)
    polygons = valid_polygons(geometries)
    if len(polygons):
        left, top, right, bottom = shapely.bounds(polygons).T
        polygons = polygons[(right > 0) & (bottom > 0) & (left < width_px) & (top < height_px)]
    if len(polygons):
        _fill(mask, _crossings(polygons, height_px, width_px))
    return mask


def valid_polygons(geometries: Iterable[BaseGeometry]) -> Geometries:
    """Take geometries apart into polygons, and repair those that are invalid.

    Args:
        geometries: Of any kind; lines, points and what is empty are left out.

    Returns:
        Array of valid polygons, none of them empty; overlapping ones stay apart.

    Raises:
        DataError: A coordinate is not a number.
    """
    polygons = polygons_of(geometries)
    bounds = shapely.bounds(polygons)
    finite = np.isfinite(bounds).all(axis=-1)
    if not finite.all():
        raise DataError("A polygon has a coordinate that is not a number", received=bounds[~finite][0].tolist())
    valid = shapely.is_valid(polygons)
    if valid.all():
        return polygons
    repaired = shapely.make_valid(polygons[~valid], method="structure", keep_collapsed=False)
    return np.concatenate([polygons[valid], polygons_of(repaired)])


def polygons_of(geometries: Iterable[BaseGeometry]) -> Geometries:
    """The polygons in geometries of any kind, those in collections within collections too; not checked."""
    parts = np.array(list(geometries), object)
    while (shapely.get_type_id(parts) >= _FIRST_COLLECTION).any():
        parts = shapely.get_parts(parts)
    polygons: Geometries = parts[(shapely.get_type_id(parts) == _POLYGON) & ~shapely.is_empty(parts)]
    return polygons


def _crossings(polygons: Geometries, height_px: int, width_px: int) -> NDArray[np.int64]:
    """Where outlines cross the lines through the pixels' centres, in reading order.

    Returns:
        Twice the place of the first centre to the right of each crossing, counted with one column more than the image
        has; plus 1 where that centre comes one polygon deeper inside.
    """
    (x0, y0), (x1, y1), inwards = _edges(polygons)
    # Both neighbours must find the same crossing on the edge they share, whichever way they run along it.
    down = y0 < y1
    x0, y0, x1, y1 = (np.where(down, a, b) for a, b in ((x0, x1), (y0, y1), (x1, x0), (y1, y0)))
    enters = down == inwards
    first = np.clip(np.ceil(y0 - 0.5), 0, height_px).astype(np.int64)
    num_rows = np.clip(np.ceil(y1 - 0.5), 0, height_px).astype(np.int64) - first
    crossing = num_rows > 0
    first, num_rows = first[crossing], num_rows[crossing]
    slope = (x1[crossing] - x0[crossing]) / (y1[crossing] - y0[crossing])
    edge = np.repeat(np.arange(len(num_rows)), num_rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(num_rows) - num_rows - first, num_rows)
    x = x0[crossing][edge] + (row + 0.5 - y0[crossing][edge]) * slope[edge]
    column = np.clip(np.ceil(x - 0.5), 0, width_px).astype(np.int64)
    keys: NDArray[np.int64] = 2 * (row * (width_px + 1) + column) + enters[crossing][edge]
    keys.sort()
    return keys


def _edges(polygons: Geometries) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Start and end `(2, N)` of every edge, and whether the polygon lies to the right of its ring's downward edges."""
    rings, owner = shapely.get_rings(polygons, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    points = points.T
    start, end = points[:, :-1], points[:, 1:]
    within = ring[:-1] == ring[1:]
    start, end, ring = start[:, within], end[:, within], ring[:-1][within]
    # Relative to a corner of its own, or far-off rings would lose their small area to rounding.
    corner = start[:, np.searchsorted(ring, np.arange(len(rings)))][:, ring]
    cross = (start[0] - corner[0]) * (end[1] - corner[1]) - (end[0] - corner[0]) * (start[1] - corner[1])
    # With y running down, a positive area means clockwise on the screen: the polygon is left of what runs down.
    clockwise = np.bincount(ring, cross, len(rings)) > 0
    exterior = np.diff(owner, prepend=-1) != 0
    return start, end, (clockwise != exterior)[ring]


def _fill(mask: NDArray[np.uint8], keys: NDArray[np.int64]) -> None:
    """Set every pixel that lies in at least one polygon."""
    place = keys >> 1
    depth = np.cumsum(np.where(keys & 1, 1, -1))
    # Slivers between two lines of centres cross none.
    last = np.diff(place, append=-1) != 0
    place, inside = place[last], depth[last] > 0
    turns = np.flatnonzero(np.diff(inside, prepend=False))
    row, column = np.divmod(place[turns], mask.shape[1] + 1)
    # Runs begin and end by turns; one that ends with its row ends where the next row begins.
    starts, ends = (row * mask.shape[1] + column).reshape(-1, 2).T
    lengths = ends - starts
    flat = mask.reshape(-1)
    if lengths.sum() < mask.size // _SPARSE:
        flat[np.arange(lengths.sum()) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)] = 1
        return
    flat[starts] = 1
    # Where a run ends and the next begins at once, nothing changes; the image's end needs no mark.
    flat[ends[ends < flat.size]] -= 1
    np.add.accumulate(flat, out=flat, dtype=np.uint8)

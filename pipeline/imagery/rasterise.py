"""Polygons to pixels: a pixel belongs to a polygon when its centre does, so areas are unbiased."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from pipeline.scene import DataError

Geometries = NDArray[Any]
"""Array of shapely geometries."""

_POLYGON, _FIRST_COLLECTION = 3, 4
"""Type numbers of GEOS: points, lines and rings come before polygons, all kinds of collections after."""


def rasterise(geometries: Iterable[BaseGeometry], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Draw polygons into a mask.

    Invalid polygons are repaired (both lobes of a self-crossing one are kept), overlapping ones merge, empty ones
    and what lies outside the image are left out. Lines and points have no area and draw nothing.

    Args:
        geometries: Polygons and multipolygons in pixel coordinates (x right, y down).
        height_px: Rows of the mask.
        width_px: Columns of the mask.

    Returns:
        uint8 `(height_px, width_px)`, 1 inside.

    Raises:
        DataError: A coordinate is not a number.
    """
    polygons = valid_polygons(geometries)
    if len(polygons):
        left, top, right, bottom = shapely.bounds(polygons).T
        polygons = polygons[(right > 0) & (bottom > 0) & (left < width_px) & (top < height_px)]
    if not len(polygons):
        return np.zeros((height_px, width_px), np.uint8)
    # One by one: of a multipolygon GDAL fills by parity, so that overlapping parts would cancel.
    shapes = ((polygon, 1) for polygon in polygons)
    mask: NDArray[np.uint8] = rasterize(shapes, out_shape=(height_px, width_px), fill=0, dtype="uint8")
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
    # Not their bounds, which leave out what is not a number.
    points = shapely.get_coordinates(polygons)
    finite = np.isfinite(points).all(axis=-1)
    if not finite.all():
        raise DataError("A polygon has a coordinate that is not a number", received=points[~finite][0].tolist())
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

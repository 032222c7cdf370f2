"""Polygons to pixels: a pixel belongs to a polygon when its centre does, so areas are unbiased."""

from collections.abc import Iterable, Iterator

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from pipeline.scene import DataError


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
    shapes = [(part, 1) for geometry in geometries for part in _parts(geometry)]
    if not shapes:
        return np.zeros((height_px, width_px), np.uint8)
    mask: NDArray[np.uint8] = rasterize(shapes, out_shape=(height_px, width_px), fill=0, dtype="uint8")
    return mask


def _parts(geometry: BaseGeometry) -> Iterator[BaseGeometry]:
    """Valid polygons, each by itself: GDAL fills a multipolygon by parity, so overlapping parts would cancel."""
    for part in shapely.get_parts(geometry):
        if part.geom_type not in ("Polygon", "MultiPolygon", "GeometryCollection") or part.is_empty:
            continue
        if not np.isfinite(part.bounds).all():
            raise DataError("A polygon has a coordinate that is not a number", received=part.bounds)
        if part.geom_type == "Polygon" and part.is_valid:
            yield part
        elif part.geom_type == "Polygon":
            repaired = shapely.make_valid(part, method="structure", keep_collapsed=False)
            yield from (piece for piece in shapely.get_parts(repaired) if piece.geom_type == "Polygon")
        else:
            yield from _parts(part)

"""Places on Earth: from pixels to the map, to degrees, and to metres on the ground."""

import math

import numpy as np
import rasterio
import rasterio.warp
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError

from pipeline.scene import Affine, DataError, Georeference

WGS84 = CRS.from_epsg(4326)

SAME_LENGTH = 0.01
"""Lengths that differ by a smaller share are the same: a map as true to scale as UTM is taken by its word."""

_EQUATOR_M, _ECCENTRICITY2 = 6_378_137.0, 0.00669438


def pixel_side_m(georeference: Georeference, shape: tuple[int, int]) -> float | None:
    """Side of a square as large as the pixel in the middle of an image; see `pixel_sides_m`."""
    sides = pixel_sides_m(georeference, shape)
    return None if sides is None else math.sqrt(sides[0] * sides[1])


def pixel_sides_m(georeference: Georeference, shape: tuple[int, int]) -> tuple[float, float] | None:
    """How far it is on the ground from one pixel to the next in the middle of an image, down and across.

    Measured on the ground: a degree of longitude shrinks towards the poles, and so does a metre of a web map. Where the
    map is true to scale within a hundredth, as UTM is, its own metres serve.

    Args:
        georeference: Where the image lies.
        shape: Rows and columns of the image.

    Returns:
        Metres; None where the georeference does not tell.

    Raises:
        DataError: The middle of the image lies beyond the poles.
    """
    if georeference.crs is None or georeference.transform is None:
        return None
    corners = on_map(georeference.transform, np.array([(0, 0), (0, 1), (1, 0)]) + np.array([shape[1], shape[0]]) / 2)
    degrees = to_degrees(georeference.crs, corners)
    if degrees is None:
        return None
    longitude, latitude = degrees[0].tolist()
    if abs(latitude) > 90.0:
        raise DataError(
            "The middle of the image lies beyond the Earth's poles, so its CRS does not belong to its transform",
            received={"longitude": longitude, "latitude": latitude, "CRS": read_crs(georeference.crs).to_string()[:40]},
            remedy="Mend the file's CRS, or data.options.crs",
        )
    steps = np.radians(around(degrees[1:] - degrees[0], 0.0)) * _radii_m(latitude)
    if not 0.0 < abs(float(np.linalg.det(steps))) < math.inf:
        return None
    down, across = np.hypot(*steps.T).tolist()
    by_map = _sides_by_map_m(georeference.crs, georeference.transform)
    if by_map and all(abs(side / each - 1.0) < SAME_LENGTH for side, each in zip((down, across), by_map, strict=True)):
        return by_map
    return down, across


def around(degrees: NDArray[np.float64], longitude: float) -> NDArray[np.float64]:
    """Longitude and latitude `(N, 2)` with each longitude in the turn of the globe nearest to a given one."""
    near: NDArray[np.float64] = degrees.copy()
    near[:, 0] += 360.0 * np.round((longitude - degrees[:, 0]) / 360.0)
    return near


def on_map(affine: Affine, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move `(N, 2)` points (x right, y down) from pixels to the map."""
    a, b, c, d, e, f = affine
    moved: NDArray[np.float64] = points @ np.array([[a, d], [b, e]]) + np.array([c, f])
    return moved


def to_degrees(crs: str, points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Longitude and latitude `(N, 2)` of points in a CRS; None where there is none, or it is no CRS of the Earth."""
    try:
        east, north = rasterio.warp.transform(read_crs(crs), WGS84, *points.T.tolist())
    except (RasterioError, CRSError, CPLE_BaseError):
        # GDAL's own error: there is no way from a plan of a building site to the globe.
        return None
    degrees = np.stack([east, north], axis=1)
    return degrees if np.isfinite(degrees).all() else None


def read_crs(text: str) -> CRS:
    """Read a CRS such as `EPSG:32633` or WKT.

    Raises:
        CRSError, ValueError: It means nothing.
    """
    # Without an environment GDAL writes to standard error what it then raises.
    with rasterio.Env():
        return CRS.from_user_input(text)


def _sides_by_map_m(crs: str, transform: Affine) -> tuple[float, float] | None:
    """None where the map's units are no lengths."""
    a, b, _, d, e, _ = transform
    known = read_crs(crs)
    if not known.is_projected:
        return None
    unit_m = float(known.linear_units_factor[1])
    return math.hypot(b, e) * unit_m, math.hypot(a, d) * unit_m


def _radii_m(latitude: float) -> tuple[float, float]:
    """Metres on the ground per radian of longitude and of latitude, on the ellipsoid of WGS 84."""
    bulge = 1.0 - _ECCENTRICITY2 * math.sin(math.radians(latitude)) ** 2
    east = _EQUATOR_M / math.sqrt(bulge)
    return east * math.cos(math.radians(latitude)), east * (1.0 - _ECCENTRICITY2) / bulge

"""Where pixels lie: coordinate reference systems, metres, and grids laid over each other."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio import Affine as RasterioAffine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import reproject, transform
from shapely.geometry.base import BaseGeometry

from pipeline.imagery.geodesy import WGS84, around, on_map, pixel_sides_m, read_crs
from pipeline.scene import Affine, DataError, Georeference, inverse

Geometries = NDArray[Any]
"""Array of shapely geometries."""

SAME_PLACE_PX = 0.01
"""Corners that are nearer to each other are the same."""

_BORDER_POINTS = 21
_ALL_AROUND = 720.0
_LARGEST_GROWTH = 25
_ALL_VALID = 0.999
_TIE = 1e-6


@dataclass(frozen=True)
class Ground:
    """Where the grid of a scene lies.

    Attributes:
        transform: Pixel corners to map coordinates.
        height_px: Rows.
        width_px: Columns.
        crs: What map coordinates mean; None where nobody knows.
    """

    transform: Affine
    height_px: int
    width_px: int
    crs: CRS | None

    @property
    def frame(self) -> BaseGeometry:
        """The image's border in pixel coordinates."""
        return shapely.box(0, 0, self.width_px, self.height_px)

    def to_pixels(self, geometries: Geometries) -> Geometries:
        """Move geometries from the scene's CRS to pixel coordinates (x right, y down)."""
        if self._is_in_degrees:
            # Beyond the antimeridian longitudes begin anew.
            middle = self._middle[0, 0]
            geometries = shapely.transform(geometries, lambda points: around(points, middle))
        place = Georeference(transform=self.transform)
        moved: Geometries = np.asarray(place.to_pixels(geometries, self.height_px, self.width_px), object)
        return moved

    def bounds_in(self, crs: CRS | None, margin_m: float = 0.0) -> tuple[float, float, float, float]:
        """Smallest rectangle of another CRS that holds the scene and a margin around it; that of its own for None.

        Raises:
            DataError: The scene cannot be told in that CRS.
        """
        down, across = (margin_m / side for side in self._sides_m)
        x, y = np.meshgrid(
            np.linspace(-across, self.width_px + across, _BORDER_POINTS),
            np.linspace(-down, self.height_px + down, _BORDER_POINTS),
        )
        points = on_map(self.transform, np.column_stack([x.ravel(), y.ravel()]))
        in_degrees = self._is_in_degrees if crs is None else crs.is_geographic
        if crs is not None and self.crs is not None:
            points = moved_points(points, self.crs, crs)
        if in_degrees:
            points = around(points, points[len(points) // 2, 0])
        (left, bottom), (right, top) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        if in_degrees:
            bottom, top = (-90.0 if self._holds_pole(-90.0) else bottom), (90.0 if self._holds_pole(90.0) else top)
            if left < -180.0 or right > 180.0 or 90.0 in (-bottom, top):
                # Who drew it may have counted on, or begun anew: every longitude can be meant.
                left, right = -_ALL_AROUND, _ALL_AROUND
        return left, bottom, right, top

    @property
    def _middle(self) -> NDArray[np.float64]:
        """Map coordinates `(1, 2)` of the image's middle."""
        return on_map(self.transform, np.array([[self.width_px, self.height_px]]) / 2)

    @property
    def _is_in_degrees(self) -> bool:
        return self.crs is not None and bool(self.crs.is_geographic)

    @property
    def _sides_m(self) -> tuple[float, float]:
        crs = None if self.crs is None else self.crs.to_wkt()
        place = Georeference(crs=crs, transform=self.transform)
        return pixel_sides_m(place, (self.height_px, self.width_px)) or (1.0, 1.0)

    def _holds_pole(self, latitude: float) -> bool:
        if self.crs is None or not is_on_earth(self.crs):
            return False
        try:
            pole = moved_points(np.array([[0.0, latitude]]), WGS84, self.crs)
        except DataError:
            # Most maps have no place for it.
            return False
        x, y = on_map(inverse(self.transform), pole)[0]
        return bool(0 <= x <= self.width_px and 0 <= y <= self.height_px)

    @property
    def metric(self) -> CRS | None:
        """A CRS in metres around the scene's centre, true to length there; None without a place on Earth."""
        if self.crs is None or not is_on_earth(self.crs):
            return None
        [[longitude, latitude]] = moved_points(self._middle, self.crs, WGS84)
        return CRS.from_string(f"+proj=aeqd +lat_0={latitude:.9f} +lon_0={longitude:.9f} +datum=WGS84 +units=m")


def known_crs(text: str, what: str) -> CRS:
    """Read a CRS.

    Args:
        text: Such as `EPSG:32633` or WKT.
        what: Where it stands, for the message.

    Raises:
        DataError: It means nothing.
    """
    try:
        return read_crs(text)
    except (CRSError, ValueError):
        raise DataError(
            f"{what}: no such coordinate reference system", received=text, remedy="Write for example 'EPSG:32633'"
        ) from None


def is_on_earth(crs: CRS) -> bool:
    """Whether positions of a CRS can be told in another; those of an engineering grid cannot."""
    return bool(crs.is_geographic or crs.is_projected)


def moved_points(points: NDArray[np.float64], source: CRS, target: CRS) -> NDArray[np.float64]:
    """Move points `(N, 2)` (x, y or longitude, latitude) from one CRS to another.

    Raises:
        DataError: A point has no place in the other CRS.
    """
    if source == target or not len(points):
        return points
    try:
        xs, ys = transform(source, target, points[:, 0].tolist(), points[:, 1].tolist())
    except (RasterioError, CPLE_BaseError) as error:
        raise _homeless(points[0], source, target, str(error)) from error
    moved = np.column_stack([xs, ys])
    lost = ~np.isfinite(moved).all(axis=1)
    if lost.any():
        raise _homeless(points[lost][0], source, target, "no finite position")
    return moved


def moved(geometries: Geometries, source: CRS | None, target: CRS | None) -> Geometries:
    """Move geometries from one CRS to another; unchanged where one of them is unknown.

    Raises:
        DataError: A corner has no place in the other CRS.
    """
    if source is None or target is None or source == target:
        return geometries
    result: Geometries = shapely.transform(geometries, lambda points: moved_points(points, source, target))
    return result


def placement(affine: Affine, shape: tuple[int, int], ground: Ground) -> Affine | None:
    """The pixels of a grid in pixels of the scene's grid, both in one CRS.

    Args:
        affine: Pixel corners of the grid to map coordinates.
        shape: Its rows and columns.
        ground: The scene's grid.

    Returns:
        None where both show the same ground from edge to edge.
    """
    placed = _relative(affine, ground.transform)
    height, width = shape
    own = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1)]) @ np.reshape(placed, (2, 3)).T
    edges = [(0, 0), (ground.width_px, 0), (0, ground.height_px)]
    return None if np.abs(own - edges).max() < SAME_PLACE_PX else placed


@dataclass(frozen=True)
class Warped:
    """Planes in another CRS.

    Attributes:
        planes: float32 `(B, H, W)`, 0 where there is no data.
        valid: Bool `(H, W)`.
        transform: Pixel corners to map coordinates of the other CRS.
    """

    planes: NDArray[np.float32]
    valid: NDArray[np.bool_]
    transform: Affine


def warp(planes: NDArray[Any], valid: NDArray[np.bool_] | None, affine: Affine, source: CRS, target: CRS) -> Warped:
    """Bring planes into another CRS at twice their own resolution, north up; linear between pixel centres.

    Args:
        planes: `(B, h, w)`.
        valid: Bool `(h, w)`, None where there is data everywhere.
        affine: Pixel corners to map coordinates of `source`.
        source: The CRS that the planes are in.
        target: The CRS wanted.

    Returns:
        A pixel has data where all that it is made of has.

    Raises:
        DataError: The planes lie where the other CRS has no place.
    """
    height, width = planes.shape[1:]
    corner, size_px, (wide, high) = _grid_in(Ground(affine, height, width, source), target)
    new = RasterioAffine(wide, 0.0, corner[0], 0.0, -high, corner[1])
    shown = np.ones((height, width), bool) if valid is None else valid
    grids = {
        "src_transform": RasterioAffine(*affine),
        "src_crs": source,
        "dst_transform": new,
        "dst_crs": target,
        "resampling": Resampling.bilinear,
        "dst_nodata": 0.0,
    }
    moved_planes = np.zeros((len(planes), *size_px), np.float32)
    for plane, result in zip(planes, moved_planes, strict=True):
        # What a hole holds does not matter: no pixel that is made of it counts as data.
        reproject(np.where(shown, plane, 0).astype(np.float32), result, **grids)
    share = np.zeros(size_px, np.float32)
    reproject(shown.astype(np.float32), share, **grids)
    has_data = share > _ALL_VALID
    moved_planes[:, ~has_data] = 0.0
    return Warped(moved_planes, has_data, (wide, 0.0, corner[0], 0.0, -high, corner[1]))


def nearest(
    values: NDArray[np.float64], affine: Affine, crs: CRS | None, ground: Ground, missing: float
) -> NDArray[np.float64]:
    """Take for every pixel of a scene the value of another grid at its centre.

    Args:
        values: float64 `(h, w)`.
        affine: Its pixel corners to map coordinates.
        crs: What these mean; the scene's own where None.
        ground: The scene's grid.
        missing: What pixels beyond the other grid get.
    """
    result = np.full((ground.height_px, ground.width_px), missing)
    if crs is None or ground.crs is None or crs == ground.crs:
        row, column = _cells(affine, ground)
        inside = (row >= 0) & (row < values.shape[0]) & (column >= 0) & (column < values.shape[1])
        result[inside] = values[row[inside], column[inside]]
        return result
    reproject(
        values,
        result,
        src_transform=RasterioAffine(*affine),
        src_crs=crs,
        dst_transform=RasterioAffine(*ground.transform),
        dst_crs=ground.crs,
        dst_nodata=missing,
        resampling=Resampling.nearest,
    )
    return result


def _cells(affine: Affine, ground: Ground) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of another grid of the same CRS at the centre of every pixel of a scene."""
    a, b, c, d, e, f = _relative(ground.transform, affine)
    y, x = np.arange(ground.height_px)[:, np.newaxis] + 0.5, np.arange(ground.width_px) + 0.5
    # A centre that falls on a corner must go the same way everywhere, whatever rounding does.
    column = np.floor(a * x + b * y + c + _TIE).astype(np.int64)
    row = np.floor(d * x + e * y + f + _TIE).astype(np.int64)
    shape = (ground.height_px, ground.width_px)
    return np.broadcast_to(row, shape), np.broadcast_to(column, shape)


def _relative(affine: Affine, base: Affine) -> Affine:
    """The pixels of one grid in pixels of another."""
    (a, b, c), (d, e, f) = np.reshape(affine, (2, 3))
    (u, v, left), (w, z, top) = np.reshape(base, (2, 3))
    # Seen from the other's corner: map coordinates are so large that what is left of them would lose digits.
    rows = np.linalg.solve([[u, v], [w, z]], [[a, b, c - left], [d, e, f - top]])
    (p, q, r), (s, t, o) = rows.tolist()
    return (p, q, r, s, t, o)


def _grid_in(ground: Ground, target: CRS) -> tuple[tuple[float, float], tuple[int, int], tuple[float, float]]:
    """Top left corner, rows and columns, and the sides of a pixel of a north-up grid that holds a scene.

    Twice as fine as the scene, along either axis: what is interpolated once more from there loses little by it.

    Raises:
        DataError: The scene lies across the antimeridian or a pole, where the other CRS has no such grid.
    """
    left, bottom, right, top = ground.bounds_in(target)
    middle = np.array([[ground.width_px, ground.height_px]]) / 2
    spots = on_map(ground.transform, middle + np.array([(0, 0), (1, 0), (0, 1)]))
    origin, across, down = moved_points(spots, ground.crs, target)
    wide, high = (float(side) / 2 for side in np.hypot(across - origin, down - origin))
    rows, columns = math.ceil((top - bottom) / high - 1e-6), math.ceil((right - left) / wide - 1e-6)
    if rows * columns > 4 * _LARGEST_GROWTH * ground.height_px * ground.width_px:
        raise DataError(
            f"the image lies across the antimeridian or a pole, and cannot be brought to {_short(target)}",
            received={"longitudes" if target.is_geographic else "x": (left, right)},
            remedy="Bring it to the CRS of the scene's first image (QGIS: Warp; `rio warp`)",
        )
    return (left, top), (max(1, rows), max(1, columns)), (wide, high)


def _homeless(point: NDArray[np.float64], source: CRS, target: CRS, reason: str) -> DataError:
    return DataError(
        f"positions cannot be brought from {_short(source)} to {_short(target)}: {reason}",
        received=tuple(float(value) for value in point),
        remedy="Check that the CRS of both files is what their coordinates are in",
    )


def _short(crs: CRS) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.to_string()[:40]

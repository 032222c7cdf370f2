"""The grid that all bands and labels of a scene are brought to: its own, that of a group of bands, or metres."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rasterio.warp
import shapely
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from shapely.geometry.base import BaseGeometry

from pipeline.resampling import Shape, area_shares
from pipeline.scene import Affine, BandGroup, DataError, Georeference, PolygonLabels, RasterLabels, Scene
from search_space.study import NATIVE

WGS84 = CRS.from_epsg(4326)
_EQUATOR_M, _ECCENTRICITY2 = 6_378_137.0, 0.00669438
_SAME_SIZE = 0.01


GROUP_ALIASES = {"p": "pan", "panchromatic": "pan", "ms": "m"}
"""Names of band groups as users write them, where a data set has none of that name."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a cube lie; the ground covered is that of the scene, from edge to edge.

    Attributes:
        shape: Rows and columns.
        georeference: Where they lie on the map.
        pixel_m: Side of a pixel on the ground; None where nobody knows.
    """

    shape: Shape
    georeference: Georeference
    pixel_m: float | None

    @classmethod
    def of(cls, scene: Scene, wanted: str | float = NATIVE) -> "Grid":
        """The grid that a study asks for.

        Args:
            scene: Its own grid is that of its first group of bands.
            wanted: "native", the name of one of the scene's groups of bands, or metres per pixel.

        Raises:
            DataError: No such group, or the size of the scene's own pixels is not known.
        """
        own = (scene.height_px, scene.width_px)
        pixel_m = scene.pixel_m or pixel_side_m(scene.georeference, own)
        shape = own if wanted == NATIVE else _shape_for(scene, own, wanted, pixel_m)
        if shape == own:
            return cls(own, scene.georeference, pixel_m)
        growth = math.sqrt(own[0] / shape[0] * own[1] / shape[1])
        return cls(shape, scene.georeference.resized(own, shape), None if pixel_m is None else pixel_m * growth)


def labels_on(scene: Scene, shape: Shape) -> PolygonLabels | RasterLabels | None:
    """Bring a scene's labels from its own grid to another one over the same ground.

    Returns:
        Polygons scaled; of label rasters, what covers most of a pixel, known only where all of the pixel is known.
    """
    own = (scene.height_px, scene.width_px)
    if scene.labels is None or shape == own:
        return scene.labels
    if isinstance(scene.labels, PolygonLabels):
        scale = np.array([shape[1] / own[1], shape[0] / own[0]])
        by_class = {name: _scaled(geometries, scale) for name, geometries in scene.labels.by_class.items()}
        return PolygonLabels(by_class, _scaled(scene.labels.ignored, scale))
    by_class_mask = {name: _majority(mask, shape) for name, mask in scene.labels.by_class.items()}
    return RasterLabels(by_class_mask, area_shares(scene.labels.known, *shape) > 1.0 - 1e-4)


def pixel_side_m(georeference: Georeference, shape: Shape) -> float | None:
    """Side of a square as large as the pixel in the middle of an image, as far as its georeference tells.

    Measured on the ground: a degree of longitude shrinks towards the poles, and so does a metre of a web map. Where the
    map is true to scale within a hundredth, as UTM is, its own metres serve.
    """
    if georeference.crs is None or georeference.transform is None:
        return None
    corners = places(georeference.transform, np.array([(0, 0), (1, 0), (0, 1)]) + np.array([shape[1], shape[0]]) / 2)
    degrees = to_degrees(georeference.crs, corners)
    if degrees is None:
        return None
    (east_x, north_x), (east_y, north_y) = np.radians(degrees[1:] - degrees[0]) * _radii_m(degrees[0][1])
    area = abs(east_x * north_y - east_y * north_x)
    if not 0.0 < area < math.inf:
        return None
    side, on_map = math.sqrt(area), _side_on_map_m(georeference.crs, georeference.transform)
    return on_map if abs(side / on_map - 1.0) < _SAME_SIZE else side


def _side_on_map_m(crs: str, transform: Affine) -> float:
    """Infinite where the map's units are no lengths."""
    a, b, _, d, e, _ = transform
    known = CRS.from_user_input(crs)
    return math.sqrt(abs(a * e - b * d)) * known.linear_units_factor[1] if known.is_projected else math.inf


def _radii_m(latitude: float) -> tuple[float, float]:
    """Metres on the ground per radian of longitude and of latitude, on the ellipsoid of WGS 84."""
    bulge = 1.0 - _ECCENTRICITY2 * math.sin(math.radians(latitude)) ** 2
    east = _EQUATOR_M / math.sqrt(bulge)
    return east * math.cos(math.radians(latitude)), east * (1.0 - _ECCENTRICITY2) / bulge


def places(affine: Affine, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move `(N, 2)` points (x right, y down) by a transform."""
    a, b, c, d, e, f = affine
    moved: NDArray[np.float64] = points @ np.array([[a, d], [b, e]]) + np.array([c, f])
    return moved


def to_degrees(crs: str, points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Longitude and latitude `(N, 2)` of points in a CRS; None where there is none, or it is no CRS of the Earth."""
    try:
        east, north = rasterio.warp.transform(CRS.from_user_input(crs), WGS84, *points.T.tolist())
    except (RasterioError, CRSError, CPLE_BaseError):
        # GDAL's own error: there is no way from a plan of a building site to the globe.
        return None
    degrees = np.stack([east, north], axis=1)
    return degrees if np.isfinite(degrees).all() else None


def _shape_for(scene: Scene, own: Shape, wanted: str | float, pixel_m: float | None) -> Shape:
    if isinstance(wanted, str):
        return shape_of(group_named(scene.groups, wanted), own)
    if pixel_m is None:
        raise DataError(
            f"data.grid in metres needs the size of a pixel on the ground, which {scene.groups[0].path} does not tell",
            received=wanted,
            remedy='Give the images a CRS and a transform, or set data.grid to "native" or a group of bands',
        )
    if abs(pixel_m / wanted - 1.0) < _SAME_SIZE:
        # Rounded by whoever wrote it: interpolating would gain nothing.
        return own
    return max(1, round(own[0] * pixel_m / wanted)), max(1, round(own[1] * pixel_m / wanted))


def group_named(groups: Sequence[BandGroup], name: str) -> BandGroup:
    """Find a group by its name, whatever the case, or else by what users call such a group.

    Raises:
        DataError: There is none.
    """
    for wanted in (name, GROUP_ALIASES.get(name)):
        for group in groups:
            if group.name.lower() == wanted:
                return group
    raise DataError(
        "data.grid: there is no such group of bands",
        received=name,
        remedy=f'Known are: {", ".join(g.name for g in groups)}; or "native", or metres per pixel as a number',
    )


def shape_of(group: BandGroup, own: Shape) -> Shape:
    """A grid as fine as the group's, over the ground of the whole scene."""
    if group.placement is None:
        return group.planes.shape[1], group.planes.shape[2]
    a, b, _, d, e, _ = group.placement
    return max(1, round(own[0] / math.hypot(b, e))), max(1, round(own[1] / math.hypot(a, d)))


def _scaled(geometries: tuple[BaseGeometry, ...], scale: NDArray[np.float64]) -> tuple[BaseGeometry, ...]:
    return tuple(shapely.transform(geometry, lambda points: points * scale) for geometry in geometries)


def _majority(mask: NDArray[np.bool_], shape: Shape) -> NDArray[np.bool_]:
    """True where a mask covers most of a pixel; what covers just half of it wins where it holds the centre."""
    rows = ((np.arange(shape[0]) + 0.5) * mask.shape[0] / shape[0]).astype(np.intp)
    columns = ((np.arange(shape[1]) + 0.5) * mask.shape[1] / shape[1]).astype(np.intp)
    centre = mask[np.ix_(rows, columns)]
    covered: NDArray[np.bool_] = area_shares(mask, *shape) + np.where(centre, 1e-4, -1e-4).astype(np.float32) > 0.5
    return covered

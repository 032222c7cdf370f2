"""Pixels to polygons, and polygons to files that a GIS opens.

Coordinates are (x, y). In pixel coordinates x runs right and y down, and pixel (row, column) is the square from
(column, row) to (column + 1, row + 1); `Georeference.to_map` takes them to the map or the DSTL grid, `to_pixels` back.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.features import shapes
from shapely.geometry.base import BaseGeometry

from pipeline.files import written_beside
from pipeline.imagery.raster_rows import placeless_is_fine
from pipeline.scene import Affine, Georeference
from search_space.errors import MapgroveError

_DIGITS_BELOW_A_PIXEL = 3


class PolygonError(MapgroveError, ValueError):
    """A mask or a geometry from which no polygons can be made."""


@dataclass(frozen=True)
class Instance:
    """One thing of a class.

    Attributes:
        number: By which `instances.tif` knows it, from 1 on.
        outline: In pixel coordinates.
        probability: Mean over its pixels.
    """

    number: int
    outline: shapely.Polygon
    probability: float


def vectorise(mask: npt.NDArray[np.bool_] | npt.NDArray[np.uint8], min_area_px: float = 0) -> shapely.MultiPolygon:
    """Trace the outlines of a mask exactly, along the edges of its pixels.

    Pixels that touch only at a corner belong to different polygons, which keeps every polygon valid. Rasterising the
    result gives the mask back.

    Args:
        mask: Bool or 0/1 `(H, W)`.
        min_area_px: Polygons of a smaller area are left out; holes do not count as area.

    Returns:
        A valid multipolygon in pixel coordinates, empty for an empty mask.

    Raises:
        PolygonError: `mask` is not two-dimensional.
    """
    outlines = _outlines(np.ascontiguousarray(mask, dtype=np.uint8))
    return shapely.MultiPolygon([each for each, _ in outlines if each.area >= min_area_px])


def vectorise_file(path: Path, k: int, min_area_px: float = 0) -> shapely.MultiPolygon:
    """Trace a class in a file of masks, a row of pixels at a time: as `vectorise` does with all of it in memory.

    Args:
        path: As `write_masks` wrote it.
        k: Position of the class in it.
        min_area_px: See `vectorise`.
    """
    with placeless_is_fine(), rasterio.open(path) as source:
        band = rasterio.band(source, k + 1)
        a, b, c, d, e, f = (~source.transform)[:6]

        def corners(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            # Corners of pixels are whole numbers again, whatever the transform rounds.
            pixels: npt.NDArray[np.float64] = points @ np.array([[a, d], [b, e]]) + (c, f)
            return np.rint(pixels)

        # What is read from a file is traced where the file lies. What has no data is traced too, as the file is its own
        # mask.
        traced = shapes(band, mask=band, connectivity=4)
        outlines = (shapely.transform(_polygon(outline), corners) for outline, value in traced if value == 1)
        return shapely.MultiPolygon([each for each in outlines if each.area >= min_area_px])


def vectorise_instances(labels: npt.NDArray[np.int32]) -> list[shapely.Polygon]:
    """Trace the outline of each instance exactly, along the edges of its pixels.

    Instances that touch share the edge between them and stay apart; what lies within another is a hole of that.

    Args:
        labels: `(H, W)`, 0 outside, instances 1 to N, each connected by sides, as `pipeline.maps.instances` makes them.

    Returns:
        N valid polygons in pixel coordinates, instance n at n - 1.

    Raises:
        PolygonError: `labels` is not two-dimensional, or an instance is missing or in pieces.
    """
    outlines = sorted(_outlines(np.ascontiguousarray(labels, dtype=np.int32)), key=lambda each: each[1])
    numbers = [number for _, number in outlines]
    if numbers != list(range(1, len(numbers) + 1)):
        raise PolygonError("instances must be numbered from 1 on, each in one piece", remedy="Make them by `instances`")
    return [outline for outline, _ in outlines]


def _outlines(pixels: npt.NDArray[np.integer]) -> Iterator[tuple[shapely.Polygon, int]]:
    """Outline and value of each place of equal pixels above 0, connected by sides."""
    if pixels.ndim != 2:
        raise PolygonError("what is traced is (H, W)", received=pixels.shape)
    for outline, value in shapes(pixels, mask=pixels > 0, connectivity=4):
        yield _polygon(outline), int(value)


def _polygon(outline: Mapping[str, Any]) -> shapely.Polygon:
    return shapely.Polygon(outline["coordinates"][0], outline["coordinates"][1:])


def rounded(geometry: BaseGeometry, decimals: int) -> shapely.MultiPolygon:
    """Round coordinates so that what is written is valid when it is read.

    Rounding can make a valid polygon invalid; such a one is snapped to the grid of rounded numbers, which splits or
    drops what collapses.

    Args:
        geometry: Polygons of any kind.
        decimals: Digits after the point.

    Returns:
        A valid multipolygon whose coordinates have no more digits.

    Raises:
        PolygonError: No valid polygon with so few digits was found.
    """
    polygons = _multipolygon(_round(geometry, decimals))
    if not polygons.is_valid:
        grid = 10.0**-decimals
        for attempt in _repairs(geometry, polygons):
            if attempt.is_valid:
                polygons = _multipolygon(_round(shapely.set_precision(attempt, grid), decimals))
            if polygons.is_valid:
                break
        else:
            raise PolygonError(f"a polygon is not valid with {decimals} decimals", remedy="Keep more decimals")
    return polygons


def _repairs(geometry: BaseGeometry, polygons: shapely.MultiPolygon) -> Iterator[BaseGeometry]:
    """What to snap to the grid, the gentlest first; made only when asked for, as repairing can itself fail."""
    yield geometry
    for broken in (geometry, polygons):
        # Lines and points that are left of collapsed polygons are dropped.
        yield shapely.make_valid(broken, method="structure", keep_collapsed=False)


def write_geojson(
    path: Path,
    polygons: Mapping[str, BaseGeometry | Sequence[Instance]],
    georeference: Georeference,
    size_px: tuple[int, int],
    thresholds: Mapping[str, float] | None = None,
) -> None:
    """Write the polygons of a scene as GeoJSON: one feature per polygon, with its class; whole or not at all.

    Of a class whose things were told apart each has the properties `instance` and `probability`.

    Coordinates are rounded to a thousandth of a pixel or finer, and valid afterwards. They are in the CRS of the scene,
    which a `crs` member names unless it is WGS 84 (longitude, latitude); a scene without a CRS keeps its own units, and
    a scene without a place pixel coordinates. The member `coordinates` says which.

    Args:
        path: File to write.
        polygons: Per class, in pixel coordinates; or single things.
        georeference: Where the scene lies.
        size_px: Height and width of the scene.
        thresholds: Probability from which a pixel was of the class, kept as a property.

    Raises:
        PolygonError: A polygon that cannot be rounded.
    """
    affine = georeference.affine(*size_px)
    decimals = _decimals(affine)
    features = [
        _feature(polygon, {"class": name, **about}, decimals)
        for name, shown in polygons.items()
        for geometry, about in _described(shown, (thresholds or {}).get(name))
        for polygon in rounded(georeference.to_map(geometry, *size_px), decimals).geoms
    ]
    collection = {"type": "FeatureCollection", **_reference(georeference, affine), "features": features}
    with written_beside(path) as beside:
        beside.write_text(json.dumps(collection, separators=(",", ":"), ensure_ascii=False), encoding="utf-8")


def _described(
    shown: BaseGeometry | Sequence[Instance], threshold: float | None
) -> Iterator[tuple[BaseGeometry, dict[str, Any]]]:
    """Each geometry with its properties."""
    about = {} if threshold is None else {"threshold": threshold}
    if isinstance(shown, BaseGeometry):
        yield shown, about
    else:
        for each in shown:
            yield each.outline, {**about, "instance": each.number, "probability": round(each.probability, 4)}


def _feature(polygon: shapely.Polygon, properties: dict[str, Any], decimals: int) -> dict[str, Any]:
    # GeoJSON wants exterior rings counter-clockwise.
    rings = shapely.geometry.mapping(shapely.orient_polygons(polygon))["coordinates"]
    plain = [[[round(x, decimals), round(y, decimals)] for x, y in ring] for ring in rings]
    return {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": plain}}


def _reference(georeference: Georeference, affine: Affine | None) -> dict[str, Any]:
    if affine is None:
        return {"coordinates": "pixels, x right, y down"}
    if georeference.crs is None:
        grid = "the DSTL grid" if georeference.xmax is not None else "the scene's transform, of an unknown CRS"
        return {"coordinates": f"units of {grid}"}
    try:
        crs = CRS.from_user_input(georeference.crs)
    except CRSError as error:
        raise PolygonError("the scene's CRS is not known", received=georeference.crs) from error
    if crs.to_epsg() == 4326:
        return {"coordinates": "longitude, latitude"}
    authority = crs.to_authority()
    name = f"urn:ogc:def:crs:{authority[0]}::{authority[1]}" if authority else crs.to_wkt()
    return {"coordinates": "units of the CRS", "crs": {"type": "name", "properties": {"name": name}}}


def _decimals(affine: Affine | None) -> int:
    """Enough for a thousandth of a pixel."""
    if affine is None:
        return _DIGITS_BELOW_A_PIXEL
    a, b, _, d, e, _ = affine
    pixel = min(math.hypot(a, d), math.hypot(b, e))
    return max(0, _DIGITS_BELOW_A_PIXEL + math.ceil(-math.log10(pixel)))


def _round(geometry: BaseGeometry, decimals: int) -> BaseGeometry:
    return shapely.transform(geometry, lambda points: np.round(points, decimals))


def _multipolygon(geometry: BaseGeometry) -> shapely.MultiPolygon:
    return shapely.MultiPolygon(list(_polygons(shapely.get_parts(geometry))))


def _polygons(parts: Iterable[BaseGeometry]) -> Iterable[shapely.Polygon]:
    for part in parts:
        if part.geom_type == "Polygon":
            if not part.is_empty:
                yield part
        elif part.geom_type in ("MultiPolygon", "GeometryCollection"):
            yield from _polygons(shapely.get_parts(part))

"""Geometries from GeoJSON, GeoPackage and Shapefile, brought onto the pixels of a scene."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from pipeline.datasets.base import existing_file
from pipeline.datasets.places import Geometries, Ground, is_on_earth, known_crs, moved
from pipeline.scene import DataError
from search_space.errors import did_you_mean

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_POINTS, _LINES, _POLYGON, _FIRST_COLLECTION = (0, 4), (1, 2), 3, 4
"""Type numbers of GEOS."""

WGS84_BY_DEFAULT = (
    "A GeoJSON file without `crs` counts as longitude and latitude; if it is in another CRS, "
    "state it with data.options.labels_crs"
)
"""What to say where labels lie far off."""


@dataclass(frozen=True)
class VectorSource:
    """A file of geometries and how to take it.

    Attributes:
        path: GeoJSON, GeoPackage, Shapefile or FlatGeobuf.
        layer: Name of the layer; the only one where empty. Tables without geometries are none.
        layer_is_hint: Whether a file that has one layer is taken whatever it is called.
        crs: What coordinates mean, whatever the file says; None to believe the file.
        in_scene_crs: Coordinates are in the CRS of the scene, even one that nobody knows.
    """

    path: Path
    layer: str = ""
    crs: CRS | None = None
    in_scene_crs: bool = False
    layer_is_hint: bool = False


@dataclass(frozen=True)
class Features:
    """What a file holds near a scene.

    Attributes:
        path: The file.
        geometries: As stored, without heights; none is missing.
        values: Attribute to its value for every geometry.
        crs: What coordinates mean; None where it is the scene's.
        num_in_file: Features of the whole file.
    """

    path: Path
    geometries: Geometries
    values: Mapping[str, NDArray[Any]]
    crs: CRS | None
    num_in_file: int

    def only(self, numbers: Sequence[int]) -> "Features":
        """Some of the features, by their numbers."""
        values = {name: column[list(numbers)] for name, column in self.values.items()}
        return replace(self, geometries=self.geometries[list(numbers)], values=values)


@dataclass(frozen=True)
class Drawn:
    """Polygons on the pixels of a scene.

    Attributes:
        polygons: Valid, in pixel coordinates, each touching the image.
        feature: Which feature each one comes from.
    """

    polygons: Geometries
    feature: NDArray[np.int64]


@dataclass(frozen=True)
class LineWidths:
    """How wide the lines of features are.

    Attributes:
        metres: Whole width on the ground, one per feature; not-a-number where nobody has said.
        said: What the file says instead, as text, one per feature; empty where it says nothing.
        remedy: What to do about lines whose width nobody has said.
    """

    metres: NDArray[np.float64]
    said: Sequence[str]
    remedy: str


def read_features(
    source: VectorSource,
    ground: Ground,
    fields: Sequence[str] = (),
    *,
    optional_fields: Sequence[str] = (),
    margin_m: float = 0.0,
) -> Features:
    """Read the features that may touch a scene.

    Args:
        source: The file.
        ground: Where the scene lies.
        fields: Attributes to read.
        optional_fields: Attributes to read where the file has them.
        margin_m: How far beyond the scene's border features matter.

    Raises:
        DataError: The file is missing or damaged, has several layers and none was chosen, lacks a CRS or an attribute.
    """
    path = existing_file(source.path, "It may have been moved while it was needed; put it back")
    layer = _layer(source)
    info = _facts(path, path.stat().st_mtime_ns, layer)
    num_features = int(info["features"])
    # A file without features has no attributes either.
    missing = [name for name in fields if name not in info["fields"]]
    if missing and num_features:
        raise DataError(
            f"{path}: the features have no such attribute",
            received=missing[0],
            remedy=did_you_mean(missing[0], [str(name) for name in info["fields"]]),
        )
    crs = _crs_of(source, info["crs"], ground)
    wanted = [name for name in (*fields, *optional_fields) if name in info["fields"]]
    bounds = ground.bounds_in(crs, margin_m)
    meta, _, stored, columns = _asked(
        path, partial(pyogrio.raw.read, layer=layer, columns=wanted, bbox=bounds, force_2d=True)
    )
    with np.errstate(invalid="ignore"):
        # Coordinates that are no numbers are refused with the file's name.
        geometries = shapely.from_wkb(stored, on_invalid="fix")
    present = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    if not present.all():
        logger.info("%s: %d features have no geometry", path, np.count_nonzero(~present))
    values = {str(name): column[present] for name, column in zip(meta["fields"], columns, strict=True)}
    return Features(path, geometries[present], values, crs, num_features)


def largest_number(source: VectorSource, field: str) -> float:
    """The largest finite number in an attribute of a file; 0 where there is none, or no such attribute.

    Raises:
        DataError: As `read_features`.
    """
    path = existing_file(source.path, "It may have been moved while it was needed; put it back")
    return _largest_number(path, path.stat().st_mtime_ns, _layer(source), field)


def as_number(value: object) -> float:
    """An attribute as a number; not-a-number where it is none."""
    try:
        return float(str(value))
    except ValueError:
        return float("nan")


def may_touch(source: VectorSource, ground: Ground) -> bool:
    """Whether the rectangle around all features of a file meets a scene; False for a file without features.

    Raises:
        DataError: As `read_features`.
    """
    path = existing_file(source.path, "It may have been moved while it was needed; put it back")
    info = _facts(path, path.stat().st_mtime_ns, _layer(source))
    if not info["features"]:
        return False
    theirs, ours = info["total_bounds"], ground.bounds_in(_crs_of(source, info["crs"], ground))
    return bool(theirs[0] <= ours[2] and ours[0] <= theirs[2] and theirs[1] <= ours[3] and ours[1] <= theirs[3])


def draw(features: Features, ground: Ground, widths: LineWidths | None = None) -> Drawn:
    """Bring features onto a scene's pixels; lines become as wide as they are on the ground.

    Args:
        features: As read.
        ground: Where the scene lies.
        widths: Of each feature's lines; None where lines have none.

    Returns:
        Polygons that touch the image, self-crossing ones repaired.

    Raises:
        DataError: Points, lines without a width, or corners that have no place in the scene's CRS.
    """
    parts, owner = _parts(features.geometries)
    _refuse_no_numbers(features, parts)
    kinds = shapely.get_type_id(parts)
    _refuse_points(features, int(np.isin(kinds, _POINTS).sum()))
    is_line = np.isin(kinds, _LINES)
    areas = parts.copy()
    try:
        if is_line.any():
            areas[is_line] = _buffered(parts[is_line], _line_widths_m(owner[is_line], widths), features, ground)
        areas[~is_line] = moved(parts[~is_line], features.crs, ground.crs)
    except DataError as error:
        raise DataError(f"{features.path}: {error.what}", received=error.received, remedy=error.remedy) from error
    polygons = ground.to_pixels(areas)
    broken = ~shapely.is_valid(polygons)
    if broken.any():
        polygons[broken] = shapely.make_valid(polygons[broken], method="structure", keep_collapsed=False)
    touching = _overlaps(polygons, ground)
    return Drawn(polygons[touching], owner[touching])


def any_overlaps(features: Features, ground: Ground) -> bool:
    """Whether any of the features, lines without their width, lies on the image.

    Raises:
        DataError: Corners that have no place in the scene's CRS.
    """
    parts, _ = _parts(features.geometries)
    _refuse_no_numbers(features, parts)
    return bool(_overlaps(ground.to_pixels(moved(parts, features.crs, ground.crs)), ground).any())


def _overlaps(geometries: Geometries, ground: Ground) -> NDArray[np.bool_]:
    """Which share more with the image than its border."""
    overlapping: NDArray[np.bool_] = shapely.intersects(geometries, ground.frame)
    overlapping &= ~shapely.touches(geometries, ground.frame)
    return overlapping


def outside(features: Features, ground: Ground) -> DataError:
    """What to say of a scene's labels that all lie beside it."""
    left, bottom, right, top = ground.bounds_in(features.crs)
    return DataError(
        f"{features.path}: none of {features.num_in_file} features touches the image, "
        f"which spans x {left:.6g} to {right:.6g} and y {bottom:.6g} to {top:.6g} in the CRS of the labels",
        remedy=WGS84_BY_DEFAULT,
    )


def as_text(values: NDArray[Any]) -> list[str]:
    """Attributes as a study writes them: whole numbers without a point, `true`, `false`, and nothing where missing."""
    return [_text(value) for value in values.tolist()]


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _layer(source: VectorSource) -> str:
    names = _layers(source.path, source.path.stat().st_mtime_ns)
    if source.layer and not (source.layer_is_hint and len(names) == 1):
        if source.layer not in names:
            raise DataError(
                f"{source.path}: there is no such layer",
                received=source.layer,
                remedy=f"data.options.layer: {did_you_mean(source.layer, names)}",
            )
        return source.layer
    if len(names) != 1:
        raise DataError(
            f"{source.path}: the file must have one layer",
            received=list(names),
            remedy="Name one in data.options.layer" if names else "Export it again",
        )
    return names[0]


def _crs_of(source: VectorSource, said: str | None, ground: Ground) -> CRS | None:
    if source.in_scene_crs:
        return None
    crs = source.crs or (known_crs(said, str(source.path)) if said else None)
    if crs is None or not is_on_earth(crs):
        raise DataError(
            f"{source.path}: the labels do not say in which CRS they are",
            received=said,
            remedy='State it, as in data.options.labels_crs = "EPSG:32633", or "image" if it is that of the images',
        )
    if ground.crs is None or not is_on_earth(ground.crs):
        raise DataError(
            f"{source.path}: the labels have a CRS, but their image has none",
            received=crs.to_string()[:60],
            remedy='State it, as in data.options.crs = "EPSG:32633"; '
            'or write data.options.labels_crs = "image" if both are in one unknown CRS',
        )
    return crs


@lru_cache(maxsize=64)
def _layers(path: Path, changed_ns: int) -> tuple[str, ...]:  # noqa: ARG001
    """Names of a file's layers; a file for all scenes is asked once, and again when it has changed."""
    return tuple(str(name) for name, kind in _asked(path, pyogrio.list_layers) if kind is not None)


@lru_cache(maxsize=64)
def _facts(path: Path, changed_ns: int, layer: str) -> dict[str, Any]:  # noqa: ARG001
    """What a layer says of itself; asked once, as `_layers`."""
    question = partial(pyogrio.read_info, layer=layer, force_feature_count=True, force_total_bounds=True)
    return dict(_asked(path, question))


@lru_cache(maxsize=256)
def _largest_number(path: Path, changed_ns: int, layer: str, field: str) -> float:
    """Asked once, as `_layers`: a file for all scenes is read for each of them."""
    if field not in _facts(path, changed_ns, layer)["fields"]:
        return 0.0
    question = partial(pyogrio.raw.read, layer=layer, columns=[field], read_geometry=False)
    *_, columns = _asked(path, question)
    numbers = np.array([as_number(value) for value in columns[0]], np.float64)
    return float(numbers[np.isfinite(numbers)].max(initial=0.0))


def _asked(path: Path, question: Callable[[Path], Result]) -> Result:
    try:
        with warnings.catch_warnings():
            # What GDAL only warns of shows in the data, or is none of our business.
            warnings.simplefilter("ignore", RuntimeWarning)
            return question(path)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition(";")[0]
        raise DataError(
            f"{path}: the file cannot be read as vectors: {reason}", remedy="Fetch or export it again"
        ) from error


def _parts(geometries: Geometries) -> tuple[Geometries, NDArray[np.int64]]:
    """Points, lines and polygons, and the number of the geometry that each is a part of."""
    parts, owner = np.asarray(geometries, object), np.arange(len(geometries))
    while (shapely.get_type_id(parts) >= _FIRST_COLLECTION).any():
        parts, inner = shapely.get_parts(parts, return_index=True)
        owner = owner[inner]
    present = ~shapely.is_empty(parts)
    return parts[present], owner[present]


def _refuse_points(features: Features, num_points: int) -> None:
    if num_points:
        raise DataError(
            f"{features.path}: labels are polygons, or lines with a width",
            received=f"{num_points} points",
            remedy="Draw around what they mark, or buffer them in a GIS",
        )


def _line_widths_m(feature: NDArray[np.int64], widths: LineWidths | None) -> NDArray[np.float64]:
    if widths is None:
        raise DataError(
            "lines need a width to become an area",
            received=f"{len(feature)} lines",
            remedy="State it in metres with data.options.width_m, or the attribute that has it with width_field",
        )
    widths_m = widths.metres[feature]
    bad = ~(np.isfinite(widths_m) & (widths_m > 0))
    if bad.any():
        said = widths.said[int(feature[bad][0])]
        raise DataError(
            "lines must have a width in metres above 0",
            received=f"{np.count_nonzero(bad)} lines without" + (f", such as {said!r}" if said else ""),
            remedy=widths.remedy,
        )
    return widths_m


def _buffered(lines: Geometries, widths_m: NDArray[np.float64], features: Features, ground: Ground) -> Geometries:
    """Lines as areas in the scene's CRS, widened where a metre is a metre."""
    metric = ground.metric
    if metric is None:
        raise DataError(
            "lines with a width in metres need a CRS",
            remedy="State that of the images with data.options.crs, or draw the lines as polygons",
        )
    in_metres = moved(lines, features.crs or ground.crs, metric)
    return moved(shapely.buffer(in_metres, widths_m / 2), metric, ground.crs)


def _refuse_no_numbers(features: Features, parts: Geometries) -> None:
    points, owner = shapely.get_coordinates(parts, return_index=True)
    # Bounds would not do: they leave out what is not a number.
    bad = np.unique(owner[~np.isfinite(points).all(axis=1)])
    if len(bad):
        raise DataError(
            f"{features.path}: coordinates must be numbers",
            received=f"{len(bad)} geometries with others",
            remedy="Mend or delete them",
        )

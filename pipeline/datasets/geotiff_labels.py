"""Labels of the format `geotiff`: which files a scene has, and what they say on its pixels."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from pipeline.datasets.geotiff_options import SAME_AS_IMAGE, GeotiffOptions
from pipeline.datasets.groups import Images
from pipeline.datasets.labels import IGNORED, as_codes, labels_from_codes, meaning_of, without_ground
from pipeline.datasets.patterns import find_files, refuse_half_labelled, shared_file, warn_of_unused
from pipeline.datasets.places import Ground, is_on_earth, known_crs, nearest
from pipeline.datasets.raster import Raster, read_raster
from pipeline.datasets.vectors import (
    WGS84_BY_DEFAULT,
    Features,
    LineWidths,
    VectorSource,
    any_overlaps,
    as_number,
    as_text,
    draw,
    largest_number,
    may_touch,
    outside,
    read_features,
)
from pipeline.scene import DataError, PolygonLabels, RasterLabels

logger = logging.getLogger(__name__)

Polygons = tuple[BaseGeometry, ...]


@dataclass(frozen=True)
class Found:
    """What a pattern of labels matches: a file for each scene, or one for all.

    Attributes:
        option: Name of the option, for messages.
        by_scene: Scene id to file.
        shared: The one file of all scenes.
    """

    option: str
    by_scene: Mapping[str, Path] = field(default_factory=dict)
    shared: Path | None = None

    @classmethod
    def of(cls, folder: Path, pattern: str, option: str) -> "Found":
        """Look for the files of a pattern."""
        if "*" in pattern:
            return cls(option, by_scene=find_files(folder, pattern, option))
        return cls(option, shared=shared_file(folder, pattern, option))

    def file(self, scene_id: str) -> Path | None:
        """The file that may say something of a scene."""
        return self.shared or self.by_scene.get(scene_id)


@dataclass(frozen=True)
class SceneLabels:
    """The label files of one scene.

    Attributes:
        scene_id: The scene.
        own: Class to a file of this scene; `IGNORED` stands for all classes.
        shared: Class to a file of all scenes.
        ignored: Vectors within which nothing is known.
        area: Vectors outside of which nothing is known.
        has_area: Whether such vectors must be there for anything to be known.
    """

    scene_id: str
    own: Mapping[str, Path]
    shared: Mapping[str, Path]
    ignored: Path | None
    area: Path | None
    has_area: bool

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file, once."""
        extra = [path for path in (self.ignored, self.area) if path is not None]
        return tuple(dict.fromkeys([*self.own.values(), *self.shared.values(), *extra]))


@dataclass(frozen=True)
class LabelFiles:
    """The label files of a data set.

    Attributes:
        classes: Class to what its pattern matches; `IGNORED` stands for all classes.
        ignored: Vectors within which nothing is known.
        area: Vectors outside of which nothing is known.
    """

    classes: Mapping[str, Found]
    ignored: Found | None = None
    area: Found | None = None

    @classmethod
    def find(cls, folder: Path, options: GeotiffOptions) -> "LabelFiles":
        """Look for the files that a study's patterns match."""
        return cls(
            {
                name: Found.of(folder, pattern, "labels" if name == IGNORED else f"labels.{name}")
                for name, pattern in options.class_patterns.items()
            },
            Found.of(folder, options.ignored, "ignored") if options.ignored else None,
            Found.of(folder, options.area, "area") if options.area else None,
        )

    def check(self, scene_ids: Collection[str]) -> None:
        """Look for patterns that match no scene, and warn of files that belong to none.

        Raises:
            DataError: A pattern with a star matches no scene, or a scene has files of some classes only.
        """
        everything = [found for found in (*self.classes.values(), self.ignored, self.area) if found is not None]
        unused: dict[str, None] = {}
        for found in everything:
            orphans = sorted(set(found.by_scene) - set(scene_ids))
            unused |= dict.fromkeys(orphans)
            if found.shared is None and not set(found.by_scene) & set(scene_ids):
                raise DataError(
                    f"data.options.{found.option}: no file matches an image",
                    received=f"{len(found.by_scene)} files, such as {', '.join(orphans[:3])}" if orphans else "no file",
                    remedy=f"Images are named {', '.join(sorted(scene_ids)[:3])}",
                )
        warn_of_unused(unused)
        stars = {name: found.by_scene for name, found in self.classes.items() if found.shared is None}
        refuse_half_labelled(scene_ids, stars)

    def of(self, scene_id: str) -> SceneLabels:
        """The files of one scene; none of its own where nobody has labelled it."""
        own = {name: found.by_scene[scene_id] for name, found in self.classes.items() if scene_id in found.by_scene}
        shared = {name: found.shared for name, found in self.classes.items() if found.shared is not None}
        is_left_out = not own and any(found.shared is None for found in self.classes.values())
        return SceneLabels(
            scene_id,
            own,
            {} if is_left_out else shared,
            self.ignored.file(scene_id) if self.ignored else None,
            self.area.file(scene_id) if self.area else None,
            self.area is not None,
        )


def refuse_far_off(options: GeotiffOptions, files: LabelFiles, grounds: Iterable[Ground]) -> None:
    """Refuse a file of all scenes' vectors that lies beside every one of them.

    Args:
        options: What the files mean.
        files: The label files of the data set.
        grounds: Where the scenes lie; asked for only as far as needed.

    Raises:
        DataError: Such a file.
    """
    shared = {found.option: found.shared for found in files.classes.values() if found.shared is not None}
    sources = {} if options.has_rasters else {name: vector_source(options, path) for name, path in shared.items()}
    looked = False
    for ground in grounds if sources else ():
        looked = True
        sources = {option: source for option, source in sources.items() if not may_touch(source, ground)}
        if not sources:
            return
    if looked:
        option, source = next(iter(sources.items()))
        raise DataError(
            f"data.options.{option}: no feature lies on any image",
            received=str(source.path),
            remedy=WGS84_BY_DEFAULT,
        )


def vector_source(options: GeotiffOptions, path: Path) -> VectorSource:
    """A file of labels and how to take it."""
    in_scene_crs = options.labels_crs == SAME_AS_IMAGE
    stated = options.labels_crs and not in_scene_crs
    crs = known_crs(options.labels_crs, "data.options.labels_crs") if stated else None
    return VectorSource(path, options.layer, crs, in_scene_crs)


NO_LABELS = LabelFiles({})
"""Of an image that stands by itself."""


def read_labels(options: GeotiffOptions, files: SceneLabels, images: Images) -> PolygonLabels | RasterLabels | None:
    """Read what is known of a scene.

    Args:
        options: What the files mean.
        files: Those of the scene.
        images: The scene's bands, which tell where its pixels lie.

    Returns:
        None where nobody has labelled the scene: it has no file, lies outside the area, or no feature of a file that
        is for all scenes touches it and no area says that somebody has looked.

    Raises:
        DataError: A file that is missing, damaged, lies elsewhere, or says what the options do not know.
    """
    if not (files.own or files.shared):
        return None
    if options.has_rasters:
        path = [*files.own.values(), *files.shared.values()][0]
        labels = _read_raster_labels(options, path, images)
        if labels is None or not (files.ignored or files.has_area):
            return labels
        unknown = _Vectors(options, images.ground(path)).unknown(files)
        return None if unknown is None else without_ground(labels, unknown)
    vectors = _Vectors(options, images.ground(next(iter(files.paths))))
    unknown = vectors.unknown(files)
    if unknown is None:
        return None
    found: dict[str, list[BaseGeometry]] = defaultdict(list)
    touched = files.has_area
    for name, path in files.own.items():
        vectors.add(found, name, path)
        touched = True
    for name, path in files.shared.items():
        touched |= vectors.add(found, name, path, shared=True)
    if not touched:
        logger.info("%s: no label touches it, so it counts as not labelled", files.scene_id)
        return None
    ignored = (*found.pop(IGNORED, ()), *unknown)
    return PolygonLabels({name: tuple(polygons) for name, polygons in found.items()}, ignored)


@dataclass(frozen=True)
class _Vectors:
    """Reads vectors onto one scene."""

    options: GeotiffOptions
    ground: Ground

    def add(self, found: dict[str, list[BaseGeometry]], name: str, path: Path, *, shared: bool = False) -> bool:
        """Add the polygons of a file by class; tell whether any feature touches the scene.

        Raises:
            DataError: A file of one scene has features that all lie beside it.
        """
        options = self.options
        fields = [each for each in (options.class_field if name == IGNORED else "", options.width_field) if each]
        source = vector_source(options, path)
        features = read_features(source, self.ground, fields, margin_m=widest_m(options, source))
        classes: list[str | None] = [name] * len(features.geometries)
        if name == IGNORED and len(features.geometries):
            classes = meaning_of(as_text(features.values[options.class_field]), options.meanings, path)
        meant = [number for number, each in enumerate(classes) if each is not None]
        drawn = draw(features.only(meant), self.ground, self._widths(features, classes, meant))
        for polygon, number in zip(drawn.polygons, drawn.feature, strict=True):
            found[str(classes[meant[number]])].append(polygon)
        others = [number for number, each in enumerate(classes) if each is None]
        is_beside = not (len(drawn.polygons) or any_overlaps(features.only(others), self.ground))
        if is_beside and not shared and features.num_in_file:
            raise outside(features, self.ground)
        if not features.num_in_file:
            logger.warning("%s has no features: all of its ground counts as none of the classes", path)
        return not is_beside

    def unknown(self, files: SceneLabels) -> Polygons | None:
        """Polygons within which nothing is known; None where that is everywhere."""
        ignored = self._polygons(files.ignored)
        if not files.has_area:
            return ignored
        area = self._polygons(files.area)
        if not area:
            return None
        rest = shapely.difference(self.ground.frame, shapely.union_all(area))
        return (*ignored, rest)

    def _polygons(self, path: Path | None) -> Polygons:
        if path is None:
            return ()
        source = replace(vector_source(self.options, path), layer_is_hint=True)
        return tuple(draw(read_features(source, self.ground), self.ground).polygons)

    def _widths(self, features: Features, classes: list[str | None], meant: list[int]) -> LineWidths | None:
        options = self.options
        if options.width_field:
            column = features.values.get(options.width_field, np.zeros(0))
            said = as_text(column[meant]) if len(column) else []
            remedy = f"Write a bare number into the attribute {options.width_field!r}, or give data.options.width_m"
            return LineWidths(np.array([as_number(text) for text in said]), said, f"{remedy} in place of width_field")
        if options.width_m is None:
            return None
        named = [str(classes[number]) for number in meant]
        widths = [options.width_of(name) for name in named]
        lacking = sorted({name for name, width in zip(named, widths, strict=True) if width is None})
        metres = [np.nan if width is None else width for width in widths]
        remedy = f"Give {', '.join(lacking)} a width in data.options.width_m"
        return LineWidths(np.array(metres, np.float64), [""] * len(metres), remedy)


def _read_raster_labels(options: GeotiffOptions, path: Path, images: Images) -> RasterLabels | None:
    """Classes of a label raster on the scene's pixels; None where it lies beside the scene."""
    raster = read_raster(path, unfold_palette=False)
    if raster.nodata == 0 and options.background is None and not options.says(0) and not raster.planes.all():
        raise DataError(
            f"{path}: pixels of 0 are declared to have no data: are they unknown ground, or none of the classes?",
            received={"pixels of 0": f"{np.mean(raster.planes[0] == 0):.0%}"},
            remedy="Say what they are: data.options.background = [0], or ignore = [0]",
        )
    if raster.nodata is not None and np.isnan(raster.nodata):
        holes = np.isnan(raster.planes[0])
        raster = replace(raster, planes=np.where(holes, 0, raster.planes), opaque=_both(raster.opaque, ~holes))
    codes = as_codes(raster, path, "Write one band, or use the format masks, which reads colours").astype(np.float64)
    missing = raster.nodata if raster.nodata is not None and not options.says(raster.nodata) else None
    if missing is not None:
        codes[codes == missing] = np.nan
    if raster.opaque is not None:
        codes[~raster.opaque] = np.nan
    codes = _on_scene(codes, raster, path, images, options)
    known = np.isfinite(codes)
    if not known.any():
        return None
    whole = np.where(known, codes, next(iter(options.meanings.classes))).astype(np.int64)
    labels = labels_from_codes(whole, options.meanings, path)
    return RasterLabels({name: mask & known for name, mask in labels.by_class.items()}, labels.known & known)


def _both(one: NDArray[np.bool_] | None, other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return other if one is None else one & other


def _on_scene(
    codes: NDArray[np.float64], raster: Raster, path: Path, images: Images, options: GeotiffOptions
) -> NDArray[np.float64]:
    """Codes on the scene's pixels, not-a-number where the raster has none."""
    if raster.transform is None or images.georeference.transform is None:
        if codes.shape != images.shape:
            raise DataError(
                f"{path}: a label raster without a place on a map must be as large as its image",
                received={"label": codes.shape, "image": images.shape},
                remedy="Export it again with its georeference, or in the image's size (rows, columns)",
            )
        return codes
    ground = images.ground(path)
    said = options.labels_crs
    if said == SAME_AS_IMAGE:
        crs = ground.crs
    elif said:
        crs = known_crs(said, "data.options.labels_crs")
    else:
        crs = None if raster.crs is None else CRS.from_wkt(raster.crs)
    if crs != ground.crs and not all(each is not None and is_on_earth(each) for each in (crs, ground.crs)):
        raise DataError(
            f"{path}: the label raster and its image must both say in which CRS they are",
            received={"label": crs and crs.to_string()[:40], "image": ground.crs and ground.crs.to_string()[:40]},
            remedy='State it with data.options.labels_crs or crs, as in "EPSG:32633"; '
            'labels_crs = "image" if both are in one',
        )
    return nearest(codes, raster.transform, crs, ground, np.nan)


def widest_m(options: GeotiffOptions, source: VectorSource) -> float:
    """No line of a file is wider."""
    return largest_number(source, options.width_field) if options.width_field else options.widest_m

"""SpaceNet's folders as they come: chips of several products, with buildings or roads as GeoJSON.

Class names are stable: `building`; `road` for every road, and a class for each range of speeds, as in CRESI.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import Field
from shapely.geometry.base import BaseGeometry

from pipeline.datasets.base import existing_folder
from pipeline.datasets.groups import ImageFile, Images, read_images
from pipeline.datasets.raster import NoData
from pipeline.datasets.vectors import Features, LineWidths, VectorSource, draw, outside, read_features
from pipeline.datasets.worldview import MULTISPECTRAL, PAN, RGB
from pipeline.scene import Band, DataError, PolygonLabels, Scene
from search_space.decode import Frozen, decode

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Product:
    """One kind of image of a chip.

    Attributes:
        folders: Names that its folder has had, which also stand in its files' names.
        bands: Its bands.
    """

    folders: tuple[str, ...]
    bands: tuple[Band, ...]


_SHARPENED = tuple(band.model_copy(update={"name": f"ps{band.name}"}) for band in MULTISPECTRAL)

PRODUCTS: Mapping[str, Product] = {
    "rgb": Product(("PS-RGB", "RGB-PanSharpen", "3band"), RGB),
    "psm": Product(("PS-MS", "MUL-PanSharpen"), _SHARPENED),
    "pan": Product(("PAN",), PAN),
    "m": Product(("MS", "MUL", "8band"), MULTISPECTRAL),
}
"""Group of bands to its product, the finest first: the first one that a data set has is its grid."""

LABELS: Mapping[str, tuple[str, ...]] = {
    "buildings": ("vectorData/geoJson", "vectordata/geojson", "geojson/buildings", "geojson_buildings", "geojson"),
    "roads": ("geojson_roads_speed", "geojson_roads", "geojson/spacenetroads"),
}
"""What labels show, and the folders that they have been in; the first one that is there counts."""

_LABEL_TOKENS = ("Geo", "buildings", "geojson_buildings", "geojson_roads_speed", "geojson_roads", "spacenetroads")
"""What stands in the names of label files besides the chip's."""

SPEED_FIELDS = ("inferred_speed_mph", "speed_mph")
"""Attributes that hold the speed of a road, the preferred one first."""

BIN_MPH, NUM_BINS = 10, 7

BUILDING, ROAD = "building", "road"
SPEED_CLASSES = (
    *(f"road_{BIN_MPH * n + 1}_{BIN_MPH * (n + 1)}_mph" for n in range(NUM_BINS - 1)),
    f"road_over_{BIN_MPH * (NUM_BINS - 1)}_mph",
)
"""road_1_10_mph, road_11_20_mph … road_51_60_mph, road_over_60_mph: the channels of CRESI."""

REMEDY = "Point data.folder to one area's folder, which holds PS-RGB/, MS/, 3band/ or the like"


class SpacenetOptions(Frozen):
    """`[data.options]` of the format `spacenet`.

    Attributes:
        labels: What is mapped; needed only where a folder has both buildings and roads.
        speeds: Whether roads are also told apart by their speed. Ground of a road without one is then unknown.
        road_width_m: Whole width of a road; CRESI widens centre lines by 2 m to each side.
        nodata: Pixels of which all bands have this value have no data.
    """

    labels: Literal["buildings", "roads", "auto"] = "auto"
    speeds: bool = True
    road_width_m: Annotated[float, Field(gt=0.0)] = 4.0
    nodata: NoData = 0.0


class SpacenetAdapter:
    """One area of SpaceNet as a data set.

    Args:
        folder: Holds a folder for each product, and one with labels.
        options: Plain `SpacenetOptions`.
    """

    same_ground: tuple[tuple[str, ...], ...] = ()

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self._folder = folder
        self._plain = options
        self._options = decode(SpacenetOptions, options, where="data.options")
        self._image: Path | None = None

    @property
    def scene_ids(self) -> tuple[str, ...]:
        """See `Adapter.scene_ids`: the names of the chips without those of products."""
        return tuple(sorted(self._images[self._grid])) if self._images else ()

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands of every product that the folder has, the finest first."""
        return tuple(band for group in self._images for band in PRODUCTS[group].bands)

    @property
    def class_names(self) -> tuple[str, ...]:
        """`building`; or `road` and, unless the options leave speeds out, `SPEED_CLASSES`."""
        if self._kind == "buildings":
            return (BUILDING,)
        return (ROAD, *SPEED_CLASSES) if self._options.speeds else (ROAD,)

    def check(self) -> None:
        """See `Adapter.check`."""
        existing_folder(self._folder, REMEDY)
        if not self.scene_ids:
            shown = ", ".join(folder for product in PRODUCTS.values() for folder in product.folders)
            raise DataError("No chip was found", received=str(self._folder), remedy=f"{REMEDY}. Known folders: {shown}")
        orphans = sorted(set(self._label_files) - set(self.scene_ids))
        if orphans:
            logger.warning("%d label files have no image: %s", len(orphans), ", ".join(orphans[:10]))
        if not self._label_files and self._options.labels != "auto":
            raise DataError(
                f"data.options.labels: there are no {self._kind}",
                received=str(self._folder),
                remedy=f"Fetch them into {' or '.join(LABELS[self._kind])}",
            )
        if self._label_files and not set(self._label_files) & set(self.scene_ids):
            raise DataError(
                "No label file belongs to a chip",
                received=f"labels of {orphans[0]}, chips such as {self.scene_ids[0]}",
                remedy="Keep the names that files came with",
            )

    def sources(self, scene_id: str, bands: Collection[str]) -> tuple[Path, ...]:
        """See `Adapter.sources`."""
        labels = self._label_files.get(scene_id)
        images = tuple(file.path for file in self._image_files(scene_id, bands))
        return images if labels is None else (*images, labels)

    def read(self, scene_id: str, bands: Collection[str]) -> Scene:
        """See `Adapter.read`."""
        images = read_images(tuple(self._image_files(scene_id, bands)), by_rows=self._image is not None)
        path = self._label_files.get(scene_id)
        if path is None:
            return images.scene(scene_id, None)
        read = self._read_buildings if self._kind == "buildings" else self._read_roads
        return images.scene(scene_id, read(path, images))

    def of_image(self, path: Path) -> Self:
        """See `Adapter.of_image`; the other products of a chip are found from one in its product's folder."""
        other = type(self)(path.absolute().parents[1], self._plain)
        other._image = path
        return other

    @property
    def _grid(self) -> str:
        return next(iter(self._images))

    @cached_property
    def _images(self) -> dict[str, dict[str, Path]]:
        """Group to chip to file, of the products that there are."""
        found: dict[str, dict[str, Path]] = {}
        for group, product in PRODUCTS.items():
            for name in product.folders:
                files = _files(self._folder / name, (".tif", ".tiff"), (name,))
                if files:
                    found[group] = files
                    break
        return found if self._image is None else self._around(self._image, found)

    def _around(self, image: Path, found: dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
        """One chip's files by group, under the name of the file that was given."""
        for group, files in found.items():
            for chip, path in files.items():
                if path == image.absolute():
                    beside = {other: {image.stem: each[chip]} for other, each in found.items() if chip in each}
                    if next(iter(beside)) != group:
                        raise DataError(
                            f"{image}: the grid of the study is that of another product",
                            remedy=f"Name {beside[next(iter(beside))][image.stem]}",
                        )
                    return beside
        # Out of any product's folder, it can be one file only, of the bands that it has the number of.
        return {"rgb": {image.stem: image}}

    @cached_property
    def _kind(self) -> str:
        present = [kind for kind in LABELS if self._labels_of(kind)]
        wanted = self._options.labels
        if wanted != "auto":
            return wanted
        if len(present) > 1 and self._image is None:
            raise DataError(
                f"{self._folder} has labels of buildings and of roads",
                remedy='Say which: data.options.labels = "buildings" or "roads"',
            )
        return present[0] if present else "buildings"

    @cached_property
    def _label_files(self) -> dict[str, Path]:
        return {} if self._image is not None else self._labels_of(self._kind)

    def _labels_of(self, kind: str) -> dict[str, Path]:
        for name in LABELS[kind]:
            files = _files(self._folder / name, (".geojson", ".json"), _LABEL_TOKENS)
            if files:
                return files
        return {}

    def _image_files(self, scene_id: str, bands: Collection[str]) -> Iterator[ImageFile]:
        """The chip's files that hold one of `bands`; the grid's always."""
        for group, files in self._images.items():
            names = tuple(band.name for band in PRODUCTS[group].bands)
            if group != self._grid and not set(names) & set(bands):
                continue
            if scene_id not in files:
                raise DataError(
                    f"the chip {scene_id} has no image in {next(iter(files.values())).parent}",
                    remedy="Fetch it, or leave its bands out of data.bands",
                )
            yield ImageFile(group, files[scene_id], names, self._options.nodata)

    def _read_buildings(self, path: Path, images: Images) -> PolygonLabels:
        ground = images.ground(path)
        features = read_features(VectorSource(path), ground)
        polygons = tuple(draw(features, ground).polygons)
        if features.num_in_file and not polygons:
            raise outside(features, ground)
        return PolygonLabels({BUILDING: polygons})

    def _read_roads(self, path: Path, images: Images) -> PolygonLabels:
        ground, width_m = images.ground(path), self._options.road_width_m
        features = read_features(VectorSource(path), ground, margin_m=width_m, optional_fields=SPEED_FIELDS)
        drawn = draw(features, ground, _widths(len(features.geometries), width_m))
        if features.num_in_file and not len(drawn.polygons):
            raise outside(features, ground)
        roads = {ROAD: tuple(drawn.polygons)}
        if not (self._options.speeds and features.num_in_file):
            return PolygonLabels(roads)
        bins = _speed_bins(features)[drawn.feature]
        unknown = tuple(drawn.polygons[bins < 0])
        if unknown:
            logger.warning("%s: %d pieces of road have no speed; their ground is unknown", path, len(unknown))
        return PolygonLabels(roads | _by_speed(drawn.polygons, bins), unknown)


def _files(folder: Path, endings: tuple[str, ...], tokens: tuple[str, ...]) -> dict[str, Path]:
    """Chip to file: a chip's name is the file's without what tells the product."""
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in endings:
            continue
        chip = _chip(path.stem, tokens)
        if chip in found:
            raise DataError(
                f"two files of {folder} belong to the chip {chip}",
                received=[found[chip].name, path.name],
                remedy="Take one away",
            )
        found[chip] = path
    return found


def _chip(stem: str, tokens: tuple[str, ...]) -> str:
    """A file's name without the longest of `tokens` that it has; others may be part of the chip's own name."""
    whole = f"_{stem}_"
    token = next((each for each in sorted(tokens, key=len, reverse=True) if f"_{each}_" in whole), None)
    return stem if token is None else whole.replace(f"_{token}_", "_", 1).strip("_")


def _speed_bins(features: Features) -> NDArray[np.int64]:
    """Number of each road's range of speeds, -1 where it has no speed.

    Raises:
        DataError: No road has any.
    """
    field = next((name for name in SPEED_FIELDS if name in features.values), None)
    if field is None:
        raise DataError(
            f"{features.path}: roads have no speed",
            received=f"none of the attributes {', '.join(SPEED_FIELDS)}",
            remedy="Use the labels in geojson_roads_speed/, or write data.options.speeds = false to map `road` alone",
        )
    return np.array([_bin(value) for value in features.values[field].tolist()], np.int64)


def _bin(speed_mph: Any) -> int:
    try:
        speed = float(speed_mph)
    except (TypeError, ValueError):
        return -1
    if not (0.0 < speed < math.inf):
        return -1
    return min(math.ceil(speed / BIN_MPH), NUM_BINS) - 1


def _widths(num_roads: int, width_m: float) -> LineWidths:
    return LineWidths(np.full(num_roads, width_m), [f"{width_m:g}"] * num_roads, "Mend data.options.road_width_m")


def _by_speed(polygons: NDArray[Any], bins: NDArray[np.int64]) -> dict[str, tuple[BaseGeometry, ...]]:
    """Roads by their range of speeds; where two meet, the ground is the faster one's alone."""
    found: dict[str, tuple[BaseGeometry, ...]] = defaultdict(tuple)
    faster: BaseGeometry = shapely.MultiPolygon()
    for number in reversed(range(NUM_BINS)):
        merged = shapely.union_all(polygons[bins == number])
        rest = shapely.difference(merged, faster)
        if not rest.is_empty:
            found[SPEED_CLASSES[number]] = (rest,)
        faster = shapely.union(faster, merged)
    return dict(found)

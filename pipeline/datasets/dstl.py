"""The DSTL competition's folder, exactly as it comes: 20 bands in four files per scene, polygons in a CSV file."""

import csv
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import shapely
import tifffile
from numpy.typing import NDArray
from shapely.errors import ShapelyError

from pipeline.datasets.base import check_names, existing_file, existing_folder
from pipeline.datasets.worldview import MULTISPECTRAL, PAN, RGB, SHORT_WAVE_INFRARED
from pipeline.scene import Band, BandGroup, DataError, Georeference, PolygonLabels, Scene
from search_space.decode import Frozen, ListAsTuple, decode

logger = logging.getLogger(__name__)

CLASSES = (
    "buildings",
    "misc_structures",
    "road",
    "track",
    "trees",
    "crops",
    "waterway",
    "standing_water",
    "vehicle_large",
    "vehicle_small",
)
"""The ten classes; `ClassType` n in the files is `CLASSES[n - 1]`."""

FILES: Mapping[str, tuple[Band, ...]] = {
    "three_band/{}.tif": RGB,
    "sixteen_band/{}_P.tif": PAN,
    "sixteen_band/{}_M.tif": MULTISPECTRAL,
    "sixteen_band/{}_A.tif": SHORT_WAVE_INFRARED,
}
"""The four files of a scene and the bands in each, in the order of their planes; the first one is the grid."""

GROUPS = dict(zip(FILES, ("rgb", "pan", "m", "a"), strict=True))
"""Name of each file's group of bands; the sensors shot at slightly different moments."""

GRID = "rgb"
PIXEL_M = 0.31
"""Side of a pixel of the RGB image on the ground."""

SAME_GROUND = (("6110_1_2", "6140_1_2"), ("6110_3_1", "6140_3_1"))
"""Scenes of the same ground on two dates."""

LABELS, GRID_SIZES = "train_wkt_v4.csv", "grid_sizes.csv"
REMEDY = "Point data.folder to the folder that holds three_band/, sixteen_band/, train_wkt_v4.csv and grid_sizes.csv"


class DstlOptions(Frozen):
    """`[data.options]` of the format `dstl`.

    Attributes:
        scenes: The only scenes to look at; all where empty.
        labelled_only: Leave out scenes without labels. The real data set has 425 of them, about 1 GB each prepared.
    """

    scenes: Annotated[tuple[str, ...], ListAsTuple] = ()
    labelled_only: bool = False


class DstlAdapter:
    """The competition's folder as a data set.

    Args:
        folder: Holds `three_band/`, `sixteen_band/`, `train_wkt_v4.csv` and `grid_sizes.csv`.
        options: Plain `DstlOptions`.
    """

    same_ground = SAME_GROUND
    class_names = CLASSES
    bands = tuple(band for bands in FILES.values() for band in bands)

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self._folder = folder
        self._plain = options
        self._options = decode(DstlOptions, options, where="data.options")
        self._image: Path | None = None

    @cached_property
    def scene_ids(self) -> tuple[str, ...]:
        """Scenes that have a file in `three_band/`, as far as the options let them in."""
        if self._image is not None:
            return (self._image.stem,)
        present = sorted(path.stem for path in (self._folder / "three_band").glob("[!.]*.tif"))
        check_names("data.options.scenes: the scene", self._options.scenes, present)
        wanted = self._options.scenes or present
        return tuple(
            name for name in present if name in wanted and (name in self._wkt or not self._options.labelled_only)
        )

    def check(self) -> None:
        """See `Adapter.check`."""
        existing_folder(self._folder, REMEDY)
        existing_folder(self._folder / "three_band", REMEDY)
        for name in (LABELS, GRID_SIZES):
            existing_file(self._folder / name, REMEDY)
        if not self.scene_ids:
            raise DataError("No scene was found", received=str(self._folder / "three_band" / "*.tif"), remedy=REMEDY)
        missing = sorted(set(self._wkt) - {path.stem for path in (self._folder / "three_band").glob("*.tif")})
        if missing:
            logger.warning("%s labels %d scenes that have no image: %s", LABELS, len(missing), ", ".join(missing[:10]))

    def sources(self, scene_id: str, bands: Collection[str]) -> tuple[Path, ...]:
        """See `Adapter.sources`; both CSV files are sources of every scene."""
        images = tuple(self._path(scene_id, pattern) for pattern in _needed(bands))
        if self._image is not None:
            return (*images, *filter(Path.is_file, (self._folder / GRID_SIZES,)))
        return (*images, self._folder / LABELS, self._folder / GRID_SIZES)

    def read(self, scene_id: str, bands: Collection[str]) -> Scene:
        """See `Adapter.read`."""
        groups = tuple(self._read_group(scene_id, pattern) for pattern in _needed(bands))
        height, width = groups[0].planes.shape[1:]
        if self._image is not None:
            return Scene(scene_id, height, width, groups, None, self._place_of_image(scene_id), PIXEL_M)
        if scene_id not in self._grid_sizes:
            raise DataError(
                f"{self._folder / GRID_SIZES}: the scene has no row", received=scene_id, remedy="Restore the file"
            )
        xmax, ymin = self._grid_sizes[scene_id]
        georeference = Georeference(xmax=xmax, ymin=ymin)
        labels = None
        if scene_id in self._wkt:
            labels = PolygonLabels(
                {
                    CLASSES[number - 1]: (georeference.to_pixels(self._parse(wkt, scene_id, number), height, width),)
                    for number, wkt in self._wkt[scene_id].items()
                }
            )
        return Scene(scene_id, height, width, groups, labels, georeference, PIXEL_M)

    def of_image(self, path: Path) -> Self:
        """See `Adapter.of_image`; the other files of a scene are found from one in a folder `three_band/`."""
        other = type(self)(path.absolute().parents[1], self._plain)
        other._image = path
        return other

    def _place_of_image(self, scene_id: str) -> Georeference:
        if (self._folder / GRID_SIZES).is_file() and scene_id in self._grid_sizes:
            xmax, ymin = self._grid_sizes[scene_id]
            return Georeference(xmax=xmax, ymin=ymin)
        return Georeference()

    def _path(self, scene_id: str, pattern: str) -> Path:
        if self._image is not None and GROUPS[pattern] == GRID:
            return self._image
        if self._image is not None and self._image.absolute() != self._folder / next(iter(FILES)).format(scene_id):
            raise DataError(
                f"{self._image}: one file does not hold all bands of the study",
                remedy="Name the file in a folder three_band/ that has sixteen_band/ beside it, as the competition has",
            )
        return self._folder / pattern.format(scene_id)

    def _read_group(self, scene_id: str, pattern: str) -> BandGroup:
        path = existing_file(self._path(scene_id, pattern), "Fetch it again, or leave its bands out of data.bands")
        names = tuple(band.name for band in FILES[pattern])
        planes = read_planes(path, len(names))
        group = GROUPS[pattern]
        return BandGroup(names, planes, path, name=group, may_be_shifted=group != GRID)

    def _parse(self, wkt: str, scene_id: str, number: int) -> Any:
        try:
            return shapely.from_wkt(wkt)
        except ShapelyError as error:
            raise DataError(
                f"{self._folder / LABELS}: the polygons of {scene_id}, class {number}, cannot be read: {error}",
                received=wkt[:40],
                remedy="Fetch the file again",
            ) from None

    @cached_property
    def _wkt(self) -> dict[str, dict[int, str]]:
        """Scene id to class number to WKT."""
        table: dict[str, dict[int, str]] = {}
        for line, row in _rows(self._folder / LABELS):
            with _told_by_line(self._folder / LABELS, line, row):
                scene_id, number, wkt = row[0], int(row[1]), row[2]
                if not 1 <= number <= len(CLASSES):
                    raise ValueError(f"ClassType must be 1 to {len(CLASSES)}")
            table.setdefault(scene_id, {})[number] = wkt
        return table

    @cached_property
    def _grid_sizes(self) -> dict[str, tuple[float, float]]:
        """Scene id to Xmax and Ymin; columns go by position, as the first one has no name."""
        table: dict[str, tuple[float, float]] = {}
        for line, row in _rows(self._folder / GRID_SIZES):
            with _told_by_line(self._folder / GRID_SIZES, line, row):
                xmax, ymin = float(row[1]), float(row[2])
                if not (0 < xmax < np.inf and -np.inf < ymin < 0):
                    raise ValueError("Xmax must be above 0 and Ymin below 0")
            table[row[0]] = (xmax, ymin)
        return table


def read_planes(path: Path, num_bands: int) -> NDArray[Any]:
    """Read a TIFF file of `num_bands` planes, whether bands come first or last.

    Returns:
        `(num_bands, H, W)` in the file's own type.

    Raises:
        DataError: The file is corrupt or cut short, or has another number of bands.
    """
    try:
        pixels: NDArray[Any] = np.asarray(tifffile.imread(path))
    except MemoryError:
        raise
    except Exception as error:
        # Damaged bytes make the reader and its codecs raise nearly anything.
        raise DataError(f"{path}: the TIFF file cannot be read: {error}", remedy="Fetch it again") from error
    shape = pixels.shape
    if pixels.ndim == 2:
        pixels = pixels[np.newaxis]
    elif pixels.ndim == 3 and shape[0] != num_bands and shape[-1] == num_bands:
        pixels = np.moveaxis(pixels, -1, 0)
    if pixels.ndim != 3 or len(pixels) != num_bands or 0 in pixels.shape:
        raise DataError(
            f"{path}: the file must have {num_bands} {'band' if num_bands == 1 else 'bands'}",
            received=shape,
            remedy="Fetch it again: it may be cut short",
        )
    return pixels


def _needed(bands: Collection[str]) -> Iterator[str]:
    """Patterns of the files that hold one of `bands`; the first one always, as it is the grid."""
    for pattern, group in FILES.items():
        if GROUPS[pattern] == GRID or any(band.name in bands for band in group):
            yield pattern


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row below the header."""
    # One cell may hold a megabyte of WKT; the limit of the csv module is 128 kB.
    csv.field_size_limit(2**31 - 1)
    existing_file(path, REMEDY)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        next(reader, None)
        for row in reader:
            if row:
                yield reader.line_num, row


@contextmanager
def _told_by_line(path: Path, line: int, row: list[str]) -> Iterator[None]:
    """Turn what a bad row raises into one line with the file and the row."""
    try:
        yield
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path}, line {line}: the row cannot be read: {error}",
            received=[cell[:30] for cell in row],
            remedy="Fetch the file again",
        ) from None

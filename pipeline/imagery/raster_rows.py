"""Maps as GeoTIFF, written and read by rows: whole or not at all."""

import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.windows import Window

from pipeline.files import written_beside
from pipeline.scene import Georeference
from search_space.errors import MapgroveError

PROBABILITY_STEPS = 254
NO_DATA = 255
BLOCK_PX = 256
"""Side of the tiles within a file, and rows that are best written at a time."""


class RasterError(MapgroveError, ValueError):
    """A map that cannot be written or read."""


@dataclass(frozen=True)
class Numbers:
    """What kind of numbers a file holds.

    Attributes:
        dtype: Their type, as GDAL knows it.
        nodata: The number that means no data.
        scale: What one step means.
        bits: Of a number, where they are fewer than those of its type.
    """

    dtype: str
    nodata: float
    scale: float = 1.0
    bits: int | None = None


MASKS = Numbers("uint8", NO_DATA)
PROBABILITIES = {
    "uint8": Numbers("uint8", NO_DATA, 1.0 / PROBABILITY_STEPS),
    "float16": Numbers("float32", float("nan"), bits=16),
}
"""By the name under which a study asks for them. GDAL knows halves as what is left of a longer number."""
INSTANCES = Numbers("int32", 0)


class MapWriter:
    """A file that is being written.

    Args:
        target: As rasterio opened it.
        numbers: What it holds.
    """

    def __init__(self, target: Any, numbers: Numbers) -> None:
        self._target = target
        self._numbers = numbers
        self.sums: list[tuple[Window, int]] = []
        """A checksum of each stretch that was written."""

    def write(self, first_row: int, rows: npt.NDArray[np.generic]) -> None:
        """Write rows `(h, W, K)`, best as many as `BLOCK_PX` at a time, from a multiple of it on."""
        window = Window(0, first_row, rows.shape[1], rows.shape[0])
        planes = np.ascontiguousarray(np.moveaxis(rows, -1, 0), self._numbers.dtype)
        self._target.write(planes, window=window)
        self.sums.append((window, zlib.crc32(planes.data)))


@contextmanager
def map_writer(
    path: Path, shape: tuple[int, int], georeference: Georeference, names: Sequence[str], numbers: Numbers
) -> Iterator[MapWriter]:
    """Write a map as a tiled, compressed GeoTIFF with one named band per class; whole or not at all.

    Args:
        path: File to write.
        shape: Rows and columns.
        georeference: Where the scene lies.
        names: Of the bands.
        numbers: What they hold.

    Raises:
        RasterError: An unknown CRS, or it cannot be written.
    """
    height, width = shape
    affine = georeference.affine(height, width)
    profile = {
        "driver": "GTiff",
        "dtype": numbers.dtype,
        "height": height,
        "width": width,
        "count": len(names),
        "crs": _known_crs(georeference.crs),
        "transform": None if affine is None else rasterio.Affine(*affine),
        "nodata": numbers.nodata,
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "compress": "deflate",
        "interleave": "band",
        "bigtiff": "if_safer",
        **({} if numbers.bits is None else {"nbits": numbers.bits}),
    }
    try:
        with placeless_is_fine(), written_beside(path) as beside:
            with rasterio.open(beside, "w", **profile) as target:
                if numbers.scale != 1.0:
                    target.scales = (numbers.scale,) * len(names)
                for k, name in enumerate(names):
                    target.set_band_description(k + 1, name)
                writer = MapWriter(target, numbers)
                yield writer
            _check_whole(beside, writer.sums)
    except RasterioError as error:
        raise RasterError(f"{path} cannot be written", remedy="Check free space (df) and rights (ls -l)") from error


def _check_whole(path: Path, sums: Sequence[tuple[Window, int]]) -> None:
    """Read again what was written: GDAL tells nobody that a disk was full when it closed a file.

    Raises:
        RasterioError: It is not all there.
    """
    with rasterio.open(path) as source:
        for window, expected in sums:
            if zlib.crc32(np.ascontiguousarray(source.read(window=window)).data) != expected:
                raise RasterioIOError(f"{path} does not hold what was written")


def to_numbers(probabilities: npt.NDArray[np.float32], numbers: Numbers) -> npt.NDArray[np.generic]:
    """Probabilities in [0, 1], NaN where there is no data, as a file of this kind holds them."""
    if numbers.bits is not None:
        # Rounded here, so that what is read is what was written.
        return probabilities.astype(np.float16).astype(numbers.dtype)
    steps = np.clip(probabilities, 0.0, 1.0) * np.float32(PROBABILITY_STEPS) + np.float32(0.5)
    stored: npt.NDArray[np.uint8] = np.where(np.isnan(steps), np.float32(NO_DATA), steps).astype(np.uint8)
    return stored


def mask_numbers(
    masks: npt.NDArray[np.bool_] | npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Masks `(h, W, K)` as a file holds them: 1 where a class is, 0 where it is not, 255 where there is no data."""
    return np.where(valid[..., None], masks > 0, np.uint8(NO_DATA))


@contextmanager
def placeless_is_fine() -> Iterator[None]:
    """Scenes without a place on Earth are normal here, so rasterio need not warn of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _known_crs(text: str | None) -> CRS | None:
    try:
        return None if text is None else CRS.from_user_input(text)
    except CRSError as error:
        raise RasterError("the scene's CRS is not known", received=text) from error

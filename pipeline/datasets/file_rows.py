"""Large image files, of which rows are read when they are asked for."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from pipeline.imagery.raster_rows import placeless_is_fine
from pipeline.scene import LARGEST, DataError, RowPlanes

logger = logging.getLogger(__name__)

DRIVERS = ("GTiff", "VRT", "JP2OpenJPEG", "HFA")
"""Of which some rows can be read without all of them."""


class FileRows:
    """A file that is opened once, and keeps the rows that were read last: bands are asked for, and then validity.

    Args:
        path: The file, whose bands are no palette.
        has_alpha: Whether its last band says, by 0, where there is no data.
    """

    def __init__(self, path: Path, *, has_alpha: bool) -> None:
        self.path = path
        with placeless_is_fine():
            self._source = rasterio.open(path)
        flags = self._source.mask_flag_enums[0]
        self._has_alpha = has_alpha
        self._has_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        self._kept: tuple[int, int, NDArray[Any], NDArray[np.bool_] | None] | None = None
        self.shape: tuple[int, int, int] = (self._source.count, self._source.height, self._source.width)
        self.dtype = np.result_type(*self._source.dtypes)
        self._has_told = False
        self.nodata: float | None = None
        """The value that means no data."""

    @property
    def has_holes(self) -> bool:
        """Whether pixels may be without data."""
        return self._has_alpha or self._has_mask or self.nodata is not None

    def read(self, first: int, stop: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Rows of all bands `(B, h, W)`, and where there is data `(h, W)`; None for everywhere.

        Raises:
            DataError: They cannot be read, or hold what is no measurement.
        """
        if self._kept is None or self._kept[:2] != (first, stop):
            self._kept = (first, stop, *self._read(first, stop))
        return self._kept[2:]

    def _read(self, first: int, stop: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        window = Window(0, first, self.shape[2], stop - first)
        try:
            planes: NDArray[Any] = self._source.read(window=window)
            opaque: NDArray[np.bool_] | None = None
            if self._has_alpha:
                opaque = planes[-1] > 0
            if self._has_mask:
                opaque = self._source.read_masks(1, window=window) > 0
        except (RasterioError, OSError) as error:
            reason = error.__cause__ or error
            raise DataError(
                f"{self.path}: the picture cannot be read: {reason}", remedy="Fetch or export it again"
            ) from error
        valid = self._valid(planes, opaque)
        self._check(planes, valid)
        return planes, valid

    def _valid(self, planes: NDArray[Any], opaque: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        if self.nodata is None:
            return opaque
        valid, num_partly = pixels_with_data(planes, self.nodata)
        if num_partly and not self._has_told:
            self._has_told = True
            tell_partly(self.path, "pixels", self.nodata)
        return valid if opaque is None else valid & opaque

    def _check(self, planes: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        if not np.issubdtype(planes.dtype, np.floating):
            return
        # Not-a-number compares as False too.
        bad = ~(np.abs(planes) <= LARGEST)
        num_bad = int(np.count_nonzero(bad if valid is None else bad & valid))
        if num_bad:
            raise DataError(
                f"{self.path}: pixels must be numbers up to {LARGEST:.0e}",
                received=f"{num_bad} not-a-number, infinite or larger pixels",
                remedy="Replace them, or mark them as no-data in the file or with the option `nodata`",
            )


def pixels_with_data(planes: NDArray[Any], nodata: float) -> tuple[NDArray[np.bool_], int]:
    """Find where planes `(B, h, w)` have data, by the value that means none.

    Returns:
        Bool `(h, w)`. One band may hold the value by chance, so a hole shows in all of them; not-a-number makes a hole
        in any. And how many pixels have the value in some bands only, where no measurement would be below 0.
    """
    is_nan = bool(np.isnan(nodata))
    empty = np.isnan(planes) if is_nan else planes == nodata
    valid: NDArray[np.bool_] = ~(empty.any(axis=0) if is_nan else empty.all(axis=0))
    return valid, int(np.count_nonzero(valid & empty.any(axis=0))) if nodata < 0 else 0


def tell_partly(path: Path, which: str, nodata: float) -> None:
    """Warn of pixels that have the no-data value in some bands only."""
    logger.warning("%s: %s have the no-data value %g in some bands only, where it counts as data", path, which, nodata)


class FilePlanes(RowPlanes):
    """Some bands of a file, `(B, h, w)`.

    Args:
        rows: The file.
        positions: Of the bands in it.
    """

    def __init__(self, rows: FileRows, positions: list[int]) -> None:
        self.rows = rows
        self._positions = positions
        self.shape = (len(positions), *rows.shape[1:])
        self.dtype = rows.dtype

    def __len__(self) -> int:
        """How many bands there are."""
        return len(self._positions)

    def __getitem__(self, key: Any) -> Any:
        """Some bands, or some rows of all bands; anything else reads the whole file first."""
        if isinstance(key, list):
            return FilePlanes(self.rows, [self._positions[place] for place in key])
        if isinstance(key, tuple) and len(key) == 2 and key[0] == slice(None) and _is_rows(key[1]):
            first, stop, _ = key[1].indices(self.shape[1])
            return self.rows.read(first, stop)[0][self._positions]
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it."""
        return np.asarray(self[:, :], dtype)


class FileValid:
    """Where a file has data, bool `(h, w)`.

    Args:
        rows: The file.
    """

    ndim = 2
    dtype = np.dtype(bool)

    def __init__(self, rows: FileRows) -> None:
        self._rows = rows
        self.shape = rows.shape[1:]

    def __getitem__(self, key: Any) -> Any:
        """Some rows, also as `[None, first:stop]`; anything else reads the whole file first."""
        if _is_rows(key):
            first, stop, _ = key.indices(self.shape[0])
            valid = self._rows.read(first, stop)[1]
            return np.ones((stop - first, self.shape[1]), bool) if valid is None else valid
        if isinstance(key, tuple) and len(key) == 2 and key[0] is None and _is_rows(key[1]):
            return self[key[1]][None]
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it."""
        return np.asarray(self[:], dtype)


def _is_rows(key: Any) -> bool:
    return isinstance(key, slice) and key.step in (None, 1)


def can_be_read_by_rows(source: Any) -> bool:
    """Whether an open file's bands are plain numbers of which some rows can be read."""
    is_palette = source.colorinterp[0] == ColorInterp.palette
    is_complex = any(name.startswith("complex") for name in source.dtypes)
    return source.driver in DRIVERS and not is_palette and not is_complex

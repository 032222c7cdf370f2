"""Any picture or GeoTIFF as planes, with what the file says of its place and its holes."""

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from pipeline.datasets.base import existing_file
from pipeline.datasets.file_rows import (
    FilePlanes,
    FileRows,
    FileValid,
    can_be_read_by_rows,
    pixels_with_data,
    tell_partly,
)
from pipeline.scene import Affine, DataError

NoData = float | Literal["nan"]
"""A value that means no data, as an option gives it: TOML's own `nan` is refused with other non-numbers."""

MOST_BYTES = 256_000_000
"""A file that holds more is left on disk where rows of it are enough."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class RasterHeader:
    """What a file says of itself before any pixel is read.

    Attributes:
        num_bands: How many planes it has.
        height_px: Rows.
        width_px: Columns.
        crs: WKT, None where the file has none.
        transform: Pixel corners to map coordinates, None where the file has none.
    """

    num_bands: int
    height_px: int
    width_px: int
    crs: str | None
    transform: Affine | None


@dataclass(frozen=True)
class Raster:
    """One file's pixels.

    Attributes:
        planes: `(B, H, W)` in the file's own type.
        opaque: Bool `(H, W)` from the alpha channel of a PNG or a mask band, None where there is neither.
        nodata: The value that the file declares as no-data.
        crs: WKT, None where the file has none.
        transform: Pixel corners to map coordinates, None where the file has none.
        path: The file, for messages.
    """

    planes: NDArray[Any]
    opaque: NDArray[np.bool_] | None
    nodata: float | None
    crs: str | None
    transform: Affine | None
    path: Path


def read_raster(path: Path, *, unfold_palette: bool = True, by_rows: bool = False) -> Raster:
    """Read a whole file.

    Args:
        path: Anything that GDAL reads.
        unfold_palette: Turn the numbers of a palette into its colours; otherwise they stay numbers.
        by_rows: Leave a large file on disk, where that can be, and read its rows when they are asked for.

    Raises:
        DataError: It is missing, not a picture, corrupt, cut short, or holds complex numbers.
    """
    with _opened(path) as source:
        size = source.count * source.height * source.width * max(np.dtype(name).itemsize for name in source.dtypes)
        if by_rows and size > MOST_BYTES and can_be_read_by_rows(source):
            return _by_rows(path, source)
        return _read(source, unfold_palette)


def files_of(path: Path) -> tuple[Path, ...]:
    """All files that make a raster what it is: world files, masks and statistics beside it, sources of a VRT.

    Raises:
        RasterioError: It is no picture.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as source:
            return tuple(Path(name) for name in source.files)


def read_header(path: Path) -> RasterHeader:
    """Read what a file says of itself, without its pixels.

    Raises:
        DataError: It is missing or not a picture.
    """
    with _opened(path) as source:
        crs, transform = _place(source)
        return RasterHeader(source.count, source.height, source.width, crs, transform)


def valid_pixels(raster: Raster, nodata: NoData | None) -> NDArray[np.bool_] | None:
    """Find where a raster has data.

    Args:
        raster: As read.
        nodata: The value that means no data; what the file declares where None.

    Returns:
        Bool `(H, W)`, None where there is data everywhere; see `pixels_with_data`.
    """
    value = raster.nodata if nodata is None else float(nodata)
    planes: Any = raster.planes
    if isinstance(planes, FilePlanes):
        planes.rows.nodata = value
        return cast("NDArray[np.bool_]", FileValid(planes.rows)) if planes.rows.has_holes else None
    if value is None:
        return raster.opaque
    valid, num_partly = pixels_with_data(raster.planes, value)
    if num_partly:
        tell_partly(raster.path, f"{num_partly} pixels", value)
    return valid if raster.opaque is None else valid & raster.opaque


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    existing_file(path, "It may have been moved while it was needed; put it back")
    _refuse_cut_png(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                yield source
    except (RasterioError, OSError) as error:
        reason = error.__cause__ or error
        raise DataError(f"{path}: the picture cannot be read: {reason}", remedy="Fetch or export it again") from error


def _read(source: Any, unfold_palette: bool) -> Raster:
    planes: NDArray[Any] = source.read()
    if np.iscomplexobj(planes):
        raise DataError(f"{source.name}: bands must be real numbers", received=str(planes.dtype))
    opaque, nodata = None, None if source.nodata is None else float(source.nodata)
    if unfold_palette and source.colorinterp[0] == ColorInterp.palette:
        # What has no data is told by numbers of the palette, not by colours.
        opaque, nodata = _opaque_codes(planes[0], source.colormap(1), nodata), None
        planes = _unfold(planes[0], source.colormap(1))
    elif source.driver == "PNG" and source.colorinterp[-1] == ColorInterp.alpha:
        # GeoTIFF writers mark a fourth band as alpha without being asked: there it is near infrared more often.
        planes, opaque = planes[:-1], planes[-1] > 0
    elif source.colorinterp[-1] == ColorInterp.alpha and len(planes) > 1 and _is_mask(planes[-1]):
        # It stays a band, as others of the data set may hold near infrared there; but where it is 0 there is nothing.
        opaque = planes[-1] > 0
    flags = source.mask_flag_enums[0]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        opaque = source.read_masks(1) > 0
    crs, transform = _place(source)
    return Raster(planes=planes, opaque=opaque, nodata=nodata, crs=crs, transform=transform, path=Path(source.name))


def _by_rows(path: Path, source: Any) -> Raster:
    has_alpha = source.colorinterp[-1] == ColorInterp.alpha and source.count > 1 and _is_mask_by_rows(source)
    rows = FileRows(path, has_alpha=has_alpha)
    nodata = None if source.nodata is None else float(source.nodata)
    crs, transform = _place(source)
    planes = cast("NDArray[Any]", FilePlanes(rows, list(range(source.count))))
    return Raster(planes=planes, opaque=None, nodata=nodata, crs=crs, transform=transform, path=path)


def _is_mask_by_rows(source: Any) -> bool:
    """`_is_mask` of the last band."""
    if not np.issubdtype(np.dtype(source.dtypes[-1]), np.integer):
        return False
    most, is_there = np.iinfo(source.dtypes[-1]).max, False
    for _, window in source.block_windows(source.count):
        plane = source.read(source.count, window=window)
        if not ((plane == 0) | (plane == most)).all():
            return False
        is_there |= bool(plane.any())
    return is_there


def _place(source: Any) -> tuple[str | None, Affine | None]:
    """CRS as WKT and transform; GDAL gives the identity to a file that has none."""
    placed = source.crs is not None or not source.transform.is_identity
    return source.crs.to_wkt() if source.crs else None, tuple(source.transform)[:6] if placed else None


def _opaque_codes(codes: NDArray[Any], palette: dict[int, tuple[int, ...]], nodata: float | None) -> NDArray[np.bool_]:
    clear = [code for code, colour in palette.items() if len(colour) > 3 and colour[3] == 0]
    opaque: NDArray[np.bool_] = ~np.isin(codes, [*clear, *(() if nodata is None else (nodata,))])
    return opaque


def _is_mask(plane: NDArray[Any]) -> bool:
    """Whether a plane holds nothing but 0 and the highest number of its type."""
    if not np.issubdtype(plane.dtype, np.integer):
        return False
    return bool(((plane == 0) | (plane == np.iinfo(plane.dtype).max)).all() and plane.any())


def _unfold(codes: NDArray[Any], palette: dict[int, tuple[int, ...]]) -> NDArray[np.uint8]:
    colours = np.zeros((max(*palette, int(codes.max())) + 1, 3), np.uint8)
    for code, colour in palette.items():
        colours[code] = colour[:3]
    return np.moveaxis(colours[codes], -1, 0)


def _refuse_cut_png(path: Path) -> None:
    """GDAL fills what is missing of a cut PNG with zeros and says nothing, so its chunks are checked here."""
    with path.open("rb") as file:
        if file.read(8) != _PNG_SIGNATURE:
            return
        while True:
            head = file.read(8)
            length, kind = int.from_bytes(head[:4]), head[4:]
            body = file.read(length) if len(head) == 8 else b""
            check = file.read(4)
            if len(check) < 4 or zlib.crc32(kind + body) != int.from_bytes(check):
                raise DataError(f"{path}: the PNG file is cut short or damaged", remedy="Fetch or export it again")
            if kind == b"IEND":
                return

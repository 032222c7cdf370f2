"""Maps as files: probabilities and masks as GeoTIFF, pictures as PNG."""

import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError, RasterioIOError

from pipeline.files import written_beside
from pipeline.imagery.drawing import Masks, Picture, compose, draw_overlay, to_display_size
from pipeline.scene import Georeference
from search_space.errors import MapgroveError

PROBABILITY_STEPS = 254
NO_DATA = 255

_NODATA = {"uint8": NO_DATA, "int32": 0}

OVERLAY_SIDE_PX = (480, 1600)
PANEL_SIDE_PX = (400, 900)


class RasterError(MapgroveError, ValueError):
    """A map that cannot be written or read."""


@dataclass(frozen=True)
class ProbabilityMap:
    """Probabilities as read from a file.

    Attributes:
        probabilities: float32 `(H, W, K)`, NaN where there is no data.
        classes: K names.
    """

    probabilities: npt.NDArray[np.float32]
    classes: tuple[str, ...]


def write_probabilities(
    path: Path, probabilities: npt.NDArray[np.float32], georeference: Georeference, classes: Sequence[str]
) -> None:
    """Write probabilities as a tiled, compressed GeoTIFF with one named band per class; whole or not at all.

    A byte holds 0 to 254 for probabilities from 0 to 1, and 255 where there is no data; the file's scale tells a GIS.

    Args:
        path: File to write.
        probabilities: float32 `(H, W, K)` in [0, 1], NaN where there is no data.
        georeference: Where the scene lies.
        classes: K names.

    Raises:
        RasterError: Shapes that do not belong together, or an unknown CRS.
    """
    _check_bands(probabilities.shape, classes)
    scale = 1.0 / PROBABILITY_STEPS
    _write(path, lambda k: _to_bytes(probabilities[..., k]), probabilities.shape, georeference, classes, scale=scale)


def read_probabilities(path: Path) -> ProbabilityMap:
    """Read what `write_probabilities` wrote, exact to half a step of 1/254.

    Raises:
        RasterError: No such file, or one of another kind.
    """
    stored, classes, scaled = _read(path)
    if not scaled:
        raise RasterError(f"{path} holds no probabilities", remedy="Name a file that `predict` wrote")
    probabilities = stored.astype(np.float32) / np.float32(PROBABILITY_STEPS)
    probabilities[stored == NO_DATA] = np.nan
    return ProbabilityMap(probabilities, classes)


def read_masks(path: Path) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Read what `write_masks` wrote: 0 or 1 `(H, W, K)`, 0 where there is no data, and the K names.

    Raises:
        RasterError: No such file, or one of another kind.
    """
    stored, classes, scaled = _read(path)
    if scaled or np.any((stored > 1) & (stored < NO_DATA)):
        raise RasterError(f"{path} holds no masks", remedy="Name a file that `predict` wrote")
    stored[stored == NO_DATA] = 0
    return stored, classes


def write_masks(
    path: Path,
    masks: Masks,
    valid: npt.NDArray[np.bool_],
    georeference: Georeference,
    classes: Sequence[str],
) -> None:
    """Write masks as a tiled, compressed GeoTIFF with one named band per class; whole or not at all.

    A byte is 1 where the class is, 0 where it is not, and 255 where there is no data.

    Args:
        path: File to write.
        masks: Bool or 0/1 `(H, W, K)`.
        valid: Bool `(H, W)`, False where there is no data.
        georeference: Where the scene lies.
        classes: K names.

    Raises:
        RasterError: Shapes that do not belong together, or an unknown CRS.
    """
    _check_bands(masks.shape, classes)
    if valid.shape != masks.shape[:2]:
        raise RasterError("masks and the pixels with data must be of one size", received=(masks.shape, valid.shape))
    _write(path, lambda k: np.where(valid, masks[..., k] > 0, NO_DATA), masks.shape, georeference, classes)


def write_instances(
    path: Path, labels: npt.NDArray[np.int32], georeference: Georeference, classes: Sequence[str]
) -> None:
    """Write instances as a tiled, compressed GeoTIFF of int32 with one named band per class; whole or not at all.

    A pixel is the number of the thing it belongs to, from 1 on, and 0 outside and where there is no data.

    Args:
        path: File to write.
        labels: int32 `(H, W, K)`.
        georeference: Where the scene lies.
        classes: K names.

    Raises:
        RasterError: Shapes that do not belong together, or an unknown CRS.
    """
    _check_bands(labels.shape, classes)
    _write(path, lambda k: labels[..., k], labels.shape, georeference, classes, dtype="int32")


def read_instances(path: Path) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Read what `write_instances` wrote: int32 `(H, W, K)` and the K names.

    Raises:
        RasterError: No such file, or one of another kind.
    """
    stored, classes, _ = _read(path, "int32")
    return stored, classes


def write_picture(path: Path, rgb: Picture) -> None:
    """Write uint8 `(H, W, 3)` RGB as PNG; whole or not at all."""
    done, data = cv2.imencode(".png", rgb[..., ::-1])
    if not done:
        raise OSError(f"{path}: OpenCV could not encode a picture of the shape {rgb.shape}")
    with written_beside(path) as beside:
        beside.write_bytes(data.tobytes())


def write_overlay_png(path: Path, rgb: Picture, masks: Masks, classes: Sequence[str], title: str = "") -> None:
    """Write a quick-look: the classes drawn over the imagery, with a legend.

    Args:
        path: PNG to write.
        rgb: uint8 `(H, W, 3)`.
        masks: bool or 0/1 `(H, W, K)`.
        classes: K names.
        title: Written above.

    Raises:
        DrawingError: Shapes that do not belong together.
    """
    picture, shown = to_display_size(rgb, masks, OVERLAY_SIDE_PX)
    write_picture(path, compose([(title, draw_overlay(picture, shown, classes))], classes))


def write_comparison_png(path: Path, rgb: Picture, truth: Masks, predicted: Masks, classes: Sequence[str]) -> None:
    """Write three panels side by side, imagery, truth and prediction, with a legend below.

    Args:
        path: PNG to write.
        rgb: uint8 `(H, W, 3)`.
        truth: bool or 0/1 `(H, W, K)`.
        predicted: bool or 0/1 `(H, W, K)`.
        classes: K names.

    Raises:
        DrawingError: Shapes that do not belong together.
    """
    picture, true = to_display_size(rgb, truth, PANEL_SIDE_PX)
    _, found = to_display_size(rgb, predicted, PANEL_SIDE_PX)
    panels = [
        ("Image", picture),
        ("Truth", draw_overlay(picture, true, classes)),
        ("Prediction", draw_overlay(picture, found, classes)),
    ]
    write_picture(path, compose(panels, classes))


def _write(
    path: Path,
    band: Callable[[int], npt.NDArray[np.integer]],
    shape: tuple[int, ...],
    georeference: Georeference,
    classes: Sequence[str],
    *,
    scale: float = 1.0,
    dtype: str = "uint8",
) -> None:
    height, width, count = shape
    affine = georeference.affine(height, width)
    profile = {
        "driver": "GTiff",
        "dtype": dtype,
        "height": height,
        "width": width,
        "count": count,
        "crs": _known_crs(georeference.crs),
        "transform": None if affine is None else rasterio.Affine(*affine),
        "nodata": _NODATA[dtype],
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "interleave": "band",
        "bigtiff": "if_safer",
    }
    try:
        with _placeless_is_fine(), written_beside(path) as beside:
            sums = []
            with rasterio.open(beside, "w", **profile) as target:
                if scale != 1.0:
                    target.scales = (scale,) * count
                for k, name in enumerate(classes):
                    numbers = band(k).astype(dtype, copy=False)
                    sums.append(_sum_of(numbers))
                    target.write(numbers, k + 1)
                    target.set_band_description(k + 1, name)
            _check_whole(beside, sums)
    except RasterioError as error:
        raise RasterError(f"{path} cannot be written", remedy="Check free space (df) and rights (ls -l)") from error


def _check_whole(path: Path, sums: Sequence[int]) -> None:
    """Read again what was written: GDAL tells nobody that a disk was full when it closed a file.

    Raises:
        RasterioError: It is not all there.
    """
    with rasterio.open(path) as source:
        if [_sum_of(source.read(k + 1)) for k in range(len(sums))] != list(sums):
            raise RasterioIOError(f"{path} does not hold what was written")


def _sum_of(numbers: npt.NDArray[np.integer]) -> int:
    return zlib.crc32(np.ascontiguousarray(numbers).data)


def _known_crs(text: str | None) -> CRS | None:
    try:
        return None if text is None else CRS.from_user_input(text)
    except CRSError as error:
        raise RasterError("the scene's CRS is not known", received=text) from error


def _to_bytes(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    steps = np.clip(probabilities, 0.0, 1.0) * np.float32(PROBABILITY_STEPS) + np.float32(0.5)
    stored: npt.NDArray[np.uint8] = np.where(np.isnan(steps), np.float32(NO_DATA), steps).astype(np.uint8)
    return stored


def _read(path: Path, dtype: str = "uint8") -> tuple[npt.NDArray[Any], tuple[str, ...], bool]:
    """Numbers `(H, W, K)`, the names of the bands, and whether the numbers are steps of a scale."""
    try:
        with _placeless_is_fine(), rasterio.open(path) as source:
            if set(source.dtypes) != {dtype} or source.nodata != _NODATA[dtype]:
                raise RasterError(f"{path} is no map of this kind", remedy="Name a file that `predict` wrote")
            stored = np.moveaxis(source.read(), 0, -1)
            classes = tuple(name or f"class {k + 1}" for k, name in enumerate(source.descriptions))
            return stored, classes, set(source.scales) != {1.0}
    except RasterioError as error:
        raise RasterError(f"{path} cannot be read as a GeoTIFF", received=str(error)) from error


def _check_bands(shape: tuple[int, ...], classes: Sequence[str]) -> None:
    if len(shape) != 3 or shape[2] != len(classes) or 0 in shape:
        raise RasterError(f"a map of {len(classes)} classes must be (H, W, {len(classes)})", received=shape)


@contextmanager
def _placeless_is_fine() -> Iterator[None]:
    """Scenes without a place on Earth are normal here, so rasterio need not warn of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield

"""Maps as files: probabilities and masks as GeoTIFF, pictures as PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError

from pipeline.files import written_beside
from pipeline.imagery.drawing import Masks, Picture, compose, draw_overlay, to_display_size
from pipeline.imagery.raster_rows import (
    BLOCK_PX,
    INSTANCES,
    MASKS,
    NO_DATA,
    PROBABILITIES,
    PROBABILITY_STEPS,
    Numbers,
    RasterError,
    map_writer,
    mask_numbers,
    placeless_is_fine,
    to_numbers,
)
from pipeline.scene import Georeference

OVERLAY_SIDE_PX = (480, 1600)
PANEL_SIDE_PX = (400, 900)


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
    path: Path,
    probabilities: npt.NDArray[np.float32],
    georeference: Georeference,
    classes: Sequence[str],
    kind: str = "uint8",
) -> None:
    """Write probabilities as a tiled, compressed GeoTIFF with one named band per class; whole or not at all.

    A byte holds 0 to 254 for probabilities from 0 to 1, and 255 where there is no data; the file's scale tells a GIS.
    A half holds the probability, and not-a-number where there is no data.

    Args:
        path: File to write.
        probabilities: float32 `(H, W, K)` in [0, 1], NaN where there is no data.
        georeference: Where the scene lies.
        classes: K names.
        kind: "uint8" or "float16".

    Raises:
        RasterError: Shapes that do not belong together, or an unknown CRS.
    """
    numbers = PROBABILITIES[kind]
    _write(path, to_numbers(probabilities, numbers), georeference, classes, numbers)


def read_probabilities(path: Path) -> ProbabilityMap:
    """Read what `write_probabilities` wrote, exact to half a step of 1/254, or to 11 bits.

    Raises:
        RasterError: No such file, or one of another kind.
    """
    try:
        with placeless_is_fine(), rasterio.open(path) as source:
            is_half = set(source.dtypes) == {"float32"}
    except RasterioError as error:
        raise RasterError(f"{path} cannot be read as a GeoTIFF", received=str(error)) from error
    stored, classes, is_scaled = _read(path, PROBABILITIES["float16" if is_half else "uint8"])
    if is_half:
        return ProbabilityMap(stored, classes)
    if not is_scaled:
        raise RasterError(f"{path} holds no probabilities", remedy="Name a file that `predict` wrote")
    probabilities = stored.astype(np.float32) / np.float32(PROBABILITY_STEPS)
    probabilities[stored == NO_DATA] = np.nan
    return ProbabilityMap(probabilities, classes)


def read_masks(path: Path) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Read what `write_masks` wrote: 0 or 1 `(H, W, K)`, 0 where there is no data, and the K names.

    Raises:
        RasterError: No such file, or one of another kind.
    """
    stored, classes, is_scaled = _read(path, MASKS)
    if is_scaled or np.any((stored > 1) & (stored < NO_DATA)):
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
    _write(path, mask_numbers(masks, valid), georeference, classes, MASKS)


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
    _write(path, labels, georeference, classes, INSTANCES)


def read_instances(path: Path) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Read what `write_instances` wrote: int32 `(H, W, K)` and the K names.

    Raises:
        RasterError: No such file, or one of another kind.
    """
    stored, classes, _ = _read(path, INSTANCES)
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
    rows: npt.NDArray[np.generic],
    georeference: Georeference,
    classes: Sequence[str],
    numbers: Numbers,
) -> None:
    _check_bands(rows.shape, classes)
    with map_writer(path, (rows.shape[0], rows.shape[1]), georeference, classes, numbers) as writer:
        for first in range(0, len(rows), BLOCK_PX):
            writer.write(first, rows[first : first + BLOCK_PX])


def _read(path: Path, numbers: Numbers) -> tuple[npt.NDArray[Any], tuple[str, ...], bool]:
    """Numbers `(H, W, K)`, the names of the bands, and whether the numbers are steps of a scale."""
    try:
        with placeless_is_fine(), rasterio.open(path) as source:
            is_alike = source.nodata == numbers.nodata or (np.isnan(numbers.nodata) and np.isnan(source.nodata or 0.0))
            if set(source.dtypes) != {numbers.dtype} or not is_alike:
                raise RasterError(f"{path} is no map of this kind", remedy="Name a file that `predict` wrote")
            stored = np.moveaxis(source.read(), 0, -1)
            classes = tuple(name or f"class {k + 1}" for k, name in enumerate(source.descriptions))
            return stored, classes, set(source.scales) != {1.0}
    except RasterioError as error:
        raise RasterError(f"{path} cannot be read as a GeoTIFF", received=str(error)) from error


def _check_bands(shape: tuple[int, ...], classes: Sequence[str]) -> None:
    if len(shape) != 3 or shape[2] != len(classes) or 0 in shape:
        raise RasterError(f"a map of {len(classes)} classes must be (H, W, {len(classes)})", received=shape)

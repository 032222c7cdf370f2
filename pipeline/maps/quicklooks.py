"""Pictures of maps, of scenes of any size: what is larger than a screen is made smaller while it is read."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from pipeline.imagery.drawing import Picture, natural_bands, stretch_to_rgb8
from pipeline.imagery.raster_rows import NO_DATA, placeless_is_fine
from pipeline.imagery.rasters import write_comparison_png, write_overlay_png
from pipeline.preparation.normalisation import Imagery

MOST_PX = 4096
"""A longer side is made shorter, by a whole factor, before a picture is drawn."""

LEAST_SHARE = 0.33
"""A pixel that stands for several is of a class where so much of it is, so that thin things stay."""

ROWS = 256

Masks = NDArray[np.uint8]


def write_quicklooks(
    overlay: Path,
    comparison: Path,
    scene: Imagery,
    title: str,
    bands: Sequence[str],
    masks: Path,
    classes: Sequence[str],
    truth: Callable[[slice], Masks] | None = None,
) -> None:
    """Draw a map over its imagery and, where the truth is known, beside it.

    Args:
        overlay: PNG to write.
        comparison: PNG to write where the truth is known.
        scene: The imagery.
        title: Written above.
        bands: Names of its bands.
        masks: The map, as `write_masks` writes it.
        classes: K names.
        truth: Gives rows of it, uint8 `(h, W, K)`; None where nobody knows.
    """
    height, width = scene.valid.shape
    factor = -(-max(height, width) // MOST_PX)
    positions = [list(bands).index(name) for name in natural_bands(bands)]
    planes = _reduced(lambda rows: scene.cube[rows][..., positions], (height, width), factor)
    rgb: Picture = stretch_to_rgb8(planes, range(len(positions)))
    with placeless_is_fine(), rasterio.open(masks) as source:

        def drawn(rows: slice) -> NDArray[np.number]:
            window = Window(0, rows.start, width, rows.stop - rows.start)
            found = np.moveaxis(source.read(window=window), 0, -1)
            return np.where(found == NO_DATA, np.uint8(0), found)

        predicted = _classes(drawn, (height, width), factor)
    write_overlay_png(overlay, rgb, predicted, classes, title)
    if truth is not None:
        write_comparison_png(comparison, rgb, _classes(truth, (height, width), factor), predicted, classes)


def _classes(read: Callable[[slice], NDArray[np.number]], shape: tuple[int, int], factor: int) -> Masks:
    return (_reduced(read, shape, factor) > LEAST_SHARE).astype(np.uint8)


def _reduced(read: Callable[[slice], NDArray[np.number]], shape: tuple[int, int], factor: int) -> NDArray[np.float32]:
    """The means of squares of `factor` px, read by rows; what is left over at the ends is left out.

    Args:
        read: Rows `(h, W, C)` by a slice.
        shape: Rows and columns.
        factor: 1 leaves everything as it is. A side that is shorter becomes a single pixel.
    """
    high, wide = (min(factor, side) for side in shape)
    height, width = shape[0] // high, shape[1] // wide
    parts = []
    step = max(1, ROWS // high)
    for first in range(0, height, step):
        last = min(height, first + step)
        rows = np.asarray(read(slice(first * high, last * high)), np.float32)[:, : width * wide]
        squares = rows.reshape(last - first, high, width, wide, -1)
        parts.append(squares[:, 0, :, 0] if factor == 1 else squares.mean(axis=(1, 3)))
    return np.concatenate(parts)

"""Maps as files: probabilities and masks as GeoTIFF, pictures as PNG."""

from collections.abc import Sequence
from pathlib import Path

import cv2

from pipeline.atomic import written_beside
from pipeline.drawing import Masks, Picture, compose, draw_overlay, to_display_size

OVERLAY_SIDE_PX = (480, 1600)
PANEL_SIDE_PX = (400, 900)


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

"""Pictures of scenes: imagery as RGB, classes over it, legends and titles. Arrays in, arrays out.

Everything is RGB. The colours stay apart on green, brown and grey ground; where a class has a natural colour (water is
blue), its name finds it.
"""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from search_space.errors import MapgroveError

Picture = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_] | npt.NDArray[np.uint8]

PAPER = (250, 250, 248)
INK = (38, 42, 46)
NO_DATA = (52, 54, 58)

_PALETTE: tuple[tuple[tuple[int, int, int], tuple[str, ...]], ...] = (
    ((255, 64, 64), ("building", "built", "house", "roof", "urban")),
    ((255, 146, 26), ("misc", "manmade", "structure", "fence", "wall")),
    ((255, 96, 244), ("road", "street", "rail", "runway")),
    ((222, 166, 104), ("track", "path", "soil", "bare")),
    ((52, 214, 76), ("tree", "forest", "vegetation", "wood", "grass")),
    ((240, 232, 44), ("crop", "field", "farm", "agri")),
    ((24, 224, 255), ("waterway", "river", "stream", "canal")),
    ((40, 112, 255), ("water", "lake", "pond", "sea")),
    ((158, 84, 255), ("large", "truck", "bus", "ship")),
    ((255, 255, 255), ("small", "vehicle", "car", "boat")),
)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FILL_OPACITY = 0.42
_NATURAL_BANDS = (("red", "m_red"), ("green", "m_green"), ("blue", "m_blue"))
_STRETCH_SAMPLES = 1_000_000


class DrawingError(MapgroveError, ValueError):
    """Arrays that do not belong to one picture."""


def class_colours(classes: int | Sequence[str]) -> Picture:
    """Choose a clear colour for every class.

    Args:
        classes: Their names, in order, or only how many there are.

    Returns:
        uint8 `(K, 3)`, all different. A class takes the first free colour that its name asks for; the others take
        what is left, in order. Beyond ten classes further hues are made up.
    """
    names = [""] * classes if isinstance(classes, int) else [name.lower() for name in classes]
    free = [*_PALETTE, *((_extra_colour(i), ()) for i in range(max(0, len(names) - len(_PALETTE))))]
    colours: dict[int, tuple[int, int, int]] = {}
    for number, name in enumerate(names):
        wanted = next((entry for entry in free if any(word in name for word in entry[1])), None)
        if wanted is not None:
            colours[number] = wanted[0]
            free.remove(wanted)
    for number in range(len(names)):
        if number not in colours:
            colours[number] = free.pop(0)[0]
    return np.array([colours[number] for number in range(len(names))], np.uint8).reshape(-1, 3)


def _extra_colour(number: int) -> tuple[int, int, int]:
    """Golden-angle hues, each round of ten darker than the one before."""
    hue = (0.06 + number * 0.618034) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55, 0.35 + 0.6 / (1 + number // 10))
    return round(255 * red), round(255 * green), round(255 * blue)


def stretch_to_rgb8(
    cube: npt.NDArray[np.number], bands: Sequence[int], valid: npt.NDArray[np.bool_] | None = None
) -> Picture:
    """Turn three bands of a cube, or one, into a picture that a person can read.

    Args:
        cube: `(H, W, B)`, any numbers; may be a memory map, of which only `bands` are read.
        bands: Positions of red, green and blue, or a single band for grey.
        valid: bool `(H, W)`, True where there is data; NaN pixels never count as data.

    Returns:
        uint8 `(H, W, 3)`: each band stretched between its 2nd and 98th percentile over the data; no-data in dark grey.

    Raises:
        DrawingError: A band that the cube does not have, or neither one nor three bands.
    """
    if len(bands) not in (1, 3) or any(not 0 <= band < cube.shape[2] for band in bands):
        raise DrawingError(
            "a picture is made of one or three bands of the cube",
            received=list(bands),
            remedy=f"Choose among bands 0 to {cube.shape[2] - 1}",
        )
    planes = np.stack([np.asarray(cube[..., band], np.float32) for band in bands], axis=-1)
    shown = np.isfinite(planes).all(axis=-1)
    if valid is not None:
        shown &= valid
    picture = np.full((*cube.shape[:2], 3), NO_DATA, np.uint8)
    if shown.any():
        picture[shown] = _stretched(planes[shown])
    return picture


def natural_colour(
    cube: npt.NDArray[np.number], bands: Sequence[str], valid: npt.NDArray[np.bool_] | None = None
) -> Picture:
    """Turn a cube into a picture in natural colour, as far as it has the bands; else its first band in grey.

    Args:
        cube: `(H, W, B)`, any numbers; may be a memory map.
        bands: B names.
        valid: bool `(H, W)`, True where there is data.

    Returns:
        uint8 `(H, W, 3)`, stretched as by `stretch_to_rgb8`.
    """
    return stretch_to_rgb8(cube, [bands.index(name) for name in natural_bands(bands)], valid)


def natural_bands(bands: Sequence[str]) -> tuple[str, ...]:
    """Names of the red, green and blue band where all three are there; else the first band's."""
    found = [next((name for name in names if name in bands), None) for names in _NATURAL_BANDS]
    chosen = tuple(name for name in found if name is not None)
    return chosen if len(chosen) == len(found) else (bands[0],)


def _stretched(pixels: npt.NDArray[np.float32]) -> Picture:
    sample = pixels[:: max(1, len(pixels) // _STRETCH_SAMPLES)]
    low, high = np.percentile(sample, (2, 98), axis=0).astype(np.float32)
    span = np.where(high > low, high - low, np.float32(1.0))
    stretched: Picture = (np.clip((pixels - low) / span, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return stretched


def draw_overlay(rgb: Picture, masks: Masks, classes: Sequence[str]) -> Picture:
    """Draw classes over a picture, filled and outlined; small classes lie on top of large ones.

    Args:
        rgb: uint8 `(H, W, 3)`.
        masks: bool or 0/1 `(H, W, K)`.
        classes: K names; they choose the colours.

    Returns:
        A new uint8 `(H, W, 3)`.

    Raises:
        DrawingError: Other shapes.
    """
    _check_masks(rgb, masks, len(classes))
    picture = rgb.copy()
    colours = class_colours(classes)
    areas = np.array([np.count_nonzero(masks[..., k]) for k in range(len(classes))], np.int64)
    kernel = np.ones((3, 3), np.uint8)
    for k in np.argsort(-areas, kind="stable"):
        inside = np.ascontiguousarray(masks[..., k], dtype=np.uint8)
        where = inside > 0
        tinted = (1.0 - _FILL_OPACITY) * picture[where] + _FILL_OPACITY * colours[k]
        picture[where] = tinted.astype(np.uint8)
        core = cv2.erode(inside, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
        picture[where & (core == 0)] = colours[k]
    return picture


def to_display_size(rgb: Picture, masks: Masks, side_px: tuple[int, int]) -> tuple[Picture, npt.NDArray[np.bool_]]:
    """Bring a scene to a size that reads well on a screen: its longer side within `side_px`.

    Args:
        rgb: uint8 `(H, W, 3)`.
        masks: bool or 0/1 `(H, W, K)`.
        side_px: Least and greatest length of the longer side. Small scenes grow by whole factors.

    Returns:
        uint8 picture and bool masks. A shrunk pixel is of a class where a third of it is, so that thin things stay.

    Raises:
        DrawingError: Masks of another size.
    """
    _check_masks(rgb, masks, masks.shape[-1])
    height, width = rgb.shape[:2]
    longer = max(height, width)
    factor = min(1.0, side_px[1] / longer) if longer >= side_px[0] else float(max(1, side_px[0] // longer))
    if factor == 1.0:
        return rgb, masks.astype(bool)
    shape = (max(1, round(height * factor)), max(1, round(width * factor)))
    resized = cv2.resize(rgb, shape[::-1], interpolation=cv2.INTER_AREA if factor < 1.0 else cv2.INTER_CUBIC)
    return resized, resized_masks(masks, shape)


def resized_masks(masks: Masks, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Bring masks `(H, W, K)` to a size for the eye; a shrunk pixel is of a class where a third of it is."""
    how = cv2.INTER_AREA if shape[0] < masks.shape[0] else cv2.INTER_NEAREST
    shown = np.zeros((*shape, masks.shape[2]), bool)
    for k in range(masks.shape[2]):
        shown[..., k] = cv2.resize(masks[..., k].astype(np.float32), shape[::-1], interpolation=how) > 0.33
    return shown


def _check_masks(rgb: Picture, masks: Masks, num_classes: int) -> None:
    expected = (*rgb.shape[:2], num_classes)
    if masks.shape != expected:
        raise DrawingError(f"masks must have the shape {expected} of the picture and its classes", received=masks.shape)


def compose(panels: Sequence[tuple[str, Picture]], classes: Sequence[str] = ()) -> Picture:
    """Set pictures side by side on paper, a title over each and one legend below.

    Args:
        panels: Title (may be empty) and uint8 picture; all pictures of one height.
        classes: What the legend explains; no legend where empty.

    Returns:
        uint8 `(H, W, 3)`.
    """
    width = sum(picture.shape[1] for _, picture in panels)
    unit = max(8, min(28, max(panels[0][1].shape[0] // 34, width // 110), width // 18))
    columns = [_titled(title, picture, unit) for title, picture in panels]
    gap = np.full((columns[0].shape[0], unit, 3), PAPER, np.uint8)
    row = np.concatenate([part for column in columns for part in (gap, column)] + [gap], axis=1)
    parts = [row]
    if classes:
        parts.append(draw_legend(classes, row.shape[1], unit))
    parts.append(np.full((unit, row.shape[1], 3), PAPER, np.uint8))
    return np.concatenate(parts, axis=0)


def draw_legend(classes: Sequence[str], width_px: int, unit_px: int = 16) -> Picture:
    """Draw a strip with a swatch of colour and the name of every class, on as many lines as it needs.

    Args:
        classes: Names, in order.
        width_px: Width of the strip.
        unit_px: Size of a swatch; the lettering goes with it.

    Returns:
        uint8 `(H, width_px, 3)`.
    """
    unit = unit_px
    lines: list[list[tuple[int, str, int]]] = [[]]
    x = unit
    for name, length in ((name, _text_width(name, unit)) for name in classes):
        if lines[-1] and x + 2 * unit + length > width_px:
            lines.append([])
            x = unit
        lines[-1].append((x, name, length))
        x += 3 * unit + length
    strip = np.full((len(lines) * 2 * unit + unit // 2, width_px, 3), PAPER, np.uint8)
    colours = dict(zip(classes, class_colours(classes).tolist(), strict=True))
    for number, line in enumerate(lines):
        top = unit + 2 * unit * number
        for left, name, _ in line:
            cv2.rectangle(strip, (left, top), (left + unit - 1, top + unit - 1), colours[name], cv2.FILLED)
            cv2.rectangle(strip, (left, top), (left + unit - 1, top + unit - 1), INK, 1)
            _write(strip, name, (left + unit + unit // 2, top + unit - max(1, unit // 8)), unit)
    return strip


def _titled(title: str, picture: Picture, unit: int) -> Picture:
    strip = np.full((2 * unit + unit // 2 if title else unit, picture.shape[1], 3), PAPER, np.uint8)
    if title:
        _write(strip, title, (0, 2 * unit - unit // 4), unit)
    return np.concatenate([strip, picture], axis=0)


def _write(picture: Picture, text: str, at: tuple[int, int], unit: int) -> None:
    cv2.putText(picture, text, at, _FONT, unit / 24, INK, 1, cv2.LINE_AA)


def _text_width(text: str, unit: int) -> int:
    (width, _), _ = cv2.getTextSize(text, _FONT, unit / 24, 1)
    return int(width)

"""Looks at a painted landscape as the four sensors of the DSTL competition did: coarser, shifted, noisy, in counts."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.synthetic.spectra import Painting, in_counts, mixture

Plane = NDArray[np.float32]
Counts = NDArray[np.uint16]
Pixels = tuple[float, float]

MARGIN_PX = 24
"""Ground that is painted around the image, so that whatever a shift brings in is real."""

BLUR_PX = 0.45
"""Spread of a point by the optics, in pixels of the finest sensors: a shift by part of a pixel leaves no ringing."""


@dataclass(frozen=True)
class Sensor:
    """One of the four.

    Attributes:
        name: As the adapter calls its group of bands.
        bands: Which of the 20 it has.
        divisor: How much coarser its pixels are than those of RGB.
        highest: Its largest count.
        moment: When it looks, between 0 and 1; vehicles go on meanwhile.
        reach_px: How far it may be shifted against RGB, in pixels of RGB.
        noise: Deviation of its noise, in deviations of the band.
    """

    name: str
    bands: slice
    divisor: int
    highest: int
    moment: float
    reach_px: float
    noise: float


SENSORS = (
    Sensor("rgb", slice(0, 3), 1, 2**11 - 1, 0.0, 0.0, 0.10),
    Sensor("pan", slice(3, 4), 1, 2**11 - 1, 0.3, 2.5, 0.10),
    Sensor("m", slice(4, 12), 4, 2**11 - 1, 1.0, 5.5, 0.06),
    Sensor("a", slice(12, 20), 25, 2**14 - 1, 0.6, 5.5, 0.05),
)


def draw_shifts(rng: np.random.Generator) -> dict[str, Pixels]:
    """Draw how far right and down each sensor's image lies against RGB, in pixels of RGB, to the hundredth."""
    return {
        each.name: (float(np.round(x, 2)), float(np.round(y, 2)))
        for each in SENSORS
        for x, y in [rng.uniform(-each.reach_px, each.reach_px, 2)]
    }


def look(
    painting: Painting, shifts: Mapping[str, Pixels], rng: np.random.Generator, brightness: float = 1.0
) -> dict[str, Counts]:
    """Look at a landscape with all sensors.

    Args:
        painting: Has a margin of `MARGIN_PX`, or less where no shift needs it.
        shifts: Sensor to how far right and down its image lies, in pixels of RGB.
        rng: Source of noise, haze, and of how the coarse images' sizes were rounded.
        brightness: Factor of all counts.

    Returns:
        Sensor to uint16 `(B, h, w)`. Each image shows the same ground from edge to edge, but for its shift.
    """
    shares = mixture()
    height, width = (part.stop - part.start for part in painting.frame)
    sizes = {each.name: _size(height, width, each.divisor, rng) for each in SENSORS}
    planes: dict[str, Plane] = {}
    for component in range(shares.shape[1]):
        still = painting.without_traffic(component)
        for each in SENSORS:
            mixed = shares[each.bands, component]
            if not mixed.any():
                continue
            with painting.traffic(still, component, each.moment):
                seen = still if each.divisor == 1 else _coarse(still, painting, sizes[each.name], shifts[each.name])
                total = planes.setdefault(each.name, np.zeros((len(mixed), *seen.shape), np.float32))
                for band in np.flatnonzero(mixed):
                    total[band] += mixed[band] * seen
    return {
        each.name: _counts(each, _fine(each, planes.pop(each.name), painting, shifts[each.name]), brightness, rng)
        for each in SENSORS
    }


def _size(height: int, width: int, divisor: int, rng: np.random.Generator) -> tuple[int, int]:
    """Rows and columns of a coarser image; the real ones are rounded now up, now down."""
    if divisor == 1:
        return height, width
    rows, columns = (
        int(side / divisor + rounding) for side, rounding in zip((height, width), rng.random(2), strict=True)
    )
    return max(1, rows), max(1, columns)


def _fine(sensor: Sensor, planes: Plane, painting: Painting, shift: Pixels) -> Plane:
    """What optics and shift make of full resolution; coarse images have both already."""
    if sensor.divisor > 1:
        return planes
    rows, columns = painting.frame
    blurred = (cv2.GaussianBlur(plane, (0, 0), BLUR_PX, borderType=cv2.BORDER_REFLECT) for plane in planes)
    return np.stack([(_moved(plane, shift) if any(shift) else plane)[rows, columns] for plane in blurred])


def _moved(plane: Plane, shift: Pixels) -> Plane:
    """A plane moved right and down, exact to rounding: every wave gets its phase. The borders wrap around."""
    moved = plane
    for axis, pixels in ((1, shift[0]), (0, shift[1])):
        side = plane.shape[axis]
        size = cv2.getOptimalDFTSize(side)
        waves = np.fft.rfft(moved, size, axis=axis)
        phase = np.exp(-2j * np.pi * pixels * np.fft.rfftfreq(size)).astype(np.complex64)
        waves *= phase if axis == 1 else phase[:, None]
        moved = np.fft.irfft(waves, size, axis=axis).take(range(side), axis=axis).astype(np.float32)
    return moved


def _coarse(plane: Plane, painting: Painting, size: tuple[int, int], shift: Pixels) -> Plane:
    """The mean over each coarse pixel, wherever between fine pixels its borders fall."""
    rows, columns = painting.frame
    narrow = _means(plane, rows, size[0], shift[1])
    return np.ascontiguousarray(_means(np.ascontiguousarray(narrow.T), columns, size[1], shift[0]).T)


def _means(plane: Plane, frame: slice, number: int, shift_px: float) -> Plane:
    """Means over `number` bands of rows, as high as each other, that span the frame moved by `-shift_px`."""
    step = (frame.stop - frame.start) / number
    begin = frame.start - shift_px + step * np.arange(number)
    first = np.floor(begin).astype(np.int64)
    total = np.zeros((number, plane.shape[1]), np.float32)
    for row in range(int(step) + 2):
        low, high = np.maximum(first + row, begin), np.minimum(first + row + 1, begin + step)
        share = (np.maximum(high - low, 0) / step).astype(np.float32)
        total += share[:, None] * plane[np.clip(first + row, 0, len(plane) - 1)]
    return total


def _counts(sensor: Sensor, planes: Plane, brightness: float, rng: np.random.Generator) -> Counts:
    planes += rng.normal(0.0, 0.08, (len(planes), 1, 1)).astype(np.float32)
    for plane in planes:
        plane += sensor.noise * rng.standard_normal(plane.shape, dtype=np.float32)
    values = np.float32(brightness) * in_counts(planes, sensor.bands)
    counts: Counts = np.clip(np.rint(values), 1, sensor.highest).astype(np.uint16)
    return counts

"""Error of the registration of bands on scenes with known shifts, beside phase correlation (scikit-image).

Landscapes are painted in 20 bands. A group of bands is moved by an exact shift in the frequency domain, -6 to +6 pixels
of the RGB image in fractional steps, seen as coarse as its sensor sees it, with noise and with vehicles that have moved
on. Then come pairs that have no shift: other ground, turned ground, clouds, noise, flat bands. None of them may be
accepted.

    python benchmarks/registration.py
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

try:
    from scipy.ndimage import fourier_shift
    from skimage.registration import phase_cross_correlation
except ImportError:
    sys.exit("SciPy and scikit-image are needed for this comparison: pip install -r requirements-dev.txt")

from pipeline.imagery.registration import measure_shift
from pipeline.synthetic.landscape import Features, imagine
from pipeline.synthetic.spectra import paint

Plane = NDArray[np.float32]

GROUPS = {"P": ([3], 1), "M": ([5, 6, 8], 4), "M, all bands": (list(range(4, 12)), 4), "A": (list(range(12, 20)), 25)}
"""Bands that are compared with RGB, and pixels of the RGB image per pixel."""

NOISE = {"P": 8.0, "M": 8.0, "M, all bands": 8.0, "A": 40.0}
NUM_VEHICLES, STEP_PX = 40, 9
WRONG_PX = {"P": 0.5, "M": 0.5, "M, all bands": 0.5, "A": 5.0}
"""An accepted shift that is further off is wrong."""


@dataclass
class Errors:
    """Of one method on one group of bands."""

    distances: list[float] = field(default_factory=list)
    accepted: int = 0
    wrong: int = 0
    seconds: float = 0.0

    def row(self) -> str:
        """Median, 90th percentile and largest error, and what was accepted."""
        median, high, most = np.percentile(self.distances, (50, 90, 100))
        num = len(self.distances)
        return (
            f"{median:7.3f} {high:7.3f} {most:7.3f} {self.accepted:4}/{num:<4} {self.wrong:5} "
            f"{self.seconds / num * 1000:8.0f}"
        )


def landscapes(num: int, side: int) -> list[NDArray[np.float32]]:
    """Painted in 20 bands, each `(20, side, side)`."""
    found = []
    for seed in range(num):
        rng = np.random.default_rng([11, seed])
        found.append(paint(imagine(side, side, Features(river=seed % 2 == 1, road=seed % 3 != 2), rng), rng))
    return found


def shifts(num: int, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """From -6 to +6 px along x, in another order along y; anywhere between whole and half pixels."""
    steps = np.linspace(-6.0, 6.0, num)
    for x, y in zip(steps, rng.permutation(steps), strict=True):
        off = rng.uniform(-0.25, 0.25, 2)
        yield float(np.clip(x + off[0], -6.0, 6.0)), float(np.clip(y + off[1], -6.0, 6.0))


def moved(plane: Plane, x_px: float, y_px: float) -> Plane:
    """Moved right and down, exact to rounding; mirrored beyond the border."""
    padded = np.pad(plane.astype(np.float64), 64, mode="reflect")
    return np.fft.ifft2(fourier_shift(np.fft.fft2(padded), (y_px, x_px))).real[64:-64, 64:-64].astype(np.float32)


def seen(plane: Plane, factor: int, noise: float, rng: np.random.Generator) -> Plane:
    """As a coarser, noisy sensor sees it."""
    size = (plane.shape[1] // factor, plane.shape[0] // factor)
    coarse = cv2.resize(plane, size, interpolation=cv2.INTER_AREA) if factor > 1 else plane
    return (coarse + rng.normal(0.0, noise, coarse.shape)).astype(np.float32)


def with_traffic(here: Plane, there: Plane, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Vehicles in both planes, on other places."""
    here, there = here.copy(), there.copy()
    for row, column in rng.integers(20, len(here) - 60, (NUM_VEHICLES, 2)):
        ahead, aside = rng.integers(-STEP_PX, STEP_PX + 1, 2)
        for plane, place in ((here, (row, column)), (there, (row + aside, column + ahead))):
            plane[place[0] : place[0] + 7, place[1] : place[1] + 16] = plane.max()
    return here, there


def ours(reference: Plane, moving: Plane) -> tuple[float, float, bool]:
    """What `prepare` does."""
    found = measure_shift("g", reference, moving, np.ones(reference.shape, bool))
    return found.x_px, found.y_px, found.accepted


def phase_correlation(normalization: str | None) -> Callable[[Plane, Plane], tuple[float, float, bool]]:
    """On the coarser grid, to a hundredth of its pixels; it has no say in whether to accept."""

    def measure(reference: Plane, moving: Plane) -> tuple[float, float, bool]:
        scale = len(reference) / len(moving)
        small = cv2.resize(reference, moving.shape[::-1], interpolation=cv2.INTER_AREA) if scale > 1 else reference
        found = phase_cross_correlation(small, moving, upsample_factor=100, normalization=normalization)[0]
        return -float(found[1]) * scale, -float(found[0]) * scale, True

    return measure


METHODS = {
    "ours": ours,
    "phase correlation": phase_correlation("phase"),
    "phase correlation, not normalised": phase_correlation(None),
}


def measure_known(lands: list[NDArray[np.float32]], num_shifts: int) -> None:
    """Errors where the shift is known."""
    rng = np.random.default_rng(5)
    errors = {(group, method): Errors() for group in GROUPS for method in METHODS}
    for land in lands:
        for x, y in shifts(num_shifts, rng):
            for group, (bands, factor) in GROUPS.items():
                here, there = with_traffic(land[:3].mean(axis=0), land[bands].mean(axis=0), rng)
                reference = seen(here, 1, 8.0, rng)
                moving = seen(moved(there, x, y), factor, NOISE[group], rng)
                for method, measure in METHODS.items():
                    entry = errors[group, method]
                    began_s = time.perf_counter()
                    found_x, found_y, accepted = measure(reference, moving)
                    entry.seconds += time.perf_counter() - began_s
                    distance = float(np.hypot(found_x - x, found_y - y))
                    entry.distances.append(distance)
                    entry.accepted += accepted
                    entry.wrong += accepted and distance > WRONG_PX[group]
    print(f"{'':48} {'median':>7} {'90 %':>7} {'most':>7} {'accepted':>9} {'wrong':>5} {'ms':>8}")
    for (group, method), entry in errors.items():
        print(f"{group + ', ' + method:48} {entry.row()}")


def false_pairs(lands: list[NDArray[np.float32]], rng: np.random.Generator) -> Iterator[tuple[str, Plane, Plane, str]]:
    """What it is, reference, moving plane, and its group, for pairs without any shift."""
    for number, land in enumerate(lands):
        here = seen(land[:3].mean(axis=0), 1, 8.0, rng)
        other = lands[(number + 1) % len(lands)]
        for group, (bands, factor) in GROUPS.items():
            there = land[bands].mean(axis=0)
            yield "other ground", here, seen(other[bands].mean(axis=0), factor, NOISE[group], rng), group
            for turns in (1, 2, 3):
                yield "turned ground", here, seen(np.rot90(there, turns).copy(), factor, NOISE[group], rng), group
            yield "mirrored ground", here, seen(there[::-1].copy(), factor, NOISE[group], rng), group
            yield "flat and noise", here, seen(np.full_like(there, 300.0), factor, NOISE[group], rng), group
            yield "flat", here, seen(np.full_like(there, 300.0), factor, 0.0, rng), group
            yield "clouds", here, seen(clouds(there.shape, rng), factor, NOISE[group], rng), group


def clouds(shape: tuple[int, ...], rng: np.random.Generator) -> Plane:
    """Soft white shapes that hide everything."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 40)
    return np.asarray(1000.0 + 900.0 * np.tanh(3.0 * noise / noise.std()), np.float32)


def measure_false(lands: list[NDArray[np.float32]]) -> None:
    """How many shifts are accepted where there is none."""
    counts: dict[str, list[int]] = {}
    for what, here, there, _ in false_pairs(lands, np.random.default_rng(6)):
        entry = counts.setdefault(what, [0, 0])
        entry[0] += ours(here, there)[2]
        entry[1] += 1
    print("\npairs without a shift, accepted:")
    for what, (accepted, num) in counts.items():
        print(f"  {what:20} {accepted}/{num}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1500, help="side of a landscape in pixels (default 1500)")
    parser.add_argument("--landscapes", type=int, default=4, help="number of landscapes (default 4)")
    parser.add_argument("--shifts", type=int, default=25, help="shifts per landscape (default 25)")
    options = parser.parse_args()
    lands = landscapes(options.landscapes, options.side)
    print(f"{options.landscapes} landscapes of {options.side} px, {options.shifts} shifts each; errors in RGB pixels")
    measure_known(lands, options.shifts)
    measure_false(lands)


if __name__ == "__main__":
    main()

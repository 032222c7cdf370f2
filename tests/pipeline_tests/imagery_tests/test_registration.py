"""Shifts between bands, against shifts made exactly in the frequency domain."""

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import fourier_shift

from pipeline.imagery.registration import Shift, measure_shift
from pipeline.synthetic.landscape import Features, imagine
from pipeline.synthetic.spectra import paint

SIDE_PX = 800
PAN, MATCHING_MULTISPECTRAL, SWIR = [3], [5, 6, 8], [12, 13, 14, 15]
SHIFTS = [(-6.0, 6.0), (-3.25, 0.4), (0.0, 0.0), (0.31, -0.77), (2.5, 4.75), (5.9, -5.1)]


@cache
def planes(seed: int) -> NDArray[np.float32]:
    """Twenty bands of a synthetic landscape on one grid."""
    rng = np.random.default_rng(seed)
    return paint(imagine(SIDE_PX, SIDE_PX, Features(), rng), rng)


def moved(bands: NDArray[np.float32], x_px: float, y_px: float) -> NDArray[np.float32]:
    """The mean of the bands, moved right and down, exact to rounding; mirrored beyond the border."""
    padded = np.pad(bands.mean(axis=0, dtype=np.float64), 64, mode="reflect")
    shifted = np.fft.ifft2(fourier_shift(np.fft.fft2(padded), (y_px, x_px))).real
    return shifted[64:-64, 64:-64].astype(np.float32)


def seen(plane: NDArray[np.float32], factor: int, rng: np.random.Generator, noise: float = 8.0) -> NDArray[np.float32]:
    """As a coarser, noisy sensor sees it."""
    side = SIDE_PX // factor
    coarse = cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA) if factor > 1 else plane
    return (coarse + rng.normal(0.0, noise, coarse.shape)).astype(np.float32)


def measure(bands: list[int], factor: int, x_px: float, y_px: float, seed: int = 0) -> Shift:
    rng = np.random.default_rng([seed, factor])
    cube = planes(seed)
    valid = np.ones((SIDE_PX, SIDE_PX), bool)
    reference = seen(cube[:3].mean(axis=0), 1, rng)
    return measure_shift("g", reference, seen(moved(cube[bands], x_px, y_px), factor, rng), valid)


@pytest.mark.parametrize(("bands", "factor"), [(PAN, 1), (MATCHING_MULTISPECTRAL, 4)], ids=["pan", "multispectral"])
def test_shifts_are_found_to_a_twentieth_of_a_pixel(bands: list[int], factor: int) -> None:
    found = [measure(bands, factor, *shift) for shift in SHIFTS]

    errors = [np.hypot(each.x_px - x, each.y_px - y) for each, (x, y) in zip(found, SHIFTS, strict=True)]
    assert all(each.accepted for each in found), [each.reason for each in found]
    assert np.median(errors) < 0.05, errors
    assert max(errors) < 0.12, errors


def test_a_very_coarse_band_is_placed_within_a_tenth_of_its_own_pixel() -> None:
    for shift in SHIFTS:
        found = measure(SWIR, 25, *shift)
        assert np.hypot(found.x_px - shift[0], found.y_px - shift[1]) < 2.5
        assert found.accepted


def test_moving_objects_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    cube = planes(0)
    here, there = cube[:3].mean(axis=0).copy(), cube[MATCHING_MULTISPECTRAL].copy()
    for row, column in rng.integers(20, SIDE_PX - 40, (40, 2)):
        here[row : row + 8, column : column + 14] = 900
        ahead = int(rng.choice([-9, 9]))
        there[:, row : row + 8, column + ahead : column + ahead + 14] = 900
    found = measure_shift("g", here, seen(moved(there, 2.3, -1.1), 4, rng), np.ones(here.shape, bool))
    assert found.accepted
    assert np.hypot(found.x_px - 2.3, found.y_px + 1.1) < 0.12


def test_no_data_is_left_out() -> None:
    rng = np.random.default_rng(6)
    cube = planes(0)
    valid = np.ones((SIDE_PX, SIDE_PX), bool)
    valid[:, 300:] = False
    here, there = cube[:3].mean(axis=0).copy(), moved(cube[PAN], -2.4, 1.6)
    here[~valid], there[~valid] = 0.0, 2000.0
    found = measure_shift("g", here, seen(there, 1, rng), valid)
    assert found.accepted
    assert np.hypot(found.x_px + 2.4, found.y_px - 1.6) < 0.1


@pytest.mark.parametrize("factor", [1, 4, 25])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_other_ground_is_never_accepted(factor: int, turns: int) -> None:
    rng = np.random.default_rng(7)
    other = seen(np.rot90(planes(0)[MATCHING_MULTISPECTRAL].mean(axis=0), turns).copy(), factor, rng)
    found = measure_shift("g", planes(0)[:3].mean(axis=0), other, np.ones((SIDE_PX, SIDE_PX), bool))
    assert not found.accepted
    assert found.reason


@pytest.mark.parametrize("factor", [1, 4])
def test_noise_and_flat_bands_are_never_accepted(factor: int) -> None:
    rng = np.random.default_rng(8)
    flat = np.full((SIDE_PX, SIDE_PX), 300.0, np.float32)
    for noise in (0.0, 5.0):
        found = measure_shift("g", planes(0)[:3].mean(axis=0), seen(flat, factor, rng, noise), flat > 0)
        assert not found.accepted


def test_an_implausible_shift_is_measured_but_not_accepted() -> None:
    found = measure(PAN, 1, 30.0, 0.0)
    assert not found.accepted
    assert "implausible" in found.reason or found.correlation < 0.5


def test_a_tiny_image_stays_in_place() -> None:
    small = planes(0)[0, :20, :20]
    found = measure_shift("g", small, small, np.ones((20, 20), bool))
    assert (found.x_px, found.y_px, found.accepted) == (0.0, 0.0, False)
    assert "smaller" in found.reason

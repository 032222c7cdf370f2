"""Which bands are compared, and what comes of it: groups of a whole scene, shifted exactly."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import fourier_shift

from pipeline.datasets.dstl import FILES
from pipeline.imagery.alignment import matching_bands, measure_shifts
from pipeline.imagery.cube import make_cube
from pipeline.scene import Affine, Band, BandGroup, Georeference, Scene
from pipeline.synthetic.landscape import Features, imagine
from pipeline.synthetic.spectra import paint

SIDE_PX = 720
RGB, PAN, M, A = FILES.values()
BANDS = (*RGB, *PAN, *M, *A)
SHIFT = (2.3, -3.6)


@cache
def planes() -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    return paint(imagine(SIDE_PX, SIDE_PX, Features(), rng), rng)


def moved(plane: NDArray[np.float32], x_px: float, y_px: float) -> NDArray[np.float32]:
    padded = np.pad(plane.astype(np.float64), 64, mode="reflect")
    return np.fft.ifft2(fourier_shift(np.fft.fft2(padded), (y_px, x_px))).real[64:-64, 64:-64].astype(np.float32)


def group(name: str, bands: tuple[Band, ...], chosen: slice, factor: int = 1, shift: tuple[float, float] = (0, 0)):
    size = (SIDE_PX // factor, SIDE_PX // factor)
    seen = np.stack([cv2.resize(moved(p, *shift), size, interpolation=cv2.INTER_AREA) for p in planes()[chosen]])
    names = tuple(band.name for band in bands)
    return BandGroup(names, np.rint(seen).astype(np.uint16), Path(f"{name}.tif"), None, name, None, name != "rgb")


def scene(*groups: BandGroup) -> Scene:
    height, width = groups[0].planes.shape[1:]
    return Scene("s", height, width, groups, None, Georeference())


def names(*groups: BandGroup) -> list[str]:
    return [name for each in groups for name in each.names]


def test_bands_of_the_same_light_are_compared() -> None:
    assert matching_bands(RGB, PAN) == ([0, 1, 2], [0])
    ours, theirs = matching_bands(RGB, M)
    assert [M[position].name for position in theirs] == ["m_blue", "m_green", "m_red"]
    assert ours == [0, 1, 2]
    assert matching_bands(RGB, A) == ([0, 1, 2], list(range(8)))
    assert matching_bands([None, RGB[0]], [None, Band(name="nameless")]) == ([0, 1], [0, 1])


def test_every_group_is_measured_against_the_first_and_put_right() -> None:
    rgb, m = group("rgb", RGB, slice(0, 3)), group("m", M, slice(4, 12), 4, SHIFT)
    pan = group("pan", PAN, slice(3, 4), 1, (-1.4, 0.8))
    whole = scene(rgb, pan, m)
    shifts = measure_shifts(whole, BANDS, names(rgb, pan, m))

    assert [shift.group for shift in shifts] == ["pan", "m"]
    assert all(shift.accepted for shift in shifts)
    assert np.hypot(shifts[0].x_px + 1.4, shifts[0].y_px - 0.8) < 0.1
    assert np.hypot(shifts[1].x_px - SHIFT[0], shifts[1].y_px - SHIFT[1]) < 0.15

    inside = slice(12, -12)
    truth = make_cube(scene(rgb, group("m", M, slice(4, 12), 4)), ["m_nir1"], [], []).bands[inside, inside, 0]
    off, right = (
        np.abs(make_cube(whole, ["m_nir1"], [], [], None, used).bands[inside, inside, 0] - truth).mean()
        for used in ((), shifts)
    )
    assert right < 0.35 * off, "what remains is what a coarse sensor cannot tell"


def test_only_what_is_needed_and_may_be_shifted_is_measured() -> None:
    rgb, m = group("rgb", RGB, slice(0, 3)), group("m", M, slice(4, 12), 4, SHIFT)
    assert measure_shifts(scene(rgb, m), BANDS, names(rgb)) == ()
    assert measure_shifts(scene(rgb, replace(m, may_be_shifted=False)), BANDS, names(rgb, m)) == ()


def test_ground_that_does_not_fit_is_left_in_place() -> None:
    rgb, m = group("rgb", RGB, slice(0, 3)), group("m", M, slice(4, 12), 4)
    other = replace(m, planes=m.planes[:, ::-1].copy())
    (shift,) = measure_shifts(scene(rgb, other), BANDS, names(rgb, m))
    assert not shift.accepted
    assert shift.reason


def test_a_first_group_that_is_coarser_is_the_reference_all_the_same() -> None:
    m, pan = group("m", M, slice(4, 12), 2), group("pan", PAN, slice(3, 4), 1, SHIFT)
    (shift,) = measure_shifts(scene(m, pan), BANDS, names(m, pan))
    assert shift.accepted
    assert np.hypot(shift.x_px - SHIFT[0] / 2, shift.y_px - SHIFT[1] / 2) < 0.1


@pytest.mark.parametrize("hole", [False, True])
def test_a_placed_group_is_measured_where_it_lies(hole: bool) -> None:
    """A multispectral image that covers a part of the scene, and reaches beyond it on the left."""
    rgb, m = group("rgb", RGB, slice(0, 3)), group("m", M, slice(4, 12), 4, SHIFT)
    beyond = np.zeros((8, m.planes.shape[1], 30), np.uint16)
    placement: Affine = (4.0, 0.0, -120.0, 0.0, 4.0, 160.0)
    valid = np.ones((140, 180), bool)
    valid[:, :30] = False
    if hole:
        valid[40:60, 100:140] = False
    part = np.concatenate([beyond, m.planes[:, :, :150]], axis=2)[:, 40:]
    part = np.where(valid, part, 2000)
    placed = replace(m, planes=part, valid=valid, placement=placement)
    (shift,) = measure_shifts(scene(rgb, placed), BANDS, names(rgb, m))
    assert shift.accepted
    assert np.hypot(shift.x_px - SHIFT[0], shift.y_px - SHIFT[1]) < 0.2


def test_no_data_of_the_reference_is_left_out() -> None:
    rgb, m = group("rgb", RGB, slice(0, 3)), group("m", M, slice(4, 12), 4, SHIFT)
    valid = np.ones((SIDE_PX, SIDE_PX), bool)
    valid[:, 400:] = False
    holed = replace(rgb, planes=np.where(valid, rgb.planes, 0), valid=valid)
    (shift,) = measure_shifts(scene(holed, m), BANDS, names(rgb, m))
    assert shift.accepted
    assert np.hypot(shift.x_px - SHIFT[0], shift.y_px - SHIFT[1]) < 0.2

"""Resampling against images whose value is known at every place of the ground."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.imagery.resampling import Resampling, area_shares, composed, edge_to_edge, resized, row_blocks
from pipeline.scene import Affine, inverse

Field = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def ramp(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation and area means give a plane's value exactly."""
    return 50.0 + 3.0 * x - 2.0 * y


def waves(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return 100.0 + 40.0 * np.sin(x / 7.0) * np.cos(y / 9.0)


def imaged(ground: Field, shape: tuple[int, int], to_ground: Affine) -> NDArray[np.float32]:
    """The ground's values at pixel centres."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    a, b, c, d, e, f = to_ground
    return ground(a * columns + b * rows + c, d * columns + e * rows + f).astype(np.float32)


def made(resampling: Resampling, plane: NDArray[np.float32], valid: NDArray[np.bool_] | None = None):
    """The whole target, made in two blocks."""
    middle = resampling.target[0] // 2 or 1
    parts = [resampling.rows(plane[None], valid, *rows) for rows in ((0, middle), (middle, resampling.target[0]))]
    values = np.concatenate([values[..., 0] for values, _ in parts])
    known = None if parts[0][1] is None else np.concatenate([known for _, known in parts])
    return values, known


TURN = np.radians(12.0)
PLACES: dict[str, Affine] = {
    "edge to edge, four times finer": (0.25, 0, 0, 0, 0.25, 0),
    "shifted by a fraction": (1, 0, 0.3, 0, 1, -0.7),
    "shifted, finer and not square": (0.31, 0, 3.3, 0, 0.47, 1.9),
    "coarser": (3.7, 0, 1.2, 0, 2.3, 0.4),
    "finer across, coarser down": (0.4, 0, 0.1, 0, 2.6, 0.2),
    "upside down": (0.5, 0, 0.4, 0, -0.5, 40.0),
    "turned": (0.5 * np.cos(TURN), -0.5 * np.sin(TURN), 12.0, 0.5 * np.sin(TURN), 0.5 * np.cos(TURN), 3.0),
    "turned and coarser": (2 * np.cos(TURN), -2 * np.sin(TURN), 12.0, 2 * np.sin(TURN), 2 * np.cos(TURN), 3.0),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_plane_keeps_its_value_at_every_place(place: Affine) -> None:
    source = imaged(ramp, (44, 48), (1, 0, 0, 0, 1, 0))
    got, _ = made(Resampling(place, (44, 48), (16, 15)), source)
    a, b, c, d, e, f = place
    rows, columns = np.mgrid[:16, :15] + 0.5
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    reach = 0.5 + 0.5 * max(1.0, np.hypot(a, d), np.hypot(b, e))
    inside = (x > reach) & (x < 48 - reach) & (y > reach) & (y < 44 - reach)
    assert np.count_nonzero(inside) >= 20
    errors = (got - ramp(x, y))[inside]
    if place[0] > 1 or place[4] > 1:
        # A mean over parts of pixels takes each as even: right on the whole, within a twentieth of a pixel for each.
        assert np.abs(errors).max() < 0.05 * (3 + 2)
        assert abs(errors.mean()) < 0.01 * (3 + 2)
    else:
        np.testing.assert_allclose(errors, 0.0, atol=2e-4)


def test_going_there_and_back_does_not_drift() -> None:
    """Half a pixel lost on the way would show in the phase of the waves."""
    source = imaged(waves, (60, 70), (1, 0, 0, 0, 1, 0))
    fine = resized(source, 60 * 3, 70 * 3)
    np.testing.assert_allclose(resized(fine, 60, 70)[3:-3, 3:-3], source[3:-3, 3:-3], atol=0.2)
    expected = imaged(waves, (180, 210), (1 / 3, 0, 0, 0, 1 / 3, 0))
    np.testing.assert_allclose(fine[9:-9, 9:-9], expected[9:-9, 9:-9], atol=0.35)
    assert abs((fine - expected)[9:-9, 9:-9].mean()) < 0.01


def test_fine_patterns_do_not_come_through_as_coarse_ones() -> None:
    rows, columns = np.mgrid[:200, :300]
    chequers = ((rows + columns) % 2 * 100).astype(np.float32)
    coarse = resized(chequers, 37, 61)
    np.testing.assert_allclose(coarse, 50.0, atol=4.0)
    assert coarse.mean() == pytest.approx(50.0, abs=0.1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, np.bool_])
def test_any_type_of_pixel_gives_the_same_numbers(dtype: type[np.generic]) -> None:
    plane = np.random.default_rng(0).integers(0, 2, (9, 11)).astype(dtype)
    np.testing.assert_array_equal(resized(plane, 20, 5), resized(plane.astype(np.float32), 20, 5))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60))
def test_a_constant_stays_and_a_mean_is_kept(height: int, width: int, new_height: int, new_width: int) -> None:
    np.testing.assert_allclose(
        resized(np.full((height, width), 7.0, np.float32), new_height, new_width), 7.0, rtol=1e-5
    )
    mask = np.random.default_rng(height).random((height, width)) < 0.5
    shares = area_shares(mask, new_height, new_width)
    assert shares.mean(dtype=np.float64) == pytest.approx(mask.mean(), abs=1e-5)
    assert shares.min() >= 0.0
    assert shares.max() <= 1.0 + 1e-5


@pytest.mark.parametrize("place", [(0.25, 0, 0.6, 0, 0.25, -0.4), (3.0, 0, 0.5, 0, 3.0, 0.0), PLACES["turned"]])
def test_what_has_no_data_is_never_mixed_in(place: Affine) -> None:
    rng = np.random.default_rng(1)
    valid = rng.random((44, 48)) < 0.6
    plane = np.where(valid, np.float32(10.0), np.float32(np.nan))
    values, known = made(Resampling(place, (44, 48), (14, 15)), plane, valid)
    assert known is not None
    assert 20 < np.count_nonzero(known) < known.size
    np.testing.assert_allclose(values[known], 10.0, rtol=1e-5)


def test_a_pixel_has_data_where_most_of_it_has() -> None:
    valid = np.zeros((4, 4), bool)
    valid[:, :2] = True
    _, known = made(Resampling(edge_to_edge((4, 4), (12, 12)), (4, 4), (12, 12)), np.ones((4, 4), np.float32), valid)
    assert known is not None
    assert np.array_equal(known, np.repeat(np.repeat(valid, 3, 0), 3, 1))
    _, coarse = made(Resampling(edge_to_edge((4, 4), (4, 3)), (4, 4), (4, 3)), np.ones((4, 4), np.float32), valid)
    assert coarse is not None
    assert np.array_equal(coarse[0], [True, True, False]), "two thirds, exactly a half, nothing"


def test_outside_of_its_place_a_group_has_no_data() -> None:
    """A group of 10 x 8 pixels of four pixels each, whose corner lies at (6, -4) of a scene of 40 x 40."""
    placement = (4.0, 0.0, 6.0, 0.0, 4.0, -4.0)
    still = inverse(placement)
    _, known = made(Resampling(still, (8, 10), (40, 40), still), np.ones((8, 10), np.float32))
    expected = np.zeros((40, 40), bool)
    expected[:28, 6:] = True
    assert known is not None
    assert np.array_equal(known, expected)


def test_a_shift_takes_no_data_away_at_the_border() -> None:
    plane = imaged(ramp, (20, 20), (1, 0, 0, 0, 1, 0))
    shifted = composed((1, 0, 0, 0, 1, 0), (1, 0, 2.5, 0, 1, 0))
    values, known = made(Resampling(shifted, (20, 20), (20, 20)), plane)
    assert known is None
    np.testing.assert_allclose(values[:, :17], plane[:, :17] + 7.5, atol=1e-4)
    np.testing.assert_allclose(values[:, 18:], plane[:, -1:].repeat(2, 1), atol=1e-4)
    _, placed = made(Resampling(shifted, (20, 20), (20, 20), (1, 0, 0, 0, 1, 0)), plane)
    assert placed is not None
    assert placed.all()


def test_a_turned_group_has_data_only_within_its_outline() -> None:
    still = inverse((np.cos(TURN), -np.sin(TURN), 10.0, np.sin(TURN), np.cos(TURN), 5.0))
    _, known = made(Resampling(still, (30, 30), (60, 60), still), np.ones((30, 30), np.float32))
    assert known is not None
    assert np.count_nonzero(known) == pytest.approx(900, rel=0.02)


def test_blocks_cover_every_row_once() -> None:
    for shape, bands in (((3391, 3349), 20), ((3, 3), 1), ((1, 20_000), 200), ((7, 1), 1)):
        blocks = row_blocks(shape, bands)
        assert [row for first, last in blocks for row in range(first, last)] == list(range(shape[0]))


def test_the_same_grid_is_copied_to_the_last_bit() -> None:
    plane = np.random.default_rng(2).random((9, 7)).astype(np.float32) * 1e6
    resampling = Resampling(edge_to_edge((9, 7), (9, 7)), (9, 7), (9, 7))
    assert resampling.is_copy
    assert np.array_equal(made(resampling, plane)[0], plane)

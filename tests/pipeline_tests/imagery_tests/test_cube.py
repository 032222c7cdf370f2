from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely.geometry import box

from pipeline.imagery.cube import make_cube
from pipeline.imagery.grid import Grid
from pipeline.imagery.registration import Shift
from pipeline.imagery.resampling import resized
from pipeline.scene import BandGroup, DataError, Georeference, PolygonLabels, RasterLabels, Scene


def group(names: str, planes: NDArray[np.generic], valid: NDArray[np.bool_] | None = None) -> BandGroup:
    return BandGroup(tuple(names.split()), planes, Path("a.tif"), valid)


def scene(*groups: BandGroup, labels: PolygonLabels | RasterLabels | None = None) -> Scene:
    height, width = groups[0].planes.shape[1:]
    return Scene("s", height, width, groups, labels, Georeference())


@pytest.mark.parametrize("factor", [4, 25])
def test_upsampling_does_not_shift_the_grid(factor: int) -> None:
    """A ramp over the ground keeps its value at every place: pixel centres lie at (n + 1/2) · size."""
    coarse = (np.arange(12) + 0.5) * factor
    plane = (3.0 * coarse[:, None] - 2.0 * coarse[None, :]).astype(np.float32)
    fine = np.arange(12 * factor) + 0.5
    expected = 3.0 * fine[:, None] - 2.0 * fine[None, :]
    inside = slice(factor, -factor)
    got = resized(plane, 12 * factor, 12 * factor)
    np.testing.assert_allclose(got[inside, inside], expected[inside, inside], atol=0.02)


def test_upsampling_by_an_uneven_factor_keeps_the_edges_in_place() -> None:
    coarse = (np.arange(134) + 0.5) / 134
    ramp = np.tile(coarse.astype(np.float32), (3, 1))
    got = resized(ramp, 3, 3349)
    fine = (np.arange(3349) + 0.5) / 3349
    np.testing.assert_allclose(got[1, 20:-20], fine[20:-20], atol=1e-4)


def test_a_finer_plane_is_averaged() -> None:
    plane = np.arange(36, dtype=np.float32).reshape(6, 6)
    np.testing.assert_allclose(resized(plane, 2, 2), plane.reshape(2, 3, 2, 3).mean(axis=(1, 3)))


def test_bands_come_in_the_order_asked_for_and_indices_last() -> None:
    planes = np.stack([np.full((4, 4), value, np.uint16) for value in (10, 30, 90)])
    cube = make_cube(scene(group("red green nir", planes)), ["nir", "red"], ["ndwi"], [])
    assert cube.bands.dtype == np.float32
    np.testing.assert_allclose(cube.bands[2, 2], [90, 10, (30 - 90) / (30 + 90)])


def test_no_data_of_any_band_is_not_a_number_in_all_and_never_known() -> None:
    hole = np.ones((2, 2), bool)
    hole[0, 0] = False
    fine = group("red", np.full((1, 8, 8), 5, np.uint8))
    coarse = group("swir", np.full((1, 2, 2), 7, np.uint8), hole)
    labels = PolygonLabels({"field": (box(0, 0, 8, 8),)})
    cube = make_cube(scene(fine, coarse, labels=labels), ["red", "swir"], [], ["field"])
    assert not cube.valid[:4, :4].any()
    assert cube.valid[6:, 6:].all()
    assert np.isnan(cube.bands[~cube.valid]).all()
    assert np.isfinite(cube.bands[cube.valid]).all()
    np.testing.assert_allclose(cube.bands[cube.valid], np.tile([5, 7], (int(cube.valid.sum()), 1)))
    assert np.array_equal(cube.known, cube.valid)
    assert not cube.masks[~cube.valid].any()


def test_ignored_ground_of_polygons_is_not_known_and_of_no_class() -> None:
    image = group("red", np.full((1, 8, 8), 5, np.uint8))
    labels = PolygonLabels({"field": (box(0, 0, 8, 4),)}, ignored=(box(6, 0, 9, 8), box(5, 7, 8, 8)))
    cube = make_cube(scene(image, labels=labels), ["red"], [], ["field"])
    assert cube.valid.all()
    unknown = np.zeros((8, 8), bool)
    unknown[:, 6:] = unknown[7, 5:] = True
    assert np.array_equal(cube.known, ~unknown)
    assert int(cube.masks.sum()) == 6 * 4


def test_a_hole_in_a_band_that_is_not_kept_does_not_matter() -> None:
    fine = group("red", np.full((1, 4, 4), 5, np.uint8))
    coarse = group("swir", np.zeros((1, 2, 2), np.uint8), np.zeros((2, 2), bool))
    assert make_cube(scene(fine, coarse), ["red"], [], []).valid.all()


def test_absent_classes_are_empty_and_no_labels_means_nothing_is_known() -> None:
    image = group("red", np.ones((1, 4, 4), np.uint8))
    labels = RasterLabels({"road": np.eye(4, dtype=bool)}, known=np.ones((4, 4), bool))
    cube = make_cube(scene(image, labels=labels), ["red"], [], ["water", "road"])
    assert np.array_equal(cube.masks[..., 1], np.eye(4, dtype=np.uint8))
    assert not cube.masks[..., 0].any()
    assert not make_cube(scene(image), ["red"], [], ["road"]).known.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(bad: float) -> None:
    plane = np.ones((1, 3, 3), np.float32)
    plane[0, 1, 1] = bad
    with pytest.raises(DataError, match=r"a\.tif.*1 not-a-number, infinite or larger pixels in band red"):
        group("red", plane)
    valid = np.ones((3, 3), bool)
    valid[1, 1] = False
    group("red", plane, valid)


@pytest.mark.parametrize("side_px", [90, 134, 849, 5000])
def test_no_ground_is_lost_to_rounding_where_grids_do_not_divide(side_px: int) -> None:
    """The shares of valid ground are sums of weights, which rounding leaves just below one."""
    fine = group("red", np.full((1, 40, 3349), 5, np.uint8))
    other = group("swir", np.full((1, 40, side_px), 7, np.uint8), np.ones((40, side_px), bool))
    assert make_cube(scene(fine, other), ["red", "swir"], [], []).valid.all()


def test_ground_that_nobody_judged_is_unknown() -> None:
    image = group("red", np.ones((1, 8, 8), np.uint8))
    labels = PolygonLabels({"field": (box(0, 0, 8, 4),)}, ignored=(box(2, 2, 6, 6),))
    cube = make_cube(scene(image, labels=labels), ["red"], [], ["field"])
    judged = np.ones((8, 8), bool)
    judged[2:6, 2:6] = False
    assert np.array_equal(cube.known, judged)
    assert cube.valid.all()
    assert not cube.masks[~judged].any()
    assert cube.masks[..., 0].sum() == 32 - 8


def ground(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return 500.0 + 60.0 * np.sin(x / 30.0 + 1.0) * np.cos(y / 40.0)


def test_place_shift_and_grid_are_one_resampling() -> None:
    """A group of 3 m pixels lies askew in a scene of 1 m, its content is 4.3 m off, and the grid wanted is 2 m."""
    placement = (3.0, 0.0, -9.0, 0.0, 3.0, 6.0)
    rows, columns = np.mgrid[:70, :90] + 0.5
    # What a pixel shows is the ground a bit up and left of where it seems to lie.
    planes = ground(3 * columns - 9 - 4.3, 3 * rows + 6 + 2.9)[None].astype(np.float32)
    fine = BandGroup(("red",), np.zeros((1, 200, 240), np.uint8), Path("rgb.tif"), name="rgb")
    coarse = BandGroup(("nir",), planes, Path("ms.tif"), None, "ms", placement, may_be_shifted=True)
    whole = scene(fine, coarse)
    shift = Shift(group="ms", x_px=4.3, y_px=-2.9, correlation=1.0, spread_px=0.0, accepted=True)
    cube = make_cube(whole, ["nir"], [], [], Grid((100, 120), Georeference(), 2.0), [shift])
    y, x = np.mgrid[:100, :120] * 2.0 + 1.0
    np.testing.assert_allclose(cube.bands[6:-3, 3:-3, 0], ground(x, y)[6:-3, 3:-3], atol=0.25)
    assert np.array_equal(cube.valid, y > 6), "the group begins six metres below the scene's upper border"
    still = make_cube(whole, ["nir"], [], [], Grid((100, 120), Georeference(), 2.0))
    assert np.abs(still.bands[6:-3, 3:-3, 0] - ground(x, y)[6:-3, 3:-3]).max() > 3.0


@pytest.mark.parametrize("change", [{"accepted": False}, {"x_px": 0.02, "y_px": 0.03}, {"group": "other"}])
def test_a_shift_that_is_not_sure_moves_nothing(change: dict[str, object]) -> None:
    planes = np.random.default_rng(0).integers(0, 99, (1, 20, 20), np.uint8)
    given = {"group": "pan", "x_px": 2.0, "y_px": 1.0, "correlation": 0.9, "spread_px": 0.0, "accepted": True} | change
    whole = scene(group("red", planes), BandGroup(("pan",), planes, Path("p.tif"), name="pan", may_be_shifted=True))
    cube = make_cube(whole, ["pan"], [], [], None, [Shift(**given)])
    assert np.array_equal(cube.bands[..., 0], planes[0])


def test_a_cube_made_in_blocks_is_the_cube_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    hole = rng.random((10, 15)) < 0.9
    fine = group("red green nir", rng.integers(1, 999, (3, 40, 60), np.uint16))
    whole = scene(fine, BandGroup(("swir",), rng.random((1, 10, 15)), Path("a.tif"), hole, "a"))
    grid = Grid((33, 71), Georeference(), None)
    at_once = make_cube(whole, ["swir", "green"], ["ndwi"], [], grid)
    monkeypatch.setattr("pipeline.imagery.resampling.BLOCK_VALUES", 500)
    in_blocks = make_cube(whole, ["swir", "green"], ["ndwi"], [], grid)
    assert np.array_equal(at_once.valid, in_blocks.valid)
    assert np.array_equal(at_once.bands, in_blocks.bands, equal_nan=True)
    assert not at_once.valid.all()

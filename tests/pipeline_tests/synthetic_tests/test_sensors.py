"""What the four sensors make of a landscape: coverage, shifts that are exact, and vehicles that go on meanwhile."""

from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from pipeline.datasets.dstl import CLASSES
from pipeline.imagery.rasterise import rasterise
from pipeline.synthetic.landscape import Features, imagine
from pipeline.synthetic.sensors import MARGIN_PX, look
from pipeline.synthetic.spectra import SPRING, SUMMER, Painting

Array = NDArray[Any]


def test_a_pixel_shows_what_covers_half_of_it() -> None:
    """Ponds are painted by coverage and labelled by middles: pixels are dark exactly where labels say so."""
    rng = np.random.default_rng(2)
    landscape = imagine(200, 200, Features(road=False, ponds=3, trucks=0, cars=0, misc=False), rng)
    pond = rasterise([landscape.truth("standing_water")], 200, 200) > 0
    # NIR, where water is darkest; without noise.
    nir = Painting(landscape, rng, SPRING).without_traffic(7)
    near = cv2.dilate(pond.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    inner = cv2.erode(pond.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    dark, bright = np.median(nir[inner]), np.median(nir[near & ~pond])
    agree = (nir < (dark + bright) / 2)[near] == pond[near]
    assert agree.mean() > 0.97
    assert (nir < (dark + bright) / 2)[near].sum() == pytest.approx(pond.sum(), rel=0.03)


@cache
def looked_at(shift: tuple[float, float]) -> dict[str, Array]:
    rng = np.random.default_rng(4)
    landscape = imagine(400, 300, Features(cars=0, trucks=0), rng, margin_px=MARGIN_PX)
    return look(Painting(landscape, rng, SUMMER), dict.fromkeys(("rgb", "pan", "m", "a"), shift), rng)


def test_a_shift_by_whole_coarse_pixels_moves_the_image_by_whole_pixels() -> None:
    """The same noise over content moved by 4 × 1.0 pixels: M agrees with itself, moved by one pixel."""
    still, moved = looked_at((0.0, 0.0))["m"].astype(float), looked_at((4.0, -8.0))["m"].astype(float)
    step = 300 / still.shape[2], 400 / still.shape[1]
    assert step == pytest.approx((4.0, 4.0), rel=0.01)
    difference = still[:, 2:, :-1] - moved[:, :-2, 1:]
    away = still[:, 2:, :-1] - moved[:, 2:, :-1]
    assert difference.std() < 0.25 * away.std()


def test_vehicles_are_in_other_places_for_other_sensors() -> None:
    rng = np.random.default_rng(4)
    landscape = imagine(300, 300, Features(cars=25, trucks=3), rng, margin_px=MARGIN_PX)
    painting = Painting(landscape, rng, SPRING)
    plane = painting.without_traffic(4)
    before = plane.copy()
    seen = {}
    for moment in (0.0, 0.3, 1.0):
        with painting.traffic(plane, 4, moment):
            seen[moment] = plane[painting.frame].copy()
        assert np.array_equal(plane, before), "nothing is left behind"
    changed = np.abs(seen[1.0] - seen[0.0]) > 0.5
    assert changed.sum() > 50
    bodies = [shape for m in (0.0, 1.0) for kind in CLASSES[8:] for shape in landscape.of(kind, m)]
    # Shadows reach a few pixels further.
    near = rasterise([shapely.union_all(bodies).buffer(3)], 300, 300) > 0
    assert not changed[~near].any()
    assert (np.abs(seen[0.3] - seen[0.0]) > 0.5).sum() < changed.sum()


def test_vehicles_that_move_do_and_parked_ones_stay() -> None:
    rng = np.random.default_rng(0)
    vehicles = imagine(400, 400, Features(cars=40), rng).vehicles
    gone = [np.hypot(*(np.array(each.at(1.0).centroid.coords[0]) - each.body.centroid.coords[0])) for each in vehicles]
    assert any(way == 0 for way in gone)
    assert max(gone) < 7
    moving = [way for way in gone if way > 0]
    assert len(moving) > 10
    assert min(moving) > 1.9
    for each in vehicles:
        assert each.at(0.0).equals(each.body)

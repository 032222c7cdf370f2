"""Exact coverage of pixels, against rasterising on a grid twenty times finer and against areas."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from shapely.affinity import rotate
from shapely.geometry import Point, Polygon, box

from pipeline.synthetic.coverage import LEAST, TILE_PX, cover

SHAPE = (60, 80)
FINER = 20

SHAPES = {
    "disc": Point(30.3, 20.7).buffer(11.4),
    "ring": Point(40.1, 30.2).buffer(20).difference(Point(42, 31).buffer(7.3)),
    "turned box": rotate(box(10.2, 12.9, 50.4, 22.1), 33),
    "sliver": Polygon([(2, 3), (75, 40.3), (75, 40.6), (2, 3.2)]),
    "pixels": box(10, 20, 14, 23),
    "over the border": box(-20, -10, 7.5, 200),
    "everything": box(-5, -5, 100, 100),
    "backwards": Polygon(list(Point(30, 30).buffer(5).exterior.coords)[::-1]),
}


def finely(shape: Polygon) -> np.ndarray:
    step = 1 / FINER
    size = (SHAPE[0] * FINER, SHAPE[1] * FINER)
    fine = rasterize([(shape, 1)], out_shape=size, transform=(step, 0, 0, 0, step, 0))
    return fine.reshape(SHAPE[0], FINER, SHAPE[1], FINER).mean(axis=(1, 3))


@pytest.mark.parametrize("name", SHAPES)
def test_agrees_with_a_much_finer_grid(name: str) -> None:
    shape = SHAPES[name]
    plane = cover([shape], SHAPE).plane(SHAPE)
    assert np.abs(plane - finely(shape)).max() < 0.04
    area = shape.intersection(box(0, 0, SHAPE[1], SHAPE[0])).area
    assert plane.sum(dtype=np.float64) == pytest.approx(area, abs=LEAST * shape.length + 1e-3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-10, 90), st.floats(-10, 70)), min_size=3, max_size=7))
def test_the_sum_is_the_area(points: list[tuple[float, float]]) -> None:
    hull = shapely.convex_hull(shapely.MultiPoint(points))
    if hull.geom_type != "Polygon":
        return
    area = hull.intersection(box(0, 0, SHAPE[1], SHAPE[0])).area
    share = cover([hull], SHAPE).share
    assert share.sum(dtype=np.float64) == pytest.approx(area, abs=2 * LEAST * (hull.length + 4))
    assert ((share > 0) & (share <= 1)).all()


def test_large_polygons_are_cut_without_a_seam() -> None:
    shape = (3 * TILE_PX, 2 * TILE_PX + 7)
    long = rotate(box(-100, 150, 500, 153.4), 41)
    covered = cover([long, box(0, 0, *shape[::-1]).difference(long.buffer(1e-9))], shape)
    assert len(covered.at) == shape[0] * shape[1]
    assert covered.share == pytest.approx(1.0, abs=2 * LEAST)


def test_numbers_say_which_polygon_covers_most() -> None:
    covered = cover([box(2, 2, 5.3, 6), box(5.3, 2, 8, 6)], (10, 10))
    number = np.full((10, 10), -1)
    number.flat[covered.at] = covered.number
    assert number[3].tolist() == [-1, -1, 0, 0, 0, 1, 1, 1, -1, -1]
    assert covered.share == pytest.approx(1.0)


def test_overlaps_count_once() -> None:
    covered = cover([box(2, 2, 6, 6), box(4, 2, 8, 6)], (10, 10))
    assert len(covered.at) == 24
    assert covered.share == pytest.approx(1.0)


@pytest.mark.parametrize("shapes", [[], [box(200, 200, 210, 210)]])
def test_nothing_covers_nothing(shapes: list[Polygon]) -> None:
    covered = cover(shapes, SHAPE)
    assert len(covered.at) == len(covered.share) == len(covered.number) == 0
    assert not covered.plane(SHAPE).any()

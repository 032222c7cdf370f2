import numpy as np
import pytest
from shapely import contains_xy
from shapely.affinity import rotate
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from pipeline.rasterise import rasterise
from pipeline.scene import DataError


def test_a_pixel_belongs_to_a_polygon_when_its_centre_does() -> None:
    shape = rotate(box(10, 12, 41.3, 29.7), 31).union(Point(45, 45).buffer(9))
    rows, columns = np.mgrid[:64, :64] + 0.5
    assert np.array_equal(rasterise([shape], 64, 64).astype(bool), contains_xy(shape, columns, rows))


def test_areas_of_small_things_are_unbiased() -> None:
    rng = np.random.default_rng(3)
    cars = [rotate(box(x, y, x + 5.3, y + 2.9), rng.uniform(0, 360)) for x, y in rng.uniform(20, 480, (400, 2))]
    drawn = sum(int(rasterise([car], 500, 500).sum()) for car in cars)
    assert drawn == pytest.approx(400 * 5.3 * 2.9, rel=0.02)


def test_what_lies_outside_is_clipped() -> None:
    mask = rasterise([box(-50, -50, 3, 2), box(100, 100, 120, 120)], 8, 8)
    assert mask.sum() == 6
    assert mask[:2, :3].all()


def test_both_lobes_of_a_self_crossing_polygon_are_drawn() -> None:
    bow_tie = Polygon([(0, 0), (20, 20), (20, 0), (0, 20)])
    assert not bow_tie.is_valid
    assert rasterise([bow_tie], 20, 20).sum() == pytest.approx(200, abs=20)


def test_overlapping_parts_merge_and_holes_stay() -> None:
    ring = Polygon(box(0, 0, 10, 10).exterior, [box(3, 3, 7, 7).exterior])
    both = MultiPolygon([box(20, 0, 30, 10), box(25, 0, 35, 10)])
    assert rasterise([ring], 40, 40).sum() == 100 - 16
    assert rasterise([both], 40, 40).sum() == 150


@pytest.mark.parametrize(
    "nothing", [[], [MultiPolygon()], [LineString([(0, 0), (5, 5)])], [GeometryCollection([Point(2, 2)])]]
)
def test_what_has_no_area_draws_nothing(nothing: list[object]) -> None:
    mask = rasterise(nothing, 6, 7)
    assert mask.shape == (6, 7)
    assert mask.dtype == np.uint8
    assert not mask.any()


def test_a_coordinate_that_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="not a number"):
        rasterise([Polygon([(0, 0), (np.inf, 4), (4, 4)])], 6, 6)

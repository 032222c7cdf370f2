import numpy as np
import pytest
import shapely
from shapely import contains_xy
from shapely.affinity import rotate
from shapely.geometry import GeometryCollection, LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from pipeline.imagery.rasterise import rasterise
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


def scattered(num: int, length: float, width: float, side_px: int = 300) -> list[Polygon]:
    """Turned rectangles anywhere on a square scene, some of them over its border, some over each other."""
    rng = np.random.default_rng(int(10 * length))
    places = rng.uniform(0, side_px, (num, 2))
    return [rotate(box(x, y, x + length, y + width), rng.uniform(0, 360)) for x, y in places]


def test_small_things_match_what_they_cover_by_half() -> None:
    """Truth by 16 × 16 points in every pixel."""
    shapes = scattered(250, 5.6, 2.9)
    rows, columns = (np.mgrid[: 300 * 16, : 300 * 16] + 0.5) / 16
    fine = np.zeros(rows.shape, bool)
    for shape in shapes:
        left, top, right, bottom = (
            int(each) for each in np.clip(np.array(shape.bounds) * 16 + [0, 0, 16, 16], 0, 4800)
        )
        part = slice(top, bottom), slice(left, right)
        fine[part] |= contains_xy(shape, columns[part], rows[part])
    truth = fine.reshape(300, 16, 300, 16).mean(axis=(1, 3)) >= 0.5
    drawn = rasterise(shapes, 300, 300) > 0
    assert (truth & drawn).sum() / (truth | drawn).sum() > 0.97
    assert drawn.sum() == pytest.approx(fine.mean() * 300**2, rel=0.01)


def test_neighbours_neither_overlap_nor_leave_a_gap() -> None:
    seeds = MultiPoint(np.random.default_rng(1).uniform(0, 64, (300, 2)))
    cells = shapely.voronoi_polygons(seeds, extend_to=box(0, 0, 64, 64)).geoms
    times = sum(rasterise([cell], 64, 64).astype(int) for cell in cells)
    assert (times == 1).all()


def test_slivers_between_the_centres_draw_nothing() -> None:
    assert not rasterise([box(0, 3.6, 8, 4.4), box(2.6, 0, 3.4, 8)], 8, 8).any()


def test_polygons_far_larger_than_the_image_fill_it() -> None:
    assert rasterise([box(-1e9, -1e9, 1e9, 1e9)], 7, 5).all()
    ring = Polygon(box(-1e6, -1e6, 1e6, 1e6).exterior, [box(1, 1, 3, 6).exterior])
    assert rasterise([ring], 7, 5).sum() == 35 - 10


def test_either_way_round_and_far_from_the_origin() -> None:
    ring = [(3, 3), (9, 4), (8, 11), (2, 9)]
    assert np.array_equal(rasterise([Polygon(ring)], 14, 14), rasterise([Polygon(ring[::-1])], 14, 14))
    holed = Polygon(box(0, 0, 12, 12).exterior.coords[::-1], [ring])
    same_way = Polygon(box(0, 0, 12, 12).exterior.coords, [ring])
    assert np.array_equal(rasterise([holed], 14, 14), rasterise([same_way], 14, 14))


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


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_coordinate_that_is_no_number_is_refused(bad: float) -> None:
    with np.errstate(invalid="ignore"):
        polygon = Polygon([(0, 0), (bad, 4), (4, 4), (4, 0)])
    with pytest.raises(DataError, match="not a number"):
        rasterise([polygon], 6, 6)

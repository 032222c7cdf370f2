"""F1 over polygons: held against matching by hand and by brute force, and at the edges of its rule."""

from itertools import permutations

import numpy as np
import pytest
from shapely import MultiPolygon, Polygon, box

from pipeline.maps.polygon_scoring import count_polygons, match_polygons, total
from pipeline.maps.scoring import ScoringError
from search_space.polygon_score import PolygonCounts

SQUARE = box(0, 0, 10, 10)


def counts(tp: int, fp: int, fn: int) -> PolygonCounts:
    return PolygonCounts(tp=tp, fp=fp, fn=fn)


def test_squares_by_hand() -> None:
    """Shifted by 2 of 10 px an IoU of 80 / 120; by 4 px 60 / 140, too little."""
    truth = [SQUARE, box(20, 0, 30, 10), box(40, 0, 50, 10), box(60, 0, 70, 10)]
    found = [box(44, 0, 54, 10), box(2, 0, 12, 10), box(20, 0, 30, 10), box(90, 0, 99, 9)]
    assert match_polygons(found, truth) == [(2, 1), (1, 0)]
    result = count_polygons(found, truth)
    assert result == counts(2, 2, 2)
    assert (result.precision, result.recall, result.f1) == (0.5, 0.5, 0.5)


def test_just_a_half_is_no_match() -> None:
    assert match_polygons([box(0, 0, 10, 5)], [SQUARE]) == []
    assert match_polygons([box(0, 0, 10, 5.01)], [SQUARE]) == [(0, 0)]
    # Two found halves of a house are two wrong ones and a missed one.
    assert count_polygons([box(0, 0, 10, 5), box(0, 5, 10, 10)], [SQUARE]) == counts(0, 2, 1)
    assert count_polygons([box(0, 0, 20, 10)], [SQUARE, box(10, 0, 20, 10)]) == counts(0, 1, 2)


def test_a_true_polygon_is_found_once() -> None:
    copies = [box(1, 0, 11, 10), SQUARE, box(0, 1, 10, 11)]
    assert match_polygons(copies, [SQUARE]) == [(1, 0)]
    assert count_polygons(copies, [SQUARE]) == counts(1, 2, 0)


def test_of_equal_pairs_the_first_are_taken() -> None:
    """True ones that lie on each other, as careless labels have them."""
    assert match_polygons([SQUARE, SQUARE], [SQUARE, SQUARE, SQUARE]) == [(0, 0), (1, 1)]
    either_side = [box(-1, 0, 9, 10), box(1, 0, 11, 10)]
    assert match_polygons(either_side, [SQUARE]) == [(0, 0)]


def test_holes_count() -> None:
    ring = Polygon(SQUARE.exterior, [box(1, 1, 9, 9).exterior])
    assert match_polygons([ring], [SQUARE]) == []
    assert match_polygons([ring], [Polygon(SQUARE.exterior, [box(2, 2, 9, 9).exterior])]) == [(0, 0)]


def test_nothing_found_and_nothing_there() -> None:
    assert count_polygons([], []) == counts(0, 0, 0)
    assert count_polygons([SQUARE], []) == counts(0, 1, 0)
    assert count_polygons([], [SQUARE]) == counts(0, 0, 1)
    empty = counts(0, 0, 0)
    assert (empty.f1, empty.precision, empty.recall) == (None, None, None)
    assert (counts(0, 3, 0).f1, counts(0, 3, 0).precision, counts(0, 0, 2).f1) == (None, 0.0, 0.0)


def iou_of_pixels(one: Polygon, other: Polygon) -> float:
    def pixels(polygon: Polygon) -> set[tuple[int, int]]:
        left, top, right, bottom = (int(each) for each in polygon.bounds)
        return {(x, y) for x in range(left, right) for y in range(top, bottom)}

    a, b = pixels(one), pixels(other)
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("seed", range(12))
def test_no_assignment_of_small_squares_matches_more(seed: int) -> None:
    """Disjoint true squares and disjoint found ones, each near one of them: all assignments are tried."""
    rng = np.random.default_rng(seed)
    corners = [(8 * x, 8 * y) for x in range(3) for y in range(2)]
    truth = [box(x, y, x + 5, y + 5) for x, y in corners[:5]]
    moved = [(x + int(dx), y + int(dy)) for (x, y), (dx, dy) in zip(corners, rng.integers(0, 4, (6, 2)), strict=True)]
    found = [box(x, y, x + 5, y + 5) for x, y in moved]
    ious = np.array([[iou_of_pixels(each, other) for other in truth] for each in found])
    most = max(int(sum(ious[f, t] > 0.5 for t, f in enumerate(chosen))) for chosen in permutations(range(6), 5))
    pairs = match_polygons(found, truth)
    assert len(pairs) == most
    assert all(ious[f, t] > 0.5 for f, t in pairs)
    assert count_polygons(found, truth) == counts(most, 6 - most, 5 - most)


def test_only_known_ground_counts() -> None:
    known = np.zeros((20, 40), bool)
    known[:, :20] = True
    inside, border, outside = box(2, 2, 8, 8), box(12, 2, 24, 8), box(30, 2, 36, 8)
    assert count_polygons([], [inside, border, outside], known) == counts(0, 0, 2)
    assert count_polygons([inside, border, outside], [], known) == counts(0, 2, 0)
    # Cut to known ground, what was found of the border's house is all of it.
    assert count_polygons([box(12, 2, 20, 8)], [border], known) == counts(1, 0, 0)
    assert count_polygons([box(12, 2, 39, 8)], [border], known) == counts(1, 0, 0)


def test_what_lies_elsewhere_for_the_most_part_is_neither_right_nor_wrong() -> None:
    known = np.zeros((20, 40), bool)
    known[:, :20] = True
    elsewhere = box(17, 2, 30, 8)
    assert count_polygons([], [elsewhere], known) == counts(0, 0, 0)
    assert count_polygons([elsewhere], [], known) == counts(0, 0, 0)
    # What was found there counts, but matches what does not.
    assert count_polygons([box(17, 2, 22, 8)], [elsewhere], known) == counts(0, 0, 0)
    # What was found does not count, but what it matches does.
    assert count_polygons([elsewhere], [box(17, 2, 22, 8)], known) == counts(1, 0, 0)


def test_ground_beyond_the_image_is_not_known() -> None:
    known = np.ones((10, 10), bool)
    assert count_polygons([box(0, 0, 10, 4)], [box(-3, -1, 10, 4)], known) == counts(1, 0, 0)
    assert count_polygons([], [box(-20, 0, 4, 4), box(11, 11, 14, 14)], known) == counts(0, 0, 0)
    holed = known.copy()
    holed[4:6] = False
    assert count_polygons([box(0, 0, 10, 4), box(0, 6, 10, 10)], [box(0, 0, 10, 10)], holed) == counts(0, 2, 1)
    assert count_polygons([MultiPolygon([box(0, 0, 10, 4), box(0, 6, 10, 10)])], [SQUARE], holed) == counts(1, 0, 0)


def test_a_polygon_without_an_area_is_no_thing() -> None:
    known = np.ones((10, 10), bool)
    known[:, 8:] = False
    nothing = [Polygon(), MultiPolygon(), Polygon([(1, 1), (5, 5), (1, 1)])]
    for ground in (None, known, ~known):
        assert count_polygons(nothing, [], ground) == counts(0, 0, 0)
        assert count_polygons([], nothing, ground) == counts(0, 0, 0)
        assert count_polygons(nothing, nothing, ground) == counts(0, 0, 0)
    assert count_polygons([*nothing, SQUARE], [*nothing, SQUARE], known) == counts(1, 0, 0)


def test_a_polygon_that_only_touches_known_ground_is_none_of_it() -> None:
    known = np.zeros((10, 10), bool)
    known[:, 5:] = True
    assert count_polygons([box(0, 0, 5, 5)], [box(0.5, 0, 5, 5)], known) == counts(0, 0, 0)
    # Beside a corner, and along a side of what it is cut to.
    touching = MultiPolygon([box(0, 0, 5, 5), box(7, 7, 9, 9)])
    assert count_polygons([touching], [box(7, 7, 9, 9)], known) == counts(1, 0, 0)


def test_scenes_count_by_their_polygons() -> None:
    assert total([counts(1, 2, 3), counts(4, 0, 1)]) == counts(5, 2, 4)
    assert total([]) == counts(0, 0, 0)


def test_a_threshold_out_of_range_is_refused() -> None:
    with pytest.raises(ScoringError):
        match_polygons([SQUARE], [SQUARE], 1.0)

"""Score single things: F1 over polygons, a found one being right where it shares more than half with a true one."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import shapely
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from pipeline.maps.polygons import vectorise
from pipeline.maps.scoring import ScoringError
from search_space.polygon_score import PolygonCounts

LEAST_IOU = 0.5
LEAST_SHARE = 0.5
"""Of a thing that much must lie on the ground that is scored for it to count."""

Polygons = Sequence[BaseGeometry]


def match_polygons(found: Polygons, truth: Polygons, least_iou: float = LEAST_IOU) -> list[tuple[int, int]]:
    """Pair found polygons with true ones, each with one at most.

    Of all pairs whose intersection over union is above `least_iou`, and not just equal to it, the one that agrees best
    is taken first, and its two are gone; of equal ones that with the first true, then the first found polygon. Where
    neither the found nor the true ones overlap among themselves, a half leaves no choice: then this is what SpaceNet's
    rule gives, in whatever order it looks at the found ones.

    Args:
        found: Valid polygons.
        truth: Valid polygons in the same coordinates; IoU is the same in all that are linear in one another.
        least_iou: In [0, 1).

    Returns:
        Places `(found, truth)` of the pairs, the best first.

    Raises:
        ScoringError: `least_iou` is out of range.

    Source:
        Van Etten, Lindenbaum and Bacastow, "SpaceNet: A Remote Sensing Dataset and Challenge Series", 2018.
    """
    if not 0.0 <= least_iou < 1.0:
        raise ScoringError("`least_iou` must be from 0 to below 1", received=least_iou)
    these, those = np.array(found, object), np.array(truth, object)
    if not len(these) or not len(those):
        return []
    of_found, of_truth = shapely.STRtree(those).query(these, predicate="intersects")
    both = shapely.area(shapely.intersection(these[of_found], those[of_truth]))
    either = shapely.area(these)[of_found] + shapely.area(those)[of_truth] - both
    agree = both > least_iou * either
    of_found, of_truth, iou = of_found[agree], of_truth[agree], (both[agree] / either[agree])
    pairs: list[tuple[int, int]] = []
    taken_found, taken_truth = set[int](), set[int]()
    for place in np.lexsort((of_found, of_truth, -iou)).tolist():
        f, t = int(of_found[place]), int(of_truth[place])
        if f not in taken_found and t not in taken_truth:
            pairs.append((f, t))
            taken_found.add(f)
            taken_truth.add(t)
    return pairs


def count_polygons(
    found: Polygons, truth: Polygons, known: npt.NDArray[np.bool_] | None = None, least_iou: float = LEAST_IOU
) -> PolygonCounts:
    """Count right, superfluous and missed polygons of one class in one scene.

    Where only some ground is known, or counts, polygons are cut to it before they are compared. One of which less than
    half lies there is neither right nor wrong, nor is what is matched with a true one of that kind: what is a thing
    there, other ground decides. One without an area, such as an empty one, is no thing.

    Args:
        found: In pixel coordinates.
        truth: The same; invalid ones should have been mended.
        known: Bool `(H, W)`, True on ground that counts; all ground where None.
        least_iou: See `match_polygons`.
    """
    if known is None:
        counted_found, counted_truth = (shapely.area(np.array(each, object)) > 0 for each in (found, truth))
    else:
        found, counted_found = _cut(found, known)
        truth, counted_truth = _cut(truth, known)
    pairs = match_polygons(found, truth, least_iou)
    matched_found, matched_truth = {f for f, _ in pairs}, {t for _, t in pairs}
    return PolygonCounts(
        tp=sum(1 for _, t in pairs if counted_truth[t]),
        fp=sum(1 for f in np.flatnonzero(counted_found).tolist() if f not in matched_found),
        fn=sum(1 for t in np.flatnonzero(counted_truth).tolist() if t not in matched_truth),
    )


def total(counts: Iterable[PolygonCounts]) -> PolygonCounts:
    """The sum over scenes, from which a score counts every polygon alike."""
    summed = [(each.tp, each.fp, each.fn) for each in counts]
    tp, fp, fn = (sum(column) for column in zip(*summed, strict=True)) if summed else (0, 0, 0)
    return PolygonCounts(tp=tp, fp=fp, fn=fn)


def _cut(polygons: Polygons, known: npt.NDArray[np.bool_]) -> tuple[list[BaseGeometry], npt.NDArray[np.bool_]]:
    """Polygons cut to known ground, and which of them lie there for the most part."""
    cut = [_cut_one(polygon, known) for polygon in polygons]
    areas, shown = shapely.area(np.array(polygons, object)), shapely.area(np.array(cut, object))
    return cut, (shown > 0) & (shown >= LEAST_SHARE * areas)


def _cut_one(polygon: BaseGeometry, known: npt.NDArray[np.bool_]) -> BaseGeometry:
    """What of a polygon lies on known ground, maybe nothing; only what is known around it is traced."""
    if polygon.is_empty:
        return polygon
    left, top, right, bottom = polygon.bounds
    first_row, last_row = max(0, math.floor(top)), max(0, math.ceil(bottom))
    first_column, last_column = max(0, math.floor(left)), max(0, math.ceil(right))
    around = known[first_row:last_row, first_column:last_column]
    is_inside = left >= 0 and top >= 0 and last_row <= known.shape[0] and last_column <= known.shape[1]
    if is_inside and around.all():
        return polygon
    if not around.any():
        return shapely.Polygon()
    return polygon.intersection(translate(vectorise(around), first_column, first_row))

"""The score: Jaccard per class over the summed areas of all scenes, and its mean over the classes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import shapely
from pydantic import Field
from shapely.geometry.base import BaseGeometry

from search_space.decode import Frozen
from search_space.errors import MapgroveError

Area = Annotated[float, Field(ge=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Empty = Literal["one", "zero", "exclude"]
Masks = npt.NDArray[np.bool_] | npt.NDArray[np.uint8]
Geometries = Mapping[str, Sequence[BaseGeometry]]


class ScoringError(MapgroveError, ValueError):
    """Truth and prediction that do not belong together."""


class ClassScore(Frozen):
    """How well one class is mapped.

    Attributes:
        tp: Area predicted and true, summed over all scenes, in the unit of the score.
        fp: Area predicted, but not true.
        fn: Area true, but not predicted.
        jaccard: TP / (TP + FP + FN); for a class that is empty in truth and prediction what `Score.empty` says; None
            where it counts nothing.
    """

    tp: Area
    fp: Area
    fn: Area
    jaccard: Share | None


class Score(Frozen):
    """How well all classes are mapped.

    Attributes:
        classes: Per class, in order.
        mean_jaccard: Mean over the classes that have a Jaccard; None where none has.
        empty: What a class counts that is empty in truth and prediction over all scenes: 1, 0, or nothing.
        unit: What areas are measured in.
    """

    classes: dict[str, ClassScore]
    mean_jaccard: Share | None
    empty: Empty
    unit: Literal["pixels", "square units of the coordinates"]

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that the truth has nowhere, whatever was predicted."""
        return tuple(name for name, each in self.classes.items() if each.tp + each.fn == 0)

    def without_absent(self) -> "Score":
        """The same areas with no Jaccard for classes that the truth has nowhere: ground without them cannot tell."""
        blank = {name: each.model_copy(update={"jaccard": None}) for name, each in self.classes.items()}
        classes = {name: blank[name] if name in self.absent else each for name, each in self.classes.items()}
        return self.model_copy(update={"classes": classes, "mean_jaccard": _mean(classes.values())})


def score_masks(
    scenes: Iterable[tuple[Masks, Masks, npt.NDArray[np.bool_]]], classes: Sequence[str], *, empty: Empty = "one"
) -> Score:
    """Score masks pixel by pixel.

    Args:
        scenes: Per scene the predicted masks `(H, W, K)`, the true masks `(H, W, K)`, bool or 0/1, and bool `(H, W)`,
            False where the truth is not known: such pixels are left out. Taken one at a time.
        classes: K names.
        empty: What a class counts that is empty in truth and prediction: sources on the DSTL competition disagree
            between "one" and "zero"; "exclude" leaves it out of the mean.

    Returns:
        Areas in pixels, Jaccard per class, and their mean.

    Raises:
        ScoringError: Shapes that do not belong together.
    """
    counts = np.zeros((len(classes), 3), np.int64)
    for predicted, truth, known in scenes:
        expected = (*known.shape, len(classes))
        if predicted.shape != expected or truth.shape != expected:
            raise ScoringError(
                f"predicted and true masks must have the shape {expected} of the known pixels and the classes",
                received=(predicted.shape, truth.shape),
            )
        for k, count in enumerate(counts):
            count += _count(predicted[..., k] > 0, truth[..., k] > 0, np.asarray(known, bool))
    areas = {name: (int(tp), int(fp), int(fn)) for name, (tp, fp, fn) in zip(classes, counts, strict=True)}
    return _score(areas, empty, "pixels")


def score_polygons(
    scenes: Iterable[tuple[Geometries, Geometries]], classes: Sequence[str], *, empty: Empty = "one"
) -> Score:
    """Score polygons by their areas, as the DSTL competition does.

    Args:
        scenes: Per scene the predicted and the true polygons of each class, in the same coordinates; a class may be
            left out. Invalid polygons are repaired, overlapping ones of one class count once.
        classes: Names of the classes to be scored.
        empty: As in `score_masks`.

    Returns:
        Areas in square units of the coordinates, Jaccard per class, and their mean.

    Raises:
        ScoringError: A scene has polygons of a class that is not scored.
    """
    areas = dict.fromkeys(classes, (0.0, 0.0, 0.0))
    for predicted, truth in scenes:
        if strangers := sorted({*predicted, *truth} - {*classes}):
            raise ScoringError("a scene has polygons of a class that is not scored", received=", ".join(strangers))
        for name, (tp, fp, fn) in areas.items():
            found, true = _union(predicted.get(name, ())), _union(truth.get(name, ()))
            both = found.intersection(true).area
            # Areas are differences of nearly equal numbers where both agree, and must not fall below 0.
            areas[name] = (tp + both, fp + max(0.0, found.area - both), fn + max(0.0, true.area - both))
    return _score(areas, empty, "square units of the coordinates")


def _count(
    predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]
) -> tuple[int, int, int]:
    predicted, truth = predicted & known, truth & known
    both = int(np.count_nonzero(predicted & truth))
    return both, int(np.count_nonzero(predicted)) - both, int(np.count_nonzero(truth)) - both


def _union(geometries: Sequence[BaseGeometry]) -> BaseGeometry:
    return shapely.union_all([each if each.is_valid else shapely.make_valid(each) for each in geometries])


def _score(
    areas: Mapping[str, tuple[float, float, float]],
    empty: Empty,
    unit: Literal["pixels", "square units of the coordinates"],
) -> Score:
    neither: dict[Empty, float | None] = {"one": 1.0, "zero": 0.0, "exclude": None}
    if empty not in neither:
        raise ScoringError(f"`empty` must be one of {', '.join(neither)}", received=empty)
    scores = {}
    for name, (tp, fp, fn) in areas.items():
        union = tp + fp + fn
        scores[name] = ClassScore(tp=tp, fp=fp, fn=fn, jaccard=tp / union if union > 0 else neither[empty])
    return Score(classes=scores, mean_jaccard=_mean(scores.values()), empty=empty, unit=unit)


def _mean(scores: Iterable[ClassScore]) -> float | None:
    counted = [each.jaccard for each in scores if each.jaccard is not None]
    return sum(counted) / len(counted) if counted else None

"""The threshold of a class, and a score that owes nothing to the ground it is counted on: cross-fitting.

The threshold that is kept is the best over all validation ground of all models together. Were the score counted with
it, the ground would have chosen what it is measured by. So the score takes, for each part of the ground, the threshold
that the other parts chose, and counts on the part; the counts of all parts are added up. Parts are folds where several
were counted, else scenes, those of the same ground as one.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipeline.validation.confusion import Confusion, ThresholdCounts
from search_space.errors import MapgroveError
from search_space.records import ClassMap, Counts, FoldJaccard, ScoreFrom, SpreadOver

SameGround = Iterable[Sequence[str]]


@dataclass(frozen=True)
class Counted:
    """What was counted of one model of a class on the ground it was validated on.

    Attributes:
        fold: The fold whose ground that is; 0 for the study's own validation ground.
        scenes: Per scene its pixels, whole numbers `(2, 256)`: see `Validation.counts`.
    """

    fold: int
    scenes: Mapping[str, ArrayLike]

    @property
    def num_labelled(self) -> int:
        """Pixels that are labelled with the class."""
        return sum(int(np.asarray(counts)[1].sum()) for counts in self.scenes.values())


@dataclass(frozen=True)
class _Tally:
    """One model: its fold, and its counts by part of the ground."""

    fold: int
    parts: dict[str, ThresholdCounts]


def class_map(
    class_name: str,
    models: Sequence[Counted],
    *,
    same_ground: SameGround = (),
    absent_folds: Iterable[int] = (),
) -> ClassMap:
    """Choose the threshold of a class and score its models.

    Every model's pixels count, so ground on which more models were validated counts as often. A fold whose ground lacks
    the class is left out of everything and named; a scene without it, in a fold that has it, counts with what is
    falsely found there.

    Args:
        class_name: The class.
        models: Its models, one at least, all of one split.
        same_ground: Groups of scenes that show the same ground: none of them may choose a threshold for another.
        absent_folds: Further folds that lack the class, for which no model was trained.

    Returns:
        Threshold, score and spread, and what ground each comes from.

    Raises:
        MapgroveError: No ground has a pixel of the class.
    """
    labelled = [each for each in models if each.num_labelled]
    if not labelled:
        raise MapgroveError(
            f"no validation ground has {class_name}, so no threshold can be chosen",
            remedy="Hold out other ground in [folds], or leave the class out with --classes",
        )
    present = {each.fold for each in labelled}
    absent = {*absent_folds, *(each.fold for each in models)} - present
    tallies = _tallied(labelled, same_ground)
    total = _total(part for tally in tallies for part in tally.parts.values())
    kept = _best(total)
    thresholds, is_cross_fitted = _thresholds(tallies, kept)
    found = [_at(tally, thresholds) for tally in tallies]
    tp, fp, fn = (sum(int(getattr(each, name)[0]) for each in found) for name in ("tp", "fp", "fn"))
    jaccards = [float(each.jaccard[0]) for each in found]
    folds = _by_fold(tallies, jaccards)
    values = [each.jaccard for each in folds] if len(folds) > 1 else jaccards
    spread = statistics.stdev(values) if len(values) > 1 else None
    over: SpreadOver = "folds" if len(folds) > 1 else "models"
    other: ScoreFrom = "other folds" if len(folds) > 1 else "other scenes"
    return ClassMap(
        class_name=class_name,
        threshold=kept,
        threshold_from="validation" if 0 in present else "folds",
        jaccard=tp / (tp + fp + fn),
        score_from=other if is_cross_fitted else "same ground",
        counts=Counts(tp=tp, fp=fp, fn=fn),
        folds=folds,
        spread=spread,
        spread_over="" if spread is None else over,
        absent_folds=tuple(sorted(absent)),
    )


def _tallied(models: Sequence[Counted], same_ground: SameGround) -> list[_Tally]:
    """The models' counts by part: folds where there are several, else places."""
    by_fold = len({each.fold for each in models}) > 1
    place_of = {scene: group[0] for group in same_ground for scene in group}
    tallies = []
    for model in models:
        parts: dict[str, ThresholdCounts] = {}
        for scene, histogram in model.scenes.items():
            part = f"fold {model.fold}" if by_fold else place_of.get(scene, scene)
            parts[part] = parts.get(part, ThresholdCounts(1)) + ThresholdCounts.of(np.asarray(histogram)[None])
        tallies.append(_Tally(model.fold, parts))
    return tallies


def _total(parts: Iterable[ThresholdCounts]) -> ThresholdCounts:
    return sum(parts, ThresholdCounts(1))


def _best(counts: ThresholdCounts) -> float:
    [best] = counts.best()
    if best is None:
        raise MapgroveError("a threshold was asked of ground without the class")
    return best.threshold


def _thresholds(tallies: Sequence[_Tally], kept: float) -> tuple[dict[str, float], bool]:
    """The threshold that serves for each part, and whether the others chose it: two parts must have the class."""
    parts = list(dict.fromkeys(name for tally in tallies for name in tally.parts))
    own = {part: _total(tally.parts[part] for tally in tallies if part in tally.parts) for part in parts}
    if sum(int(counts.num_labelled[0]) > 0 for counts in own.values()) < 2:
        return dict.fromkeys(parts, kept), False
    return {part: _best(_total(own[each] for each in parts if each != part)) for part in parts}, True


def _at(tally: _Tally, thresholds: Mapping[str, float]) -> Confusion:
    """A model's pixels, each part's at the threshold that serves there."""
    found = [counts.at([thresholds[part]]) for part, counts in tally.parts.items()]
    tp, fp, fn = (np.sum([getattr(each, name) for each in found], axis=0) for name in ("tp", "fp", "fn"))
    return Confusion(tp, fp, fn)


def _by_fold(tallies: Sequence[_Tally], jaccards: Sequence[float]) -> tuple[FoldJaccard, ...]:
    found: dict[int, list[float]] = {}
    for tally, jaccard in zip(tallies, jaccards, strict=True):
        found.setdefault(tally.fold, []).append(jaccard)
    return tuple(
        FoldJaccard(fold=fold, jaccard=statistics.fmean(values), num_models=len(values))
        for fold, values in sorted(found.items())
    )

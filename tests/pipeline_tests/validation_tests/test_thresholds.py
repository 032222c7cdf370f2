"""Cross-fitted thresholds, against plain loops that know nothing of histograms' sums."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.validation.confusion import NUM_LEVELS, ThresholdCounts
from pipeline.validation.thresholds import Counted, class_map
from search_space.errors import MapgroveError

Pixels = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Probabilities and truth of a piece of ground."""


def pixels(seed: int, share: float = 0.3, shift: float = 0.0, size: int = 400) -> Pixels:
    """Ground on which what is labelled tends to have higher probabilities; `shift` moves all of them."""
    rng = np.random.default_rng(seed)
    truth = rng.random(size) < share
    probabilities = np.clip(rng.normal(0.35 + shift + 0.25 * truth, 0.15), 0, 1).astype(np.float32)
    return probabilities, truth


def histogram(ground: Pixels) -> NDArray[np.int64]:
    counts = ThresholdCounts(1)
    probabilities, truth = ground
    counts.add(probabilities.reshape(1, -1, 1), truth.reshape(1, -1, 1), np.ones((1, truth.size), bool))
    return counts.histogram[0]


def counted(fold: int, scenes: Mapping[str, Pixels]) -> Counted:
    return Counted(fold, {name: histogram(ground) for name, ground in scenes.items()})


def right_and_wrong(grounds: Sequence[Pixels], threshold: float) -> NDArray[np.int64]:
    """TP, FP, FN by comparing every pixel."""
    found = np.zeros(3, np.int64)
    for probabilities, truth in grounds:
        mapped = probabilities >= threshold
        found += [(mapped & truth).sum(), (mapped & ~truth).sum(), (~mapped & truth).sum()]
    return found


def jaccard(counts: NDArray[np.int64]) -> float:
    return float(counts[0] / counts.sum())


def best_threshold(grounds: Sequence[Pixels]) -> float:
    """By trying all of them; of equals the nearest to a half, of these the higher one."""
    tried = [(jaccard(right_and_wrong(grounds, k / 256)), -abs(k - 128), k / 256) for k in range(1, NUM_LEVELS)]
    return max(tried)[2]


def test_folds_choose_for_each_other_and_all_of_them_for_what_is_kept() -> None:
    # Two seeds in each of three folds; what suits one fold does not suit the next.
    grounds = {
        (fold, seed): {f"s{fold}": pixels(10 * fold + seed, shift=0.1 * fold), "t": pixels(50 + 10 * fold + seed)}
        for fold in (1, 2, 3)
        for seed in (0, 1)
    }

    found = class_map("road", [counted(fold, scenes) for (fold, _), scenes in grounds.items()])

    def of(folds: Sequence[int]) -> list[Pixels]:
        return [ground for (fold, _), scenes in grounds.items() if fold in folds for ground in scenes.values()]

    chosen = {1: best_threshold(of([2, 3])), 2: best_threshold(of([1, 3])), 3: best_threshold(of([1, 2]))}
    assert len(set(chosen.values())) > 1, "the test shows nothing"
    total = sum((right_and_wrong(of([fold]), chosen[fold]) for fold in chosen), np.zeros(3, np.int64))
    assert found.threshold == best_threshold(of([1, 2, 3]))
    assert found.counts is not None
    assert (found.counts.tp, found.counts.fp, found.counts.fn) == tuple(total)
    assert found.jaccard == pytest.approx(jaccard(total))
    per_fold = [
        mean(jaccard(right_and_wrong(list(grounds[fold, seed].values()), chosen[fold])) for seed in (0, 1))
        for fold in chosen
    ]
    assert [(each.fold, each.num_models) for each in found.folds] == [(1, 2), (2, 2), (3, 2)]
    assert [each.jaccard for each in found.folds] == pytest.approx(per_fold)
    assert found.spread == pytest.approx(stdev(per_fold))
    assert (found.spread_over, found.threshold_from, found.score_from) == ("folds", "folds", "other folds")
    best_on_all = jaccard(right_and_wrong(of([1, 2, 3]), found.threshold))
    assert found.jaccard < best_on_all, "a score may not flatter itself"


def test_without_folds_scenes_choose_for_each_other_and_models_are_what_spreads() -> None:
    grounds = {rank: {name: pixels(7 * rank + n, shift=0.1 * n) for n, name in enumerate("abc")} for rank in (0, 1, 2)}

    found = class_map("road", [counted(0, scenes) for scenes in grounds.values()])

    chosen = {
        name: best_threshold([scenes[other] for scenes in grounds.values() for other in "abc" if other != name])
        for name in "abc"
    }
    of_models = [
        sum((right_and_wrong([scenes[name]], chosen[name]) for name in "abc"), np.zeros(3, np.int64))
        for scenes in grounds.values()
    ]
    assert found.jaccard == pytest.approx(jaccard(sum(of_models, np.zeros(3, np.int64))))
    assert found.spread == pytest.approx(stdev(map(jaccard, of_models)))
    [fold] = found.folds
    assert (fold.fold, fold.num_models) == (0, 3)
    assert fold.jaccard == pytest.approx(mean(map(jaccard, of_models)))
    assert (found.spread_over, found.threshold_from, found.score_from) == ("models", "validation", "other scenes")


def test_a_scene_without_the_class_counts_with_what_is_falsely_found_there() -> None:
    scenes = {"a": pixels(1), "b": pixels(2, shift=0.1), "bare": pixels(3, share=0.0, shift=0.2)}

    found = class_map("road", [counted(0, scenes)])

    all_but_bare = best_threshold([scenes["a"], scenes["b"]])
    false_there = right_and_wrong([scenes["bare"]], all_but_bare)
    assert false_there[1] > 0
    total = false_there + right_and_wrong([scenes["a"]], best_threshold([scenes["b"], scenes["bare"]]))
    total += right_and_wrong([scenes["b"]], best_threshold([scenes["a"], scenes["bare"]]))
    assert found.jaccard == pytest.approx(jaccard(total))
    assert found.spread is None


@pytest.mark.parametrize("same_ground", [(), [("a", "b")]])
def test_scenes_of_the_same_ground_do_not_choose_for_each_other(same_ground: list[tuple[str, str]]) -> None:
    scenes = {"a": pixels(1), "b": pixels(2, shift=0.2)}

    found = class_map("road", [counted(0, scenes)], same_ground=same_ground)

    assert found.score_from == ("same ground" if same_ground else "other scenes")


def test_where_one_scene_alone_has_the_class_its_score_is_told_to_flatter() -> None:
    scenes = {"a": pixels(1), "bare": pixels(2, share=0.0)}

    found = class_map("road", [counted(0, scenes)])

    every = list(scenes.values())
    assert found.threshold == best_threshold(every)
    assert found.jaccard == pytest.approx(jaccard(right_and_wrong(every, found.threshold)))
    assert found.flatters
    assert (found.spread, found.spread_over) == (None, "")


def test_folds_that_lack_the_class_are_left_out_and_named() -> None:
    grounds = {1: pixels(1), 2: pixels(2, shift=0.1), 3: pixels(3, share=0.0, shift=0.3)}
    models = [counted(fold, {"s": ground}) for fold, ground in grounds.items()]

    found = class_map("road", models, absent_folds=[5])

    assert found.absent_folds == (3, 5)
    assert found == class_map("road", models[:2], absent_folds=[3, 5])
    with pytest.raises(MapgroveError, match=r"no validation ground has road, so no threshold can be chosen\. Hold out"):
        class_map("road", models[2:])


def test_of_a_single_fold_the_scenes_choose_for_each_other() -> None:
    scenes = {"a": pixels(1), "b": pixels(2)}

    found = class_map("road", [counted(2, scenes)])

    assert (found.threshold_from, found.score_from) == ("folds", "other scenes")
    assert found.jaccard == class_map("road", [counted(0, scenes)]).jaccard

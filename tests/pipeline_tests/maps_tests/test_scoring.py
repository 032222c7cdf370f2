import json

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.maps.polygons import vectorise
from pipeline.maps.scoring import Score, ScoringError, score_masks, score_polygons
from search_space.decode import decode, encode

CLASSES = ("a", "b", "c")


def random_scene(seed, height=17, width=29):
    rng = np.random.default_rng(seed)
    predicted = (rng.random((height, width, 3)) < 0.4).astype(np.uint8)
    truth = (rng.random((height, width, 3)) < 0.3).astype(np.uint8)
    predicted[..., 2] = truth[..., 2] = 0
    return predicted, truth, rng.random((height, width)) < 0.7


def everything_known(scene):
    predicted, truth, known = scene
    return predicted, truth, np.ones_like(known)


def test_masks_are_scored_over_all_scenes_together():
    scenes = [random_scene(seed) for seed in range(3)]
    score = score_masks(iter(scenes), CLASSES)
    for k, name in enumerate("ab"):
        predicted = np.concatenate([each[0][..., k][each[2]] for each in scenes])
        truth = np.concatenate([each[1][..., k][each[2]] for each in scenes])
        both = np.sum((predicted == 1) & (truth == 1))
        either = np.sum((predicted == 1) | (truth == 1))
        found = score.classes[name]
        assert (found.tp, found.fp, found.fn) == (both, predicted.sum() - both, truth.sum() - both)
        assert found.jaccard == pytest.approx(both / either)
    assert score.mean_jaccard == pytest.approx((score.classes["a"].jaccard + score.classes["b"].jaccard + 1.0) / 3)


@pytest.mark.parametrize(("empty", "jaccard", "divisor"), [("one", 1.0, 3), ("zero", 0.0, 3), ("exclude", None, 2)])
def test_a_class_empty_in_both_counts_as_chosen(empty, jaccard, divisor):
    score = score_masks([random_scene(0)], CLASSES, empty=empty)
    rest = score.classes["a"].jaccard + score.classes["b"].jaccard
    assert score.classes["c"].jaccard == jaccard
    assert score.mean_jaccard == pytest.approx((rest + (jaccard or 0.0)) / divisor)
    assert score.empty == empty


def test_a_class_empty_in_the_truth_alone_scores_zero():
    predicted = np.zeros((4, 4, 1), bool)
    predicted[0, 0] = True
    for empty in ("one", "zero", "exclude"):
        score = score_masks([(predicted, np.zeros_like(predicted), np.ones((4, 4), bool))], ["a"], empty=empty)
        assert score.classes["a"].jaccard == 0.0


def test_nothing_to_score_has_no_mean():
    assert score_masks([], CLASSES, empty="exclude").mean_jaccard is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_polygons_of_masks_score_as_the_masks(seed):
    """Two ways to the same areas: pixels counted, and outlines intersected."""
    scenes = [everything_known(random_scene(seed + number)) for number in range(2)]
    outlines = [
        tuple({name: [vectorise(masks[..., k])] for k, name in enumerate(CLASSES)} for masks in scene[:2])
        for scene in scenes
    ]
    by_pixels, by_areas = score_masks(scenes, CLASSES), score_polygons(outlines, CLASSES)
    for name in CLASSES:
        for field in ("tp", "fp", "fn", "jaccard"):
            expected = getattr(by_pixels.classes[name], field)
            assert getattr(by_areas.classes[name], field) == pytest.approx(expected, abs=1e-6)
    assert by_areas.mean_jaccard == pytest.approx(by_pixels.mean_jaccard)


def test_overlapping_and_invalid_polygons_count_their_area_once():
    bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    score = score_polygons([({"a": [bow_tie, bow_tie]}, {"a": [shapely.box(0, 0, 2, 2)]})], ["a"])
    assert score.classes["a"].tp == pytest.approx(2.0)
    assert score.classes["a"].fn == pytest.approx(2.0)
    assert score.mean_jaccard == pytest.approx(0.5)


def test_missing_classes_are_empty_and_strangers_refused():
    score = score_polygons([({"a": [shapely.box(0, 0, 1, 1)]}, {})], ["a", "b"])
    assert (score.classes["a"].jaccard, score.classes["b"].jaccard) == (0.0, 1.0)
    with pytest.raises(ScoringError, match="'z'"):
        score_polygons([({"z": []}, {})], ["a"])


def test_a_score_goes_through_json():
    score = score_masks([random_scene(0)], CLASSES, empty="exclude")
    assert decode(Score, json.loads(json.dumps(encode(score))), where="a score") == score


def test_wrong_shapes_and_choices_are_refused():
    predicted, truth, known = random_scene(0)
    with pytest.raises(ScoringError, match=r"\(17, 29, 3\)"):
        score_masks([(predicted[:-1], truth, known)], CLASSES)
    with pytest.raises(ScoringError, match="one, zero, exclude"):
        score_masks([], CLASSES, empty="two")


def test_without_absent_classes_the_mean_is_that_of_the_labelled_ones():
    predicted, truth, known = random_scene(0)
    predicted[..., 2] = 1
    score = score_masks([(predicted, truth, known)], CLASSES)
    assert score.classes["c"].jaccard == 0.0
    assert score.absent == ("c",)

    left = score.without_absent()

    assert left.classes["c"].jaccard is None
    assert left.classes["c"].fp == score.classes["c"].fp > 0
    assert left.mean_jaccard == pytest.approx((score.classes["a"].jaccard + score.classes["b"].jaccard) / 2)

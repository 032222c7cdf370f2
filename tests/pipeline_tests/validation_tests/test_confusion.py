"""Counting in one pass must agree with comparing every probability with every threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.validation.confusion import NUM_LEVELS, CountingError, ThresholdCounts, nearest_threshold

EDGES = np.arange(NUM_LEVELS) / NUM_LEVELS


def just_around_edges():
    edges = EDGES.astype(np.float32)
    below, above = np.nextafter(edges[1:], np.float32(-1)), np.nextafter(edges, np.float32(2))
    return np.concatenate([edges, below, above, [1.0]])


def scene(seed, height=23, width=31, classes=3):
    rng = np.random.default_rng(seed)
    probabilities = rng.choice(just_around_edges(), (height, width, classes)).astype(np.float32)
    probabilities[rng.random((height, width)) < 0.1] = np.nan
    truth = (rng.random((height, width, classes)) < 0.3).astype(np.uint8)
    known = rng.random((height, width)) < 0.8
    return probabilities, truth, known


def direct(scenes, k, threshold):
    tp = fp = fn = 0
    for probabilities, truth, known in scenes:
        counted = known & ~np.isnan(probabilities[..., k])
        predicted = probabilities[..., k] >= threshold
        labelled = truth[..., k] == 1
        tp += np.count_nonzero(counted & predicted & labelled)
        fp += np.count_nonzero(counted & predicted & ~labelled)
        fn += np.count_nonzero(counted & ~predicted & labelled)
    return tp, fp, fn


def test_every_threshold_is_counted_as_a_direct_comparison_counts_it():
    scenes = [scene(seed) for seed in range(3)]
    counts = ThresholdCounts(3)
    for each in scenes:
        counts.add(*each)
    every = counts.everywhere
    for k in range(3):
        for column, threshold in enumerate(EDGES):
            expected = direct(scenes, k, threshold)
            assert (every.tp[k, column], every.fp[k, column], every.fn[k, column]) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_any_float_falls_on_the_right_side_of_every_edge(values, seed):
    probabilities = np.array(values, np.float32).reshape(1, -1, 1)
    truth = np.random.default_rng(seed).random(probabilities.shape) < 0.5
    known = np.ones(probabilities.shape[:2], bool)
    counts = ThresholdCounts(1)
    counts.add(probabilities, truth, known)
    for column, threshold in enumerate(EDGES):
        every = counts.everywhere
        assert (every.tp[0, column], every.fp[0, column], every.fn[0, column]) == direct(
            [(probabilities, truth, known)], 0, threshold
        )


def test_the_best_threshold_is_the_best_of_all():
    scenes = [scene(seed) for seed in range(2)]
    counts = ThresholdCounts(3)
    for each in scenes:
        counts.add(*each)
    for k, best in enumerate(counts.best()):
        jaccards = [tp / (tp + fp + fn) for tp, fp, fn in (direct(scenes, k, edge) for edge in EDGES[1:])]
        assert best.jaccard == pytest.approx(max(jaccards))
        assert jaccards[int(best.threshold * NUM_LEVELS) - 1] == pytest.approx(max(jaccards))


def test_counts_at_given_thresholds_are_one_column_per_class():
    counts = ThresholdCounts(3)
    counts.add(*scene(5))
    at = counts.at([0.5, 0.25, 0.0])
    for k, threshold in enumerate([0.5, 0.25, 0.0]):
        assert (at.tp[k], at.fp[k], at.fn[k]) == direct([scene(5)], k, threshold)


def test_among_equal_thresholds_the_middle_is_taken():
    counts = ThresholdCounts(1)
    probabilities = np.array([[0.1, 0.9]], np.float32)[..., None]
    counts.add(probabilities, probabilities > 0.5, np.ones((1, 2), bool))
    assert counts.best()[0].threshold == 0.5
    assert counts.best()[0].jaccard == 1.0


def test_a_class_without_labelled_pixels_has_no_best_threshold():
    counts = ThresholdCounts(2)
    truth = np.zeros((4, 4, 2), bool)
    truth[0, 0, 1] = True
    counts.add(np.full((4, 4, 2), 0.3, np.float32), truth, np.ones((4, 4), bool))
    absent, present = counts.best()
    assert absent is None
    assert present.jaccard == pytest.approx(1 / 16)
    assert np.isnan(counts.at([0.5, 0.5]).jaccard[0])


def test_large_scenes_are_counted_in_strips_without_loss():
    rng = np.random.default_rng(0)
    probabilities = rng.random((1500, 1400, 1)).astype(np.float32)
    truth = rng.random(probabilities.shape) < 0.2
    counts = ThresholdCounts(1)
    counts.add(probabilities, truth, np.ones((1500, 1400), bool))
    half = counts.at([0.5])
    assert half.tp[0] == np.count_nonzero((probabilities >= 0.5) & truth)
    assert half.fp[0] == np.count_nonzero((probabilities >= 0.5) & ~truth)


def test_thresholds_between_levels_are_refused_with_the_nearest():
    counts = ThresholdCounts(1)
    with pytest.raises(CountingError, match=r"Received 0\.3\. Use 0\.30078125"):
        counts.at([0.3])
    with pytest.raises(CountingError, match="one threshold for each of 1"):
        counts.at([0.5, 0.5])
    assert nearest_threshold(0.3) == 77 / 256


def test_other_shapes_are_refused():
    with pytest.raises(CountingError, match=r"\(4, 4, 2\)"):
        ThresholdCounts(2).add(np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), bool), np.ones((4, 4), bool))


def test_counts_come_back_from_their_histograms_and_add_up():
    one, two, both = ThresholdCounts(3), ThresholdCounts(3), ThresholdCounts(3)
    for counts, seeds in ((one, [1]), (two, [2, 3]), (both, [1, 2, 3])):
        for seed in seeds:
            counts.add(*scene(seed))
    total = ThresholdCounts.of(one.histogram.tolist()) + two
    np.testing.assert_array_equal(total.histogram, both.histogram)
    assert total.best() == both.best()
    probabilities, truth, known = scene(1)
    seen = known & ~np.isnan(probabilities[..., 1])
    assert one.num_labelled[1] == np.count_nonzero(truth[..., 1][seen])
    with pytest.raises(CountingError, match=r"\(K, 2, 256\). Received \(2, 256\)"):
        ThresholdCounts.of(np.zeros((2, 256)))

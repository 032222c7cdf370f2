import warnings

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from scipy.stats import kruskal

from results.effect_figures import what_mattered
from results.figures import best_learning_curves, jaccard_per_class, learning_curves, search_progress, spread
from results.importance import MIN_TRIALS, dimension_effects, group_numbers
from results.style import DARK, png_bytes, save_png
from search_space.objective import EpochReport


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in [*axes.texts, axes.title, axes._left_title]]


def test_progress_shows_every_done_trial_and_the_best_so_far(trial):
    values = [0.25, 0.5, 0.375, 0.75]
    given = [trial(n, {"a": value}) for n, value in enumerate(values)] + [trial(4, state="failed")]
    axes = search_progress(reversed(given), 2).axes[0]
    dots = axes.collections[0].get_offsets()
    np.testing.assert_allclose(np.sort(np.asarray(dots)[:, 0]), [0, 1, 2, 3])
    best = axes.lines[0].get_ydata()
    np.testing.assert_allclose(best, [0.25, 0.5, 0.5, 0.75, 0.75])
    assert "best 0.750\ntrial 3" in [text.get_text() for text in axes.texts]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["1 failed"]


def test_marks_without_a_result_lie_below_all_results(trials):
    axes = search_progress(trials, 10).axes[0]
    marks = [dots.get_offsets()[0][1] for dots in axes.collections if dots.get_label().endswith(("failed", "early"))]
    lowest = min(1 - each.loss for each in trials if each.loss is not None)
    assert marks
    assert max(marks) < lowest
    assert min(marks) > axes.get_ylim()[0]


@pytest.mark.parametrize("startup", [0, 5])
def test_progress_of_no_trials_says_so(startup):
    assert "no trial is done yet" in texts(search_progress([], startup))


def test_learning_curves_draw_each_run_with_its_numbers(trials):
    figure = best_learning_curves(trials, 3)
    left, right = figure.axes
    assert len([line for line in left.lines if len(line.get_xdata()) == 12]) == 3
    best = max((each for each in trials if each.loss is not None), key=lambda each: -each.loss)
    np.testing.assert_allclose(left.lines[0].get_ydata(), [report.mean_jaccard for report in best.reports])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [report.training_loss for report in best.reports])
    assert f"trial {best.number}" in texts(figure)


def test_learning_curves_without_epochs_or_without_jaccard_can_be_drawn():
    assert "no epochs yet" in texts(learning_curves({}))
    figure = learning_curves({"a": [EpochReport(epoch=1, training_loss=0.5)], "none": []})
    assert "a" not in texts(figure)
    assert png_bytes(figure)


def test_labels_are_spread_in_order():
    heights = spread([0.5, 0.51, 0.2], 0.1)
    assert heights[1] - heights[0] == pytest.approx(0.1)
    assert heights[2] < heights[0]
    assert spread([], 0.1) == []


def test_effects_find_the_dimensions_that_decide(trials):
    effects = dimension_effects(trials)
    assert [effect.path for effect in effects[:2]] == ["plan.learning_rate", "architecture.block"]
    assert not effects[0].may_be_chance
    dropout = next(effect for effect in effects if effect.path == "architecture.dropout")
    assert dropout.may_be_chance


def test_the_share_explained_is_epsilon_squared_of_kruskal_and_wallis(trials):
    # Another way to the same number: H / (N - 1) is the correlation ratio of the ranks, then Kelley's correction.
    for effect in dimension_effects(trials):
        groups = group_numbers(effect.values)
        jaccard = np.asarray(effect.jaccard)
        samples = [jaccard[groups == group] for group in np.unique(groups)]
        n, k = len(jaccard), len(samples)
        ratio = kruskal(*samples).statistic / (n - 1)
        assert effect.explained == pytest.approx(max(0.0, 1 - (1 - ratio) * (n - 1) / (n - k)), abs=1e-9)


def test_few_or_equal_trials_say_nothing(trial, trials):
    assert dimension_effects(trials[: MIN_TRIALS - 1]) == []
    assert what_mattered(trials[:4]) is None
    equal = [trial(n, {"a": 0.5}, point={"architecture.depth": 2.0 + n % 2}) for n in range(12)]
    assert dimension_effects(equal) == []


def test_what_mattered_titles_the_panels_and_names_options(trials):
    figure = what_mattered(trials)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown[:2]] == ["learning rate", "block"]
    assert [label.get_text() for label in shown[1].get_xticklabels()] == ["inception", "plain", "residual"]
    assert shown[0].get_xscale() == "log"
    assert any("of the ranking of 38 trials" in text for text in texts(figure))


def test_bars_show_both_data_sets_and_absent_classes():
    figure = jaccard_per_class({"water": 0.5, "roads": None}, {"water": 0.25, "roads": 0.125})
    widths = sorted(round(bar.get_width(), 3) for bar in figure.axes[0].patches)
    assert widths == [0.125, 0.25, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert texts(figure).count("absent") == 1
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["water", "roads"]


def test_hostile_and_foreign_class_names_are_drawn_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = save_png(jaccard_per_class({"$\\frac{": 0.5, "道路": 0.2, "<script>": 0.1}), tmp_path / "a" / "b.png")
    assert cv2.imread(str(path)).std() > 1
    assert list(path.parent.iterdir()) == [path]


def test_figures_leave_matplotlibs_settings_alone_and_dark_is_dark(trials):
    before = dict(mpl.rcParams)
    picture = cv2.imdecode(np.frombuffer(png_bytes(search_progress(trials, 10, DARK)), np.uint8), cv2.IMREAD_COLOR)
    assert np.median(picture) < 60
    assert dict(mpl.rcParams) == before

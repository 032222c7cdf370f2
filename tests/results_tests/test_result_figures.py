import warnings
from itertools import pairwise

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.text import Text
from scipy.optimize import minimize
from scipy.stats import kruskal

from results.curve_figures import best_learning_curves, learning_curves, spread, within
from results.effect_figures import what_mattered
from results.figures import jaccard_per_class, search_progress
from results.importance import MIN_TRIALS, dimension_effects, group_numbers
from results.retraining_figure import retraining_curves
from results.style import DARK, png_bytes, save_png
from search_space.candidate import Candidate
from search_space.objective import EpochReport
from search_space.records import ModelMember


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
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["best so far", "a trial", "1 failed"]


def test_marks_without_a_result_lie_below_all_results(trials):
    axes = search_progress(trials, 10).axes[0]
    marks = [dots.get_offsets()[0][1] for dots in axes.collections if dots.get_label().endswith(("failed", "early"))]
    lowest = min(1 - each.loss for each in trials if each.loss is not None)
    assert marks
    assert max(marks) < lowest
    assert min(marks) > axes.get_ylim()[0]


@pytest.mark.parametrize(
    ("algorithm", "said"), [("tpe", "before TPE"), ("anneal", "before annealing"), ("mix", "TPE, annealing and chance")]
)
def test_the_start_up_ends_where_the_studys_own_algorithm_begins(trial, algorithm, said):
    given = [trial(n, {"a": 0.5}) for n in range(3)]
    assert any(text.endswith(said) for text in texts(search_progress(given, 2, algorithm=algorithm)))
    assert not [text for text in texts(search_progress(given, 2, algorithm="rand")) if "start-up" in text]


def test_what_is_best_is_written_beside_the_axes_where_no_line_runs(trial):
    figure = search_progress([trial(n, {"a": 0.5}) for n in range(3)])
    figure.draw_without_rendering()
    [label] = [text for text in figure.axes[0].texts if text.get_text().startswith("best 0.500")]
    assert box_px(label).x0 > figure.axes[0].get_window_extent().x1


@pytest.mark.parametrize("startup", [0, 5])
def test_progress_of_no_trials_says_so(startup):
    assert "no trial is done yet" in texts(search_progress([], startup))


def test_progress_of_trials_that_all_failed_does_not_promise_results(trial):
    ended = [trial(0, state="failed"), trial(1, state="infeasible")]
    said = texts(search_progress(ended))
    assert "2 trials ended, none with a result" in said
    assert "Mean validation Jaccard" in said
    assert "no trial is done yet" in texts(search_progress([*ended, trial(2, state="running")]))


def one_epoch(**jaccard):
    return {
        name: [EpochReport(epoch=1, training_loss=2 - value, jaccard={"a": value})] for name, value in jaccard.items()
    }


def label_of(figure, name):
    return next(text for text in figure.axes[0].texts if text.get_text() == name)


def box_px(label):
    """The box of the words alone, without the line that leads to them."""
    return Text.get_window_extent(label)


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


def test_a_single_epoch_lies_well_inside_the_axes():
    figure = learning_curves(one_epoch(x=0.625, y=0.25))
    for axes in figure.axes:
        low, high = axes.get_ylim()
        highest = max(line.get_ydata()[0] for line in axes.lines)
        assert low < highest < high - 0.05 * (high - low)


def test_the_axis_of_a_perfect_jaccard_has_no_tick_above_one():
    axes = learning_curves(one_epoch(x=1.0)).axes[0]
    assert max(axes.get_yticks()) == 1.0
    assert axes.get_ylim()[1] > 1.0


def test_a_thin_line_leads_from_each_label_to_the_end_of_its_line(trials):
    figure = best_learning_curves(trials, 4)
    for line in figure.axes[0].lines:
        end = (line.get_xdata()[-1], line.get_ydata()[-1])
        [label] = [text for text in figure.axes[0].texts if tuple(text.xy) == end]
        assert label.arrow_patch is not None
        assert label.get_color() == line.get_color()


def test_labels_of_many_runs_do_not_overlap():
    curves = one_epoch(**{f"class_{n}": 0.9 + 0.001 * n for n in range(17)})
    figure = learning_curves(curves)
    figure.draw_without_rendering()
    boxes = sorted((box_px(label_of(figure, name)) for name in curves), key=lambda box: box.y0)
    assert all(upper.y0 > lower.y1 for lower, upper in pairwise(boxes))
    assert boxes[0].y0 >= 0
    assert boxes[-1].y1 <= figure.bbox.y1


def test_the_remark_on_losses_lies_below_the_axis_where_there_is_more_than_one_run():
    figure = learning_curves(one_epoch(x=0.5, y=0.25))
    figure.draw_without_rendering()
    [remark] = [text for text in figure.axes[1].texts if "minimises its own loss" in text.get_text()]
    assert 0 <= box_px(remark).y0 < box_px(remark).y1 < figure.axes[1].get_window_extent().y0
    assert not [text for text in texts(learning_curves(one_epoch(x=0.5))) if "minimises" in text]


def test_retraining_is_titled_by_class_and_trials_by_their_mean(trials):
    reports = (EpochReport(epoch=1, training_loss=1.0, jaccard={"roads": 0.5}),)
    member = ModelMember(class_name="roads", file="r", candidate=Candidate(), threshold=0.5, reports=reports)
    assert "roads" in texts(retraining_curves([member]))
    assert "Mean validation Jaccard" in texts(best_learning_curves(trials))
    assert retraining_curves([member.model_copy(update={"reports": ()})]) is None


def retrained(class_name, *losses, rank=0, fold=0, seed=0):
    reports = [
        EpochReport(epoch=n + 1, training_loss=loss, jaccard={class_name: 1 / (1 + loss)})
        for n, loss in enumerate(losses)
    ]
    return ModelMember(
        class_name=class_name,
        file=f"{class_name}{rank}{fold}{seed}",
        candidate=Candidate(),
        threshold=0.5,
        rank=rank,
        fold=fold,
        num_folds=2 if fold else 0,
        seed=seed,
        trial=rank + 5,
        reports=tuple(reports),
    )


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_every_retrained_model_is_a_line_of_its_own_and_none_a_mean():
    members = [
        retrained("roads", 3.0, 1.0),
        retrained("roads", 9.0, 4.0, rank=1),
        retrained("ponds", 1.0, 0.5, fold=1),
        retrained("ponds", 2.0, 1.0, fold=2),
    ]
    figure = retraining_curves(members)
    roads, road_losses, ponds, pond_losses = figure.axes

    assert [list(line.get_ydata()) for line in road_losses.get_lines()] == [[3.0, 1.0], [9.0, 4.0]]
    assert [list(line.get_ydata()) for line in roads.get_lines()] == [[0.25, 0.5], [0.1, 0.2]]
    assert len(pond_losses.get_lines()) == len(ponds.get_lines()) == 2
    assert [axes.get_title(loc="left") for axes in (roads, ponds)] == ["roads", "ponds"]
    assert {axes.get_ylabel() for axes in figure.axes} == {"validation Jaccard", "training loss"}
    assert [axes.get_xlabel() for axes in figure.axes[-2:]] == ["epoch", "epoch"]
    assert legend_of(road_losses) == ["1. trial 5", "2. trial 6"]
    assert legend_of(pond_losses) == ["fold 1 of 2", "fold 2 of 2"]
    for scores, losses in ((roads, road_losses), (ponds, pond_losses)):
        colours = [[line.get_color() for line in axes.get_lines()] for axes in (scores, losses)]
        assert colours[0] == colours[1]
        assert len(set(colours[0])) == 2
        assert scores.get_ylim() == (0.0, 1.04)


def test_models_that_differ_in_their_seed_alone_are_told_apart_by_it():
    [_, losses] = retraining_curves([retrained("roads", 1.0), retrained("roads", 2.0, seed=1)]).axes
    assert legend_of(losses) == ["seed 1", "seed 2"]
    [_, losses] = retraining_curves([retrained("roads", 1.0)]).axes
    assert legend_of(losses) == ["trial 5"]


def test_a_loss_that_leapt_up_does_not_flatten_the_others():
    [_, losses] = retraining_curves([retrained("roads", 1e6, 1.0, 0.5)]).axes
    assert (losses.get_yscale(), losses.get_ylabel()) == ("log", "training loss, log scale")
    [_, losses] = retraining_curves([retrained("roads", -0.5, 100.0, 0.0)]).axes
    assert losses.get_yscale() == "linear"


def test_labels_are_spread_in_order_and_no_further_than_needed():
    assert spread([0.5, 0.51, 0.2], 0.1) == pytest.approx([0.455, 0.555, 0.2])
    assert spread([0.0, 1.0, 0.5], 0.1) == [0.0, 1.0, 0.5]
    assert spread([0.5, 0.5, 0.5], 0.2) == pytest.approx([0.3, 0.5, 0.7])
    assert spread([], 0.1) == []


def test_no_other_spread_moves_labels_less():
    wanted = np.random.default_rng(1).uniform(0, 1, 9)
    # An independent solution: least squares under the gaps is what SciPy's general solver finds.
    order = np.argsort(wanted)
    gaps = [{"type": "ineq", "fun": lambda h, a=a, b=b: h[b] - h[a] - 0.09} for a, b in pairwise(order)]
    solved = minimize(lambda h: np.sum((h - wanted) ** 2), wanted, constraints=gaps, method="SLSQP", tol=1e-12)
    np.testing.assert_allclose(spread(list(wanted), 0.09), solved.x, atol=1e-5)


def test_spread_labels_are_shifted_into_the_axes():
    assert within([0.9, 1.1], 0.0, 1.0) == pytest.approx([0.8, 1.0])
    assert within([-0.2, 0.1], 0.0, 1.0) == pytest.approx([0.0, 0.3])
    assert within([-0.5, 1.0], 0.0, 1.0) == pytest.approx([-0.5, 1.0])
    assert within([], 0.0, 1.0) == []


def test_effects_find_the_dimensions_that_decide(trials):
    effects = dimension_effects(trials)
    assert [effect.path for effect in effects[:2]] == ["plan.learning_rate", "architecture.block"]
    assert not effects[0].may_be_chance
    growth = next(effect for effect in effects if effect.path == "architecture.growth")
    assert growth.may_be_chance


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


def test_bars_say_how_far_folds_spread():
    figure = jaccard_per_class({"water": 0.5, "roads": 0.75}, {"water": 0.25}, spreads={"water": 0.0625, "roads": None})
    whiskers = [line.get_xdata() for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 2]
    assert [list(ends) for ends in whiskers] == [[0.4375, 0.5625]]
    assert {"0.500 ± 0.062", "0.250", "0.750"} <= set(texts(figure))
    assert "± one standard deviation" in legend_of(figure.axes[0])
    assert "± one standard deviation" not in legend_of(jaccard_per_class({"water": 0.5}).axes[0])


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

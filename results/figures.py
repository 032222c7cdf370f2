"""The figures of a study: search progress, learning curves, Jaccard per class."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.facts import mean_jaccard, ranked, trial_title
from results.phrases import is_missing
from results.style import LIGHT, SMALL_PT, TEXT_PT, Theme, new_figure, plain_text, style_axes, title
from search_space.objective import EpochReport
from trials_db.records import Trial

MARKS = {"pruned": ("v", "stopped early"), "infeasible": ("s", "infeasible"), "failed": ("X", "failed")}


def search_progress(trials: Iterable[Trial], startup_trials: int = 0, theme: Theme = LIGHT) -> Figure:
    """Mean validation Jaccard of every trial in order, with the best so far.

    Args:
        trials: All trials of a study, in any order.
        startup_trials: Trials before this number were drawn from the prior; their region is shaded.
        theme: Colours.
    """
    trials = sorted(trials, key=lambda trial: trial.number)
    figure = new_figure(8.6, 4.2, theme)
    axes = figure.add_subplot()
    style_axes(axes, theme)
    done = [(trial.number, value) for trial in trials if (value := mean_jaccard(trial)) is not None]
    last = max((trial.number for trial in trials), default=0)
    axes.set_xlim(-0.7, last + 0.7)
    low, high = _frame([value for _, value in done])
    axes.set_ylim(low - 0.13 * (high - low), high)
    if startup_trials:
        _shade_startup(axes, min(startup_trials, last + 1), theme)
    if done:
        _draw_progress(axes, done, last, theme)
    else:
        axes.text(0.5, 0.5, "no trial is done yet", transform=axes.transAxes, ha="center", **plain_text(theme, TEXT_PT))
    _mark_unfinished(axes, trials, low - 0.07 * (high - low), theme)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.set_xlabel("trial", **plain_text(theme))
    trials_done = "1 trial" if len(done) == 1 else f"{len(done)} trials"
    title(axes, f"Mean validation Jaccard of {trials_done}", theme)
    return figure


def _frame(values: Sequence[float]) -> tuple[float, float]:
    """Ends of the axis that show all values: from zero, unless that would press them together."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = 0.12 * max(high - low, 0.1)
    return (0.0 if low < 0.5 * high else low - margin), high + margin


def _draw_progress(axes: Axes, done: Sequence[tuple[int, float]], last: int, theme: Theme) -> None:
    numbers = [number for number, _ in done]
    values = [value for _, value in done]
    best = list(accumulate(values, max))
    axes.step([*numbers, last], [*best, best[-1]], where="post", color=theme.series[0], linewidth=2.0, zorder=2)
    axes.scatter(numbers, values, s=30, color=theme.series[1], edgecolor=theme.paper, linewidth=0.8, zorder=3)
    first = next(index for index, value in enumerate(values) if value == best[-1])
    axes.scatter([numbers[first]], [values[first]], s=75, color=theme.series[0], edgecolor=theme.paper, zorder=4)
    axes.annotate(
        f"best {best[-1]:.3f}\ntrial {numbers[first]}",
        (last, best[-1]),
        xytext=(12, 0),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
        fontweight="bold",
        **{**plain_text(theme), "color": theme.series[0]},
    )


def _shade_startup(axes: Axes, count: int, theme: Theme) -> None:
    axes.axvspan(-0.7, count - 0.5, color=theme.faint, alpha=0.55, linewidth=0, zorder=0)
    axes.text(
        -0.5, 0.985, "start-up: drawn at random", transform=axes.get_xaxis_transform(), va="top", **plain_text(theme)
    )


def _mark_unfinished(axes: Axes, trials: Sequence[Trial], height: float, theme: Theme) -> None:
    """Trials without a result lie on a strip below zero, where they hide no result."""
    for state, (marker, label) in MARKS.items():
        numbers = [trial.number for trial in trials if trial.state == state]
        if numbers:
            colour = theme.bad if state == "failed" else theme.quiet
            axes.scatter(
                numbers,
                [height] * len(numbers),
                s=28,
                marker=marker,
                color=colour,
                linewidth=0,
                label=f"{len(numbers)} {label}",
                clip_on=False,
                zorder=3,
            )
    if axes.get_legend_handles_labels()[0]:
        legend = axes.legend(
            loc="upper right",
            bbox_to_anchor=(1.0, -0.04),
            ncols=3,
            frameon=False,
            fontsize=SMALL_PT,
            handletextpad=0.2,
            columnspacing=1.2,
        )
        for text in legend.get_texts():
            text.set_color(theme.quiet)


def learning_curves(curves: Mapping[str, Sequence[EpochReport]], theme: Theme = LIGHT) -> Figure:
    """Mean validation Jaccard and training loss per epoch, one line per run.

    Args:
        curves: Name of the run to its epochs; runs without epochs are left out. The first is drawn strongest.
        theme: Colours.
    """
    runs = {name: list(reports) for name, reports in curves.items() if reports}
    scores = {name: [report.mean_jaccard for report in reports] for name, reports in runs.items()}
    losses = {name: [report.training_loss for report in reports] for name, reports in runs.items()}
    figure = new_figure(8.6, 3.9, theme)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_curves(left, "Mean validation Jaccard", scores, runs, theme)
    _draw_curves(right, "Training loss", losses, runs, theme)
    if len(runs) > 1:
        remark = "each run minimises its own loss:\ncompare shapes, not heights"
        right.text(1.0, 0.98, remark, transform=right.transAxes, ha="right", va="top", **plain_text(theme))
    left.set_ylim(bottom=0.0)
    _label_ends(left, scores, runs, theme)
    return figure


Lines = Mapping[str, Sequence[float | None]]


def _draw_curves(axes: Axes, text: str, lines: Lines, runs: Mapping[str, Sequence[EpochReport]], theme: Theme) -> None:
    style_axes(axes, theme)
    title(axes, text, theme)
    axes.set_xlabel("epoch", **plain_text(theme))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    for place, (name, values) in enumerate(lines.items()):
        _draw_curve(axes, [report.epoch for report in runs[name]], values, place, theme)
    if not runs:
        axes.text(0.5, 0.5, "no epochs yet", transform=axes.transAxes, ha="center", **plain_text(theme, TEXT_PT))


def _draw_curve(axes: Axes, epochs: Sequence[int], values: Sequence[float | None], place: int, theme: Theme) -> None:
    colour = theme.series[place % len(theme.series)]
    numbers = [np.nan if value is None else value for value in values]
    axes.plot(
        epochs,
        numbers,
        color=colour,
        linewidth=2.2 if place == 0 else 1.5,
        zorder=3 if place == 0 else 2,
        marker="o",
        markersize=3.5 if len(epochs) <= 12 else 0.0,
    )


def _label_ends(
    axes: Axes,
    lines: Lines,
    runs: Mapping[str, Sequence[EpochReport]],
    theme: Theme,
) -> None:
    """Write each run's name at the end of its line, spread so that names do not overlap."""
    ends = []
    for place, (name, values) in enumerate(lines.items()):
        known = [(report.epoch, value) for report, value in zip(runs[name], values, strict=True) if value is not None]
        if known:
            ends.append((*known[-1], name, theme.series[place % len(theme.series)]))
    if not ends:
        return
    low, high = axes.get_ylim()
    right = max(epoch for epoch, *_ in ends)
    heights = spread([value for _, value, _, _ in ends], 0.075 * (high - low))
    too_high = max(0.0, max(heights) - high)
    heights = [height - too_high for height in heights]
    for height, (epoch, value, name, colour) in zip(heights, ends, strict=True):
        text = axes.annotate(
            name,
            (right, height),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
            **{**plain_text(theme), "color": colour},
        )
        text.set_in_layout(True)
        if epoch < right:
            axes.plot([epoch, right], [value, height], color=colour, linewidth=0.7, linestyle=":")


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights apart so that neighbours keep at least `gap`, in their order and about their mean."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed: list[float] = []
    for index in order:
        placed.append(max(heights[index], placed[-1] + gap) if placed else heights[index])
    shift = sum(placed) / len(placed) - sum(heights) / len(heights) if placed else 0.0
    result = [0.0] * len(heights)
    for index, height in zip(order, placed, strict=True):
        result[index] = height - shift
    return result


def best_learning_curves(trials: Iterable[Trial], top: int = 5, theme: Theme = LIGHT) -> Figure:
    """Learning curves of the best trials, the best first."""
    best = [trial for trial in ranked(trials) if trial.reports][:top]
    return learning_curves({trial_title(trial): trial.reports for trial in best}, theme)


def jaccard_per_class(
    validation: Mapping[str, float | None], test: Mapping[str, float | None] | None = None, theme: Theme = LIGHT
) -> Figure:
    """Bars of the Jaccard per class, on validation scenes and, where known, on held-out test scenes.

    Args:
        validation: Class to Jaccard; None where the class is absent.
        test: The same on scenes that nothing looked at before.
        theme: Colours.
    """
    classes = list(dict.fromkeys([*validation, *(test or {})]))
    series = [("validation scenes", validation, theme.series[1])]
    if test is not None:
        series.append(("held-out test scenes", test, theme.series[0]))
    figure = new_figure(8.6, 0.9 + 0.27 * (len(classes) * (len(series) + 0.6)), theme)
    axes = figure.add_subplot()
    style_axes(axes, theme, grid=None)
    thickness = 0.8 / len(series)
    for place, (label, values, colour) in enumerate(series):
        for row, name in enumerate(classes):
            _draw_bar(
                axes,
                row + (place - (len(series) - 1) / 2) * thickness,
                thickness * 0.88,
                values.get(name),
                colour,
                theme,
            )
        axes.plot([], [], color=colour, linewidth=7, label=label)
    axes.set_yticks(range(len(classes)), classes, **plain_text(theme, TEXT_PT, strong=True))
    axes.set_ylim(len(classes) - 0.45, -0.55)
    axes.set_xlim(0.0, 1.0)
    axes.set_xticks([])
    title(axes, "Jaccard per class", theme)
    legend = axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=SMALL_PT)
    for text in legend.get_texts():
        text.set_color(theme.quiet)
    return figure


def _draw_bar(axes: Axes, row: float, thickness: float, value: float | None, colour: str, theme: Theme) -> None:
    axes.barh(row, 1.0, height=thickness, color=theme.faint, alpha=0.55, linewidth=0)
    if value is None or is_missing(value):
        axes.text(0.008, row, "absent", va="center", **plain_text(theme))
        return
    axes.barh(row, value, height=thickness, color=colour, linewidth=0)
    axes.text(value + 0.008, row, f"{value:.3f}", va="center", **plain_text(theme, strong=True))

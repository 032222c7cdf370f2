"""The figures of a study: the progress of its search, and Jaccard per class."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.facts import FINISHED, mean_jaccard
from results.phrases import counted, is_missing
from results.style import LIGHT, SMALL_PT, TEXT_PT, Theme, new_figure, plain_text, style_axes, title
from trials_db.records import Trial

MARKS = {"pruned": ("v", "stopped early"), "infeasible": ("s", "infeasible"), "failed": ("X", "failed")}


PROPOSERS = {"tpe": "TPE", "anneal": "annealing", "mix": "TPE, annealing and chance", "rand": "chance"}
"""What proposes after the start-up, by `search.algorithm`."""


def search_progress(
    trials: Iterable[Trial], startup_trials: int = 0, theme: Theme = LIGHT, algorithm: str = "tpe"
) -> Figure:
    """Mean validation Jaccard of every trial in order, with the best so far.

    Args:
        trials: All trials of a study, in any order.
        startup_trials: Trials before this number were drawn from the prior; their region is shaded.
        theme: Colours.
        algorithm: What proposed the others; random search has no start-up.
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
    if startup_trials and algorithm != "rand":
        _shade_startup(axes, min(startup_trials, last + 1), PROPOSERS[algorithm], theme)
    if done:
        _draw_progress(axes, done, last, theme)
    else:
        axes.text(0.5, 0.5, _nothing_done(trials), transform=axes.transAxes, ha="center", **plain_text(theme, TEXT_PT))
    _mark_unfinished(axes, trials, low - 0.07 * (high - low), theme)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.set_xlabel("trial", **plain_text(theme))
    of_trials = f" of {counted(len(done), 'trial')}" if done else ""
    title(axes, f"Mean validation Jaccard{of_trials}", theme)
    return figure


def _nothing_done(trials: Sequence[Trial]) -> str:
    if trials and all(trial.state in FINISHED for trial in trials):
        return f"{counted(len(trials), 'trial')} ended, none with a result"
    return "no trial is done yet"


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
    line: dict[str, Any] = {"where": "post", "color": theme.series[0], "linewidth": 2.0, "zorder": 2}
    axes.step([*numbers, last], [*best, best[-1]], label="best so far", **line)
    dots: dict[str, Any] = {"s": 30, "color": theme.series[1], "edgecolor": theme.paper, "linewidth": 0.8, "zorder": 3}
    axes.scatter(numbers, values, label="a trial", **dots)
    first = next(index for index, value in enumerate(values) if value == best[-1])
    axes.scatter([numbers[first]], [values[first]], s=75, color=theme.series[0], edgecolor=theme.paper, zorder=4)
    axes.annotate(
        f"best {best[-1]:.3f}\ntrial {numbers[first]}",
        (1.0, best[-1]),
        xycoords=axes.get_yaxis_transform(),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
        fontweight="bold",
        **{**plain_text(theme), "color": theme.series[0]},
    )


def _shade_startup(axes: Axes, count: int, proposer: str, theme: Theme) -> None:
    axes.axvspan(-0.7, count - 0.5, color=theme.faint, alpha=0.55, linewidth=0, zorder=0)
    said = f"start-up, before {proposer}"
    axes.text(-0.5, 0.985, said, transform=axes.get_xaxis_transform(), va="top", **plain_text(theme))


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
            bbox_to_anchor=(1.0, -0.1),
            ncols=5,
            frameon=False,
            fontsize=SMALL_PT,
            handletextpad=0.5,
            columnspacing=1.2,
        )
        for text in legend.get_texts():
            text.set_color(theme.quiet)


def jaccard_per_class(
    validation: Mapping[str, float | None],
    test: Mapping[str, float | None] | None = None,
    theme: Theme = LIGHT,
    spreads: Mapping[str, float | None] | None = None,
) -> Figure:
    """Bars of the Jaccard per class, on validation ground and, where known, on held-out test ground.

    Args:
        validation: Class to Jaccard; None where the class is absent.
        test: The same on scenes that nothing looked at before.
        theme: Colours.
        spreads: How far the Jaccard on validation ground spreads over folds or models: a whisker to both sides.
    """
    classes = list(dict.fromkeys([*validation, *(test or {})]))
    series = [("validation ground", validation, theme.series[1])]
    if test is not None:
        series.append(("held-out test ground", test, theme.series[0]))
    figure = new_figure(8.6, 1.1 + 0.27 * (len(classes) * (len(series) + 0.6)), theme)
    axes = figure.add_subplot()
    style_axes(axes, theme, grid=None)
    thickness = 0.8 / len(series)
    for place, (label, values, colour) in enumerate(series):
        for row, name in enumerate(classes):
            middle = row + (place - (len(series) - 1) / 2) * thickness
            spread = (spreads or {}).get(name) if place == 0 else None
            _draw_bar(axes, middle, thickness * 0.88, values.get(name), colour, theme, spread or 0.0)
        axes.plot([], [], color=colour, linewidth=7, label=label)
    axes.set_yticks(range(len(classes)), classes, **plain_text(theme, TEXT_PT, strong=True))
    axes.set_ylim(len(classes) - 0.45, -0.55)
    axes.set_xlim(0.0, 1.0)
    axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])
    title(axes, "Jaccard per class", theme)
    if any(spread for spread in (spreads or {}).values()):
        axes.plot([], [], color=theme.ink, linewidth=1.2, label="± one standard deviation")
    legend = axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=SMALL_PT)
    for text in legend.get_texts():
        text.set_color(theme.quiet)
    return figure


def _draw_bar(
    axes: Axes, row: float, thickness: float, value: float | None, colour: str, theme: Theme, spread: float
) -> None:
    axes.barh(row, 1.0, height=thickness, color=theme.faint, alpha=0.55, linewidth=0)
    if value is None or is_missing(value):
        axes.text(0.008, row, "absent", va="center", **plain_text(theme))
        return
    axes.barh(row, value, height=thickness, color=colour, linewidth=0)
    low, high = max(0.0, value - spread), min(1.0, value + spread)
    if spread:
        axes.plot([low, high], [row, row], color=theme.ink, linewidth=1.2, solid_capstyle="butt")
    said = f"{value:.3f} ± {spread:.3f}" if spread else f"{value:.3f}"
    axes.text(high + 0.008, row, said, va="center", **plain_text(theme, strong=True))

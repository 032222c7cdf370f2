"""The figures of how networks learned: one line per run, labelled at its end."""

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.facts import ranked, trial_title
from results.style import LIGHT, TEXT_PT, Theme, new_figure, plain_text, style_axes, title
from search_space.objective import EpochReport
from trials_db.records import Trial

HEIGHT_IN = 3.9
AROUND_IN = 1.3
"""Height of titles and axis labels, which the labels of lines cannot use."""
LABEL_IN = 0.19


def best_learning_curves(trials: Iterable[Trial], top: int = 5, theme: Theme = LIGHT) -> Figure:
    """Learning curves of the best trials, the best first."""
    best = [trial for trial in ranked(trials) if trial.reports][:top]
    return learning_curves({trial_title(trial): trial.reports for trial in best}, theme=theme)


def learning_curves(
    curves: Mapping[str, Sequence[EpochReport]],
    measure: str = "Mean validation Jaccard",
    theme: Theme = LIGHT,
) -> Figure:
    """Validation Jaccard and training loss per epoch, one line per run.

    Args:
        curves: Name of the run to its epochs; runs without epochs are left out. The first is drawn strongest.
        measure: What the Jaccard of a run is: the mean over its classes, or that of one class.
        theme: Colours.
    """
    runs = {name: list(reports) for name, reports in curves.items() if reports}
    scores = {name: [report.mean_jaccard for report in reports] for name, reports in runs.items()}
    losses = {name: [report.training_loss for report in reports] for name, reports in runs.items()}
    height_in = max(HEIGHT_IN, AROUND_IN + LABEL_IN * len(runs))
    figure = new_figure(8.6, height_in, theme)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_curves(left, measure, scores, runs, theme)
    _draw_curves(right, "Training loss", losses, runs, theme)
    if len(runs) > 1:
        _remark_below(right, "each run minimises its own loss: compare shapes, not heights", theme)
    _frame_scores(left, scores.values())
    _label_ends(left, scores, runs, LABEL_IN / (height_in - AROUND_IN), theme)
    return figure


Lines = Mapping[str, Sequence[float | None]]


def _draw_curves(axes: Axes, text: str, lines: Lines, runs: Mapping[str, Sequence[EpochReport]], theme: Theme) -> None:
    style_axes(axes, theme)
    title(axes, text, theme)
    axes.set_xlabel("epoch", **plain_text(theme))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.margins(y=0.1)
    for place, (name, values) in enumerate(lines.items()):
        _draw_curve(axes, [report.epoch for report in runs[name]], values, place, theme)
    if not runs:
        axes.text(0.5, 0.5, "no epochs yet", transform=axes.transAxes, ha="center", **plain_text(theme, TEXT_PT))


def _draw_curve(axes: Axes, epochs: Sequence[int], values: Sequence[float | None], place: int, theme: Theme) -> None:
    colour = theme.series[place % len(theme.series)]
    known = _validated(epochs, values)
    axes.plot(
        *known,
        color=colour,
        linewidth=2.2 if place == 0 else 1.5,
        zorder=3 if place == 0 else 2,
        marker="o",
        markersize=3.5 if len(known[0]) <= 12 else 0.0,
    )


def _validated(epochs: Sequence[int], values: Sequence[float | None]) -> tuple[list[int], list[float]]:
    """Epochs that were validated, and what they reached: a line runs on from one of them to the next."""
    known = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
    return [epoch for epoch, _ in known], [value for _, value in known]


def _remark_below(axes: Axes, text: str, theme: Theme) -> None:
    """Write a remark below the axis, where no line can run through it."""
    axes.annotate(
        text,
        (1.0, 0.0),
        xycoords="axes fraction",
        xytext=(0, -40),
        textcoords="offset points",
        ha="right",
        va="top",
        annotation_clip=False,
        **plain_text(theme),
    ).set_in_layout(True)


def _frame_scores(axes: Axes, lines: Iterable[Sequence[float | None]]) -> None:
    """From zero to above the best, so that no point is cut at the edge; no tick above 1, which nothing can reach."""
    best = max((value for values in lines for value in values if value is not None), default=1.0)
    axes.set_ylim(0.0, 1.08 * max(best, 0.05))
    axes.set_yticks([tick for tick in axes.get_yticks() if 0.0 <= tick <= min(1.0, axes.get_ylim()[1])])


def _label_ends(axes: Axes, lines: Lines, runs: Mapping[str, Sequence[EpochReport]], gap: float, theme: Theme) -> None:
    """Write each run's name beside its line, with a thin line to where it ends; names are `gap` of the axis apart."""
    ends = []
    for place, (name, values) in enumerate(lines.items()):
        known = [(report.epoch, value) for report, value in zip(runs[name], values, strict=True) if value is not None]
        if known:
            ends.append((*known[-1], name, theme.series[place % len(theme.series)]))
    low, high = axes.get_ylim()
    heights = within(spread([value for _, value, _, _ in ends], gap * (high - low)), low, high)
    for height, (epoch, value, name, colour) in zip(heights, ends, strict=True):
        text = axes.annotate(
            name,
            (epoch, value),
            xytext=(1.05, height),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "relpos": (0.0, 0.5),
                "shrinkA": 1.0,
                "shrinkB": 4.0,
            },
            **{**plain_text(theme), "color": colour},
        )
        text.set_in_layout(True)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights apart so that neighbours keep at least `gap`, in their order and each as little as can be.

    Neighbours that are too close form a group about its mean; a group that then reaches another takes it in.
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    groups: list[list[int]] = []
    lows: list[float] = []
    for index in order:
        group, low = [index], heights[index]
        while groups and low < lows[-1] + gap * len(groups[-1]):
            group = groups.pop() + group
            lows.pop()
            low = sum(heights[each] for each in group) / len(group) - gap * (len(group) - 1) / 2
        groups.append(group)
        lows.append(low)
    result = [0.0] * len(heights)
    for group, low in zip(groups, lows, strict=True):
        for place, index in enumerate(group):
            result[index] = low + gap * place
    return result


def within(heights: Sequence[float], low: float, high: float) -> list[float]:
    """Shift all heights alike so that none is above `high`, or, where there is room, below `low`."""
    if not heights:
        return []
    shift = max(0.0, low - min(heights))
    shift -= max(0.0, max(heights) + shift - high)
    return [height + shift for height in heights]

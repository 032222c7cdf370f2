"""The figure of what mattered: Jaccard against the most telling dimensions of the space."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from results.dimensions import dimension_title, is_logarithmic, option_title
from results.importance import MAX_LEVELS, DimensionEffect, dimension_effects, group_numbers
from results.style import LIGHT, SMALL_PT, TEXT_PT, Theme, new_figure, plain_text, style_axes
from trials_db.records import Trial

WORTH_A_PANEL = 0.01
MIN_PANELS = 2
REMARK = "dot: a trial; bar: the median of its group, of numbers a third of the trials; grey: may be chance"


def what_mattered(trials: Iterable[Trial], top: int = 6, theme: Theme = LIGHT) -> Figure | None:
    """Jaccard against the value of the most telling dimensions, one small panel each.

    Every dot is a trial, every bar the median of its group; a dimension whose share may be chance is drawn in grey.
    See `dimension_effects` for what is measured.

    Args:
        trials: All trials of a study.
        top: Number of panels at most; dimensions that explain next to nothing get none.
        theme: Colours.

    Returns:
        The figure, or None where trials are too few to say anything.
    """
    effects = dimension_effects(trials)
    num_telling = sum(effect.explained >= WORTH_A_PANEL for effect in effects)
    num_panels = max(MIN_PANELS, num_telling + num_telling % 2)
    effects = effects[: min(top, num_panels)]
    if not effects:
        return None
    num_columns = min(2, len(effects))
    num_rows = -(-len(effects) // num_columns)
    figure = new_figure(4.3 * num_columns, 2.6 * num_rows + 0.3, theme)
    panels = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True)
    for axes, effect in zip(panels.flat, effects, strict=False):
        _draw_effect(axes, effect, theme)
    for axes in panels.flat[len(effects) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("mean validation Jaccard", **plain_text(theme))
    figure.supxlabel(REMARK, **plain_text(theme))
    return figure


def _draw_effect(axes: Axes, effect: DimensionEffect, theme: Theme) -> None:
    style_axes(axes, theme)
    if effect.is_number and len(set(effect.values)) > MAX_LEVELS:
        _draw_scatter(axes, effect, theme)
    else:
        _draw_strips(axes, effect, theme)
    chance = ", may be chance" if effect.may_be_chance else ""
    verdict = f"explains {effect.explained:.0%} of the ranking of {len(effect.values)} trials{chance}"
    name = dimension_title(effect.path)
    axes.set_title(name, loc="left", pad=21, fontweight="bold", **plain_text(theme, TEXT_PT, strong=True))
    axes.text(0.0, 1.045, verdict, transform=axes.transAxes, **plain_text(theme))


def _colours(effect: DimensionEffect, theme: Theme) -> tuple[str, str]:
    """Of the dots and of the medians."""
    return (theme.quiet, theme.quiet) if effect.may_be_chance else (theme.series[1], theme.series[0])


def _draw_strips(axes: Axes, effect: DimensionEffect, theme: Theme) -> None:
    """One column of dots per option, with its median."""
    dots, medians = _colours(effect, theme)
    groups = group_numbers(effect.values)
    names = {int(group): value for group, value in zip(groups, effect.values, strict=True)}
    jitter = np.random.default_rng(0).uniform(-0.16, 0.16, len(groups))
    jaccard = np.asarray(effect.jaccard)
    axes.scatter(groups + jitter, jaccard, s=20, color=dots, alpha=0.55, linewidth=0)
    for group in names:
        middle = float(np.median(jaccard[groups == group]))
        axes.plot([group - 0.3, group + 0.3], [middle, middle], color=medians, linewidth=2.5, solid_capstyle="butt")
    labels = [_value_label(effect.path, names[group]) for group in sorted(names)]
    size_pt = SMALL_PT if len(labels) < MAX_LEVELS else SMALL_PT - 1.0
    axes.set_xticks(sorted(names), labels, **plain_text(theme, size_pt))
    axes.set_xlim(-0.6, max(names) + 0.6)


def _draw_scatter(axes: Axes, effect: DimensionEffect, theme: Theme) -> None:
    """Dots, with the median of each third."""
    dots, medians = _colours(effect, theme)
    values = np.asarray(effect.values, dtype=float)
    jaccard = np.asarray(effect.jaccard)
    if is_logarithmic(effect.path):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)
    axes.scatter(values, jaccard, s=20, color=dots, alpha=0.55, linewidth=0)
    groups = group_numbers(effect.values)
    for group in np.unique(groups):
        inside = values[groups == group]
        middle = float(np.median(jaccard[groups == group]))
        ends = [inside.min(), inside.max()]
        axes.plot(ends, [middle, middle], color=medians, linewidth=2.5, solid_capstyle="butt")


def _value_label(path: str, value: str | float) -> str:
    """An option's name, broken into lines where it has parts."""
    if not isinstance(value, str):
        return f"{value:g}"
    name = option_title(path, value)
    return name.replace(" + ", "\n+ ") if " + " in name else name.replace(" ", "\n")

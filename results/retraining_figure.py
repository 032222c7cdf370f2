"""The figure of retraining: for each class every model's Jaccard and loss, epoch by epoch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from results.phrases import counted
from results.style import LIGHT, SMALL_PT, TEXT_PT, Theme, new_figure, plain_text, style_axes
from search_space.records import ModelMember

ROW_IN, AROUND_IN, LEGEND_LINE_IN = 1.75, 0.9, 0.19
WIDE_RANGE = 30.0
MANY_LINES, SHORT_EPOCHS = 6, 12
DASHES = ("-", "--", ":")
REMARK = "each line is one model; a loss is a candidate's and a class's own: compare shapes, not heights"

Groups = Mapping[str, Sequence[ModelMember]]


def retraining_curves(members: Iterable[ModelMember], theme: Theme = LIGHT) -> Figure | None:
    """Learning curves of retrained models: a row of panels per class, a line per model.

    Nothing is averaged: models of several candidates minimise several losses, and those of several folds train and
    validate on different ground. What tells a class's models apart, the candidate or else the fold or the seed, has a
    colour each and a legend.

    Returns:
        The figure, or None where no epoch is known.
    """
    by_class: dict[str, list[ModelMember]] = {}
    for member in members:
        if member.reports:
            by_class.setdefault(member.class_name, []).append(member)
    if not by_class:
        return None
    rows = {name: grouped(several) for name, several in by_class.items()}
    heights_in = [max(ROW_IN, 0.5 + LEGEND_LINE_IN * len(groups)) for groups in rows.values()]
    figure = new_figure(8.6, AROUND_IN + sum(heights_in), theme)
    panels = figure.subplots(len(rows), 2, squeeze=False, sharex="row", height_ratios=heights_in)
    for (scores, losses), (name, groups) in zip(panels, rows.items(), strict=True):
        _draw_class(scores, losses, name, groups, theme)
    for axes in panels[-1]:
        axes.set_xlabel("epoch", **plain_text(theme))
    figure.supxlabel(REMARK, **plain_text(theme))
    return figure


def grouped(members: Sequence[ModelMember]) -> dict[str, list[ModelMember]]:
    """The models of a class by what tells them apart, in words: their candidate, else their fold, else their seed."""
    ranks = sorted({member.rank for member in members})
    folds = sorted({member.fold for member in members})
    groups: dict[str, list[ModelMember]] = {}
    for member in sorted(members, key=lambda member: (member.rank, member.fold, member.seed)):
        if len(ranks) > 1:
            label = f"{member.rank + 1}. {member.origin}".rstrip()
        elif len(folds) > 1:
            label = f"fold {member.fold} of {member.num_folds}"
        else:
            label = f"seed {member.seed + 1}" if len(members) > 1 else member.origin or "the model"
        groups.setdefault(label, []).append(member)
    return {_with_count(label, several): several for label, several in groups.items()}


def _with_count(label: str, several: Sequence[ModelMember]) -> str:
    return label if len(several) == 1 else f"{label} ({counted(len(several), 'model')})"


def _draw_class(scores: Axes, losses: Axes, name: str, groups: Groups, theme: Theme) -> None:
    for axes, measure in ((scores, "validation Jaccard"), (losses, "training loss")):
        style_axes(axes, theme)
        axes.set_ylabel(measure, **plain_text(theme))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.margins(y=0.1)
    for place, (label, members) in enumerate(groups.items()):
        colour = theme.series[place % len(theme.series)]
        dash = DASHES[place // len(theme.series) % len(DASHES)]
        for number, member in enumerate(members):
            # The best candidate lies above the others.
            look = {"color": colour, "linestyle": dash, "zorder": 3.0 - place / len(groups), **_weight(groups)}
            said = label if number == 0 else None
            _draw_run(losses, {r.epoch: r.training_loss for r in member.reports}, look, said)
            _draw_run(scores, {r.epoch: r.mean_jaccard for r in member.reports}, look)
    _fit_losses(losses, [r.training_loss for several in groups.values() for member in several for r in member.reports])
    scores.set_ylim(0.0, 1.04)
    scores.set_yticks([0.0, 0.5, 1.0])
    scores.set_title(name, loc="left", pad=8, fontweight="bold", **plain_text(theme, TEXT_PT, strong=True))
    legend = losses.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), frameon=False, fontsize=SMALL_PT)
    for text in legend.get_texts():
        text.set(color=theme.quiet, parse_math=False)


def _fit_losses(axes: Axes, losses: Sequence[float]) -> None:
    """Losses of very different size share a logarithmic axis, where one that leapt up does not flatten the others."""
    if min(losses) > 0.0 and max(losses) > WIDE_RANGE * min(losses):
        axes.set_yscale("log")
        axes.set_ylabel("training loss, log scale")
        axes.yaxis.set_major_locator(
            LogLocator(subs=(1.0, 3.0) if max(losses) < WIDE_RANGE**2 * min(losses) else (1.0,))
        )
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)


def _weight(groups: Groups) -> dict[str, float]:
    """Many lines are thin."""
    is_crowded = sum(map(len, groups.values())) > MANY_LINES
    return {"linewidth": 0.8, "alpha": 0.7} if is_crowded else {"linewidth": 1.6, "alpha": 0.9, "markersize": 3.0}


def _draw_run(
    axes: Axes, values: Mapping[int, float | None], look: Mapping[str, Any], label: str | None = None
) -> None:
    """One model's line: it runs on from an epoch of which the value is known to the next such one."""
    known = {epoch: value for epoch, value in values.items() if value is not None}
    is_short = len(known) <= SHORT_EPOCHS and "markersize" in look
    axes.plot(list(known), list(known.values()), marker="o" if is_short else "", label=label, **look)

"""A network as a picture that a person can follow: its stages as boxes, in the shape of a U."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from results.network_table import stage_nodes, stage_size, stage_weights
from results.phrases import count_text, counted
from results.style import LIGHT, SMALL_PT, Theme, new_figure, plain_text
from search_space.network.graph import Graph

TOP_IN, ROW_IN, BOX_IN, WIDEST_IN, NARROWEST_IN, GAP_IN = 0.6, 1.08, 0.78, 2.9, 1.7, 0.9

HEADS = re.compile(r"head\d+")

Box = tuple[float, float, float]
"""Left, top and width, in inches."""


def network_figure(
    graph: Graph, patch_px: int, heading: str, *, margin_px: int = 0, notes: Sequence[str] = (), theme: Theme = LIGHT
) -> Figure:
    """Draw a network.

    The encoder goes down on the left, the decoder up on the right; what is at the bottom of the U has the lowest
    resolution. A box tells its stage, the sides and channels of what it makes, and its weights, those of what leads
    to it (a pooling, a branch of bands) and of a head for training on it included; boxes are as wide as they have
    channels, by orders of magnitude.

    Args:
        graph: The network.
        patch_px: Side length of the image that is fed.
        heading: What is above.
        margin_px: What its map lacks on each side.
        notes: Lines about what no box tells; eight short ones at most.
        theme: Colours.
    """
    depth = int(math.log2(graph.divisor_px))
    figure = new_figure(2 * WIDEST_IN + 3 * GAP_IN, (depth + 2) * ROW_IN + TOP_IN, theme)
    axes = figure.add_subplot()
    width, height = figure.get_size_inches()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    axes.text(GAP_IN / 2, 0.3, heading, va="center", weight="bold", **plain_text(theme, 11.0, strong=True))
    boxes = {stage: _place(graph, stage, depth, width) for stage in _drawn(graph)}
    for stage, box in boxes.items():
        size, channels = stage_size(graph, stage, patch_px, margin_px)
        told = [f"{count_text(size)}² px · {counted(channels, 'channel')}"]
        if stage != "image":
            told.append(counted(sum(stage_weights(graph, each) for each in _told_with(graph, stage)), "weight"))
        _draw_box(axes, stage, box, told + _marks(graph, stage), theme)
    lines = "\n".join([f"{counted(graph.num_parameters, 'weight')} in all", *notes])
    look = plain_text(theme, SMALL_PT - 1)
    axes.text(width / 2, TOP_IN - 0.05, lines, ha="center", va="top", linespacing=1.2, **look)
    for before, after in pairwise(boxes):
        _arrow(axes, boxes[before], boxes[after], theme)
    for level in range(depth):
        down, up = f"down{level}", f"up{level}"
        if down in boxes and up in boxes and _has_skip(graph, up):
            _skip(axes, boxes[down], boxes[up], theme)
    return figure


def _drawn(graph: Graph) -> list[str]:
    """In the order in which they are computed; branches and poolings are told by the boxes that they lead to.

    Heads of coarser stages serve training alone.
    """
    return [stage for stage in graph.stages if not stage.startswith(("pool", "branch")) and not HEADS.fullmatch(stage)]


def _place(graph: Graph, stage: str, depth: int, width: float) -> Box:
    """The image above the encoder, the head above the decoder, the bottom between and below both."""
    channels = stage_nodes(graph, stage)[-1].signal.channels
    share = min(1.0, math.log2(max(2, channels)) / 11)
    box = NARROWEST_IN + share * (WIDEST_IN - NARROWEST_IN)
    row = 0 if stage in ("image", "head") else depth + 1 if stage == "bottom" else 1 + int(stage.lstrip("downup"))
    left_column, right_column = (GAP_IN + WIDEST_IN) / 2, width - (GAP_IN + WIDEST_IN) / 2
    encoder = stage == "image" or stage.startswith("down")
    middle = width / 2 if stage == "bottom" else left_column if encoder else right_column
    return middle - box / 2, TOP_IN + row * ROW_IN, box


def _told_with(graph: Graph, stage: str) -> list[str]:
    """The stages whose weights a box tells: those that lead to it, itself, and a head that trains on it."""
    kind, level = _kind_and_level(graph, stage)
    others = {"down": (f"pool{level - 1}", f"branch{level}"), "up": (f"head{level}",)}.get(kind, ())
    return [each for each in (stage, *others) if each in graph.stages]


def _marks(graph: Graph, stage: str) -> list[str]:
    """What a box tells beside sizes."""
    kind, level = _kind_and_level(graph, stage)
    if kind == "down" and f"branch{level}" in graph.stages:
        entering = stage_nodes(graph, f"branch{level}")[0].signal.channels
        return [f"takes in {counted(entering, 'band')} of this size"]
    if kind == "up" and f"head{level}" in graph.stages:
        return ["maps too, in training"]
    return ["energies too: how deep inside"] if stage == "head" and "energy" in graph.outputs else []


def _kind_and_level(graph: Graph, stage: str) -> tuple[str, int]:
    """The bottom is the encoder's last stage."""
    if stage == "bottom":
        return "down", graph.divisor_px.bit_length() - 1
    kind = stage.rstrip("0123456789")
    return kind, int(stage.removeprefix(kind) or 0)


def _draw_box(axes: Axes, stage: str, box: Box, told: list[str], theme: Theme) -> None:
    left, top, width = box
    colours = {"image": theme.quiet, "bottom": theme.series[3], "head": theme.series[4]}
    colour = colours.get(stage, theme.series[0] if stage.startswith("down") else theme.series[1])
    style: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.06", "fc": theme.faint, "ec": colour, "lw": 1.6}
    axes.add_patch(FancyBboxPatch((left, top), width, BOX_IN, **style))
    middle, text = left + width / 2, "\n".join(told)
    axes.text(middle, top + 0.16, stage, ha="center", va="center", weight="bold", **plain_text(theme, strong=True))
    axes.text(middle, top + 0.49, text, ha="center", va="center", linespacing=1.1, **plain_text(theme, SMALL_PT - 1))


def _arrow(axes: Axes, before: Box, after: Box, theme: Theme) -> None:
    """From box to box: straight within a column, round the corner to and from the bottom."""
    (left, top, width), (next_left, next_top, next_width) = before, after
    middle, next_middle = left + width / 2, next_left + next_width / 2
    look = {"arrowstyle": "-|>", "color": theme.quiet, "lw": 1.2, "shrinkA": 2, "shrinkB": 2}
    if abs(middle - next_middle) < 0.01:
        down = next_top > top
        start = (middle, top + (BOX_IN if down else 0.0))
        axes.annotate("", (middle, next_top + (0.0 if down else BOX_IN)), start, arrowprops=look)
    elif next_top > top:
        bend = look | {"connectionstyle": "angle,angleA=90,angleB=180,rad=4"}
        axes.annotate("", (next_left, next_top + BOX_IN / 2), (middle, top + BOX_IN), arrowprops=bend)
    else:
        bend = look | {"connectionstyle": "angle,angleA=0,angleB=90,rad=4"}
        axes.annotate("", (next_middle, next_top + BOX_IN), (left + width, top + BOX_IN / 2), arrowprops=bend)


def _has_skip(graph: Graph, stage: str) -> bool:
    return any(node.stage == stage and node.name.startswith(f"{stage}_skip") for node in graph.nodes)


def _skip(axes: Axes, down: Box, up: Box, theme: Theme) -> None:
    height = down[1] + BOX_IN / 2
    line = {"arrowstyle": "-|>", "color": theme.quiet, "lw": 1.0, "linestyle": "dashed"}
    axes.annotate("", (up[0], height), (down[0] + down[2], height), arrowprops=line)

"""A network stage by stage: what each sees, makes, weighs and costs."""

import pandas as pd

from results.phrases import count_text
from search_space.network.graph import Graph, Node
from search_space.network.layers import Conv, DepthwiseConv, TransposedConv
from search_space.network.signals import flops_of, num_parameters_of

COLUMNS = ("stage", "size", "channels", "convolutions", "weights", "gflop")


def network_table(graph: Graph, patch_px: int, margin_px: int = 0) -> pd.DataFrame:
    """One row per stage, and one for all.

    Args:
        graph: The network.
        patch_px: Side length of the image that is looked at.
        margin_px: What its map lacks on each side.

    Returns:
        Columns `stage`; `size`, sides of what it makes; `channels` that it makes; `convolutions`; `weights`; `gflop`,
        thousands of millions of operations for one patch on the way forward.
    """
    stages = [stage for stage in graph.stages if stage != "image"]
    table = pd.DataFrame([_row(graph, stage, patch_px, margin_px) for stage in stages], columns=list(COLUMNS))
    totals = table[["convolutions", "weights", "gflop"]].sum().to_dict()
    return pd.concat([table, pd.DataFrame([{"stage": "all", "size": "", **totals}])], ignore_index=True)


def stage_nodes(graph: Graph, stage: str) -> list[Node]:
    """The layers of a stage."""
    return [node for node in graph.nodes if node.stage == stage]


def stage_size(graph: Graph, stage: str, patch_px: int, margin_px: int = 0) -> tuple[int, int]:
    """Side length and channels of what a stage makes: of maps what is left of them after cropping."""
    signal = stage_nodes(graph, stage)[-1].signal
    if stage == "image":
        return patch_px, signal.channels
    if stage.startswith("head"):
        return patch_px - 2 * margin_px, signal.channels
    return signal.cells or graph.padded_px(patch_px) >> signal.level, signal.channels


def stage_weights(graph: Graph, stage: str) -> int:
    """Weights of a stage."""
    return sum(num_parameters_of(node.layer, graph.inputs_of(node)) for node in stage_nodes(graph, stage))


def _row(graph: Graph, stage: str, patch_px: int, margin_px: int) -> tuple[str, str, int, int, int, float]:
    nodes, side = stage_nodes(graph, stage), graph.padded_px(patch_px)
    size, channels = stage_size(graph, stage, patch_px, margin_px)
    convolutions = sum(isinstance(node.layer, (Conv, DepthwiseConv, TransposedConv)) for node in nodes)
    gflop = sum(flops_of(node.layer, graph.inputs_of(node), side, side) for node in nodes) / 1e9
    return stage, f"{count_text(size)} px", channels, convolutions, stage_weights(graph, stage), gflop

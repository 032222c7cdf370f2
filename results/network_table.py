"""A network stage by stage: what each sees, makes, weighs and costs."""

import pandas as pd

from results.phrases import count_text
from search_space.network.graph import Graph, Node
from search_space.network.layers import Conv, DepthwiseConv, TransposedConv
from search_space.network.signals import flops_of, num_parameters_of

COLUMNS = ("stage", "size", "channels", "convolutions", "weights", "gflop")


def network_table(graph: Graph, patch_px: int) -> pd.DataFrame:
    """One row per stage, and one for all.

    Args:
        graph: The network.
        patch_px: Side length of the image that is looked at.

    Returns:
        Columns `stage`; `size`, sides of what it makes; `channels` that it makes; `convolutions`; `weights`; `gflop`,
        thousands of millions of operations for one patch on the way forward.
    """
    side = -(-patch_px // graph.divisor_px) * graph.divisor_px
    table = pd.DataFrame(
        [_row(graph, stage, side) for stage in graph.stages if stage != "image"], columns=list(COLUMNS)
    )
    totals = table[["convolutions", "weights", "gflop"]].sum().to_dict()
    return pd.concat([table, pd.DataFrame([{"stage": "all", "size": "", **totals}])], ignore_index=True)


def stage_nodes(graph: Graph, stage: str) -> list[Node]:
    """The layers of a stage."""
    return [node for node in graph.nodes if node.stage == stage]


def stage_size(graph: Graph, stage: str, side_px: int) -> tuple[int, int]:
    """Side length and channels of what a stage makes."""
    signal = stage_nodes(graph, stage)[-1].signal
    return signal.cells or side_px >> signal.level, signal.channels


def stage_weights(graph: Graph, stage: str) -> int:
    """Weights of a stage."""
    return sum(num_parameters_of(node.layer, graph.inputs_of(node)) for node in stage_nodes(graph, stage))


def _row(graph: Graph, stage: str, side: int) -> tuple[str, str, int, int, int, float]:
    nodes = stage_nodes(graph, stage)
    size, channels = stage_size(graph, stage, side)
    convolutions = sum(isinstance(node.layer, (Conv, DepthwiseConv, TransposedConv)) for node in nodes)
    gflop = sum(flops_of(node.layer, graph.inputs_of(node), side, side) for node in nodes) / 1e9
    return stage, f"{count_text(size)} px", channels, convolutions, stage_weights(graph, stage), gflop

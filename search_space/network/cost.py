"""What training a network takes, estimated from its graph: operations and memory, before anything is allocated."""

from dataclasses import dataclass

from search_space.network.graph import Graph, Node
from search_space.network.layers import (
    Activate,
    Attend,
    Conv,
    DepthwiseConv,
    Drop,
    Input,
    Multiply,
    Normalise,
    Pool,
    TileMean,
    TransposedConv,
)
from search_space.network.signals import flops_of

BYTES = 4

OPTIMIZER_COPIES = {"adam": 2, "nadam": 2, "adamw": 2, "rmsprop": 1, "sgd": 1}
"""How many numbers an optimizer keeps per weight."""


@dataclass(frozen=True)
class Cost:
    """Of one step of training.

    Attributes:
        flops: Operations, forward and backward, for the whole batch.
        weights_bytes: Weights, their gradients, and what the optimizer keeps.
        kept_bytes: Signals that are kept from the way forward for the way back.
        working_bytes: What the most demanding layer needs for itself meanwhile.
    """

    flops: float
    weights_bytes: int
    kept_bytes: int
    working_bytes: int

    @property
    def memory_bytes(self) -> int:
        """All of it, at its highest."""
        return self.weights_bytes + self.kept_bytes + self.working_bytes


def training_cost(graph: Graph, patch_px: int, batch_size: int, optimizer: str = "adam") -> Cost:
    """Estimate one step of training in single precision."""
    side = -(-patch_px // graph.divisor_px) * graph.divisor_px
    kept = kept_nodes(graph)
    sizes = [node.signal.channels * node.signal.positions(side, side) * batch_size * BYTES for node in graph.nodes]
    working = max(
        sizes[number] + sum(sizes[source] for source in node.inputs) + extra_bytes(node, sizes[number])
        for number, node in enumerate(graph.nodes)
    )
    return Cost(
        # The way back costs twice as much as the way forward: by the signals, and by the weights.
        flops=3.0 * batch_size * graph.flops(side, side),
        weights_bytes=graph.num_parameters * BYTES * (2 + OPTIMIZER_COPIES[optimizer]),
        kept_bytes=sum(round(factor * sizes[number]) for number, factor in kept.items()),
        working_bytes=working,
    )


def kept_nodes(graph: Graph) -> dict[int, float]:
    """Number of a node to how many signals of its size are kept for the way back."""
    kept: dict[int, float] = {}

    def keep(number: int, times: float) -> None:
        kept[number] = max(kept.get(number, 0.0), times)

    for number, node in enumerate(graph.nodes):
        match node.layer:
            case Conv() | DepthwiseConv() | TransposedConv() | Normalise() | Multiply() | Attend():
                for source in node.inputs:
                    keep(source, 1.0)
            case Pool(kind="max"):
                keep(node.inputs[0], 1.0)
                keep(number, 1.0)
            case Activate("relu" | "elu" | "selu" | "sigmoid"):
                keep(number, 1.0)
            case Activate():
                keep(node.inputs[0], 1.0)
            case Drop("element"):
                keep(number, 1.0)
            case _:
                pass
        match node.layer:
            case Normalise("layer" | "group"):
                keep(number, 2.0)
            case _:
                pass
    return kept


def extra_bytes(node: Node, size: int) -> int:
    return size

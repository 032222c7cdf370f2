"""What training a network takes, estimated from its graph: operations and memory, before anything is allocated."""

from collections.abc import Sequence
from dataclasses import dataclass

from search_space.candidate import Candidate
from search_space.errors import InfeasibleError
from search_space.network.graph import Graph, Node
from search_space.network.layers import (
    Activate,
    Attend,
    Conv,
    DepthwiseConv,
    Drop,
    Multiply,
    Normalise,
    Pool,
    TransposedConv,
)
from search_space.network.signals import num_variables_of
from search_space.network.unet import InputBand, draw_up
from search_space.optimisation import Averaging, NoAveraging, SnapshotAverage
from search_space.study import Budget, LimitSettings

BYTES = 4
"""Of a number in single precision."""

PASSES = 3.0
"""Training costs as much as so many predictions: the way back is twice the way forward, for signals and for weights."""

OPTIMIZER_COPIES = {"adam": 2, "adamw": 2, "nadam": 2, "rmsprop": 1, "sgd": 1}
"""How many numbers an optimizer keeps per weight; moving averages are one more."""

HOST_WEIGHTS, HOST_KEPT, HOST_WORKING, HOST_FIXED_BYTES = 1.4, 1.12, 1.2, 47_000_000
HOST_VARIABLE_BYTES = {
    "adam": 1_650_000,
    "adamw": 1_770_000,
    "nadam": 2_200_000,
    "rmsprop": 1_320_000,
    "sgd": 1_190_000,
}
HOST_AVERAGE_BYTES = 200_000
"""What a training on a processor takes, beyond the framework itself: of the weights' bytes, of the signals that are
kept, of what the most demanding layer holds, and in any case; and for each variable the framework's records of what an
optimizer does with it, and with a moving average. How they were fitted: `benchmarks/results/network_cost.md`."""

NO_AVERAGING = NoAveraging()


@dataclass(frozen=True)
class Cost:
    """Of one step of training.

    Attributes:
        num_parameters: Weights of the network.
        flops: Operations, forward and backward, for the whole batch; a multiplication with an addition counts as two.
        weights_bytes: Weights, their gradients, and what the optimizer keeps.
        snapshot_bytes: Copies of weights that are kept beside the device until the end: the best epoch's, and those
            that are to be averaged.
        kept_bytes: Signals that are kept from the way forward for the way back.
        working_bytes: What the most demanding layer holds meanwhile.
        num_variables: Arrays of weights that are trained.
        optimizer: What trains them, as a key of `HOST_VARIABLE_BYTES`.
        has_averages: Whether it keeps their moving averages.
    """

    num_parameters: int
    flops: float
    weights_bytes: int
    snapshot_bytes: int
    kept_bytes: int
    working_bytes: int
    num_variables: int
    optimizer: str
    has_averages: bool

    @property
    def device_bytes(self) -> int:
        """Memory of an accelerator, at its highest."""
        return self.weights_bytes + self.kept_bytes + self.working_bytes

    @property
    def host_bytes(self) -> int:
        """Memory of a process that trains on the processor, at its highest, beyond what the framework takes anyway."""
        signals = HOST_KEPT * self.kept_bytes + HOST_WORKING * self.working_bytes
        per_variable = HOST_VARIABLE_BYTES[self.optimizer] + (HOST_AVERAGE_BYTES if self.has_averages else 0)
        records = per_variable * self.num_variables + HOST_FIXED_BYTES
        return round(HOST_WEIGHTS * self.weights_bytes + self.snapshot_bytes + signals + records)


def training_cost(
    graph: Graph, patch_px: int, batch_size: int, optimizer: str = "adam", averaging: Averaging = NO_AVERAGING
) -> Cost:
    """Estimate one step of training in single precision.

    Args:
        graph: The network.
        patch_px: Side length of a patch.
        batch_size: Patches per step.
        optimizer: A key of `OPTIMIZER_COPIES`.
        averaging: What is averaged of the weights.
    """
    side = graph.padded_px(patch_px)
    sizes = [node.signal.channels * node.signal.positions(side, side) * batch_size * BYTES for node in graph.nodes]
    scores = [_num_scores(node, side) * batch_size * BYTES for node in graph.nodes]
    kept = _kept(graph)
    num_parameters = graph.num_parameters
    has_averages = averaging.kind == "ema"
    return Cost(
        num_parameters=num_parameters,
        flops=PASSES * batch_size * graph.flops(side, side),
        weights_bytes=num_parameters * BYTES * (2 + OPTIMIZER_COPIES[optimizer] + has_averages),
        snapshot_bytes=num_parameters * BYTES * (1 + _num_snapshots(averaging)),
        kept_bytes=sum(round(times * sizes[number]) for number, times in kept.items()) + sum(scores),
        # Of attention the shares are kept; the scores that they were made of, and gradients, pass.
        working_bytes=max(
            2 * sizes[number] + scores[number] * 3 // 2 + sum(sizes[i] for i in node.inputs)
            for number, node in enumerate(graph.nodes)
        ),
        num_variables=sum(num_variables_of(node.layer) for node in graph.nodes),
        optimizer=optimizer,
        has_averages=has_averages,
    )


def prediction_bytes(graph: Graph, tile_px: int, batch_size: int) -> int:
    """Memory of one prediction in single precision: weights, and the signals that layers to come still need.

    Args:
        graph: The network.
        tile_px: Side length of a tile.
        batch_size: Tiles per call.
    """
    side = graph.padded_px(tile_px)
    last_use = {source: number for number, node in enumerate(graph.nodes) for source in node.inputs}
    live, peak = 0, 0
    sizes: dict[int, int] = {}
    for number, node in enumerate(graph.nodes):
        sizes[number] = node.signal.channels * node.signal.positions(side, side) * batch_size * BYTES
        live += sizes[number]
        peak = max(peak, live + _num_scores(node, side) * batch_size * BYTES)
        live -= sum(sizes[source] for source in set(node.inputs) if last_use[source] == number)
    return graph.num_parameters * BYTES + peak


def _num_snapshots(averaging: Averaging) -> int:
    """Copies of the weights in single precision; of those whose mean is wanted there is a sum in double precision."""
    if not isinstance(averaging, SnapshotAverage):
        return 0
    return 2 if averaging.of == "weights" else averaging.num


def check_cost(
    candidate: Candidate,
    bands: Sequence[InputBand],
    num_classes: int,
    limits: LimitSettings,
    budget: Budget,
    device_bytes: int | None = None,
) -> Cost:
    """Refuse a candidate whose training would take more than a study allows.

    Args:
        candidate: Which one.
        bands: The channels of the image.
        num_classes: Channels of the map.
        limits: The study's.
        budget: How many steps an epoch has.
        device_bytes: Free memory of the accelerator; None where the processor computes.

    Returns:
        What it takes.

    Raises:
        InfeasibleError: Too many parameters, or too much memory or time; what is estimated and what is allowed.
    """
    plan = candidate.plan
    graph = draw_up(candidate.architecture, bands, num_classes)
    cost = training_cost(graph, plan.patch_px, plan.batch_size, plan.optimizer.kind, plan.averaging)
    if cost.num_parameters > limits.max_parameters:
        raise InfeasibleError(
            f"the network has {cost.num_parameters:,} parameters, "
            f"more than limits.max_parameters = {limits.max_parameters:,}",
            remedy="Raise that, or take fewer filters or less depth",
        )
    needed_mb = (cost.host_bytes if device_bytes is None else cost.device_bytes) / 1e6
    if limits.device_memory_mb:
        allowed_mb, name = float(limits.device_memory_mb), "limits.device_memory_mb"
    else:
        allowed_mb, name = (device_bytes or 0) / 1e6, "the device's free memory in MB"
    if allowed_mb and needed_mb > allowed_mb:
        raise InfeasibleError(
            f"a step of training takes about {needed_mb:,.0f} MB, more than {name} = {allowed_mb:,.0f}",
            remedy="Take a smaller batch or smaller patches",
        )
    epoch_s = cost.flops * budget.steps_per_epoch / (limits.device_gflops * 1e9) if limits.device_gflops else 0.0
    if limits.epoch_s and epoch_s > limits.epoch_s:
        raise InfeasibleError(
            f"an epoch takes about {epoch_s:,.3g} s at {limits.device_gflops:g} GFLOP/s, "
            f"more than limits.epoch_s = {limits.epoch_s:g}",
            remedy="Raise that, or take fewer steps or filters",
        )
    return cost


def _num_scores(node: Node, side_px: int) -> int:
    """How many numbers tell how much each position attends to each, for one image."""
    return node.layer.heads * node.signal.positions(side_px, side_px) ** 2 if isinstance(node.layer, Attend) else 0


def _kept(graph: Graph) -> dict[int, float]:
    """Number of a node to how many signals of its size are kept for the way back."""
    kept: dict[int, float] = {}
    for number, node in enumerate(graph.nodes):
        for source, times in _keeps(node, number):
            kept[source] = max(kept.get(source, 0.0), times)
    return kept


def _keeps(node: Node, number: int) -> list[tuple[int, float]]:
    """What a layer wants to see again on the way back, of its inputs and of itself."""
    inputs = [(source, 1.0) for source in node.inputs]
    match node.layer:
        case Normalise("layer"):
            return [*inputs, (number, 1.5)]
        case Normalise("group"):
            return [*inputs, (number, 1.0)]
        case Conv() | DepthwiseConv() | TransposedConv() | Normalise() | Multiply() | Attend():
            return inputs
        case Pool(kind="max"):
            return [*inputs, (number, 1.0)]
        case Activate("relu" | "elu" | "selu" | "sigmoid") | Drop("element"):
            return [(number, 1.0)]
        case Activate("gelu"):
            # Its polynomial is computed step by step.
            return [*inputs, (number, 3.0)]
        case Activate():
            return inputs
        case _:
            return []

"""A network as a graph of layers, and what can be told of it without building it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from search_space.network.layers import Input, Layer
from search_space.network.signals import NOWHERE, Signal, Span, flops_of, num_parameters_of, output_of, seen_by


@dataclass(frozen=True)
class Node:
    """A layer in its place.

    Attributes:
        name: Unique in the graph, such as `down0_unit1_conv`; begins with the name of the stage that it belongs to.
        stage: Such as `down0`, `bottom` or `up0`.
        layer: What it does.
        inputs: Numbers of the nodes that it reads, all before it.
        signal: What it makes.
    """

    name: str
    stage: str
    layer: Layer
    inputs: tuple[int, ...]
    signal: Signal


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be computed; the first is the image.

    Attributes:
        nodes: All of them.
        outputs: Name of an output to the number of the node that makes it; `masks` is the map of the classes.
    """

    nodes: tuple[Node, ...]
    outputs: Mapping[str, int]

    def inputs_of(self, node: Node) -> tuple[Signal, ...]:
        """The signals that a node reads."""
        return tuple(self.nodes[number].signal for number in node.inputs)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, in the order in which they begin."""
        return tuple(dict.fromkeys(node.stage for node in self.nodes))

    @property
    def num_parameters(self) -> int:
        """Weights, those that training does not change included."""
        return sum(num_parameters_of(node.layer, self.inputs_of(node)) for node in self.nodes)

    def flops(self, height_px: int, width_px: int) -> float:
        """Operations of one prediction of one image; a multiplication with an addition counts as two."""
        return sum(flops_of(node.layer, self.inputs_of(node), height_px, width_px) for node in self.nodes)

    @property
    def divisor_px(self) -> int:
        """Sides of images that are multiples of this need no padding."""
        return 1 << max(node.signal.level for node in self.nodes)

    def padded_px(self, side_px: int) -> int:
        """The side of an image as the network pads it: the next multiple of `divisor_px`."""
        return -(-side_px // self.divisor_px) * self.divisor_px

    @property
    def context_px(self) -> int | None:
        """How far an output pixel looks at most: no pixel further off, in rows or in columns, can change it.

        Means over the whole tile (group normalisation, squeeze and excitation, image pooling) are not counted, as no
        distance bounds them.

        Returns:
            None where it looks at all of the tile, however large.
        """
        farthest = 0
        for position, axis in product(range(self.divisor_px), (0, 1)):
            seen = self._seen_from(position, axis)
            if seen is None:
                return None
            farthest = max(farthest, position - seen[0], seen[1] - position)
        return farthest

    def _seen_from(self, position: int, axis: int) -> Span | None:
        """First and last position of the image on which the mask at `position` depends, along an axis."""
        spans: list[Span] = [NOWHERE] * len(self.nodes)
        spans[self.outputs["masks"]] = (position, position)
        for number in reversed(range(len(self.nodes))):
            if spans[number] == NOWHERE:
                continue
            node = self.nodes[number]
            for place, source in enumerate(node.inputs):
                seen = seen_by(node.layer, place, spans[number], axis)
                if seen is None:
                    return None
                spans[source] = _hull(spans[source], seen)
        return spans[0]


class Draft:
    """A graph that is being drawn up.

    Layers are added to the stage that is open; nodes are known by their numbers.
    """

    def __init__(self, num_bands: int) -> None:
        self._nodes: list[Node] = []
        self._names: set[str] = set()
        self.stage = "image"
        self.image = self.add("image", Input(num_bands))

    def add(self, name: str, layer: Layer, *inputs: int) -> int:
        """Add a layer.

        Args:
            name: Within the stage.
            layer: What it does.
            inputs: Numbers of the nodes that it reads.

        Returns:
            Its number.

        Raises:
            ValueError: The name is taken, or the layer does not fit its inputs.
        """
        whole = name if not self._nodes else f"{self.stage}_{name}"
        if whole in self._names:
            raise ValueError(f"two layers are called {whole}")
        self._names.add(whole)
        signal = output_of(layer, [self._nodes[number].signal for number in inputs])
        self._nodes.append(Node(whole, self.stage, layer, inputs, signal))
        return len(self._nodes) - 1

    def signal(self, node: int) -> Signal:
        """What a node makes."""
        return self._nodes[node].signal

    def channels(self, node: int) -> int:
        """How many channels a node makes."""
        return self.signal(node).channels

    def finished(self, outputs: Mapping[str, int]) -> Graph:
        """The graph, without what no output needs."""
        needed = _needed(self._nodes, outputs.values())
        new = {number: place for place, number in enumerate(needed)}
        nodes = (self._nodes[number] for number in needed)
        return Graph(
            tuple(Node(n.name, n.stage, n.layer, tuple(new[i] for i in n.inputs), n.signal) for n in nodes),
            {name: new[number] for name, number in outputs.items()},
        )


def _needed(nodes: Sequence[Node], outputs: Iterable[int]) -> list[int]:
    found: set[int] = {0}
    waiting = list(outputs)
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            waiting += nodes[number].inputs
    return sorted(found)


def _hull(one: Span, other: Span) -> Span:
    if one == NOWHERE:
        return other
    return one if other == NOWHERE else (min(one[0], other[0]), max(one[1], other[1]))

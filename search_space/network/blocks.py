"""The blocks that stages consist of: each a function that adds layers to a draft.

A new kind of block is one function, one entry in `BODIES` and one member of `search_space.architecture.Block`.
"""

from collections.abc import Callable
from typing import Any

from search_space.architecture import (
    Architecture,
    AsymmetricBlock,
    BottleneckBlock,
    DenseBlock,
    InceptionBlock,
    PlainBlock,
    ResidualBlock,
    SeparableBlock,
)
from search_space.network.graph import Draft
from search_space.network.layers import (
    Activate,
    Add,
    Concatenate,
    Conv,
    DepthwiseConv,
    Drop,
    Multiply,
    Normalise,
    Pool,
    TileMean,
)

SQUEEZE, LEAST_SQUEEZED = 8, 4
"""How many times fewer channels squeeze and excitation has between its two layers, and how many it has at least: two
could be silent from the start."""


class Grower:
    """Adds to a draft what an architecture asks for.

    Attributes:
        draft: What is added to.
        architecture: What is asked for.
    """

    def __init__(self, draft: Draft, architecture: Architecture) -> None:
        self.draft = draft
        self.architecture = architecture

    def conv(
        self,
        x: int,
        filters: int,
        kernel: int | tuple[int, int],
        name: str,
        *,
        stride: int = 1,
        dilation: int = 1,
        activate: bool = True,
        is_added: bool = False,
    ) -> int:
        """Convolution, normalisation, activation; `is_added` tells that the result is added to what was before."""
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        # A bias before a normalisation that subtracts the mean would have no effect.
        has_none = not self._normalises(x)
        # Without a normalisation sums of sums would grow beyond what the head can tell apart.
        layer = Conv(filters, sides, stride, dilation, use_bias=has_none, is_quiet=is_added and has_none)
        size = str(kernel) if isinstance(kernel, int) else f"{sides[0]}x{sides[1]}"
        x = self.draft.add(f"{name}_conv{size}", layer, x)
        return self.settle(x, name, activate=activate)

    def settle(self, x: int, name: str, *, activate: bool = True) -> int:
        """Normalisation, then activation."""
        kind = self.architecture.normalisation
        if kind != "none" and self._normalises(x):
            x = self.draft.add(f"{name}_{kind}norm", Normalise(kind), x)
        return self.activate(x, name) if activate else x

    def _normalises(self, x: int) -> bool:
        """Whether a signal of this size is normalised: over groups of a tile's single position little would be left."""
        kind = self.architecture.normalisation
        return kind != "none" and not (kind == "group" and self.draft.signal(x).cells == 1)

    def activate(self, x: int, name: str) -> int:
        """The architecture's activation."""
        return self.draft.add(f"{name}_{self.architecture.activation}", Activate(self.architecture.activation), x)

    def stage(self, x: int, filters: int) -> int:
        """The units of one stage, then dropout."""
        for number in range(1, self.architecture.units_per_stage + 1):
            x = self.unit(x, filters, f"unit{number}")
        return x

    def drop(self, x: int) -> int:
        """The architecture's dropout."""
        dropout = self.architecture.dropout
        return x if dropout.kind == "none" else self.draft.add("dropout", Drop(dropout.kind, dropout.rate), x)

    def unit(self, x: int, filters: int, name: str) -> int:
        """One block of the architecture's kind."""
        body, is_residual = BODIES[type(self.architecture.block)]
        return self._unit(body(self, self.architecture.block, x, filters, name), x, name, is_residual)

    def residual_unit(self, x: int, filters: int, name: str) -> int:
        """One residual block of 3x3, whatever kind the architecture's are."""
        return self._unit(_two_convs(self, x, filters, 3, name), x, name, True)

    def _unit(self, y: int, x: int, name: str, is_residual: bool) -> int:
        if self.architecture.squeeze_excitation:
            y = self._excite(y, name)
        if not is_residual:
            return y
        filters = self.draft.channels(y)
        if self.draft.channels(x) != filters:
            x = self.conv(x, filters, 1, f"{name}_shortcut", activate=False)
        return self.activate(self.draft.add(f"{name}_add", Add(), x, y), f"{name}_sum")

    def _excite(self, x: int, name: str) -> int:
        """Hu et al., "Squeeze-and-Excitation Networks", 2017."""
        draft, channels = self.draft, self.draft.channels(x)
        gate = draft.add(f"{name}_se_mean", TileMean(), x)
        gate = draft.add(f"{name}_se_narrow", Conv(max(LEAST_SQUEEZED, channels // SQUEEZE), (1, 1)), gate)
        gate = draft.add(f"{name}_se_relu", Activate("relu"), gate)
        gate = draft.add(f"{name}_se_wide", Conv(channels, (1, 1)), gate)
        gate = draft.add(f"{name}_se_sigmoid", Activate("sigmoid"), gate)
        return draft.add(f"{name}_se_weigh", Multiply(), x, gate)


def _plain(grow: Grower, block: PlainBlock, x: int, filters: int, name: str) -> int:
    return grow.conv(x, filters, block.kernel_px, name)


def _residual(grow: Grower, block: ResidualBlock, x: int, filters: int, name: str) -> int:
    return _two_convs(grow, x, filters, block.kernel_px, name)


def _two_convs(grow: Grower, x: int, filters: int, kernel_px: int, name: str) -> int:
    y = grow.conv(x, filters, kernel_px, f"{name}_a")
    return grow.conv(y, filters, kernel_px, f"{name}_b", activate=False, is_added=True)


def _bottleneck(grow: Grower, block: BottleneckBlock, x: int, filters: int, name: str) -> int:
    narrow = max(1, filters // block.narrowing)
    y = grow.conv(x, narrow, 1, f"{name}_narrow")
    y = grow.conv(y, narrow, block.kernel_px, f"{name}_middle")
    return grow.conv(y, filters, 1, f"{name}_widen", activate=False, is_added=True)


def _inception(grow: Grower, block: InceptionBlock, x: int, filters: int, name: str) -> int:
    wide_px, quarter = block.wide_kernel_px, max(1, filters // 4)
    pooled = grow.draft.add(f"{name}_pool3", Pool("max", 3, 1), x)
    branches = (
        grow.conv(x, max(1, filters - 3 * quarter), 1, f"{name}_point"),
        grow.conv(x, quarter, 3, f"{name}_narrow"),
        grow.conv(grow.conv(x, quarter, 1, f"{name}_squeeze"), quarter, wide_px, f"{name}_wide"),
        grow.conv(pooled, quarter, 1, f"{name}_pooled"),
    )
    return grow.draft.add(f"{name}_join", Concatenate(), *branches)


def _asymmetric(grow: Grower, block: AsymmetricBlock, x: int, filters: int, name: str) -> int:
    """A column and a row in place of each square; after Szegedy et al. 2015, as the DeepGlobe roads network has it."""
    kernel_px, quarter = block.kernel_px, max(1, filters // 4)

    def square(y: int, part: str) -> int:
        y = grow.conv(y, quarter, (kernel_px, 1), f"{name}_{part}_column")
        return grow.conv(y, quarter, (1, kernel_px), f"{name}_{part}_row")

    pooled = grow.draft.add(f"{name}_pool3", Pool("max", 3, 1), x)
    deep = square(grow.conv(x, quarter, 1, f"{name}_deep"), "deep1")
    branches = (
        grow.conv(x, max(1, filters - 3 * quarter), 1, f"{name}_point"),
        square(grow.conv(x, quarter, 1, f"{name}_single"), "single1"),
        square(deep, "deep2"),
        grow.conv(pooled, quarter, 1, f"{name}_pooled"),
    )
    return grow.draft.add(f"{name}_join", Concatenate(), *branches)


def _dense(grow: Grower, block: DenseBlock, x: int, filters: int, name: str) -> int:
    """Huang et al., "Densely Connected Convolutional Networks", 2016."""
    part = max(1, filters // block.layers)
    found = [x]
    for number in range(1, block.layers + 1):
        y = found[0] if len(found) == 1 else grow.draft.add(f"{name}_join{number}", Concatenate(), *found)
        found.append(grow.conv(y, part, block.kernel_px, f"{name}_layer{number}"))
    return grow.conv(grow.draft.add(f"{name}_join", Concatenate(), *found), filters, 1, f"{name}_mix")


def _separable(grow: Grower, block: SeparableBlock, x: int, filters: int, name: str) -> int:
    y = grow.draft.add(f"{name}_depthwise{block.kernel_px}", DepthwiseConv(block.kernel_px), x)
    return grow.conv(y, filters, 1, f"{name}_point")


Body = Callable[[Grower, Any, int, int, str], int]

BODIES: dict[type, tuple[Body, bool]] = {
    PlainBlock: (_plain, False),
    ResidualBlock: (_residual, True),
    BottleneckBlock: (_bottleneck, True),
    InceptionBlock: (_inception, False),
    AsymmetricBlock: (_asymmetric, False),
    DenseBlock: (_dense, False),
    SeparableBlock: (_separable, False),
}
"""Kind of block to what adds its layers, and whether its input is added at the end."""

"""What lies between and around the stages: how the resolution falls and rises, the bottom, and the skips."""

from collections.abc import Callable
from typing import Any

from search_space.architecture import (
    AsppBottom,
    AttentionBottom,
    BilinearUp,
    NearestUp,
    PlainBottom,
    PyramidBottom,
    SubPixelUp,
    TransposedUp,
)
from search_space.network.blocks import Grower
from search_space.network.layers import (
    Activate,
    Add,
    Attend,
    Concatenate,
    Conv,
    Double,
    Multiply,
    Normalise,
    Pool,
    Spread,
    SubPixel,
    TileMean,
    TransposedConv,
)

ASPP_FILTERS = 256
"""Of each branch at most, and of what joins them: known encoders end in thousands of channels."""

BINS = (1, 2, 3, 6)
"""Of pyramid pooling: parts along each side of the tile."""


def _max(grow: Grower, x: int) -> int:
    return grow.draft.add("max", Pool("max"), x)


def _average(grow: Grower, x: int) -> int:
    return grow.draft.add("average", Pool("average"), x)


def _strided(grow: Grower, x: int) -> int:
    return grow.conv(x, grow.draft.channels(x), 3, "strided", stride=2)


def _inception_pooling(grow: Grower, x: int) -> int:
    """Pooled and strided branches side by side, joined and mixed by a 1x1 convolution."""
    filters = grow.draft.channels(x)
    branches = _max(grow, x), _average(grow, x), grow.conv(x, max(1, filters // 2), 3, "strided", stride=2)
    return grow.conv(grow.draft.add("join", Concatenate(), *branches), filters, 1, "mix")


DOWNS: dict[str, Callable[[Grower, int], int]] = {
    "max": _max,
    "average": _average,
    "strided": _strided,
    "inception": _inception_pooling,
}
"""How the resolution is halved."""


def _transposed(grow: Grower, up: TransposedUp, x: int, filters: int) -> int:
    use_bias = grow.architecture.normalisation == "none"
    return grow.settle(grow.draft.add("transposed", TransposedConv(filters, up.kernel_px, use_bias), x), "rise")


def _resized(grow: Grower, up: NearestUp | BilinearUp, x: int, filters: int) -> int:
    x = grow.draft.add(up.kind, Double(up.kind), x)
    return grow.conv(x, filters, up.kernel_px, "rise") if up.kernel_px else x


def _subpixel(grow: Grower, up: SubPixelUp, x: int, filters: int) -> int:
    """Shi et al., "Real-Time Single Image and Video Super-Resolution Using ... Sub-Pixel CNN", 2016."""
    use_bias = grow.architecture.normalisation == "none"
    x = grow.draft.add(f"rise_conv{up.kernel_px}", Conv(4 * filters, (up.kernel_px,) * 2, use_bias=use_bias), x)
    return grow.settle(grow.draft.add("subpixel", SubPixel(), x), "rise")


UPS: dict[type, Callable[[Grower, Any, int, int], int]] = {
    TransposedUp: _transposed,
    NearestUp: _resized,
    BilinearUp: _resized,
    SubPixelUp: _subpixel,
}
"""How the resolution is doubled."""


def _nothing(grow: Grower, bottom: PlainBottom, x: int) -> int:  # noqa: ARG001
    return x


def _aspp(grow: Grower, bottom: AsppBottom, x: int) -> int:
    """Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017."""
    filters = min(ASPP_FILTERS, grow.draft.channels(x))
    mean = grow.conv(grow.draft.add("mean", TileMean(), x), filters, 1, "pooled")
    branches = [grow.conv(x, filters, 1, "point")]
    for times in (1, 2, 3):
        rate = times * bottom.rate
        branches.append(grow.conv(x, filters, 3, f"rate{rate}", dilation=rate))
    joined = grow.draft.add("join", Concatenate(), *branches, grow.draft.add("spread", Spread(), mean, x))
    return grow.conv(joined, filters, 1, "mix")


def _pyramid(grow: Grower, bottom: PyramidBottom, x: int) -> int:  # noqa: ARG001
    """Zhao et al., "Pyramid Scene Parsing Network", 2016."""
    filters = grow.draft.channels(x)
    parts = [x]
    for cells in BINS:
        part = grow.draft.add(f"mean{cells}", TileMean(cells), x)
        part = grow.conv(part, max(1, filters // len(BINS)), 1, f"bin{cells}")
        parts.append(grow.draft.add(f"spread{cells}", Spread(cells), part, x))
    return grow.conv(grow.draft.add("join", Concatenate(), *parts), filters, 1, "mix")


def _attention(grow: Grower, bottom: AttentionBottom, x: int) -> int:
    """Vaswani et al., "Attention Is All You Need", 2017, over positions; the projections are 1x1 convolutions."""
    filters, narrow = grow.draft.channels(x), max(1, grow.draft.channels(x) // (2 * bottom.heads)) * bottom.heads
    projected = [grow.draft.add(name, Conv(narrow, (1, 1)), x) for name in ("queries", "keys", "values")]
    attended = grow.draft.add("attend", Attend(bottom.heads), *projected)
    attended = grow.conv(attended, filters, 1, "mix", activate=False, is_added=True)
    return grow.draft.add("add", Add(), x, attended)


BOTTOMS: dict[type, Callable[[Grower, Any, int], int]] = {
    PlainBottom: _nothing,
    AsppBottom: _aspp,
    PyramidBottom: _pyramid,
    AttentionBottom: _attention,
}
"""What looks far around where the resolution is lowest."""


def _concatenate(grow: Grower, skip: int, x: int) -> int:
    return grow.draft.add("skip", Concatenate(), skip, x)


def _add(grow: Grower, skip: int, x: int) -> int:
    return grow.draft.add("skip", Add(), _as_wide(grow, skip, x), x)


def _residual(grow: Grower, skip: int, x: int) -> int:
    """The encoder's signal with a 1x1 and batch normalisation of it, added; as the DeepGlobe roads network has it."""
    skip = _as_wide(grow, skip, x)
    mixed = grow.draft.add("skip_conv1", Conv(grow.draft.channels(skip), (1, 1), use_bias=False), skip)
    mixed = grow.draft.add("skip_batchnorm", Normalise("batch"), mixed)
    return grow.draft.add("skip", Add(), skip, mixed, x)


def _gate(grow: Grower, skip: int, x: int) -> int:
    """Oktay et al., "Attention U-Net", 2018, with the gating signal at the skip's own resolution."""
    narrow = max(1, grow.draft.channels(skip) // 2)
    ours = grow.conv(skip, narrow, 1, "gate_skip", activate=False)
    theirs = grow.conv(x, narrow, 1, "gate_rise", activate=False)
    gate = grow.draft.add("gate_relu", Activate("relu"), grow.draft.add("gate_add", Add(), ours, theirs))
    gate = grow.draft.add("gate_conv1", Conv(1, (1, 1)), gate)
    gate = grow.draft.add("gate_sigmoid", Activate("sigmoid"), gate)
    return grow.draft.add("skip", Concatenate(), grow.draft.add("gate", Multiply(), skip, gate), x)


def _none(grow: Grower, skip: int, x: int) -> int:  # noqa: ARG001
    return x


SKIPS: dict[str, Callable[[Grower, int, int], int]] = {
    "concatenate": _concatenate,
    "add": _add,
    "residual": _residual,
    "gate": _gate,
    "none": _none,
}
"""How the encoder's signal comes to the decoder."""


def _as_wide(grow: Grower, skip: int, x: int) -> int:
    filters = grow.draft.channels(x)
    return skip if grow.draft.channels(skip) == filters else grow.conv(skip, filters, 1, "match", activate=False)

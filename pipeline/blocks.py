"""The parts a network is grown from: blocks, poolings, and the convolution unit they share.

Every function takes and returns a Keras tensor `(N, H, W, C)`. A new kind of block is one function, one entry in
`BLOCKS` and one member of the union `search_space.architecture.Block`.
"""

import math
from collections.abc import Callable
from typing import Any

from keras import layers

from search_space.architecture import Architecture, InceptionBlock, PlainBlock, ResidualBlock

Tensor = Any

BATCH_MOMENTUM = 0.9
"""Short trials have tens of steps: with Keras's 0.99 the statistics for prediction would lag far behind the weights."""


def conv(
    x: Tensor,
    filters: int,
    kernel_px: int,
    architecture: Architecture,
    name: str,
    *,
    strides: int = 1,
    activate: bool = True,
) -> Tensor:
    """Convolution, normalisation, activation."""
    x = layers.Conv2D(
        filters,
        kernel_px,
        strides=strides,
        padding="same",
        # A bias before a normalisation that subtracts the mean would have no effect.
        use_bias=architecture.normalisation == "none",
        kernel_initializer=architecture.kernel_initialisation,
        name=f"{name}_conv{kernel_px}",
    )(x)
    x = _normalise(x, architecture, name)
    return layers.Activation(architecture.activation, name=f"{name}_{architecture.activation}")(x) if activate else x


def stage(x: Tensor, filters: int, architecture: Architecture, name: str) -> Tensor:
    """`convs_per_stage` units of the architecture's block, then dropout."""
    unit = BLOCKS[type(architecture.block)]
    for number in range(1, architecture.convs_per_stage + 1):
        x = unit(x, filters, architecture, f"{name}_unit{number}")
    if architecture.dropout > 0:
        x = layers.SpatialDropout2D(architecture.dropout, name=f"{name}_dropout")(x)
    return x


def _plain(x: Tensor, filters: int, architecture: Architecture, name: str) -> Tensor:
    return conv(x, filters, _kernel_px(architecture), architecture, name)


def _residual(x: Tensor, filters: int, architecture: Architecture, name: str) -> Tensor:
    kernel_px = _kernel_px(architecture)
    shortcut = x
    if x.shape[-1] != filters:
        shortcut = conv(x, filters, 1, architecture, f"{name}_shortcut", activate=False)
    y = conv(x, filters, kernel_px, architecture, f"{name}_a")
    y = conv(y, filters, kernel_px, architecture, f"{name}_b", activate=False)
    y = layers.Add(name=f"{name}_add")([shortcut, y])
    return layers.Activation(architecture.activation, name=f"{name}_{architecture.activation}")(y)


def _inception(x: Tensor, filters: int, architecture: Architecture, name: str) -> Tensor:
    block = architecture.block
    wide_px = block.wide_kernel_px if isinstance(block, InceptionBlock) else 5
    quarter = max(1, filters // 4)
    pooled = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool3")(x)
    branches = [
        conv(x, max(1, filters - 3 * quarter), 1, architecture, f"{name}_point"),
        conv(x, quarter, 3, architecture, f"{name}_narrow"),
        conv(conv(x, quarter, 1, architecture, f"{name}_squeeze"), quarter, wide_px, architecture, f"{name}_wide"),
        conv(pooled, quarter, 1, architecture, f"{name}_pooled"),
    ]
    return layers.Concatenate(name=f"{name}_join")(branches)


def _max(x: Tensor, _architecture: Architecture, name: str) -> Tensor:
    return layers.MaxPooling2D(2, name=f"{name}_max")(x)


def _average(x: Tensor, _architecture: Architecture, name: str) -> Tensor:
    return layers.AveragePooling2D(2, name=f"{name}_average")(x)


def _strided(x: Tensor, architecture: Architecture, name: str) -> Tensor:
    return conv(x, x.shape[-1], 3, architecture, f"{name}_strided", strides=2)


def _inception_pooling(x: Tensor, architecture: Architecture, name: str) -> Tensor:
    """Pooled and strided branches side by side, joined and mixed by a 1x1 convolution."""
    filters = x.shape[-1]
    branches = [
        _max(x, architecture, name),
        _average(x, architecture, name),
        conv(x, max(1, filters // 2), 3, architecture, f"{name}_strided", strides=2),
    ]
    joined = layers.Concatenate(name=f"{name}_join")(branches)
    return conv(joined, filters, 1, architecture, f"{name}_mix")


def _kernel_px(architecture: Architecture) -> int:
    block = architecture.block
    return 3 if isinstance(block, InceptionBlock) else block.kernel_px


def _normalise(x: Tensor, architecture: Architecture, name: str) -> Tensor:
    match architecture.normalisation:
        case "batch":
            return layers.BatchNormalization(momentum=BATCH_MOMENTUM, name=f"{name}_batchnorm")(x)
        case "layer":
            return layers.LayerNormalization(name=f"{name}_layernorm")(x)
        case "group":
            groups = math.gcd(x.shape[-1], 8)
            return layers.GroupNormalization(groups, name=f"{name}_groupnorm")(x)
        case "none":
            return x


BLOCKS: dict[type, Callable[[Tensor, int, Architecture, str], Tensor]] = {
    PlainBlock: _plain,
    ResidualBlock: _residual,
    InceptionBlock: _inception,
}

POOLINGS: dict[str, Callable[[Tensor, Architecture, str], Tensor]] = {
    "max": _max,
    "average": _average,
    "strided": _strided,
    "inception": _inception_pooling,
}

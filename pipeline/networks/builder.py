"""From the graph of a network to a Keras model."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from pipeline.networks.keras_layers import (
    CropToImage,
    DepthToSpace,
    DoubleLinearly,
    PadToMultiple,
    SelectChannels,
    SelfAttention,
    SpreadMeans,
    TileMeans,
)
from search_space.architecture import Architecture
from search_space.network import layers as plans
from search_space.network.graph import Node
from search_space.network.unet import InputBand, draw_up

Tensor = Any

BATCH_MOMENTUM = 0.9
"""Short trials have tens of steps: with Keras's 0.99 the statistics for prediction would lag far behind the weights."""

LEAKY_SLOPE = 0.1
GROUPS, LEAST_GROUP = 8, 4
"""Groups of channels, and channels that each has at least."""


def build_model(architecture: Architecture, bands: int | Sequence[InputBand], num_classes: int) -> keras.Model:
    """Build an untrained network.

    Args:
        architecture: What to build.
        bands: The channels of the image, or only how many there are.
        num_classes: Channels of the output; classes may overlap.

    Returns:
        A model from float32 `(N, H, W, bands)` of any size to a float32 map `(N, h, w, num_classes)` in [0, 1], where
        h and w are H and W less twice the architecture's margin; or, where it has further outputs, to a table of maps,
        of which `masks` is that one.

    Raises:
        InfeasibleError: As `draw_up`.
    """
    channels = [InputBand(f"band{n + 1}") for n in range(bands)] if isinstance(bands, int) else bands
    graph = draw_up(architecture, channels, num_classes)
    make = _Maker(architecture)
    image = keras.Input((None, None, len(channels)), name="image")
    tensors: list[Tensor] = []
    heads, whole = set(graph.outputs.values()), keras.config.floatx()
    for number, node in enumerate(graph.nodes):
        if isinstance(node.layer, plans.Input):
            tensors.append(PadToMultiple(graph.divisor_px, name="pad")(image))
        elif number in heads and isinstance(node.layer, plans.Activate):
            # Half precision would leave thresholds near 1 nothing to tell apart.
            tensors.append(layers.Activation(node.layer.kind, name=node.name, dtype=whole)(tensors[node.inputs[0]]))
        else:
            tensors.append(make(node, [tensors[number] for number in node.inputs]))
    crop = {name: CropToImage(architecture.margin_px, name=name, dtype=whole) for name in graph.outputs}
    maps = {name: crop[name]([tensors[number], image]) for name, number in graph.outputs.items()}
    return keras.Model(image, maps["masks"] if len(maps) == 1 else maps, name="unet")


class _Maker:
    """Makes the Keras layers of an architecture, and calls them."""

    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture

    def __call__(self, node: Node, inputs: list[Tensor]) -> Tensor:
        return MAKERS[type(node.layer)](self, node.layer, node.name, inputs)

    def _weights(self) -> dict[str, Any]:
        """What all convolutions have in common."""
        chosen = self._architecture.regularisation
        regulariser = keras.regularizers.L2(chosen.weight) if chosen.kind == "l2" else None
        return {"kernel_initializer": self._architecture.kernel_initialisation, "kernel_regularizer": regulariser}

    def conv(self, plan: plans.Conv, name: str, inputs: list[Tensor]) -> Tensor:
        x, padding = _centred(plan.centred, plan.kernel, plan.dilation, name, inputs[0])
        weights = self._weights()
        if plan.is_quiet:
            weights["kernel_initializer"] = "zeros"
        return layers.Conv2D(
            plan.filters,
            plan.kernel,
            strides=plan.stride,
            padding=padding,
            dilation_rate=plan.dilation,
            groups=plan.groups,
            use_bias=plan.use_bias,
            name=name,
            **weights,
        )(x)

    def depthwise(self, plan: plans.DepthwiseConv, name: str, inputs: list[Tensor]) -> Tensor:
        x, padding = _centred(plan.centred, (plan.kernel_px,) * 2, 1, name, inputs[0])
        weights = self._weights()
        return layers.DepthwiseConv2D(
            plan.kernel_px,
            strides=plan.stride,
            padding=padding,
            use_bias=False,
            depthwise_initializer=weights["kernel_initializer"],
            depthwise_regularizer=weights["kernel_regularizer"],
            name=name,
        )(x)

    def transposed(self, plan: plans.TransposedConv, name: str, inputs: list[Tensor]) -> Tensor:
        return layers.Conv2DTranspose(
            plan.filters,
            plan.kernel_px,
            strides=2,
            padding="same",
            use_bias=plan.use_bias,
            name=name,
            **self._weights(),
        )(inputs[0])

    def normalise(self, plan: plans.Normalise, name: str, inputs: list[Tensor]) -> Tensor:
        epsilon = 1e-3 if plan.epsilon is None else plan.epsilon
        match plan.kind:
            case "batch":
                layer = layers.BatchNormalization(momentum=BATCH_MOMENTUM, epsilon=epsilon, name=name)
            case "layer":
                layer = layers.LayerNormalization(epsilon=epsilon, name=name)
            case "group":
                layer = layers.GroupNormalization(_num_groups(inputs[0].shape[-1]), epsilon=epsilon, name=name)
        return layer(inputs[0])

    def activate(self, plan: plans.Activate, name: str, inputs: list[Tensor]) -> Tensor:
        if plan.kind == "leaky_relu":
            return layers.LeakyReLU(LEAKY_SLOPE, name=name)(inputs[0])
        return layers.Activation(plan.kind, name=name)(inputs[0])

    def drop(self, plan: plans.Drop, name: str, inputs: list[Tensor]) -> Tensor:
        layer = layers.SpatialDropout2D if plan.kind == "spatial" else layers.Dropout
        return layer(plan.rate, name=name)(inputs[0])

    def pool(self, plan: plans.Pool, name: str, inputs: list[Tensor]) -> Tensor:
        x, padding = _centred(plan.centred, (plan.size_px,) * 2, 1, name, inputs[0])
        layer = layers.MaxPooling2D if plan.kind == "max" else layers.AveragePooling2D
        return layer(plan.size_px, strides=plan.stride, padding=padding, name=name)(x)

    def double(self, plan: plans.Double, name: str, inputs: list[Tensor]) -> Tensor:
        layer = layers.UpSampling2D(2, name=name) if plan.kind == "nearest" else DoubleLinearly(name=name)
        return layer(inputs[0])


def _num_groups(channels: int) -> int:
    """As many of `GROUPS` as leave each enough channels: over a single one of a small map nothing would be left."""
    groups = math.gcd(channels, GROUPS)
    while groups > 1 and channels // groups < LEAST_GROUP:
        groups //= 2
    return groups


def _centred(centred: bool, size: tuple[int, int], dilation: int, name: str, x: Tensor) -> tuple[Tensor, str]:
    """Pad alike on both sides where Keras would not."""
    if not centred or size == (1, 1):
        return x, "same"
    sides = tuple((side - 1) * dilation // 2 for side in size)
    return layers.ZeroPadding2D(sides, name=f"{name}_pad")(x), "valid"


MAKERS: dict[type, Callable[[_Maker, Any, str, list[Tensor]], Tensor]] = {
    plans.Select: lambda _, plan, name, inputs: SelectChannels(list(plan.channels), name=name)(inputs[0]),
    plans.Conv: _Maker.conv,
    plans.DepthwiseConv: _Maker.depthwise,
    plans.TransposedConv: _Maker.transposed,
    plans.Normalise: _Maker.normalise,
    plans.Activate: _Maker.activate,
    plans.Drop: _Maker.drop,
    plans.Pool: _Maker.pool,
    plans.TileMean: lambda _, plan, name, inputs: TileMeans(plan.cells, name=name)(inputs[0]),
    plans.Spread: lambda _, plan, name, inputs: SpreadMeans(name=name)(inputs),  # noqa: ARG005
    plans.Double: _Maker.double,
    plans.SubPixel: lambda _, plan, name, inputs: DepthToSpace(name=name)(inputs[0]),  # noqa: ARG005
    plans.Add: lambda _, plan, name, inputs: layers.Add(name=name)(inputs),  # noqa: ARG005
    plans.Multiply: lambda _, plan, name, inputs: layers.Multiply(name=name)(inputs),  # noqa: ARG005
    plans.Concatenate: lambda _, plan, name, inputs: layers.Concatenate(name=name)(inputs),  # noqa: ARG005
    plans.Attend: lambda _, plan, name, inputs: SelfAttention(plan.heads, name=name)(inputs),
}
"""Kind of layer to what makes and calls it."""

"""What layers make of their inputs, what they cost, and how far they look: counted, without a framework."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import assert_never

from search_space.network.layers import (
    Activate,
    Add,
    Attend,
    Concatenate,
    Conv,
    DepthwiseConv,
    Double,
    Drop,
    Input,
    Layer,
    Multiply,
    Normalise,
    Pool,
    Select,
    Spread,
    SubPixel,
    TileMean,
    TransposedConv,
)

Span = tuple[int, int]
"""First and last position along an axis, both included."""


@dataclass(frozen=True)
class Signal:
    """What flows from one layer to the next: `(N, H / 2**level, W / 2**level, channels)` for an image of H x W.

    Attributes:
        channels: How many there are.
        level: How often the resolution was halved.
        cells: Rows and columns where these do not depend on the image's size; None elsewhere.
    """

    channels: int
    level: int = 0
    cells: int | None = None

    def positions(self, height_px: int, width_px: int) -> int:
        """Rows times columns, for an image whose sides are multiples of 2**level."""
        if self.cells is not None:
            return self.cells**2
        return (height_px >> self.level) * (width_px >> self.level)


def output_of(layer: Layer, inputs: Sequence[Signal]) -> Signal:
    """The signal that a layer makes.

    Raises:
        ValueError: The inputs do not fit each other, or the layer.
    """
    match layer:
        case Input(channels):
            return Signal(channels)
        case Select(channels):
            return _with(inputs[0], channels=len(channels))
        case Conv(filters=filters, stride=stride):
            return _with(inputs[0], channels=filters, halvings=stride.bit_length() - 1)
        case DepthwiseConv(stride=stride) | Pool(stride=stride):
            return _with(inputs[0], halvings=stride.bit_length() - 1)
        case TransposedConv(filters=filters):
            return _with(inputs[0], channels=filters, halvings=-1)
        case Double():
            return _with(inputs[0], halvings=-1)
        case SubPixel():
            return _with(inputs[0], channels=inputs[0].channels // 4, halvings=-1)
        case TileMean(cells):
            return Signal(inputs[0].channels, inputs[0].level, cells)
        case Spread():
            return Signal(inputs[0].channels, inputs[1].level, inputs[1].cells)
        case Add():
            return _alike(inputs)
        case Concatenate():
            places = _alike([Signal(1, each.level, each.cells) for each in inputs])
            return _with(places, channels=sum(each.channels for each in inputs))
        case Attend():
            return inputs[2]
        case Normalise() | Activate() | Drop() | Multiply():
            return inputs[0]
        case _:
            assert_never(layer)


def num_parameters_of(layer: Layer, inputs: Sequence[Signal]) -> int:
    """A layer's weights, those that training does not change included."""
    match layer:
        case Conv(filters=filters, kernel=kernel, groups=groups, use_bias=use_bias):
            return (prod(kernel) * inputs[0].channels // groups + use_bias) * filters
        case DepthwiseConv(kernel_px=kernel_px):
            return kernel_px**2 * inputs[0].channels
        case TransposedConv(filters=filters, kernel_px=kernel_px, use_bias=use_bias):
            return (kernel_px**2 * inputs[0].channels + use_bias) * filters
        case Normalise(kind):
            # A scale and a shift, and for prediction the mean and the variance over batches.
            return (4 if kind == "batch" else 2) * inputs[0].channels
        case _:
            return 0


def num_variables_of(layer: Layer) -> int:
    """In how many arrays a layer's weights lie, those that training does not change left out."""
    match layer:
        case Conv(use_bias=use_bias) | TransposedConv(use_bias=use_bias):
            return 1 + use_bias
        case DepthwiseConv():
            return 1
        case Normalise():
            return 2
        case _:
            return 0


def flops_of(layer: Layer, inputs: Sequence[Signal], height_px: int, width_px: int) -> float:
    """Floating-point operations of a layer for one image; a multiplication with an addition counts as two."""
    output = output_of(layer, inputs)
    positions = output.positions(height_px, width_px)
    return _flops_per_number(layer, inputs, positions) * output.channels * positions


def _flops_per_number(layer: Layer, inputs: Sequence[Signal], positions: int) -> float:
    match layer:
        case Conv(kernel=kernel, groups=groups, use_bias=use_bias):
            return 2.0 * prod(kernel) * inputs[0].channels / groups + use_bias
        case DepthwiseConv(kernel_px=kernel_px):
            return 2.0 * kernel_px**2
        case TransposedConv(kernel_px=kernel_px, use_bias=use_bias):
            # Each position meets a quarter of the kernel.
            return kernel_px**2 / 2 * inputs[0].channels + use_bias
        case Normalise(kind):
            # Statistics of batches are at hand in prediction; others have to be taken.
            return 2.0 if kind == "batch" else 7.0
        case Pool(size_px=size_px):
            return float(size_px**2)
        case Double(kind="bilinear"):
            return 8.0
        case Add():
            return len(inputs) - 1.0
        case Attend():
            return 4.0 * positions
        case Activate() | Multiply():
            return 1.0
        case _:
            return 0.0


WHOLE_TILE = None
"""Instead of a span: what lies anywhere in the tile can matter."""

NOWHERE: Span = (0, -1)
"""Only the tile's mean matters, which no distance bounds: it is not counted."""


def seen_by(layer: Layer, number: int, span: Span, axis: int) -> Span | None:
    """On which positions of an input the output of a layer depends.

    Args:
        layer: The layer.
        number: Which of its inputs.
        span: Positions of the output.
        axis: Along which: 0 for rows, 1 for columns.

    Returns:
        A span, `NOWHERE` or `WHOLE_TILE`.
    """
    first, last = span
    match layer:
        case Conv(kernel=kernel, stride=stride, dilation=dilation, centred=centred):
            return _window(span, kernel[axis], stride, dilation, centred)
        case DepthwiseConv(kernel_px=size, stride=stride, centred=centred):
            return _window(span, size, stride, 1, centred)
        case Pool(size_px=size, stride=stride, centred=centred):
            return _window(span, size, stride, 1, centred)
        case TransposedConv(kernel_px=size):
            # Input i adds to the outputs 2i - before to 2i - before + size - 1.
            before = (size - 2) // 2
            return -((size - 1 - before - first) // 2), (last + before) // 2
        case SubPixel() | Double(kind="nearest"):
            return first // 2, last // 2
        case Double():
            # Linear between the middles of pixels.
            return (first - 1) // 2, (last + 1) // 2
        case TileMean(cells):
            return NOWHERE if cells == 1 else WHOLE_TILE
        case Spread(cells):
            return WHOLE_TILE if number == 0 and cells > 1 else NOWHERE
        case Attend():
            return span if number == 0 else WHOLE_TILE
        case _:
            return span


def _with(signal: Signal, *, channels: int | None = None, halvings: int = 0) -> Signal:
    return Signal(signal.channels if channels is None else channels, signal.level + halvings, signal.cells)


def _alike(signals: Sequence[Signal]) -> Signal:
    if len(set(signals)) > 1:
        raise ValueError(f"signals must be alike: {signals}")
    return signals[0]


def _window(span: Span, size: int, stride: int, dilation: int, centred: bool) -> Span:
    reach = (size - 1) * dilation
    before = reach // 2 if centred else max(0, reach + 1 - stride) // 2
    return span[0] * stride - before, span[1] * stride - before + reach

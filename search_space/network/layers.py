"""The layers that networks consist of, as plain descriptions; `pipeline.networks.builder` makes Keras layers of it."""

from dataclasses import dataclass
from typing import Literal

Kernel = tuple[int, int]
"""Rows and columns."""


@dataclass(frozen=True)
class Input:
    """The bands as they are fed.

    Attributes:
        channels: How many there are.
    """

    channels: int


@dataclass(frozen=True)
class Select:
    """Some of the channels.

    Attributes:
        channels: Their positions, in the order wanted.
    """

    channels: tuple[int, ...]


@dataclass(frozen=True)
class Conv:
    """A convolution whose output has the size of its input, divided by the stride.

    Attributes:
        filters: Channels of the output.
        kernel: Rows and columns.
        stride: Positions from one output to the next, a power of 2.
        dilation: Positions from one tap of the kernel to the next.
        groups: Into how many parts the channels are split, each seen by its own filters alone.
        use_bias: Whether a number is added per filter.
        centred: Whether the border is padded alike before and after, as PyTorch does; otherwise an odd one comes after,
            as Keras has it. They differ where the stride is above 1.
        is_quiet: Whether it starts with zeros, so that what it is added to passes unchanged at first.
    """

    filters: int
    kernel: Kernel = (3, 3)
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    use_bias: bool = True
    centred: bool = False
    is_quiet: bool = False


@dataclass(frozen=True)
class DepthwiseConv:
    """A convolution of each channel by itself, without a bias.

    Attributes:
        kernel_px: Sides of the kernel.
        stride: Positions from one output to the next, a power of 2.
        centred: As in `Conv`.
    """

    kernel_px: int = 3
    stride: int = 1
    centred: bool = False


@dataclass(frozen=True)
class TransposedConv:
    """A learned doubling of the resolution.

    Attributes:
        filters: Channels of the output.
        kernel_px: Sides of the kernel, at least 2.
        use_bias: Whether a number is added per filter.
    """

    filters: int
    kernel_px: int = 2
    use_bias: bool = True


@dataclass(frozen=True)
class Normalise:
    """Takes the mean to 0 and the deviation to 1, then scales and shifts per channel.

    Attributes:
        kind: Over the batch, over the channels of each position, or over groups of channels of the whole tile.
        epsilon: Added to the variance; that of Keras where None.
    """

    kind: Literal["batch", "layer", "group"]
    epsilon: float | None = None


@dataclass(frozen=True)
class Activate:
    """A non-linearity.

    Attributes:
        kind: As Keras names it.
    """

    kind: str


@dataclass(frozen=True)
class Drop:
    """Dropout.

    Attributes:
        kind: Whole channels, or numbers one by one.
        rate: Share that is dropped in training.
    """

    kind: Literal["spatial", "element"]
    rate: float


@dataclass(frozen=True)
class Pool:
    """The mean or the highest number of a window.

    Attributes:
        kind: Which.
        size_px: Sides of the window.
        stride: Positions from one output to the next, a power of 2.
        centred: As in `Conv`.
    """

    kind: Literal["max", "average"]
    size_px: int = 2
    stride: int = 2
    centred: bool = False


@dataclass(frozen=True)
class TileMean:
    """The mean over the tile, or over each of `cells` x `cells` equal parts of it.

    Attributes:
        cells: Parts along each side.
    """

    cells: int = 1


@dataclass(frozen=True)
class Spread:
    """Brings means of a tile, the first input, to the positions of the second: linear between the parts' middles.

    Attributes:
        cells: Parts along each side, as in `TileMean`.
    """

    cells: int = 1


@dataclass(frozen=True)
class Double:
    """Twice the resolution without anything learned.

    Attributes:
        kind: How positions between are filled.
    """

    kind: Literal["nearest", "bilinear"]


@dataclass(frozen=True)
class SubPixel:
    """Four channels become one of twice the resolution."""


@dataclass(frozen=True)
class Add:
    """The sum of signals of one shape."""


@dataclass(frozen=True)
class Multiply:
    """The product of two signals; the second may have one channel, or one position, for all."""


@dataclass(frozen=True)
class Concatenate:
    """Channels one after the other."""


@dataclass(frozen=True)
class Attend:
    """Attention of every position to all others; its inputs are queries, keys and values.

    Attributes:
        heads: Into how many parts the channels are split, each with an attention of its own.
    """

    heads: int = 1


Layer = (
    Input
    | Select
    | Conv
    | DepthwiseConv
    | TransposedConv
    | Normalise
    | Activate
    | Drop
    | Pool
    | TileMean
    | Spread
    | Double
    | SubPixel
    | Add
    | Multiply
    | Concatenate
    | Attend
)

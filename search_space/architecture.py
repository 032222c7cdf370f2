"""What a network looks like: the frozen description from which `pipeline` builds a Keras model."""

from typing import Annotated, Literal

from pydantic import Field

from search_space.decode import Frozen, Whole

Pooling = Literal["max", "average", "strided", "inception"]
Activation = Literal["relu", "leaky_relu", "elu", "selu", "gelu", "silu"]
Normalisation = Literal["none", "batch", "layer", "group"]
KernelInitialisation = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "orthogonal"]

Reach = tuple[int, int]
"""How many positions before and after its own something looks, along either axis."""


class PlainBlock(Frozen):
    """Convolutions in a row, each followed by normalisation and activation."""

    kind: Literal["plain"] = "plain"
    kernel_px: Annotated[Whole, Field(ge=1, le=9)] = 3

    @property
    def reach_px(self) -> Reach:
        """How far one unit looks."""
        return _kernel_reach(self.kernel_px)


class ResidualBlock(Frozen):
    """Convolutions in a row, added to the block's input (projected by 1x1 where widths differ)."""

    kind: Literal["residual"] = "residual"
    kernel_px: Annotated[Whole, Field(ge=1, le=9)] = 3

    @property
    def reach_px(self) -> Reach:
        """How far one unit, of two convolutions, looks."""
        before, after = _kernel_reach(self.kernel_px)
        return 2 * before, 2 * after


class InceptionBlock(Frozen):
    """Parallel convolutions of two kernel sizes, a 1x1 and a pooled branch, concatenated."""

    kind: Literal["inception"] = "inception"
    wide_kernel_px: Annotated[Whole, Field(ge=3, le=9)] = 5

    @property
    def reach_px(self) -> Reach:
        """How far one unit looks, through its widest branch."""
        return _kernel_reach(self.wide_kernel_px)


Block = Annotated[PlainBlock | ResidualBlock | InceptionBlock, Field(discriminator="kind")]


class Architecture(Frozen):
    """One U-Net.

    Attributes:
        depth: Number of times the encoder halves the resolution.
        base_filters: Filters of the first stage.
        growth: Factor of the filters from one stage to the next deeper one.
        convs_per_stage: Units of `block` in each stage.
        block: The kind of block, with the knobs that only this kind has.
        pooling: How the encoder halves the resolution.
        activation: Non-linearity after each convolution.
        normalisation: Normalisation before each activation.
        kernel_initialisation: Keras initialiser of the convolutions.
        dropout: Rate of spatial dropout after each stage, 0 for none.
    """

    depth: Annotated[Whole, Field(ge=1, le=6)] = 3
    base_filters: Annotated[Whole, Field(ge=2, le=256)] = 16
    growth: Annotated[float, Field(ge=1.0, le=3.0)] = 2.0
    convs_per_stage: Annotated[Whole, Field(ge=1, le=6)] = 2
    block: Block = PlainBlock()
    pooling: Pooling = "max"
    activation: Activation = "relu"
    normalisation: Normalisation = "batch"
    kernel_initialisation: KernelInitialisation = "he_uniform"
    dropout: Annotated[float, Field(ge=0.0, le=0.8)] = 0.0

    @property
    def divisor_px(self) -> int:
        """Side lengths must be multiples of this for the skips to line up."""
        return int(2**self.depth)

    @property
    def context_px(self) -> int:
        """How far an output pixel looks at most: no input pixel further off, in rows or in columns, can change it.

        Exact for the network that `pipeline.builder` builds: some output pixel does depend on one as far away. Group
        normalisation moreover takes a mean and a deviation over a whole tile; these are not counted, as no distance
        bounds them.
        """
        seen = ((position, self._seen(position)) for position in range(self.divisor_px))
        return max(max(position - first, last - position) for position, (first, last) in seen)

    def _seen(self, position: int) -> tuple[int, int]:
        """First and last input position on which the output at `position` depends, along either axis.

        Followed from the output back to the input: out of the decoder down to the bottom, then up the encoder.
        """
        before, after = (self.convs_per_stage * reach for reach in self.block.reach_px)
        pooled = 2 if self.pooling in ("strided", "inception") else 1
        first = last = position
        skips = []
        for _ in range(self.depth):
            first, last = first - before, last + after
            skips.append((first, last))
            first, last = first // 2, last // 2
        first, last = first - before, last + after
        for skip_first, skip_last in reversed(skips):
            first, last = min(2 * first, skip_first) - before, max(2 * last + pooled, skip_last) + after
        return first, last

    def filters(self, stage: int) -> int:
        """Filters at `stage` (0 at full resolution), a positive even number."""
        return max(2, 2 * round(self.base_filters * self.growth**stage / 2))


def _kernel_reach(kernel_px: int) -> Reach:
    """That of a convolution which keeps the size; an even kernel looks further after its position than before."""
    return (kernel_px - 1) // 2, kernel_px // 2

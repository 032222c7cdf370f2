"""What a network looks like: the frozen description from which `pipeline` builds a Keras model."""

from typing import Annotated, Literal

from pydantic import Field

from search_space.decode import Frozen, Whole

Pooling = Literal["max", "average", "strided", "inception"]
Activation = Literal["relu", "leaky_relu", "elu", "selu", "gelu", "silu"]
Normalisation = Literal["none", "batch", "layer", "group"]
KernelInitialisation = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "orthogonal"]


class PlainBlock(Frozen):
    """Convolutions in a row, each followed by normalisation and activation."""

    kind: Literal["plain"] = "plain"
    kernel_px: Annotated[Whole, Field(ge=1, le=9)] = 3


class ResidualBlock(Frozen):
    """Convolutions in a row, added to the block's input (projected by 1x1 where widths differ)."""

    kind: Literal["residual"] = "residual"
    kernel_px: Annotated[Whole, Field(ge=1, le=9)] = 3


class InceptionBlock(Frozen):
    """Parallel convolutions of two kernel sizes, a 1x1 and a pooled branch, concatenated."""

    kind: Literal["inception"] = "inception"
    wide_kernel_px: Annotated[Whole, Field(ge=3, le=9)] = 5


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

    def filters(self, stage: int) -> int:
        """Filters at `stage` (0 at full resolution), a positive even number."""
        return max(2, 2 * round(self.base_filters * self.growth**stage / 2))

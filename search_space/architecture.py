"""What a network looks like: the frozen description from which `search_space.network` draws up a graph of layers."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from search_space.decode import Frozen, Whole
from search_space.errors import nearest
from search_space.names import Names

Kernel = Annotated[Whole, Field(ge=1, le=9)]
Wide = Annotated[Whole, Field(ge=3, le=9)]
Filters = Annotated[Whole, Field(ge=2, le=4096)]

Pooling = Literal["max", "average", "strided", "inception"]
Activation = Literal["relu", "leaky_relu", "elu", "selu", "gelu", "silu"]
Normalisation = Literal["none", "batch", "layer", "group"]
KernelInitialisation = Literal[
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "orthogonal", "lecun_uniform", "lecun_normal"
]
Skip = Literal["concatenate", "add", "residual", "gate", "none"]
HeadActivation = Literal["sigmoid", "hard_sigmoid"]


class PlainBlock(Frozen):
    """A convolution, followed by normalisation and activation."""

    kind: Literal["plain"] = "plain"
    kernel_px: Kernel = 3


class ResidualBlock(Frozen):
    """Two convolutions, added to the block's input (projected by 1x1 where widths differ)."""

    kind: Literal["residual"] = "residual"
    kernel_px: Kernel = 3


class BottleneckBlock(Frozen):
    """A network within the network: 1x1 to fewer filters, a convolution, 1x1 back; added to the block's input.

    Attributes:
        narrowing: How many times fewer filters the convolution in the middle has.
    """

    kind: Literal["bottleneck"] = "bottleneck"
    kernel_px: Kernel = 3
    narrowing: Annotated[Whole, Field(ge=1, le=8)] = 4


class InceptionBlock(Frozen):
    """Parallel convolutions of two kernel sizes, a 1x1 and a pooled branch, concatenated: at least one filter each."""

    kind: Literal["inception"] = "inception"
    wide_kernel_px: Wide = 5


class AsymmetricBlock(Frozen):
    """An inception block whose square kernels are split into a column and a row, k x 1 and 1 x k."""

    kind: Literal["asymmetric"] = "asymmetric"
    kernel_px: Wide = 3


class DenseBlock(Frozen):
    """Convolutions that each read all before them; a 1x1 joins what they found.

    Attributes:
        layers: How many convolutions; each adds an equal part of the filters.
    """

    kind: Literal["dense"] = "dense"
    kernel_px: Kernel = 3
    layers: Annotated[Whole, Field(ge=2, le=8)] = 4


class SeparableBlock(Frozen):
    """A convolution of each channel by itself, then a 1x1 over all of them."""

    kind: Literal["separable"] = "separable"
    kernel_px: Kernel = 3


Block = Annotated[
    PlainBlock | ResidualBlock | BottleneckBlock | InceptionBlock | AsymmetricBlock | DenseBlock | SeparableBlock,
    Field(discriminator="kind"),
]


class GrownEncoder(Frozen):
    """An encoder of the architecture's own blocks.

    Attributes:
        first_kernel_px: Kernel of a convolution before the first stage; 0 for none.
        residual_units: Residual units of 3x3 after the blocks of each stage.
        pooling: How the resolution is halved.
        branches: Whether bands of a coarser resolution enter at the stage that has theirs; otherwise all enter at the
            first one.
    """

    kind: Literal["grown"] = "grown"
    first_kernel_px: Annotated[Whole, Field(ge=0, le=11)] = 0
    residual_units: Annotated[Whole, Field(ge=0, le=4)] = 0
    pooling: Pooling = "max"
    branches: bool = False


NO_WEIGHTS, IMAGENET = "none", "imagenet"
WEIGHT_FILES = (".keras", ".h5", ".safetensors")


def _check_weights(text: str) -> str:
    if text not in (NO_WEIGHTS, IMAGENET) and not text.endswith(WEIGHT_FILES):
        near = nearest(text, (NO_WEIGHTS, IMAGENET))
        meant = f"; did you mean {near!r}?" if near else ""
        raise ValueError(f'must be "none", "imagenet" or a file ({", ".join(WEIGHT_FILES)}){meant}')
    return text


KNOWN_LEVELS = 5
"""How often a known encoder halves the resolution."""


class KnownEncoder(Frozen):
    """An encoder that others have published, and trained on ImageNet.

    Attributes:
        weights: "none" to start from random ones, "imagenet" for those that Keras fetches, or a file.
        published: Where its weights are to be fetched by hand, as Keras has none; empty where Keras has.
    """

    weights: Annotated[str, AfterValidator(_check_weights)] = NO_WEIGHTS
    published: ClassVar[str] = ""

    @field_validator("weights")
    @classmethod
    def _keras_has_them(cls, text: str) -> str:
        if text == IMAGENET and cls.published:
            raise ValueError(f"must be a file, as Keras has no weights of this encoder: fetch {cls.published}")
        return text


class Vgg16(KnownEncoder):
    """Simonyan and Zisserman 2014, of thirteen convolutions."""

    kind: Literal["vgg16"] = "vgg16"


class Resnet34(KnownEncoder):
    """He et al. 2015, with basic blocks."""

    published: ClassVar[str] = "https://huggingface.co/timm/resnet34.tv_in1k/resolve/main/model.safetensors"
    kind: Literal["resnet34"] = "resnet34"


class Resnet50(KnownEncoder):
    """He et al. 2015, with bottlenecks."""

    kind: Literal["resnet50"] = "resnet50"


class SeResnext50(KnownEncoder):
    """Hu et al. 2017: ResNeXt-50 (32 x 4d) with squeeze and excitation."""

    published: ClassVar[str] = "https://huggingface.co/timm/seresnext50_32x4d.gluon_in1k/resolve/main/model.safetensors"
    kind: Literal["se_resnext50"] = "se_resnext50"


class EfficientnetB0(KnownEncoder):
    """Tan and Le 2019, the smallest."""

    kind: Literal["efficientnet_b0"] = "efficientnet_b0"


Published = Vgg16 | Resnet34 | Resnet50 | SeResnext50 | EfficientnetB0
Encoder = Annotated[GrownEncoder | Published, Field(discriminator="kind")]


class TransposedUp(Frozen):
    """A learned doubling of the resolution, then normalisation and activation."""

    kind: Literal["transposed"] = "transposed"
    kernel_px: Annotated[Whole, Field(ge=2, le=4)] = 2


class NearestUp(Frozen):
    """Each position four times, then a convolution; a kernel of 0 leaves the convolution out."""

    kind: Literal["nearest"] = "nearest"
    kernel_px: Annotated[Whole, Field(ge=0, le=5)] = 3


class BilinearUp(Frozen):
    """Linear between positions, then a convolution; a kernel of 0 leaves the convolution out."""

    kind: Literal["bilinear"] = "bilinear"
    kernel_px: Annotated[Whole, Field(ge=0, le=5)] = 3


class SubPixelUp(Frozen):
    """A convolution to four times the filters, each four of which become one of twice the resolution."""

    kind: Literal["subpixel"] = "subpixel"
    kernel_px: Annotated[Whole, Field(ge=1, le=5)] = 3


Up = Annotated[TransposedUp | NearestUp | BilinearUp | SubPixelUp, Field(discriminator="kind")]


class PlainBottom(Frozen):
    """Nothing beside the blocks of the lowest stage."""

    kind: Literal["none"] = "none"


class AsppBottom(Frozen):
    """Atrous spatial pyramid pooling: 1x1, three dilated 3x3 and the tile's mean side by side, joined by 1x1.

    Attributes:
        rate: Dilation of the first; the others have two and three times as much.
    """

    kind: Literal["aspp"] = "aspp"
    rate: Annotated[Whole, Field(ge=1, le=12)] = 2


class PyramidBottom(Frozen):
    """Pyramid pooling: means over 1, 4, 9 and 36 parts of the tile, each brought back, beside the signal itself."""

    kind: Literal["pyramid"] = "pyramid"


class AttentionBottom(Frozen):
    """Self-attention over all positions, added to the signal."""

    kind: Literal["attention"] = "attention"
    heads: Annotated[Whole, Field(ge=1, le=8)] = 2


Bottom = Annotated[PlainBottom | AsppBottom | PyramidBottom | AttentionBottom, Field(discriminator="kind")]


class NoDropout(Frozen):
    """Nothing is dropped."""

    kind: Literal["none"] = "none"


class SpatialDropout(Frozen):
    """Whole channels are dropped after each stage."""

    kind: Literal["spatial"] = "spatial"
    rate: Annotated[float, Field(gt=0.0, le=0.8)] = 0.1


class ElementDropout(Frozen):
    """Numbers are dropped one by one after each stage."""

    kind: Literal["element"] = "element"
    rate: Annotated[float, Field(gt=0.0, le=0.8)] = 0.1


Dropout = Annotated[NoDropout | SpatialDropout | ElementDropout, Field(discriminator="kind")]


class NoRegularisation(Frozen):
    """Weights are free."""

    kind: Literal["none"] = "none"


class L2Regularisation(Frozen):
    """Large weights cost.

    Attributes:
        weight: Of the sum of squares of the convolutions' kernels in the loss.
    """

    kind: Literal["l2"] = "l2"
    weight: Annotated[float, Field(gt=0.0, le=0.1)] = 7e-4


Regularisation = Annotated[NoRegularisation | L2Regularisation, Field(discriminator="kind")]


class Architecture(Frozen):
    """One U-Net.

    Attributes:
        bands: Names of the bands and indices that it reads, in order; all where empty.
        encoder: What finds features, halving the resolution again and again.
        depth: How often. Below the five levels of a known encoder, the sixth is grown.
        base_filters: Filters of the stage at full resolution: of the decoder, and of what is grown of the encoder.
        growth: Factor of the filters from one stage to the next deeper one.
        max_filters: No stage has more.
        units_per_stage: Blocks in a row.
        block: The kind of block, with the knobs that only this kind has.
        squeeze_excitation: Whether each block weighs its channels by the tile's means.
        bottom: What looks far around where the resolution is lowest.
        up: How the decoder doubles the resolution.
        skip: How the encoder's signal comes to the decoder.
        activation: Non-linearity after each convolution.
        normalisation: Normalisation before each activation.
        kernel_initialisation: Keras initialiser of the convolutions.
        dropout: What is dropped in training.
        regularisation: What large weights cost.
        head: What makes probabilities.
        deep_supervision: Whether coarser stages of the decoder are trained to map the classes too.
        energy: Whether the distance to the border of each class is learned beside it.
        margin_px: How much smaller the map is than the tile, on each side: what lacks surroundings is not shown.
    """

    bands: Names = ()
    encoder: Encoder = GrownEncoder()
    depth: Annotated[Whole, Field(ge=1, le=6)] = 3
    base_filters: Annotated[Whole, Field(ge=2, le=256)] = 16
    growth: Annotated[float, Field(ge=1.0, le=3.0)] = 2.0
    max_filters: Filters = 512
    units_per_stage: Annotated[Whole, Field(ge=1, le=6)] = 2
    block: Block = PlainBlock()
    squeeze_excitation: bool = False
    bottom: Bottom = PlainBottom()
    up: Up = TransposedUp()
    skip: Skip = "concatenate"
    activation: Activation = "relu"
    normalisation: Normalisation = "batch"
    kernel_initialisation: KernelInitialisation = "he_uniform"
    dropout: Dropout = NoDropout()
    regularisation: Regularisation = NoRegularisation()
    head: HeadActivation = "sigmoid"
    deep_supervision: bool = False
    energy: bool = False
    margin_px: Annotated[Whole, Field(ge=0, le=512)] = 0

    @property
    def weights_file(self) -> Path | None:
        """The file that a known encoder's weights come from; None where they come from none."""
        encoder = self.encoder
        if isinstance(encoder, GrownEncoder) or encoder.weights in (NO_WEIGHTS, IMAGENET):
            return None
        return Path(encoder.weights)

    def filters(self, stage: int) -> int:
        """Filters at `stage` (0 at full resolution), a positive even number."""
        return max(2, min(self.max_filters // 2 * 2, 2 * round(self.base_filters * self.growth**stage / 2)))

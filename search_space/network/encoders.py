"""Encoders that others have published, layer by layer as their weights want them.

Layers are called as in the source of the weights (`conv2_block1_1_conv` in Keras, `layer1_0_conv1` for PyTorch's
`layer1.0.conv1`), after the name of their stage.
"""

from collections.abc import Callable

from search_space.architecture import KNOWN_LEVELS, EfficientnetB0, KnownEncoder, Resnet34, Resnet50, SeResnext50, Vgg16
from search_space.network.graph import Draft
from search_space.network.layers import (
    Activate,
    Add,
    Conv,
    DepthwiseConv,
    Layer,
    Multiply,
    Normalise,
    Pool,
    TileMean,
)
from search_space.network.signals import num_parameters_of

Features = dict[int, int]
"""Level to the node that holds what was found there."""


class _Chain:
    """Layers one after the other, each called as its source calls it."""

    def __init__(self, draft: Draft, x: int, epsilon: float, activation: str = "relu") -> None:
        self.draft = draft
        self.x = x
        self.epsilon = epsilon
        self.activation = activation

    def add(self, name: str, layer: Layer, *others: int) -> "_Chain":
        self.x = self.draft.add(name, layer, self.x, *others)
        return self

    def conv(self, name: str, filters: int, kernel_px: int, stride: int = 1, *, groups: int = 1, bias: bool = False,
             centred: bool = True) -> "_Chain":  # fmt: skip
        return self.add(name, Conv(filters, (kernel_px,) * 2, stride, groups=groups, use_bias=bias, centred=centred))

    def norm(self, name: str) -> "_Chain":
        return self.add(name, Normalise("batch", self.epsilon))

    def activate(self, name: str) -> "_Chain":
        return self.add(name, Activate(self.activation))

    def from_here(self) -> "_Chain":
        return _Chain(self.draft, self.x, self.epsilon, self.activation)

    @property
    def channels(self) -> int:
        return self.draft.channels(self.x)


def _open(draft: Draft, level: int, depth: int) -> None:
    draft.stage = "bottom" if level == depth else f"down{level}"


def _vgg16(draft: Draft, x: int, depth: int) -> Features:
    """Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014."""
    chain, found = _Chain(draft, x, 1e-3), Features()
    for level, (filters, num_convs) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        _open(draft, level, depth)
        for number in range(1, num_convs + 1):
            name = f"block{level + 1}_conv{number}"
            chain.conv(name, filters, 3, bias=True).activate(f"{name}_relu")
        found[level] = chain.x
        if level == depth:
            return found
        draft.stage = f"pool{level}"
        if level + 1 == KNOWN_LEVELS:
            # It ends with a pooling: that is all of the last stage.
            _open(draft, KNOWN_LEVELS, depth)
        chain.add(f"block{level + 1}_pool", Pool("max"))
    found[KNOWN_LEVELS] = chain.x
    return found


def _resnet50(draft: Draft, x: int, depth: int) -> Features:
    """He et al., "Deep Residual Learning for Image Recognition", 2015, with Keras's weights."""
    chain, found = _Chain(draft, x, 1.001e-5), Features()
    _open(draft, 1, depth)
    chain.conv("conv1_conv", 64, 7, 2, bias=True).norm("conv1_bn").activate("conv1_relu")
    found[1] = chain.x
    for level, (filters, num_blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=2):
        if level > depth:
            break
        _open(draft, level, depth)
        if level == 2:
            chain.add("pool1_pool", Pool("max", 3, 2, centred=True))
        for number in range(1, num_blocks + 1):
            stride = 2 if level > 2 and number == 1 else 1
            _keras_bottleneck(chain, f"conv{level}_block{number}", filters, stride, number == 1)
        found[level] = chain.x
    return found


def _keras_bottleneck(chain: _Chain, name: str, filters: int, stride: int, projects: bool) -> None:
    shortcut = chain.from_here()
    if projects:
        shortcut.conv(f"{name}_0_conv", 4 * filters, 1, stride, bias=True).norm(f"{name}_0_bn")
    chain.conv(f"{name}_1_conv", filters, 1, stride, bias=True).norm(f"{name}_1_bn").activate(f"{name}_1_relu")
    chain.conv(f"{name}_2_conv", filters, 3, bias=True).norm(f"{name}_2_bn").activate(f"{name}_2_relu")
    chain.conv(f"{name}_3_conv", 4 * filters, 1, bias=True).norm(f"{name}_3_bn")
    chain.add(f"{name}_add", Add(), shortcut.x).activate(f"{name}_out")


def _resnet34(draft: Draft, x: int, depth: int) -> Features:
    """He et al. 2015 with basic blocks, as PyTorch has it."""
    chain, found = _torch_stem(draft, x, depth)
    for level, (filters, num_blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=2):
        if level > depth:
            break
        _enter(chain, level, depth)
        for number in range(num_blocks):
            name, stride = f"layer{level - 1}_{number}", 2 if level > 2 and number == 0 else 1
            shortcut = _torch_shortcut(chain, name, filters, stride)
            chain.conv(f"{name}_conv1", filters, 3, stride).norm(f"{name}_bn1").activate(f"{name}_relu1")
            chain.conv(f"{name}_conv2", filters, 3).norm(f"{name}_bn2")
            chain.add(f"{name}_add", Add(), shortcut).activate(f"{name}_relu")
        found[level] = chain.x
    return found


def _se_resnext50(draft: Draft, x: int, depth: int) -> Features:
    """Xie et al. 2016 with the squeeze and excitation of Hu et al. 2017, as timm's `seresnext50_32x4d` has it."""
    chain, found = _torch_stem(draft, x, depth)
    for level, (filters, num_blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=2):
        if level > depth:
            break
        _enter(chain, level, depth)
        for number in range(num_blocks):
            name, stride = f"layer{level - 1}_{number}", 2 if level > 2 and number == 0 else 1
            shortcut = _torch_shortcut(chain, name, 4 * filters, stride)
            chain.conv(f"{name}_conv1", 2 * filters, 1).norm(f"{name}_bn1").activate(f"{name}_relu1")
            chain.conv(f"{name}_conv2", 2 * filters, 3, stride, groups=32)
            chain.norm(f"{name}_bn2").activate(f"{name}_relu2")
            chain.conv(f"{name}_conv3", 4 * filters, 1).norm(f"{name}_bn3")
            _excite(chain, f"{name}_se", ("fc1", "fc2"), 4 * filters // 16)
            chain.add(f"{name}_add", Add(), shortcut).activate(f"{name}_relu")
        found[level] = chain.x
    return found


def _torch_stem(draft: Draft, x: int, depth: int) -> tuple[_Chain, Features]:
    chain = _Chain(draft, x, 1e-5)
    _open(draft, 1, depth)
    chain.conv("conv1", 64, 7, 2).norm("bn1").activate("relu")
    return chain, {1: chain.x}


def _enter(chain: _Chain, level: int, depth: int) -> None:
    _open(chain.draft, level, depth)
    if level == 2:
        chain.add("maxpool", Pool("max", 3, 2, centred=True))


def _torch_shortcut(chain: _Chain, name: str, filters: int, stride: int) -> int:
    if stride == 1 and chain.channels == filters:
        return chain.x
    return chain.from_here().conv(f"{name}_downsample_0", filters, 1, stride).norm(f"{name}_downsample_1").x


def _excite(chain: _Chain, name: str, layers: tuple[str, str], narrow: int) -> None:
    gate, wide = chain.from_here(), chain.channels
    gate.add(f"{name}_mean", TileMean())
    gate.conv(f"{name}_{layers[0]}", narrow, 1, bias=True).activate(f"{name}_{layers[0]}_{chain.activation}")
    gate.conv(f"{name}_{layers[1]}", wide, 1, bias=True).add(f"{name}_sigmoid", Activate("sigmoid"))
    chain.add(f"{name}_weigh", Multiply(), gate.x)


_MB_STAGES = (
    # level, kernel, repeats, filters, stride of the first, expansion
    (1, 3, 1, 16, 1, 1),
    (2, 3, 2, 24, 2, 6),
    (3, 5, 2, 40, 2, 6),
    (4, 3, 3, 80, 2, 6),
    (4, 5, 3, 112, 1, 6),
    (5, 5, 4, 192, 2, 6),
    (5, 3, 1, 320, 1, 6),
)


def _efficientnet_b0(draft: Draft, x: int, depth: int) -> Features:
    """Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019, as Keras has it."""
    chain, found = _Chain(draft, x, 1e-3, "silu"), Features()
    _open(draft, 1, depth)
    chain.conv("stem_conv", 32, 3, 2, centred=False).norm("stem_bn").activate("stem_activation")
    for number, (level, kernel_px, repeats, filters, stride, expansion) in enumerate(_MB_STAGES, start=1):
        if level > depth:
            break
        _open(draft, level, depth)
        for letter in "abcd"[:repeats]:
            first = letter == "a"
            _mb_block(chain, f"block{number}{letter}", kernel_px, filters, stride if first else 1, expansion)
        found[level] = chain.x
    return found


def _mb_block(chain: _Chain, name: str, kernel_px: int, filters: int, stride: int, expansion: int) -> None:
    entered, num_in = chain.x, chain.channels
    if expansion > 1:
        chain.conv(f"{name}_expand_conv", expansion * num_in, 1)
        chain.norm(f"{name}_expand_bn").activate(f"{name}_expand_activation")
    chain.add(f"{name}_dwconv", DepthwiseConv(kernel_px, stride)).norm(f"{name}_bn").activate(f"{name}_activation")
    _excite(chain, f"{name}_se", ("reduce", "expand"), max(1, num_in // 4))
    chain.conv(f"{name}_project_conv", filters, 1).norm(f"{name}_project_bn")
    if stride == 1 and num_in == filters:
        chain.add(f"{name}_add", Add(), entered)


def weighted_layers(encoder: KnownEncoder, depth: int) -> tuple[str, ...]:
    """Names of a known encoder's own layers that have weights, without those of their stages, down to a depth."""
    draft = Draft(3)
    found = ENCODERS[type(encoder)](draft, draft.image, depth)
    graph = draft.finished({"features": found[max(found)]})
    weighted = [node for node in graph.nodes if num_parameters_of(node.layer, graph.inputs_of(node))]
    return tuple(node.name.removeprefix(f"{node.stage}_") for node in weighted)


ENCODERS: dict[type, Callable[[Draft, int, int], Features]] = {
    Vgg16: _vgg16,
    Resnet34: _resnet34,
    Resnet50: _resnet50,
    SeResnext50: _se_resnext50,
    EfficientnetB0: _efficientnet_b0,
}
"""Kind of encoder to what adds its layers down to a depth."""

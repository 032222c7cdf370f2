"""How far a network looks: what its graph tells, held against the networks that are built."""

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import DrawFn, booleans, composite, integers, sampled_from
from numpy.typing import NDArray

from pipeline.networks.builder import build_model
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.network.unet import InputBand, draw_up, outline
from search_space.training_plan import TrainingPlan


def positive_model(architecture: Architecture) -> keras.Model:
    """The network with positive weights, zero biases and an open end: whatever can reach an output does, and shows."""
    levels = architecture.depth if architecture.encoder.kind == "grown" and architecture.encoder.branches else 0
    model = build_model(architecture, [InputBand(f"band{level}", level) for level in range(levels + 1)], 1)
    for weights in model.trainable_variables:
        number = 0.0 if "bias" in weights.path or "beta" in weights.path else 1.0
        weights.assign(np.full(weights.shape, number, np.float32))
    model.get_layer("head_masks").activation = keras.activations.linear
    return model


def reached(model: keras.Model, side_px: int, place: int) -> NDArray[np.bool_]:
    """Outputs of a black image that change when the one pixel at (`place`, `place`) lights up, bool `(H, W)`."""
    image = np.zeros((1, side_px, side_px, model.inputs[0].shape[-1]))
    image[0, place, place] = 1.0
    return np.asarray(model.predict_on_batch(image)[0, ..., 0] != 0)


def farthest(model: keras.Model, architecture: Architecture) -> int:
    """How far from any input pixel an output depends on it, over every place relative to the poolings."""
    graph = outline(architecture)
    assert graph.context_px is not None
    divisor = graph.divisor_px
    side_px = -(-(2 * graph.context_px + 3 * divisor) // divisor) * divisor
    middle = side_px // 2 // divisor * divisor
    distances = []
    for place in range(middle, middle + divisor):
        rows, columns = np.nonzero(reached(model, side_px, place))
        assert rows.min() > 0
        assert rows.max() < side_px - 1, "the image is too small to tell"
        distances.append(max(np.abs(rows - place).max(), np.abs(columns - place).max()))
    return int(max(distances))


BLOCKS: list[dict[str, Any]] = [
    *({"kind": kind, "kernel_px": size} for kind in ("plain", "residual", "dense") for size in (1, 2, 3, 4)),
    *({"kind": "bottleneck", "kernel_px": size} for size in (2, 3, 5)),
    *({"kind": "separable", "kernel_px": size} for size in (3, 4)),
    *({"kind": "inception", "wide_kernel_px": size} for size in (3, 4, 5)),
    *({"kind": "asymmetric", "kernel_px": size} for size in (3, 5)),
]
UPS: list[dict[str, Any]] = [
    *({"kind": "transposed", "kernel_px": size} for size in (2, 3, 4)),
    *({"kind": kind, "kernel_px": size} for kind in ("nearest", "bilinear") for size in (0, 2, 3)),
    *({"kind": "subpixel", "kernel_px": size} for size in (1, 3)),
]


@composite
def architectures(draw: DrawFn) -> Architecture:
    encoder = {
        "kind": "grown",
        "first_kernel_px": draw(sampled_from([0, 5])),
        "residual_units": draw(sampled_from([0, 1])),
        "pooling": draw(sampled_from(["max", "average", "strided", "inception"])),
        "branches": draw(booleans()),
    }
    fields: dict[str, Any] = {
        "depth": draw(integers(1, 2)),
        "units_per_stage": 1,
        "encoder": encoder,
        "block": draw(sampled_from(BLOCKS)),
        "up": draw(sampled_from(UPS)),
        "skip": draw(sampled_from(["concatenate", "add", "residual", "none"])),
        "activation": "relu",
        "squeeze_excitation": False,
        "normalisation": "none",
        "base_filters": 4,
    }
    return decode(Architecture, fields, where="test")


@pytest.fixture(autouse=True)
def double_precision() -> Any:
    """What reaches an output through many layers is little: single precision would lose it."""
    before = keras.config.floatx()
    _let_jax("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)
    _let_jax("jax_enable_x64", False)


def _let_jax(name: str, value: bool) -> None:
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update(name, value)


@settings(max_examples=25, deadline=None)
@given(architectures())
def test_outputs_depend_on_pixels_up_to_the_context_and_none_beyond(architecture: Architecture) -> None:
    assert farthest(positive_model(architecture), architecture) == outline(architecture).context_px


@pytest.mark.parametrize(
    ("encoder", "depth"), [("vgg16", 2), ("resnet34", 2), ("resnet50", 2), ("se_resnext50", 1), ("efficientnet_b0", 2)]
)
def test_known_encoders_look_as_far_as_their_graphs_tell(encoder: str, depth: int) -> None:
    """Squeeze and excitation sees the whole tile by its means alone, which are not counted: it is held still here."""
    fields = {"encoder": {"kind": encoder}, "depth": depth, "base_filters": 4, "units_per_stage": 1}
    architecture = decode(Architecture, fields, where="test")
    model = positive_model(architecture)
    for weights in model.trainable_variables:
        if "_se_" in weights.path:
            weights.assign(np.zeros(weights.shape))
    assert farthest(model, architecture) == outline(architecture).context_px


@pytest.mark.parametrize("normalisation", ["batch", "layer"])
def test_normalisation_of_single_pixels_looks_no_further(normalisation: str) -> None:
    fields = {"depth": 2, "base_filters": 4, "normalisation": normalisation}
    architecture = decode(Architecture, fields, where="test")
    model = build_model(architecture, 1, 1)
    context_px = outline(architecture).context_px
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 96, 96, 1)).astype(np.float32)
    lit = image.copy()
    lit[0, 48, 48] += 10

    rows, columns = np.nonzero(model.predict_on_batch(image)[0, ..., 0] != model.predict_on_batch(lit)[0, ..., 0])

    assert context_px is not None
    assert 0 < np.abs(rows - 48).max() <= context_px
    assert 0 < np.abs(columns - 48).max() <= context_px


@pytest.mark.parametrize("bottom", ["pyramid", "attention"])
def test_what_looks_at_the_whole_tile_says_so(bottom: str) -> None:
    architecture = decode(Architecture, {"bottom": {"kind": bottom}}, where="test")
    assert outline(architecture).context_px is None
    candidate = Candidate(architecture=architecture, plan=TrainingPlan(patch_px=96))
    assert [candidate.context_px(tile) for tile in (0, 512)] == [96, 512]


@pytest.mark.parametrize("levels", [(0, 0), (0, 2), (2, 0), (1, 2), (3, 3)])
def test_the_outline_looks_as_far_as_the_bands_at_hand_could_make_it(levels: tuple[int, int]) -> None:
    """Who plans without the data must keep enough ground for any."""
    fields = {"bands": ["pan", "swir"], "block": {"kind": "plain", "kernel_px": 1}, "depth": 3}
    architecture = decode(Architecture, {**fields, "encoder": {"kind": "grown", "branches": True}}, where="test")
    bands = [InputBand("pan", levels[0]), InputBand("red", 1), InputBand("swir", levels[1])]

    drawn, planned = draw_up(architecture, bands, 1).context_px, outline(architecture).context_px

    assert drawn is not None
    assert planned is not None
    assert drawn <= planned


def test_a_network_looks_no_farther_than_its_tile() -> None:
    candidate = Candidate(plan=TrainingPlan(patch_px=32))
    far = outline(candidate.architecture).context_px
    assert far is not None
    assert far > 32
    assert [candidate.context_px(tile) for tile in (0, 40, 9999)] == [32, 40, far]


def test_a_plain_network_looks_as_far_as_counted_by_hand() -> None:
    """One halving, one 3x3 convolution per stage: 1 up at full size, 2 at half size, the pair, 1 down at full size."""
    architecture = decode(Architecture, {"depth": 1, "units_per_stage": 1}, where="test")

    assert outline(architecture).context_px == 1 + 2 + 1 + 1

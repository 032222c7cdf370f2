"""Networks: what each knob builds, that all of them run, and that a saved one comes back equal."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pipeline.networks.builder import build_model
from search_space.architecture import Architecture
from search_space.decode import decode
from search_space.errors import InfeasibleError
from search_space.network.unet import InputBand, draw_up

BANDS = [InputBand("red"), InputBand("green"), InputBand("blue"), InputBand("nir", 1), InputBand("swir", 2)]


@pytest.fixture(autouse=True)
def same_weights_every_time() -> None:
    """Initial weights are drawn: a check that holds for most draws must give the same answer twice."""
    keras.utils.set_random_seed(0)


def architecture(**fields: Any) -> Architecture:
    return decode(Architecture, {"base_filters": 4, "depth": 2, "units_per_stage": 1, **fields}, where="test")


def names(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers]


def image(height: int = 32, width: int = 48, bands: int = len(BANDS)) -> Any:
    return np.random.default_rng(0).normal(size=(1, height, width, bands)).astype(np.float32)


def test_the_plain_network_has_the_parameters_of_the_formula() -> None:
    """Counted by hand: 3x3 convolutions without bias, batch normalisation 4 per filter, transposed 2x2 without bias."""

    def unit(inputs: int, filters: int, kernel_px: int = 3) -> int:
        return kernel_px**2 * inputs * filters + 4 * filters

    down = unit(5, 8) + unit(8, 16)
    bottom = unit(16, 32)
    up1 = unit(32, 16, 2) + unit(32, 16)
    up0 = unit(16, 8, 2) + unit(16, 8)
    head = 8 * 3 + 3

    model = build_model(architecture(base_filters=8), bands=5, num_classes=3)

    assert model.count_params() == down + bottom + up1 + up0 + head


KNOBS: list[dict[str, Any]] = [
    *({"block": {"kind": kind}} for kind in ("plain", "residual", "bottleneck", "inception", "asymmetric", "dense")),
    {"block": {"kind": "separable", "kernel_px": 5}, "squeeze_excitation": True},
    *({"encoder": {"kind": "grown", "pooling": kind}} for kind in ("max", "average", "strided", "inception")),
    {"encoder": {"kind": "grown", "first_kernel_px": 7, "residual_units": 2, "branches": True}},
    *({"encoder": {"kind": kind}} for kind in ("vgg16", "resnet34", "resnet50", "se_resnext50", "efficientnet_b0")),
    *({"up": {"kind": kind}} for kind in ("transposed", "nearest", "bilinear", "subpixel")),
    *({"up": {"kind": kind, "kernel_px": 0}, "skip": "add"} for kind in ("nearest", "bilinear")),
    *({"bottom": {"kind": kind}} for kind in ("aspp", "pyramid", "attention")),
    *({"skip": kind, "growth": 1.5} for kind in ("add", "residual", "gate", "none")),
    *({"normalisation": kind} for kind in ("none", "layer", "group")),
    *({"activation": kind} for kind in ("leaky_relu", "elu", "selu", "gelu", "silu")),
    *({"dropout": {"kind": kind, "rate": 0.2}} for kind in ("spatial", "element")),
    {"regularisation": {"kind": "l2"}, "head": "hard_sigmoid", "kernel_initialisation": "orthogonal"},
    {"bands": ["swir", "red"]},
    {"max_filters": 6},
]


@pytest.mark.parametrize("fields", KNOBS, ids=str)
def test_every_knob_builds_what_its_graph_tells_and_comes_back_equal(fields: dict[str, Any], tmp_path: Path) -> None:
    chosen = architecture(**fields)
    model, graph = build_model(chosen, BANDS, 2), draw_up(chosen, BANDS, 2)
    probabilities = model.predict_on_batch(image())

    assert model.count_params() == graph.num_parameters
    assert probabilities.shape == (1, 32, 48, 2)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert {node.name for node in graph.nodes[1:]} <= set(names(model))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(copy.predict_on_batch(image()), probabilities)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (33, 47), (64, 16)])
@pytest.mark.parametrize("fields", [{}, {"bottom": {"kind": "pyramid"}}, {"up": {"kind": "bilinear"}}], ids=str)
def test_any_size_is_mapped(size: tuple[int, int], fields: dict[str, Any]) -> None:
    model = build_model(architecture(depth=3, **fields), BANDS, 2)
    assert model.predict_on_batch(image(*size)).shape == (1, *size, 2)


def test_padding_changes_nothing_far_from_it() -> None:
    model = build_model(architecture(depth=2), BANDS, 2)
    whole = model.predict_on_batch(image(64, 16))
    cut = model.predict_on_batch(image(64, 16)[:, :61])
    np.testing.assert_allclose(cut[:, :40], whole[:, :40], atol=1e-6)
    assert np.abs(cut[:, 56:] - whole[:, 56:61]).max() > 1e-6


def test_further_outputs_and_the_margin() -> None:
    model = build_model(architecture(depth=3, deep_supervision=True, energy=True, margin_px=5), BANDS, 2)
    maps = model.predict_on_batch(image())
    outputs = ("masks", "masks1", "masks2", "energy")
    assert {name: each.shape for name, each in maps.items()} == dict.fromkeys(outputs, (1, 22, 38, 2))
    plain = build_model(architecture(depth=3), BANDS, 2)
    cropped = build_model(architecture(depth=3, margin_px=5), BANDS, 2)
    cropped.set_weights(plain.get_weights())
    np.testing.assert_array_equal(cropped.predict_on_batch(image()), plain.predict_on_batch(image())[:, 5:-5, 5:-5])


def test_bands_that_are_not_read_change_nothing() -> None:
    model = build_model(architecture(bands=["swir", "red"]), BANDS, 1)
    other = image()
    other[..., 1:4] = 7.0
    np.testing.assert_array_equal(model.predict_on_batch(other), model.predict_on_batch(image()))
    with pytest.raises(InfeasibleError, match=r"the data have no band 'pan', which architecture\.bands names"):
        build_model(architecture(bands=["pan"]), BANDS, 1)


def test_coarse_bands_enter_where_their_resolution_is() -> None:
    branched = build_model(architecture(encoder={"kind": "grown", "branches": True}), BANDS, 1)
    assert branched.get_layer("down0_unit1_conv3").input.shape[-1] == 3
    assert {"down1_enter", "bottom_enter", "branch2_mean1"} <= set(names(branched))
    # What is finer than their own pixels in coarse bands is not looked at.
    rough = image()
    rough[..., 4] = rough[..., 4].reshape(1, 8, 4, 12, 4).mean(axis=(2, 4)).repeat(4, axis=1).repeat(4, axis=2)
    np.testing.assert_allclose(branched.predict_on_batch(rough), branched.predict_on_batch(image()), atol=1e-6)


@pytest.mark.parametrize("kind", ["vgg16", "resnet34", "resnet50", "se_resnext50", "efficientnet_b0"])
def test_below_a_known_encoder_the_sixth_level_is_grown(kind: str) -> None:
    five, six = (draw_up(architecture(encoder={"kind": kind}, depth=depth), BANDS, 1) for depth in (5, 6))
    assert (five.divisor_px, six.divisor_px) == (32, 64)
    ours = {node.name for node in six.nodes if node.stage in ("pool5", "bottom")}
    assert ours == {"pool5_max", *(f"bottom_unit1_{name}" for name in ("conv3", "batchnorm", "relu"))}
    # All that is published is there either way, one stage earlier called the bottom.
    theirs = [
        [node.name.partition("_")[2] for node in graph.nodes if node.stage.startswith(("down", "bottom", "pool"))]
        for graph in (five, six)
    ]
    assert theirs[1][: len(theirs[0])] == theirs[0]
    assert len(theirs[1]) == len(theirs[0]) + len(ours)
    assert "down5" in six.stages


def test_the_knobs_change_what_is_built() -> None:
    residual = names(build_model(architecture(block={"kind": "residual"}, dropout={"kind": "spatial"}), 3, 1))
    inception = names(build_model(architecture(units_per_stage=2, block={"kind": "inception"}), 3, 1))
    bare = build_model(architecture(normalisation="none", activation="elu"), 3, 1)
    leaky = build_model(architecture(activation="leaky_relu"), 3, 1)

    assert "down0_unit1_add" in residual
    assert "bottom_dropout" in residual
    assert "down0_unit2_join" in inception
    assert not [name for name in names(bare) if "norm" in name]
    assert "down0_unit1_elu" in names(bare)
    assert bare.get_layer("down0_unit1_conv3").use_bias
    assert leaky.get_layer("down0_unit1_leaky_relu").negative_slope == pytest.approx(0.1)


def test_large_weights_cost_what_they_should() -> None:
    costly = build_model(architecture(regularisation={"kind": "l2", "weight": 0.01}), 3, 1)
    kernels = [np.asarray(weights) for weights in costly.trainable_variables if weights.path.endswith("kernel")]

    total = sum(float(keras.ops.convert_to_numpy(each)) for each in costly.losses)
    assert total == pytest.approx(0.01 * sum((k**2).sum() for k in kernels), rel=1e-5)


def test_initialisation_has_the_spread_it_should() -> None:
    def spread(initialisation: str) -> float:
        keras.utils.set_random_seed(0)
        model = build_model(architecture(base_filters=64, kernel_initialisation=initialisation), 32, 1)
        return float(np.std(model.get_layer("down0_unit1_conv3").get_weights()[0]))

    assert spread("he_normal") == pytest.approx(np.sqrt(2 / (9 * 32)), rel=0.05)
    assert spread("glorot_uniform") == pytest.approx(np.sqrt(2 / (9 * 32 + 9 * 64)), rel=0.05)


@pytest.mark.parametrize(
    "fields",
    [
        {"bottom": {"kind": "pyramid"}},
        {"bottom": {"kind": "aspp"}},
        {"depth": 5, "growth": 1.0, "base_filters": 8},
    ],
)
def test_group_normalisation_leaves_something_where_one_position_is_left(fields: dict[str, Any]) -> None:
    """Every normalised signal tells one image of 32 px from another, also where its map has a single position."""
    model = build_model(architecture(**{"base_filters": 8, "normalisation": "group", **fields}), BANDS, 1)
    layers = [layer for layer in model.layers if "norm" in layer.name or "bin1" in layer.name]
    images = np.random.default_rng(3).normal(size=(4, 32, 32, len(BANDS))).astype(np.float32)
    found = keras.Model(model.inputs[0], [layer.output for layer in layers]).predict_on_batch(images)
    for layer, signal in zip(layers, found, strict=True):
        assert np.std(signal, axis=0).max() > 1e-3, layer.name


@pytest.mark.parametrize("kind", ["residual", "bottleneck"])
def test_sums_without_normalisation_begin_as_their_input(kind: str) -> None:
    deep = architecture(block={"kind": kind}, normalisation="none", depth=3, units_per_stage=3, base_filters=8)
    model = build_model(deep, BANDS, 1)
    maps = model.predict_on_batch(image())
    assert ((maps > 1e-6) & (maps < 1 - 1e-6)).all(), "the head is saturated from the start"
    assert not any(
        np.asarray(layer.kernel).any() for layer in model.layers if layer.name.endswith(("_b_conv3", "_widen_conv1"))
    )

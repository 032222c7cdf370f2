"""Networks: what each knob builds, that all of them run, and that a saved one comes back equal."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hyperopt.pyll.stochastic import sample

from pipeline.builder import build_model
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.space import hyperopt_space, resolve_space


def architecture(**fields: Any) -> Architecture:
    return decode(Architecture, fields, where="test")


def names(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers]


def test_the_plain_network_has_the_parameters_of_the_formula() -> None:
    """Counted by hand: 3x3 convolutions without bias, batch normalisation 4 per filter, transposed 2x2 with bias."""

    def unit(inputs: int, filters: int, kernel_px: int = 3) -> int:
        return kernel_px**2 * inputs * filters + 4 * filters

    down = unit(5, 8) + unit(8, 16)
    bottom = unit(16, 32)
    up1 = 4 * 32 * 16 + 16 + unit(16, 16, 1) + unit(32, 16)
    up0 = 4 * 16 * 8 + 8 + unit(8, 8, 1) + unit(16, 8)
    head = 8 * 3 + 3

    model = build_model(architecture(depth=2, base_filters=8, convs_per_stage=1), num_bands=5, num_classes=3)

    assert model.count_params() == down + bottom + up1 + up0 + head


@pytest.mark.parametrize("block", [{"kind": "plain"}, {"kind": "residual"}, {"kind": "inception"}])
@pytest.mark.parametrize("pooling", ["max", "average", "strided", "inception"])
def test_every_block_and_pooling_keeps_the_size(block: dict[str, Any], pooling: str) -> None:
    model = build_model(architecture(depth=2, base_filters=4, block=block, pooling=pooling), 3, 2)

    probabilities = model.predict_on_batch(np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype("float32"))

    assert probabilities.shape == (2, 16, 24, 2)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_the_knobs_change_what_is_built() -> None:
    residual = names(build_model(architecture(depth=1, block={"kind": "residual"}, dropout=0.2), 3, 1))
    inception = names(build_model(architecture(depth=1, block={"kind": "inception"}, pooling="inception"), 3, 1))
    bare = build_model(architecture(depth=1, normalisation="none", activation="elu"), 3, 1)

    assert "down0_unit1_add" in residual
    assert "bottom_dropout" in residual
    assert "down0_unit2_join" in inception
    assert "pool0_join" in inception
    assert not [name for name in names(bare) if "norm" in name]
    assert "down0_unit1_elu" in names(bare)
    assert bare.get_layer("down0_unit1_conv3").use_bias


def test_initialisation_has_the_spread_it_should() -> None:
    def spread(initialisation: str) -> float:
        keras.utils.set_random_seed(0)
        model = build_model(architecture(depth=1, base_filters=64, kernel_initialisation=initialisation), 32, 1)
        return float(np.std(model.get_layer("down0_unit1_conv3").get_weights()[0]))

    assert spread("he_normal") == pytest.approx(np.sqrt(2 / (9 * 32)), rel=0.05)
    assert spread("glorot_uniform") == pytest.approx(np.sqrt(2 / (9 * 32 + 9 * 64)), rel=0.05)


def test_random_candidates_build_and_give_no_nan_at_initialisation() -> None:
    expression = hyperopt_space(resolve_space({"architecture.depth": {"high": 3}}))
    rng = np.random.default_rng(3)
    image = rng.normal(size=(1, 32, 32, 6)).astype("float32")
    for _ in range(20):
        candidate = decode(Candidate, sample(expression, rng), where="sample")
        probabilities = build_model(candidate.architecture, 6, 2).predict_on_batch(image)
        assert np.isfinite(probabilities).all(), candidate


def test_a_saved_network_comes_back_equal(tmp_path: Path) -> None:
    model = build_model(architecture(depth=2, base_filters=4, block={"kind": "inception"}, normalisation="group"), 3, 2)
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")

    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras", compile=False)

    np.testing.assert_array_equal(copy.predict_on_batch(image), model.predict_on_batch(image))

"""Losses against NumPy, and what they make of unknown pixels."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.losses import ENERGY_PX, LOSSES, MixedLoss, energies, energy_error, patch_crossentropy
from search_space.training_plan import LossMix

Array = NDArray[np.float64]


def oracle(name: str, t: Array, p: Array, w: Array) -> float:
    """Straight from the definitions, class by class, over the known pixels only."""
    values = []
    for k in range(t.shape[-1]):
        known = w[..., 0] > 0
        truth, prob = t[..., k][known], p[..., k][known]
        of_truth = np.where(truth > 0, prob, 1 - prob)
        both, total = (truth * prob).sum(), truth.sum() + prob.sum()
        values.append(
            {
                "bce": -np.log(of_truth).mean(),
                "focal": (-((1 - of_truth) ** 2) * np.log(of_truth)).mean(),
                "dice": 1 - (2 * both + 1) / (total + 1),
                "jaccard": 1 - (both + 1) / (total - both + 1),
                "log_jaccard": -np.log((both + 1) / (total - both + 1)),
            }[name]
        )
    return float(np.mean(values))


def batch(seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    truth = (rng.random((2, 8, 8, 3)) < [0.5, 0.1, 0.0]).astype(float)
    return truth, rng.uniform(0.02, 0.98, truth.shape), (rng.random((2, 8, 8, 1)) < 0.7).astype(float)


def loss_of(mix: LossMix, t: Array, p: Array, w: Array) -> float:
    y_true = ops.convert_to_tensor(np.concatenate([t, w], axis=-1).astype("float32"))
    return float(MixedLoss(mix)(y_true, ops.convert_to_tensor(p.astype("float32"))))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_each_loss_is_its_definition(name: str) -> None:
    assert loss_of(LossMix(**{name: 1.0}), *batch()) == pytest.approx(oracle(name, *batch()), rel=1e-5)


def test_a_mix_is_the_weighted_sum() -> None:
    expected = 0.25 * oracle("dice", *batch()) + 0.75 * oracle("focal", *batch())

    assert loss_of(LossMix(dice=0.25, focal=0.75), *batch()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_unknown_pixels_do_not_count(name: str) -> None:
    truth, probabilities, known = batch()
    changed = np.where(known > 0, probabilities, 0.5)
    mix = LossMix(**{name: 1.0})

    assert loss_of(mix, truth, changed, known) == loss_of(mix, truth, probabilities, known)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_batch_of_unknown_pixels_gives_zero(name: str) -> None:
    truth, probabilities, known = batch()

    assert loss_of(LossMix(**{name: 1.0}), truth, probabilities, 0 * known) == 0.0


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_perfect_prediction_costs_nothing_and_the_opposite_much(name: str) -> None:
    truth, _, known = batch()
    mix = LossMix(**{name: 1.0})

    assert loss_of(mix, truth, truth, known) == pytest.approx(0.0, abs=1e-5)
    assert loss_of(mix, truth, 1 - truth, known) > 0.5


def test_loss_survives_saving() -> None:
    loss = MixedLoss(LossMix(bce=1.0, dice=0.5))

    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))

    assert copy.mix == loss.mix


def test_the_loss_of_each_patch_is_its_own_cross_entropy() -> None:
    rng = np.random.default_rng(4)
    masks, probabilities = rng.integers(2, size=(3, 5, 6, 2)), rng.uniform(0.05, 0.95, (3, 5, 6, 2))
    known = rng.random((3, 5, 6, 1)) < 0.6
    known[2] = False
    targets = np.concatenate([masks, known], axis=-1).astype(np.float32)

    given = (ops.convert_to_tensor(each.astype(np.float32)) for each in (targets, probabilities))
    found = ops.convert_to_numpy(patch_crossentropy(*given))

    for n in range(2):
        of_truth = np.where(masks[n] == 1, probabilities[n], 1 - probabilities[n])
        assert found[n] == pytest.approx(-np.log(of_truth[known[n, ..., 0]]).mean(), rel=1e-5)
    assert found[2] == 0


def test_energies_are_distances_as_a_king_walks() -> None:
    """Within each class to its border, up to sixteen; what touches the patch's border goes on beyond it."""
    rng = np.random.default_rng(0)
    masks = ndimage.zoom(rng.random((2, 6, 6, 2)), (1, 12, 12, 1), order=1) > 0.35
    padded = np.pad(masks, ((0, 0), (40, 40), (40, 40), (0, 0)), mode="edge")
    expected = np.stack(
        [
            np.stack([ndimage.distance_transform_cdt(each[..., k], "chessboard") for k in range(2)], axis=-1)
            for each in padded
        ]
    )[:, 40:-40, 40:-40]
    found, known = _energies(masks, np.ones(masks.shape[:3], bool))

    assert (known == 1).all()
    np.testing.assert_allclose(found * ENERGY_PX, np.minimum(expected, ENERGY_PX), atol=1e-5)
    assert {0, 3, ENERGY_PX} <= set(np.rint(found * ENERGY_PX).astype(int).ravel().tolist())


def _energies(masks: Any, known: Any) -> tuple[Any, Any]:
    targets = np.concatenate([masks, known[..., None]], axis=-1).astype(np.float32)
    depths, sure = energies(ops.convert_to_tensor(targets))
    return np.asarray(ops.convert_to_numpy(depths)), np.asarray(ops.convert_to_numpy(sure))


def test_energies_count_where_no_unknown_ground_could_change_them() -> None:
    rng = np.random.default_rng(1)
    masks = ndimage.zoom(rng.random((1, 7, 7, 2)), (1, 12, 12, 1), order=1) > 0.3
    known = ndimage.zoom(rng.random((1, 6, 6)), (1, 14, 14), order=1) > 0.25
    everywhere = np.ones_like(known)

    depths, sure = _energies(masks, known)

    assert 0.1 < sure.mean() < known.mean() - 0.1
    assert not sure[~known].any()
    fills = [np.zeros_like(masks), np.ones_like(masks), *(rng.random((5, *masks.shape)) < 0.5)]
    possible = [_energies(np.where(known[..., None], masks, fill), everywhere)[0] for fill in fills]
    for each in possible:
        np.testing.assert_allclose(each[sure > 0], depths[sure > 0], atol=1e-6)
    open_ = known[..., None] & (sure == 0)
    assert (np.abs(possible[1] - possible[0])[open_] > 0.5 / ENERGY_PX).all(), "left out though it is known"


def test_the_error_of_energies_is_a_mean_per_class_over_what_is_known() -> None:
    rng = np.random.default_rng(2)
    depths, predicted = rng.random((2, 2, 8, 8, 3)).astype(np.float32)
    known = (rng.random((2, 8, 8, 3)) < 0.6).astype(np.float32)
    expected = np.mean([((depths - predicted)[..., k] ** 2)[known[..., k] > 0].mean() for k in range(3)])

    assert float(energy_error(depths, predicted, known)) == pytest.approx(expected, rel=1e-5)
    assert float(energy_error(depths, predicted, np.zeros_like(known))) == 0.0

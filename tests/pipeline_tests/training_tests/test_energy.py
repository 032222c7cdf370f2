"""Energies against distances that SciPy measures, and where unknown ground leaves them open."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

from pipeline.training.energy import energies, energy_errors
from pipeline.training.losses import MixedLoss
from pipeline.training.trainee import Trainee
from search_space.losses import LossDetails, LossMix
from search_space.prediction import ENERGY_PX


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


def test_the_errors_of_energies_are_means_per_class_over_what_is_known() -> None:
    rng = np.random.default_rng(2)
    depths, predicted = rng.random((2, 2, 8, 8, 3)).astype(np.float32)
    known = (rng.random((2, 8, 8, 3)) < 0.6).astype(np.float32)
    known[..., 2] = 0
    expected = [((depths - predicted)[..., k] ** 2)[known[..., k] > 0].mean() for k in range(2)]

    found = ops.convert_to_numpy(energy_errors(depths, predicted, known))

    assert found.tolist() == pytest.approx([*expected, 0.0], rel=1e-5)


def test_a_class_without_a_pixel_has_no_depth() -> None:
    depths, known = _energies(np.zeros((1, 20, 20, 1)), np.ones((1, 20, 20)))

    assert (depths == 0).all()
    assert (known == 1).all()


def test_energies_weigh_in_training_as_the_plan_says() -> None:
    rng = np.random.default_rng(6)
    targets = (rng.random((1, 12, 12, 3)) < 0.7).astype(np.float32)
    maps = {name: rng.uniform(0.1, 0.9, (1, 12, 12, 2)).astype(np.float32) for name in ("masks", "energy")}
    image = keras.Input((12, 12, 2))
    network = keras.Model(image, dict.fromkeys(maps, keras.layers.Identity()(image)))

    def total(**details: Any) -> float:
        loss = MixedLoss(LossMix(dice=1.0), LossDetails(**details), ["road", "water"])
        tensors = {name: ops.convert_to_tensor(each) for name, each in maps.items()}
        return float(Trainee(network, loss).compute_loss(y=ops.convert_to_tensor(targets), y_pred=tensors))

    depths, known = _energies(targets[..., :-1], targets[..., -1])
    error = ((depths - maps["energy"]) ** 2 * known).sum(axis=(0, 1, 2)) / known.sum(axis=(0, 1, 2))
    none = total(energy=0.0)
    assert total(energy=4.0) - none == pytest.approx(4 * error.mean(), rel=1e-4)
    weighted = {"class_weights": {"water": 3.0}}
    assert total(energy=1.0, **weighted) - total(energy=0.0, **weighted) == pytest.approx(
        (error[0] + 3 * error[1]) / 4, rel=1e-4
    )

"""Averages of weights against plain NumPy, and models of several snapshots that are saved and come back."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.networks.builder import build_model
from pipeline.training.averaging import Snapshots, averaged
from pipeline.training.optimisation import make_optimizer
from search_space.architecture import Architecture
from search_space.decode import decode
from search_space.study import Budget
from search_space.training_plan import TrainingPlan

Arrays = list[NDArray[Any]]

BUDGET = Budget(epochs=6, steps_per_epoch=5)
IMAGE = np.random.default_rng(5).normal(size=(2, 16, 16, 3)).astype(np.float32)


def plan(**fields: Any) -> TrainingPlan:
    return decode(TrainingPlan, fields, where="test")


def network(**fields: Any) -> keras.Model:
    architecture = {"depth": 1, "base_filters": 4, "units_per_stage": 1, "normalisation": "batch", **fields}
    return build_model(decode(Architecture, architecture, where="test"), 3, 2)


def random_weights(model: keras.Model, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    # Kernels of either sign, so that maps are not all ones; variances above 0.
    drawn = [
        rng.normal(0, 0.3, each.shape) if each.ndim > 1 else rng.uniform(0.5, 1.5, each.shape)
        for each in model.get_weights()
    ]
    return [each.astype(np.float32) for each in drawn]


def maps(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    found = model(IMAGE, training=False)
    named = found if isinstance(found, dict) else {"masks": found}
    return {name: np.asarray(keras.ops.convert_to_numpy(each)) for name, each in named.items()}


def values(variables: Any) -> Arrays:
    return [np.array(keras.ops.convert_to_numpy(each)) for each in variables]


class Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the weights after each epoch, and what the network has within `averaged`."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self.weights: list[Arrays] = []
        self.averages: list[Arrays] = []
        self.others: list[Arrays] = []
        self._network = network

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        before = self._network.get_weights()
        self.weights.append(values(self._network.trainable_variables))
        with averaged(self._network, self.model.optimizer):
            self.averages.append(values(self._network.trainable_variables))
            self.others.append(values(self._network.non_trainable_variables))
        for one, other in zip(before, self._network.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def trained(planned: TrainingPlan, num_epochs: int) -> tuple[keras.Model, Recorder]:
    """Train one step per epoch."""
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    optimizer = make_optimizer(planned, Budget(epochs=num_epochs, steps_per_epoch=1))
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, loss="mse", jit_compile=False)
    recorder = Recorder(model)
    inputs, targets = IMAGE[0, :8, 0], IMAGE[1, :8, 0, :1]
    model.fit(inputs, targets, batch_size=8, epochs=num_epochs, shuffle=False, verbose=0, callbacks=[recorder])
    return model, recorder


def test_moving_averages_are_those_of_numpy_and_leave_the_weights_alone() -> None:
    model, seen = trained(plan(learning_rate=0.1, averaging={"kind": "ema", "momentum": 0.5}), 14)

    expected = seen.weights[0]
    for number, weights in enumerate(seen.weights):
        # The first step sets them; later ones move them by 9 / (9 + number), until that is less than a half.
        kept = min(number / (number + 9), 0.5)
        expected = [kept * one + (1 - kept) * other for one, other in zip(expected, weights, strict=True)]
        for one, other in zip(seen.averages[number], expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert not np.allclose(seen.averages[-1][0], seen.weights[-1][0], rtol=1e-3)
    # Keras would leave the averages in the network when training ends.
    for one, other in zip(values(model.trainable_variables), seen.weights[-1], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(values(model.non_trainable_variables), seen.others[-1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_early_averages_are_near_the_weights_whatever_the_momentum() -> None:
    _, seen = trained(plan(learning_rate=0.1, averaging={"kind": "ema", "momentum": 0.999}), 14)

    from_start = np.linalg.norm(seen.weights[-1][0] - seen.weights[0][0])
    assert np.linalg.norm(seen.averages[-1][0] - seen.weights[-1][0]) < 0.3 * from_start


def test_without_averages_or_before_the_first_step_nothing_happens() -> None:
    for averaging in ("none", "ema"):
        model = network()
        optimizer = make_optimizer(plan(averaging={"kind": averaging}), BUDGET)
        for _ in range(2):
            before = model.get_weights()
            with averaged(model, optimizer):
                for one, other in zip(before, model.get_weights(), strict=True):
                    np.testing.assert_array_equal(one, other)
            optimizer.build(model.trainable_variables)


def test_what_is_raised_within_leaves_the_weights_alone() -> None:
    model, seen = trained(plan(learning_rate=0.1, averaging={"kind": "ema"}), 3)
    with pytest.raises(ValueError, match="stop"), averaged(model, model.optimizer):
        raise ValueError("stop")
    np.testing.assert_array_equal(values(model.trainable_variables)[0], seen.weights[-1][0])


@pytest.mark.parametrize(
    ("fields", "epochs", "taken"),
    [
        # Five falls over the last third of 150 epochs; the last three lows.
        ({"schedule": {"kind": "cyclic", "start": 2 / 3, "cycles": 5}}, 150, (130, 140, 150)),
        ({"schedule": {"kind": "cyclic", "start": 0.5, "cycles": 2}}, 12, (9, 12)),
        ({"schedule": {"kind": "cyclic", "start": 0.9, "cycles": 8}}, 4, (4,)),
        ({}, 9, (7, 8, 9)),
        ({}, 30, (23, 27, 30)),
        ({"schedule": {"kind": "cosine"}}, 2, (2,)),
        ({}, 1, (1,)),
        ({"averaging": {"kind": "ema"}}, 9, ()),
    ],
)
def test_snapshots_are_taken_at_lows_else_over_the_last_third(
    fields: dict[str, Any], epochs: int, taken: tuple[int, ...]
) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    planned = plan(**{"averaging": {"kind": "snapshots", "num": 3}, **fields})
    snapshots = Snapshots(planned, Budget(epochs=epochs, steps_per_epoch=2))
    looked = [epoch for epoch in range(1, epochs + 1) if snapshots.look(epoch, model)]
    assert snapshots.taken == tuple(looked) == taken
    assert (snapshots.model(model) is None) == (not taken)


def collected(model: keras.Model, of: str) -> tuple[Snapshots, list[Arrays]]:
    """Three snapshots of random weights, cut off and restored after the second."""
    planned = plan(averaging={"kind": "snapshots", "num": 3, "of": of})
    members = [random_weights(model, seed) for seed in range(3)]
    before, after = Snapshots(planned, BUDGET), Snapshots(planned, BUDGET)
    for epoch, weights in zip((5, 6), members, strict=False):
        model.set_weights(weights)
        assert before.look(epoch, model)
    assert before.taken == (5, 6)
    after.restore(before.arrays())
    assert not after.look(6, model)
    return after, members[:2]


def test_the_mean_of_weights_is_numpy_s_with_statistics_and_leaves_the_network_alone() -> None:
    model = network()
    snapshots, members = collected(model, "weights")
    model.set_weights(random_weights(model, 9))

    made = snapshots.model(model)

    assert made is not None
    for found, *each in zip(made.get_weights(), *members, strict=True):
        np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-6)
    for found, own in zip(model.get_weights(), random_weights(model, 9), strict=True):
        np.testing.assert_array_equal(found, own)


@pytest.mark.parametrize(
    ("fields", "precision"),
    [({}, "float32"), ({"energy": True, "deep_supervision": True, "depth": 2, "margin_px": 2}, "mixed_bfloat16")],
)
def test_the_mean_of_predictions_is_that_of_its_members_after_saving(
    fields: dict[str, Any], precision: str, tmp_path: Path
) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = network(**fields)
    finally:
        keras.config.set_dtype_policy(before)
    snapshots, members = collected(model, "predictions")
    made = snapshots.model(model)
    assert made is not None
    made.save(tmp_path / "model.keras")

    found = maps(keras.saving.load_model(tmp_path / "model.keras", compile=False))

    single, each = network(**fields), []
    for weights in members:
        single.set_weights(weights)
        each.append(maps(single))
    assert set(found) == set(each[0])
    for name, values_ in found.items():
        assert values_.dtype == np.float32
        np.testing.assert_allclose(values_, np.mean([every[name] for every in each], axis=0), atol=2e-6)
    assert not np.allclose(each[0]["masks"], each[1]["masks"], atol=1e-3)

"""Averages in trainings: validated and kept are those that plain NumPy makes of the weights of steps and epochs."""

from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.validation.whole_ground import Validation, validate
from search_space.objective import EpochReport
from tests.pipeline_tests.small_training import SMALL, make_scene, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("untraced"),
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning"),
]


def trained_weights(model: keras.Model) -> list[NDArray[Any]]:
    return [np.array(keras.ops.convert_to_numpy(each)) for each in model.trainable_variables]


def test_moving_averages_are_what_is_validated_and_kept() -> None:
    """The weights after each step are those of a training that ends there."""
    steps = [trained_weights(run(epochs=1, steps=number).model) for number in (1, 2, 3)]
    expected = steps[0]
    for number, weights in enumerate(steps[1:], start=1):
        kept = min(number / (number + 9), 0.6)
        expected = [kept * one + (1 - kept) * other for one, other in zip(expected, weights, strict=True)]

    plan = {**SMALL["plan"], "averaging": {"kind": "ema", "momentum": 0.6}}
    averaged = run({**SMALL, "plan": plan}, epochs=1, steps=3)

    for found, wanted, last in zip(trained_weights(averaged.model), expected, steps[-1], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
        assert not np.allclose(found, last, rtol=1e-3, atol=1e-5)
    again = validate(averaged.model, [make_scene(2)], ["square", "stripe"], tile_px=16)
    assert again.jaccard == averaged.validation.jaccard == averaged.reports[0].jaccard


@pytest.mark.parametrize("is_better", [True, False])
def test_the_mean_of_snapshots_is_kept_where_it_is_better(is_better: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    networks: list[keras.Model] = []
    epochs: list[list[NDArray[Any]]] = []

    def judged(model: keras.Model, *_: Any, **__: Any) -> Validation:
        # The first epoch is the best; a model that is not the network is the mean.
        score = {0: 0.5, 1: 0.25}[len(epochs)] if model is networks[0] else 0.75 if is_better else 0.125
        return Validation({"square": score}, {"square": 0.5})

    def told(_: EpochReport) -> None:
        epochs.append(networks[0].get_weights())

    monkeypatch.setattr("pipeline.training.train.validate", judged)
    plan = {
        **SMALL["plan"],
        "schedule": {"kind": "cyclic", "start": 0.0, "cycles": 2, "floor": 0.5},
        "averaging": {"kind": "snapshots", "num": 2},
    }
    trained = run({**SMALL, "plan": plan}, epochs=2, steps=15, more={"initialise": networks.append, "on_epoch": told})

    expected = [(one + other) / 2 for one, other in zip(*epochs, strict=True)] if is_better else epochs[0]
    for found, wanted in zip(trained.model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    assert trained.validation.jaccard == {"square": 0.75 if is_better else 0.5}
    figures = (trained.figures["best_epoch"], trained.figures.get("num_averaged"))
    assert figures == ((2.0, 2.0) if is_better else (1.0, None))

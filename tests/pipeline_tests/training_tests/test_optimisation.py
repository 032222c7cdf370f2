"""Learning rates, optimizers and clipping against plain NumPy, on whichever backend runs."""

import json
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.training.optimisation import PlannedRate, current_rate, falls_now, make_optimizer, scale_rate
from search_space.decode import decode
from search_space.study import Budget
from search_space.training_plan import TrainingPlan

BUDGET = Budget(epochs=10, steps_per_epoch=4)
NUM_STEPS = 40

Array = NDArray[np.float64]


def plan(**fields: Any) -> TrainingPlan:
    return decode(TrainingPlan, {"learning_rate": 0.1, **fields}, where="test")


def half_cosine(share: float, floor: float) -> float:
    return floor + (1 - floor) * (1 + math.cos(math.pi * share)) / 2


def cyclic(step: int) -> float:
    # Starts after 2 of 10 epochs, so after 8 of 40 steps; three cycles end after epochs 5, 7 and 10.
    if step < 8:
        return 1.0
    begin, end = next((begin, end) for begin, end in [(8, 20), (20, 28), (28, 40)] if begin <= step < end)
    return half_cosine((step - begin) / (end - begin), 0.2)


def one_cycle(step: int) -> float:
    # Rises over a quarter of the training.
    return half_cosine(1 - step / 10, 0.1) if step < 10 else half_cosine((step - 10) / 30, 0.05)


SCHEDULES: dict[str, tuple[dict[str, Any], Callable[[int], float]]] = {
    "constant": ({}, lambda _: 1.0),
    "steps": (
        {"at": [0.25, 0.5, 0.9], "factor": 0.5},
        lambda step: 1.0 if step < 10 else 0.5 if step < 20 else 0.25 if step < 36 else 0.125,
    ),
    "plateau": ({"patience": 2}, lambda _: 1.0),
    "cosine": ({"floor": 0.1}, lambda step: half_cosine(step / 40, 0.1)),
    "polynomial": ({"power": 0.9}, lambda step: float((1 - step / 40) ** 0.9)),
    "one_cycle": ({"peak_at": 0.25, "start": 0.1, "floor": 0.05}, one_cycle),
    "cyclic": ({"start": 0.2, "cycles": 3, "floor": 0.2}, cyclic),
}


@pytest.mark.parametrize("warm_up", [0.0, 0.2])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_every_step_has_the_rate_of_its_schedule(kind: str, warm_up: float) -> None:
    fields, left = SCHEDULES[kind]
    planned = plan(schedule={"kind": kind, **fields}, warm_up=warm_up)
    # A fifth of 40 steps: the last of the eight is the first with the whole rate.
    wanted = [0.1 * left(step) * (min((step + 1) / 8, 1.0) if warm_up else 1.0) for step in range(NUM_STEPS)]

    for accumulate in (1, 3):
        rate = PlannedRate(planned, BUDGET, accumulate)
        copy = PlannedRate.from_config(json.loads(json.dumps(rate.get_config())))
        for made in (rate, copy):
            found = keras.ops.convert_to_numpy(made(np.arange(NUM_STEPS * accumulate, dtype=np.int32)))
            np.testing.assert_allclose(found, np.repeat(wanted, accumulate), rtol=2e-5, atol=1e-8)
        assert float(rate(NUM_STEPS * accumulate - 1)) == pytest.approx(found[-1])


def test_a_serialised_optimizer_has_its_rate_and_its_scale_again() -> None:
    made = make_optimizer(plan(optimizer={"kind": "sgd"}, schedule={"kind": "cosine"}), BUDGET)
    copy = type(made).from_config(made.get_config())
    assert len(copy.variables) == len(made.variables)
    scale_rate(copy, 0.5)
    assert current_rate(copy) == pytest.approx(0.05)
    assert current_rate(made) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("scores", "falls_after"),
    [
        ([1, 2, 3, 4, 5, 6], []),
        ([5, 4, 4, 4, 4, 4, 4], [3, 5, 7]),
        ([5, 4, 6, 5, 5, 7, 7, 7], [5, 8]),
        ([math.nan, math.nan, 1, 1], []),
        ([math.nan, math.nan, 1, math.nan, math.nan, 2, math.nan, math.nan, 3], []),
        ([math.nan, math.nan, 1, math.nan, math.nan, 1, math.nan, math.nan, 1], [6, 9]),
    ],
)
def test_a_plateau_falls_after_two_epochs_without_a_better_one(scores: list[float], falls_after: list[int]) -> None:
    epochs = range(1, len(scores) + 1)
    assert [epoch for epoch in epochs if falls_now(scores[:epoch], patience=2)] == falls_after


def moments(state: dict[str, Array], gradient: Array, step: int) -> tuple[Array, Array]:
    state["m"] = 0.9 * state.get("m", np.zeros(4)) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", np.zeros(4)) + 0.001 * gradient**2
    return state["m"], state["v"] / (1 - 0.999**step)


def adam(state: dict[str, Array], gradient: Array, step: int, rate: float) -> Array:
    mean, square = moments(state, gradient, step)
    # Keras's epsilon stands beside the root of the uncorrected square.
    epsilon = 1e-7 / math.sqrt(1 - 0.999**step)
    return -rate * mean / (1 - 0.9**step) / (np.sqrt(square) + epsilon)


def nadam(state: dict[str, Array], gradient: Array, step: int, rate: float) -> Array:
    mean, square = moments(state, gradient, step)
    now, later = (0.9 * (1 - 0.5 * 0.96**number) for number in (step, step + 1))
    product = state["product"] = state.get("product", np.ones(1)) * now
    ahead = later * mean / (1 - product * later) + (1 - now) * gradient / (1 - product)
    return -rate * ahead / (np.sqrt(square) + 1e-7)


def rmsprop(state: dict[str, Array], gradient: Array, step: int, rate: float) -> Array:
    state["v"] = 0.9 * state.get("v", np.zeros(4)) + 0.1 * gradient**2
    return -rate * gradient / np.sqrt(state["v"] + 1e-7)


def nesterov(state: dict[str, Array], gradient: Array, step: int, rate: float) -> Array:
    state["m"] = 0.8 * state.get("m", np.zeros(4)) - rate * gradient
    return 0.8 * state["m"] - rate * gradient


def momentum(state: dict[str, Array], gradient: Array, step: int, rate: float) -> Array:
    state["m"] = 0.8 * state.get("m", np.zeros(4)) - rate * gradient
    return state["m"]


STEPS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Array], Array, int, float], Array]]] = {
    "adam": ({"kind": "adam"}, adam),
    "adamw": ({"kind": "adamw", "weight_decay": 0.5}, adam),
    "nadam": ({"kind": "nadam"}, nadam),
    "rmsprop": ({"kind": "rmsprop"}, rmsprop),
    "sgd": ({"kind": "sgd", "momentum": 0.8, "nesterov": False}, momentum),
    "nesterov": ({"kind": "sgd", "momentum": 0.8, "nesterov": True}, nesterov),
}

KERNEL, BIAS = np.array([1.0, -2.0, 3.0]), np.array([0.5])


class Problem:
    """A model of four weights, of which one is a bias, and the gradients that it is given."""

    def __init__(self, planned: TrainingPlan, accumulate: int = 1) -> None:
        layer = keras.layers.Dense(1, name="dense")
        self.model = keras.Sequential([keras.Input((3,)), layer])
        layer.set_weights([KERNEL[:, None], BIAS])
        self.variables = self.model.trainable_variables
        self.optimizer = make_optimizer(planned, BUDGET, accumulate=accumulate)
        self.optimizer.build(self.variables)

    def step(self, gradient: Array) -> None:
        parts = (gradient[:3, None], gradient[3:])
        self.optimizer.apply([keras.ops.convert_to_tensor(part, "float32") for part in parts])

    @property
    def weights(self) -> Array:
        return np.concatenate([np.ravel(keras.ops.convert_to_numpy(each)) for each in self.variables]).astype(float)


def gradients(num: int = 6) -> list[Array]:
    return list(np.random.default_rng(3).normal(0, 2, (num, 4)))


def clipped(gradient: Array, longest: float) -> Array:
    return gradient * min(1.0, longest / float(np.linalg.norm(gradient))) if longest else gradient


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_those_of_numpy(name: str) -> None:
    fields, move = STEPS[name]
    problem = Problem(plan(optimizer=fields, schedule={"kind": "cosine", "floor": 0.5}, clip_norm=2.0))
    weights, state = np.concatenate([KERNEL, BIAS]), dict[str, Array]()
    for number, gradient in enumerate(gradients()):
        rate = 0.1 * half_cosine(number / NUM_STEPS, 0.5)
        if name == "adamw":
            weights[:3] *= 1 - 0.5 * rate
        weights = weights + move(state, clipped(gradient, 2.0), number + 1, rate)
        problem.step(gradient)
        np.testing.assert_allclose(problem.weights, weights, rtol=1e-4, atol=1e-5)
        assert current_rate(problem.optimizer) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize("longest", [0.0, 0.5, 100.0])
def test_gradients_are_clipped_by_the_norm_of_all_together(longest: float) -> None:
    problem = Problem(plan(optimizer={"kind": "sgd", "momentum": 0.0, "nesterov": False}, clip_norm=longest))
    gradient = np.array([3.0, -4.0, 12.0, 84.0])

    problem.step(gradient)

    # 3² + 4² + 12² + 84² = 85².
    length = {0.0: 85.0, 0.5: 0.5, 100.0: 85.0}[longest]
    moved = np.concatenate([KERNEL, BIAS]) - problem.weights
    np.testing.assert_allclose(moved, 0.1 * gradient * length / 85, rtol=1e-4)


@pytest.mark.parametrize("name", ["adamw", "nadam", "nesterov"])
def test_accumulated_batches_make_the_step_of_their_mean(name: str) -> None:
    planned = plan(
        optimizer=STEPS[name][0], schedule={"kind": "steps", "at": [0.05]}, warm_up=0.1, averaging={"kind": "ema"}
    )
    whole, parts = Problem(planned), Problem(planned, accumulate=2)
    batches = gradients(8)
    for number in range(0, 8, 2):
        whole.step((batches[number] + batches[number + 1]) / 2)
        parts.step(batches[number])
        assert current_rate(parts.optimizer) == pytest.approx(0.1 * (0.25, 0.25, 0.5, 0.075)[number // 2])
        parts.step(batches[number + 1])
        np.testing.assert_allclose(parts.weights, whole.weights, rtol=1e-4, atol=1e-6)
        for (_, one), (_, other) in zip(parts.optimizer.averages(), whole.optimizer.averages(), strict=True):
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other), rtol=1e-4, atol=1e-6
            )


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_a_compiled_step_follows_the_scale_that_is_assigned_between_epochs(is_wrapped: bool) -> None:
    problem = Problem(plan(optimizer={"kind": "sgd", "momentum": 0.0}, learning_rate=0.5, clip_norm=0.0))
    optimizer = keras.optimizers.LossScaleOptimizer(problem.optimizer, 4.0) if is_wrapped else problem.optimizer
    # The gradient of the mean over one output is the inputs' mean: 1 for each weight.
    problem.model.compile(optimizer=optimizer, loss=lambda _, found: keras.ops.mean(found))
    ones = np.ones((4, 3), np.float32)
    found, rates = [problem.weights], []

    class Halve(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            found.append(problem.weights)
            rates.append(current_rate(optimizer))
            scale_rate(optimizer, 0.5)

    problem.model.fit(ones, ones[:, :1], batch_size=2, epochs=3, shuffle=False, verbose=0, callbacks=[Halve()])

    # Two steps an epoch.
    np.testing.assert_allclose(np.diff(found, axis=0), -np.outer([1.0, 0.5, 0.25], np.ones(4)), rtol=1e-5)
    assert rates == pytest.approx([0.5, 0.25, 0.125])


def test_all_that_a_step_depends_on_is_among_the_variables() -> None:
    """Another optimizer that is given their values goes on alike: what a checkpoint does."""
    planned = plan(optimizer={"kind": "nadam"}, schedule={"kind": "plateau"}, warm_up=0.1, averaging={"kind": "ema"})
    one, other = Problem(planned), Problem(planned)
    for gradient in gradients(3):
        one.step(gradient)
    scale_rate(one.optimizer, 0.3)
    for theirs, ours in (
        (other.variables, one.variables),
        (other.optimizer.variables, one.optimizer.variables),
    ):
        for variable, value in zip(theirs, ours, strict=True):
            variable.assign(keras.ops.convert_to_numpy(value))
    for problem in (one, other):
        problem.step(gradients(4)[3])
    np.testing.assert_array_equal(one.weights, other.weights)
    assert current_rate(one.optimizer) == current_rate(other.optimizer) == pytest.approx(0.03)

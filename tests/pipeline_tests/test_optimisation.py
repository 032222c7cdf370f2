"""Learning rates, optimizers and clipping against plain NumPy, on whichever backend runs."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.optimisation import PlannedRate, current_rate, falls_now, make_optimizer, scale_rate
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
            found = [float(made(batch)) for batch in range(0, NUM_STEPS * accumulate, accumulate)]
            np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-8)
        assert float(rate(NUM_STEPS * accumulate - 1)) == found[-1]


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
        ([math.nan, math.nan, 1, 1], [2]),
    ],
)
def test_a_plateau_falls_after_two_epochs_without_a_better_one(scores: list[float], falls_after: list[int]) -> None:
    epochs = range(1, len(scores) + 1)
    assert [epoch for epoch in epochs if falls_now(scores[:epoch], patience=2)] == falls_after

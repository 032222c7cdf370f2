"""Optimizers and learning rates: a plan's words as Keras carries them out."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from pipeline.training.averaging import Averaging, bare
from search_space.decode import decode, encode
from search_space.optimisation import (
    SGD,
    AdamW,
    CosineRate,
    CyclicRate,
    MovingAverage,
    OneCycleRate,
    PolynomialRate,
    StepRate,
)
from search_space.study import Budget
from search_space.training_plan import TrainingPlan

Tensor = Any

NOT_DECAYED = ["bias", "gamma", "beta"]
"""Parts of names of weights that do not shrink: shifts and scales are no reason to overfit (He et al. 2019)."""


@keras.saving.register_keras_serializable(package="mapgrove")
class PlannedRate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The learning rate of each step of a plan.

    It is the plan's rate, times what its schedule leaves of it, times what the warm-up does, times `scale`.

    Args:
        plan: Its learning rate, warm-up and schedule count.
        budget: How many epochs and steps the whole training has.
        accumulate: Batches per step: Keras counts batches, and a step is over with the last of them.

    Attributes:
        scale: What a plateau has left of the rate: a variable of the optimizer, so that compiled steps see what is
            assigned to it and checkpoints hold it. None as long as there is no optimizer.
    """

    def __init__(self, plan: TrainingPlan, budget: Budget, accumulate: int = 1) -> None:
        self.scale: keras.Variable | None = None
        self._plan, self._budget, self._accumulate = plan, budget, accumulate

    def __call__(self, batch: Tensor) -> Tensor:
        """The rate of the step to which a batch belongs; batches and steps are counted from 0."""
        return self.of_step(ops.floor_divide(ops.convert_to_tensor(batch), self._accumulate))

    def of_step(self, number: Tensor) -> Tensor:
        """The rate of a step, or of several; after the last one of the budget it stays at the schedule's end."""
        step = ops.cast(number, "float32")
        rate = self._plan.learning_rate * self._left(step)
        if self._plan.warm_up > 0:
            rate = rate * ops.minimum((step + 1.0) / max(1.0, self._num_steps * self._plan.warm_up), 1.0)
        return rate if self.scale is None else rate * self.scale

    @property
    def _num_steps(self) -> int:
        return self._budget.epochs * self._budget.steps_per_epoch

    def _left(self, step: Tensor) -> Tensor:
        """What the schedule leaves of the rate."""
        schedule = self._plan.schedule
        passed = ops.minimum(step / self._num_steps, 1.0)
        match schedule:
            case StepRate():
                times = [round(share * self._num_steps) for share in schedule.at]
                return schedule.factor ** ops.cast(_num_passed(step, times), "float32")
            case CosineRate():
                return _falling(passed, schedule.floor)
            case PolynomialRate():
                return (1.0 - passed) ** schedule.power
            case OneCycleRate():
                peak_at = schedule.peak_at
                rising = _falling(1.0 - ops.minimum(passed / peak_at, 1.0), schedule.start)
                falling = _falling((passed - peak_at) / (1.0 - peak_at), schedule.floor)
                return ops.where(passed < peak_at, rising, falling)
            case CyclicRate():
                return self._cyclic(step, schedule)
            case _:
                return ops.ones_like(step)

    def _cyclic(self, step: Tensor, schedule: CyclicRate) -> Tensor:
        epochs = self._budget.epochs
        turns = [
            float(epoch * self._budget.steps_per_epoch)
            for epoch in (schedule.begins_after(epochs), *schedule.lows_after(epochs))
        ]
        cycle = _num_passed(step, turns[1:-1])
        begin, end = (ops.take(ops.convert_to_tensor(turns, "float32"), cycle + later) for later in (0, 1))
        return _falling(ops.clip((step - begin) / (end - begin), 0.0, 1.0), schedule.floor)

    def get_config(self) -> dict[str, Any]:
        """Plain data from which `from_config` makes the same rate; its scale belongs to the optimizer."""
        return {"plan": encode(self._plan), "budget": encode(self._budget), "accumulate": self._accumulate}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PlannedRate":
        """The inverse of `get_config`."""
        plan = decode(TrainingPlan, config["plan"], where="a learning rate's plan")
        return cls(plan, decode(Budget, config["budget"], where="a learning rate's budget"), config["accumulate"])


def _num_passed(step: Tensor, times: Sequence[float]) -> Tensor:
    """How many of the times are over."""
    passed = ops.expand_dims(step, -1) >= ops.convert_to_tensor(times, "float32")
    return ops.sum(ops.cast(passed, "int32"), axis=-1)


def _falling(share: Tensor, floor: float) -> Tensor:
    """From 1 to `floor` along half a cosine."""
    return floor + (1.0 - floor) * 0.5 * (1.0 + ops.cos(np.pi * share))


class _Planned(Averaging):
    """What all our optimizers have beside their steps: a planned rate with its scale, and averages."""

    def __init__(self, learning_rate: PlannedRate, **options: Any) -> None:
        super().__init__(learning_rate=learning_rate, **options)
        self.rate = learning_rate
        learning_rate.scale = self.add_variable((), initializer="ones", name="rate_scale")


KERAS_CLASSES: dict[str, type[keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}


@cache
def _class_of(kind: str) -> type[keras.optimizers.Optimizer]:
    """Keras's optimizer with what all ours have."""
    # On PyTorch Keras makes a class of its own, which is faster, out of a call of the plain class alone.
    theirs = type(KERAS_CLASSES[kind](0.1))
    return type(f"Planned{KERAS_CLASSES[kind].__name__}", (_Planned, theirs), {})


def make_optimizer(plan: TrainingPlan, budget: Budget, *, accumulate: int = 1) -> keras.optimizers.Optimizer:
    """Make the optimizer of a plan, not yet built.

    Numbers that a plan does not name are Keras's. The gradient of all weights together is shortened to
    `plan.clip_norm`; where batches are accumulated, that of their mean.

    Args:
        plan: How to train.
        budget: How long, in steps: of `accumulate` batches each.
        accumulate: Batches whose mean gradient makes a step.

    Returns:
        One whose variables hold all that its next step depends on: so checkpoints and compiled steps take it along.
    """
    settings = plan.optimizer
    options: dict[str, Any] = {}
    if isinstance(settings, AdamW):
        options["weight_decay"] = settings.weight_decay
    if isinstance(settings, SGD):
        options |= {"momentum": settings.momentum, "nesterov": settings.nesterov}
    if isinstance(plan.averaging, MovingAverage):
        options |= {"use_ema": True, "ema_momentum": plan.averaging.momentum}
    optimizer = _class_of(settings.kind)(
        learning_rate=PlannedRate(plan, budget, accumulate),
        global_clipnorm=plan.clip_norm or None,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
        **options,
    )
    if isinstance(settings, AdamW):
        optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return optimizer


def current_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The learning rate of the step that was taken last, or of the first one; times the scale as it is now.

    Args:
        optimizer: As `make_optimizer` makes it, or as Keras wrapped it for half precision. On JAX it is known between
            epochs, not within.
    """
    planned = bare(optimizer)
    num_steps = int(ops.convert_to_numpy(planned.iterations))
    return float(ops.convert_to_numpy(planned.rate.of_step(max(num_steps - 1, 0))))


def scale_rate(optimizer: keras.optimizers.Optimizer, factor: float) -> None:
    """Multiply the learning rate of all steps to come, as where the validation is flat; between epochs.

    Args:
        optimizer: As for `current_rate`.
        factor: Of what it is now.
    """
    scale = bare(optimizer).rate.scale
    scale.assign(scale * factor)


def falls_now(scores: Sequence[float], patience: int) -> bool:
    """Whether a plateau's learning rate falls after the last epoch.

    It does after `patience` epochs without a better one than the best before them, counted from the last fall on; but
    only where the last epoch was validated, as before that nobody knows whether it is better.

    Args:
        scores: Of all epochs so far, higher is better; NaN of those that were not validated.
        patience: As `PlateauRate` has it.
    """
    best, waited, falls = -np.inf, 0, False
    for score in scores:
        waited = 0 if score > best else waited + 1
        best = max(best, score) if score > best else best
        falls = waited >= patience and not np.isnan(score)
        if falls:
            waited = 0
    return falls

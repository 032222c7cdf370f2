"""Averages of weights: moving ones that the optimizer keeps, and the mean of snapshots at the lows of the rate."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from search_space.optimisation import SnapshotAverage
from search_space.study import Budget
from search_space.training_plan import TrainingPlan

Tensor = Any

NAME = "snapshots"
"""Of a model that averages maps."""

EARLY = 9.0
"""Of n steps, the averages hold about the last n / EARLY, as long as those are fewer than their momentum tells."""


class Averaging(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Keras's moving averages of the trained weights, with three differences; the first base of an optimizer.

    Early averages follow the weights fast: Keras lets the first step set them, so that a training shorter than their
    memory would mostly average the random start. Batches that only accumulate do not move them. And Keras's `fit` does
    not put them into the network when it ends: `averaged` does, and takes them out again.
    """

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[keras.Variable]) -> None:
        if not self.use_ema:
            return
        batch, per_step = self._iterations, self.gradient_accumulation_steps or 1
        step = ops.cast(ops.floor_divide(batch, per_step), "float32")
        momentum = ops.minimum(step / (step + EARLY), self.ema_momentum)
        momentum = ops.where(ops.equal(ops.mod(batch + 1, per_step), 0), momentum, 1.0)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            kept = ops.cast(momentum, average.dtype)
            average.assign(ops.add(ops.multiply(kept, average), ops.multiply(1.0 - kept, variable)))

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Leave the network as it is."""

    def averages(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Each trained variable with its average; empty where there are none, or no step was taken yet."""
        if not self.use_ema or not self.built or not int(ops.convert_to_numpy(self.iterations)):
            return []
        return list(zip(self._trainable_variables, self._model_variables_moving_average, strict=True))


def bare(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer itself, where Keras wrapped it for half precision."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextmanager
def averaged(network: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Within this context the network has the averages of its weights, after it its weights, bit by bit.

    Only weights that are trained have averages: statistics of batch normalisation stay those of the weights in
    training, which they follow within some tens of steps. Without moving averages nothing happens.

    Args:
        network: Whose weights the optimizer trains, with others or alone.
        optimizer: As `make_optimizer` makes it, or as Keras wrapped it. On JAX only between epochs.
    """
    own = {id(variable) for variable in network.trainable_variables}
    pairs = [(variable, average) for variable, average in bare(optimizer).averages() if id(variable) in own]
    before = [np.array(ops.convert_to_numpy(variable)) for variable, _ in pairs]
    try:
        for variable, average in pairs:
            # A copy: JAX's predictions give up the arrays that the network holds, and the average would go with them.
            variable.assign(np.array(ops.convert_to_numpy(average)))
        yield
    finally:
        for (variable, _), value in zip(pairs, before, strict=True):
            variable.assign(value)


class Snapshots:
    """The network's weights at the lows of the learning rate, and the one model that they make.

    Args:
        plan: Without snapshots in its averaging, none are taken.
        budget: How many epochs the whole training has.

    Attributes:
        taken: After which epochs one was taken, counted from 1.
    """

    def __init__(self, plan: TrainingPlan, budget: Budget) -> None:
        averaging = plan.averaging
        self.taken: tuple[int, ...] = ()
        self._due: tuple[int, ...] = ()
        self._of_weights = True
        if isinstance(averaging, SnapshotAverage):
            self._due = averaging.taken_after(plan.schedule, budget.epochs)
            self._of_weights = averaging.of == "weights"
        # Weights of each snapshot, one after the other; of those whose mean is wanted their sums, as if of one.
        self._kept: list[NDArray[Any]] = []

    def look(self, epoch: int, network: keras.Model) -> bool:
        """Take the weights after an epoch, counted from 1, if they are wanted; return whether they were."""
        if epoch not in self._due or epoch in self.taken:
            return False
        weights = network.get_weights()
        if not self._of_weights:
            self._kept += weights
        elif self._kept:
            self._kept = [total + each for total, each in zip(self._kept, weights, strict=True)]
        else:
            self._kept = [each.astype(np.float64) for each in weights]
        self.taken += (epoch,)
        return True

    def arrays(self) -> list[NDArray[Any]]:
        """All that was taken, for a checkpoint."""
        return [np.asarray(self.taken, np.int64), *self._kept]

    def restore(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Go on from what `arrays` gave in a training of the same plan and budget."""
        self.taken = tuple(int(epoch) for epoch in arrays[0])
        self._kept = list(arrays[1:])

    def model(self, network: keras.Model) -> keras.Model | None:
        """Make the one model of all that was taken.

        The mean of weights is that of statistics of batch normalisation too. They are not those of the mean weights,
        only near them where the snapshots are near each other: whether the model is better than the best epoch,
        validation has to say.

        Args:
            network: As it was trained; it stays as it is.

        Returns:
            A functional model with the inputs and outputs of the network, in single precision throughout, that can be
            saved without the project's help; None where nothing was taken.
        """
        if not self.taken:
            return None
        if self._of_weights:
            return _copy(network, [total / len(self.taken) for total in self._kept])
        size = len(self._kept) // len(self.taken)
        members = [_copy(network, self._kept[begin : begin + size]) for begin in range(0, len(self._kept), size)]
        return members[0] if len(members) == 1 else _mean_of(members)


def _copy(network: keras.Model, weights: Sequence[NDArray[Any]]) -> keras.Model:
    """The network in single precision, with other weights."""
    copy = keras.models.clone_model(network, clone_function=_in_single_precision)
    copy.set_weights([each.astype(np.float32) for each in weights])
    return copy


def _in_single_precision(layer: keras.layers.Layer) -> keras.layers.Layer:
    return type(layer).from_config({**layer.get_config(), "dtype": "float32"})


def _mean_of(members: Sequence[keras.Model]) -> keras.Model:
    """One model whose outputs are the means of those of its members."""
    [image] = members[0].inputs
    inputs = keras.Input(image.shape[1:], name=image.name)
    outputs: list[Any] = []
    for number, member in enumerate(members, start=1):
        member.name = f"member{number}"
        outputs.append(member(inputs))
    if not isinstance(outputs[0], dict):
        return keras.Model(inputs, _mean("masks", outputs), name=NAME)
    named = {name: _mean(name, [output[name] for output in outputs]) for name in outputs[0]}
    return keras.Model(inputs, named, name=NAME)


def _mean(name: str, tensors: Sequence[Tensor]) -> Tensor:
    return keras.layers.Average(name=name, dtype="float32")(tensors)

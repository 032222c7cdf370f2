"""Several accelerators for one training: each takes its share of every batch, and all keep the same weights.

`data_parallel` surrounds a training. What is built inside it is on all its devices; the other functions of this file
look at where they are called, and leave everything as it is where there is one device.

A training on several devices is the training of one that takes the same batches, to the last digits of sums. JAX
divides the batch of one program, so nothing in it can tell. TensorFlow runs the program once on each device, with its
share of the batch; here the losses (also those over a whole batch, such as Dice), the statistics of batch normalisation
and the gradient that is clipped are made of all shares. Dropout alone differs with TensorFlow: each share has the same
random numbers, where one device would draw others for every patch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.backend import (
    check_data_parallel,
    gathered,
    mean_over_devices,
    num_programs,
    on_devices,
    split_between,
)
from search_space.candidate import Candidate
from search_space.errors import InfeasibleError, UnableError

Tensor = Any


@contextmanager
def data_parallel(num_devices: int, batch_size: int) -> Iterator[None]:
    """Build, compile, fit and validate on the first of the visible accelerators; on one as if this were not there.

    Args:
        num_devices: How many; where there is no accelerator, processors are taken as devices.
        batch_size: Patches per step, of all devices together.

    Raises:
        InfeasibleError: The batch cannot be divided between them.
        UnableError: There are fewer, or the backend is PyTorch.
    """
    if num_devices == 1:
        yield
        return
    check_data_parallel(keras.backend.backend())
    devices = keras.distribution.list_devices()
    if len(devices) < num_devices:
        raise UnableError(
            f"{num_devices} devices are asked for, and only {len(devices)} can be seen",
            received=", ".join(devices),
            remedy="Name as many with --gpus as shall share the work; `doctor` shows those there are",
        )
    if batch_size % num_devices:
        raise InfeasibleError(
            f"a batch of {batch_size} patches cannot be divided between {num_devices} devices",
            remedy=f"Take multiples of {num_devices} for plan.batch_size, or other --gpus-per-trial",
        )
    with on_devices(devices[:num_devices]):
        yield


def num_shares() -> int:
    """In how many shares each batch is divided here."""
    distribution = keras.distribution.distribution()
    return num_programs() if distribution is None else int(np.prod(distribution.device_mesh.shape))


def share_of(candidate: Candidate) -> Candidate:
    """The candidate with the batch that one device takes, to tell what the training asks of it."""
    plan = candidate.plan.model_copy(update={"batch_size": candidate.plan.batch_size // num_shares()})
    return candidate.model_copy(update={"plan": plan})


def can_halve(batch_size: int) -> bool:
    """Whether a batch can be taken in two halves here, one after the other.

    Not where each device runs a program of its own: TensorFlow's cannot wait for each other where Keras only sometimes
    takes a step.
    """
    return batch_size > 1 and num_programs() == 1 and -(-batch_size // 2) % num_shares() == 0


def share_training(trainee: keras.Model) -> None:
    """Let the devices make one training of a model that is compiled, before its first step.

    Where each device runs a program of its own, normalisation counts all shares of a batch, and gradients are those of
    the whole batch before they are clipped: Keras clips the gradient of each share by itself, and adds them up then.
    """
    num = num_programs()
    if num == 1:
        return
    # XLA compiles a step that exchanges nothing with other devices.
    trainee.jit_compile = False
    for layer in trainee._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            _count_all_shares(layer)
    # All is built: Keras would take a batch for that, and no other would come in its place.
    trainee._maybe_symbolic_build = lambda **_: None
    outer = trainee.optimizer
    inner = getattr(outer, "inner_optimizer", outer)
    # What Keras adds up later are `num` equal parts of the clipped gradient.
    for name in ("clipnorm", "global_clipnorm", "clipvalue"):
        if getattr(inner, name):
            setattr(inner, name, getattr(inner, name) / num)
    apply = outer.apply

    def apply_mean(grads: Any, trainable_variables: Any = None) -> Any:
        return apply(mean_over_devices(list(grads)), trainable_variables)

    outer.apply = apply_mean


def _count_all_shares(layer: keras.layers.BatchNormalization) -> None:
    """While it trains here: what is saved, or made after its image, knows of one device, as other backends must."""
    config = layer.get_config
    layer.synchronized = True
    layer.get_config = lambda: {**config(), "synchronized": False}


def whole_batch(tensors: Any) -> Any:
    """Within a step: the shares of all devices joined along the first axis, for a loss over the whole batch.

    Args:
        tensors: A tensor, or several in a dictionary; None stays None.
    """
    return keras.tree.map_structure(gathered, tensors) if num_programs() > 1 else tensors


def part_of_loss(loss: Tensor) -> Tensor:
    """Within a step: what a device's program says of a loss over the whole batch, so that all together say it once."""
    num = num_programs()
    return loss / ops.cast(num, loss.dtype) if num > 1 else loss


def shared_out(tiles: NDArray[np.float32]) -> Any:
    """Tiles `(N, T, T, B)` for `predict_on_batch`, a share for each device; up to a share more than there were."""
    num = num_shares()
    if num == 1:
        return tiles
    lacking = -len(tiles) % num
    filled = np.concatenate([tiles, np.repeat(tiles[-1:], lacking, axis=0)]) if lacking else tiles
    return split_between(filled)

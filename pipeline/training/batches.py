"""Batches that are made ahead: a thread draws and cuts them while the step before runs, and the waits are measured."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.backend import streamed
from pipeline.patches.on_device import plain_draws
from pipeline.patches.sampler import PatchSampler

Batch = tuple[Any, ...]

AHEAD = 3
"""So many batches wait at most: enough for steps and batches of uneven length, and little memory."""


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class Batches:
    """The batches of a whole training, in order; each is a function of its number, however far ahead it is made.

    Args:
        make: From the number of a batch, counted from the start of training, to what the network is fed.
        steps_per_epoch: Batches per epoch.
        epochs: The last batch is the last of so many epochs.
        begin: Epochs that are not wanted any more, as they were trained earlier.
        by_epoch: Whether nothing of an epoch may be made before it is opened, as what is drawn depends on those before.
        num_parts: Into how many parts each batch is divided; of a number of patches that this does not divide, some
            are in two of them, so that all parts are alike.

    Attributes:
        num_parts: As given.
        waited_s: How long the training has stood still for want of a batch, in seconds.
        failure: What went wrong in the thread; iterating raises it, which not every framework passes on as it is.
    """

    def __init__(
        self,
        make: Callable[[int], Batch],
        steps_per_epoch: int,
        epochs: int,
        *,
        begin: int = 0,
        by_epoch: bool = False,
        num_parts: int = 1,
    ) -> None:
        self.waited_s = 0.0
        self.failure: BaseException | None = None
        self._make = make
        self._steps = steps_per_epoch
        self._numbers = range(begin * steps_per_epoch, epochs * steps_per_epoch)
        self._open_to = begin * steps_per_epoch if by_epoch else epochs * steps_per_epoch
        self.num_parts = num_parts
        self._ready: deque[Batch | _Failure] = deque()
        self._is_closed = self._has_begun = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)

    def __enter__(self) -> "Batches":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._thread.join()

    def close(self) -> None:
        """Make no more; whoever still waits for one gets none."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def steps_per_epoch(self) -> int:
        """How many times the network is fed in an epoch."""
        return self._steps * self.num_parts

    def open(self, epoch: int) -> None:
        """Let the batches of an epoch, counted from 0, be made; with the first of them, training has begun."""
        self._has_begun = True
        with self._changed:
            self._open_to = max(self._open_to, (epoch + 1) * self._steps)
            self._changed.notify_all()

    def first(self) -> Batch:
        """What the first batch of all looks like; made by the caller's thread."""
        return next(self._parts(self._make(0)))

    def __iter__(self) -> Iterator[Batch]:
        """What the network is fed, one after the other.

        Before training has begun it is the first of all, however often: so a framework can see what it will be fed.

        Raises:
            Exception: Whatever making a batch raised.
        """
        for _ in self._numbers:
            while not self._has_begun:
                yield self.first()
            taken = self._take()
            if taken is None:
                return
            if isinstance(taken, _Failure):
                self.failure = taken.error
                raise taken.error
            yield from self._parts(taken)

    def _take(self) -> Batch | _Failure | None:
        started = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._is_closed)
            taken = self._ready.popleft() if self._ready else None
            self._changed.notify_all()
        self.waited_s += time.monotonic() - started
        return taken

    def _run(self) -> None:
        for number in self._numbers:
            if not self._is_wanted(number):
                return
            try:
                made: Batch | _Failure = self._make(number)
            except BaseException as error:  # noqa: BLE001  (raised in the training's thread)
                made = _Failure(error)
            with self._changed:
                self._ready.append(made)
                self._changed.notify_all()
            if isinstance(made, _Failure):
                return

    def _is_wanted(self, number: int) -> bool:
        """Wait until there is room for a batch and its epoch is open; False where no more are wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or (len(self._ready) < AHEAD and number < self._open_to))
            return not self._is_closed

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        for part in range(self.num_parts):
            yield keras.tree.map_structure(partial(_cut, part, self.num_parts), batch)


def _cut(part: int, num_parts: int, array: NDArray[Any]) -> NDArray[Any]:
    return array[part_of(len(array), part, num_parts)]


def part_of(size: int, part: int, num_parts: int) -> slice:
    """The patches of one of several parts of a batch, all of one size; neighbours share some where it must be."""
    part_size = -(-size // num_parts)
    begin = part * (size - part_size) // max(1, num_parts - 1)
    return slice(begin, begin + part_size)


class Feeder(keras.callbacks.Callback):  # type: ignore[misc]
    """Opens the epochs, and tells the sampler how hard each patch was.

    Losses count from the next epoch on: what is drawn ahead within an epoch must not depend on how far ahead.

    Args:
        batches: What the training is fed.
        sampler: What draws them.
        batch_size: Patches per batch where losses steer what is drawn, else 0.
    """

    def __init__(self, batches: Batches, sampler: PatchSampler, batch_size: int) -> None:
        super().__init__()
        self._batches = batches
        self._sampler = sampler
        self._batch_size = batch_size
        self._epoch = 0
        self._losses: list[Any] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Before anything of the epoch is drawn."""
        self._epoch = epoch
        if self._batch_size:
            self._sampler.settle()
        self._batches.open(epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Read the losses of the step back.

        That there is something to do here has Keras wait for each step, without which waits could not be measured.
        """
        if not self._batch_size:
            return
        self._losses.append(self.model.patch_losses)
        num_parts = self._batches.num_parts
        if len(self._losses) == num_parts:
            number = (self._epoch * self._batches.steps_per_epoch + batch) // num_parts
            self._sampler.record(number, joined(self._losses, self._batch_size))
            self._losses = []


class _Stepwise(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches in the order in which Keras asks for them."""

    def __init__(self, batches: Batches) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._steps = batches.steps_per_epoch
        self._batches = iter(batches)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        return next(self._batches)


def fed(batches: Batches) -> Any:
    """The batches as `fit` takes them, with nothing made ahead but by their own thread."""
    dataset = streamed(lambda: iter(batches), batches.first)
    return _Stepwise(batches) if dataset is None else dataset


def joined(parts: list[Any], size: int) -> Any:
    """What the parts of a batch tell of its patches, `(size,)`; the inverse of `part_of`."""
    whole = np.empty(size, np.float32)
    for number, part in enumerate(parts):
        whole[part_of(size, number, len(parts))] = part
    return whole


def maker(sampler: PatchSampler, drawn_px: int | None) -> Callable[[int], Batch]:
    """What makes a batch of its number.

    Args:
        sampler: Draws and cuts.
        drawn_px: Patch size where draws are wanted, which the device cuts; None for patches.
    """
    if drawn_px is None:
        return sampler.batch
    return lambda number: (plain_draws(sampler.draw(number), drawn_px),)

"""The course of a training: which epochs are validated, what is told of each, when it ends, and what is kept of it."""

import errno
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import psutil
from numpy.typing import NDArray

from pipeline.networks.prediction import NoNumbersError
from pipeline.training.averaging import Snapshots, averaged
from pipeline.training.batches import Batches
from pipeline.training.checkpoint import Best, Checkpoint, Snapshot, fits
from pipeline.training.optimisation import current_rate, falls_now, scale_rate
from pipeline.training.trainee import Trainee
from pipeline.validation.whole_ground import Validation
from search_space.errors import MapgroveError
from search_space.objective import EpochReport
from search_space.optimisation import PlateauRate
from search_space.study import Budget
from search_space.training_plan import TrainingPlan

_log = logging.getLogger(__name__)

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class DivergedError(MapgroveError):
    """The training loss, or what the network predicts, is no longer a number."""


@dataclass(frozen=True)
class Course:
    """What is to happen after which epoch; nothing but the reports so far decides, so a resumed training agrees.

    Attributes:
        plan: Its patience and its schedule count.
        budget: The whole training.
        validate_every: After so many epochs there is a validation; after the last there always is.
    """

    plan: TrainingPlan
    budget: Budget
    validate_every: int = 1

    def is_validated(self, epoch: int) -> bool:
        """Whether there is a validation after an epoch, counted from 1."""
        return epoch % self.validate_every == 0 or epoch == self.budget.epochs

    def has_ended(self, reports: Sequence[EpochReport]) -> bool:
        """Whether no further epoch is trained: all are, or so many as `patience` tells were no better than the best."""
        if len(reports) >= self.budget.epochs:
            return True
        scored = [report for report in reports if report.mean_jaccard is not None]
        if not self.plan.patience or not scored or not reports[-1].jaccard:
            return False
        # Of equals the first is the best, as it is the one that is kept.
        best = max(scored, key=lambda report: (report.mean_jaccard, -report.epoch))
        return reports[-1].epoch - best.epoch >= self.plan.patience

    def falls(self, reports: Sequence[EpochReport]) -> float | None:
        """What is left of the learning rate after the last epoch; None where it stays."""
        schedule = self.plan.schedule
        if not isinstance(schedule, PlateauRate):
            return None
        scores = [math.nan if report.mean_jaccard is None else report.mean_jaccard for report in reports]
        return schedule.factor if falls_now(scores, schedule.patience) else None


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        reports: One per epoch so far.
        best: The best validated epoch so far.
        snapshots: Weights that are to be averaged.
        before_s: How long earlier attempts have trained, in seconds.
        diverged_in: The epoch that had no numbers any more; 0 for none.
    """

    reports: list[EpochReport]
    best: Best | None
    snapshots: Snapshots
    before_s: float = 0.0
    diverged_in: int = 0


class EpochWatcher(keras.callbacks.Callback):  # type: ignore[misc]
    """Validates after epochs, reports, and keeps the best weights; ends a training that gets no better.

    Args:
        network: What is trained, whose weights count.
        course: When to do what.
        progress: Goes on with every epoch.
        batches: Tells how long the training waited for it.
        validated: Validates the network as it is.
        on_epoch: Told of each epoch.
    """

    def __init__(
        self,
        network: keras.Model,
        course: Course,
        progress: Progress,
        batches: Batches,
        validated: Callable[[], Validation],
        on_epoch: Callable[[EpochReport], None],
    ) -> None:
        super().__init__()
        self._network = network
        self._course = course
        self._progress = progress
        self._batches = batches
        self._validated = validated
        self._on_epoch = on_epoch
        self._started = self._waited_s = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Start the clock."""
        self._started, self._waited_s = time.monotonic(), self._batches.waited_s

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Validate, report, remember, decide.

        Raises:
            DivergedError: The loss, a part of it, or what the network predicts is NaN or infinite.
        """
        try:
            self._end(epoch + 1, dict(logs or {}))
        except BaseException:
            # A framework that fetches batches in a thread of its own would wait for the next one for ever.
            self._batches.close()
            raise

    def _end(self, number: int, parts: dict[str, float]) -> None:
        trained_s, progress = time.monotonic() - self._started, self._progress
        loss = parts.pop("loss", math.nan)
        if not math.isfinite(loss):
            wrong = [name for name, value in parts.items() if not math.isfinite(value)]
            of_which = f" ({', '.join(wrong)})" if wrong else ""
            raise DivergedError(f"the training loss is {loss} after epoch {number}{of_which}")
        validation, validation_s = self._validate(number)
        progress.snapshots.look(number, self._network)
        plan, budget = self._course.plan, self._course.budget
        report = EpochReport(
            epoch=number,
            training_loss=loss,
            jaccard=validation.jaccard if validation else {},
            seconds=round(time.monotonic() - self._started, 3),
            loss_parts=parts,
            learning_rate=current_rate(self.model.optimizer),
            patches_per_s=round(budget.steps_per_epoch * plan.batch_size / trained_s, 3),
            data_wait_share=round(min(1.0, (self._batches.waited_s - self._waited_s) / trained_s), 4),
            validation_s=validation_s,
            memory_mb=round(psutil.Process().memory_info().rss / 1e6, 1),
        )
        progress.reports.append(report)
        if (factor := self._course.falls(progress.reports)) is not None:
            scale_rate(self.model.optimizer, factor)
        self._on_epoch(report)
        if self._course.has_ended(progress.reports):
            self.model.stop_training = True

    def _validate(self, epoch: int) -> tuple[Validation | None, float | None]:
        """The validation, if there is one after this epoch, and how long it took; the best is kept."""
        if not self._course.is_validated(epoch):
            return None, None
        return _validate(epoch, self._network, self.model.optimizer, self._progress, self._validated)


def _validate(
    epoch: int,
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    progress: Progress,
    validated: Callable[[], Validation],
) -> tuple[Validation, float]:
    """Validate the network after an epoch; how long it took, in seconds. The best is kept."""
    started, best = time.monotonic(), progress.best
    with averaged(network, optimizer):
        try:
            validation = validated()
        except NoNumbersError as error:
            raise DivergedError(
                f"the network predicts NaN or infinity after epoch {epoch}, though its training loss is a number"
            ) from error
        if best is None or validation.mean_jaccard > best.validation.mean_jaccard:
            progress.best = Best(epoch, validation, network.get_weights())
    return validation, round(time.monotonic() - started, 3)


def validate_last(
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    progress: Progress,
    validated: Callable[[], Validation],
) -> None:
    """Validate the last epoch of a training that went on only to find that it has ended, unless it was validated.

    It was trained as one of more epochs, of which another would have been the last.

    Args:
        network: As it is after this epoch.
        optimizer: What has trained it.
        progress: What is reported of the epoch, and the best one, change.
        validated: Validates the network as it is.
    """
    last = progress.reports[-1]
    if last.jaccard:
        return
    validation, validation_s = _validate(last.epoch, network, optimizer, progress, validated)
    seconds = round(last.seconds + validation_s, 3)
    known = {"jaccard": validation.jaccard, "validation_s": validation_s, "seconds": seconds}
    progress.reports[-1] = last.model_copy(update=known)


class Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps a checkpoint after each epoch; the last of the callbacks.

    A full disk costs no training: it goes on without, which is told once.

    Args:
        checkpoint: Where.
        trainee: What is trained.
        progress: How far it is.
        seen_losses: What the sampler remembers.
        num_parts: Into how many parts batches are divided.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        trainee: Trainee,
        progress: Progress,
        seen_losses: Callable[[], NDArray[np.float64]],
        num_parts: int,
    ) -> None:
        super().__init__()
        self._checkpoint = checkpoint
        self._trainee = trainee
        self._progress = progress
        self._seen_losses = seen_losses
        self._num_parts = num_parts
        self._started = time.monotonic()
        self._is_full = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Write all that the next epoch depends on."""
        optimizer, progress = self._trainee.optimizer, self._progress
        snapshot = Snapshot(
            reports=tuple(progress.reports),
            best=progress.best,
            variables=values_of(self._trainee.state),
            optimizer=values_of(optimizer.variables),
            optimizer_names=_names(optimizer),
            patch_losses=self._seen_losses(),
            train_s=progress.before_s + time.monotonic() - self._started,
            num_parts=self._num_parts,
            collected=progress.snapshots.arrays(),
        )
        try:
            self._checkpoint.save(snapshot)
            self._is_full = False
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            if not self._is_full:
                path, why = self._checkpoint.path, error.strerror
                self._checkpoint.warn(f"{path}: training goes on, but is not kept: {why}")
            self._is_full = True


def restore(snapshot: Snapshot, trainee: Trainee, num_parts: int, place: str) -> bool:
    """Give a network in training, and its optimizer, the state that a snapshot holds.

    Args:
        snapshot: Of the same training; its batches may have been divided into fewer parts.
        trainee: Just built and compiled.
        num_parts: Into how many parts its batches are divided.
        place: Where the snapshot is from, for the log.

    Returns:
        Whether it is done; False, which is told, where the arrays are those of another architecture.
    """
    variables, optimizer = trainee.state, trainee.optimizer.variables
    carried = snapshot.optimizer
    if snapshot.num_parts != num_parts:
        carried = _carried(snapshot, trainee.optimizer, num_parts)
    held = Snapshot(**{**vars(snapshot), "optimizer": carried})
    if not fits(held, values_of(variables), values_of(optimizer)):
        _log.warning("%s: not used: its weights are those of another architecture", place)
        return False
    for variable, value in zip((*variables, *optimizer), (*held.variables, *held.optimizer), strict=True):
        variable.assign(value)
    return True


def _carried(snapshot: Snapshot, optimizer: keras.optimizers.Optimizer, num_parts: int) -> list[NDArray[Any]]:
    """The optimizer's state where a step takes more parts of a batch than before: it counts parts, and adds them up."""
    kept = dict(zip(snapshot.optimizer_names, snapshot.optimizer, strict=True))
    carried = []
    for name, own in zip(_names(optimizer), values_of(optimizer.variables), strict=True):
        value = kept.get(name, own)
        carried.append(value * num_parts // snapshot.num_parts if name.endswith("iteration") else value)
    return carried


def _names(optimizer: keras.optimizers.Optimizer) -> list[str]:
    """Of an optimizer's variables, without that of the optimizer itself, which Keras numbers."""
    return [variable.path.partition("/")[2] for variable in optimizer.variables]


def values_of(variables: Sequence[Any]) -> list[NDArray[Any]]:
    """What variables of any backend hold."""
    return [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in variables]

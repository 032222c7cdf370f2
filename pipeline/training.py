"""Training: a candidate and labelled scenes in, the best model of its budget out."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.backend import free_device_bytes
from pipeline.builder import build_model
from pipeline.checkpoint import Best, Checkpoint, Snapshot, fits
from pipeline.losses import MixedLoss
from pipeline.patches.on_device import PatchCutter, fits_on_device, plain_draws
from pipeline.patches.sampler import PatchSampler
from pipeline.patches.scenes import TrainingScene
from pipeline.pretrained import load_pretrained
from pipeline.trainee import Trainee
from pipeline.validation import Validation, validate
from search_space.candidate import Candidate
from search_space.errors import MapgroveError
from search_space.network.cost import check_cost
from search_space.network.unet import InputBand
from search_space.objective import EpochReport
from search_space.study import Budget, LimitSettings

GRADIENT_NORM = 1.0


class DivergedError(MapgroveError):
    """The training loss is no longer a number."""


@dataclass(frozen=True)
class Trained:
    """A model at its best epoch.

    Attributes:
        model: With the weights of the epoch whose validation was best.
        validation: What it reached there.
        reports: One per epoch.
        figures: `num_parameters`, `train_s`, `patches_per_s`, `best_epoch`.
    """

    model: keras.Model
    validation: Validation
    reports: tuple[EpochReport, ...]
    figures: dict[str, float]


def train(
    candidate: Candidate,
    training: Sequence[TrainingScene],
    validation: Sequence[TrainingScene],
    class_names: Sequence[str],
    bands: Sequence[InputBand],
    budget: Budget,
    *,
    seed: int,
    limits: LimitSettings,
    on_epoch: Callable[[EpochReport], None],
    on_restored: Callable[[Sequence[EpochReport]], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train a candidate from scratch, or from where it was cut off.

    Args:
        candidate: What to build and how to train it.
        training: Scenes to draw patches from.
        validation: Scenes that rank the epochs and choose the thresholds.
        class_names: Names of the trained classes, in the order of the scenes' `classes`.
        bands: Those of the scenes' cubes.
        budget: Epochs and steps.
        seed: Of weights, patches and dropout.
        limits: How large a network may be, and where patches are cut.
        on_epoch: Told after each epoch that is trained here.
        on_restored: Told of the epochs before them, where training goes on from a checkpoint.
        checkpoint: Written after each epoch, and gone on from where it is of the same training: to the same weights,
            on one backend and machine, as without the interruption. Whoever has kept the result removes it.

    Returns:
        The model of the best epoch: highest mean validation Jaccard.

    Raises:
        InfeasibleError: The network has too many parameters, the patch does not fit it, or held-out ground leaves no
            room for patches.
        DivergedError: The training loss became NaN or infinite.
    """
    candidate.check_feasible()
    keras.utils.set_random_seed(seed % 2**32)
    architecture = candidate.architecture
    check_cost(candidate, bands, len(class_names), limits, budget, free_device_bytes())
    model = build_model(architecture, bands, len(class_names))
    load_pretrained(model, architecture, architecture.bands or [band.name for band in bands])
    plan = candidate.plan
    sampler = PatchSampler(training, plan, seed, candidate.context_px(), class_names)
    cutter = PatchCutter(training, plan) if _cuts_on_device(training, limits.patches_on) else None
    records_losses = plan.sampling.kind == "loss"
    trainee = Trainee(
        model,
        MixedLoss(plan.loss, plan.loss_details, class_names),
        margin_px=architecture.margin_px,
        cutter=cutter,
        batch_size=plan.batch_size if records_losses else 0,
    )
    optimizer = OPTIMIZERS[plan.optimizer](learning_rate=plan.learning_rate, clipnorm=GRADIENT_NORM)
    # Were its variables made within the first step, TensorFlow would trace that step twice.
    optimizer.build(trainee.trainable_variables)
    trainee.compile(optimizer=optimizer)
    batches = _Batches(sampler, budget.steps_per_epoch, plan.patch_px if cutter else None)
    watcher = _EpochWatcher(model, validation, class_names, plan.patch_px, architecture.margin_px, on_epoch)
    callbacks = [_Feeder(batches, sampler, records_losses), watcher]
    begun_s = 0.0
    if checkpoint is not None:
        keeper = _Keeper(
            checkpoint.with_more(_essence(candidate, class_names, bands, budget, seed, cutter is not None)),
            trainee,
            sampler,
            watcher,
        )
        begun_s = keeper.restore()
        if watcher.reports:
            on_restored(watcher.reports)
        callbacks.append(keeper)
    started = time.monotonic() - begun_s
    trainee.fit(
        batches, initial_epoch=len(watcher.reports), epochs=budget.epochs, shuffle=False, verbose=0, callbacks=callbacks
    )
    seconds = time.monotonic() - started
    if watcher.best is None:
        raise DivergedError("training ended without a validated epoch")
    model.set_weights(watcher.best.weights)
    num_patches = budget.epochs * budget.steps_per_epoch * plan.batch_size
    figures = {
        "num_parameters": float(model.count_params()),
        "train_s": round(seconds, 2),
        "patches_per_s": round(num_patches / seconds, 2),
        "best_epoch": float(watcher.best.epoch),
    }
    return Trained(model, watcher.best.validation, tuple(watcher.reports), figures)


def _cuts_on_device(scenes: Sequence[TrainingScene], patches_on: str) -> bool:
    return patches_on == "device" or (patches_on == "auto" and fits_on_device(scenes, free_device_bytes()))


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """The sampler as Keras wants it; batch numbers run on through the epochs.

    Args:
        sampler: Draws and cuts.
        steps_per_epoch: Batches per epoch.
        drawn_px: Patch size where draws are wanted, which the device cuts; None for patches.
    """

    def __init__(self, sampler: PatchSampler, steps_per_epoch: int, drawn_px: int | None) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.epoch = 0
        self._sampler = sampler
        self._steps = steps_per_epoch
        self._drawn_px = drawn_px

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> tuple[Any, ...]:
        number = self.number(step)
        if self._drawn_px is None:
            return self._sampler.batch(number)
        return (plain_draws(self._sampler.draw(number), self._drawn_px),)

    def number(self, step: int) -> int:
        """Number of the batch of a step of this epoch, counted from the start of training."""
        return self.epoch * self._steps + step


class _Feeder(keras.callbacks.Callback):  # type: ignore[misc]
    """Tells the batches their epoch, which Keras does not, and the sampler how hard each patch was.

    Losses count from the next epoch on: what is drawn ahead within an epoch must not depend on how far ahead.
    """

    def __init__(self, batches: _Batches, sampler: PatchSampler, records_losses: bool) -> None:
        super().__init__()
        self._batches = batches
        self._sampler = sampler
        self._records_losses = records_losses

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Before anything of the epoch is drawn."""
        self._sampler.settle()
        self._batches.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Read the losses of the step back."""
        if self._records_losses:
            self._sampler.record(self._batches.number(batch), self.model.patch_losses)


class _EpochWatcher(keras.callbacks.Callback):  # type: ignore[misc]
    """Validates after each epoch, reports, and keeps the best weights."""

    def __init__(
        self,
        network: keras.Model,
        scenes: Sequence[TrainingScene],
        class_names: Sequence[str],
        tile_px: int,
        margin_px: int,
        on_epoch: Callable[[EpochReport], None],
    ) -> None:
        super().__init__()
        self.best: Best | None = None
        self.reports: list[EpochReport] = []
        self._network = network
        self._scenes = scenes
        self._class_names = class_names
        self._tile_px, self._margin_px = tile_px, margin_px
        self._on_epoch = on_epoch
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Start the clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Validate, report, remember."""
        loss = float((logs or {}).get("loss", math.nan))
        if not math.isfinite(loss):
            raise DivergedError(f"the training loss is {loss} after epoch {epoch + 1}")
        validation = validate(
            self._network, self._scenes, self._class_names, tile_px=self._tile_px, margin_px=self._margin_px
        )
        report = EpochReport(
            epoch=epoch + 1,
            training_loss=loss,
            jaccard=validation.jaccard,
            seconds=round(time.monotonic() - self._started, 3),
        )
        self.reports.append(report)
        if self.best is None or validation.mean_jaccard > self.best.validation.mean_jaccard:
            self.best = Best(epoch + 1, validation, self._network.get_weights())
        self._on_epoch(report)


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps a checkpoint after each epoch; the last of the callbacks."""

    def __init__(self, checkpoint: Checkpoint, trainee: Trainee, sampler: PatchSampler, watcher: _EpochWatcher) -> None:
        super().__init__()
        self._checkpoint = checkpoint
        self._trainee = trainee
        self._sampler = sampler
        self._watcher = watcher
        self._started = time.monotonic()

    def restore(self) -> float:
        """Go on from the checkpoint where there is one of this training; return how long that took, in seconds."""
        snapshot = self._checkpoint.load()
        optimizer = self._trainee.optimizer
        if snapshot is None or not fits(snapshot, _values(self._trainee.variables), _values(optimizer.variables)):
            return 0.0
        for variables, values in (
            (self._trainee.variables, snapshot.variables),
            (optimizer.variables, snapshot.optimizer),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        self._sampler.seen_losses = snapshot.patch_losses
        self._watcher.best = snapshot.best
        self._watcher.reports[:] = snapshot.reports
        self._started -= snapshot.train_s
        return snapshot.train_s

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Write all that the next epoch depends on."""
        if self._watcher.best is None:
            return
        snapshot = Snapshot(
            reports=tuple(self._watcher.reports),
            best=self._watcher.best,
            variables=_values(self._trainee.variables),
            optimizer=_values(self._trainee.optimizer.variables),
            patch_losses=self._sampler.seen_losses,
            train_s=time.monotonic() - self._started,
        )
        self._checkpoint.save(snapshot)


def _values(variables: Sequence[Any]) -> list[NDArray[Any]]:
    return [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _essence(
    candidate: Candidate,
    class_names: Sequence[str],
    bands: Sequence[InputBand],
    budget: Budget,
    seed: int,
    cuts_on_device: bool,
) -> dict[str, Any]:
    """What the weights depend on, beside the scenes; the number of epochs is no part of it."""
    return {
        "candidate": candidate.fingerprint,
        "classes": list(class_names),
        "bands": [[band.name, band.level] for band in bands],
        "steps_per_epoch": budget.steps_per_epoch,
        "seed": seed,
        "cuts_on_device": cuts_on_device,
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
    }


OPTIMIZERS: dict[str, type[keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
}

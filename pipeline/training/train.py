"""Training: a candidate and labelled scenes in, the best model of its budget out."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import keras

from pipeline.backend import compile_choice, free_device_bytes
from pipeline.models.pretrained import load_pretrained
from pipeline.networks.builder import build_model
from pipeline.networks.devices import can_halve, share_of, share_training
from pipeline.networks.prediction import masks_only
from pipeline.patches.on_device import PatchCutter, fits_on_device
from pipeline.patches.sampler import PatchSampler
from pipeline.patches.scenes import TrainingScene
from pipeline.training.averaging import Snapshots
from pipeline.training.batches import Batches, Feeder, fed, maker
from pipeline.training.checkpoint import Checkpoint, Snapshot
from pipeline.training.course import Course, DivergedError, EpochWatcher, Keeper, Progress, restore, validate_last
from pipeline.training.event_log import EventLog
from pipeline.training.losses import MixedLoss
from pipeline.training.optimisation import make_optimizer
from pipeline.training.precision import chosen_policy, computing_in, scaled_for
from pipeline.training.trainee import Trainee
from pipeline.validation.validation_cost import epochs_per_validation
from pipeline.validation.whole_ground import Validation, validate
from search_space.candidate import Candidate
from search_space.errors import InfeasibleError, is_out_of_memory
from search_space.network.cost import check_cost
from search_space.network.unet import InputBand
from search_space.objective import EpochReport
from search_space.study import MIXED, Budget, LimitSettings

__all__ = ["DivergedError", "Trained", "train"]

_log = logging.getLogger(__name__)

_Done = TypeVar("_Done")


@dataclass(frozen=True)
class Trained:
    """A model at its best.

    Attributes:
        model: With the weights of the epoch whose validation was best, or with the mean of several where that is
            better; in single precision.
        validation: What it reached.
        reports: One per epoch.
        figures: `num_parameters`, `train_s`, `patches_per_s`, `best_epoch`; `validation_share`, of the time of all
            epochs; `num_averaged`, where several sets of weights make the model; `num_batch_parts`, where a whole batch
            took too much memory; `diverged_in_epoch`, where the training ended there.
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
    initialise: Callable[[keras.Model], None] | None = None,
    keeps_best: bool = False,
    events: Path | None = None,
) -> Trained:
    """Train a candidate from scratch, from given weights, or from where it was cut off.

    Args:
        candidate: What to build and how to train it.
        training: Scenes to draw patches from.
        validation: Scenes that rank the epochs and choose the thresholds.
        class_names: Names of the trained classes, in the order of the scenes' `classes`.
        bands: Those of the scenes' cubes.
        budget: Epochs and steps.
        seed: Of weights, patches and dropout.
        limits: How large a network may be, where patches are cut, and what networks compute in.
        on_epoch: Told after each epoch that is trained here.
        on_restored: Told of the epochs before them, where training goes on from a checkpoint.
        checkpoint: Written after each epoch, and gone on from where it is of the same training: to the same weights,
            on one backend and machine that cuts patches where it did, as without the interruption. Whoever has kept
            the result removes it.
        initialise: Gives the new network its first weights, after those of a published encoder. What they depend on
            belongs into `checkpoint.about`.
        keeps_best: Whether a training that diverges ends with its best epoch before, if it has one.
        events: A folder for what TensorBoard shows; None for none.

    Returns:
        The model of the best epoch: highest mean validation Jaccard. Or the mean of snapshots, where that has a
        higher one and there is the memory to find out.

    Raises:
        InfeasibleError: The network has too many parameters, the patch does not fit it, held-out ground leaves no
            room for patches, or a step takes more memory than there is, with half a batch at a time, too.
        DivergedError: The training loss became NaN or infinite, and no epoch before it is kept.
    """
    candidate.check_feasible()
    check_cost(share_of(candidate), bands, len(class_names), limits, budget, free_device_bytes())
    policy = chosen_policy(limits.precision)
    every = epochs_per_validation(candidate, validation, budget, is_mixed=policy in MIXED)
    cuts_on_device = _cuts_on_device(training, limits.patches_on)
    if checkpoint is not None:
        about = _essence(candidate, class_names, bands, budget, every, seed)
        # Where "auto" cuts patches depends on what else the accelerator holds now: no reason to lose epochs.
        checkpoint = checkpoint.with_more({**about, "patches_on": limits.patches_on, "policy": policy})
    attempt = _Attempt(
        candidate=candidate,
        training=training,
        validation=validation,
        class_names=tuple(class_names),
        bands=tuple(bands),
        course=Course(candidate.plan, budget, every),
        seed=seed,
        policy=policy,
        cuts_on_device=cuts_on_device,
        checkpoint=checkpoint,
        initialise=initialise,
        keeps_best=keeps_best,
        on_epoch=on_epoch,
        on_restored=on_restored,
    )
    if events is None:
        return _with_memory(attempt)
    with EventLog(events) as log:

        def told(report: EpochReport) -> None:
            log.add(report)
            on_epoch(report)

        def told_again(reports: Sequence[EpochReport]) -> None:
            log.restore(reports)
            on_restored(reports)

        return _with_memory(replace(attempt, on_epoch=told, on_restored=told_again))


def _cuts_on_device(scenes: Sequence[TrainingScene], patches_on: str) -> bool:
    return patches_on == "device" or (patches_on == "auto" and fits_on_device(scenes, free_device_bytes()))


def _validation_share(reports: Sequence[EpochReport]) -> float:
    """By the clock: what the plan of validations comes to here."""
    seconds = sum(report.seconds for report in reports)
    return round(sum(report.validation_s or 0.0 for report in reports) / seconds, 4) if seconds else 0.0


def _essence(
    candidate: Candidate, class_names: Sequence[str], bands: Sequence[InputBand], budget: Budget, every: int, seed: int
) -> dict[str, Any]:
    """What the weights depend on, beside the scenes.

    The number of epochs is part of it where the plan counts in shares. And where validations steer the plan and only
    some epochs have one: which these are follows from it.
    """
    plan = candidate.plan
    is_steered = every > 1 and (plan.patience > 0 or plan.schedule.kind == "plateau")
    return {
        "candidate": candidate.fingerprint,
        "classes": list(class_names),
        "bands": [[band.name, band.level] for band in bands],
        "steps_per_epoch": budget.steps_per_epoch,
        "epochs": budget.epochs if plan.depends_on_length or is_steered else None,
        "seed": seed,
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
    }


def _unless_memory_runs_out(done: Callable[[], _Done], instead: str) -> _Done | None:
    """What is done; None where it takes more memory than there is, which is told with what is so instead."""
    try:
        return done()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    _log.warning("out of memory at the end of the training: %s", instead)
    return None


def _with_memory(attempt: "_Attempt") -> Trained:
    """Train; where the memory does not suffice, with half a batch at a time from the last checkpoint on."""
    kept, batch_size = attempt.kept(), attempt.candidate.plan.batch_size
    halves = can_halve(batch_size)
    begun_with, reason = kept.num_parts if kept is not None and halves else 1, ""
    for num_parts in (1, 2) if begun_with == 1 and halves else (begun_with,):
        if num_parts > begun_with:
            _log.warning("out of memory: batches of %d patches are taken in two halves from now on", batch_size)
            kept = attempt.kept()
        try:
            return attempt.run(kept, num_parts)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # The error itself, and with it the network that its traceback holds, is gone before the next try.
            reason = " ".join(str(error).split())[:200]
    patches = f"{-(-batch_size // 2) if halves else batch_size} at a time of {attempt.candidate.plan.patch_px} px"
    raise InfeasibleError(
        f"memory: patches, {patches}, take more than there is",
        received=reason,
        remedy="Take smaller patches or batches, or fewer filters",
    )


@dataclass(frozen=True)
class _Attempt:
    """A training, all but how far it is and into how many parts its batches are divided."""

    candidate: Candidate
    training: Sequence[TrainingScene]
    validation: Sequence[TrainingScene]
    class_names: tuple[str, ...]
    bands: tuple[InputBand, ...]
    course: Course
    seed: int
    policy: str
    cuts_on_device: bool
    checkpoint: Checkpoint | None
    initialise: Callable[[keras.Model], None] | None
    keeps_best: bool
    on_epoch: Callable[[EpochReport], None]
    on_restored: Callable[[Sequence[EpochReport]], None]

    def kept(self) -> Snapshot | None:
        """What the checkpoint holds of this training."""
        return self.checkpoint.load() if self.checkpoint is not None else None

    def run(self, kept: Snapshot | None, num_parts: int) -> Trained:
        """Train from a snapshot on, if there is one that fits, to the end."""
        plan, course = self.candidate.plan, self.course
        keras.utils.set_random_seed(self.seed % 2**32)
        network = self._network()
        sampler = PatchSampler(self.training, plan, self.seed, self.candidate.context_px(), self.class_names)
        trainee = self._trainee(network, num_parts)
        progress = Progress([], None, Snapshots(plan, course.budget))
        if kept is not None and self.checkpoint and restore(kept, trainee, num_parts, str(self.checkpoint.path)):
            progress.reports, progress.best, progress.before_s = list(kept.reports), kept.best, kept.train_s
            progress.snapshots.restore(kept.collected)
            sampler.seen_losses = kept.patch_losses
        started = time.monotonic()
        try:
            if progress.reports:
                self._told_again(trainee, progress)
            if not course.has_ended(progress.reports):
                self._fit(trainee, sampler, progress, num_parts)
        except DivergedError as error:
            if progress.best is None or not self.keeps_best:
                raise
            _log.warning("%s Epoch %d is kept", error, progress.best.epoch)
            # What has all its epochs diverged in the validation of the last.
            progress.diverged_in = len(progress.reports) + (not course.has_ended(progress.reports))
        return self._finished(network, progress, progress.before_s + time.monotonic() - started, num_parts)

    def _told_again(self, trainee: Trainee, progress: Progress) -> None:
        """Tell of the epochs that an earlier attempt trained, the last of all with its validation."""
        try:
            if self.course.has_ended(progress.reports):
                validated = partial(self._validated, masks_only(trainee.network))
                validate_last(trainee.network, trainee.optimizer, progress, validated)
        finally:
            self.on_restored(progress.reports)

    def _network(self) -> keras.Model:
        architecture = self.candidate.architecture
        with computing_in(self.policy):
            network = build_model(architecture, self.bands, len(self.class_names))
        load_pretrained(network, architecture, architecture.bands or [band.name for band in self.bands])
        if self.initialise is not None:
            self.initialise(network)
        return network

    def _trainee(self, network: keras.Model, num_parts: int) -> Trainee:
        plan = self.candidate.plan
        trainee = Trainee(
            network,
            MixedLoss(plan.loss, plan.loss_details, self.class_names),
            margin_px=self.candidate.architecture.margin_px,
            cutter=PatchCutter(self.training, plan) if self.cuts_on_device else None,
            batch_size=-(-plan.batch_size // num_parts) if plan.sampling.kind == "loss" else 0,
        )
        optimizer = scaled_for(self.policy, make_optimizer(plan, self.course.budget, accumulate=num_parts))
        # Were its variables made within the first step, TensorFlow would trace that step twice.
        optimizer.build(trainee.trainable_variables)
        trainee.compile(optimizer=optimizer, jit_compile=compile_choice())
        share_training(trainee)
        return trainee

    def _fit(self, trainee: Trainee, sampler: PatchSampler, progress: Progress, num_parts: int) -> None:
        plan, budget = self.candidate.plan, self.course.budget
        by_losses, begin = plan.sampling.kind == "loss", len(progress.reports)
        batches = Batches(
            maker(sampler, plan.patch_px if self.cuts_on_device else None),
            budget.steps_per_epoch,
            budget.epochs,
            begin=begin,
            by_epoch=by_losses,
            num_parts=num_parts,
        )
        validated = partial(self._validated, masks_only(trainee.network))
        callbacks = [
            Feeder(batches, sampler, plan.batch_size if by_losses else 0),
            EpochWatcher(trainee.network, self.course, progress, batches, validated, self.on_epoch),
        ]
        if self.checkpoint is not None:
            keeper = Keeper(self.checkpoint, trainee, progress, lambda: sampler.seen_losses, num_parts)
            callbacks.append(keeper)
        try:
            with batches:
                trainee.fit(
                    fed(batches),
                    initial_epoch=begin,
                    epochs=budget.epochs,
                    steps_per_epoch=batches.steps_per_epoch,
                    shuffle=False,
                    verbose=0,
                    callbacks=callbacks,
                )
        except Exception:
            # What making a batch raised, the framework may tell in words of its own.
            if batches.failure is not None:
                raise batches.failure from None
            raise

    def _validated(self, model: keras.Model) -> Validation:
        plan, margin_px = self.candidate.plan, self.candidate.architecture.margin_px
        return validate(model, self.validation, self.class_names, tile_px=plan.patch_px, margin_px=margin_px)

    def _mean(self, network: keras.Model, snapshots: Snapshots) -> tuple[keras.Model, Validation] | None:
        """The one model of all snapshots, and what it reaches; None where there are none."""
        model = snapshots.model(network)
        return None if model is None else (model, self._validated(model))

    def _finished(self, network: keras.Model, progress: Progress, seconds: float, num_parts: int) -> Trained:
        """The best epoch, or the mean of several snapshots where that is better and all went well."""
        best, num_averaged = progress.best, 0
        plan, budget = self.candidate.plan, self.course.budget
        if best is None:
            raise DivergedError("training ended without a validated epoch")
        network.set_weights(best.weights)
        model, validation = network, best.validation
        if self.policy in MIXED:
            model = build_model(self.candidate.architecture, self.bands, len(self.class_names))
            model.set_weights(best.weights)
            in_single = _unless_memory_runs_out(partial(self._validated, model), "its score is that in half precision")
            validation = in_single or validation
        # Of a training that diverged the last snapshot may hold no numbers.
        snapshots = Snapshots(plan, budget) if progress.diverged_in else progress.snapshots
        mean = _unless_memory_runs_out(
            partial(self._mean, network, snapshots), f"epoch {best.epoch} is kept, and no mean of snapshots"
        )
        if mean is not None and mean[1].mean_jaccard > validation.mean_jaccard:
            model, validation, num_averaged = *mean, len(snapshots.taken)
        num_patches = len(progress.reports) * budget.steps_per_epoch * plan.batch_size
        figures = {
            "num_parameters": float(model.count_params()),
            "train_s": round(seconds, 2),
            "patches_per_s": round(num_patches / seconds, 2),
            "validation_share": _validation_share(progress.reports),
            "best_epoch": float(best.epoch if not num_averaged else snapshots.taken[-1]),
        }
        more = {
            "num_averaged": num_averaged,
            "num_batch_parts": num_parts if num_parts > 1 else 0,
            "diverged_in_epoch": progress.diverged_in,
        }
        figures |= {name: float(number) for name, number in more.items() if number}
        return Trained(model, validation, tuple(progress.reports), figures)

"""Training throughput beside a bare `model.fit`: the same network, loss, optimizer and batch, on arrays in memory.

`train` draws, turns and jitters its patches, reports, and keeps checkpoints; the bare fit is shown the same batches in
each epoch. Epochs of both alternate, so that both meet the same machine; of each pair the ratio counts. Validations and
checkpoints are apart on our side, as a bare fit has none. The first epochs trace and are left out. On a machine that
others use, ratios scatter: look at the lowest and the highest.

  python benchmarks/training.py
  python benchmarks/training.py --steps 40 --epochs 8 --threads 0
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.backend import describe_devices, use_backend
from pipeline.patches.scenes import TrainingScene
from pipeline.preparation.normalisation import BandScaling
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.network.unet import InputBand
from search_space.objective import EpochReport
from search_space.study import Budget, LimitSettings

BANDS, CLASSES = 20, 10


@dataclass(frozen=True)
class Scene:
    """Random numbers in the shape of a scene."""

    id: str
    cube: NDArray[np.float32]
    masks: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    known: NDArray[np.bool_]


def make_scene(side_px: int, seed: int) -> TrainingScene:
    """A scene with its scaling."""
    rng, size = np.random.default_rng(seed), (side_px, side_px)
    cube = rng.random((*size, BANDS), dtype=np.float32)
    masks = (rng.random((*size, CLASSES), dtype=np.float32) < 0.1).astype(np.uint8)
    low, high, mean, std = (np.full(BANDS, value, np.float32) for value in (0.01, 0.99, 0.5, 0.28))
    scene = Scene(str(seed), cube, masks, np.ones(size, bool), np.ones(size, bool))
    return TrainingScene(scene, BandScaling(low, high, mean, std), tuple(range(CLASSES)))


class Bare:
    """The same training by Keras alone."""

    def __init__(self, candidate: Candidate, num_batches: int) -> None:
        from pipeline.backend import compile_choice
        from pipeline.networks.builder import build_model
        from pipeline.training.losses import MixedLoss
        from pipeline.training.optimisation import make_optimizer

        plan = candidate.plan
        self.num_patches = num_batches * plan.batch_size
        names = [str(number) for number in range(CLASSES)]
        self.network = build_model(candidate.architecture, BANDS, CLASSES)
        optimizer = make_optimizer(plan, Budget(epochs=1, steps_per_epoch=num_batches))
        optimizer.build(self.network.trainable_variables)
        loss = MixedLoss(plan.loss, plan.loss_details, names)
        self.network.compile(optimizer=optimizer, loss=loss, jit_compile=compile_choice())
        rng, shape = np.random.default_rng(0), (self.num_patches, plan.patch_px, plan.patch_px)
        self.patches = rng.normal(size=(*shape, BANDS)).astype(np.float32)
        self.targets = (rng.random((*shape, CLASSES + 1)) < 0.5).astype(np.float32)
        self.batch_size = plan.batch_size

    def patches_per_s(self) -> float:
        """Of one epoch, from its begin to its end: what `fit` does with the arrays before is left out."""
        import keras

        times: list[float] = []

        def note(*_: object) -> None:
            times.append(time.perf_counter())

        clock = keras.callbacks.LambdaCallback(on_epoch_begin=note, on_epoch_end=note)
        self.network.fit(
            self.patches,
            self.targets,
            batch_size=self.batch_size,
            epochs=1,
            shuffle=False,
            verbose=0,
            callbacks=[clock],
        )
        return self.num_patches / (times[1] - times[0])


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="per epoch (default 20)")
    parser.add_argument("--epochs", type=int, default=6, help="of each, the first of which is left out (default 6)")
    parser.add_argument("--patch-px", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="of the processor (default 0: as the framework has it)")
    parser.add_argument("--patches-on", choices=("auto", "processor", "device"), default="auto")
    options = parser.parse_args()
    backend = use_backend(options.threads)
    from pipeline.training.checkpoint import Checkpoint
    from pipeline.training.train import train

    plan = {"patch_px": options.patch_px, "batch_size": options.batch_size}
    candidate = decode(Candidate, {"plan": plan}, where="benchmark")
    bare = Bare(candidate, options.steps)
    rates: list[tuple[float, EpochReport]] = []

    def on_epoch(report: EpochReport) -> None:
        rates.append((bare.patches_per_s(), report))
        print(f"epoch {report.epoch}: bare {rates[-1][0]:.2f}, train {report.patches_per_s:.2f} patches/s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        train(
            candidate,
            [make_scene(1024, 0)],
            [make_scene(options.patch_px, 1)],
            [str(number) for number in range(CLASSES)],
            [InputBand(f"band{number + 1}") for number in range(BANDS)],
            Budget(epochs=options.epochs, steps_per_epoch=options.steps),
            seed=1,
            limits=LimitSettings(max_trials=1, patches_on=options.patches_on, precision="float32"),
            on_epoch=on_epoch,
            checkpoint=Checkpoint(Path(folder) / "checkpoint.npz", {}),
        )
    told = rates[1:]
    ratios = [report.patches_per_s / rate for rate, report in told if report.patches_per_s is not None]
    waits = [report.data_wait_share for _, report in told if report.data_wait_share is not None]
    print(f"\n{backend} on {describe_devices()}, batches of {options.batch_size} patches of {options.patch_px} px")
    print("| bare fit, patches/s | train, patches/s | ratio, median of pairs | lowest | highest | waits |")
    print("|---|---|---|---|---|---|")
    medians = [statistics.median(rate for rate, _ in told), statistics.median(r.patches_per_s or 0.0 for _, r in told)]
    print(
        f"| {medians[0]:.2f} | {medians[1]:.2f} | {statistics.median(ratios):.3f} | {min(ratios):.3f} "
        f"| {max(ratios):.3f} | {statistics.median(waits):.2%} |"
    )


if __name__ == "__main__":
    main()

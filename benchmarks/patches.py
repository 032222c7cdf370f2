"""Patches per second: the sampler beside the ways that the field's libraries offer, on one thread.

Every way makes the same kind of batch from the same scene in memory: patches of bands clipped, scaled, turned by one
of the 16 elements of D8, each channel jittered, and ten masks turned alike. Rounds alternate, so that all ways meet the
same machine; each gets the best of its rounds. Processor time counts, as machines are shared.

  python benchmarks/patches.py
  python benchmarks/patches.py --step      # and the time of a training step of the default U-Net
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.patches.draws import Draws
from pipeline.patches.sampler import PatchSampler, placements
from pipeline.patches.scenes import TrainingScene
from pipeline.preparation.normalisation import BandScaling
from search_space.decode import decode
from search_space.training_plan import TrainingPlan

SIDE_PX, BANDS, CLASSES = 3350, 24, 10
BATCH = 16
MARGIN_PX = 400

Floats = NDArray[np.float32]
Way = Callable[[Draws], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Scene:
    """Random numbers in the shape of a full-size scene."""

    id: str
    cube: Floats
    masks: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    known: NDArray[np.bool_]


def make_source() -> TrainingScene:
    """A scene with its scaling."""
    rng = np.random.default_rng(0)
    size = (SIDE_PX, SIDE_PX)
    cube = rng.random((*size, BANDS), dtype=np.float32)
    masks = (rng.random((*size, CLASSES), dtype=np.float32) < 0.1).astype(np.uint8)
    # Mirrored borders would need care in each of the others.
    inside = np.zeros(size, bool)
    inside[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = True
    scene = Scene("random", cube, masks, np.ones(size, bool), inside)
    low, high, mean, std = (np.full(BANDS, value, np.float32) for value in (0.01, 0.99, 0.5, 0.28))
    return TrainingScene(scene, BandScaling(low, high, mean, std), tuple(range(CLASSES)))


def make_plan(turns: str, patch_px: int) -> TrainingPlan:
    """The plan whose patches are compared."""
    fields = {"patch_px": patch_px, "batch_size": BATCH, "augmentation": {"turns": turns, "jitter": 0.2}}
    return decode(TrainingPlan, fields, where="benchmark")


class Peers:
    """The same patches by other means: a window just large enough is cut, turned, jittered.

    They read a copy of the scene that is scaled already, which costs each process a scene's memory and them no time.
    """

    def __init__(self, source: TrainingScene) -> None:
        scene = source.scene
        self.scaled = source.scaling.apply(scene.cube)
        self.truth = np.concatenate([scene.masks, scene.known[..., None].astype(np.uint8)], axis=-1)
        self.patch_px = 0

    def opencv_remap(self, draws: Draws) -> tuple[Floats, Floats]:
        """One map for all channels, with `cv2.remap`; quarter turns by NumPy's views, which are faster."""
        return self._each(draws, self._remapped)

    def scipy_interpolation(self, draws: Draws) -> tuple[Floats, Floats]:
        """`scipy.ndimage.map_coordinates`, band by band."""
        return self._each(draws, self._interpolated)

    def numpy_gather(self, draws: Draws) -> tuple[Floats, Floats]:
        """Nearest neighbour by fancy indexing."""
        return self._each(draws, self._gathered)

    def _each(self, draws: Draws, turned: Callable[..., tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
        size = (len(draws.scene), self.patch_px, self.patch_px)
        bands, targets = np.empty((*size, BANDS), np.float32), np.empty((*size, CLASSES + 1), np.float32)
        for n in range(len(bands)):
            self._patch(draws, n, turned, bands[n], targets[n])
        return bands, targets

    def _patch(
        self, draws: Draws, n: int, turned: Callable[..., tuple[Floats, Floats]], patch: Floats, truth: Floats
    ) -> None:
        where = placements(draws, self.patch_px)[n]
        corners = where @ np.array([[i, j, 1] for i in (0, self.patch_px - 1) for j in (0, self.patch_px - 1)]).T
        start, stop = np.floor(corners.min(1)).astype(int), np.floor(corners.max(1)).astype(int) + 2
        window = tuple(slice(first, last) for first, last in zip(start, stop, strict=True))
        where[:, 2] -= start
        bands, truth[:] = turned(self.scaled[window], self.truth[window], where)
        # Along rows of W x B numbers; over a last axis of 24 it is several times slower.
        rows = patch.reshape(self.patch_px, -1)
        np.multiply(bands.reshape(rows.shape), np.tile(draws.radiometry.factor[n], self.patch_px), out=rows)
        rows += np.tile(draws.radiometry.offset[n], self.patch_px)

    def _remapped(self, bands: Floats, target: NDArray[np.uint8], where: NDArray[np.float64]) -> tuple[Floats, Floats]:
        if np.array_equal(where, np.round(where)):
            return self._quarter_turned(bands, where), self._quarter_turned(target, where)
        rows, columns = (each.astype(np.float32) for each in self._positions(where))
        return (
            cv2.remap(bands, columns, rows, cv2.INTER_LINEAR),
            cv2.remap(target, columns, rows, cv2.INTER_NEAREST),
        )

    def _quarter_turned(self, array: NDArray, where: NDArray[np.float64]) -> NDArray:
        step = where[:, :2].astype(int)
        array = array if step[0, 0] else array.swapaxes(0, 1)
        down, right = step.sum(axis=1) if step[0, 0] else step.sum(axis=1)[::-1]
        return np.ascontiguousarray(array[: self.patch_px, : self.patch_px][::down, ::right])

    def _interpolated(
        self, bands: Floats, target: NDArray[np.uint8], where: NDArray[np.float64]
    ) -> tuple[Floats, Floats]:
        at = self._positions(where)
        turned = [map_coordinates(bands[..., k], at, order=1, mode="mirror") for k in range(BANDS)]
        return np.stack(turned, axis=-1), self._nearest(target, at)

    def _gathered(self, bands: Floats, target: NDArray[np.uint8], where: NDArray[np.float64]) -> tuple[Floats, Floats]:
        at = self._positions(where)
        return self._nearest(bands, at), self._nearest(target, at)

    def _nearest(self, array: NDArray, at: NDArray[np.float64]) -> NDArray:
        rows, columns = np.floor(at + 0.5).astype(int)
        return array[rows, columns]

    def _positions(self, where: NDArray[np.float64]) -> NDArray[np.float64]:
        i, j = np.meshgrid(np.arange(self.patch_px), np.arange(self.patch_px), indexing="ij")
        return np.einsum("ak,kij->aij", where[:, :2], np.stack([i, j])) + where[:, 2, None, None]


def race(ways: dict[str, Callable[[int], object]], rounds: int, batches: int) -> dict[str, float]:
    """Patches per second of each way: the best of its rounds, which alternate."""
    best = dict.fromkeys(ways, 0.0)
    for each in ways.values():
        each(0)
    for round_number in range(rounds):
        for name, make in ways.items():
            started = time.process_time()
            for number in range(batches):
                make(1 + round_number * batches + number)
            best[name] = max(best[name], batches * BATCH / (time.process_time() - started))
    return best


def compare(source: TrainingScene, peers: Peers, turns: str, patch_px: int, rounds: int) -> None:
    """Race all ways and print them beside the fastest peer."""
    sampler = PatchSampler([source], make_plan(turns, patch_px), seed=1)
    peers.patch_px = patch_px
    check_alike(sampler, peers)
    others = {
        "OpenCV remap, one map": peers.opencv_remap,
        "NumPy gather, nearest": peers.numpy_gather,
        "SciPy map_coordinates": peers.scipy_interpolation,
    }
    ways: dict[str, Callable[[int], object]] = {"Mapgrove": sampler.batch}
    ways |= {name: lambda number, way=way: way(sampler.draw(number)) for name, way in others.items()}
    speeds = race(ways, rounds, batches=max(1, 8 * 128**2 // patch_px**2))
    fastest = max(speeds[name] for name in others)
    print(f"{patch_px} px, {BANDS} channels, {CLASSES} masks, {turns} and jitter")
    for name, speed in speeds.items():
        print(f"  {name:24} {speed:8.0f} patches/s   {speed / fastest:5.2f} x the fastest other")


def check_alike(sampler: PatchSampler, peers: Peers) -> None:
    """Refuse to compare ways that do not make the same patches."""
    bands, targets = sampler.batch(0)
    for way, tolerance in ((peers.scipy_interpolation, 1e-4), (peers.opencv_remap, 0.15)):
        theirs, their_targets = way(sampler.draw(0))
        inside = np.s_[:, 1:-1, 1:-1]
        if np.abs(theirs - bands)[inside].max() > tolerance or (their_targets != targets)[inside].mean() > 0.01:
            raise SystemExit(f"{way.__name__} makes other patches: {np.abs(theirs - bands)[inside].max():.3g}")


def training_step(source: TrainingScene) -> None:
    """The time of sampling beside that of a training step of the default U-Net."""
    from pipeline.backend import use_backend

    use_backend(1)
    import keras

    from pipeline.networks.builder import build_model
    from search_space.architecture import Architecture

    plan = make_plan("d8", 128)
    sampler = PatchSampler([source], plan, seed=1)
    bands, targets = sampler.batch(0)
    model = build_model(Architecture(), BANDS, CLASSES)
    model.compile(optimizer="adam", loss=keras.losses.BinaryCrossentropy())
    model.train_on_batch(bands, targets[..., :-1])
    steps, samples = [], []
    for number in range(5):
        started = time.process_time()
        bands, targets = sampler.batch(number)
        sampled = time.process_time()
        model.train_on_batch(bands, targets[..., :-1])
        steps.append(time.process_time() - sampled)
        samples.append(sampled - started)
    step, sample = min(steps), min(samples)
    print(f"A batch of {BATCH}: sampling {sample * 1e3:.0f} ms, training step {step * 1e3:.0f} ms: {sample / step:.1%}")


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step", action="store_true", help="also time a training step")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    source = make_source()
    peers = Peers(source)
    for turns, patch_px in (("d8", 128), ("any", 128), ("d4", 128), ("d8", 256)):
        compare(source, peers, turns, patch_px, options.rounds)
    if options.step:
        training_step(source)


if __name__ == "__main__":
    main()

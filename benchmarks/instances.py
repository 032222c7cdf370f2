"""Do houses come out one by one? F1 over polygons of three ways to tell them apart, from the same maps.

A town of houses that stand a pixel or two apart is seen through a blur and noise. A small U-Net with an energy head is
trained on one town and maps another. Its mask is taken apart into connected places; by a watershed on the depth within
the mask; and by a watershed on the energy. Markers are those of the default, and those that would have been best.

  python benchmarks/instances.py --epochs 10
  python benchmarks/instances.py --seeds 1 --epochs 2 --picture town.png
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.backend import use_backend
from pipeline.imagery.rasterise import rasterise
from pipeline.maps.instances import depths, instances
from pipeline.maps.polygon_scoring import count_polygons
from pipeline.maps.polygons import vectorise_instances
from pipeline.patches.scenes import TrainingScene
from pipeline.preparation.normalisation import Normalisation
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.losses import LossMix
from search_space.network.unet import InputBand
from search_space.objective import EpochReport
from search_space.polygon_score import PolygonCounts
from search_space.prediction import PredictionSettings, tiling_for
from search_space.study import Budget, LimitSettings
from search_space.training_plan import Scaling, TrainingPlan

SIDE_PX = 384
BLUR_PX, NOISE = 1.8, 0.3
MARKERS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
DEFAULT = PredictionSettings().marker_energy

Floats = NDArray[np.float32]


class Town:
    """Houses, what a sensor sees of them, and their mask."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.id, self.source = f"town {seed}", str(seed)
        self.houses = list(houses(rng))
        mask = rasterise(self.houses, SIDE_PX, SIDE_PX)
        seen = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), BLUR_PX)
        self.cube: Floats = (seen + rng.normal(0, NOISE, seen.shape)).astype(np.float32)[..., None]
        self.masks = mask[..., None]
        self.valid = self.known = np.ones(mask.shape, bool)


def houses(rng: np.random.Generator) -> "list[shapely.Polygon]":
    """Rows of houses, a pixel or two apart from the next of their row, with streets between rows."""
    found, top = [], 6
    while top < SIDE_PX - 34:
        left = int(rng.integers(2, 10))
        while left < SIDE_PX - 30:
            width, height = (int(side) for side in rng.integers(9, 24, 2))
            found.append(shapely.box(left, top, left + width, top + height))
            left += width + (int(rng.integers(1, 3)) if rng.random() < 0.8 else 12)
        top += 30
    return found


def trained_maps(seed: int, epochs: int) -> tuple[Town, Floats, Floats, float]:
    """Train on one town; probabilities and energy of another, and the threshold that a third chose."""
    from pipeline.networks.prediction import model_predictor, predict_scene
    from pipeline.training.train import train

    training, validation, test = (Town(10 * seed + number) for number in range(3))
    plan = TrainingPlan(patch_px=64, batch_size=8, learning_rate=3e-3, scaling=Scaling(), loss=LossMix(bce=1.0))
    candidate = Candidate(architecture=Architecture(depth=2, base_filters=8, energy=True), plan=plan)
    scaling = Normalisation.fit(plan.scaling, [training]).for_scene(training)
    scenes = [TrainingScene(town, scaling, (0,)) for town in (training, validation)]

    def tell(report: EpochReport) -> None:
        print(f"  seed {seed}, epoch {report.epoch}: Jaccard {report.jaccard['house']:.3f}", flush=True)

    trained = train(
        candidate,
        scenes[:1],
        scenes[1:],
        ["house"],
        [InputBand("grey")],
        Budget(epochs=epochs, steps_per_epoch=50),
        seed=seed,
        limits=LimitSettings(max_trials=1),
        on_epoch=tell,
    )
    tiling = tiling_for(candidate, PredictionSettings(symmetries="d4", batch_size=16))
    both = predict_scene(model_predictor(trained.model, with_energy=True), test, scaling, tiling)
    return test, both[..., 0], both[..., 1], trained.validation.thresholds["house"]


def counted(town: Town, labels: NDArray[np.int32]) -> PolygonCounts:
    """Held against the town's houses."""
    return count_polygons(vectorise_instances(labels), town.houses)


def main() -> None:
    """Train for each seed, take the maps apart in three ways, print F1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6, help="of 50 steps")
    parser.add_argument("--picture", type=Path, help="the last town, as told apart by each way")
    options = parser.parse_args()
    print(f"{options.seeds} seeds, {options.epochs} epochs of 50 steps, {use_backend()}", flush=True)
    rows: dict[str, list[tuple[float, float]]] = {}
    for seed in range(options.seeds):
        started = time.monotonic()
        town, probabilities, energy, threshold = trained_maps(seed, options.epochs)
        print(f"  seed {seed}: {len(town.houses)} houses, {time.monotonic() - started:.0f} s", flush=True)

        def apart(depth: Floats | None, marker: float, maps: Floats = probabilities, at: float = threshold) -> Labels:
            return instances(maps, depth, threshold=at, marker_energy=marker, min_area_px=20)

        nowhere = np.zeros_like(energy)
        ways: dict[str, Callable[[float], Labels]] = {
            "connected places": lambda _, split=apart, flat=nowhere: split(flat, 0.5),
            "depth of the mask": lambda marker, split=apart: split(None, marker),
            "energy head": lambda marker, split=apart, deep=energy: split(deep, marker),
            "true mask, connected": lambda _, truth=town.masks[..., 0]: instances(
                truth.astype(np.float32), np.zeros(truth.shape, np.float32), threshold=0.5, marker_energy=0.5
            ),
            "true mask, its depth": lambda marker, truth=town.masks[..., 0]: instances(
                truth.astype(np.float32), depths(truth > 0), threshold=0.5, marker_energy=marker
            ),
        }
        for name, way in ways.items():
            scores = {marker: counted(town, way(marker)).f1 or 0.0 for marker in MARKERS}
            rows.setdefault(name, []).append((scores[DEFAULT], max(scores.values())))
        if options.picture:
            shown = [coloured(way(DEFAULT)) for way in list(ways.values())[:3]]
            cv2.imwrite(str(options.picture), np.hstack(shown))
    print(f"{'F1 over polygons':22} marker {DEFAULT:g}: mean (each seed) · best marker: mean")
    for name, each in rows.items():
        usual, best = np.array(each).T
        print(f"{name:22} {usual.mean():.3f} ({', '.join(f'{f1:.3f}' for f1 in usual)}) · {best.mean():.3f}")


Labels = NDArray[np.int32]


def coloured(labels: Labels) -> NDArray[np.uint8]:
    """Each instance in a colour of its own."""
    palette = np.random.default_rng(0).integers(70, 256, (int(labels.max()) + 1, 3)).astype(np.uint8)
    palette[0] = 25
    return palette[labels]


if __name__ == "__main__":
    main()

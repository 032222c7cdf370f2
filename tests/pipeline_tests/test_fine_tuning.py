"""A model that was trained elsewhere is brought to new ground in a few epochs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.builder import build_model
from pipeline.normalisation import Normalisation
from pipeline.patches.scenes import TrainingScene
from pipeline.starting_weights import start_from
from pipeline.training import Trained, train
from pipeline.trial_model import write_trial_model
from pipeline.validation import validate
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.fine_tuning import FINE_TUNING_EPOCHS, fine_tuned, fine_tuning_budget
from search_space.network.unet import InputBand
from search_space.records import TrialModel
from search_space.study import Budget, LimitSettings
from search_space.training_plan import Scaling
from tests.pipeline_tests.fake_scenes import FakeScene

CANDIDATE = decode(
    Candidate,
    {
        "architecture": {"depth": 2, "base_filters": 8, "units_per_stage": 1},
        "plan": {"patch_px": 32, "batch_size": 4, "learning_rate": 0.01},
    },
    where="test",
)

OLD = {"red": (0.9, 0.3, 0.5), "green": (0.7, 0.5, 0.4), "nir": (0.5, 1.2, 0.1)}
"""Band to what roofs, plants and bare ground reflect in it."""

NEW = {"red_edge": (0.4, 0.9, 0.2), "green": (0.5, 0.7, 0.6), "red": (0.6, 0.3, 0.7)}
"""A sensor without `nir`, and a town with other roofs."""


def scene(seed: int, bands: dict[str, tuple[float, float, float]], gain: float, haze: float) -> FakeScene:
    """Roofs, and as bright plots of another shape, between plants; `(72, 72)`."""
    rng = np.random.default_rng(seed)
    roofs, bare = np.zeros((72, 72), bool), np.zeros((72, 72), bool)
    for _ in range(14):
        row, column = rng.integers(0, 64, 2)
        roofs[row : row + rng.integers(5, 9), column : column + rng.integers(5, 9)] = True
    for _ in range(8):
        row, column = rng.integers(0, 70, 2)
        bare[row : row + 2] = True
        bare[:, column : column + 2] = True
    bare &= ~roofs
    kinds = np.stack([roofs, ~roofs & ~bare, bare], axis=-1).astype(np.float32)
    cube = kinds @ np.array(list(bands.values()), np.float32).T
    cube = gain * (cube + rng.normal(0, 0.25, cube.shape)) + haze
    everywhere = np.ones((72, 72), bool)
    return FakeScene(str(seed), cube.astype(np.float32), roofs[..., np.newaxis].astype(np.uint8), everywhere, everywhere)


def scaled(scenes: list[FakeScene]) -> list[TrainingScene]:
    """By the numbers of the first one."""
    scaling = Normalisation.fit(Scaling(), scenes[:1])
    return [TrainingScene(each, scaling.for_scene(each), (0,)) for each in scenes]


def run(
    candidate: Candidate,
    ground: list[TrainingScene],
    bands: list[str],
    budget: Budget,
    initialise: Callable[[keras.Model], Any] | None = None,
) -> Trained:
    return train(
        candidate,
        ground[:1],
        ground[1:2],
        ["roof"],
        [InputBand(name) for name in bands],
        budget,
        seed=3,
        limits=LimitSettings(max_trials=1),
        on_epoch=lambda _: None,
        initialise=initialise,
    )


@pytest.mark.slow
def test_fine_tuning_on_a_new_scene_beats_the_untouched_model_and_the_same_epochs_from_scratch(tmp_path: Path) -> None:
    long = Budget(epochs=5, steps_per_epoch=30)
    known = scaled([scene(seed, OLD, 900.0, 200.0) for seed in (0, 1)])
    source = run(CANDIDATE, known, list(OLD), long)
    about = TrialModel(
        study="old", trial=0, classes=("roof",), bands=tuple(OLD), candidate=CANDIDATE, thresholds={}, jaccard={}
    )
    write_trial_model(tmp_path / "model.keras", source.model, about)
    new = scaled([scene(seed, NEW, 0.3, 0.1) for seed in (10, 11, 12)])
    bands, held_out = [InputBand(name) for name in NEW], new[2:]

    def begin(model: keras.Model) -> None:
        start_from(model, tmp_path / "model.keras", bands, ["roof"])

    def reached(model: keras.Model) -> float:
        return validate(model, held_out, ["roof"], tile_px=32).mean_jaccard

    short = fine_tuning_budget(Budget(epochs=100, steps_per_epoch=10))
    assert short.epochs == FINE_TUNING_EPOCHS
    untouched = build_model(CANDIDATE.architecture, bands, 1)
    begin(untouched)
    tuned = run(fine_tuned(CANDIDATE), new, list(NEW), short, begin)
    scratch = run(CANDIDATE, new, list(NEW), short)
    gentle = run(fine_tuned(CANDIDATE), new, list(NEW), short)
    scores = {"source": source.validation.mean_jaccard, "untouched": reached(untouched), "tuned": reached(tuned.model), "scratch": reached(scratch.model), "gentle": reached(gentle.model)}
    print(scores)
    print([r.mean_jaccard for r in source.reports], [r.mean_jaccard for r in tuned.reports],[r.mean_jaccard for r in scratch.reports])
    assert scores["tuned"] > max(scores["untouched"], scores["scratch"]) + 0.05

"""A model that was trained elsewhere is brought to new ground in a few epochs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pipeline.models.starting_weights import start_from
from pipeline.models.trial_model import write_trial_model
from pipeline.networks.builder import build_model
from pipeline.patches.scenes import TrainingScene
from pipeline.preparation.normalisation import Normalisation
from pipeline.training.train import Trained, train
from pipeline.validation.whole_ground import validate
from search_space.architecture import Vgg16
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.fine_tuning import FINE_TUNING_EPOCHS, continued, fine_tuned, fine_tuning_budget
from search_space.network.unet import InputBand
from search_space.records import TrialModel
from search_space.study import Budget, LimitSettings
from search_space.training_plan import Scaling
from tests.pipeline_tests.fake_scenes import FakeScene

CANDIDATE = decode(
    Candidate,
    {
        "architecture": {"depth": 1, "base_filters": 8, "units_per_stage": 1},
        "plan": {"patch_px": 24, "batch_size": 4, "learning_rate": 0.01},
    },
    where="test",
)

ABOUT = TrialModel(
    study="old",
    trial=0,
    classes=("roof",),
    bands=("red", "green", "nir"),
    candidate=CANDIDATE,
    thresholds={"roof": 0.5},
    jaccard={"roof": 0.5},
)

OLD = {"red": (0.8, 0.3, 0.8), "green": (0.6, 0.5, 0.55), "nir": (0.5, 1.1, 0.45)}
"""Band to what roofs, plants and bare ground reflect in it."""

NEW = {"red_edge": (0.45, 0.8, 0.5), "green": (0.6, 0.3, 0.5), "red": (0.8, 0.6, 0.85), "nir": (0.5, 0.9, 0.4)}
"""A sensor with a band more, and dry plants."""


def scene(seed: int, bands: dict[str, tuple[float, float, float]], gain: float, haze: float) -> FakeScene:
    """Roofs, and tracks that are nearly as bright, between plants; `(72, 72)`."""
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
    return FakeScene(
        str(seed), cube.astype(np.float32), roofs[..., np.newaxis].astype(np.uint8), everywhere, everywhere
    )


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
    known = scaled([scene(seed, OLD, 900.0, 200.0) for seed in (0, 1)])
    source = run(CANDIDATE, known, list(OLD), Budget(epochs=2, steps_per_epoch=60))
    write_trial_model(tmp_path / "model.keras", source.model, ABOUT)
    new = scaled([scene(seed, NEW, 0.3, 0.1) for seed in (10, 11, 12, 13)])
    bands, held_out = [InputBand(name) for name in NEW], new[2:]

    def begin(model: keras.Model) -> None:
        start_from(model, tmp_path / "model.keras", bands, ["roof"])

    def reached(model: keras.Model) -> float:
        return validate(model, held_out, ["roof"], tile_px=32).mean_jaccard

    untouched = build_model(CANDIDATE.architecture, bands, 1)
    begin(untouched)
    short = fine_tuning_budget(Budget(epochs=100, steps_per_epoch=5))
    tuned = run(fine_tuned(CANDIDATE), new, list(NEW), short, begin)
    scratch = run(CANDIDATE, new, list(NEW), short)

    assert len(tuned.reports) == len(scratch.reports) == FINE_TUNING_EPOCHS == 3
    assert reached(tuned.model) > 0.03 + max(reached(untouched), reached(scratch.model))


def test_fine_tuning_changes_the_course_of_training_alone() -> None:
    course = {
        "schedule": {"kind": "one_cycle"},
        "warm_up": 0.1,
        "averaging": {"kind": "snapshots", "of": "predictions"},
        "patience": 2,
    }
    plan = {"learning_rate": 0.01, "optimizer": {"kind": "sgd"}, "scaling": {"kind": "bytes"}}
    architecture = {"depth": 2, "skip": "add"}
    candidate = decode(Candidate, {"architecture": architecture, "plan": {**plan, **course}}, where="test")
    tuned = fine_tuned(candidate)
    expected = decode(Candidate, {"architecture": architecture, "plan": {**plan, "learning_rate": 0.001}}, where="test")
    assert tuned == expected
    assert fine_tuned(CANDIDATE, 2.0).plan.learning_rate == pytest.approx(0.005)
    assert fine_tuning_budget(Budget(epochs=40, steps_per_epoch=7), 2) == Budget(epochs=2, steps_per_epoch=7)


def test_a_model_goes_on_with_the_bands_that_there_are() -> None:
    fields = {"bands": ["red", "nir"], "encoder": {"kind": "vgg16", "weights": "imagenet"}}
    candidate = decode(Candidate, {"architecture": fields, "plan": {}}, where="test")
    on = continued(candidate, ["nir", "green"]).architecture
    assert (on.bands, on.encoder) == (("nir",), Vgg16(weights="none"))
    assert continued(candidate, ["pan"]).architecture.bands == (), "all of them"
    assert continued(CANDIDATE, ["pan"]) == CANDIDATE

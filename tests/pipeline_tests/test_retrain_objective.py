"""What retraining keeps, trains again and leaves out: by what a model was made from."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.model_set import LoadedModelSet
from pipeline.prepare import prepare
from pipeline.prepared import PreparedDataset
from pipeline.retraining import retrain
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.errors import InfeasibleError
from search_space.prediction import PredictionSettings
from search_space.records import Chosen, ModelSet
from search_space.study import Study
from search_space.training_plan import Scaling

STUDY = {
    "study": {"name": "tiny"},
    "folds": {"validation": ["b"]},
    "budget": {"epochs": 1, "steps_per_epoch": 1},
    "retrain": {"epochs": 1, "steps_per_epoch": 2},
    "limits": {"max_trials": 1, "trial_threads": 1},
}


def candidate(scaling: Scaling) -> Candidate:
    architecture = {"depth": 1, "base_filters": 4, "units_per_stage": 1}
    plan = {"patch_px": 16, "batch_size": 2, "scaling": scaling.model_dump()}
    return decode(Candidate, {"architecture": architecture, "plan": plan}, where="test")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Three prepared scenes with a bright and a dark square."""
    for seed, name in enumerate("abc"):
        image = np.random.default_rng(seed).normal(110, 8, (24, 32, 3))
        mask = np.zeros((24, 32), np.uint8)
        for value, level in ((1, 220), (2, 20)):
            image[4:14, 14 * value - 12 : 14 * value] = level
            mask[4:14, 14 * value - 12 : 14 * value] = value
        for kind, array in (("images", np.clip(image, 0, 255).astype(np.uint8)), ("masks", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            assert cv2.imwrite(str(tmp_path / kind / f"{name}.png"), array)
    data = {
        "format": "masks",
        "folder": str(tmp_path),
        "prepared": str(tmp_path / "prepared"),
        "classes": ["bright", "dark"],
        "options": {"images": "images/*.png", "masks": "masks/*.png", "values": {"bright": 1, "dark": 2}},
    }
    study = decode(Study, {**STUDY, "data": data}, where="test")
    prepare(study.data)
    return study


class Retrain:
    """Retrains into one folder, and remembers which classes were trained."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trained: list[str] = []

    def __call__(self, study: Study, **scalings: Scaling) -> ModelSet:
        self.trained = []
        candidates = {name: Chosen(candidate=candidate(scaling), trial=0) for name, scaling in scalings.items()}
        return retrain(study, candidates, self.folder, on_epoch=lambda name, _: self.trained.append(name))


@pytest.mark.slow
def test_models_of_different_scalings_stay_together_and_each_keeps_its_numbers(study: Study, tmp_path: Path) -> None:
    run = Retrain(tmp_path / "models")
    run(study, bright=Scaling())

    models = run(study, dark=Scaling(kind="bytes", scope="scene"))

    assert run.trained == ["dark"]
    bright, dark = models.members
    assert (bright.class_name, dark.class_name) == ("bright", "dark")
    assert bright.numbers is not None
    assert len(bright.numbers.mean) == 3
    assert dark.numbers is None
    record = json.loads((tmp_path / "models" / "bright" / "run.json").read_text(encoding="utf-8"))
    assert record["member"]["numbers"]["mean"] == list(bright.numbers.mean)
    scene = PreparedDataset.open_for(study.data).scene("c")
    maps = LoadedModelSet.open(tmp_path / "models").predict(scene, PredictionSettings())
    assert maps.shape == (24, 32, 2)
    assert np.isfinite(maps).all()


@pytest.mark.slow
def test_another_scaling_is_another_training_and_other_folds_are_another_ground(
    study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Retrain(tmp_path / "models")
    run(study, bright=Scaling())
    run(study, bright=Scaling())
    assert run.trained == []

    models = run(study, bright=Scaling(kind="standard"))
    assert run.trained == ["bright"]
    assert models.members[0].numbers is not None
    assert models.members[0].numbers.low == (None, None, None)

    other = study.model_copy(update={"folds": study.folds.model_copy(update={"validation": ("a",)})})
    with caplog.at_level(logging.WARNING):
        models = run(other, dark=Scaling(kind="standard"))
    assert [member.class_name for member in models.members] == ["dark"]
    assert "not used: trained on other data or folds" in caplog.text


@pytest.mark.slow
def test_a_recipes_way_to_cut_tiles_is_kept_with_its_model(study: Study, tmp_path: Path) -> None:
    def retrained(prediction: PredictionSettings | None) -> ModelSet:
        chosen = {"bright": Chosen(candidate=candidate(Scaling()), recipe="ours.toml", prediction=prediction)}
        return retrain(study, chosen, tmp_path / "models", on_epoch=lambda *_: trained.append(prediction))

    trained: list[PredictionSettings | None] = []
    scene = PreparedDataset.open_for(study.data).scene("c")
    maps = []
    for symmetries in ("d4", "none"):
        [member] = retrained(PredictionSettings(symmetries=symmetries)).members
        assert (member.origin, member.trial) == ("ours.toml", None)
        # What the study says of it does not matter then.
        maps.append(LoadedModelSet.open(tmp_path / "models").predict(scene, PredictionSettings(symmetries="flips")))
    assert len(set(map(id, trained))) == 1, "other tiles need no other training"
    assert not np.allclose(maps[0], maps[1])
    [member] = retrained(None).members
    assert member.prediction is None


@pytest.mark.slow
def test_memory_is_the_limit_of_what_is_chosen_and_is_told_before_anything_is_written(
    study: Study, tmp_path: Path
) -> None:
    """A search's limits on size and time are not those of a network that is asked for by name."""

    def retrain_within(**limits: int | float) -> ModelSet:
        within = study.model_copy(update={"limits": study.limits.model_copy(update=limits)})
        chosen = {"bright": Chosen(candidate=candidate(Scaling()))}
        return retrain(within, chosen, tmp_path / "models", on_epoch=lambda *_: None)

    with pytest.raises(InfeasibleError, match=r"MB, more than limits\.device_memory_mb = 1"):
        retrain_within(device_memory_mb=1)
    assert not (tmp_path / "models").exists()
    models = retrain_within(max_parameters=10, epoch_s=1e-9, device_gflops=1e-3)
    assert [member.class_name for member in models.members] == ["bright"]

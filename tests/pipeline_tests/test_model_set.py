"""Model sets on disk: every model predicts with the scaling it was trained with, wherever the folder lies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.builder import build_model
from pipeline.files import write_json
from pipeline.maps import ImageScene
from pipeline.model_set import LoadedModelSet
from pipeline.normalisation import Normalisation
from pipeline.scene import Georeference
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.errors import MapgroveError
from search_space.prediction import PredictionSettings
from search_space.records import ModelMember, ModelSet
from search_space.training_plan import Scaling, TrainingPlan

SETTINGS = PredictionSettings(tile_px=16, symmetries="none")
SCALINGS = {
    "road": Scaling(),
    "water": Scaling(kind="bytes", scope="scene"),
    "trees": Scaling(kind="standard"),
    "crops": Scaling(kind="standard"),
}


def scene(seed: int, level: float = 100.0) -> ImageScene:
    cube = np.random.default_rng(seed).normal(level, 30, (24, 32, 2)).astype(np.float32)
    valid = np.ones((24, 32), bool)
    valid[:3, :3] = False
    cube[~valid] = np.nan
    return ImageScene(f"s{seed}", ("red", "nir"), "abc", cube, valid, Georeference())


def write_models(folder: Path) -> None:
    """The same network for every class, so that only scalings can make maps differ."""
    training = [scene(1), scene(2, level=140.0)]
    architecture = Architecture(depth=1, base_filters=4, units_per_stage=1)
    model = build_model(architecture, 2, 1)
    members = []
    for name, scaling in SCALINGS.items():
        file = f"{name}/model.keras"
        (folder / name).mkdir(parents=True)
        model.save(folder / file)
        members.append(
            ModelMember(
                class_name=name,
                file=file,
                candidate=Candidate(architecture=architecture, plan=TrainingPlan(patch_px=16, scaling=scaling)),
                threshold=0.5,
                numbers=Normalisation.fit(scaling, training).numbers,
            )
        )
    description = ModelSet(
        study="s", data_fingerprint="f", classes=tuple(SCALINGS), bands=("red", "nir"), members=tuple(members)
    )
    write_json(folder / "model_set.json", encode(description))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "models"
    write_models(folder)
    return folder


def test_members_of_different_scalings_predict_together_each_with_its_own(folder: Path) -> None:
    other = scene(3, level=180.0)

    maps = LoadedModelSet.open(folder).predict(other, SETTINGS)

    assert maps.shape == (24, 32, 4)
    assert np.isnan(maps[~other.valid]).all()
    assert np.isfinite(maps[other.valid]).all()
    road, water, trees, crops = np.moveaxis(maps[other.valid], -1, 0)
    np.testing.assert_array_equal(trees, crops)
    for one, two in ((road, water), (road, trees), (water, trees)):
        assert np.abs(one - two).max() > 1e-3


def test_what_one_member_maps_does_not_depend_on_the_others(folder: Path) -> None:
    whole = LoadedModelSet.open(folder)
    alone = LoadedModelSet(
        whole.description.model_copy(update={"members": whole.description.members[1:2]}), whole.predictors[1:2]
    )

    np.testing.assert_array_equal(alone.predict(scene(3), SETTINGS)[..., 0], whole.predict(scene(3), SETTINGS)[..., 1])


def test_a_moved_set_predicts_the_same(folder: Path, tmp_path: Path) -> None:
    before = LoadedModelSet.open(folder).predict(scene(3), SETTINGS)
    moved = folder.rename(tmp_path / "moved")
    try:
        np.testing.assert_array_equal(LoadedModelSet.open(moved).predict(scene(3), SETTINGS), before)
    finally:
        moved.rename(folder)


def test_models_know_by_their_fingerprint_what_they_were_scaled_by(folder: Path) -> None:
    description = LoadedModelSet.open(folder).description
    other = Normalisation.fit(Scaling(), [scene(1)]).numbers
    member = description.members[0].model_copy(update={"numbers": other})

    changed = description.model_copy(update={"members": (member, *description.members[1:])})

    assert changed.fingerprint != description.fingerprint


NUMBERS = {"low": [0.0], "high": [1.0], "mean": [0.5], "std": [1.0]}


@pytest.mark.parametrize(
    ("place", "numbers", "match"),
    [
        (0, None, "the model of road must have numbers for 2 bands. Received 0"),
        (0, NUMBERS, "the model of road must have numbers for 2 bands. Received 1"),
        (1, NUMBERS, "the model of water must have numbers for 0 bands. Received 1"),
    ],
)
def test_numbers_that_do_not_fit_the_models_are_told(
    folder: Path, tmp_path: Path, place: int, numbers: dict[str, Any] | None, match: str
) -> None:
    plain = json.loads((folder / "model_set.json").read_text(encoding="utf-8"))
    plain["members"][place]["numbers"] = numbers
    write_json(tmp_path / "model_set.json", plain)

    with pytest.raises(MapgroveError, match=rf"model_set.json is damaged: {match}.*Run `retrain` again"):
        LoadedModelSet.open(tmp_path)


def test_a_model_set_of_before_is_to_be_retrained(folder: Path, tmp_path: Path) -> None:
    plain = json.loads((folder / "model_set.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "model_set.json", {**plain, "normalise": "scene"})

    with pytest.raises(MapgroveError, match=r"unknown key 'normalise'. Received 'scene'. Run `retrain` again"):
        LoadedModelSet.open(tmp_path)

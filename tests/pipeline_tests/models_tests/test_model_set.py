"""Model sets on disk: every model predicts with the scaling it was trained with, wherever the folder lies."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.files import sha256_of, write_json
from pipeline.maps.scene_maps import ImageScene
from pipeline.models import model_set
from pipeline.models.model_set import LoadedModelSet
from pipeline.networks.builder import build_model
from pipeline.networks.prediction import Predictor
from pipeline.preparation.normalisation import Normalisation
from pipeline.scene import Georeference
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.errors import MapgroveError
from search_space.prediction import PredictionSettings
from search_space.records import ClassMap, ModelMember, ModelSet
from search_space.training_plan import Scaling, TrainingPlan

SETTINGS = PredictionSettings(tile_px=16, symmetries="none", batch_size=16)
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
        study="s",
        data_fingerprint="f",
        classes=tuple(SCALINGS),
        bands=("red", "nir"),
        members=tuple(members),
        maps=tuple(ClassMap(class_name=name, threshold=0.5) for name in SCALINGS),
    )
    write_json(folder / "model_set.json", encode(description))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "models"
    write_models(folder)
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> LoadedModelSet:
    """All of them; their networks are loaded once."""
    return LoadedModelSet.open(folder)


def test_members_of_different_scalings_predict_together_each_with_its_own(whole: LoadedModelSet) -> None:
    other = scene(3, level=180.0)

    maps = whole.predict(other, SETTINGS)

    assert maps.shape == (24, 32, 4)
    assert np.isnan(maps[~other.valid]).all()
    assert np.isfinite(maps[other.valid]).all()
    road, water, trees, crops = np.moveaxis(maps[other.valid], -1, 0)
    np.testing.assert_array_equal(trees, crops)
    for one, two in ((road, water), (road, trees), (water, trees)):
        assert np.abs(one - two).max() > 1e-3


def only(models: LoadedModelSet, *members: ModelMember) -> LoadedModelSet:
    """The same set with these members alone; those of several classes become of the first one's."""
    name = members[0].class_name
    as_one = tuple(each.model_copy(update={"class_name": name, "rank": n}) for n, each in enumerate(members))
    maps = (ClassMap(class_name=name, threshold=0.25),)
    return LoadedModelSet(models.description.model_copy(update={"members": as_one, "maps": maps}), models.predictor_of)


def test_what_one_class_maps_does_not_depend_on_the_others(whole: LoadedModelSet) -> None:
    alone = only(whole, whole.description.members[1])

    np.testing.assert_array_equal(alone.predict(scene(3), SETTINGS)[..., 0], whole.predict(scene(3), SETTINGS)[..., 1])


def test_members_of_a_class_are_averaged_each_with_its_scaling_and_its_tiles(whole: LoadedModelSet) -> None:
    road, water, trees, _ = whole.description.members
    wider = {"plan": trees.candidate.plan.model_copy(update={"patch_px": 24})}
    trees = trees.model_copy(update={"candidate": trees.candidate.model_copy(update=wider)})
    water = water.model_copy(update={"prediction": PredictionSettings(tile_px=16, symmetries="flips")})
    own_tiles = PredictionSettings(symmetries="none")
    alone = [only(whole, each).predict(scene(3), own_tiles) for each in (road, water, trees)]

    together = only(whole, road, water, trees)
    mean = together.predict(scene(3), own_tiles)

    assert together.classes == ("road",)
    np.testing.assert_array_equal(together.thresholds, np.float32([0.25]))
    assert mean.shape == (24, 32, 1)
    assert np.abs(alone[0] - alone[2])[scene(3).valid].max() > 1e-3
    np.testing.assert_allclose(mean, np.mean(alone, axis=0), atol=1e-6)


def test_a_scene_without_data_is_mapped_as_such(whole: LoadedModelSet) -> None:
    blank = scene(3)
    blank.valid[:] = False

    maps = whole.predict(blank, SETTINGS)

    assert maps.shape == (24, 32, 4)
    assert np.isnan(maps).all()


@pytest.mark.parametrize("room", [2, 4])
def test_models_beyond_what_may_be_kept_are_loaded_for_each_scene(
    folder: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as fit stay in memory; what is mapped does not depend on that."""
    size = (folder / "road" / "model.keras").stat().st_size
    loaded = []

    def load(path: Path) -> Predictor:
        loaded.append(path.parent.name)
        return lambda tiles: np.full((*tiles.shape[:3], 1), len(path.parent.name) / 8, np.float32)

    monkeypatch.setattr(model_set, "_load", load)
    monkeypatch.setattr(model_set, "MOST_KEPT_BYTES", int(size * (room + 0.5)))
    models = LoadedModelSet.open(folder)
    assert loaded == [], "nobody asked yet"

    for _ in range(2):
        maps = models.predict(scene(3), SETTINGS)

    np.testing.assert_allclose(maps[10, 10], [len(name) / 8 for name in SCALINGS], rtol=1e-6)
    names = list(SCALINGS)
    assert loaded == names + names[room:]


def test_a_model_that_was_changed_or_lost_is_told_before_anything_is_mapped(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "models"
    shutil.copytree(folder, moved)
    plain = json.loads((moved / "model_set.json").read_text(encoding="utf-8"))
    for member in plain["members"]:
        member["sha256"] = sha256_of(moved / member["file"])
    write_json(moved / "model_set.json", plain)
    assert LoadedModelSet.open(moved).classes == tuple(SCALINGS)
    file = moved / "water" / "model.keras"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(MapgroveError, match=r"water/model.keras cannot be loaded: it is damaged. Run `retrain` again"):
        LoadedModelSet.open(moved)
    file.unlink()
    with pytest.raises(MapgroveError, match=r"water/model.keras cannot be loaded: it is missing"):
        LoadedModelSet.open(moved)


def test_a_moved_set_predicts_the_same(folder: Path, whole: LoadedModelSet, tmp_path: Path) -> None:
    before = whole.predict(scene(3), SETTINGS)
    moved = folder.rename(tmp_path / "moved")
    try:
        np.testing.assert_array_equal(LoadedModelSet.open(moved).predict(scene(3), SETTINGS), before)
    finally:
        moved.rename(folder)


def test_models_know_by_their_fingerprint_what_they_were_scaled_by(whole: LoadedModelSet) -> None:
    description = whole.description
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


def test_a_model_set_of_before_is_to_be_made_again(folder: Path, tmp_path: Path) -> None:
    plain = json.loads((folder / "model_set.json").read_text(encoding="utf-8"))
    del plain["maps"]
    write_json(tmp_path / "model_set.json", plain)

    with pytest.raises(MapgroveError, match=r"model_set.json is of an earlier version.* Run `retrain` again"):
        LoadedModelSet.open(tmp_path)


def test_a_model_set_that_cannot_be_understood_is_to_be_made_again(folder: Path, tmp_path: Path) -> None:
    plain = json.loads((folder / "model_set.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "model_set.json", {**plain, "normalise": "scene"})

    with pytest.raises(MapgroveError, match=r"unknown key 'normalise'. Received 'scene'. Run `retrain` again"):
        LoadedModelSet.open(tmp_path)

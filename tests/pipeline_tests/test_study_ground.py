"""What training gets to see of a study's data: its own ground, and where it must not go."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.patches.sampler import PatchSampler, placements
from pipeline.pixel_samples import SAMPLES
from pipeline.prepare import prepare
from pipeline.scene import DataError
from pipeline.study_data import StudyData
from search_space.decode import decode
from search_space.errors import MapgroveError
from search_space.study import Study
from search_space.training_plan import Augmentation, Scaling, TrainingPlan


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """One prepared image of 64 x 64 pixels in 2 x 2 blocks."""
    rng = np.random.default_rng(0)
    for kind, top in (("images", 255), ("masks", 2)):
        (tmp_path / kind).mkdir()
        shape = (64, 64, 3) if kind == "images" else (64, 64)
        assert cv2.imwrite(str(tmp_path / kind / "field.png"), rng.integers(0, top, shape).astype(np.uint8))
    settings = {
        "study": {"name": "s"},
        "data": {
            "format": "masks",
            "folder": str(tmp_path),
            "prepared": str(tmp_path / "prepared"),
            "classes": ["road"],
            "options": {"values": {"road": 1}, "images": "images/*.png", "masks": "masks/*.png"},
        },
        "folds": {"num_folds": 4, "test_fold": 4, "unit": "block", "block_px": 32},
        "budget": {"epochs": 1, "steps_per_epoch": 1},
        "retrain": {"epochs": 1, "steps_per_epoch": 1},
        "limits": {"max_trials": 1},
        "space": {"plan.patch_px": {"choices": [8]}},
    }
    study = decode(Study, settings, where="test")
    prepare(study.data)
    return study


def test_training_scenes_say_where_no_patch_may_go(study: Study) -> None:
    data = StudyData.open(study)

    normalisation = data.normalisation(Scaling())
    [training] = data.scenes(data.fold.training, ["road"], normalisation)
    [validation] = data.scenes(data.fold.validation, ["road"], normalisation)

    assert training.held_out is not None
    assert np.count_nonzero(training.held_out) == 2 * 32 * 32
    np.testing.assert_array_equal(training.held_out, ~np.asarray(training.scene.known))
    assert np.count_nonzero(validation.scene.known) == 32 * 32
    assert training.scene.cube.shape == validation.scene.cube.shape == (64, 64, 3)


def test_statistics_do_not_move_with_held_out_pixels(study: Study) -> None:
    data = StudyData.open(study)
    before = data.normalisation(Scaling())
    [training] = data.scenes(data.fold.training, ["road"], before)
    assert training.held_out is not None
    shutil.rmtree(study.prepared / SAMPLES)
    path = study.prepared / "field" / "cube.npy"
    cube = np.load(path)
    cube[training.held_out] += 1000
    np.save(path, cube)

    assert StudyData.open(study).normalisation(Scaling()) == before
    shutil.rmtree(study.prepared / SAMPLES)
    cube[~training.held_out] += 1000
    np.save(path, cube)
    assert StudyData.open(study).normalisation(Scaling()) != before


@pytest.mark.parametrize("turns", ["d4", "any"])
def test_patches_keep_the_context_to_held_out_ground(study: Study, turns: str) -> None:
    data = StudyData.open(study)
    plan = TrainingPlan(patch_px=8, batch_size=64, augmentation=Augmentation(turns=turns, zoom=0.3))
    scenes = data.scenes(data.fold.training, ["road"], data.normalisation(plan.scaling))
    sampler = PatchSampler(scenes, plan, seed=0, context_px=5)

    footprints = [each for number in range(10) for each in read_by(sampler, number, plan.patch_px)]

    data.fold.check_distance(footprints, context_px=5)
    with pytest.raises(MapgroveError, match="must keep 12 px, the network's context, to held-out ground"):
        data.fold.check_distance(footprints, context_px=12)


def read_by(sampler: PatchSampler, number: int, patch_px: int) -> Iterator[tuple[str, slice, slice]]:
    """What each patch of a batch reads; beyond the border it reads what lies as far within."""
    corners = np.array([[i, j, 1] for i in (0, patch_px - 1) for j in (0, patch_px - 1)]).T
    for where in placements(sampler.draw(number), patch_px):
        shown = where @ corners
        first, last = np.floor(shown.min(axis=1)).astype(int), np.ceil(shown.max(axis=1)).astype(int)
        yield "field", *(slice(max(0, a), min(64, b + 1)) for a, b in zip(first, last, strict=True))


def test_blocks_without_room_for_any_patch_are_refused_before_a_trial(study: Study) -> None:
    wide = study.model_copy(update={"space": {}})
    with pytest.raises(DataError, match=r"no room for patches of 64 px, the smallest.*'folds\.block_px': 32"):
        StudyData.open(wide)

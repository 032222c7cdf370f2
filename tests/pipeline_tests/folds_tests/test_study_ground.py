"""What training gets to see of a study's data: its own ground, and where it must not go."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.folds.folds import make_fold
from pipeline.patches.room import split_of
from pipeline.patches.sampler import PatchSampler, placements
from pipeline.preparation.pixel_samples import SAMPLES
from pipeline.preparation.prepare import prepare
from pipeline.preparation.prepared import PreparedDataset
from pipeline.scene import DataError
from pipeline.study_data import StudyData
from search_space.decode import decode
from search_space.errors import MapgroveError
from search_space.fold_settings import FoldSettings
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


def of_blocks(study: Study, block_px: int, **classes: tuple[slice, slice]) -> Study:
    """One prepared image of 192 x 192 pixels, with each class where it is said, cut into blocks."""
    folder = Path(study.data.folder)
    masks = np.zeros((192, 192), np.uint8)
    for value, place in enumerate(classes.values(), start=1):
        masks[place] = value
    image = np.random.default_rng(0).integers(0, 255, (192, 192, 3)).astype(np.uint8)
    assert cv2.imwrite(str(folder / "images" / "field.png"), image)
    assert cv2.imwrite(str(folder / "masks" / "field.png"), masks)
    values = {name: value for value, name in enumerate(classes, start=1)}
    data = study.data.model_copy(
        update={"classes": tuple(classes), "options": {**study.data.options, "values": values}}
    )
    prepare(data)
    folds = FoldSettings(num_folds=3, unit="block", block_px=block_px)
    return study.model_copy(update={"data": data, "folds": folds})


EVERYWHERE = (slice(0, 192, 3), slice(0, 192))


def test_blocks_without_room_for_any_patch_are_refused_before_a_trial(study: Study) -> None:
    wide = study.model_copy(update={"space": {}})
    with pytest.raises(DataError, match=r"no room for patches of 64 px, the smallest.*'folds\.block_px': 32"):
        split_of(wide, PreparedDataset.open_for(study.data))


def test_a_band_that_the_data_lack_is_refused_before_a_trial(study: Study) -> None:
    space = {**study.space, "architecture.bands": {"choices": [["red", "blue"], ["green", "rde"]]}}
    wrong = study.model_copy(update={"space": space})
    with pytest.raises(DataError, match=r"names a band that the data do not have. Received 'rde'. Did you mean 'red'"):
        split_of(wrong, PreparedDataset.open_for(study.data))


def test_a_class_that_no_patch_can_show_is_refused_by_its_name(study: Study) -> None:
    """Poles where four blocks of 64 px meet: patches of 8 px keep off as soon as one of the four is held out."""
    split = of_blocks(study, 64, field=EVERYWHERE, pole=(slice(64, 129, 64), slice(64, 129, 64)))
    dataset = PreparedDataset.open_for(split.data)

    def dealt(seed: int) -> Study:
        return split.model_copy(update={"folds": split.folds.model_copy(update={"seed": seed})})

    def poles_near_held_out_ground(seed: int) -> bool:
        [part] = make_fold(dealt(seed).folds, dataset).training
        assert part.held_out is not None
        near = cv2.dilate(part.held_out.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        poles = (part.masks[..., 1] > 0) & part.known
        return bool(poles.any() and near[poles].all())

    seeds = [seed for seed in range(12) if has_poles(dealt(seed), dataset)]
    hidden = [seed for seed in seeds if poles_near_held_out_ground(seed)]
    assert hidden
    for seed in hidden:
        with pytest.raises(DataError, match="no room for patches of 8 px that show pole, the smallest"):
            split_of(dealt(seed), dataset)


def has_poles(study: Study, dataset: PreparedDataset) -> bool:
    """Whether the deal leaves any of them to training and to validation."""
    try:
        make_fold(study.folds, dataset)
    except DataError:
        return False
    return True


def test_blocks_that_leave_little_of_the_ground_are_told(study: Study, caplog: pytest.LogCaptureFixture) -> None:
    for block_px, share in ((64, None), (24, "%")):
        split = of_blocks(study, block_px, field=EVERYWHERE)
        caplog.clear()
        split_of(split, PreparedDataset.open_for(split.data))
        assert ("of the training ground" in caplog.text) == (share is not None)

"""What scales the bands comes from training scenes alone, and is there for every trial without reading cubes again."""

from itertools import product
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from pipeline.preparation.normalisation import Normalisation
from pipeline.preparation.pixel_samples import SAMPLES
from pipeline.preparation.prepare import Progress, prepare
from pipeline.study_data import StudyData
from search_space.decode import decode
from search_space.study import Study
from search_space.training_plan import Scaling, ScalingKind, ScalingScope

EVERY = [Scaling(kind=kind, scope=scope) for kind, scope in product(get_args(ScalingKind), get_args(ScalingScope))]
SEEDS = {"a": 1, "b": 2, "c": 3, "d": 4}


def study_in(folder: Path, **seeds: int) -> Study:
    """Scenes a and d train, b validates, c tests; another seed makes another image under the same mask."""
    for name, seed in {**SEEDS, **seeds}.items():
        rng = np.random.default_rng(seed)
        image = rng.normal(60 + 15 * seed, 12, (24, 30, 3))
        mask = np.zeros((24, 30), np.uint8)
        mask[5:15, 5:15] = 1
        for kind, array in (("images", np.clip(image, 0, 255).astype(np.uint8)), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / kind / f"{name}.png"), array)
    plain = {
        "study": {"name": "tiny"},
        "data": {
            "format": "masks",
            "folder": str(folder),
            "prepared": str(folder / "prepared"),
            "classes": ["road"],
            "options": {"images": "images/*.png", "masks": "masks/*.png", "values": {"road": 1}},
        },
        "folds": {"validation": ["b"], "test": ["c"]},
        "budget": {"epochs": 1, "steps_per_epoch": 1},
        "retrain": {"epochs": 1, "steps_per_epoch": 1},
        "limits": {"max_trials": 1},
    }
    return decode(Study, plain, where="test")


def opened(folder: Path, **seeds: int) -> StudyData:
    study = study_in(folder, **seeds)
    prepare(study.data)
    return StudyData.open(study)


def of_training(data: StudyData, scaling: Scaling) -> tuple[Normalisation, list[list[float]]]:
    """The normalisation, and every number that training scenes are scaled by."""
    normalisation = data.normalisation(scaling)
    scenes = data.scenes(data.fold.training, ["road"], normalisation)
    numbers = [getattr(each.scaling, name).tolist() for each in scenes for name in ("low", "high", "mean", "std")]
    return normalisation, numbers


@pytest.mark.parametrize("scaling", EVERY, ids=str)
def test_other_validation_and_test_imagery_changes_nothing(scaling: Scaling, tmp_path: Path) -> None:
    before = of_training(opened(tmp_path), scaling)

    after = of_training(opened(tmp_path, b=7, c=8), scaling)

    assert after == before
    assert of_training(opened(tmp_path, a=9), scaling) != before


def test_numbers_are_those_of_all_training_scenes_together(tmp_path: Path) -> None:
    data = opened(tmp_path)
    pixels = np.concatenate([data.dataset.scene(name).cube.reshape(-1, 3) for name in ("a", "d")])

    numbers = data.normalisation(Scaling(kind="standard")).numbers

    assert numbers is not None
    np.testing.assert_allclose(numbers.mean, pixels.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(numbers.std, pixels.std(axis=0), rtol=1e-5)


def test_a_second_trial_reads_no_cube(tmp_path: Path) -> None:
    data = opened(tmp_path)
    first = {scaling: of_training(data, scaling) for scaling in EVERY}
    assert sorted(path.parent.name for path in tmp_path.glob(f"prepared/{SAMPLES}/*/*.npy")) == ["a", "d"]
    for name in ("a", "d"):
        cube = tmp_path / "prepared" / name / "cube.npy"
        np.lib.format.open_memmap(cube, mode="r+")[:] = -1.0

    for scaling in EVERY:
        assert of_training(StudyData.open(study_in(tmp_path)), scaling) == first[scaling]


def test_samples_do_not_disturb_prepare(tmp_path: Path) -> None:
    data = opened(tmp_path)
    before = data.normalisation(Scaling())
    told: list[Progress] = []

    prepare(study_in(tmp_path).data, told.append)
    assert {each.state for each in told} == {"unchanged"}
    prepare(study_in(tmp_path, a=9).data, told.append)
    assert [each.state for each in told[4:]] == ["prepared", "unchanged", "unchanged", "unchanged"]

    assert StudyData.open(study_in(tmp_path, a=9)).normalisation(Scaling()) != before
    assert len(list(tmp_path.glob(f"prepared/{SAMPLES}/a/*"))) == 1

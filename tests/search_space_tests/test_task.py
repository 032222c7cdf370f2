"""What a training of a retraining is told, what tells it from others, and where the study of a retraining lies."""

from pathlib import Path
from typing import Any

import pytest

from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.errors import MalformedError, UsageError
from search_space.names import study_name, usual_folder
from search_space.study import LimitSettings, Study
from search_space.study_file import read_study
from search_space.task import Task

ROOT = Path(__file__).parents[2]
PLAIN: dict[str, Any] = {"class_name": "road", "epochs": 3, "steps_per_epoch": 4}


def task(**values: Any) -> Task:
    return decode(Task, {**PLAIN, **values}, where="task")


@pytest.mark.parametrize(
    "values",
    [
        {"fold": 1},
        {"fold": 6, "num_folds": 5},
        {"fold": 0, "num_folds": 5},
        {"fold": 1, "num_folds": 1},
        {"fold": -1},
        {"seed": -1},
        {"epochs": 0},
        {"start": "../../etc/passwd"},
        {"start": "A" * 64},
        {"class_name": "../roads"},
        {"code": "__import__('os')"},
        {"prediction": {"symmetries": "all"}},
    ],
    ids=str,
)
def test_what_is_no_task_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(MalformedError, match="task"):
        task(**values)


def test_a_task_goes_through_plain_data() -> None:
    whole = task(fold=2, num_folds=5, seed=1, rank=2, trial=7, study="demo/road", start="0" * 64)
    assert decode(Task, encode(whole), where="task") == whole
    assert (whole.budget.epochs, whole.budget.steps_per_epoch) == (3, 4)


def test_a_training_computes_as_was_asked_for_else_as_the_study_settled_it() -> None:
    of_study = LimitSettings(max_trials=1, max_parameters=9, precision="mixed_float16")
    assert task().limits(of_study) == of_study.of_one_network
    assert task(precision="float32").limits(of_study).precision == "float32"


def test_a_training_is_known_by_all_that_its_model_depends_on() -> None:
    plain = encode(Candidate())
    same = [task(), task(rank=2, trial=7), task(recipe="vooban", prediction={"symmetries": "d4"}), task(study="other")]
    same += [task(start_from="runs/old/models", fine_tuned=True)]
    assert len({each.key(plain, 1) for each in same}) == 1, "where the candidate is from changes no weight"
    changes = [{"fold": 1, "num_folds": 3}, {"fold": 1, "num_folds": 4}, {"seed": 1}, {"epochs": 4}]
    changes += [{"steps_per_epoch": 5}, {"ground": "g"}, {"start": "0" * 64}, {"weights": "0" * 64}]
    changes += [{"class_name": "water"}, {"precision": "float32"}, {"precision": "mixed_bfloat16"}]
    keys = [task().key(plain, 1), task().key(plain, 2), task().key({**plain, "x": 1}, 1)]
    keys += [task(**change).key(plain, 1) for change in changes]
    assert len(set(keys)) == len(keys)


def test_every_training_has_a_seed_of_its_own_and_candidates_share_it() -> None:
    several = [
        task(class_name=name, fold=fold, num_folds=3, seed=seed).seed_from(study_seed)
        for name in ("road", "water")
        for fold in (1, 2, 3)
        for seed in (0, 1)
        for study_seed in (0, 1)
    ]
    assert len(set(several)) == len(several)
    assert all(0 <= seed < 2**31 for seed in several)
    assert task(rank=1).seed_from(3) == task().seed_from(3)


@pytest.mark.parametrize("name", ["dstl@retrain", "dstl/road (paved)@retrain"])
def test_retrainings_have_a_name(name: str) -> None:
    assert study_name(name) == name


@pytest.mark.parametrize("name", ["@retrain", "a@retrain@retrain", "a@retrain/road", "a@other", "a/@retrain", "a@"])
def test_no_other_name_has_an_at(name: str) -> None:
    with pytest.raises(ValueError, match="must start with"):
        study_name(name)


def test_a_retraining_lies_in_the_folder_of_its_study_and_shares_its_store() -> None:
    study = read_study(ROOT / "configs" / "demo.toml")
    name, home = study.name, Path("runs", study.name)
    retraining = study.retraining
    assert (retraining.name, retraining.folder) == (f"{name}@retrain", home / "retrain")
    assert retraining.store_url == study.store_url == f"sqlite:///{home / 'trials.sqlite'}"
    assert usual_folder(retraining.name) == retraining.folder
    assert decode(Study, encode(retraining), where="study") == retraining
    class_name = study.classes[0]
    of_class = study.of_class(class_name).retraining
    assert (of_class.name, of_class.folder) == (
        f"{name}/{class_name}@retrain",
        home / "classes" / class_name / "retrain",
    )
    assert of_class.store_url == study.store_url
    placed = read_study(ROOT / "configs" / "demo.toml", ["study.folder=some/where"])
    assert placed.retraining.folder == Path("some/where/retrain")
    assert placed.of_class(class_name).retraining.store_url == placed.store_url == "sqlite:///some/where/trials.sqlite"


def test_a_file_does_not_name_its_study_as_a_retraining() -> None:
    with pytest.raises(UsageError, match="does not end in @retrain"):
        read_study(ROOT / "configs" / "demo.toml", ["study.name=demo@retrain"])

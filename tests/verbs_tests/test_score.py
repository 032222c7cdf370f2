"""The verb `score`: what it says of maps whose networks saw more than their training kept from them."""

import logging
from pathlib import Path

import pytest

from pipeline.files import write_json
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.polygon_score import PolygonCounts, PolygonScore
from search_space.records import ClassMap, ModelMember, ModelSet, ScoreRecord, ThresholdFrom
from search_space.study import Study
from search_space.training_plan import TrainingPlan
from verbs.score import _independence, _say, _tell_farther_sight

STUDY = {
    "data": {"format": "masks", "folder": "x", "prepared": "p", "classes": ["road"]},
    "folds": {"validation": ["b"], "test": ["c"]},
    "budget": {"epochs": 1, "steps_per_epoch": 1},
    "retrain": {"epochs": 1, "steps_per_epoch": 1},
    "limits": {"max_trials": 1},
}


def model_set(**depths: int) -> ModelSet:
    """A model per class, of the given depth: the deeper, the farther it looks."""
    members = tuple(
        ModelMember(
            class_name=name,
            file=f"{name}.keras",
            candidate=Candidate(architecture=Architecture(depth=depth), plan=TrainingPlan(patch_px=64)),
            threshold=0.5,
        )
        for name, depth in depths.items()
    )
    # Two seeds of each class, which is told once.
    seeds = tuple(member.model_copy(update={"seed": seed}) for member in members for seed in (0, 1))
    maps = tuple(ClassMap(class_name=name, threshold=0.5) for name in depths)
    return ModelSet(study="s", data_fingerprint="f", classes=tuple(depths), bands=("red",), members=seeds, maps=maps)


@pytest.mark.parametrize(("tile_px", "told"), [(0, ""), (64, ""), (32, ""), (256, "road")])
def test_maps_from_which_networks_see_training_ground_are_told(
    tile_px: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _tell_farther_sight(model_set(pond=1, road=5), tile_px)
    assert [record.args for record in caplog.records] == ([(told, tile_px)] if told else [])


@pytest.mark.parametrize(
    ("fold", "ground", "same_folds", "saw"),
    [
        ("test", "validation", True, "nothing"),
        ("test", "folds", True, "nothing"),
        ("validation", "validation", True, "thresholds"),
        ("validation", "folds", True, "training"),
        ("test", "folds", False, ""),
    ],
)
def test_what_models_saw_of_the_scored_ground_follows_from_how_they_were_trained(
    tmp_path: Path, fold: str, ground: ThresholdFrom, same_folds: bool, saw: str
) -> None:
    models = model_set(road=1)
    maps = tuple(each.model_copy(update={"threshold_from": ground}) for each in models.maps)
    study = decode(Study, {**STUDY, "study": {"name": "s", "folder": str(tmp_path)}}, where="test")
    trained = study.folds if same_folds else study.folds.model_copy(update={"validation": ("a",)})
    write_json(tmp_path / "models" / "study.json", encode(study.model_copy(update={"folds": trained})))

    found = _independence(models.model_copy(update={"maps": maps}), study, fold)

    assert found == {"threshold_from": ground, "models_saw": saw}


@pytest.mark.parametrize(
    ("study_of_start", "fold", "grounds", "found"),
    [
        ("other", "test", ("validation", "validation"), ("validation", "start")),
        ("other", "validation", ("validation", "validation"), ("validation", "start")),
        ("other", "validation", ("validation", "folds"), ("both", "training")),
        # The search kept its models off both.
        ("", "test", ("validation", "folds"), ("both", "nothing")),
        ("", "validation", ("validation", "validation"), ("validation", "thresholds")),
    ],
)
def test_of_a_model_that_another_study_made_nobody_knows_what_it_saw(
    tmp_path: Path, study_of_start: str, fold: str, grounds: tuple[ThresholdFrom, ...], found: tuple[str, str]
) -> None:
    models = model_set(road=1, pond=1)
    begun = models.members[0].model_copy(update={"start": "0" * 64, "study": study_of_start})
    maps = tuple(
        each.model_copy(update={"threshold_from": ground}) for each, ground in zip(models.maps, grounds, strict=True)
    )
    models = models.model_copy(update={"members": (begun, *models.members[1:]), "maps": maps})
    study = decode(Study, {**STUDY, "study": {"name": "s", "folder": str(tmp_path)}}, where="test")
    write_json(tmp_path / "models" / "study.json", encode(study))

    told = _independence(models, study, fold)

    assert (told["threshold_from"], told["models_saw"]) == found
    assert decode(ScoreRecord, {"fold": fold, "scenes": [], "jaccard": {}, **told}, where="test")


def test_single_things_are_told_below_the_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    counts = PolygonCounts(tp=3, fp=1, fn=2)
    things = PolygonScore(f1=counts.f1, precision=counts.precision, recall=counts.recall, counts=counts)
    record = ScoreRecord(
        fold="test", scenes=("a",), jaccard={"house": 0.5}, mean_jaccard=0.5, polygons={"house": things}
    )
    _say(record)
    told = capsys.readouterr().out
    assert "connected places of the labels' masks" in told
    assert told.splitlines()[-1].split() == ["house", "0.667", "0.750", "0.600", "3", "1", "2"]

    _say(record.model_copy(update={"polygons": {}}))
    assert "F1" not in capsys.readouterr().out

"""`retrain --from`: which model each class starts from, with which candidate, and what is refused."""

import argparse
import json
import re
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.files import sha256_of
from pipeline.models.model_set import MODEL_SET_FILE
from pipeline.models.trial_model import read_about, write_told
from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.errors import MapgroveError, UnableError, UsageError
from search_space.objective import MODEL_FILE, START_FILE, Outcome
from search_space.prediction import PredictionSettings
from search_space.records import ClassMap, ModelMember, ModelSet, TrialModel
from search_space.study import Study
from search_space.study_file import read_study
from search_space.task import Task
from trials_db.artifacts import Artifact, FolderArtifacts
from trials_db.opening import open_artifacts
from trials_db.records import NewTrial, StudyRecord
from trials_db.sqlite_store import SqliteStore
from verbs.retrain import add_arguments
from verbs.retrain_queue import Queue
from verbs.retrain_wishes import Wish, checked_options
from verbs.starting_models import StartingModel, starting_budget, starting_models

DEMO = Path(__file__).parents[2] / "configs" / "demo.toml"
BANDS = ("red", "green", "nir")
DATASET: Any = SimpleNamespace(bands=BANDS, fingerprint="ours")
CANDIDATE = decode(
    Candidate, {"architecture": {"bands": ["red", "swir"]}, "plan": {"learning_rate": 0.01}}, where="test"
)


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--study", "demo", *words])


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = read_study(DEMO, []).with_store(f"sqlite:///{tmp_path / 't.sqlite'}")
    return study.model_copy(update={"study": study.study.model_copy(update={"folder": str(tmp_path / "run")})})


def write_model(path: Path, classes: tuple[str, ...], trial: int = 0, **told: Any) -> Path:
    """A file that says what a network in it would map; nothing looks for the network here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path.with_suffix(".bare"), "w") as archive:
        archive.writestr("config.json", "{}")
    about = {"study": "old", "bands": ("red", "swir"), "candidate": CANDIDATE, "jaccard": {}, **told}
    thresholds = dict.fromkeys(classes, 0.5)
    write_told(
        path, path.with_suffix(".bare"), TrialModel(trial=trial, classes=classes, thresholds=thresholds, **about)
    )
    return path


def starts(study: Study, folder: Path, *words: str, classes: tuple[str, ...] = ("trees",)) -> dict[str, StartingModel]:
    folder.mkdir(exist_ok=True)
    return starting_models(study, classes, DATASET, options(*words), folder)


def test_a_file_begins_every_class_with_its_own_candidate_for_the_bands_that_there_are(
    study: Study, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "model.keras", ("trees", "roads"), trial=7)
    found = starts(study, tmp_path / "f", "--from", str(path), classes=("trees", "crops"))
    assert found["trees"] == found["crops"]
    start = found["trees"]
    assert (start.file, start.sha256) == (path, sha256_of(path))
    assert (start.chosen.trial, start.chosen.study) == (7, "old")
    assert (start.chosen.start_from, start.chosen.fine_tuned) == (str(path), False)
    assert start.chosen.candidate.architecture.bands == ("red",)
    assert start.chosen.candidate.plan == CANDIDATE.plan
    assert start.text == "2 classes of study old, trial 7; bands no longer read: swir"
    words = options("--from", str(path))
    assert starting_budget(study, words) == study.retrain

    tuned = starts(study, tmp_path / "f", "--from", str(path), "--fine-tune")["trees"]
    assert (tuned.chosen.start_from, tuned.chosen.fine_tuned) == (str(path), True)
    assert tuned.chosen.candidate.plan.learning_rate == pytest.approx(0.001)
    for words, epochs in ((["--fine-tune"], 3), (["--fine-tune", "5"], 5)):
        budget = starting_budget(study, options("--from", str(path), *words))
        assert (budget.epochs, budget.steps_per_epoch) == (epochs, study.retrain.steps_per_epoch)


def test_a_model_that_saw_the_ground_it_would_be_judged_on_is_refused(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = SimpleNamespace(
        validation=[SimpleNamespace(id="a"), SimpleNamespace(id="b")], validation_fingerprint="this ground"
    )
    monkeypatch.setattr("pipeline.folds.folds.make_fold", lambda *_: fold)
    counted = ((0,) * 256, (0,) * 256)
    for number, (data, scenes, words, refused, *ground) in enumerate(
        (
            ("ours", "ab", (), ""),
            ("ours", "ab", (), "", "this ground"),
            ("ours", "ab", (), "'other blocks of held out then': ['a', 'b']", "other ground"),
            ("theirs", "ab", (), "", "other ground"),
            ("ours", "a", (), "'held out then': ['a'], 'validates now': ['a', 'b']"),
            ("ours", "abc", (), "saw ground that validates now"),
            ("ours", "ab", ("--folds", "3"), "saw the ground of most folds, which would flatter"),
            ("theirs", "c", ("--folds", "3"), ""),
        )
    ):
        counts = {"trees": dict.fromkeys(scenes, counted)}
        told = {"data_fingerprint": data, "counts": counts, "validation_fingerprint": "".join(ground)}
        path = write_model(tmp_path / f"{number}.keras", ("trees",), **told)
        if refused:
            with pytest.raises(MapgroveError, match=re.escape(refused)):
                starts(study, tmp_path / "f", "--from", str(path), *words)
        else:
            assert starts(study, tmp_path / "f", "--from", str(path), *words)


def test_of_a_model_set_each_class_takes_its_best_member(study: Study, tmp_path: Path) -> None:
    members = []
    for name, rank, seed, jaccard in (
        ("trees", 1, 0, 0.9),
        ("trees", 0, 0, 0.5),
        ("trees", 0, 1, 0.6),
        ("roads", 0, 0, None),
    ):
        file = f"{name}/rank{rank}_seed{seed}.keras"
        write_model(tmp_path / "set" / file, (name,), study="old@retrain", trial=seed)
        members.append(
            ModelMember(
                class_name=name,
                file=file,
                rank=rank,
                seed=seed,
                candidate=CANDIDATE,
                threshold=0.5,
                validation_jaccard=jaccard,
            )
        )
    models = ModelSet(
        study="old",
        data_fingerprint="d",
        classes=("roads", "trees"),
        bands=("red", "swir"),
        members=tuple(members),
        maps=tuple(ClassMap(class_name=name, threshold=0.5) for name in ("roads", "trees")),
    )
    (tmp_path / "set" / MODEL_SET_FILE).write_text(json.dumps(encode(models)), encoding="utf-8")
    found = starts(study, tmp_path / "f", "--from", str(tmp_path / "set"), classes=("trees", "roads"))
    assert found["trees"].file.name == "rank0_seed1.keras"
    assert found["roads"].file == tmp_path / "set" / "roads" / "rank0_seed0.keras"
    with pytest.raises(
        MapgroveError, match=r"has no model of crops\. Received \['roads', 'trees'\].*or name one model's"
    ):
        starts(study, tmp_path / "f", "--from", str(tmp_path / "set"), classes=("crops",))
    found["roads"].file.unlink()
    with pytest.raises(
        MapgroveError,
        match=r"set has lost its model of roads\. Received 'roads/rank0_seed0\.keras'.*Run `retrain` again",
    ):
        starts(study, tmp_path / "f", "--from", str(tmp_path / "set"), classes=("trees", "roads"))


def write_set(folder: Path, study: str = "old", data: str = "d", **member: Any) -> Path:
    """A set of one model, which says nothing of itself; return the model's file."""
    path = folder / "trees" / "model.keras"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    made = ModelMember(class_name="trees", file="trees/model.keras", candidate=CANDIDATE, threshold=0.5, **member)
    models = ModelSet(
        study=study,
        data_fingerprint=data,
        classes=("trees",),
        bands=("red", "swir"),
        members=(made,),
        maps=(ClassMap(class_name="trees", threshold=0.5),),
    )
    (folder / MODEL_SET_FILE).write_text(json.dumps(encode(models)), encoding="utf-8")
    return path


PREDICTION = PredictionSettings(tile_px=512, symmetries="none")


def test_a_recipes_model_is_told_by_its_name_and_maps_as_the_recipe_says(study: Study, tmp_path: Path) -> None:
    path = write_set(tmp_path / "set", recipe="vooban", prediction=PREDICTION)
    for word in (tmp_path / "set", path):
        start = starts(study, tmp_path / "f", "--from", str(word))["trees"]
        assert start.text.startswith("trees of study old, recipe vooban; ")
        chosen = start.chosen
        assert (chosen.trial, chosen.recipe, chosen.study, chosen.prediction) == (None, "vooban", "old", PREDICTION)
    # The copy that says so by itself, wherever it is moved.
    moved = shutil.copy(start.file, tmp_path / "moved.keras")
    by_itself = starts(study, tmp_path / "g", "--from", str(moved))["trees"].chosen
    assert by_itself == chosen.model_copy(update={"start_from": str(moved)})
    ours = write_set(tmp_path / "ours", study.name, recipe="vooban")
    assert starts(study, tmp_path / "h", "--from", str(ours))["trees"].chosen.study == ""


def test_a_recipes_model_that_says_of_itself_which_training_it_is_keeps_the_recipe(
    study: Study, tmp_path: Path
) -> None:
    """One of this version says it; of one of before the set around it does, damaged sets apart."""
    new = write_model(
        tmp_path / "new.keras", ("trees",), 3, study="old@retrain", recipe="vooban", prediction=PREDICTION
    )
    before = write_set(tmp_path / "set", recipe="vooban", prediction=PREDICTION)
    write_model(before, ("trees",), 3, study="old@retrain")
    for path in (new, before):
        start = starts(study, tmp_path / "f", "--from", str(path))["trees"]
        assert start.text.startswith("trees of study old@retrain, trial 3, recipe vooban; ")
        assert (start.chosen.trial, start.chosen.recipe, start.chosen.prediction) == (3, "vooban", PREDICTION)
    (tmp_path / "set" / MODEL_SET_FILE).write_text("{")
    start = starts(study, tmp_path / "f", "--from", str(before))["trees"]
    assert (start.chosen.trial, start.chosen.recipe, start.chosen.prediction) == (3, "", None)


def test_a_model_that_only_its_set_knows_does_not_begin_folds_of_the_same_data(study: Study, tmp_path: Path) -> None:
    write_set(tmp_path / "set", data="ours")
    with pytest.raises(MapgroveError, match="saw the ground of most folds, which would flatter"):
        starts(study, tmp_path / "f", "--from", str(tmp_path / "set"), "--folds", "3")


def test_a_folder_that_is_no_model_set_is_told_with_those_near_it(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    told = re.escape(f"the folder {tmp_path} is no model set: it has no model_set.json. Received '--from .'. ")
    with pytest.raises(MapgroveError, match=f"{told}Name a folder that `retrain` has written, such as runs/NAME/mod"):
        starts(study, tmp_path / "f", "--from", ".")
    write_set(tmp_path / "runs" / "old" / "models")
    for word, near in ((".", "runs/old/models"), ("runs", "runs/old/models"), ("runs/old", "runs/old/models")):
        with pytest.raises(MapgroveError, match=rf"Received '--from {word}'. Name the set itself: --from {near}\.$"):
            starts(study, tmp_path / "f", "--from", word)
    with pytest.raises(MapgroveError, match=f"Name the set itself: --from {tmp_path / 'runs' / 'old' / 'models'}"):
        starts(study, tmp_path / "f", "--from", "runs/old/models/trees")


def fill_store(study: Study, tmp_path: Path) -> None:
    """Trials with Jaccard at trees and roads; 0 and 2 have kept their models."""
    record = StudyRecord(name=study.name, settings=encode(study), space_fingerprint="s", data_fingerprint="d", seed=1)
    with (
        SqliteStore(tmp_path / "t.sqlite") as store,
        open_artifacts(study.study.artifacts, study.store_url) as artifacts,
    ):
        store.create_study(record)
        for number, (trees, roads) in enumerate([(0.6, 0.1), (0.9, 0.9), (0.3, 0.5)]):
            store.add_trial(study.name, NewTrial(number=number, point={}, candidate=encode(CANDIDATE), seed=1))
            claim = store.claim(study.name, "w", 60.0)
            assert claim
            jaccard = {"trees": trees, "roads": roads}
            store.finish(claim, Outcome(state="done", loss=1 - (trees + roads) / 2, jaccard=jaccard))
            if number != 1:
                model = write_model(tmp_path / f"{number}.keras", ("trees", "roads"), number, study=study.name)
                artifacts.put(study.name, Artifact(number, 1, MODEL_FILE), model)


def test_trials_of_the_store_give_the_models_that_are_kept(study: Study, tmp_path: Path) -> None:
    fill_store(study, tmp_path)
    found = starts(study, tmp_path / "f", "--from", f"study:{study.name}", classes=("trees", "roads", "crops"))
    assert {name: read_about(each.file).trial for name, each in found.items()} == {"trees": 0, "roads": 2, "crops": 2}
    assert (found["trees"].chosen.trial, found["trees"].chosen.study) == (0, ""), "a trial of this very study"
    found = starts(study, tmp_path / "f", "--from", "trial:2", classes=("trees", "roads"))
    assert {read_about(each.file).trial for each in found.values()} == {2}
    for word, told in (
        ("trial:1", r"has a model that is kept; those of trials: 0, 2\. Received 1\. search\.keep_models"),
        ("trial:9", r"has a model that is kept; those of trials: 0, 2\. Received 9\."),
        ("trial:best", "trial: is followed by a number"),
        ("study:nix", "no study named 'nix'"),
    ):
        with pytest.raises(MapgroveError, match=told):
            starts(study, tmp_path / "f", "--from", word)


def test_what_cannot_begin_anything_is_refused_at_once(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UnableError, match=r"there is no such model to start from.*trial:N or study:NAME"):
        starts(study, tmp_path / "f", "--from", "gone.keras")
    path = write_model(tmp_path / "model.keras", ("trees",))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"{}", b"{]"))
    with pytest.raises(UnableError, match=r"is damaged, or no model of Keras \(config.json has another checksum"):
        starts(study, tmp_path / "f", "--from", str(path))
    assert starts(study, tmp_path / "f") == {}
    with pytest.raises(UsageError, match="--fine-tune goes on from a model"):
        checked_options(options("--fine-tune"))
    with pytest.raises(UsageError, match="--from names one candidate, and --top several"):
        checked_options(options("--from", "x", "--top", "2"))
    with pytest.raises(SystemExit):
        options("--from", "x", "--recipe", "vooban")


def test_a_training_finds_in_the_store_what_it_starts_from(study: Study, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.keras", ("trees",))
    retraining = study.retraining
    record = StudyRecord(name=retraining.name, settings={}, space_fingerprint="", data_fingerprint="d", seed=1)
    named = (("trees", sha256_of(path)), ("roads", ""))
    tasks = [Task(class_name=name, epochs=1, steps_per_epoch=1, start=start) for name, start in named]
    artifacts = FolderArtifacts(tmp_path / "artifacts", carries_checkpoints=False)
    with SqliteStore(tmp_path / "t.sqlite") as store:
        store.create_study(record)
        wishes = [Wish(CANDIDATE, task, 1) for task in tasks]
        queue = Queue(store, artifacts, retraining, wishes, tmp_path, {sha256_of(path): path})
        queue.fill()
        queue.fill()
        assert [trial.number for trial in store.trials(retraining.name)] == [0, 1]
    assert artifacts.held(retraining.name) == [Artifact(0, 1, START_FILE)]
    assert artifacts.fetch(retraining.name, Artifact(0, 1, START_FILE), tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == path.read_bytes()

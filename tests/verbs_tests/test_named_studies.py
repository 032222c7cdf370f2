"""Which studies a worker, `status` and `doctor` take, where their files are, and what is refused before it is begun."""

import argparse
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import run_search
from pipeline.preparation.prepare import prepare
from pipeline.retrain_objective import RetrainObjective
from search_space.decode import decode, encode
from search_space.errors import MapgroveError
from search_space.space import space_fingerprint, study_space
from search_space.study import Study
from trials_db.errors import StudyConflictError
from trials_db.opening import open_store
from trials_db.records import StudyRecord
from trials_db.stopping import Asked
from verbs.common import load_studies, save_study
from verbs.worker import _Studies

FILE = """
[study]
name = "own"
[data]
format = "masks"
folder = "."
prepared = "{prepared}"
classes = ["road"]
options = {{ values = {{ road = 1 }}, images = "images/*.png", masks = "masks/*.png" }}
[folds]
validation = ["b"]
[budget]
epochs = 1
steps_per_epoch = 1
[retrain]
epochs = 1
steps_per_epoch = 1
[limits]
max_trials = 1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two scenes, prepared, and the file of a study."""
    for name in ("a", "b"):
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
            shade = np.random.default_rng(ord(name)).integers(0, 2, (160, 160), dtype=np.uint8)
            pixels = shade if kind == "masks" else np.repeat(shade[..., None], 3, axis=2)
            assert cv2.imwrite(str(tmp_path / kind / f"{name}.png"), pixels)
    monkeypatch.chdir(tmp_path)
    for name in ("prepared", "elsewhere"):
        Path(f"{name}.toml").write_text(FILE.format(prepared=name))
    prepare(study("prepared").data)
    Path("elsewhere").symlink_to("prepared")
    return tmp_path


def options(*studies: str, store: str | None = None, assignments: tuple[str, ...] = ()) -> argparse.Namespace:
    return argparse.Namespace(studies=list(studies), store=store, assignments=list(assignments))


def study(name: str, *assignments: str) -> Study:
    from search_space.study_file import read_study

    return read_study(Path(f"{name}.toml"), assignments)


def begin(given: Study, **changed: Any) -> None:
    """As `search` would, but for what is changed in the record."""
    from pipeline.preparation.prepared import PreparedDataset

    dataset = PreparedDataset.open_for(given.data)
    record = StudyRecord(
        name=given.name,
        settings=encode(given.with_store("")),
        space_fingerprint=space_fingerprint(study_space(given.space, dataset.input_bands)),
        data_fingerprint=dataset.fingerprint,
        seed=given.study.seed,
    )
    with open_store("sqlite:///s.sqlite") as store:
        store.create_study(record.model_copy(update=changed))


def served(*names: str, assignments: tuple[str, ...] = ()) -> list[Study]:
    """The studies that a worker would serve, as it sees them."""
    named = load_studies(options(*names, store="sqlite:///s.sqlite", assignments=assignments))
    with open_store(named.store_url) as store, ExitStack() as opened:
        asked = Asked(threading.Event(), threading.Event())
        found = _Studies(store, named, opened).wait_for_some(asked, idle_exit_s=0.0)
        return [each.objective.study for each in found]  # type: ignore[attr-defined]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = run_search.main(list(words))
    told = capsys.readouterr()
    return code, told.out + told.err


def test_a_worker_takes_its_files_from_where_its_own_file_says() -> None:
    begin(study("prepared", "study.folder=at/the/master", "study.artifacts=kept"))

    assert places(served("own")) == ("at/the/master", "prepared", "kept")
    # What the file does not name stays as the study has it.
    assert places(served("elsewhere.toml")) == ("at/the/master", "elsewhere", "kept")
    assert places(served("elsewhere.toml", assignments=("study.folder=here",))) == ("here", "elsewhere", "kept")


def places(found: list[Study]) -> tuple[str, str, str]:
    [only] = found
    return str(only.folder), only.data.prepared, only.study.artifacts


def test_a_worker_whose_file_says_something_else_refuses_and_says_what(capsys: pytest.CaptureFixture[str]) -> None:
    begin(study("prepared"))
    # How far the study goes, and how candidates are proposed, is the master's matter.
    others = ("limits.max_trials=7", "search.algorithm=rand", "search.lease_s=5", "retrain.epochs=3")
    assert [each.limits.max_trials for each in served("prepared.toml", assignments=others)] == [1]

    for assignment, told in (
        ("budget.epochs=9", "settings.budget.epochs (stored 1, given 9)"),
        ("study.seed=5", "settings.study.seed (stored 0, given 5)"),
        ('space."plan.patch_px"={fix=64}', "settings.space.plan.patch_px"),
        ("pruning.kind=median", "settings.pruning.kind (stored 'none', given 'median')"),
    ):
        with pytest.raises(StudyConflictError) as caught:
            served("prepared.toml", assignments=(assignment,))
        assert f"A study named 'own' exists and differs in {told}" in str(caught.value)
    words = ("--store", "sqlite:///s.sqlite", "--set", "budget.epochs=9", "--workers", "2")
    code, told = run(capsys, "worker", "--study", "prepared.toml", *words)
    assert (code, told.count("\n")) == (1, 1)
    assert "differs in settings.budget.epochs (stored 1, given 9)" in told


def test_a_worker_that_makes_another_space_of_the_settings_refuses() -> None:
    given = study("prepared")
    begin(given, space_fingerprint="0123456789abcdef")

    with pytest.raises(MapgroveError) as caught:
        served("own")
    assert caught.value.what == "the search space of study own is not what this Mapgrove makes of its settings"
    assert caught.value.received["study"] == "0123456789abcdef"
    assert "Use the Mapgrove that began the study" in caught.value.remedy


def test_patterns_that_match_nothing_yet_are_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    begin(study("prepared"))

    assert [each.name for each in served("own", "later/*")] == ["own"]
    assert not capsys.readouterr().out
    assert served("later/*", "o?n/*") == []
    assert capsys.readouterr().out == "No study of the store matches later/*, o?n/* yet; waiting for one to begin\n"
    code, told = run(capsys, "worker", "--study", "later/*", "--store", "sqlite:///s.sqlite", "--idle-exit-s", "0")
    assert (code, told.count("waiting for one to begin")) == (0, 1)


def test_a_retraining_is_served_with_its_study_also_when_it_begins_later() -> None:
    searched = study("prepared", "limits.trial_s=9", "limits.stuck_s=5", "retrain.steps_per_epoch=3")
    named = load_studies(options("own", "more/*", store="sqlite:///s.sqlite"))
    begin(searched)
    with open_store(named.store_url) as store, ExitStack() as opened:
        studies = _Studies(store, named, opened)
        found = studies.wait_for_some(Asked(threading.Event(), threading.Event()), idle_exit_s=0.0)
        assert [each.study.name for each in found] == ["own"]
        assert studies.find_more() == []
        begin(searched.retraining)
        [retraining] = studies.find_more()
        assert studies.find_more() == []
    assert retraining.study.name == "own@retrain"
    assert isinstance(retraining.objective, RetrainObjective)
    assert retraining.folder == Path("runs/own/retrain")
    assert (retraining.pruning, retraining.kept.num_models) == (None, None)
    # What a trial of the search may take says nothing of a longer training; an epoch is three times as long.
    assert (found[0].limits.trial_s, found[0].limits.stuck_s) == (9.0, 5.0)
    assert (retraining.limits.trial_s, retraining.limits.stuck_s) == (0.0, 15.0)


def test_a_study_that_cannot_be_served_at_first_is_served_when_it_can(caplog: pytest.LogCaptureFixture) -> None:
    """As where a disk is not mounted yet; told once, not every ten seconds."""
    named = load_studies(options("own", "more*", store="sqlite:///s.sqlite"))
    begin(study("prepared"))
    with open_store(named.store_url) as store, ExitStack() as opened:
        studies = _Studies(store, named, opened)
        studies.wait_for_some(Asked(threading.Event(), threading.Event()), idle_exit_s=0.0)
        begin(study("prepared", "study.name=more"))
        Path("prepared").rename("away")
        assert [studies.find_more() for _ in range(3)] == [[], [], []]
        assert caplog.text.count("study more is not served") == 1
        Path("away").rename("prepared")
        assert [[each.study.name for each in studies.find_more()] for _ in range(2)] == [["more"], []]


def test_what_was_never_searched_is_retrained_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    begin(study("prepared", "study.folder=at/the/master").retraining)

    [only] = served("own")
    assert (only.name, places([only])) == ("own@retrain", ("at/the/master/retrain", "prepared", ""))
    assert places(served("elsewhere.toml", assignments=("study.folder=here",))) == ("here/retrain", "elsewhere", "")
    assert [each.name for each in served("own@retrain")] == ["own@retrain"]
    # Trainings have a budget and a seed of their own; the ground is that of all.
    served("elsewhere.toml", assignments=("budget.epochs=9", "study.seed=3", "limits.max_trials=9"))
    with pytest.raises(StudyConflictError, match=r"settings\.folds\.validation"):
        served("elsewhere.toml", assignments=('folds.validation=["a"]',))
    code, told = run(capsys, "worker", "--study", "other", "--store", "sqlite:///s.sqlite")
    assert code == 1
    assert "no study named 'other'" in told


def test_status_says_what_there_is_where_nothing_matches(capsys: pytest.CaptureFixture[str]) -> None:
    begin(study("prepared"))

    code, told = run(capsys, "status", "--study", "later/*", "--store", "sqlite:///s.sqlite")
    assert code == 1
    assert told == "status: no study of the store matches. Received 'later/*'. It holds: own.\n"
    code, told = run(capsys, "status", "--study", "*")
    assert (code, "a pattern needs a store to look in" in told) == (2, True)


def test_of_a_study_that_was_retrained_and_never_searched_the_retraining_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin(study("prepared").retraining)

    code = run_search.main(["status", "--study", "own", "--store", "sqlite:///s.sqlite"])

    told = capsys.readouterr()
    assert (code, told.err) == (0, "own was not searched here; this is its retraining\n")
    assert "own@retrain" in told.out


def test_a_folder_has_one_study(capsys: pytest.CaptureFixture[str]) -> None:
    first = study("prepared", "study.folder=at")
    save_study(first)
    words = ("search", "--study", "prepared.toml", "--set", "study.folder=at")

    code, told = run(capsys, *words, "--set", "study.name=other")
    assert code == 1
    assert told == (
        "search: at is the folder of the study 'own'. Received 'other'. Name another study.folder, or leave it out.\n"
    )
    with open_store("sqlite:///at/trials.sqlite") as store:
        assert store.list_studies() == []


def test_large_files_that_could_not_be_kept_are_told_before_anything_is_tried(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    (folder / "file").touch()
    code, told = run(capsys, "search", "--study", "prepared.toml", "--set", "study.artifacts=file")

    assert code == 1
    assert told.startswith("search: file cannot be written: ")
    assert told.count("\n") == 1
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["search", "--study", "own/road", "--set", "limits.max_trials=4"],
            "Name that of own, with --one-vs-all --classes road.",
        ),
        (["trials", "model", ".", "--study", "own"], "this is a folder. Received '.'. trials model model.keras."),
        (
            ["search", "--study", "prepared.toml", "--start-from", "study:own/*"],
            "has 'study:own/*', and the name of a study must start with",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    code, line = run(capsys, *words)

    assert (code, line.count("\n")) == (2, 1)
    assert told in line


def test_doctor_checks_the_machine_also_where_the_store_is_away() -> None:
    url = "mongodb://127.0.0.1:9/x?serverSelectionTimeoutMS=200"
    words = [sys.executable, str(run_search.__file__), "doctor", "--study", "own", "--store", url]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["ok      Python", "ok      backend", "FAILED  study"]
    assert "is not reached" in lines[2]


def test_a_store_whose_url_was_not_kept_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    save_study(study("prepared", "study.store=mongodb://me:S3cr3t@127.0.0.1:9/x"))
    assert "S3cr3t" not in Path("runs/own/study.json").read_text()
    code, told = run(capsys, "status", "--study", "own")

    assert code == 1
    assert told == (
        "status: the URL of the study's store holds a password, so it is not kept. Received "
        "'mongodb://me:***@127.0.0.1:9/x'. Name the study's .toml file, or set $MAPGROVE_STORE.\n"
    )


def test_a_study_of_one_class_is_made_by_the_search_alone(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run(capsys, "search", "--study", "prepared.toml", "--set", "study.name=own/road")

    assert (code, "as `search --one-vs-all` makes them: leave it out" in told) == (2, True)


def test_a_file_names_what_it_leaves_out_as_it_was() -> None:
    """Of places alone: what proposals and losses rest on is the store's."""
    ours = study("prepared", "study.folder=ours", "study.artifacts=a", "study.seed=5")
    theirs: Any = encode(study("elsewhere", "study.seed=6"))
    placed = ours.placed_as(decode(Study, theirs, where="test"))

    assert placed.study == ours.study
    assert placed.data == ours.data.model_copy(update={"prepared": "elsewhere"})

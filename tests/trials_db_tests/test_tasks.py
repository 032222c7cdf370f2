"""Trials of a retraining: each is told its task, every model is kept, and a damaged task is one failed trial."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from trial_objectives import DoesTasks

from search_space.decode import encode
from search_space.objective import MODEL_FILE, START_FILE
from search_space.task import Task
from trials_db.artifacts import Artifact, FolderArtifacts, parse_artifact
from trials_db.assignment import Assignment
from trials_db.errors import NoRoomError, WorkerError
from trials_db.keeping import Keeping
from trials_db.moving import copy_files, files_beside, read_study, write_study
from trials_db.records import NewTrial, StudyRecord, Trial, TrialState
from trials_db.sqlite_store import SqliteStore
from trials_db.worker import Worker

Maker = Callable[[int], NewTrial]
START = "0" * 64


def task(**values: Any) -> dict[str, Any]:
    return encode(Task(class_name="water", epochs=1, steps_per_epoch=1, **values))


@pytest.fixture
def store(tmp_path: Path, study: StudyRecord) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "trials.sqlite") as opened:
        opened.create_study(study.model_copy(update={"name": "demo@retrain"}))
        yield opened


@pytest.fixture
def add(store: SqliteStore, new_trial: Maker) -> Callable[..., None]:
    def added(*tasks: dict[str, Any] | None) -> None:
        for number, each in enumerate(tasks):
            assert store.add_trial("demo@retrain", new_trial(number).model_copy(update={"task": each}))

    return added


def worked(store: SqliteStore, folder: Path, artifacts: FolderArtifacts, num_models: int | None = None) -> list[Trial]:
    assignment = Assignment(
        store.load_study("demo@retrain"), DoesTasks(), folder, keeping=Keeping(artifacts, num_models)
    )
    Worker(store, [assignment]).run(threading.Event(), idle_exit_s=0.0)
    return store.trials("demo@retrain")


@pytest.mark.parametrize("carries", [True, False], ids=["shared by machines", "beside the store"])
def test_each_training_is_told_its_task_and_every_model_is_kept(
    store: SqliteStore, add: Any, tmp_path: Path, carries: bool
) -> None:
    artifacts = FolderArtifacts(tmp_path / "kept", carries_checkpoints=carries)
    add(task(), task(fold=2, num_folds=3), task(start=START), None)
    (tmp_path / "start").write_text("another model")
    artifacts.put("demo@retrain", Artifact(2, 1, START_FILE), tmp_path / "start")

    trials = worked(store, tmp_path, artifacts)

    assert [trial.state for trial in trials] == ["done", "done", "done", "failed"]
    assert "ValueError: no task" in trials[3].outcome.reason
    assert artifacts.held("demo@retrain") == [Artifact(number, 1, MODEL_FILE) for number in range(3)]
    models = []
    for number in range(3):
        artifacts.fetch("demo@retrain", Artifact(number, 1, MODEL_FILE), tmp_path / "model")
        models.append((tmp_path / "model").read_text())
    assert models == ["water 0 from scratch", "water 2 from scratch", "water 0 from another model"]
    for number in range(3):
        folder = tmp_path / "trials" / f"{number:04d}"
        assert {path.name for path in folder.iterdir()} == {"candidate.json", "log.txt", "task.json"}
        assert json.loads((folder / "task.json").read_text()) == trials[number].task
    # Of a study that is over, models stay as well, and what else there is goes.
    artifacts.put("demo@retrain", Artifact(3, 1, START_FILE), tmp_path / "start")
    Keeping(artifacts, None).sweep(store, "demo@retrain", is_over=True)
    assert {each.file for each in artifacts.held("demo@retrain")} == {MODEL_FILE}


def test_what_a_deleted_study_of_the_name_started_from_is_not_taken(
    store: SqliteStore, add: Any, tmp_path: Path
) -> None:
    artifacts = FolderArtifacts(tmp_path / "kept", carries_checkpoints=False)
    add(task(start=START))
    (tmp_path / "start").write_text("this model")
    artifacts.put("demo@retrain", Artifact(0, 1, START_FILE), tmp_path / "start")
    left = tmp_path / "trials" / "0000" / START_FILE
    left.parent.mkdir(parents=True)
    left.write_text("that of a trial that was killed")
    worked(store, tmp_path, artifacts)
    assert artifacts.fetch("demo@retrain", Artifact(0, 1, MODEL_FILE), tmp_path / "model")
    assert (tmp_path / "model").read_text() == "water 0 from this model"


def test_a_training_whose_start_cannot_be_fetched_is_handed_back(store: SqliteStore, add: Any, tmp_path: Path) -> None:
    artifacts = FolderArtifacts(tmp_path / "kept", carries_checkpoints=False)
    add(task(start=START))
    (tmp_path / "start").write_text("this model")
    artifacts.put("demo@retrain", Artifact(0, 1, START_FILE), tmp_path / "start")
    (tmp_path / "trials" / "0000" / START_FILE).mkdir(parents=True)
    with pytest.raises(WorkerError, match="that trial 0 starts from cannot be fetched"):
        worked(store, tmp_path, artifacts)
    [trial] = store.trials("demo@retrain")
    assert (trial.state, trial.lost_workers) == (TrialState.NEW, 0)


def test_a_training_whose_model_cannot_be_kept_has_not_ended(
    store: SqliteStore, add: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have been for nothing: it is handed back, until there is room or the worker gives up."""
    monkeypatch.setattr("trials_db.worker.FULL_WAIT_S", 0.01)
    monkeypatch.setattr("trials_db.worker.PATIENCE_S", 0.1)
    (tmp_path / "kept").write_text("a file where a folder should be")
    artifacts = FolderArtifacts(tmp_path / "kept", carries_checkpoints=False)
    add(task())
    with pytest.raises(NoRoomError, match="The model of trial 0 cannot be kept"):
        worked(store, tmp_path, artifacts)
    [trial] = store.trials("demo@retrain")
    assert (trial.state, trial.lost_workers) == ("new", 0)

    (tmp_path / "kept").unlink()
    [trial] = worked(store, tmp_path, artifacts)
    assert trial.state == "done"
    assert [each.file for each in artifacts.held("demo@retrain")] == [MODEL_FILE]


HOSTILE = [
    {},
    {"class_name": "../../etc"},
    {"class_name": "water", "epochs": 0, "steps_per_epoch": 1},
    {"class_name": "water", "epochs": 1, "steps_per_epoch": 1, "start": "; rm -rf /"},
    {"class_name": "water", "epochs": 1, "steps_per_epoch": 1, "__class__": "os.system"},
    {"class_name": "water", "epochs": 1, "steps_per_epoch": 1, "fold": 10**30},
]


def test_a_task_that_is_none_ends_its_trial_and_the_others_go_on(
    store: SqliteStore, add: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(*HOSTILE, task())
    trials = worked(store, tmp_path, FolderArtifacts(tmp_path / "kept", carries_checkpoints=False))
    assert [trial.state for trial in trials] == ["failed"] * len(HOSTILE) + ["done"]
    for trial in trials[:-1]:
        assert trial.outcome.reason.startswith("damaged in the store: its task")
        assert f"trial {trial.number}: damaged in the store" in caplog.text
        assert trial.decoded_task() is None
    assert trials[-1].decoded_task() == Task(class_name="water", epochs=1, steps_per_epoch=1)


def test_a_retraining_moves_with_its_tasks_and_its_models(store: SqliteStore, add: Any, tmp_path: Path) -> None:
    artifacts = FolderArtifacts(tmp_path / "kept", carries_checkpoints=False)
    add(task(fold=1, num_folds=2), task(fold=2, num_folds=2))
    trials = worked(store, tmp_path, artifacts)
    path = tmp_path / "moved.jsonl"
    write_study(path, store.load_study("demo@retrain"), trials)
    copy_files("demo@retrain", artifacts, files_beside(path))
    record, found = read_study(path)
    assert (record.name, found) == ("demo@retrain", trials)
    assert files_beside(path).held("demo@retrain") == artifacts.held("demo@retrain")


def test_what_a_training_starts_from_is_an_artifact() -> None:
    assert parse_artifact("0007/1/start.keras") == Artifact(7, 1, START_FILE)

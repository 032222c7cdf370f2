"""A study on its way from one store to another: nothing is lost, and a bad file adds nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from search_space.errors import MalformedError
from search_space.objective import EpochReport, Outcome
from trials_db.moving import read_study, write_study
from trials_db.records import TrialState
from trials_db.store import TrialStore


@pytest.fixture
def moved(store: TrialStore, new_trial: Any, tmp_path: Path) -> Path:
    """From each kind of store: a trial that is done, one that runs, one that is new."""
    for number in range(3):
        store.add_trial("demo", new_trial(number).model_copy(update={"priority": -number}))
    claim = store.claim("demo", "w", 60.0)
    store.report(claim, EpochReport(epoch=1, training_loss=0.5, jaccard={"water": 0.4}))
    store.finish(claim, Outcome(state="done", loss=0.6, jaccard={"water": 0.4}, figures={"train_s": 3.0}))
    store.claim("demo", "w", 60.0)
    path = tmp_path / "out" / "demo.jsonl"
    write_study(path, store.load_study("demo"), store.trials("demo"))
    return path


def test_a_study_arrives_as_it_was(store: TrialStore, moved: Path, tmp_path: Path) -> None:
    from trials_db.sqlite_store import SqliteStore

    record, trials = read_study(moved)
    assert (record, trials) == (store.load_study("demo"), store.trials("demo"))
    assert [path.name for path in moved.parent.iterdir()] == ["demo.jsonl"]
    with SqliteStore(tmp_path / "there.sqlite") as there:
        assert there.restore_study(record, trials) == 3
        found = there.trials("demo")
        assert there.load_study("demo") == record
    assert found == [trial.as_new() for trial in trials]
    assert [trial.state for trial in found] == [TrialState.DONE, TrialState.NEW, TrialState.NEW]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[:-1], "was cut off: its last line is not the end"),
        (lambda lines: lines[:2] + lines[3:], "was cut off"),
        (lambda lines: [], "holds no exported study"),
        (lambda lines: lines[1:], "holds no exported study"),
        (lambda lines: ["{}", *lines[1:]], "holds no exported study"),
        (lambda lines: [lines[0], "[]", *lines[2:]], "line 2, is no JSON mapping"),
        (lambda lines: [lines[0], lines[1][:40], *lines[2:]], "line 2, is no JSON mapping"),
        (lambda lines: [_with(lines[0], mapgrove_study=9), *lines[1:]], "has another format. Received 9"),
        (lambda lines: [lines[0], _with(lines[1], state="lost"), *lines[2:]], "line 2: 'state'"),
        (lambda lines: [lines[0], _with(lines[1], number="__import__('os')"), *lines[2:]], "line 2: 'number'"),
        (lambda lines: [lines[0], _with(lines[1], extra=1), *lines[2:]], "line 2: unknown key 'extra'"),
    ],
)
def test_a_bad_file_is_refused_as_a_whole(moved: Path, change: Any, told: str) -> None:
    lines = change(moved.read_text().splitlines())
    moved.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(MalformedError) as caught:
        read_study(moved)
    assert told in str(caught.value)
    assert str(moved) in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match=r"there is no such file. Received '.*gone.jsonl'"):
        read_study(tmp_path / "gone.jsonl")


def _with(line: str, **changes: Any) -> str:
    return json.dumps(json.loads(line) | changes)

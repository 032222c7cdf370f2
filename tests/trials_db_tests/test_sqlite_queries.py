"""Which indexes SQLite uses: what is asked again and again must not take longer with every trial that has ended."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search_space.objective import EpochReport, Outcome
from trials_db.records import StudyRecord
from trials_db.sqlite_store import SqliteStore

WHOLE_STUDY = ("SCAN", "(study=?)")
"""How SQLite tells that it goes through all rows of a table, or through all of a study."""


@pytest.fixture
def asked(tmp_path: Path, study: StudyRecord, new_trial: Any) -> Callable[[Callable[[SqliteStore], object]], list[str]]:
    """What SQLite plans for each statement on trials and reports that a call makes."""

    def plans(call: Callable[[SqliteStore], object]) -> list[str]:
        statements: list[str] = []
        with SqliteStore(tmp_path / "trials.sqlite") as store:
            store.create_study(study)
            store.add_trial("demo", new_trial(0))
            store.add_trial("demo", new_trial(1))
            store._db.set_trace_callback(statements.append)
            call(store)
            store._db.set_trace_callback(None)
        about = [each for each in statements if " trials " in each or " reports " in each]
        assert about
        db = sqlite3.connect(tmp_path / "trials.sqlite")
        found = [row[3] for each in about for row in db.execute(f"EXPLAIN QUERY PLAN {each}")]
        db.close()
        return found

    return plans


def _run_one(store: SqliteStore) -> None:
    claim = store.claim("demo", "worker", 60.0)
    assert claim is not None
    store.renew(claim)
    store.report(claim, EpochReport(epoch=1, training_loss=0.5, jaccard={"a": 0.5}))
    store.finish(claim, Outcome(state="done", loss=0.5))


CALLS: dict[str, Callable[[SqliteStore], object]] = {
    "poll": lambda store: store.changed_since("demo", "1"),
    "requeue": lambda store: store.requeue_expired("demo"),
    "run": _run_one,
    "judge": lambda store: store.scores("demo", 1),
    "withdraw": lambda store: store.withdraw("demo", 0, "nobody wants it"),
    "keep": lambda store: store.best("demo", 3),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_asked_often_reads_no_more_than_it_needs(asked: Any, name: str) -> None:
    assert [plan for plan in asked(CALLS[name]) if any(part in plan for part in WHOLE_STUDY)] == []


def test_a_plan_that_reads_the_whole_study_shows(asked: Any) -> None:
    query = "SELECT number FROM trials WHERE study = 'demo' ORDER BY attempts"
    assert any(WHOLE_STUDY[1] in plan for plan in asked(lambda store: store._db.execute(query)))

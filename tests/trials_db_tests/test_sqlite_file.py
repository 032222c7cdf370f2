"""Opening stores by URL, and what is told when the file is not what it should be."""

import json
import multiprocessing
import re
import resource
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search_space.decode import canonical_json
from search_space.objective import EpochReport, Outcome
from trials_db import sqlite_file
from trials_db.errors import StoreError, StoreFullError, mask_url
from trials_db.opening import open_store
from trials_db.records import TrialState, WorkerRecord
from trials_db.sqlite_store import SqliteStore


def _refused(url: str, **options: bool) -> str:
    with pytest.raises(StoreError) as caught:
        open_store(url, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_the_folder_is_made_for_writing_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs/x/trials.sqlite"
    line = _refused(url, create=False)
    assert line.startswith(f"There is no study store at {tmp_path}/runs/x/trials.sqlite. Run `run_search.py search`")
    assert list(tmp_path.iterdir()) == []
    open_store(url).close()
    open_store(url, create=False).close()


def test_a_relative_path_starts_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///runs/t.sqlite").close()
    assert (tmp_path / "runs" / "t.sqlite").is_file()


@pytest.mark.parametrize("url", ["postgres://me:secret@host/x", "trials.sqlite", ""])
def test_an_unknown_scheme_is_told_with_examples(url: str) -> None:
    line = _refused(url)
    assert "sqlite:///runs/x/trials.sqlite or mongodb://host/database" in line
    assert "secret" not in line


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://trials.sqlite", "sqlite:///:memory:"])
def test_a_sqlite_url_needs_a_file(url: str) -> None:
    assert "is a file, named after sqlite:///" in _refused(url)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("mongodb://me:secret@h/d", "mongodb://me:***@h/d"),
        ("mongodb://me:a:b@c@h/d", "mongodb://me:***@h/d"),
        ("mongodb://h/d?tlsCertificateKeyFilePassword=x&w=1", "mongodb://h/d?tlsCertificateKeyFilePassword=***&w=1"),
        ("mongodb://h/d?w=1&authMechanismProperties=AWS_SESSION_TOKEN:t", None),
        ("sqlite:////data/a@b:c.sqlite", "sqlite:////data/a@b:c.sqlite"),
    ],
)
def test_passwords_are_masked(url: str, masked: str | None) -> None:
    assert mask_url(url) == (masked or "mongodb://h/d?w=1&authMechanismProperties=***")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    path.write_text("Dear diary, " * 100)
    line = _refused(f"sqlite:///{path}")
    assert f"The study store {path} is not a SQLite file" in line
    assert "--store sqlite:///PATH, or study.store" in line
    assert path.read_text().startswith("Dear diary")


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    assert "is a file, and this is a folder" in _refused(f"sqlite:///{tmp_path}")


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file/t.sqlite", "file/deeper/t.sqlite"):
        line = _refused(f"sqlite:///{tmp_path}/{path}")
        assert "cannot be made, a part of its path is a file" in line
        assert "Name another file: --store" in line


def test_another_programs_database(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE songs (title TEXT)")
    db.close()
    line = _refused(f"sqlite:///{path}")
    assert f"{path} belongs to another program" in line
    assert "--store sqlite:///PATH, or study.store" in line


def test_an_empty_file_holds_no_study_and_is_left_alone_by_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    path.touch()
    line = _refused(f"sqlite:///{path}", create=False)
    assert line == f"The study store {path} holds no study. Run `run_search.py search` first."
    assert path.stat().st_size == 0
    open_store(f"sqlite:///{path}").close()
    open_store(f"sqlite:///{path}", create=False).close()


def test_a_reader_waits_for_the_tables_that_another_process_is_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_MAKING_S", 60.0)
    path = tmp_path / "t.sqlite"
    path.touch()
    opened: list[list[str]] = []

    def read() -> None:
        with SqliteStore(path, create=False) as store:
            opened.append(store.list_studies())

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.3)
    assert opened == []
    SqliteStore(path).close()
    reader.join()
    assert opened == [[]]


def test_a_later_version(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert "has version 99, this Mapgrove reads up to 2" in _refused(f"sqlite:///{path}")


VERSION_1 = """
CREATE TABLE studies (name TEXT PRIMARY KEY, document TEXT NOT NULL, created_s REAL NOT NULL,
    changes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE trials (study TEXT NOT NULL REFERENCES studies (name), number INTEGER NOT NULL, state TEXT NOT NULL,
    document TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, lost_workers INTEGER NOT NULL DEFAULT 0,
    worker TEXT, token TEXT, lease_until_s REAL, outcome TEXT, created_s REAL NOT NULL, started_s REAL,
    finished_s REAL, changed INTEGER NOT NULL, PRIMARY KEY (study, number));
CREATE INDEX trials_by_state ON trials (study, state, number);
CREATE INDEX trials_by_change ON trials (study, changed);
CREATE TABLE reports (study TEXT NOT NULL, number INTEGER NOT NULL, epoch INTEGER NOT NULL,
    document TEXT NOT NULL, PRIMARY KEY (study, number, epoch),
    FOREIGN KEY (study, number) REFERENCES trials (study, number));
CREATE TABLE leads (study TEXT PRIMARY KEY REFERENCES studies (name), owner TEXT NOT NULL, token TEXT NOT NULL,
    lease_until_s REAL NOT NULL);
CREATE TABLE workers (study TEXT NOT NULL REFERENCES studies (name), name TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (study, name));
PRAGMA application_id = 0x4D677276;
PRAGMA user_version = 1;
"""


def test_an_earlier_version_is_brought_up_to_date(tmp_path: Path, study: Any, new_trial: Any) -> None:
    """By whichever of several processes comes first."""
    path = tmp_path / "t.sqlite"
    reports = [
        EpochReport(epoch=1, training_loss=0.5, jaccard={"a": 0.2, "b": 0.4}),
        EpochReport(epoch=2, training_loss=0.4),
    ]
    with sqlite3.connect(path) as db:
        db.executescript(VERSION_1)
        db.execute("INSERT INTO studies VALUES ('demo', ?, 1.0, 5)", (canonical_json(study),))
        for number in range(2):
            proposal = new_trial(number).model_dump(mode="json")
            # The first version knew no priority.
            del proposal["priority"]
            row = (number, "new", json.dumps(proposal), 1, 2.0, 4 + number)
            db.execute(
                "INSERT INTO trials (study, number, state, document, attempts, created_s, changed)"
                " VALUES ('demo', ?, ?, ?, ?, ?, ?)",
                row,
            )
        for report in reports:
            db.execute("INSERT INTO reports VALUES ('demo', 0, ?, ?)", (report.epoch, canonical_json(report)))
    db.close()
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: SqliteStore(path), range(4)))
    for store in stores:
        assert store.load_study("demo") == study
        first, second = store.trials("demo")
        assert (first.number, first.priority, first.reports, second.number) == (0, 0, tuple(reports), 1)
        assert store.scores("demo", 1) == pytest.approx({0: 0.3})
        assert store.scores("demo", 2) == pytest.approx({0: 0.3})
    stores[0].add_trial("demo", new_trial(2).model_copy(update={"priority": 1}))
    assert [stores[1].claim("demo", "w", 60.0).number for _ in range(3)] == [2, 0, 1]
    for store in stores:
        store.close()
    with sqlite3.connect(path) as db, sqlite3.connect(tmp_path / "new.sqlite") as new:
        SqliteStore(tmp_path / "new.sqlite").close()
        indexes = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' ORDER BY name"
        assert db.execute(indexes).fetchall() == new.execute(indexes).fetchall()
        for table in ("studies", "trials", "reports", "leads", "workers"):
            columns = [{(row[1], row[2]) for row in each.execute(f"PRAGMA table_info({table})")} for each in (db, new)]
            assert columns[0] == columns[1]
    db.close()
    new.close()


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    SqliteStore(path).close()
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    line = _refused(f"sqlite:///{path}")
    assert str(path) in line


def test_a_damaged_document(tmp_path: Path, study: Any) -> None:
    path = tmp_path / "t.sqlite"
    with SqliteStore(path) as store:
        store.create_study(study)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE studies SET document = ?", (canonical_json(study)[:-5],))
    db.close()
    with SqliteStore(path) as store, pytest.raises(StoreError, match="holds a damaged document") as caught:
        store.load_study("demo")
    assert f"The study store {path} holds a damaged document, study 'demo': it is no JSON mapping" in str(caught.value)
    assert "Restore the store from a copy" in str(caught.value)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "UPDATE trials SET document = json_remove(document, '$.point')",
            "trial 0 of study 'demo': the key 'point' is missing. Restore the store from a copy",
        ),
        ("UPDATE trials SET document = x'00'", "trial 0 of study 'demo': it is no JSON mapping"),
        ("UPDATE trials SET document = 'null'", "trial 0 of study 'demo': it is no JSON mapping"),
        ("UPDATE trials SET state = 'lost'", "trial 0 of study 'demo': "),
        ("UPDATE trials SET outcome = '{'", "trial 0 of study 'demo': it is no JSON mapping"),
        ("UPDATE reports SET document = '{}'", "a report of trial 0 of study 'demo': the key "),
        ("UPDATE studies SET document = '{}'", "study 'demo': the key "),
        ("UPDATE workers SET document = '[]'", "a worker of study 'demo': it is no JSON mapping"),
    ],
)
def test_a_damaged_document_is_named_with_its_store_and_a_remedy(
    tmp_path: Path, study: Any, new_trial: Any, statement: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.sqlite"
    with SqliteStore(path) as store:
        store.create_study(study)
        store.add_trial("demo", new_trial(0))
        store.heartbeat(WorkerRecord(name="w", host="here", pid=1, study="demo"))
        store.report(store.claim("demo", "w", 60.0), EpochReport(epoch=1, training_loss=0.5))
    with sqlite3.connect(path) as db:
        assert db.execute(statement).rowcount == 1
    db.close()
    with SqliteStore(path) as store:
        if "studies" in statement:
            with pytest.raises(StoreError) as caught:
                store.load_study("demo")
            line = str(caught.value)
        else:
            (trial,) = store.trials("demo")
            workers = store.workers("demo")
            (line,) = [record.message for record in caplog.records]
            assert (trial.state is TrialState.FAILED) == ("trial 0" in told)
            assert len(workers) == ("UPDATE workers" not in statement)
    assert f"The study store {path} holds a damaged document, {told}" in line
    assert "Restore the store from a copy, or name another one and search anew." in line


def test_a_lock_held_too_long(tmp_path: Path, study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "WAIT_S", 0.05)
    path = tmp_path / "t.sqlite"
    with SqliteStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is locked by another process"):
            store.create_study(study)
        assert store.list_studies() == []
        other.close()
        store.create_study(study)


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path, study: Any) -> None:
    with SqliteStore(tmp_path / "t.sqlite") as store:
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        large = study.model_copy(update={"settings": {"text": "x" * 100_000}})
        with pytest.raises(StoreError, match="cannot grow, the disk is full"):
            store.create_study(large)
        assert store.list_studies() == []
        store._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
        store.create_study(large)


def test_a_disk_that_refuses_is_told_with_what_to_check(tmp_path: Path, study: Any) -> None:
    with SqliteStore(tmp_path / "t.sqlite") as store:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            with pytest.raises(StoreError, match=r"disk I/O error.*Check free space \(df\) and rights there"):
                store.create_study(study.model_copy(update={"settings": {"text": "x" * 200_000}}))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        store.create_study(study)
        assert store.list_studies() == ["demo"]


class TestAFileThatIsGone:
    @staticmethod
    def _delete(path: Path) -> None:
        shutil.rmtree(path.parent)

    @staticmethod
    def _replace(path: Path) -> None:
        path.rename(path.with_suffix(".old"))
        SqliteStore(path).close()

    @pytest.mark.parametrize("remove", [_delete, _replace])
    @pytest.mark.parametrize(
        "use",
        [
            lambda store, study: store.create_study(study),
            lambda store, study: store.requeue_expired("demo"),
            lambda store, study: store.claim("demo", "w", 60.0),
            lambda store, study: store.heartbeat(WorkerRecord(name="w", host="here", pid=1, study="demo")),
            lambda store, study: store.trials("demo"),
            lambda store, study: store.changed_since("demo", "7"),
        ],
    )
    def test_no_method_goes_on(
        self, tmp_path: Path, study: Any, remove: Callable[[Path], None], use: Callable[[SqliteStore, Any], object]
    ) -> None:
        path = tmp_path / "runs" / "t.sqlite"
        with SqliteStore(path) as store:
            store.create_study(study)
            use(store, study)
            remove(path)
            with pytest.raises(StoreError) as caught:
                use(store, study)
        assert str(caught.value).startswith(f"The study store {path} was deleted or replaced while it was in use. ")

    def test_another_working_folder_is_no_other_file(
        self, tmp_path: Path, study: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with SqliteStore(Path("t.sqlite")) as store:
            monkeypatch.chdir("/")
            store.create_study(study)
            assert store.list_studies() == ["demo"]


def test_what_is_asked_often_goes_through_no_whole_table(tmp_path: Path, study: Any, new_trial: Any) -> None:
    """Else a poll would take the longer, the more trials there have been."""
    asked: list[str] = []
    with SqliteStore(tmp_path / "t.sqlite") as store:
        store.create_study(study)
        for number in range(3):
            store.add_trial("demo", new_trial(number))
        _, cursor = store.changed_since("demo")
        store._db.set_trace_callback(asked.append)
        claim = store.claim("demo", "w", 60.0)
        store.report(claim, EpochReport(epoch=1, training_loss=0.5, jaccard={"water": 0.5}))
        store.renew(claim)
        store.requeue_expired("demo")
        assert [trial.number for trial in store.changed_since("demo", cursor)[0]] == [0]
        store.finish(claim, Outcome(state="done", loss=0.5))
        store._db.set_trace_callback(None)
        about_trials = [line for line in asked if " trials" in line or " reports" in line]
        plans = {line: store._db.execute(f"EXPLAIN QUERY PLAN {line}").fetchall() for line in about_trials}
    assert len([line for line in plans if line.startswith("SELECT")]) >= 4
    for line, steps in plans.items():
        for step in steps:
            assert not re.search(r"SCAN|\(study=\?\)", step["detail"]), (line, step["detail"])


def open_and_close(url: str, gate: Any) -> None:
    """Run by each of the processes that open a new store at once."""
    gate.wait()
    open_store(url).close()


def test_several_processes_may_create_the_store_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(4)
    url = f"sqlite:///{tmp_path}/new/t.sqlite"
    processes = [context.Process(target=open_and_close, args=(url, gate)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("free", "kind", "told"),
    [(8192, StoreFullError, "cannot be read, the disk is full"), (10**9, StoreError, "cannot be read or written")],
)
def test_a_reader_on_a_full_disk_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, kind: type[StoreError], told: str
) -> None:
    """SQLite calls it an error of the disk where it cannot make the file by which processes share the log."""
    monkeypatch.setattr("trials_db.sqlite_file.shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(StoreError, match=told) as caught, sqlite_file.store_errors(tmp_path / "t.sqlite"):
        raise sqlite3.OperationalError("disk I/O error")
    assert type(caught.value) is kind

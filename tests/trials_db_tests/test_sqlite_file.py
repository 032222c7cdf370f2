"""Opening stores by URL, and what is told when the file is not what it should be."""

import multiprocessing
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from search_space.decode import canonical_json
from trials_db import sqlite_file
from trials_db.errors import StoreError, mask_url
from trials_db.opening import open_store
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


def test_mongodb_is_told_to_come_and_its_password_is_not_told() -> None:
    line = _refused("mongodb+srv://me:p@ss/w:rd@db.example.org/x?retryWrites=true&authSource=admin")
    assert "This version has the SQLite store only" in line
    assert "me:***@db.example.org" in line
    assert "ss/w" not in line


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
    assert f"The study store {path} is not a SQLite file" in _refused(f"sqlite:///{path}")
    assert path.read_text().startswith("Dear diary")


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    assert "is a file, and this is a folder" in _refused(f"sqlite:///{tmp_path}")


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "failed" in _refused(f"sqlite:///{tmp_path}/file/t.sqlite")


def test_another_programs_database(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE songs (title TEXT)")
    db.close()
    assert f"{path} belongs to another program" in _refused(f"sqlite:///{path}")


def test_a_later_version(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert "has version 99, this Mapgrove reads 1" in _refused(f"sqlite:///{path}")


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
    with SqliteStore(path) as store, pytest.raises(StoreError, match="holds a damaged document"):
        store.load_study("demo")


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

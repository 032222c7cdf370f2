"""The store's SQLite file: its tables, its version, and SQLite's errors in the user's words."""

import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from trials_db.documents import RESTORE
from trials_db.errors import StoreError, StoreFullError
from trials_db.stopping import Stop

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

SCHEMA_VERSION = 2
APPLICATION_ID = 0x4D677276
"""Marks the file as ours in its header ("Mgrv")."""

WAIT_S = 30.0
"""How long a writer waits for its turn."""

PATIENCE_S = 600.0
"""How long it waits for room on the disk."""

PAUSE_S = 0.5

_MAKING_S = 1.0
"""How long a reader waits for the tables of a file that another process is making."""

_TABLES = """
CREATE TABLE studies (
    name TEXT PRIMARY KEY,
    document TEXT NOT NULL,
    created_s REAL NOT NULL,
    changes INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE trials (
    study TEXT NOT NULL REFERENCES studies (name),
    number INTEGER NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL,
    document TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    lost_workers INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    token TEXT,
    lease_until_s REAL,
    outcome TEXT,
    loss REAL,
    created_s REAL NOT NULL,
    started_s REAL,
    finished_s REAL,
    changed INTEGER NOT NULL,
    PRIMARY KEY (study, number)
);
CREATE INDEX trials_by_state ON trials (study, state, priority DESC, number);
CREATE INDEX trials_by_change ON trials (study, changed);
CREATE INDEX trials_by_loss ON trials (study, loss, number) WHERE loss IS NOT NULL;
CREATE TABLE reports (
    study TEXT NOT NULL,
    number INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    jaccard REAL,
    document TEXT NOT NULL,
    PRIMARY KEY (study, number, epoch),
    FOREIGN KEY (study, number) REFERENCES trials (study, number)
);
CREATE INDEX reports_by_epoch ON reports (study, epoch, number, jaccard);
CREATE TABLE leads (
    study TEXT PRIMARY KEY REFERENCES studies (name),
    owner TEXT NOT NULL,
    token TEXT NOT NULL,
    lease_until_s REAL NOT NULL
);
CREATE TABLE workers (
    study TEXT NOT NULL REFERENCES studies (name),
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (study, name)
);
"""

_UPGRADES = {
    1: """
ALTER TABLE trials ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
DROP INDEX trials_by_state;
CREATE INDEX trials_by_state ON trials (study, state, priority DESC, number);
ALTER TABLE trials ADD COLUMN loss REAL;
UPDATE trials SET loss = json_extract(outcome, '$.loss');
CREATE INDEX trials_by_loss ON trials (study, loss, number) WHERE loss IS NOT NULL;
ALTER TABLE reports ADD COLUMN jaccard REAL;
UPDATE reports SET jaccard = (SELECT AVG(value) FROM json_each(document, '$.jaccard'));
CREATE INDEX reports_by_epoch ON reports (study, epoch, number, jaccard)
"""
}
"""What makes the tables of a version those of the next."""

_NAME_ANOTHER = "Name another file: --store sqlite:///PATH, or study.store in the study's file"
_CHECK_DISK = "Check free space (df) and rights there"
_SEARCH_FIRST = "Run `run_search.py search` first"

_FULL = "disk is full"
_SHARED_BYTES = 65_536
"""With less room than this SQLite cannot make the file by which processes share a write-ahead log."""

_MEANINGS = (
    ("locked", "is locked by another process", "End the process that holds it, and try again"),
    (f"disk I/O error: {_FULL}", "cannot be read, the disk is full", "Make room on it; `df` shows it"),
    (_FULL, "cannot grow, the disk is full", "Make room on it; `df` shows it"),
    ("readonly", "is read-only", "Give yourself the right to write it and its folder"),
    ("unable to open", "cannot be opened", "Check that its folder exists and that you may write there"),
    ("not a database", "is not a SQLite file", _NAME_ANOTHER),
    ("malformed", "is damaged", RESTORE),
    ("disk I/O error", "cannot be read or written", _CHECK_DISK),
    ("File exists", "cannot be made, a part of its path is a file", _NAME_ANOTHER),
    ("Not a directory", "cannot be made, a part of its path is a file", _NAME_ANOTHER),
)


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the file, making it and its tables where `create`.

    Raises:
        StoreError: It is missing or empty and not `create`, is no study store, is of a later version, or SQLite
            refuses.
    """
    if path.is_dir():
        raise StoreError("A study store is a file, and this is a folder", received=str(path))
    if not create and not path.is_file():
        raise StoreError(f"There is no study store at {path}", remedy=_SEARCH_FIRST)
    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Autocommit, so that every transaction is begun by us; the caller's lock lets threads take turns.
        db = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db, path, create=create)
        except BaseException:
            db.close()
            raise
    return db


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors about the file into `StoreError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        text = str(error)
        if "disk I/O error" in text and _has_no_room(path):
            # Readers of a write-ahead log share some memory, which is a file beside it.
            text = f"{text}: {_FULL}"
        for part, what, remedy in _MEANINGS:
            if part in text:
                kind = StoreFullError if _FULL in part else StoreError
                raise kind(f"The study store {path} {what}", received=text, remedy=remedy) from error
        raise StoreError(f"The study store {path} failed", received=text, remedy=_CHECK_DISK) from error


def _has_no_room(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _SHARED_BYTES
    except OSError:
        return False


def until_there_is_room(write: Callable[[], Answer], stop: Stop) -> Answer:
    """Write; again and again while the disk is full, so that what took hours to find is not lost for want of room.

    Raises:
        StoreFullError: There was no room for `PATIENCE_S`, or when `stop` was set.
    """
    deadline = time.monotonic() + PATIENCE_S
    is_full = False
    while True:
        try:
            answer = write()
        except StoreFullError as error:
            if stop.is_set() or time.monotonic() > deadline:
                raise
            if not is_full:
                _log.warning("%s Trying again for %.0f s.", error, PATIENCE_S)
            is_full = True
            stop.wait(PAUSE_S)
        else:
            if is_full:
                _log.warning("there is room again for the store")
            return answer


def file_identity(path: Path) -> tuple[int, int] | None:
    """What tells the file at `path` from every other one, whatever their names; None where there is no file."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def file_gone(path: Path) -> StoreError:
    """The error for a file that is no longer the one that was opened."""
    return StoreError(
        f"The study store {path} was deleted or replaced while it was in use",
        remedy="Restore it from a copy if there is one; else the search begins anew",
    )


def _prepare(db: sqlite3.Connection, path: Path, *, create: bool) -> None:
    db.row_factory = sqlite3.Row
    # What is no text is refused where it is read, and not with all that is read beside it.
    db.text_factory = _text
    db.execute("PRAGMA foreign_keys = ON")
    version = _version_now(db, path)
    deadline = time.monotonic() + _MAKING_S
    while version == 0 and not create:
        if time.monotonic() > deadline:
            raise StoreError(f"The study store {path} holds no study", remedy=_SEARCH_FIRST)
        time.sleep(0.05)
        version = _version_now(db, path)
    if version == 0:
        _use_write_ahead_log(db)
        db.execute("BEGIN IMMEDIATE")
        # Another process may have been faster since the first look.
        if _version(db, path) == 0:
            _run(db, _TABLES)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    elif version < SCHEMA_VERSION:
        _upgrade(db, path)
    db.execute("PRAGMA synchronous = NORMAL")


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _upgrade(db: sqlite3.Connection, path: Path) -> None:
    """Bring the tables of an earlier version up to date, wholly or not at all."""
    db.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster since the first look.
        for version in range(_version(db, path), SCHEMA_VERSION):
            _run(db, _UPGRADES[version])
            db.execute(f"PRAGMA user_version = {version + 1}")
        db.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


def _run(db: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        db.execute(statement)


def _use_write_ahead_log(db: sqlite3.Connection) -> None:
    """Let readers go on while one process writes."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself when two processes do this at once.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _version_now(db: sqlite3.Connection, path: Path) -> int:
    """See `_version`; in one transaction, as another process may be making the tables between two looks."""
    db.execute("BEGIN")
    try:
        return _version(db, path)
    finally:
        db.rollback()


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Version of the tables in the file, 0 for an empty file.

    Raises:
        StoreError: The file belongs to another program or a later version.
    """
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if application == APPLICATION_ID and 1 <= version <= SCHEMA_VERSION:
        return version
    if application == APPLICATION_ID:
        raise StoreError(
            f"The study store {path} has version {version}, this Mapgrove reads up to {SCHEMA_VERSION}",
            remedy="Use the Mapgrove that wrote it",
        )
    if application or version or db.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise StoreError(f"{path} belongs to another program", remedy=_NAME_ANOTHER)
    return 0

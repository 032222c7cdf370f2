"""What a SQLite store stands on: one connection, transactions, and patience with a full disk."""

# The methods' docstrings are those of `TrialStore`.
# ruff: noqa: D102

import functools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from trials_db.sqlite_file import connect, file_gone, file_identity, store_errors, until_there_is_room
from trials_db.stopping import Stop
from trials_db.store import TrialStore

Given = ParamSpec("Given")
LEASE_HOLDS = "(typeof(lease_until_s) = 'real' AND lease_until_s BETWEEN ? AND ?)"
"""Whether a lease has not run out at one moment and lies no further ahead of another than one can; what is no time
would never have passed."""

Answer = TypeVar("Answer")
Connected = TypeVar("Connected", bound="SqliteConnection")


def patient(
    method: Callable[Concatenate[Connected, Given], Answer],
) -> Callable[Concatenate[Connected, Given], Answer]:
    """Let a method wait for room on the disk; without any, it has changed nothing."""

    @functools.wraps(method)
    def repeated(store: Connected, /, *arguments: Given.args, **named: Given.kwargs) -> Answer:
        return until_there_is_room(lambda: method(store, *arguments, **named), store.stop)

    return repeated


class SqliteConnection(TrialStore):
    """One file, opened.

    Args:
        path: The file.
        create: Make the file and its folder where they are missing; else that is an error.
        clock: Tells seconds since the epoch. The file lies on one machine, so this machine's clock is the store's.

    Attributes:
        stop: Once it is set, a full disk is waited for no longer.
    """

    def __init__(self, path: Path, *, create: bool = True, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        # One connection serves the threads of a process in turn.
        self._lock = threading.RLock()
        self._db = connect(path, create=create)
        self.stop: Stop = threading.Event()
        self._place = path.absolute()
        self._identity = file_identity(self._place)

    def close(self) -> None:
        with self._lock, store_errors(self.path):
            self._db.close()

    def heed(self, stop: Stop) -> None:
        """A file is never away, but its disk may be full."""
        self.stop = stop

    def now(self) -> float:
        # To the millisecond, as every store has it: so a study can move between them without loss.
        return round(self._clock(), 3)

    def probe(self) -> None:
        with self.writing() as db:
            db.execute("CREATE TABLE probe (id INTEGER)")
            db.execute("DROP TABLE probe")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """All queries of the block see the store at one moment."""
        with self._lock, store_errors(self.path), self._file_in_place():
            if self._db.in_transaction:
                yield self._db
                return
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                self._db.rollback()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of the block or, where it raises, nothing."""
        with self._lock, store_errors(self.path), self._file_in_place():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.rollback()
                raise

    @contextmanager
    def _file_in_place(self) -> Iterator[None]:
        """Refuse to work on a file that was deleted: SQLite would go on, and all be lost on closing."""
        self._check_file()
        yield
        self._check_file()

    def _check_file(self) -> None:
        if file_identity(self._place) != self._identity:
            raise file_gone(self.path)

"""Files that are either whole or not there, folders with one writer, and what files hold."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from search_space.errors import MapgroveError

LOCK_FILE = ".lock"

_POLL_S = 0.2


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Write a file under a name beside the final one, of the same suffix, and rename it once it is whole.

    Args:
        path: The final file; its folder is made where it is missing, an older file is replaced.

    Yields:
        Where to write. If the block raises, nothing is left of it and an older `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        # A full disk is told without the file's name.
        error.filename = error.filename or str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)


def try_folder(folder: Path) -> None:
    """Make a folder, and see that a file can be written into it: better at once than after hours of work.

    Raises:
        OSError: It cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        # Of a full disk only what is written tells.
        file.write(bytes(4096))


@contextmanager
def sole_writer(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Keep every other process that asks out of a folder; the lock goes with the process, however it ends.

    Args:
        folder: It is made where it is missing; an empty lock file stays in it.
        wait_s: So long another process that writes to it is waited for.

    Raises:
        MapgroveError: Another process writes to it, and did not end in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline_s = time.monotonic() + wait_s
    with (folder / LOCK_FILE).open("a") as file:
        while not _is_locked(file):
            if time.monotonic() >= deadline_s:
                raise MapgroveError(
                    "another process is writing to the folder",
                    received=str(folder),
                    remedy="Wait for it, or stop it first",
                )
            time.sleep(_POLL_S)
        yield


def _is_locked(file: IO[str]) -> bool:
    """Lock a file, if nobody else has; return whether this process has now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def passing_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder within another that goes with the block; where the process is killed, with the next such block.

    Args:
        parent: It is made where it is missing.
        prefix: Of the folder's name; those of processes that are gone are known by it.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{prefix}*/{LOCK_FILE}"):
        with suppress(MapgroveError, OSError), sole_writer(left.parent):
            shutil.rmtree(left.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name, sole_writer(Path(name)):
        yield Path(name)


def write_json(path: Path, plain: Mapping[str, Any]) -> None:
    """Write plain data as JSON; whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(json.dumps(plain, indent=1), encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

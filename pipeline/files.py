"""Files that are either whole or not there, folders with one writer, and what files hold."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from search_space.errors import MapgroveError

LOCK_FILE = ".lock"


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
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep every other process that asks out of a folder; the lock goes with the process, however it ends.

    Args:
        folder: It is made where it is missing; an empty lock file stays in it.

    Raises:
        MapgroveError: Another process writes to it now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MapgroveError(
                "another process is writing to the folder", received=str(folder), remedy="Wait for it, or stop it first"
            ) from None
        yield


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

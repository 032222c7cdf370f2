"""Files that are either whole or not there."""

import os
from pathlib import Path

from search_space.errors import MapgroveError


class PlaceError(MapgroveError):
    """No file can be written where one was asked for."""


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file beside its place and rename it, so that nothing half-written is left.

    Args:
        path: The file; its folder is made where it is missing, an older file is replaced.
        content: All of it.

    Returns:
        `path`.

    Raises:
        PlaceError: `path` is a folder, a link or a device, or a folder on the way to it is a file.
    """
    _check_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        beside.write_bytes(content)
        return beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 file as `write_bytes` does."""
    return write_bytes(path, text.encode("utf-8"))


def _check_place(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
        raise PlaceError("a link or device would be replaced by a file", received=str(path), remedy="Name a file")
    if path.is_dir():
        raise PlaceError("a file cannot take the place of a folder", received=str(path), remedy="Name a file in it")
    nearest = next((parent for parent in path.parents if parent.exists()), None)
    if nearest is not None and not nearest.is_dir():
        raise PlaceError(
            f"{nearest} is a file, so nothing can be written into it", received=str(path), remedy="Name another folder"
        )

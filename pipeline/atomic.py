"""Files that are either whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    finally:
        beside.unlink(missing_ok=True)

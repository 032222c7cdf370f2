"""What of a map is predicted already, on disk until the map is whole: a prediction that was cut off goes on."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.files import write_json
from search_space.errors import MapgroveError

UNFINISHED = ".unfinished"
ROWS_FILE = "rows.json"

SYNC_S = 10.0
"""So often it is made sure, and noted, that rows are on disk."""

_BYTES = 4

Floats = NDArray[np.float32]


class Unfinished:
    """The rows of a map, one file for each pass over the image; the map is their sum.

    Args:
        folder: Where the files lie; made where it is missing, emptied where another map was begun there.
        key: Tells this map from others.
        shape: Rows and columns.
        layers: Of each pass, which channels of the map it gives.

    Raises:
        MapgroveError: The disk has no room for them.
    """

    def __init__(self, folder: Path, key: str, shape: tuple[int, int], layers: Sequence[Sequence[int]]) -> None:
        self._folder = folder
        self._key = key
        self._shape = shape
        self._layers = [list(each) for each in layers]
        self._num_layers = 1 + max((layer for each in layers for layer in each), default=-1)
        self.rows_done = self._read() or [0] * len(layers)
        """Of each pass, how many rows are there."""
        folder.mkdir(parents=True, exist_ok=True)
        if not any(self.rows_done):
            for path in (folder / ROWS_FILE, *folder.glob("*.rows")):
                path.unlink(missing_ok=True)
        self._check_room()

    @contextmanager
    def sink(self, number: int) -> Iterator["RowSink"]:
        """What takes the rows of a pass that are missing; what is there stays however the block ends."""
        sink = RowSink(self._path(number), self._row_bytes(number), lambda rows: self._note(number, rows))
        try:
            yield sink
        finally:
            sink.close()

    def read(self, rows: slice) -> Floats:
        """Rows of the map, `(h, W, L)`: the sum of what all passes gave, NaN where there is no data."""
        total = np.zeros((rows.stop - rows.start, self._shape[1], self._num_layers), np.float32)
        for number, layers in enumerate(self._layers):
            row_bytes = self._row_bytes(number)
            part = np.fromfile(
                self._path(number),
                np.float32,
                count=total.shape[0] * row_bytes // _BYTES,
                offset=rows.start * row_bytes,
            )
            total[..., layers] += part.reshape(*total.shape[:2], len(layers))
        return total

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.rows"

    def _row_bytes(self, number: int) -> int:
        return self._shape[1] * len(self._layers[number]) * _BYTES

    def _read(self) -> list[int] | None:
        """How many rows of each pass are noted; None where there are none of this map."""
        try:
            plain = json.loads((self._folder / ROWS_FILE).read_text(encoding="utf-8"))
            # What is no number of rows is an error of value.
            done = [range(self._shape[0] + 1).index(each) for each in plain["rows"]]
            if plain["key"] != self._key or len(done) != len(self._layers):
                return None
            sizes = [self._path(number).stat().st_size if rows else 0 for number, rows in enumerate(done)]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        needed = [rows * self._row_bytes(number) for number, rows in enumerate(done)]
        return done if all(size >= least for size, least in zip(sizes, needed, strict=True)) else None

    def _note(self, number: int, rows: int) -> None:
        self.rows_done[number] = rows
        write_json(self._folder / ROWS_FILE, {"key": self._key, "rows": self.rows_done})

    def _check_room(self) -> None:
        missing = sum((self._shape[0] - done) * self._row_bytes(number) for number, done in enumerate(self.rows_done))
        free = shutil.disk_usage(self._folder).free
        if missing > free:
            raise MapgroveError(
                f"the disk has no room for a map of {self._shape[0]} x {self._shape[1]} px while it is drawn",
                received=f"{free / 1e6:.1f} MB free of {missing / 1e6:.1f} MB in {self._folder.parent}",
                remedy="Make room (df), or name another place with --out",
            )


class RowSink:
    """Writes the rows of a pass, each where it belongs.

    Args:
        path: The file.
        row_bytes: Length of a row.
        note: Told, from time to time and at the end, up to which row all is on disk.
    """

    def __init__(self, path: Path, row_bytes: int, note: Callable[[int], None]) -> None:
        self._row_bytes = row_bytes
        self._note = note
        self._rows: int | None = None
        self._noted_s = time.monotonic()
        path.touch()
        self._file = path.open("r+b", buffering=0)

    def write(self, first_row: int, rows: Floats) -> None:
        """See `smoothing.streams.Sink`."""
        self._file.seek(first_row * self._row_bytes)
        left = np.ascontiguousarray(rows).data.cast("B")
        while left:
            left = left[self._file.write(left) :]
        self._rows = first_row + len(rows)
        if time.monotonic() - self._noted_s >= SYNC_S:
            self._sync()

    def close(self) -> None:
        """Make sure that all is on disk."""
        try:
            self._sync()
        finally:
            self._file.close()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        if self._rows is not None:
            self._note(self._rows)
        self._noted_s = time.monotonic()

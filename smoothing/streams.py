"""Where an image comes from, row by row, and where its map goes: what to implement, and how both keep up."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from smoothing.errors import BlendingError

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.number]
Mask = npt.NDArray[np.bool_]


class Source(Protocol):
    """An image that is read by rows.

    Attributes:
        shape: `(H, W, B)`.
        is_slow: Whether reading takes its time, so that rows are better read ahead, and once only.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and number of bands."""

    @property
    def is_slow(self) -> bool:
        """Whether it is worth a thread to read ahead, and memory to read each row once."""

    def read(self, rows: slice) -> tuple[Pixels, Mask | None]:
        """Rows `(h, W, B)`, used as float32, and which of their pixels have data `(h, W)`; None for all.

        What was returned may not change before the next but one is asked for. Called with start and stop, always by one
        thread at a time.
        """


class Sink(Protocol):
    """What takes a map, from its first row to its last."""

    def write(self, first_row: int, rows: Array) -> None:
        """Take the next rows, float32 `(h, W, K)`, NaN where there is no data; they are its own until it returns.

        Args:
            first_row: Where they belong, counted from the first row that is mapped.
            rows: All columns that are mapped.
        """


class ArraySource:
    """An array, or a memory map, that is read where it lies.

    Args:
        image: `(H, W, B)`.
        valid: bool `(H, W)`, False where there is no data.

    Raises:
        BlendingError: Shapes that make no image.
    """

    is_slow = False

    def __init__(self, image: Pixels, valid: Mask | None = None) -> None:
        if not isinstance(image, np.ndarray):
            raise BlendingError(f"`image` must be an array (H, W, B). Received {type(image).__name__}.")
        if image.ndim != 3 or 0 in image.shape:
            raise BlendingError(f"`image` must be (H, W, B) with no side of 0. Received the shape {image.shape}.")
        if isinstance(image, np.ma.MaskedArray):
            raise BlendingError("`image` must be a plain array; what a masked one hides is told by `valid`.")
        if image.dtype.kind not in "buif":
            raise BlendingError(f"`image` must hold real numbers. Received {image.dtype}.")
        if valid is not None:
            check_mask(valid, image.shape[:2])
        self._image = image
        self._valid = valid
        self.shape: tuple[int, int, int] = image.shape

    def read(self, rows: slice) -> tuple[Pixels, Mask | None]:
        """See `Source`."""
        return self._image[rows], None if self._valid is None else self._valid[rows]


def check_mask(valid: object, shape: tuple[int, ...]) -> None:
    """Refuse what does not tell where an image has data.

    Raises:
        BlendingError: No bool array of this shape `(H, W)`.
    """
    if not isinstance(valid, np.ndarray) or isinstance(valid, np.ma.MaskedArray):
        raise BlendingError(f"`valid` must be a plain array of bool. Received {type(valid).__name__}.")
    if valid.dtype != bool:
        raise BlendingError(f"`valid` must be an array of bool. Received {valid.dtype}.")
    if valid.shape != shape:
        raise BlendingError(f"`valid` must have the shape {shape} of the image. Received {valid.shape}.")


class ArraySink:
    """Keeps a map in one array, `result`, of the shape `(H, W, K)`, when its first rows have come.

    Attributes:
        num_rows: H.
        result: The map.
    """

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.result: Array = np.zeros((0, 0, 0), np.float32)

    def memory(self, width_px: int, num_classes: int) -> Array:
        """That of the map, which may be written before its rows are: what is handed over in its place is not copied."""
        if not self.result.size:
            self.result = np.empty((self.num_rows, width_px, num_classes), np.float32)
        return self.result

    def write(self, first_row: int, rows: Array) -> None:
        """See `Sink`."""
        target = self.memory(*rows.shape[1:])[first_row : first_row + len(rows)]
        if not np.may_share_memory(target, rows):
            target[...] = rows


class Strips:
    """The rows that each row of tiles needs, in order; those of a slow source are read ahead, and what two share once.

    Args:
        source: The image.
        needed: Which rows each row of tiles needs.
    """

    def __init__(self, source: Source, needed: Sequence[slice]) -> None:
        self._source = source
        self._needed = needed
        # What sticks out at a border is mirrored from rows that the tiles beside it may not need.
        starts = reversed(list(accumulate((rows.start for rows in reversed(needed)), min)))
        stops = accumulate((rows.stop for rows in needed), max)
        self._kept = [slice(start, stop) for start, stop in zip(starts, stops, strict=True)]
        self._threads = ThreadPoolExecutor(1, "read-rows") if source.is_slow else None
        self._before: tuple[slice, Pixels, Mask | None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[tuple[Pixels, Mask | None]]:
        if self._threads is None:
            yield from map(self._read, self._needed)
            return
        ahead: Future[tuple[Pixels, Mask | None]] | None = None
        for place, rows in enumerate(self._needed):
            pixels, valid = ahead.result() if ahead else self._read_on(self._kept[place])
            if place + 1 < len(self._needed):
                ahead = self._threads.submit(self._read_on, self._kept[place + 1])
            own = slice(rows.start - self._kept[place].start, rows.stop - self._kept[place].start)
            yield pixels[own], None if valid is None else valid[own]

    def _read(self, rows: slice) -> tuple[Pixels, Mask | None]:
        pixels, valid = self._source.read(rows)
        if valid is not None:
            check_mask(valid, pixels.shape[:2])
        return pixels, valid

    def _read_on(self, rows: slice) -> tuple[Pixels, Mask | None]:
        """Rows of which the first ones may have been read before."""
        if self._before is None or rows.start >= self._before[0].stop:
            pixels, valid = self._read(rows)
        else:
            known, pixels, valid = self._before
            kept = slice(rows.start - known.start, rows.stop - known.start)
            pixels, valid = pixels[kept], None if valid is None else valid[kept]
            if rows.stop > known.stop:
                more, more_valid = self._read(slice(known.stop, rows.stop))
                valid = _joined(valid, len(pixels), more_valid, more)
                pixels = np.concatenate([pixels, more])
        self._before = rows, pixels, valid
        return pixels, valid


class Behind:
    """Hands rows to a sink in a thread of its own, so that what follows is computed meanwhile; leaving waits for it.

    Args:
        sink: Takes them.
        is_needed: Whether it takes its time; else it is called at once.
    """

    def __init__(self, sink: Sink, *, is_needed: bool) -> None:
        self._sink = sink
        self._threads = ThreadPoolExecutor(1, "write-rows") if is_needed else None
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown()
            if error is None:
                self._wait()

    def write(self, first_row: int, rows: Array) -> None:
        """See `Sink`; waits for the rows before, whose errors it raises."""
        if self._threads is None:
            self._sink.write(first_row, rows)
            return
        self._wait()
        self._writing = self._threads.submit(self._sink.write, first_row, rows)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()


def _joined(valid: Mask | None, length: int, more: Mask | None, added: Pixels) -> Mask | None:
    if valid is None and more is None:
        return None
    parts: list[Any] = [
        np.ones((length, added.shape[1]), bool) if valid is None else valid,
        np.ones(added.shape[:2], bool) if more is None else more,
    ]
    return np.concatenate(parts)

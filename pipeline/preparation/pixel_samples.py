"""Some pixels of every scene, kept beside the prepared scenes: statistics of bands need not read whole cubes."""

import hashlib
import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.files import written_beside

logger = logging.getLogger(__name__)

PIXELS_PER_SCENE = 200_000
ROWS = 256
"""So many are looked at at a time."""

SAMPLES = ".samples"
"""Folder beside the scenes; no scene can be called so."""


def sample_pixels(cube: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Read one pixel of every n with data, at most `PIXELS_PER_SCENE` of them.

    Args:
        cube: Bands, `(H, W, B)`.
        valid: Which pixels have data, `(H, W)`.

    Returns:
        float32 `(B, N)`, band by band.
    """
    return _read(cube, _positions(valid))


def kept_sample(cube: NDArray[np.float32], valid: NDArray[np.bool_], folder: Path, source: str) -> NDArray[np.float32]:
    """The same pixels, read from a scene once and then from a file of their own.

    The file's name tells what the scene was made from and which pixels were read, so a scene that is prepared again, or
    of which another part trains, gets another one. Where the disk refuses the file, pixels are read every time.

    Args:
        cube: Bands, `(H, W, B)`, memory-mapped: it is not touched where the file is there.
        valid: Which pixels have data, `(H, W)`.
        folder: Where the scene lies.
        source: Changes when anything the scene was made from changes; fit for a file's name.
    """
    positions = _positions(valid)
    digest = hashlib.sha256(positions.tobytes()).hexdigest()[:16]
    path = folder.parent / SAMPLES / folder.name / f"{source}-{digest}.npy"
    found = _load(path, (cube.shape[-1], len(positions)))
    if found is not None:
        return found
    sample = _read(cube, positions)
    try:
        _keep(path, sample, source)
    except OSError as error:
        logger.debug("%s is not kept: %s", path, error)
    return sample


def _positions(valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """One pixel of each run of n, at random: every n-th would be of the same few columns, which may be odd ones."""
    blocks = [slice(first, first + ROWS) for first in range(0, valid.shape[0], ROWS)]
    ends = np.cumsum([0, *(np.count_nonzero(valid[rows]) for rows in blocks)])
    num = int(ends[-1])
    step = max(1, -(-num // PIXELS_PER_SCENE))
    first = np.arange(0, num, step)
    lengths = np.minimum(step, num - first)
    chosen = first + np.random.default_rng(0).integers(lengths)
    # Of those with data, counted from the first row on; found again block by block.
    places = np.searchsorted(chosen, ends)
    found = [
        np.flatnonzero(valid[rows])[chosen[places[n] : places[n + 1]] - ends[n]] + rows.start * valid.shape[1]
        for n, rows in enumerate(blocks)
    ]
    return np.concatenate(found)


def _read(cube: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
    rows, columns = np.unravel_index(positions, cube.shape[:2])
    starts = np.arange(0, cube.shape[0], ROWS)
    ends = [*np.searchsorted(rows, starts), len(rows)]
    pixels = np.empty((len(positions), cube.shape[2]), np.float32)
    for start, (first, last) in zip(starts, pairwise(ends), strict=True):
        if last > first:
            pixels[first:last] = cube[start : start + ROWS][rows[first:last] - start, columns[first:last]]
    return np.ascontiguousarray(pixels.T)


def _load(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    try:
        sample: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return sample if sample.dtype == np.float32 and sample.shape == shape else None


def _keep(path: Path, sample: NDArray[np.float32], source: str) -> None:
    # One by one: prepared data that have just gone away must not come back as a folder with nothing else in it.
    for folder in (path.parents[1], path.parent):
        folder.mkdir(exist_ok=True)
    with written_beside(path) as beside:
        np.save(beside, sample, allow_pickle=False)
    for other in path.parent.glob("[!.]*.npy"):
        if not other.name.startswith(f"{source}-"):
            other.unlink(missing_ok=True)

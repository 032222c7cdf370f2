"""Statistics of a scene's bands, gathered while its cube is made: nobody reads it a second time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.imagery.cube import CubeRows
from pipeline.imagery.resampling import Shape
from pipeline.preparation.prepared import BandStatistics

SAMPLE = 250_000
"""Pixels from which percentiles are taken; their 2nd percentile is then right within a twentieth of a percent."""


class BandTotals:
    """Adds up blocks of rows.

    Args:
        shape: Rows and columns of the cube.
        num_bands: Its bands.
    """

    def __init__(self, shape: Shape, num_bands: int) -> None:
        self.num_valid = 0
        self._width = shape[1]
        self._step = _step(shape)
        self._base: NDArray[np.float32] | None = None
        self._sum, self._squares = np.zeros(num_bands), np.zeros(num_bands)
        self._lowest = np.full(num_bands, np.inf, np.float32)
        self._highest = np.full(num_bands, -np.inf, np.float32)
        self._samples: list[NDArray[np.float32]] = []

    def add(self, rows: CubeRows) -> None:
        """Add the next rows; pixels without data do not count."""
        num_valid = int(np.count_nonzero(rows.valid))
        if not num_valid:
            return
        self.num_valid += num_valid
        values = rows.bands
        first = -(rows.first * self._width) % self._step
        sample = values.reshape(-1, values.shape[-1])[first :: self._step]
        self._samples.append(sample[rows.valid.reshape(-1)[first :: self._step]])
        if self._base is None:
            # Sums of squares around a value in the midst of the others keep their digits.
            self._base = values[rows.valid].mean(axis=0, dtype=np.float64).astype(np.float32)
        if num_valid < rows.valid.size:
            values = np.where(rows.valid[..., None], values, self._base)
        # Whole rows first: along the last axis alone NumPy would add twenty numbers at a time.
        flat = values.reshape(len(values), -1)
        self._lowest = np.minimum(self._lowest, self._per_band(flat.min(axis=0)).min(axis=0))
        self._highest = np.maximum(self._highest, self._per_band(flat.max(axis=0)).max(axis=0))
        deviations = (values - self._base).reshape(len(values), -1)
        self._sum += self._per_band(deviations.sum(axis=0)).sum(axis=0, dtype=np.float64)
        np.square(deviations, out=deviations)
        self._squares += self._per_band(deviations.sum(axis=0)).sum(axis=0, dtype=np.float64)

    def _per_band(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        return row.reshape(self._width, -1)

    def statistics(self, names: Sequence[str]) -> tuple[BandStatistics, ...]:
        """Of every band, by its name; all 0 where no pixel has data."""
        if self._base is None:
            zeros = {"minimum": 0.0, "p02": 0.0, "p50": 0.0, "p98": 0.0, "maximum": 0.0, "mean": 0.0, "std": 0.0}
            return tuple(BandStatistics(name=name, **zeros) for name in names)
        offset = self._sum / self.num_valid
        mean = self._base.astype(np.float64) + offset
        std = np.sqrt(np.maximum(self._squares / self.num_valid - offset**2, 0.0))
        percentiles = np.percentile(self._sample(), (2, 50, 98), axis=0)
        return tuple(
            BandStatistics(
                name=name,
                minimum=float(self._lowest[band]),
                p02=float(percentiles[0, band]),
                p50=float(percentiles[1, band]),
                p98=float(percentiles[2, band]),
                maximum=float(self._highest[band]),
                mean=float(mean[band]),
                std=float(std[band]),
            )
            for band, name in enumerate(names)
        )

    def _sample(self) -> NDArray[np.float32]:
        found = np.concatenate(self._samples)
        # Few pixels with data may all lie between those that were looked at.
        return found if len(found) else np.stack([self._lowest, self._highest])


def _step(shape: Shape) -> int:
    """Every n-th pixel, with an n that visits all columns."""
    step = -(-shape[0] * shape[1] // SAMPLE)
    while math.gcd(step, shape[1]) > 1:
        step += 1
    return step

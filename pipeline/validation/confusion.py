"""Right and wrong pixels at every threshold, counted in one pass over whole scenes.

A probability `p` falls into level `floor(256 p)`, 255 for 1.0. Thresholds are the edges `k / 256`. Multiplying by a
power of two is exact in floating point, so `level >= k` and `p >= k / 256` agree for every float32, on the edges too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_space.errors import MapgroveError
from search_space.records import NUM_LEVELS

_PIXELS_AT_ONCE = 1 << 20


class CountingError(MapgroveError, ValueError):
    """Arrays that do not belong together, or a threshold between two levels."""


@dataclass(frozen=True)
class BestThreshold:
    """Where a class is mapped best.

    Attributes:
        threshold: Pixels with `p >= threshold` are the class.
        jaccard: TP / (TP + FP + FN) there.
    """

    threshold: float
    jaccard: float


@dataclass(frozen=True)
class Confusion:
    """Pixels of every class at one threshold each, or at all of them.

    Attributes:
        tp: int64 `(K,)`, or `(K, 256)` where column `k` stands for the threshold `k / 256`.
        fp: Predicted, not labelled; the same shape.
        fn: Labelled, not predicted; the same shape.
    """

    tp: npt.NDArray[np.int64]
    fp: npt.NDArray[np.int64]
    fn: npt.NDArray[np.int64]

    @property
    def jaccard(self) -> npt.NDArray[np.float64]:
        """TP / (TP + FP + FN); NaN where a class is neither labelled nor predicted."""
        union = self.tp + self.fp + self.fn
        jaccard = np.full(union.shape, np.nan)
        np.divide(self.tp, union, out=jaccard, where=union > 0)
        return jaccard


class ThresholdCounts:
    """Counts over scenes, from which the Jaccard at every threshold follows.

    Args:
        num_classes: Number of classes, K.
    """

    def __init__(self, num_classes: int) -> None:
        self._histogram = np.zeros((num_classes, 2, NUM_LEVELS), np.int64)

    @classmethod
    def of(cls, histogram: npt.ArrayLike) -> "ThresholdCounts":
        """Counts that were made before.

        Args:
            histogram: Whole numbers `(K, 2, 256)`, see `histogram`; copied.

        Raises:
            CountingError: Another shape.
        """
        counted = np.array(histogram, np.int64)
        if counted.ndim != 3 or counted.shape[1:] != (2, NUM_LEVELS):
            raise CountingError(f"a histogram must have the shape (K, 2, {NUM_LEVELS})", received=counted.shape)
        counts = cls(len(counted))
        counts._histogram = counted
        return counts

    @property
    def histogram(self) -> npt.NDArray[np.int64]:
        """int64 `(K, 2, 256)`: pixels of each class by truth, 0 or 1, and by the level of their probability."""
        return self._histogram.copy()

    @property
    def num_labelled(self) -> npt.NDArray[np.int64]:
        """int64 `(K,)`: pixels labelled with each class."""
        labelled: npt.NDArray[np.int64] = self._histogram[:, 1].sum(axis=1)
        return labelled

    def __add__(self, other: "ThresholdCounts") -> "ThresholdCounts":
        """The counts over the scenes of both."""
        return ThresholdCounts.of(self._histogram + other._histogram)

    def add(
        self, probabilities: npt.NDArray[np.float32], truth: npt.NDArray[np.generic], known: npt.NDArray[np.bool_]
    ) -> None:
        """Count one scene.

        Args:
            probabilities: float32 `(H, W, K)`; NaN where there is no data, which is left out.
            truth: bool or 0/1 `(H, W, K)`.
            known: bool `(H, W)`, False where nobody knows the truth; such pixels are left out.

        Raises:
            CountingError: Shapes that do not belong together.
        """
        expected = (*known.shape, len(self._histogram))
        if probabilities.shape != expected or truth.shape != expected:
            raise CountingError(
                f"probabilities and truth must have the shape {expected} of the known pixels and the classes",
                received=(probabilities.shape, truth.shape),
            )
        rows_at_once = max(1, _PIXELS_AT_ONCE // max(1, known.shape[1]))
        for top in range(0, known.shape[0], rows_at_once):
            rows = slice(top, top + rows_at_once)
            self._add_rows(probabilities[rows], truth[rows], np.asarray(known[rows], bool))

    def _add_rows(
        self, probabilities: npt.NDArray[np.float32], truth: npt.NDArray[np.generic], known: npt.NDArray[np.bool_]
    ) -> None:
        for k, histogram in enumerate(self._histogram):
            values = np.asarray(probabilities[..., k], np.float32)[known]
            labelled = np.asarray(truth[..., k])[known] > 0
            seen = ~np.isnan(values)
            cells = _levels(values[seen]) + NUM_LEVELS * labelled[seen]
            histogram += np.bincount(cells, minlength=2 * NUM_LEVELS).reshape(2, NUM_LEVELS)

    @property
    def everywhere(self) -> Confusion:
        """The confusion at all 256 thresholds."""
        negative, positive = (np.cumsum(self._histogram[:, truth, ::-1], axis=1)[:, ::-1] for truth in (0, 1))
        return Confusion(tp=positive, fp=negative, fn=positive[:, :1] - positive)

    def at(self, thresholds: Sequence[float]) -> Confusion:
        """The confusion at one threshold per class.

        Args:
            thresholds: One for each class, multiples of 1/256 in [0, 1).

        Raises:
            CountingError: Another number of thresholds, or one between two levels: it could not be counted exactly.
        """
        if len(thresholds) != len(self._histogram):
            raise CountingError(f"one threshold for each of {len(self._histogram)} classes", received=list(thresholds))
        for threshold in thresholds:
            if not 0.0 <= threshold < 1.0 or not float(threshold * NUM_LEVELS).is_integer():
                raise CountingError(
                    "a threshold must be a multiple of 1/256 in [0, 1)",
                    received=threshold,
                    remedy=f"Use {nearest_threshold(threshold)}",
                )
        columns = np.array([int(threshold * NUM_LEVELS) for threshold in thresholds])
        classes = np.arange(len(columns))
        every = self.everywhere
        return Confusion(*(counts[classes, columns] for counts in (every.tp, every.fp, every.fn)))

    def best(self) -> list[BestThreshold | None]:
        """The threshold of highest Jaccard per class; None where a class has no labelled pixel.

        The threshold 0 is left out: it would call a certain absence a presence. Among equals the one nearest to 0.5
        is taken.
        """
        every = self.everywhere
        edges = np.arange(1, NUM_LEVELS)
        nearness = -np.abs(edges - NUM_LEVELS // 2)
        found: list[BestThreshold | None] = []
        for labelled, jaccard in zip(self.num_labelled, every.jaccard[:, 1:], strict=True):
            if labelled == 0:
                found.append(None)
                continue
            column = int(np.lexsort((nearness, jaccard))[-1])
            found.append(BestThreshold(float(edges[column] / NUM_LEVELS), float(jaccard[column])))
        return found


def nearest_threshold(value: float) -> float:
    """The multiple of 1/256 in [0, 1) that lies nearest to `value`."""
    return min(max(round(value * NUM_LEVELS), 0), NUM_LEVELS - 1) / NUM_LEVELS


def _levels(values: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    levels: npt.NDArray[np.intp] = np.clip(values * np.float32(NUM_LEVELS), 0, NUM_LEVELS - 1).astype(np.intp)
    return levels

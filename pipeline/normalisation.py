"""Bands as numbers a network likes: clipped at percentiles, zero mean, unit deviation."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from search_space.decode import Frozen, ListAsTuple
from search_space.errors import MapgroveError

PERCENTILES = (1.0, 99.0)
PIXELS_PER_SCENE = 200_000

Numbers = Annotated[tuple[float, ...], ListAsTuple]


class Imagery(Protocol):
    """What statistics are fitted on."""

    @property
    def cube(self) -> NDArray[np.float32]:
        """Bands, `(H, W, B)`, NaN where there is no data."""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which pixels have data, `(H, W)`."""


@dataclass(frozen=True)
class BandScaling:
    """The linear map of each band and the range it is clipped to, each `(B,)`."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def apply(self, bands: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale `(..., B)` bands; where there is no data (NaN) the result is 0, the mean."""
        scaled = np.clip(bands, self.low, self.high)
        scaled -= self.mean
        scaled /= self.std
        return np.nan_to_num(scaled, copy=False, nan=0.0)


class Normalisation(Frozen):
    """How bands are scaled, in a form that is kept with a model.

    Attributes:
        mode: "dataset" scales every scene by the numbers below; "scene" fits them on each scene by itself.
        low: Lower percentile per band; empty in mode "scene", like the rest.
        high: Upper percentile per band.
        mean: Mean per band after clipping.
        std: Deviation per band after clipping, positive.
    """

    mode: Literal["dataset", "scene"]
    low: Numbers = ()
    high: Numbers = ()
    mean: Numbers = ()
    std: Numbers = ()

    @classmethod
    def fit(cls, mode: Literal["dataset", "scene"], training: Iterable[Imagery]) -> Self:
        """Fit on the training scenes alone; mode "scene" needs none.

        Raises:
            MapgroveError: No scene has a pixel with data.
        """
        if mode == "scene":
            return cls(mode=mode)
        scaling = _fit(training)
        return cls(
            mode=mode,
            **{name: tuple(float(v) for v in getattr(scaling, name)) for name in ("low", "high", "mean", "std")},
        )

    def for_scene(self, scene: Imagery) -> BandScaling:
        """The scaling of one scene."""
        if self.mode == "scene":
            return _fit([scene])
        return BandScaling(*(np.array(getattr(self, name), np.float32) for name in ("low", "high", "mean", "std")))


def _fit(scenes: Iterable[Imagery]) -> BandScaling:
    samples = np.concatenate([_sample(scene) for scene in scenes])
    if not len(samples):
        raise MapgroveError("no pixel has data, so bands cannot be normalised", remedy="Check the no-data value")
    low, high = np.percentile(samples, PERCENTILES, axis=0).astype(np.float32)
    clipped = np.clip(samples, low, high)
    std = clipped.std(axis=0, dtype=np.float64)
    return BandScaling(
        low=low,
        high=high,
        mean=clipped.mean(axis=0, dtype=np.float64).astype(np.float32),
        # A band that is constant carries nothing; dividing by one leaves it at zero.
        std=np.where(std > 0, std, 1.0).astype(np.float32),
    )


def _sample(scene: Imagery) -> NDArray[np.float32]:
    """Every n-th valid pixel, at most `PIXELS_PER_SCENE`, as `(N, B)`."""
    positions = np.flatnonzero(scene.valid)
    positions = positions[:: max(1, -(-len(positions) // PIXELS_PER_SCENE))]
    rows, columns = np.unravel_index(positions, scene.valid.shape)
    return np.asarray(scene.cube[rows, columns], dtype=np.float32)

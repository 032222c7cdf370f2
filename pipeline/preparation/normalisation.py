"""Bands as numbers a network likes; what scales them is taken from training scenes, or from the scene itself."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.preparation.pixel_samples import kept_sample, sample_pixels
from search_space.errors import MapgroveError
from search_space.records import BandNumbers
from search_space.training_plan import Scaling

BYTE_STEPS = 255


class Imagery(Protocol):
    """What statistics are fitted on."""

    @property
    def cube(self) -> NDArray[np.float32]:
        """Bands, `(H, W, B)`, NaN where there is no data."""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which pixels have data, `(H, W)`."""


@runtime_checkable
class PreparedImagery(Imagery, Protocol):
    """Imagery that lies on disk, where a sample of its pixels can be kept."""

    @property
    def folder(self) -> Path:
        """Where its files lie, beside those of other scenes."""

    @property
    def source(self) -> str:
        """Changes when anything it was made from changes."""


@dataclass(frozen=True)
class BandScaling:
    """What is done to each band, in one form for every kind of scaling; arrays are float32 `(B,)`.

    A value is clipped to [`low`, `high`], rounded where there are `steps`, and becomes (value - `mean`) / `std`.

    Attributes:
        low: Lower end; minus infinity where nothing is clipped.
        high: Upper end, not below `low`; infinity where nothing is clipped.
        mean: What becomes 0: the mean, or the middle of `low` and `high`. Where there is no data the result is 0 too.
        std: What becomes 1, finite and above 0: the deviation, or half of the way from `low` to `high`.
        steps: Into how many equal steps `low` … `high` is cut: a clipped value becomes the nearest of `steps` + 1
            levels, of two the even one. None where nothing is rounded.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    steps: int | None = None

    @property
    def step(self) -> NDArray[np.float32] | None:
        """How far one step goes, `(B,)`; 1 in a band that is clipped to a single value, which no step leaves.

        None where nothing is rounded. A clipped value is rounded to `low` + rint((value - `low`) / `step`) · `step`.
        """
        if self.steps is None:
            return None
        return np.where(self.high > self.low, (self.high - self.low) / np.float32(self.steps), np.float32(1.0))

    def apply(self, bands: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale `(..., B)` bands; the result is finite everywhere, and 0 where there is no data (NaN).

        That is the mean of the training pixels, or, of kinds that map to -1 … 1, as far from dark as from bright.
        """
        scaled = np.clip(bands, self.low, self.high)
        step = self.step
        if step is not None:
            scaled -= self.low
            scaled /= step
            np.rint(scaled, out=scaled)
            scaled *= step
            scaled += self.low
        scaled -= self.mean
        scaled /= self.std
        return np.nan_to_num(scaled, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


@dataclass(frozen=True)
class Normalisation:
    """A scaling with the numbers it needs: what a model must know of its bands.

    Attributes:
        scaling: What the training plan asks for.
        numbers: Taken from training scenes; None where each scene is scaled by itself.
    """

    scaling: Scaling
    numbers: BandNumbers | None = None

    @classmethod
    def fit(cls, scaling: Scaling, training: Iterable[Imagery]) -> Self:
        """Take the numbers from training scenes; none is looked at where each scene is scaled by itself.

        Raises:
            MapgroveError: No scene has a pixel with data.
        """
        if scaling.scope == "scene":
            return cls(scaling)
        fitted = _fit(scaling, [_sample(scene) for scene in training])
        return cls(
            scaling,
            BandNumbers(
                low=tuple(_bound(end) for end in fitted.low),
                high=tuple(_bound(end) for end in fitted.high),
                mean=tuple(map(float, fitted.mean)),
                std=tuple(map(float, fitted.std)),
            ),
        )

    def for_scene(self, scene: Imagery) -> BandScaling:
        """The scaling of one scene.

        Raises:
            MapgroveError: The scene is scaled by itself, and no pixel has data.
        """
        if self.numbers is None:
            return _fit(self.scaling, [_sample(scene)])
        return BandScaling(
            low=np.array([-np.inf if end is None else end for end in self.numbers.low], np.float32),
            high=np.array([np.inf if end is None else end for end in self.numbers.high], np.float32),
            mean=np.array(self.numbers.mean, np.float32),
            std=np.array(self.numbers.std, np.float32),
            steps=_steps(self.scaling),
        )


def _sample(scene: Imagery) -> NDArray[np.float32]:
    if isinstance(scene, PreparedImagery):
        return kept_sample(scene.cube, scene.valid, scene.folder, scene.source)
    return sample_pixels(scene.cube, scene.valid)


def _steps(scaling: Scaling) -> int | None:
    return BYTE_STEPS if scaling.kind == "bytes" else None


def _bound(end: np.float32) -> float | None:
    return float(end) if np.isfinite(end) else None


def _fit(scaling: Scaling, samples: Sequence[NDArray[np.float32]]) -> BandScaling:
    """Fit on `(B, N)` samples; band by band, so that memory holds one band of all scenes at a time."""
    if not any(sample.size for sample in samples):
        raise MapgroveError("no pixel has data, so bands cannot be normalised", remedy="Check the no-data value")
    bands = [_fit_band(scaling, np.concatenate(parts)) for parts in zip(*samples, strict=True)]
    low, high, mean, std = np.array(bands, np.float32).T
    return BandScaling(low, high, mean, std, _steps(scaling))


def _fit_band(scaling: Scaling, values: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """`low`, `high`, `mean` and `std` of one band.

    A band that is constant once clipped, or has no data at all, carries nothing: it is clipped to a single value, so
    that it is 0 everywhere, on other scenes too.
    """
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 0.0, 0.0, 1.0
    low, high = -np.inf, np.inf
    if scaling.percentiles is not None:
        low, high = (float(end) for end in np.percentile(values, scaling.percentiles).astype(np.float32))
        values = np.clip(values, np.float32(low), np.float32(high))
    least, most = float(values.min()), float(values.max())
    if least == most:
        return least, least, least, 1.0
    if scaling.kind in ("percentile", "bytes"):
        mean, std = (low + high) / 2, (high - low) / 2
    else:
        mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    # Differences below what float32 resolves must not become a division by zero.
    return low, high, mean, max(std, float(np.finfo(np.float32).tiny))

"""Training patches, drawn at random: every batch is a pure function of the seed and its number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.normalisation import BandScaling, Imagery
from search_space.errors import MapgroveError
from search_space.training_plan import TrainingPlan

Value = TypeVar("Value", bound=np.generic)

POSITIONS_PER_SCENE = 50_000
CLASS_SHARE = 0.5


class LabelledImagery(Imagery, Protocol):
    """A scene with its truth."""

    @property
    def id(self) -> str:
        """The scene's name."""

    @property
    def masks(self) -> NDArray[np.uint8]:
        """Classes as pixels, 0 or 1, `(H, W, K)`."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which pixels have data and a label, `(H, W)`."""


@dataclass(frozen=True)
class TrainingScene:
    """A scene with its scaling, and the classes that are trained, in order.

    Attributes:
        scene: Bands and truth; `known` tells the pixels of this fold alone.
        scaling: How its bands become numbers.
        classes: Positions of the trained classes in its masks.
        held_out: Bool `(H, W)`, True on ground of other folds, which no training patch may touch; None where the whole
            scene belongs to one fold.
    """

    scene: LabelledImagery
    scaling: BandScaling
    classes: tuple[int, ...]
    held_out: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Positions:
    """Flat pixel positions in one scene: of known pixels, and of each class's pixels among them."""

    known: NDArray[np.int64]
    of_class: tuple[NDArray[np.int64], ...]


class PatchSampler:
    """Draws batches of turned, jittered patches from whole scenes.

    Half of the patches are centred on any known pixel, half on a pixel of a class drawn evenly among the classes
    present; a patch that reaches over the border mirrors the scene.

    Args:
        scenes: Where to draw from.
        plan: Patch size, batch size and augmentation.
        seed: Everything drawn derives from it.

    Raises:
        MapgroveError: No scene has a known pixel.
    """

    def __init__(self, scenes: Sequence[TrainingScene], plan: TrainingPlan, seed: int) -> None:
        self._scenes = scenes
        self._plan = plan
        self._seed = seed
        self._positions = [_find_positions(scene, seed) for scene in scenes]
        sizes = np.array([np.count_nonzero(scene.scene.known) for scene in scenes], np.float64)
        if not sizes.sum():
            raise MapgroveError("no training scene has a labelled pixel", remedy="Check [folds] and the ignore label")
        self._shares = sizes / sizes.sum()
        num_classes = len(scenes[0].classes)
        holders = [[s for s, where in enumerate(self._positions) if len(where.of_class[k])] for k in range(num_classes)]
        self._holders = {k: scenes_with for k, scenes_with in enumerate(holders) if scenes_with}

    def batch(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw batch `number`.

        Returns:
            Scaled bands `(N, P, P, B)` and targets `(N, P, P, K + 1)`, whose last channel tells known pixels.
        """
        rng = np.random.default_rng([self._seed, number])
        pairs = [self._patch(rng) for _ in range(self._plan.batch_size)]
        return np.stack([bands for bands, _ in pairs]), np.stack([target for _, target in pairs])

    def _patch(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        number, centre = self._draw_centre(rng)
        source = self._scenes[number]
        size_px = self._plan.patch_px
        corner = [c - int(rng.integers(size_px)) for c in centre]
        window = [_mirrored(start, size_px, side) for start, side in zip(corner, source.scene.known.shape, strict=True)]
        bands = source.scaling.apply(_cut(source.scene.cube, window))
        known = _cut(source.scene.known, window)
        masks = _cut(source.scene.masks, window)[..., source.classes]
        target = np.concatenate([masks, known[..., None]], axis=-1).astype(np.float32)
        bands, target = self._turn(rng, bands, target)
        return self._jitter(rng, bands), target

    def _draw_centre(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        if self._holders and rng.random() < CLASS_SHARE:
            k = list(self._holders)[rng.integers(len(self._holders))]
            number = self._holders[k][rng.integers(len(self._holders[k]))]
            choices = self._positions[number].of_class[k]
        else:
            number = int(rng.choice(len(self._scenes), p=self._shares))
            choices = self._positions[number].known
        width = self._scenes[number].scene.known.shape[1]
        row, column = divmod(int(choices[rng.integers(len(choices))]), width)
        return number, (row, column)

    def _turn(
        self, rng: np.random.Generator, bands: NDArray[np.float32], target: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self._plan.augmentation.turns == "none":
            return bands, target
        quarter_turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        turned = [np.rot90(array, quarter_turns) for array in (bands, target)]
        if mirror:
            turned = [array[:, ::-1] for array in turned]
        return turned[0], turned[1]

    def _jitter(self, rng: np.random.Generator, bands: NDArray[np.float32]) -> NDArray[np.float32]:
        strength = self._plan.augmentation.jitter
        if strength == 0:
            return bands
        factor, offset = rng.uniform(-strength, strength, (2, bands.shape[-1])).astype(np.float32)
        jittered: NDArray[np.float32] = bands * (1.0 + factor) + offset
        return jittered


def _find_positions(source: TrainingScene, seed: int) -> _Positions:
    rng = np.random.default_rng(seed)
    known = np.asarray(source.scene.known)
    return _Positions(
        known=_thin(np.flatnonzero(known), rng),
        of_class=tuple(_thin(np.flatnonzero(known & (source.scene.masks[..., k] > 0)), rng) for k in source.classes),
    )


def _thin(positions: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    if len(positions) <= POSITIONS_PER_SCENE:
        return positions
    return rng.choice(positions, POSITIONS_PER_SCENE, replace=False)


def _mirrored(start: int, size: int, limit: int) -> NDArray[np.int64] | slice:
    """Positions `start … start + size` with those outside `0 … limit` mirrored back in, the border not repeated."""
    if start >= 0 and start + size <= limit:
        return slice(start, start + size)
    period = max(1, 2 * (limit - 1))
    wrapped = np.arange(start, start + size) % period
    return np.minimum(wrapped, period - wrapped)


def _cut(array: NDArray[Value], window: Sequence[NDArray[np.int64] | slice]) -> NDArray[Value]:
    rows, columns = window
    return np.asarray(array[rows][:, columns])

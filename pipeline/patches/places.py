"""Where patches lie: uniformly, balanced over classes, or where the loss was high; never near held-out ground."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.patches.draws import Doubles
from pipeline.patches.scenes import TrainingScene
from search_space.errors import InfeasibleError, MapgroveError
from search_space.training_plan import Sampling

Positions = NDArray[np.int64]

POSITIONS_PER_SCENE, POSITIONS_PER_CELL = 50_000, 64
OFFSETS_TRIED = 32


@dataclass(frozen=True)
class _Ground:
    """Where patches of one scene may lie.

    Attributes:
        showable: Bool `(H, W)`, known pixels that a patch may show.
        known: Flat positions of some of them.
        of_class: The same of each class's pixels.
        num_of_class: How many showable pixels each class has, however many positions are kept.
        labelled: Which classes have known pixels, showable or not.
        centres: Bool `(H, W)`, where the middle of a patch may lie; None where it may lie anywhere.
    """

    showable: NDArray[np.bool_]
    known: Positions
    of_class: tuple[Positions, ...]
    num_of_class: tuple[int, ...]
    labelled: tuple[bool, ...]
    centres: NDArray[np.bool_] | None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.showable.shape[0], self.showable.shape[1]

    def allows(self, centres: Doubles) -> NDArray[np.bool_]:
        """Which of `(..., 2)` middles may be used."""
        if self.centres is None:
            return np.ones(centres.shape[:-1], bool)
        rows, columns = np.moveaxis(np.floor(centres).astype(np.int64), -1, 0)
        allowed: NDArray[np.bool_] = self.centres[rows, columns]
        return allowed

    def centre_showing(self, pixel: tuple[int, int], patch_px: int, rng: np.random.Generator) -> tuple[int, int]:
        """A middle that may be used, from which a patch that lies straight shows the pixel; floored."""
        if self.centres is None:
            return pixel
        rows, columns = (slice(max(0, at - patch_px // 2), at + (patch_px + 1) // 2) for at in pixel)
        window = self.centres[rows, columns]
        places = np.flatnonzero(window)
        row, column = divmod(int(places[rng.integers(len(places))]), window.shape[1])
        return rows.start + row, columns.start + column


class Places:
    """Draws where patches lie.

    A patch is drawn by a pixel that it shows: any known one, or, for the plan's share of patches, one of a class drawn
    evenly among the classes present, or one of a cell drawn in proportion to the loss last seen there. The pixel may
    be anywhere in the patch; the patch's middle is in the scene.

    Args:
        scenes: Where to draw from.
        sampling: How pixels are drawn.
        patch_px: Side length of a patch.
        reach_px: How far a patch reads from its middle at most.
        context_px: How far a network looks: no patch comes nearer to held-out ground.
        seed: Of what is thinned out.
        class_names: Those of the scenes' classes, for messages; numbers where empty.

    Raises:
        MapgroveError: No scene has a known pixel.
        InfeasibleError: Held-out ground leaves no room for a patch.
    """

    def __init__(
        self,
        scenes: Sequence[TrainingScene],
        sampling: Sampling,
        patch_px: int,
        *,
        reach_px: int,
        context_px: int,
        seed: int,
        class_names: Sequence[str] = (),
    ) -> None:
        self._sampling = sampling
        self._patch_px = patch_px
        self._cell_px = max(8, patch_px // 2)
        if not any(np.any(scene.scene.known) for scene in scenes):
            raise MapgroveError("no training scene has a labelled pixel", remedy="Check [folds] and the ignore label")
        self._grounds = [_survey(scene, patch_px, reach_px + context_px, seed) for scene in scenes]
        sizes = np.array([np.count_nonzero(ground.showable) for ground in self._grounds], np.float64)
        if not sizes.sum():
            raise InfeasibleError(
                f"held-out blocks leave no room for patches of {patch_px} px whose network looks {context_px} px far: "
                "make folds.block_px larger, or patches smaller"
            )
        self._shares = sizes / sizes.sum()
        names = class_names or [f"class {k + 1}" for k in range(len(scenes[0].classes))]
        self._of_class = self._class_shares(f"{patch_px} px whose network looks {context_px} px far", names)
        self._cells = _Cells(self._grounds, self._cell_px, seed) if sampling.kind == "loss" else None

    def draw(self, matrices: Doubles, rng: np.random.Generator) -> tuple[Positions, Doubles, Positions]:
        """Draw scenes `(N,)`, middles `(N, 2)` and the pixels `(N, 2)` that they were drawn by.

        Args:
            matrices: How the patches lie, `(N, 2, 2)`.
            rng: Source of everything random.
        """
        scenes, centres, pixels = zip(*(self._place(matrix, rng) for matrix in matrices), strict=True)
        return np.array(scenes, np.int64), np.array(centres), np.array(pixels, np.int64)

    def record(self, scenes: Positions, pixels: Positions, losses: NDArray[np.floating]) -> None:
        """Remember the loss last seen of the ground that each patch was drawn by; `settle` makes it count."""
        if self._cells is not None:
            self._cells.record(scenes, pixels, losses)

    def settle(self) -> None:
        """Let what was recorded count from now on: once per epoch, so that batches drawn ahead stay the same."""
        if self._cells is not None:
            self._cells.settle()

    @property
    def seen_losses(self) -> Doubles:
        """What `record` was told, by cell, NaN where nothing was; empty where losses do not steer."""
        return np.empty(0) if self._cells is None else self._cells.seen.copy()

    @seen_losses.setter
    def seen_losses(self, losses: Doubles) -> None:
        if self._cells is not None:
            self._cells.seen[:] = losses

    def _class_shares(self, patches: str, class_names: Sequence[str]) -> list[tuple[int, NDArray[np.float64]]]:
        """Of each class that there is, how often its patches are drawn from each scene.

        By its pixels there, but from as many on as a patch has all scenes count alike: ten thousand pixels of one field
        teach no more than a thousand, and other scenes' fields look different.
        """
        counts = np.array([ground.num_of_class for ground in self._grounds], np.float64)
        labelled = np.any([ground.labelled for ground in self._grounds], axis=0)
        for k in np.flatnonzero(labelled).tolist():
            if not counts[:, k].sum():
                raise InfeasibleError(
                    f"held-out blocks leave no room for patches of {patches} to show a pixel of {class_names[k]}: "
                    "make folds.block_px larger, or patches smaller"
                )
        counts = np.minimum(counts, float(self._patch_px) ** 2)
        return [(int(k), counts[:, k] / counts[:, k].sum()) for k in np.flatnonzero(counts.sum(axis=0))]

    def _place(self, matrix: Doubles, rng: np.random.Generator) -> tuple[int, Doubles, tuple[int, int]]:
        scene, pixel = self._pixel(rng)
        ground = self._grounds[scene]
        middle = (self._patch_px - 1) / 2
        offsets = rng.integers(self._patch_px, size=(OFFSETS_TRIED, 2)) - middle
        # Halves, as the middle of an even patch lies between pixels: so quarter turns stay on the pixels.
        inset = middle % 1
        highest = np.maximum(np.array(ground.shape) - 1 - inset, inset)
        centres = np.clip(np.array(pixel) - offsets @ matrix.T, inset, highest)
        allowed = np.flatnonzero(ground.allows(centres))
        if len(allowed):
            return scene, centres[allowed[0]], pixel
        place = np.array(ground.centre_showing(pixel, self._patch_px, rng))
        return scene, np.clip(place + inset, inset, highest), pixel

    def _pixel(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        targeted = rng.random() < self._sampling.share
        if targeted and self._sampling.kind == "balanced" and self._of_class:
            k, shares = self._of_class[rng.integers(len(self._of_class))]
            scene = int(rng.choice(len(self._grounds), p=shares))
            choices = self._grounds[scene].of_class[k]
        elif targeted and self._cells is not None:
            return self._cells.draw(rng)
        else:
            scene = int(rng.choice(len(self._grounds), p=self._shares))
            choices = self._grounds[scene].known
        row, column = divmod(int(choices[rng.integers(len(choices))]), self._grounds[scene].shape[1])
        return scene, (row, column)


class _Cells:
    """Squares of ground with the loss last seen there; one not yet seen counts as the worst that was."""

    def __init__(self, grounds: Sequence[_Ground], cell_px: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._cell_px = cell_px
        self._pixels: list[tuple[int, NDArray[np.int64]]] = []
        self._number: dict[tuple[int, int, int], int] = {}
        for scene, ground in enumerate(grounds):
            height, width = ground.shape
            for row, column in product(range(-(-height // cell_px)), range(-(-width // cell_px))):
                corner = np.array([row, column]) * cell_px
                inside = np.argwhere(ground.showable[corner[0] : corner[0] + cell_px, corner[1] : corner[1] + cell_px])
                if len(inside):
                    self._number[scene, row, column] = len(self._pixels)
                    self._pixels.append((scene, _thin(inside, rng, POSITIONS_PER_CELL) + corner))
        self.seen = np.full(len(self._pixels), np.nan)
        self._weights = np.full(len(self._pixels), 1 / len(self._pixels))

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        scene, members = self._pixels[int(rng.choice(len(self._pixels), p=self._weights))]
        row, column = members[rng.integers(len(members))].tolist()
        return scene, (row, column)

    def record(self, scenes: Positions, pixels: Positions, losses: NDArray[np.floating]) -> None:
        cells = pixels // self._cell_px
        for scene, (row, column), loss in zip(scenes.tolist(), cells.tolist(), losses.tolist(), strict=True):
            if np.isfinite(loss):
                self.seen[self._number[scene, row, column]] = max(loss, 0.0)

    def settle(self) -> None:
        seen = self.seen[~np.isnan(self.seen)]
        if len(seen) and seen.max() > 0:
            weights = np.where(np.isnan(self.seen), seen.max(), self.seen)
            self._weights = weights / weights.sum()


def _survey(source: TrainingScene, patch_px: int, distance_px: int, seed: int) -> _Ground:
    known = np.asarray(source.scene.known)
    masks = [known & (source.scene.masks[..., k] > 0) for k in source.classes]
    labelled = tuple(bool(mask.any()) for mask in masks)
    showable, centres = known, None
    if source.held_out is not None and np.any(source.held_out):
        centres = far_from(np.asarray(source.held_out), distance_px)
        showable = known & shown_from(centres, patch_px)
        masks = [mask & showable for mask in masks]
    rng = np.random.default_rng(seed)
    return _Ground(
        showable=showable,
        known=_thin(np.flatnonzero(showable), rng),
        of_class=tuple(_thin(np.flatnonzero(mask), rng) for mask in masks),
        num_of_class=tuple(int(np.count_nonzero(mask)) for mask in masks),
        labelled=labelled,
        centres=centres,
    )


def shown_from(centres: NDArray[np.bool_], patch_px: int) -> NDArray[np.bool_]:
    """Bool `(H, W)`: pixels that a patch shows which lies straight around one of the middles, floored."""
    kernel = np.ones((patch_px, patch_px), np.uint8)
    # An even patch shows one more row below its middle than above.
    anchor = (patch_px // 2, patch_px // 2)
    shown: NDArray[np.bool_] = cv2.dilate(centres.astype(np.uint8), kernel, anchor=anchor, borderValue=0) > 0
    return shown


def far_from(held_out: NDArray[np.bool_], distance_px: int) -> NDArray[np.bool_]:
    """Bool `(H, W)`: where more than `distance_px` rows or columns lie between a pixel and held-out ground."""
    distance = cv2.distanceTransform((~held_out).astype(np.uint8), cv2.DIST_C, 3)
    far: NDArray[np.bool_] = distance > distance_px + 1
    return far


def _thin(positions: Positions, rng: np.random.Generator, most: int = POSITIONS_PER_SCENE) -> Positions:
    return positions if len(positions) <= most else rng.choice(positions, most, replace=False)

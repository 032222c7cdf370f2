"""Where patches lie: uniformly, balanced over classes, or where the loss was high; never near held-out ground."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.patches.draws import Doubles
from pipeline.patches.scenes import TrainingScene
from search_space.errors import InfeasibleError, MapgroveError
from search_space.training_plan import Sampling

Positions = NDArray[np.int64]

POSITIONS_PER_SCENE = 50_000
OFFSETS_TRIED = 32


@dataclass(frozen=True)
class _Ground:
    """Where patches of one scene may lie.

    Attributes:
        shape: Rows and columns.
        known: Flat positions of known pixels that a patch may show.
        of_class: The same of each class's pixels.
        centres: Bool `(H, W)`, where the middle of a patch may lie; None where it may lie anywhere.
        some_centres: Flat positions of some of them.
        num_known: Known pixels, however many positions are kept.
    """

    shape: tuple[int, int]
    known: Positions
    of_class: tuple[Positions, ...]
    centres: NDArray[np.bool_] | None
    some_centres: Positions
    num_known: int

    def allows(self, centres: Doubles) -> NDArray[np.bool_]:
        """Which of `(..., 2)` middles may be used."""
        if self.centres is None:
            return np.ones(centres.shape[:-1], bool)
        rows, columns = np.moveaxis(np.floor(centres).astype(np.int64), -1, 0)
        allowed: NDArray[np.bool_] = self.centres[rows, columns]
        return allowed


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
    ) -> None:
        self._sampling = sampling
        self._patch_px = patch_px
        self._cell_px = max(8, patch_px // 2)
        if not any(np.any(scene.scene.known) for scene in scenes):
            raise MapgroveError("no training scene has a labelled pixel", remedy="Check [folds] and the ignore label")
        self._grounds = [_survey(scene, patch_px, reach_px + context_px, seed) for scene in scenes]
        sizes = np.array([ground.num_known for ground in self._grounds], np.float64)
        if not sizes.sum():
            raise InfeasibleError(
                f"held-out blocks leave no room for patches of {patch_px} px whose network looks {context_px} px far: "
                "make folds.block_px larger, or patches smaller"
            )
        self._shares = sizes / sizes.sum()
        num_classes = len(scenes[0].classes)
        holders = ([s for s, ground in enumerate(self._grounds) if len(ground.of_class[k])] for k in range(num_classes))
        self._holders = [(k, scenes_with) for k, scenes_with in enumerate(holders) if scenes_with]
        self._cells = _Cells(self._grounds, self._cell_px) if sampling.kind == "loss" else None

    def draw(self, matrices: Doubles, rng: np.random.Generator) -> tuple[NDArray[np.int64], Doubles]:
        """Draw scenes `(N,)` and middles `(N, 2)` for patches that lie as `(N, 2, 2)` matrices tell."""
        drawn = [self._place(matrix, rng) for matrix in matrices]
        return np.array([scene for scene, _ in drawn], np.int64), np.array([centre for _, centre in drawn])

    def record(self, scenes: NDArray[np.int64], centres: Doubles, losses: NDArray[np.floating]) -> None:
        """Remember the loss last seen around each middle; `settle` makes it count."""
        if self._cells is not None:
            self._cells.record(scenes, centres, losses)

    def settle(self) -> None:
        """Let what was recorded count from now on: once per epoch, so that batches drawn ahead stay the same."""
        if self._cells is not None:
            self._cells.settle()

    def _place(self, matrix: Doubles, rng: np.random.Generator) -> tuple[int, Doubles]:
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
            return scene, centres[allowed[0]]
        place = ground.some_centres[rng.integers(len(ground.some_centres))]
        return scene, np.clip(np.array(divmod(int(place), ground.shape[1])) + inset, inset, highest)

    def _pixel(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        targeted = rng.random() < self._sampling.share
        if targeted and self._sampling.kind == "balanced" and self._holders:
            k, holders = self._holders[rng.integers(len(self._holders))]
            scene = holders[rng.integers(len(holders))]
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

    def __init__(self, grounds: Sequence[_Ground], cell_px: int) -> None:
        self._cell_px = cell_px
        self._columns = [-(-ground.shape[1] // cell_px) for ground in grounds]
        self._pixels: list[tuple[int, NDArray[np.int64]]] = []
        self._number: dict[tuple[int, int], int] = {}
        for scene, ground in enumerate(grounds):
            rows, columns = np.divmod(ground.known, ground.shape[1])
            cells = rows // cell_px * self._columns[scene] + columns // cell_px
            order = np.argsort(cells, kind="stable")
            names, starts = np.unique(cells[order], return_index=True)
            for name, members in zip(names, np.split(ground.known[order], starts[1:]), strict=True):
                self._number[scene, int(name)] = len(self._pixels)
                self._pixels.append((scene, members))
        self._widths = [ground.shape[1] for ground in grounds]
        self._seen = np.full(len(self._pixels), np.nan)
        self._weights = np.full(len(self._pixels), 1 / len(self._pixels))

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        scene, members = self._pixels[int(rng.choice(len(self._pixels), p=self._weights))]
        row, column = divmod(int(members[rng.integers(len(members))]), self._widths[scene])
        return scene, (row, column)

    def record(self, scenes: NDArray[np.int64], centres: Doubles, losses: NDArray[np.floating]) -> None:
        cells = np.floor(centres / self._cell_px).astype(np.int64)
        for scene, (row, column), loss in zip(scenes.tolist(), cells.tolist(), losses.tolist(), strict=True):
            number = self._number.get((scene, row * self._columns[scene] + column))
            if number is not None and np.isfinite(loss):
                self._seen[number] = max(loss, 0.0)

    def settle(self) -> None:
        seen = self._seen[~np.isnan(self._seen)]
        if len(seen) and seen.max() > 0:
            weights = np.where(np.isnan(self._seen), seen.max(), self._seen)
            self._weights = weights / weights.sum()


def _survey(source: TrainingScene, patch_px: int, distance_px: int, seed: int) -> _Ground:
    known = np.asarray(source.scene.known)
    centres = None
    if source.held_out is not None and np.any(source.held_out):
        centres = far_from(np.asarray(source.held_out), distance_px)
        # A pixel counts if a patch with an allowed middle can show it.
        side = 2 * (patch_px // 2) + 1
        known = known & (cv2.dilate(centres.astype(np.uint8), np.ones((side, side), np.uint8), borderValue=0) > 0)
    rng = np.random.default_rng(seed)
    positions = np.flatnonzero(known)
    return _Ground(
        shape=(known.shape[0], known.shape[1]),
        known=_thin(positions, rng),
        of_class=tuple(_thin(np.flatnonzero(known & (source.scene.masks[..., k] > 0)), rng) for k in source.classes),
        centres=centres,
        some_centres=_thin(np.flatnonzero(centres), rng) if centres is not None else np.zeros(0, np.int64),
        num_known=len(positions),
    )


def far_from(held_out: NDArray[np.bool_], distance_px: int) -> NDArray[np.bool_]:
    """Bool `(H, W)`: where more than `distance_px` rows or columns lie between a pixel and held-out ground."""
    distance = cv2.distanceTransform((~held_out).astype(np.uint8), cv2.DIST_C, 3)
    far: NDArray[np.bool_] = distance > distance_px + 1
    return far


def _thin(positions: Positions, rng: np.random.Generator) -> Positions:
    if len(positions) <= POSITIONS_PER_SCENE:
        return positions
    return rng.choice(positions, POSITIONS_PER_SCENE, replace=False)

"""Ground: a scene cut into blocks, and the part of a scene that belongs to one fold."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.preparation.prepared import PreparedScene

Window = tuple[slice, slice]
"""Rows and columns, half open."""


@dataclass(frozen=True)
class BlockGrid:
    """A regular grid that covers a scene exactly; blocks are numbered row by row.

    Attributes:
        row_edges_px: Where rows of blocks begin, and where the last one ends.
        column_edges_px: Where columns of blocks begin, and where the last one ends.
    """

    row_edges_px: tuple[int, ...]
    column_edges_px: tuple[int, ...]

    @classmethod
    def over(cls, shape_px: tuple[int, int], block_px: int | None = None) -> "BlockGrid":
        """Cut a scene into blocks whose sides are as near to `block_px` as an equal division allows.

        A side becomes `side / block_px` blocks, rounded, and one at least; they differ by one pixel at most.

        Args:
            shape_px: Rows and columns.
            block_px: Side of a block; None for the whole scene as one block.
        """
        height_px, width_px = shape_px
        return cls(_edges(height_px, block_px), _edges(width_px, block_px))

    @property
    def num_blocks(self) -> int:
        """How many there are."""
        return (len(self.row_edges_px) - 1) * (len(self.column_edges_px) - 1)

    def window(self, block: int) -> Window:
        """Where a block lies."""
        row, column = divmod(block, len(self.column_edges_px) - 1)
        return slice(*self.row_edges_px[row : row + 2]), slice(*self.column_edges_px[column : column + 2])

    def mask(self, blocks: Iterable[int]) -> NDArray[np.bool_]:
        """Bool `(H, W)`, True in the named blocks."""
        marked = np.zeros((self.row_edges_px[-1], self.column_edges_px[-1]), bool)
        for block in blocks:
            marked[self.window(block)] = True
        return marked

    def sums(self, layers: NDArray[Any]) -> NDArray[np.int64]:
        """Sum `(H, W, K)` whole numbers over each block, reading one row of blocks at a time: int64 `(N, K)`."""
        strips = (np.sum(layers[top:bottom], axis=0, dtype=np.int64) for top, bottom in pairwise(self.row_edges_px))
        return np.concatenate([np.add.reduceat(strip, self.column_edges_px[:-1], axis=0) for strip in strips])


def _edges(side_px: int, block_px: int | None) -> tuple[int, ...]:
    number = 1 if block_px is None else max(1, (2 * side_px + block_px) // (2 * block_px))
    return tuple(side_px * edge // number for edge in range(number + 1))


@dataclass(frozen=True)
class OwnImagery:
    """The bands of a scene with the pixels of one part of it alone: what statistics are taken from.

    Attributes:
        cube: float32 `(H, W, B)`, that of the whole scene.
        valid: Bool `(H, W)`, True where there is data on the part's ground.
        folder: Where the scene lies.
        source: Changes when anything the scene was made from changes.
    """

    cube: NDArray[np.float32]
    valid: NDArray[np.bool_]
    folder: Path
    source: str


@dataclass(frozen=True)
class Part:
    """A scene, of which only some ground counts.

    It looks like its scene: bands and validity are the whole scene's, so that what lies around the ground can be seen.
    Only `known` is narrowed down, and with it what is trained on and what is scored.

    Attributes:
        scene: The whole scene.
        grid: The blocks it is cut into.
        blocks: The blocks that count; None for the whole scene.
        held_out_blocks: Of a training part, the blocks of other folds.
    """

    scene: PreparedScene
    grid: BlockGrid
    blocks: tuple[int, ...] | None = None
    held_out_blocks: tuple[int, ...] = ()

    @classmethod
    def whole(cls, scene: PreparedScene) -> "Part":
        """A scene of which all ground counts."""
        return cls(scene, BlockGrid.over(scene.shape_px))

    @property
    def id(self) -> str:
        """The scene's name."""
        return self.scene.id

    @property
    def shape_px(self) -> tuple[int, int]:
        """Rows and columns of the scene."""
        return self.scene.shape_px

    @property
    def cube(self) -> NDArray[np.float32]:
        """Bands of the whole scene, float32 `(H, W, B)`, NaN where there is no data."""
        return self.scene.cube

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Bool `(H, W)`, True where the scene has data, on other ground too."""
        return self.scene.valid

    @property
    def masks(self) -> NDArray[np.uint8]:
        """Classes as pixels of the whole scene, 0 or 1, `(H, W, K)`; what counts of them is where `known` is True."""
        return self.scene.masks

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Bool `(H, W)`, True where there are data and a label on the ground that counts."""
        return self.scene.known if self.blocks is None else self._within(self.scene.known)

    @cached_property
    def held_out(self) -> NDArray[np.bool_] | None:
        """Bool `(H, W)`, True on ground of other folds that no training patch may touch; None where there is none."""
        return self.grid.mask(self.held_out_blocks) if self.held_out_blocks else None

    @property
    def imagery(self) -> PreparedScene | OwnImagery:
        """What statistics of bands are taken from: the pixels of this ground alone."""
        if self.blocks is None:
            return self.scene
        return OwnImagery(self.cube, self._within(self.valid), self.scene.folder, self.scene.source)

    @property
    def windows(self) -> tuple[Window, ...]:
        """Where the blocks that count lie; none for a whole scene."""
        return tuple(self.grid.window(block) for block in self.blocks or ())

    def _within(self, pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        narrowed = np.zeros(self.shape_px, bool)
        for window in self.windows:
            narrowed[window] = pixels[window]
        return narrowed

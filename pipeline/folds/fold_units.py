"""What folds are made of: labelled ground in pieces, and which pieces must stay together."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from pipeline.folds.ground import BlockGrid
from pipeline.preparation.prepared import PreparedDataset, PreparedScene, SceneRecord
from pipeline.preparation.same_ground import joined_groups
from search_space.fold_settings import FoldSettings

Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Piece:
    """A scene or a block of one, with at least one known pixel.

    Attributes:
        scene_id: The scene.
        block: The block's number in the scene's grid.
        areas_px: Labelled pixels of each class, and last all known pixels.
    """

    scene_id: str
    block: int
    areas_px: tuple[int, ...]


@dataclass(frozen=True)
class LabelledGround:
    """All labelled ground of a data set.

    Attributes:
        grids: Of every scene, the blocks it is cut into.
        pieces: The labelled ground, ordered by scene and block.
        same_ground: Groups of scenes that show the same ground, each sorted.
    """

    grids: dict[str, BlockGrid]
    pieces: tuple[Piece, ...]
    same_ground: Groups

    @classmethod
    def survey(cls, settings: FoldSettings, dataset: PreparedDataset) -> "LabelledGround":
        """Cut a data set as a study asks for; masks are read only of scenes that are cut.

        A scene that shares its ground with another is not cut, as all of that ground goes into one fold.
        """
        groups = joined_groups([*settings.groups, *dataset.manifest.same_ground])
        whole = {*chain(*groups), *settings.test}
        grids = {
            record.id: BlockGrid.over(
                (record.height_px, record.width_px), None if record.id in whole else settings.block_px
            )
            for record in dataset.manifest.scenes
        }
        pieces = [piece for name in dataset.scene_ids for piece in _pieces(dataset.scene(name), grids[name])]
        return cls(grids, tuple(pieces), groups)

    @property
    def scene_ids(self) -> tuple[str, ...]:
        """Scenes with a labelled pixel, sorted."""
        return tuple(dict.fromkeys(piece.scene_id for piece in self.pieces))

    def units(self, without: Iterable[str] = ()) -> list[tuple[Piece, ...]]:
        """What no fold may split: the scenes of one ground, any other piece by itself.

        Args:
            without: Scenes that are left out.
        """
        left_out = set(without)
        group_of = {name: group for group in self.same_ground for name in group}
        units: dict[tuple[object, ...], list[Piece]] = {}
        for piece in self.pieces:
            if piece.scene_id not in left_out:
                key = group_of.get(piece.scene_id, (piece.scene_id, piece.block))
                units.setdefault(key, []).append(piece)
        return [tuple(unit) for unit in units.values()]


def _pieces(scene: PreparedScene, grid: BlockGrid) -> list[Piece]:
    if scene.record.known_share == 0:
        return []
    if grid.num_blocks == 1:
        return [Piece(scene.id, 0, _areas_px(scene.record))]
    areas = np.concatenate([grid.sums(scene.masks), grid.sums(scene.known[..., None])], axis=1)
    return [Piece(scene.id, block, tuple(map(int, row))) for block, row in enumerate(areas) if row[-1] > 0]


def _areas_px(record: SceneRecord) -> tuple[int, ...]:
    """Shares are quotients of these whole numbers, so that rounding finds them again."""
    num_known = round(record.known_share * record.height_px * record.width_px)
    return (*(round(share * num_known) for share in record.class_shares.values()), num_known)

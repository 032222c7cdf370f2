"""Folds of a retraining: the ground that a study trains and validates on, dealt anew, each fold validating once."""

from pipeline.folds.fold_units import LabelledGround, Piece
from pipeline.folds.folds import Fold, deal_of, dealt, fold_of, uses_of
from pipeline.preparation.prepared import PreparedDataset
from pipeline.scene import DataError
from search_space.fold_settings import LEAST_BLOCK_PX, FoldSettings

BLOCKS_PER_FOLD = 2
"""Where scenes are too few to be dealt whole, they are cut so that each fold may have so many blocks."""


def cross_folds(settings: FoldSettings, dataset: PreparedDataset, num_folds: int) -> tuple[Fold, ...]:
    """Deal what is not the test's into folds: a function of the settings and the data alone.

    Blocks are dealt where the study deals blocks; whole scenes elsewhere, unless there are fewer of them than folds:
    then they are cut into blocks, the largest with which each fold may have `BLOCKS_PER_FOLD`. The test ground is the
    study's own, and stays out of all of it.

    Args:
        settings: The study's `[folds]`.
        dataset: What is split.
        num_folds: Number of folds.

    Returns:
        One split for each fold, in which it validates and the others train. Either may lack a class; the split names
        those.

    Raises:
        DataError: The study's own split cannot be made, or there are more folds than there is to deal.
    """
    ground, deal = deal_of(settings, dataset)
    test = {piece for piece, use in uses_of(deal, settings).items() if use == "test"}
    # What the test has of a study of scenes are whole scenes, which then are not cut either.
    names = tuple(dict.fromkeys(piece.scene_id for piece in test)) if settings.unit == "scene" else settings.test
    anew = settings.model_copy(update={"validation": (), "test": names, "num_folds": num_folds, "test_fold": None})
    units = _units(ground, test)
    if len(units) < num_folds and settings.unit == "scene":
        anew, ground = _cut(anew, dataset, ground, test, BLOCKS_PER_FOLD * num_folds)
        units = _units(ground, test)
    if len(units) < num_folds:
        raise DataError(
            "There is too little labelled ground beside the test's for so many folds",
            received={"folds": num_folds, f"{anew.places} to deal": len(units)},
            remedy=f"Take at most {len(units)} folds" if len(units) > 1 else "Label more, or take no folds",
        )
    pieces = dict.fromkeys(test, "test") | dealt(units, num_folds, settings.seed)
    numbered = (anew.model_copy(update={"fold": number + 1}) for number in range(num_folds))
    return tuple(fold_of(each, dataset, ground, pieces) for each in numbered)


def _units(ground: LabelledGround, test: set[Piece]) -> list[tuple[Piece, ...]]:
    """What may be dealt; the ground of the test is never a part of a unit with other ground."""
    return [unit for unit in ground.units() if not test.intersection(unit)]


def _cut(
    settings: FoldSettings, dataset: PreparedDataset, ground: LabelledGround, test: set[Piece], wanted: int
) -> tuple[FoldSettings, LabelledGround]:
    """Scenes in blocks: the largest of which there are as many as wanted, else the smallest there may be."""
    sides_px = [max(grid.row_edges_px[-1], grid.column_edges_px[-1]) for grid in ground.grids.values()]
    parts = 2
    while True:
        block_px = max(LEAST_BLOCK_PX, int(max(sides_px)) // parts)
        cut = settings.model_copy(update={"unit": "block", "block_px": block_px})
        found = LabelledGround.survey(cut, dataset)
        if len(_units(found, test)) >= wanted or block_px == LEAST_BLOCK_PX:
            return cut, found
        parts = max(parts + 1, parts * 4 // 3)

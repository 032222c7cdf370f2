"""How a study's ground was split, as a table and in sentences."""

import pandas as pd

from results.phrases import NOTHING, count_text, counted
from search_space.fold_settings import FoldSettings
from search_space.records import FoldName, FoldShares, Split

_CONSEQUENCE: dict[FoldName, str] = {
    "training": "could not be ranked on it",
    "validation": "is not ranked, and gets no threshold",
    "test": "has no score",
}


def fold_column(title: str) -> str:
    """Name of the column that shows a fold."""
    return f"fold[{title}]"


def split_line(split: Split) -> str:
    """How much is used for what, such as "6 train, 1 validate, 1 test, 1 without labelled pixels"."""
    in_blocks = any(fold.num_blocks is not None for fold in split.folds)
    num = dict.fromkeys(_CONSEQUENCE, 0)
    for fold in split.folds:
        num[fold.used_for] += (fold.num_blocks if in_blocks else fold.num_scenes) or 0
    unlabelled = counted(len(split.unlabelled), "scene") if in_blocks else str(len(split.unlabelled))
    return (
        f"{num['training']}{' blocks' if in_blocks else ''} train, {num['validation']} validate, {num['test']} test, "
        f"{unlabelled} without labelled pixels"
    )


def split_table(split: Split) -> pd.DataFrame:
    """A split in numbers: what each fold holds of the ground and of every class.

    Returns:
        Columns `fold` (what is counted) and `fold[TITLE]` for each fold, all text: how many scenes and blocks, then
        the share of all known pixels and of each class's.
    """
    blocks = [("blocks", [count_text(fold.num_blocks) for fold in split.folds])]
    rows = [
        ("scenes", [count_text(fold.num_scenes) for fold in split.folds]),
        *(blocks if any(fold.num_blocks is not None for fold in split.folds) else []),
        ("ground", [share_text(fold.known_share) for fold in split.folds]),
        *((name, [share_text(fold.class_shares[name]) for fold in split.folds]) for name in _classes(split)),
    ]
    columns = ["fold", *(fold_column(_title(fold)) for fold in split.folds)]
    return pd.DataFrame([(name, *cells) for name, cells in rows], columns=columns)


def split_notes(split: Split) -> list[str]:
    """What to know beside the table: classes that a fold lacks, scenes kept together, and scenes without labels."""
    notes = [
        f"Absent from {_place(fold)}: {', '.join(fold.absent)}, which {_CONSEQUENCE[fold.used_for]}."
        for fold in split.folds
        if fold.absent
    ]
    if split.same_ground:
        groups = "; ".join(" and ".join(group) for group in split.same_ground)
        notes.append(f"Same ground, kept in one fold: {groups}.")
    return notes


def held_out_phrase(settings: FoldSettings, name: FoldName) -> str:
    """What a study holds out as "validation" or "test": scenes by name, or a fold by number; "none" where nothing."""
    scenes = settings.validation if name == "validation" else settings.test
    if scenes:
        return ", ".join(scenes)
    number = settings.fold if name == "validation" else settings.test_fold
    if settings.num_folds is None or number is None:
        return "none"
    size = f" of about {settings.block_px} px" if settings.block_px else ""
    return f"fold {number} of {settings.num_folds}, dealt in {settings.unit}s{size}"


def share_text(share: float) -> str:
    """A share in per cent; a dash for nothing at all, and never 0 for a little."""
    if share == 0:
        return NOTHING
    return "<0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")


def _title(fold: FoldShares) -> str:
    """A fold's number with what it is used for, which for most is training and stays unsaid."""
    return fold.name if fold.name == fold.used_for or fold.used_for == "training" else f"{fold.name} {fold.used_for}"


def _place(fold: FoldShares) -> str:
    if fold.name == fold.used_for:
        return fold.name
    return f"fold {fold.name}" if fold.used_for == "training" else f"fold {fold.name}, {fold.used_for}"


def _classes(split: Split) -> list[str]:
    return list(split.folds[0].class_shares) if split.folds else []

"""Retrained models and their scores, as tables and in sentences."""

import pandas as pd

from results.phrases import counted
from results.splits import share_text
from results.tables import jaccard_column
from search_space.records import ModelSet, ScoreRecord


def model_table(models: ModelSet, score: ScoreRecord | None = None, places: str = "scenes") -> pd.DataFrame:
    """The retrained models with their figures, each column saying what it comes from.

    Args:
        models: The models.
        score: The score of their maps.
        places: What the study's folds consist of: "scenes" or "blocks".

    Returns:
        Columns `class`, `origin`, `num_parameters`, `threshold`, `jaccard[Jaccard, validation PLACES]` and, with a
        score, `jaccard[Jaccard, maps of FOLD PLACES]`; NaN where a class is absent.
    """
    validation = jaccard_column(f"Jaccard, validation {places}")
    columns = ["class", "origin", "num_parameters", "threshold", validation]
    fold = _score_column(score) if score else ""
    rows = [
        {
            "class": member.class_name,
            "origin": member.origin or "–",
            "num_parameters": member.figures.get("num_parameters"),
            "threshold": member.threshold,
            validation: member.validation_jaccard,
            fold: score.jaccard.get(member.class_name) if score else None,
        }
        for member in models.members
    ]
    return pd.DataFrame(rows, columns=[*columns, *([fold] if score else [])])


def score_table(score: ScoreRecord) -> pd.DataFrame:
    """A score class by class.

    Returns:
        Columns `class`, `jaccard[Jaccard, maps of FOLD PLACES]` (NaN where absent), `num_right_px` (predicted and
        labelled), `num_too_much_px` (predicted only), `num_missed_px` (labelled only); the last row is the mean.
    """
    jaccard = _score_column(score)
    rows = []
    for name, value in score.jaccard.items():
        counts = score.counts.get(name)
        pixels = (counts.tp, counts.fp, counts.fn) if counts else (None, None, None)
        rows.append((name, value, *pixels))
    rows.append(("mean", score.mean_jaccard, None, None, None))
    columns = ["class", jaccard, "num_right_px", "num_too_much_px", "num_missed_px"]
    return pd.DataFrame(rows, columns=columns)


def scored_ground_phrase(score: ScoreRecord) -> str:
    """Which scenes were scored, and how much of those of which not all counted, such as "north (4 blocks, 31.0 %)"."""
    some = {
        each.scene: f"{each.scene} ({counted(len(each.blocks_px), 'block')}, {share_text(each.known_share)})"
        for each in score.ground
        if each.blocks_px
    }
    return ", ".join(some.get(name, name) for name in score.scenes)


def absent_phrase(score: ScoreRecord) -> str:
    """Why classes have no score, in one sentence; empty where every class has one."""
    return f"No labelled pixel there, so no score: {', '.join(score.absent)}." if score.absent else ""


def _score_column(score: ScoreRecord) -> str:
    return jaccard_column(f"Jaccard, maps of {score.fold} {score.places}")

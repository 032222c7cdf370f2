"""Retrained models and their scores, as tables and in sentences."""

import pandas as pd

from results.phrases import counted
from results.splits import share_text
from results.tables import jaccard_column
from search_space.records import ModelSet, ScoreRecord

_TRUTHS = {
    "polygons": "the labels' polygons",
    "masks": "connected places of the labels' masks, in which neighbours that touch are one",
    "both": "the labels' polygons, in some scenes connected places of their masks",
}


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


def polygon_table(score: ScoreRecord) -> pd.DataFrame:
    """How well single things were found, class by class.

    Returns:
        Columns `class`, `f1`, `precision`, `recall` (NaN where there is none), `num_right` (found and labelled),
        `num_too_many` (found only), `num_missed` (labelled only).
    """
    columns = ["class", "f1", "precision", "recall", "num_right", "num_too_many", "num_missed"]
    rows = [
        (name, each.f1, each.precision, each.recall, each.counts.tp, each.counts.fp, each.counts.fn)
        for name, each in score.polygons.items()
    ]
    return pd.DataFrame(rows, columns=columns)


def things_phrase(score: ScoreRecord) -> str:
    """When a single thing is right, and what the labels are, in two sentences; empty where none were told apart."""
    by_truth: dict[str, list[str]] = {}
    for name, each in score.polygons.items():
        by_truth.setdefault(_TRUTHS[each.truth], []).append(name)
    if not by_truth:
        return ""
    labelled = "; ".join(
        truth if len(by_truth) == 1 else f"of {', '.join(names)} {truth}" for truth, names in by_truth.items()
    )
    return f"A single thing is right where it shares more than half with a labelled one. Labelled are {labelled}."


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

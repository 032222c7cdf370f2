"""Retrained models and their scores, as tables and in sentences."""

from collections.abc import Sequence

import pandas as pd

from results.phrases import NOTHING, counted
from results.splits import share_text
from results.tables import jaccard_column
from search_space.records import GROUND_WORDS, ModelMember, ModelSet, ScoreRecord

_TRUTHS = {
    "polygons": "the labels' polygons",
    "masks": "connected places of the labels' masks, in which neighbours that touch are one",
    "both": "the labels' polygons, in some scenes connected places of their masks",
}


def model_table(models: ModelSet, score: ScoreRecord | None = None, places: str = "scenes") -> pd.DataFrame:
    """The retrained classes with their figures, each column saying what it comes from.

    Args:
        models: The models.
        score: The score of their maps.
        places: What the study's folds consist of: "scenes" or "blocks".

    Returns:
        Columns `class`, `num_models`, `origin`, `num_parameters` (of all models together), `threshold`,
        `jaccard[Jaccard, validation PLACES]`, or `jaccard[Jaccard, folds]` where some are of folds, `spread` (its
        standard deviation) and, with a score, `jaccard[Jaccard, maps of FOLD PLACES]`; NaN where a class is absent.
    """
    own_split = all(each.threshold_from == "validation" for each in models.maps)
    validation = jaccard_column(f"Jaccard, validation {places}" if own_split else "Jaccard, folds")
    columns = ["class", "num_models", "origin", "num_parameters", "threshold", validation, "spread"]
    fold = _score_column(score) if score else ""
    rows = []
    for each in models.maps:
        members = models.members_of(each.class_name)
        parameters = [member.figures.get("num_parameters") for member in members]
        rows.append(
            {
                "class": each.class_name,
                "num_models": len(members),
                "origin": ", ".join(dict.fromkeys(member.origin for member in members)) or NOTHING,
                "num_parameters": None if None in parameters else sum(filter(None, parameters)),
                "threshold": each.threshold,
                validation: each.jaccard,
                "spread": each.spread,
                fold: score.jaccard.get(each.class_name) if score else None,
            }
        )
    return pd.DataFrame(rows, columns=[*columns, *([fold] if score else [])])


def models_phrase(models: ModelSet) -> str:
    """How many models there are, and on what each was trained, such as "15 models of 3 classes, on 5 folds."."""
    folds = sorted({each.num_folds for each in models.members if each.num_folds})
    by = [
        f"on {' or '.join(map(str, folds))} folds" if folds else "",
        _each("seed", [each.seed for each in models.members]),
        _each("candidate", [each.rank for each in models.members]),
    ]
    several = len(models.members) > len(models.maps)
    lead = f"{counted(len(models.members), 'model')} of {counted(len(models.maps), 'class', 'classes')}"
    lead = lead if several else "One model per class"
    mean = " A class is mapped by the mean of its models." if several else ""
    return f"{', '.join([lead, *filter(None, by)])}.{mean}"


def _each(noun: str, numbers: Sequence[int]) -> str:
    return f"{max(numbers) + 1} {noun}s" if any(numbers) else ""


def validated_phrase(members: Sequence[ModelMember], own_split: str) -> str:
    """What ground each model was validated on, class by class where they differ.

    Args:
        members: The models.
        own_split: The study's own validation ground, in words.

    Returns:
        Such as "Validation ground: scene_03.", or "Validation ground: of the 5 folds, each model's the one that it did
        not see."
    """
    by_ground: dict[str, list[str]] = {}
    for each in members:
        ground = f"of the {each.num_folds} folds, each model's the one that it did not see"
        names = by_ground.setdefault(ground if each.num_folds else own_split, [])
        if each.class_name not in names:
            names.append(each.class_name)
    alike = len(by_ground) == 1
    told = [ground if alike else f"for {', '.join(names)} {ground}" for ground, names in by_ground.items()]
    return f"Validation ground: {'; '.join(told)}."


def thresholds_phrase(models: ModelSet) -> str:
    """What ground chose the thresholds, and how the Jaccard beside them was counted, class by class where they differ.

    Returns:
        Such as "Thresholds come from the study's validation ground. Jaccard was counted each scene at the threshold
        that the other scenes chose." Folds that lack a class are named.
    """
    grounds = list(dict.fromkeys(each.ground for each in models.maps))
    by_way: dict[str, list[str]] = {}
    for each in models.maps:
        by_way.setdefault(each.counted, []).append(each.class_name)
    ways = [way if len(by_way) == 1 else f"of {', '.join(names)} {way}" for way, names in by_way.items()]
    lines = [f"Thresholds come from {' and '.join(grounds)}.", f"Jaccard was counted {'; '.join(ways)}."]
    for each in models.maps:
        if each.absent_folds:
            folds = ", ".join(map(str, each.absent_folds))
            lines.append(f"No part in it has fold {folds}, which lacks {each.class_name}.")
    if any(each.spread is not None for each in models.maps):
        over = list(dict.fromkeys(each.spread_over for each in models.maps if each.spread_over))
        lines.append(f"The spread is a standard deviation over {' or '.join(over)}.")
    return " ".join(lines)


def independence_phrase(score: ScoreRecord) -> str:
    """Where thresholds and score come from, and whether one is worth anything to the other; empty if nobody knows."""
    if not score.threshold_from:
        return ""
    thresholds = f"Thresholds come from {GROUND_WORDS[score.threshold_from]}"
    this = f"these {score.places}"
    match score.models_saw:
        case "nothing":
            return f"{thresholds}, the score from {this}, whose labels had no part in training or in any choice."
        case "thresholds":
            return f"{thresholds}: so from {this}, on which they are scored. The score flatters."
        case "training":
            return f"{thresholds}, and some of the models were trained on {this}. The score flatters."
        case "start":
            return f"{thresholds}. Some models began from others; if these were trained on {this}, the score flatters."
    return f"{thresholds}; what the models saw of {this} before is not known."


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

"""Trials as files that other programs read: CSV and JSON lines."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from results.dimensions import dimension_value, searched_dimensions
from results.facts import mean_jaccard, ordered_classes, training_s
from results.files import write_text
from results.tables import jaccard_column
from search_space.decode import encode
from trials_db.records import Trial

FIRST_COLUMNS = ("trial", "state", "mean_jaccard", "loss")
LAST_COLUMNS = (
    "train_s",
    "epochs",
    "seed",
    "attempts",
    "worker",
    "candidate",
    "created_s",
    "started_s",
    "finished_s",
    "reason",
)


def trials_frame(trials: Iterable[Trial], classes: Sequence[str] = ()) -> pd.DataFrame:
    """Every trial with all that is known of it, for further analysis.

    Returns:
        One row per trial in the order of its number; columns `trial`, `state`, `mean_jaccard`, `loss`,
        `jaccard[CLASS]`, `threshold[CLASS]`, one column per searched dimension (named by its path; empty where the
        trial is on another branch), the outcome's further numbers, `train_s`, `epochs`, `seed`, `attempts`,
        `worker`, `candidate` (its fingerprint), `created_s`, `started_s`, `finished_s`, `reason` (in full).
    """
    trials = sorted(trials, key=lambda trial: trial.number)
    names = ordered_classes(trials, classes)
    paths = searched_dimensions(trial.point for trial in trials)
    figures = {name for trial in trials if trial.outcome for name in trial.outcome.figures}
    columns = [
        *FIRST_COLUMNS,
        *map(jaccard_column, names),
        *(f"threshold[{name}]" for name in names),
        *paths,
        *sorted(figures.difference(FIRST_COLUMNS, LAST_COLUMNS)),
        *LAST_COLUMNS,
    ]
    return pd.DataFrame([_row(trial, names, paths) for trial in trials], columns=columns)


def _row(trial: Trial, names: Sequence[str], paths: Sequence[str]) -> dict[str, Any]:
    outcome = trial.outcome
    candidate = trial.known()
    return {
        **(outcome.figures if outcome else {}),
        "trial": trial.number,
        "state": str(trial.state),
        "mean_jaccard": mean_jaccard(trial),
        "loss": trial.loss,
        **{jaccard_column(name): outcome.jaccard.get(name) if outcome else None for name in names},
        **{f"threshold[{name}]": outcome.thresholds.get(name) if outcome else None for name in names},
        **{path: dimension_value(candidate, path) if candidate else None for path in paths},
        "train_s": training_s(trial),
        "epochs": len(trial.reports),
        "seed": trial.seed,
        "attempts": trial.attempts,
        "worker": trial.worker,
        "candidate": candidate.fingerprint if candidate else None,
        "created_s": trial.created_s,
        "started_s": trial.started_s,
        "finished_s": trial.finished_s,
        "reason": outcome.reason if outcome else None,
    }


def write_csv(path: Path, trials: Iterable[Trial], classes: Sequence[str] = ()) -> Path:
    """Write `trials_frame` as CSV (UTF-8, comma, numbers in full), complete or not at all.

    Returns:
        `path`.

    Raises:
        PlaceError: `path` is a folder, or a folder on the way to it is a file.
    """
    return write_text(path, trials_frame(trials, classes).to_csv(index=False, lineterminator="\n"))


def write_json_lines(path: Path, trials: Iterable[Trial]) -> Path:
    """Write every trial as it is stored, one JSON document a line, complete or not at all.

    Returns:
        `path`.

    Raises:
        PlaceError: `path` is a folder, or a folder on the way to it is a file.
    """
    documents = [encode(trial) for trial in sorted(trials, key=lambda trial: trial.number)]
    lines = [json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n" for document in documents]
    return write_text(path, "".join(lines))

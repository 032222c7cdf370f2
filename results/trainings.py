"""How far a retraining is: its trainings per class and fold."""

from collections.abc import Iterable

import pandas as pd

from results.facts import FINISHED, jaccard_for
from results.phrases import NOTHING
from trials_db.records import Trial

TRAINING_COLUMNS = ("class_name", "fold", "num_done", "num_running", "num_waiting", "num_failed", "mean_jaccard")


def current_trainings(trials: Iterable[Trial]) -> list[Trial]:
    """The trainings, of those that were tried again the last alone."""
    last: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        task = trial.decoded_task()
        last[f"trial {trial.number}" if task is None else task.key(trial.candidate, trial.seed)] = trial
    return list(last.values())


def training_table(trials: Iterable[Trial]) -> pd.DataFrame:
    """Trainings per class and fold, by class and fold.

    Returns:
        Columns `class_name`, `fold` ("2 of 5", a dash for the study's own split), `num_done`, `num_running`,
        `num_waiting`, `num_failed` (those that ended without a model) and `mean_jaccard` (that of those that are done
        on validation, NaN where none is).
    """
    groups: dict[tuple[str, int, int], list[Trial]] = {}
    for trial in current_trainings(trials):
        task = trial.decoded_task()
        if task is not None:
            groups.setdefault((task.class_name, task.num_folds, task.fold), []).append(trial)
    rows = [_row(name, num_folds, fold, groups[name, num_folds, fold]) for name, num_folds, fold in sorted(groups)]
    return pd.DataFrame(rows, columns=list(TRAINING_COLUMNS))


def _row(class_name: str, num_folds: int, fold: int, trials: list[Trial]) -> dict[str, object]:
    states = [str(trial.state) for trial in trials]
    reached = [value for trial in trials if (value := jaccard_for(trial, [class_name])) is not None]
    return {
        "class_name": class_name,
        "fold": f"{fold} of {num_folds}" if num_folds else NOTHING,
        "num_done": states.count("done"),
        "num_running": states.count("running"),
        "num_waiting": states.count("new"),
        "num_failed": sum(state in FINISHED[1:] for state in states),
        "mean_jaccard": sum(reached) / len(reached) if reached else float("nan"),
    }

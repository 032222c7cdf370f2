"""What the last epochs of trainings under way were like."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from search_space.objective import EpochReport
from trials_db.records import Trial, TrialState

MEASURES = ("learning_rate", "patches_per_s", "data_wait_share", "memory_mb")
"""What the table of workers shows too."""


def epoch_table(trials: Iterable[Trial]) -> pd.DataFrame:
    """The last epoch of each trial that runs and has had one, by its number.

    Returns:
        Columns `current_trial`, `epoch`, `training_loss`, `loss[NAME]` (what each loss adds to it; NaN where a trial
        has no such loss), `learning_rate`, `patches_per_s`, `data_wait_share`, `memory_mb` (NaN where not told), and
        `jaccard[CLASS]` of the last epoch that was validated (NaN before the first, and for a class that its ground
        lacks).
    """
    running = [trial for trial in trials if trial.state is TrialState.RUNNING and trial.reports]
    rows = [_row(trial) for trial in sorted(running, key=lambda trial: trial.number)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    # Whatever the first trial lacks, losses stand together, and so do classes.
    parts, classes = ([name for name in names if name.startswith(kind)] for kind in ("loss[", "jaccard["))
    columns = ["current_trial", "epoch", "training_loss", *parts, *MEASURES, *classes]
    return pd.DataFrame(rows, columns=columns)


def shown_epochs(table: pd.DataFrame) -> pd.DataFrame:
    """An epoch table to read beside that of workers: without what both tell."""
    return table.drop(columns=list(MEASURES))


def _row(trial: Trial) -> dict[str, Any]:
    last = trial.reports[-1]
    return {
        "current_trial": trial.number,
        "epoch": last.epoch,
        "training_loss": last.training_loss,
        **{f"loss[{name}]": value for name, value in last.loss_parts.items()},
        **{name: getattr(last, name) for name in MEASURES},
        **{f"jaccard[{name}]": value for name, value in _last_jaccard(trial.reports).items()},
    }


def _last_jaccard(reports: tuple[EpochReport, ...]) -> dict[str, float]:
    return next((report.jaccard for report in reversed(reports) if report.jaccard), {})

"""Trials as tables: the leader board, all trials, and one trial in detail."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from results.facts import figure, mean_jaccard, note, ordered_classes, ranked, training_s
from results.phrases import (
    activation_name,
    architecture_phrase,
    block_phrase,
    count_text,
    duration_text,
    jaccard_text,
    loss_phrase,
)
from search_space.candidate import Candidate
from trials_db.records import Trial

DETAIL_COLUMNS = ["group", "name", "value"]


def jaccard_column(class_name: str) -> str:
    """Name of the column that holds the Jaccard of a class."""
    return f"jaccard[{class_name}]"


def leader_board(trials: Iterable[Trial], classes: Sequence[str] = (), *, top: int | None = 10) -> pd.DataFrame:
    """The best trials, one row each.

    Args:
        trials: All trials of a study; those that are not done are left out.
        classes: Classes in the order of their columns; others that occur follow.
        top: Number of rows at most, None for all.

    Returns:
        Columns `rank` (equal results share a rank), `trial`, `mean_jaccard`, `jaccard[CLASS]` (NaN where the class
        is absent from the validation scenes), `num_parameters`, `train_s`, `architecture`.
    """
    trials = list(trials)
    names = ordered_classes(trials, classes)
    columns = [
        "rank",
        "trial",
        "mean_jaccard",
        *map(jaccard_column, names),
        "num_parameters",
        "train_s",
        "architecture",
    ]
    rows: list[dict[str, Any]] = []
    for place, trial in enumerate(ranked(trials)[:top], start=1):
        tie = bool(rows) and rows[-1]["mean_jaccard"] == mean_jaccard(trial)
        rows.append({"rank": rows[-1]["rank"] if tie else place, **_result_cells(trial, names)})
    return pd.DataFrame(rows, columns=columns)


def all_trials(trials: Iterable[Trial], classes: Sequence[str] = ()) -> pd.DataFrame:
    """Every trial in the order of its number.

    Returns:
        Columns `trial`, `state`, `mean_jaccard`, `jaccard[CLASS]`, `num_parameters`, `train_s`, `architecture`,
        `note`: why a trial failed or is infeasible, shortened, or how far it is.
    """
    trials = sorted(trials, key=lambda trial: trial.number)
    names = ordered_classes(trials, classes)
    columns = [
        "trial",
        "state",
        "mean_jaccard",
        *map(jaccard_column, names),
        "num_parameters",
        "train_s",
        "architecture",
        "note",
    ]
    rows = [{"state": str(trial.state), "note": note(trial), **_result_cells(trial, names)} for trial in trials]
    return pd.DataFrame(rows, columns=columns)


def _result_cells(trial: Trial, names: Sequence[str]) -> dict[str, Any]:
    per_class = trial.outcome.jaccard if trial.outcome else {}
    return {
        "trial": trial.number,
        "mean_jaccard": mean_jaccard(trial),
        **{jaccard_column(name): per_class.get(name) for name in names},
        "num_parameters": figure(trial, "num_parameters"),
        "train_s": training_s(trial),
        "architecture": architecture_phrase(trial.decoded().architecture),
    }


def candidate_details(candidate: Candidate) -> pd.DataFrame:
    """A candidate as a table to read.

    Returns:
        Columns `group` ("architecture" or "training plan"), `name` and `value`, all text.
    """
    architecture, plan = candidate.architecture, candidate.plan
    widths = [architecture.filters(stage) for stage in range(architecture.depth + 1)]
    rows = [
        ("architecture", "depth", f"{architecture.depth} (sides divisible by {architecture.divisor_px} px)"),
        ("architecture", "filters", f"{' · '.join(map(str, widths))} (growth {architecture.growth:g})"),
        ("architecture", "blocks per stage", str(architecture.convs_per_stage)),
        ("architecture", "block", block_phrase(architecture.block)),
        ("architecture", "pooling", architecture.pooling),
        ("architecture", "activation", activation_name(architecture.activation)),
        ("architecture", "normalisation", architecture.normalisation),
        ("architecture", "kernel initialisation", architecture.kernel_initialisation.replace("_", " ")),
        ("architecture", "dropout", f"{architecture.dropout:.3g}"),
        ("training plan", "loss", loss_phrase(plan.loss)),
        ("training plan", "optimizer", plan.optimizer),
        ("training plan", "learning rate", f"{plan.learning_rate:.3g}"),
        ("training plan", "patch", f"{plan.patch_px} × {plan.patch_px} px"),
        ("training plan", "batch", f"{plan.batch_size} patches"),
        ("training plan", "turns and mirrors", plan.augmentation.turns),
        ("training plan", "jitter of channels", f"± {plan.augmentation.jitter:.3g}"),
    ]
    return pd.DataFrame(rows, columns=DETAIL_COLUMNS)


def trial_details(trial: Trial) -> pd.DataFrame:
    """One trial in full: how it ended, what it reached, and what it tried.

    Returns:
        Columns `group`, `name` and `value`, all text; groups are "trial", "result", "architecture", "training plan".
    """
    outcome = trial.outcome
    candidate = trial.decoded()
    rows = [("trial", "number", str(trial.number)), ("trial", "state", str(trial.state))]
    if reason := note(trial, limit=1000):
        rows.append(("trial", "note", reason))
    rows += [
        ("trial", "seed", str(trial.seed)),
        ("trial", "worker", trial.worker or "–"),
        ("trial", "attempts", str(trial.attempts)),
        ("trial", "epochs", str(len(trial.reports))),
        ("trial", "duration", duration_text(training_s(trial))),
        ("trial", "candidate", candidate.fingerprint),
    ]
    if outcome is not None:
        rows.append(("result", "mean Jaccard", jaccard_text(mean_jaccard(trial))))
        for name, value in outcome.jaccard.items():
            threshold = outcome.thresholds.get(name)
            at = "" if threshold is None else f" at threshold {threshold:.3g}"
            rows.append(("result", f"Jaccard of {name}", jaccard_text(value) + at))
        rows += [("result", name, _figure_text(name, value)) for name, value in outcome.figures.items()]
    details = candidate_details(candidate)
    return pd.concat([pd.DataFrame(rows, columns=DETAIL_COLUMNS), details], ignore_index=True)


def _figure_text(name: str, value: float) -> str:
    if name.startswith("num_"):
        return count_text(value)
    return duration_text(value) if name.endswith("_s") and not name.endswith("_per_s") else f"{value:.4g}"

"""Trials as tables: the leader board, all trials, and one trial in detail."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from results.facts import figure, mean_jaccard, note, ordered_classes, ranked, training_s
from results.phrases import (
    NOTHING,
    activation_name,
    architecture_phrase,
    augmentation_words,
    averaging_phrase,
    count_text,
    counted,
    duration_text,
    jaccard_text,
    loss_details_phrase,
    loss_phrase,
    part_phrase,
    rate_phrase,
    sampling_phrase,
    scaling_phrase,
)
from search_space.architecture import Architecture, GrownEncoder
from search_space.candidate import Candidate
from search_space.network.unet import outline
from search_space.prediction import PredictionSettings
from trials_db.records import Trial

STUDY_COLUMNS = ("study", "num_ended", "trial", "mean_jaccard", "num_parameters", "architecture")
DETAIL_COLUMNS = ["group", "name", "value"]
SYMMETRY_PHRASES = {
    "none": "none",
    "flips": "4 flips",
    "d4": "8 turns and flips",
    "d8": "8 turns and flips, and these again at 45°",
}
WINDOW_PHRASES = {
    "spline": "squared spline",
    "hann": "Hann",
    "gaussian": "Gaussian",
    "cosine": "plateau between cosine ramps",
    "flat": "flat",
}
AVERAGE_PHRASES = {"mean": "mean", "geometric": "geometric mean", "median": "median"}


def jaccard_column(class_name: str) -> str:
    """Name of the column that holds the Jaccard of a class."""
    return f"jaccard[{class_name}]"


def trial_table(trials: Iterable[Trial], classes: Sequence[str] = (), *, top: int | None = None) -> pd.DataFrame:
    """All that tables show of trials, one row each, in one form whichever are asked for.

    Args:
        trials: All trials of a study.
        classes: Classes in the order of their columns; others that occur follow.
        top: How many at most of those that are done, the best first; where None every trial by its number.

    Returns:
        Columns `rank` (equal results share a rank; NaN unless done), `trial`, `state`, `mean_jaccard`,
        `jaccard[CLASS]` (NaN where the class is absent from the validation scenes), `num_parameters`, `train_s`,
        `architecture`, `note`: why a trial failed or is infeasible, shortened, or how far it is.
    """
    trials = list(trials)
    names = ordered_classes(trials, classes)
    best = ranked(trials)
    ranks = _ranks(best)
    chosen = sorted(trials, key=lambda trial: trial.number) if top is None else best[:top]
    columns = [
        *("rank", "trial", "state", "mean_jaccard"),
        *map(jaccard_column, names),
        *("num_parameters", "train_s", "architecture", "note"),
    ]
    rows = [{"rank": ranks.get(trial.number), **_cells(trial, names)} for trial in chosen]
    return pd.DataFrame(rows, columns=columns)


def _ranks(best: Sequence[Trial]) -> dict[int, int]:
    """Number of the trial to its rank; trials of one result share the rank of the first."""
    first: dict[float | None, int] = {}
    return {trial.number: first.setdefault(mean_jaccard(trial), place) for place, trial in enumerate(best, start=1)}


def leader_board(trials: Iterable[Trial], classes: Sequence[str] = (), *, top: int | None = 10) -> pd.DataFrame:
    """The best trials, one row each: `trial_table` without `state` and `note`.

    Args:
        trials: All trials of a study; those that are not done are left out.
        classes: Classes in the order of their columns; others that occur follow.
        top: Number of rows at most, None for all.
    """
    trials = list(trials)
    table = trial_table(trials, classes, top=len(trials) if top is None else top)
    return table.drop(columns=["state", "note"])


def studies_table(trials: Mapping[str, Iterable[Trial]]) -> pd.DataFrame:
    """The best trial of each of several studies.

    Args:
        trials: All trials of each study, by its name.

    Returns:
        Columns `study`, `num_ended` (trials that have ended), `trial` (the best), `mean_jaccard`, `num_parameters`
        and `architecture`; the last four are NaN where a study has no result.
    """
    rows = []
    for name, every in trials.items():
        several = list(every)
        about = {"study": name, "num_ended": sum(trial.state.is_final for trial in several)}
        best = next(iter(ranked(several)), None)
        cells = _cells(best, ()) if best else {}
        rows.append({**about, **{column: cells.get(column) for column in STUDY_COLUMNS[len(about) :]}})
    return pd.DataFrame(rows, columns=list(STUDY_COLUMNS))


def all_trials(trials: Iterable[Trial], classes: Sequence[str] = ()) -> pd.DataFrame:
    """Every trial in the order of its number: `trial_table` without `rank`."""
    return trial_table(trials, classes).drop(columns="rank")


def _cells(trial: Trial, names: Sequence[str]) -> dict[str, Any]:
    per_class = trial.outcome.jaccard if trial.outcome else {}
    candidate = trial.known()
    return {
        "trial": trial.number,
        "state": str(trial.state),
        "mean_jaccard": mean_jaccard(trial),
        **{jaccard_column(name): per_class.get(name) for name in names},
        "num_parameters": figure(trial, "num_parameters"),
        "train_s": training_s(trial),
        "architecture": architecture_phrase(candidate.architecture) if candidate else NOTHING,
        "note": note(trial),
    }


def candidate_details(candidate: Candidate) -> pd.DataFrame:
    """A candidate as a table to read.

    Returns:
        Columns `group` ("architecture" or "training plan"), `name` and `value`, all text.
    """
    architecture, plan = candidate.architecture, candidate.plan
    rows = [
        *(("architecture", name, value) for name, value in _architecture_words(architecture)),
        ("training plan", "loss", loss_phrase(plan.loss)),
        ("training plan", "loss details", loss_details_phrase(plan, architecture)),
        ("training plan", "optimizer", part_phrase(plan.optimizer)),
        ("training plan", "learning rate", rate_phrase(plan)),
        ("training plan", "clipping", f"gradients longer than {plan.clip_norm:g}" if plan.clip_norm else "none"),
        ("training plan", "averaging", averaging_phrase(plan.averaging)),
        *([("training plan", "patience", counted(plan.patience, "epoch"))] if plan.patience else []),
        ("training plan", "patch", f"{plan.patch_px} × {plan.patch_px} px"),
        ("training plan", "batch", counted(plan.batch_size, "patch", "patches")),
        ("training plan", "sampling", sampling_phrase(plan.sampling)),
        *(("training plan", f"augmentation: {name}", value) for name, value in augmentation_words(plan.augmentation)),
        ("training plan", "scaling of bands", scaling_phrase(plan.scaling)),
    ]
    return pd.DataFrame(rows, columns=DETAIL_COLUMNS)


def prediction_details(settings: PredictionSettings) -> pd.DataFrame:
    """How tiles become a map, as a table to read; columns as in `candidate_details`."""
    overlap = "by how far the network looks" if settings.overlap is None else f"{settings.overlap:.0%} of a tile"
    rows = [
        ("prediction", "tiles", f"{settings.tile_px} px" if settings.tile_px else "as large as patches"),
        ("prediction", "overlap", overlap),
        ("prediction", "symmetries", SYMMETRY_PHRASES[settings.symmetries]),
        ("prediction", "average of views", AVERAGE_PHRASES[settings.average]),
        ("prediction", "window", WINDOW_PHRASES[settings.window]),
    ]
    return pd.DataFrame(rows, columns=DETAIL_COLUMNS)


def _architecture_words(architecture: Architecture) -> list[tuple[str, str]]:
    graph = outline(architecture)
    sees = "all of a tile" if graph.context_px is None else f"{graph.context_px} px around"
    # What a known encoder has, the table of stages tells.
    is_known = not isinstance(architecture.encoder, GrownEncoder)
    widths = [architecture.filters(stage) for stage in range(architecture.depth + (not is_known))]
    where = ", of the decoder" if is_known else ""
    rows = [
        ("encoder", part_phrase(architecture.encoder)),
        ("depth", f"{architecture.depth} (halves {graph.divisor_px} px to one, sees {sees})"),
        ("filters", f"{' · '.join(map(str, widths))} (growth {architecture.growth:g}{where})"),
        ("blocks per stage", str(architecture.units_per_stage)),
        ("block", part_phrase(architecture.block)),
        ("bottom", part_phrase(architecture.bottom)),
        ("up", part_phrase(architecture.up)),
        ("skip", architecture.skip),
        ("activation", activation_name(architecture.activation)),
        ("normalisation", architecture.normalisation),
        ("kernel initialisation", architecture.kernel_initialisation.replace("_", " ")),
        ("dropout", part_phrase(architecture.dropout)),
        ("regularisation", part_phrase(architecture.regularisation)),
        ("head", architecture.head.replace("_", " ")),
    ]
    extras = ("squeeze_excitation", "deep_supervision", "energy")
    rows += [(name.replace("_", " "), "yes") for name in extras if getattr(architecture, name)]
    if architecture.bands:
        rows.append(("bands", ", ".join(architecture.bands)))
    if architecture.margin_px:
        rows.append(("margin", f"{architecture.margin_px} px on each side of a tile are not mapped"))
    return rows


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

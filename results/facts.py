"""What tables and figures say of a trial, derived from its record in one place."""

from collections.abc import Iterable, Sequence

from results.phrases import NOTHING, jaccard_text, shortened
from trials_db.records import Trial

FINISHED = ("done", "pruned", "infeasible", "failed")
"""The states in which a trial has ended, good ones first."""

STATES = ("new", "running", *FINISHED)


def mean_jaccard(trial: Trial) -> float | None:
    """Mean validation Jaccard of a trial that is done, None of any other."""
    if trial.state != "done" or trial.outcome is None or trial.outcome.loss is None:
        return None
    return 1.0 - trial.outcome.loss


def best_report(trial: Trial) -> float | None:
    """The best mean Jaccard of any epoch so far, None where no epoch reported one."""
    return max((value for report in trial.reports if (value := report.mean_jaccard) is not None), default=None)


def figure(trial: Trial, name: str) -> float | None:
    """One of the outcome's further numbers, None where it has none of the name."""
    return trial.outcome.figures.get(name) if trial.outcome else None


def training_s(trial: Trial) -> float | None:
    """How long the trial took: what its outcome says, else the time from start to finish."""
    said = figure(trial, "train_s")
    if said is not None or trial.started_s is None or trial.finished_s is None:
        return said
    return trial.finished_s - trial.started_s


def note(trial: Trial, limit: int = 100) -> str:
    """Why a trial is not done, or how far it is, in at most `limit` characters; empty where there is nothing to say."""
    if trial.outcome is not None and trial.outcome.reason:
        return shortened(trial.outcome.reason, limit)
    if trial.state in ("running", "pruned") and trial.reports:
        best = best_report(trial)
        reached = f", {jaccard_text(best)} so far" if best is not None else ""
        return shortened(f"epoch {trial.reports[-1].epoch}{reached}", limit)
    return ""


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """All trials that are done, the best first; of equals the earlier."""
    done = [(value, trial) for trial in trials if (value := mean_jaccard(trial)) is not None]
    return [trial for _, trial in sorted(done, key=lambda pair: (-pair[0], pair[1].number))]


def jaccard_for(trial: Trial, classes: Sequence[str]) -> float | None:
    """Mean validation Jaccard of a done trial over some classes, those it did not rank left out; None where none is."""
    if trial.state != "done" or trial.outcome is None:
        return None
    values = [trial.outcome.jaccard[name] for name in classes if name in trial.outcome.jaccard]
    return sum(values) / len(values) if values else None


def ranked_for(trials: Iterable[Trial], classes: Sequence[str]) -> list[Trial]:
    """All trials that are done and rank some of the classes, the best at these first; of equals the earlier."""
    done = [(value, trial) for trial in trials if (value := jaccard_for(trial, classes)) is not None]
    return [trial for _, trial in sorted(done, key=lambda pair: (-pair[0], pair[1].number))]


def ordered_classes(trials: Iterable[Trial], classes: Sequence[str] = ()) -> list[str]:
    """`classes`, then every other class that an outcome names, in order of appearance."""
    names = dict.fromkeys(classes)
    for trial in trials:
        if trial.outcome is not None:
            names.update(dict.fromkeys(trial.outcome.jaccard))
    return list(names)


def trial_title(trial: Trial | None) -> str:
    """What a trial is called in figures, a dash for none."""
    return NOTHING if trial is None else f"trial {trial.number}"

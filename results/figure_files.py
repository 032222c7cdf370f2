"""The figures of a study as PNG files, for use outside the report."""

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from results.curve_figures import best_learning_curves
from results.effect_figures import what_mattered
from results.figures import jaccard_per_class, search_progress
from results.importance import effects_missing
from results.report_input import ReportInput, jaccard_of_folds, spreads_of
from results.retraining_figure import retraining_curves
from results.style import save_png

_DRAWN: Mapping[str, Callable[[ReportInput], Figure | None]] = {
    "search_progress": lambda given: search_progress(
        given.trials, given.study.search.startup_trials, algorithm=given.study.search.algorithm
    ),
    "learning_curves": lambda given: best_learning_curves(given.trials, 4),
    "what_mattered": lambda given: what_mattered(given.trials),
    "retraining": lambda given: retraining_curves(given.members),
    "jaccard_per_class": lambda given: jaccard_per_class(*jaccard_of_folds(given), spreads=spreads_of(given)),
}


def write_figures(folder: Path, given: ReportInput) -> list[Path]:
    """Write every figure that has something to show; `left_out_line` tells of the others.

    Args:
        folder: Made where it does not exist; files of the same names are replaced.
        given: What the report shows.

    Returns:
        The files, among `search_progress.png`, `learning_curves.png`, `what_mattered.png`, `retraining.png` and
        `jaccard_per_class.png`.

    Raises:
        PlaceError: `folder`, or a folder on the way to it, is a file.
    """
    left_out = _left_out(given)
    figures = {name: draw(given) for name, draw in _DRAWN.items() if name not in left_out}
    return [save_png(figure, folder / f"{name}.png") for name, figure in figures.items() if figure is not None]


def left_out_line(given: ReportInput) -> str:
    """Which figures `write_figures` leaves out and why, in one line; empty where it leaves out none.

    Returns:
        Such as "Left out: what_mattered.png (3 trials of the 8 that it takes are done)".
    """
    files: dict[str, list[str]] = {}
    for name, reason in _left_out(given).items():
        files.setdefault(reason, []).append(f"{name}.png")
    parts = [f"{' and '.join(names)} ({reason})" for reason, names in files.items()]
    return f"Left out: {', '.join(parts)}" if parts else ""


def _left_out(given: ReportInput) -> dict[str, str]:
    """The figures that would show nothing, each with the reason."""
    reasons = {
        "search_progress": "" if given.trials else "there is no trial yet",
        "learning_curves": "" if given.best else "no trial is done",
        "what_mattered": effects_missing(given.trials),
        "retraining": "" if any(member.reports for member in given.members) else "nothing is retrained",
        "jaccard_per_class": "" if given.members else "nothing is retrained",
    }
    return {name: reason for name, reason in reasons.items() if reason}

"""The figures of a study as PNG files, for use outside the report."""

from pathlib import Path

from results.effect_figures import what_mattered
from results.figures import best_learning_curves, jaccard_per_class, learning_curves, search_progress
from results.report import ReportInput
from results.style import save_png


def write_figures(folder: Path, given: ReportInput) -> list[Path]:
    """Write every figure that has something to show.

    Args:
        folder: Made where it does not exist; files of the same names are replaced.
        given: What the report shows.

    Returns:
        The files, among `search_progress.png`, `learning_curves.png`, `what_mattered.png`, `retraining.png` and
        `jaccard_per_class.png`.
    """
    figures = {}
    if given.trials:
        figures["search_progress"] = search_progress(given.trials, given.study.search.startup_trials)
    if given.best is not None and given.best.reports:
        figures["learning_curves"] = best_learning_curves(given.trials, 4)
    if (effects := what_mattered(given.trials)) is not None:
        figures["what_mattered"] = effects
    members = given.model_set.members if given.model_set else ()
    if curves := {member.class_name: member.reports for member in members if member.reports}:
        figures["retraining"] = learning_curves(curves)
    if members:
        validation = {member.class_name: member.validation_jaccard for member in members}
        is_test = given.score is not None and given.score.fold == "test"
        figures["jaccard_per_class"] = jaccard_per_class(
            validation, given.score.jaccard if given.score and is_test else None
        )
    return [save_png(figure, folder / f"{name}.png") for name, figure in figures.items()]

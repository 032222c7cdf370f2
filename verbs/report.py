"""Write one page that shows a study: leader board, search, what mattered, models, scores, pictures.

Example:
  python run_search.py report --study demo
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from search_space.decode import decode
from search_space.errors import MapgroveError
from search_space.records import ModelSet, ScoreRecord, Split
from search_space.study import Study
from verbs.common import (
    MODELS,
    PREDICTIONS,
    SCORE_FILE,
    STUDY_FILE,
    add_study,
    load_study,
    note,
    open_study_store,
    refuse_retraining,
    say,
    study_commands,
)

P = ParamSpec("P")
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default report.html in the study's folder)")


def run(options: argparse.Namespace) -> None:
    """Gather what the study has by now, and write the page."""
    named = load_study(options)
    refuse_retraining(named)
    from results.figure_files import left_out_line, write_figures
    from results.report import write_report
    from results.report_input import ReportInput
    from results.settings import OF_SEARCH, settings_set

    with open_study_store(named) as store:
        record, trials = store.load_study(named.name), store.trials(named.name)
    searched = decode(Study, record.settings, where=f"study {named.name}")
    study = _placed_as(searched, named)
    damage = Damage()
    model_set = damage.kept(study.folder / MODELS / "model_set.json", _read_models, study)
    score = damage.kept(study.folder / SCORE_FILE, _read_score, study, model_set)
    given = ReportInput(
        study=study,
        trials=trials,
        data_fingerprint=record.data_fingerprint,
        model_set=model_set,
        retrained=damage.kept(study.folder / MODELS / STUDY_FILE, _read_retrained, study, model_set),
        score=score,
        split=_split(study, record.data_fingerprint),
        pictures=_pictures(study, model_set, damage),
        config_file=str(options.study),
        options=[*study_commands(study, options).options, *settings_set(searched, named, OF_SEARCH)],
        made_s=time.time(),
        damaged=damage.lines,
    )
    page = write_report(options.out or study.folder / "report.html", given)
    figures = write_figures(study.folder / "figures", given)
    say(f"Figures: {study.folder / 'figures'} ({', '.join(path.name for path in figures)})")
    if left_out := left_out_line(given):
        say(left_out)
    say(f"Report: {page}")


class Damage:
    """What cannot be read is told and left out, and the rest is shown.

    Attributes:
        lines: What was left out and why, one line each.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def kept(self, file: Path, read: Callable[P, T | None], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What `read` makes of a file; None where it cannot."""
        try:
            return read(*args, **kwargs)
        except MapgroveError as error:
            self.lines.append(f"{file} is damaged, or not of this version, and is left out: {error}")
            note(self.lines[-1])
            return None


def _placed_as(searched: Study, named: Study) -> Study:
    """What the search was last told counts, such as a raised limit; places, and what comes later, are of this call."""
    places = {name: getattr(named.study, name) for name in ("folder", "store", "artifacts")}
    data = {name: getattr(named.data, name) for name in ("folder", "prepared")}
    return searched.model_copy(
        update={
            "study": searched.study.model_copy(update=places),
            "data": searched.data.model_copy(update=data),
            "retrain": named.retrain,
            "prediction": named.prediction,
        }
    )


def _read_models(study: Study) -> ModelSet | None:
    from pipeline.models.model_set import MODEL_SET_FILE, read_model_set

    folder = study.folder / MODELS
    return read_model_set(folder) if (folder / MODEL_SET_FILE).is_file() else None


def _read_retrained(study: Study, models: ModelSet | None) -> Study | None:
    """The study as the models were retrained for it."""
    from pipeline.models.model_set import read_model_set_study

    folder = study.folder / MODELS
    return read_model_set_study(folder) if models and (folder / STUDY_FILE).is_file() else None


def _read_score(study: Study, models: ModelSet | None) -> ScoreRecord | None:
    """The score, if it is one of these models."""
    path = study.folder / SCORE_FILE
    if models is None or not path.is_file():
        return None
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MapgroveError(f"it cannot be read ({error})", remedy="Run `score` again") from None
    score = decode(ScoreRecord, plain, where=path.name, remedy="Run `score` again")
    if score.models != models.fingerprint:
        say("The score is one of earlier models and is left out. Next: predict and score again")
        return None
    return score


def _split(study: Study, data_fingerprint: str) -> Split | None:
    """How the ground is split, if the data that were searched are at hand."""
    from pipeline.folds.folds import make_fold
    from pipeline.preparation.prepared import PreparedDataset

    try:
        dataset = PreparedDataset.open_for(study.data)
        if dataset.fingerprint == data_fingerprint:
            return make_fold(study.folds, dataset).split
        reason = "the prepared data are not those of the search"
    except MapgroveError as error:
        reason = str(error)
    say(f"How the ground is split is left out: {reason}")
    return None


def _pictures(study: Study, models: ModelSet | None, damage: Damage) -> list[tuple[Path, str]]:
    """Maps that these models drew, beside their labels where there are any, else alone."""
    from pipeline.maps.scene_maps import MAP_FILE, read_map_record
    from results.page import picture

    pictures = []
    for file in sorted((study.folder / PREDICTIONS).glob(f"*/{MAP_FILE}")):
        folder = file.parent
        record = damage.kept(file, read_map_record, folder)
        if record is None:
            continue
        if models is None or record.models != models.fingerprint:
            whose = "is of no models that are here" if models is None else "was drawn by earlier models"
            say(f"The map of {folder.name} {whose} and is left out. Next: predict again")
            continue
        for name, what in (("comparison.png", "imagery, labels and the map"), ("overlay.png", "the map")):
            path, caption = folder / name, f"Scene {folder.name}: {what}"
            if path.is_file() and damage.kept(path, picture, path, caption) is not None:
                pictures.append((path, caption))
                break
    return pictures

"""Write one page that shows a study: leader board, search, what mattered, models, scores, pictures.

Example:
  python run_search.py report --study demo
"""

import argparse
import json
import time
from pathlib import Path

from search_space.decode import decode
from search_space.errors import MapgroveError
from search_space.records import ModelSet, ScoreRecord, Split
from search_space.study import Study
from verbs.common import (
    MODELS,
    PREDICTIONS,
    SCORE_FILE,
    add_study,
    load_study,
    open_study_store,
    refuse_retraining,
    say,
    study_commands,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default report.html in the study's folder)")


def run(options: argparse.Namespace) -> None:
    """Gather what the study has by now, and write the page."""
    named = load_study(options)
    refuse_retraining(named)
    from pipeline.models.model_set import MODEL_SET_FILE, read_model_set
    from results.figure_files import left_out_line, write_figures
    from results.report import ReportInput, write_report

    with open_study_store(named) as store:
        record, trials = store.load_study(named.name), store.trials(named.name)
    # What the search was last told counts, such as a raised limit; places are those of this call.
    searched = decode(Study, record.settings, where=f"study {named.name}")
    study = searched.model_copy(update={"study": named.study, "data": named.data})
    models = study.folder / MODELS
    model_set = read_model_set(models) if (models / MODEL_SET_FILE).is_file() else None
    given = ReportInput(
        study=study,
        trials=trials,
        data_fingerprint=record.data_fingerprint,
        model_set=model_set,
        score=_read_score(study, model_set),
        split=_split(study, record.data_fingerprint),
        pictures=_pictures(study, model_set),
        config_file=str(options.study),
        options=study_commands(study, options).options,
        made_s=time.time(),
    )
    page = write_report(options.out or study.folder / "report.html", given)
    figures = write_figures(study.folder / "figures", given)
    say(f"Figures: {study.folder / 'figures'} ({', '.join(path.name for path in figures)})")
    if left_out := left_out_line(given):
        say(left_out)
    say(f"Report: {page}")


def _read_score(study: Study, models: ModelSet | None) -> ScoreRecord | None:
    """The score, if it is one of these models."""
    path = study.folder / SCORE_FILE
    if models is None or not path.is_file():
        return None
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MapgroveError(f"{path} is damaged ({error})", remedy="Run `score` again") from None
    score = decode(ScoreRecord, plain, where=str(path), remedy="Run `score` again")
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


def _pictures(study: Study, models: ModelSet | None) -> list[tuple[Path, str]]:
    """Maps that these models drew, beside their labels where there are any, else alone."""
    from pipeline.maps.scene_maps import MAP_FILE, read_map_record

    pictures = []
    for folder in sorted(path.parent for path in (study.folder / PREDICTIONS).glob(f"*/{MAP_FILE}")):
        if models is None or read_map_record(folder).models != models.fingerprint:
            say(f"The map of {folder.name} was drawn by earlier models and is left out. Next: predict again")
            continue
        for name, what in (("comparison.png", "imagery, labels and the map"), ("overlay.png", "the map")):
            if (folder / name).is_file():
                pictures.append((folder / name, f"Scene {folder.name}: {what}"))
                break
    return pictures

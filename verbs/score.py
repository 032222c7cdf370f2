"""Score maps against labels: Jaccard per class over all known pixels of a fold's ground, and their mean.

The maps were cut at thresholds that validation ground chose: the study's own, or that of the folds of `retrain
--folds`. The test ground had no part in training or choosing, so its score is the one to publish; of any other ground
`score` says what the models saw of it before. A class without a labelled pixel there has no score and is named.
Where single things were told apart (prediction.instances), F1 over their polygons is told too.

Examples:
  python run_search.py score --study demo
  python run_search.py score --study demo --fold validation --json
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search_space.decode import encode
from search_space.errors import MapgroveError
from search_space.records import Counts, ModelSet, ScoreRecord
from search_space.study import Study
from verbs.common import (
    MODELS,
    PREDICTIONS,
    SCORE_FILE,
    add_json,
    add_study,
    load_study,
    refuse_retraining,
    say,
    say_json,
    study_commands,
)

if TYPE_CHECKING:
    from pipeline.folds.ground import Part
    from pipeline.maps.scene_maps import ScoredMaps

logger = logging.getLogger(__name__)

RULE = "TP / (TP + FP + FN) over all known pixels together; a class without a labelled one has no score"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    add_json(parser)
    parser.add_argument("--fold", choices=("test", "validation"), default="test", help="which ground (default test)")
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help="what `predict` wrote (default predictions/)")


def run(options: argparse.Namespace) -> None:
    """Compare, print, and keep the score with the study."""
    from pipeline.files import write_json
    from pipeline.folds.folds import make_fold
    from pipeline.maps.scene_maps import score_maps
    from pipeline.models.model_set import read_model_set
    from pipeline.preparation.prepared import PreparedDataset
    from results.scores import independence_phrase

    study = load_study(options)
    refuse_retraining(study)
    dataset = PreparedDataset.open_for(study.data)
    fold = make_fold(study.folds, dataset)
    parts = fold.test if options.fold == "test" else fold.validation
    if not parts:
        raise MapgroveError(f"the fold {options.fold!r} has no scenes", remedy="Name some in [folds]")
    scored = score_maps(dataset, parts, options.maps or study.folder / PREDICTIONS)
    models = read_model_set(study.folder / MODELS) if not options.maps or _has_models(study) else None
    if models is not None and scored.models != models.fingerprint:
        if not options.maps:
            raise MapgroveError(
                "the maps were drawn by other models than the study has now",
                received=str(study.folder / PREDICTIONS),
                remedy=f"Run: {study_commands(study, options).line('predict', options.fold)}",
            )
        models = None
    if models is not None and any(part.held_out_blocks for part in fold.training):
        _tell_farther_sight(models, scored.tile_px)
    record = _record(options.fold, parts, scored)
    if models is not None:
        record = record.model_copy(update=_independence(models, study, options.fold))
    write_json(study.folder / SCORE_FILE, encode(record))
    if models is None:
        logger.warning("Other models drew these maps: what they saw of this ground before is not known")
    elif record.models_saw != "nothing":
        logger.warning("%s", independence_phrase(record))
    if options.json:
        say_json(encode(record))
    else:
        _say(record)


def _record(fold: str, parts: Sequence["Part"], scored: "ScoredMaps") -> ScoreRecord:
    score = scored.score
    return ScoreRecord(
        fold=fold,
        scenes=tuple(part.id for part in parts),
        ground=scored.ground,
        jaccard={name: each.jaccard for name, each in score.classes.items()},
        absent=score.absent,
        counts={n: Counts(tp=int(s.tp), fp=int(s.fp), fn=int(s.fn)) for n, s in score.classes.items()},
        mean_jaccard=score.mean_jaccard,
        polygons=scored.polygons,
        rule=RULE,
        models=scored.models,
    )


def _say(record: ScoreRecord) -> None:
    from results.scores import (
        absent_phrase,
        independence_phrase,
        polygon_table,
        score_table,
        scored_ground_phrase,
        things_phrase,
    )
    from results.text import render_table

    say(f"{record.fold} {record.places} {scored_ground_phrase(record)}: {RULE}")
    say(render_table(score_table(record)))
    if record.polygons:
        say(things_phrase(record))
        say(render_table(polygon_table(record)))
    if record.models_saw == "nothing":
        say(independence_phrase(record))
    if record.absent:
        say(absent_phrase(record))


def _has_models(study: Study) -> bool:
    from pipeline.models.model_set import MODEL_SET_FILE

    return (study.folder / MODELS / MODEL_SET_FILE).is_file()


def _independence(models: ModelSet, study: Study, fold: str) -> dict[str, str]:
    """What chose the thresholds, and what the models saw of the scored ground before, for the record."""
    from pipeline.models.model_set import read_model_set_study

    grounds = {each.threshold_from for each in models.maps}
    on_folds = "folds" in grounds
    saw = "start" if any(each.begun_elsewhere for each in models.members) else "nothing"
    if read_model_set_study(study.folder / MODELS).folds != study.folds:
        saw = ""
    elif fold == "validation" and (on_folds or saw == "nothing"):
        saw = "training" if on_folds else "thresholds"
    return {"threshold_from": "both" if len(grounds) > 1 else "".join(grounds), "models_saw": saw}


def _tell_farther_sight(models: ModelSet, tile_px: int) -> None:
    """Training keeps its patches off held-out blocks as far as networks look by tiles of the patches' size."""
    flattered = dict.fromkeys(
        member.class_name
        for member in models.members
        if member.candidate.context_px(tile_px) > member.candidate.context_px()
    )
    if flattered:
        logger.warning(
            "Maps of %s were drawn by tiles of %d px, from which networks see training ground beside held-out blocks: "
            "for a score that is not flattered set prediction.tile_px = 0 and run predict again",
            ", ".join(flattered),
            tile_px,
        )

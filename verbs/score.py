"""Score maps against labels: Jaccard per class over all pixels of a fold's scenes, and their mean.

The maps were cut at thresholds that the validation scenes chose; the test scenes had no part in training or
choosing, so their score is the one to publish. A class that is empty in labels and maps counts as 1.

Examples:
  python run_search.py score --study demo
  python run_search.py score --study demo --fold validation --json
"""

import argparse
from pathlib import Path

from search_space.decode import encode
from search_space.errors import MapgroveError
from search_space.records import Counts, ScoreRecord
from verbs.common import MODELS, PREDICTIONS, SCORE_FILE, add_json, add_study, load_study, say, say_json, study_commands

RULE = "TP / (TP + FP + FN) over all known pixels of all scenes together; a class that is nowhere counts as 1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    add_json(parser)
    parser.add_argument("--fold", choices=("test", "validation"), default="test", help="which scenes (default test)")
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help="what `predict` wrote (default predictions/)")


def run(options: argparse.Namespace) -> None:
    """Compare, print, and keep the score with the study."""
    from pipeline.files import write_json
    from pipeline.folds import make_fold
    from pipeline.maps import score_maps
    from pipeline.model_set import read_model_set
    from pipeline.prepared import PreparedDataset
    from results.report import score_table
    from results.text import render_table

    study = load_study(options)
    dataset = PreparedDataset.open_for(study.data)
    scenes = getattr(make_fold(study.folds, dataset), options.fold)
    if not scenes:
        raise MapgroveError(f"the fold {options.fold!r} has no scenes", remedy="Name some in [folds]")
    scored = score_maps(dataset, scenes, options.maps or study.folder / PREDICTIONS)
    if not options.maps and scored.models != read_model_set(study.folder / MODELS).fingerprint:
        raise MapgroveError(
            "the maps were drawn by other models than the study has now",
            received=str(study.folder / PREDICTIONS),
            remedy=f"Run: {study_commands(study, options).line('predict', options.fold)}",
        )
    score = scored.score
    record = ScoreRecord(
        fold=options.fold,
        scenes=scenes,
        jaccard={name: each.jaccard for name, each in score.classes.items()},
        counts={n: Counts(tp=int(s.tp), fp=int(s.fp), fn=int(s.fn)) for n, s in score.classes.items()},
        mean_jaccard=score.mean_jaccard,
        rule=RULE,
        models=scored.models,
    )
    write_json(study.folder / SCORE_FILE, encode(record))
    if options.json:
        say_json(encode(record))
        return
    say(f"{options.fold} scenes {', '.join(scenes)}: {RULE}")
    say(render_table(score_table(record)))

"""Train the best architectures of a study once per class, one class against the rest, with the study's longer budget.

By default the candidate that was best over all classes serves every class; `--per-class` takes for each class the one
that was best at it, in this study or in those that `search --one-vs-all` made. `--top 3` takes the three best, `--folds
5` trains each on five folds of the ground that is not the test's, `--seeds 2` from two seeds each; all models of a
class then map it together. `--recipe` takes a published system, or a candidate's file, and needs no search.

The trainings are trials of a study of their own, NAME@retrain, which the workers of NAME serve too; where there are
none, one is started here, or as many as `--workers` says. The same command goes on with a retraining that was
interrupted: what is done is kept, what failed is tried anew.

Examples:
  python run_search.py retrain --study demo --classes buildings trees
  python run_search.py retrain --study demo --classes all --top 3 --folds 5 --workers 2
  python run_search.py retrain --study configs/demo.toml --recipe vooban
"""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from search_space.decode import encode
from search_space.errors import MapgroveError
from search_space.study import Study
from verbs.common import (
    MODELS,
    STUDY_FILE,
    add_study,
    at_least,
    check_folder,
    checked_classes,
    load_study,
    open_study_artifacts,
    open_study_store,
    refuse_retraining,
    save_study,
    say,
    study_commands,
)
from verbs.exit_codes import EXIT_INTERRUPTED, EXIT_OK
from verbs.retrain_progress import RetrainProgress, told_of
from verbs.retrain_queue import Queue, Workers, see_through
from verbs.retrain_wishes import ALL, Wish, checked_options, chosen_candidates, wishes_for

if TYPE_CHECKING:
    from pipeline.prepared import PreparedDataset
    from search_space.records import ModelSet
    from trials_db.artifacts import Artifacts
    from trials_db.records import StudyRecord
    from trials_db.store import TrialStore

MAY_CHANGE = (
    *(f"study.{name}" for name in ("classes", "seed", "folder", "store", "artifacts")),
    *("data", "folds", "budget", "retrain", "limits", "search", "pruning", "prediction", "space"),
    *("data_fingerprint", "seed", "software"),
)
"""What may change between two calls: all that a training depends on is told by its task and its seed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="only these (default `all` of the study)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--trial", type=int, metavar="N", help="the candidate of this trial, instead of the best")
    which.add_argument("--per-class", action="store_true", help="for each class the candidates that were best at it")
    which.add_argument("--recipe", metavar="NAME|FILE", help="a published system, or a candidate's TOML file")
    parser.add_argument("--top", type=at_least(1), default=1, metavar="N", help="the N best candidates (default 1)")
    parser.add_argument(
        "--folds", type=at_least(2), default=0, metavar="K", help="K folds, each of which validates once (default none)"
    )
    parser.add_argument("--seeds", type=at_least(1), default=1, metavar="S", help="S seeds each (default 1)")
    parser.add_argument(
        "--workers", type=at_least(0), metavar="N", help="start N workers here (default 1, where none serves the study)"
    )


def run(options: argparse.Namespace) -> int:
    """Choose candidates, put the trainings into the queue, see them through, write the model set."""
    from pipeline.backend import backend_name
    from pipeline.prepared import PreparedDataset
    from trials_db.stopping import stop_on_signals

    study = load_study(options)
    refuse_retraining(study)
    checked_options(options)
    classes = checked_classes(study, None if _means_all(study, options.classes) else options.classes)
    backend_name()
    chosen = chosen_candidates(study, classes, options)
    dataset = PreparedDataset.open_for(study.data)
    wishes = wishes_for(study, dataset, chosen, options.folds, options.seeds)
    with open_study_store(study, create=True) as store, open_study_artifacts(study) as artifacts:
        _begin(store, study, dataset)
        study.retraining.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".models-", dir=study.retraining.folder) as models:
            queue = Queue(store, artifacts, study.retraining, wishes, Path(models))
            with stop_on_signals() as stop:
                store.heed(stop)
                _train(store, study, queue, options.workers, stop)
            if queue.open:
                say(f"\nStopped with {_ended(queue)} trainings ended. The same command goes on.")
                return EXIT_INTERRUPTED
            queue.tidy()
            _assemble(study, queue, options)
    return EXIT_OK

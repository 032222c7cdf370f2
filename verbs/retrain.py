"""Train the best architectures of a study once per class, one class against the rest, with the study's longer budget.

By default the candidate that was best over all classes serves every class; `--per-class` takes for each class the one
that was best at it, in this study or in those that `search --one-vs-all` made. `--top 3` takes the three best, `--folds
5` trains each on five folds of the ground that is not the test's, `--seeds 2` from two seeds each; all models of a
class then map it together. `--recipe` takes a published system, or a candidate's file, and needs no search.

`--from` starts from a trained model instead, such as the joint model of a search, or one of other imagery: with its
architecture, and bands and classes matched by name. `--fine-tune` then takes few epochs at a tenth of its rate.

The trainings are trials of a study of their own, NAME@retrain, which the workers of NAME serve too; where there are
none, one is started here, or as many as `--workers` says. The same command goes on with a retraining that was
interrupted: what is done is kept, what failed is tried anew. Trainings that nobody wants any more wait for a worker
all the same, until `--withdraw` withdraws them: all that wait or run, or those of `--classes`; what is done stays.

Examples:
  python run_search.py retrain --study demo --classes buildings trees
  python run_search.py retrain --study demo --classes all --top 3 --folds 5 --workers 2
  python run_search.py retrain --study configs/demo.toml --recipe vooban
  python run_search.py retrain --study demo --withdraw
  python run_search.py retrain --study configs/new_town.toml --from runs/old_town/models --fine-tune
"""

import argparse
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
    settled_software,
    study_commands,
)
from verbs.exit_codes import EXIT_INTERRUPTED, EXIT_OK
from verbs.retrain_progress import RetrainProgress, tell_models
from verbs.retrain_queue import Queue, Workers, see_through
from verbs.retrain_wishes import ALL, checked_options, chosen_candidates, wishes_for
from verbs.retrain_withdrawal import check_withdrawal, run_withdrawal, tell_waiting
from verbs.starting_models import StartingModel, add_start, starting_budget, starting_models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.preparation.prepared import PreparedDataset
    from trials_db.stopping import Stop
    from trials_db.store import TrialStore

MAY_CHANGE = (
    *(f"study.{name}" for name in ("classes", "seed", "folder", "store", "artifacts")),
    *("data", "folds", "budget", "retrain", "limits", "search", "pruning", "prediction", "space"),
    *("data_fingerprint", "seed", "software"),
)
"""What may change between two calls: all but the name. A training is known by its candidate, its task and its seed, so
with other data, folds, precision, budget or seed it is another one. What else there is to compute with, such as
`limits.patches_on` or the software, asks for no training anew: what is done is kept, and says what made it."""

PASSING = ".models-"
"""Folders that hold models for as long as a call lasts are called so."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="only these (default `all` of the study)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--trial", type=int, metavar="N", help="the candidate of this trial, instead of the best")
    which.add_argument("--per-class", action="store_true", help="for each class the candidates that were best at it")
    which.add_argument("--recipe", metavar="NAME|FILE", help="a published system, or a candidate's TOML file")
    add_start(which, parser)
    parser.add_argument("--top", type=at_least(1), default=1, metavar="N", help="the N best candidates (default 1)")
    parser.add_argument(
        "--folds", type=at_least(2), default=0, metavar="K", help="K folds, each of which validates once (default none)"
    )
    parser.add_argument("--seeds", type=at_least(1), default=1, metavar="S", help="S seeds each (default 1)")
    parser.add_argument(
        "--workers", type=at_least(0), metavar="N", help="start N workers here (default 1, where none serves the study)"
    )
    parser.add_argument(
        "--withdraw", action="store_true", help="train nothing: withdraw what waits or runs, of --classes or of all"
    )


def run(options: argparse.Namespace) -> int:
    """Choose candidates, put the trainings into the queue, see them through, write the model set."""
    from pipeline.backend import backend_name
    from pipeline.files import passing_folder
    from pipeline.preparation.prepared import PreparedDataset

    study = load_study(options)
    refuse_retraining(study)
    checked_options(options)
    wished = None if _means_all(study, options.classes) else options.classes
    classes = checked_classes(study, wished)
    if options.withdraw:
        check_withdrawal(options)
        return run_withdrawal(study, classes if wished else None)
    backend_name()
    dataset = PreparedDataset.open_for(study.data)
    if options.start is None:
        return _retrain(study, dataset, classes, {}, options)
    # Where a process was killed, the next one removes it with the folders of this name that hold models.
    with passing_folder(study.retraining.folder, f"{PASSING}start-") as folder:
        starts = starting_models(study, classes, dataset, options, folder)
        for text in dict.fromkeys(start.text for start in starts.values()):
            names = [name for name, start in starts.items() if start.text == text]
            say(f"{', '.join(names)}: from {text}")
        return _retrain(study, dataset, classes, starts, options)


def _retrain(
    study: Study,
    dataset: "PreparedDataset",
    classes: "Sequence[str]",
    starts: "Mapping[str, StartingModel]",
    options: argparse.Namespace,
) -> int:
    from pipeline.files import passing_folder
    from trials_db.stopping import stop_on_signals

    chosen = {name: [start.chosen] for name, start in starts.items()} or chosen_candidates(study, classes, options)
    wishes, absent = wishes_for(
        study,
        dataset,
        chosen,
        options.folds,
        options.seeds,
        budget=starting_budget(study, options),
        starts={name: start.sha256 for name, start in starts.items()},
    )
    files = {start.sha256: start.file for start in starts.values()}
    with open_study_store(study, create=True) as store, open_study_artifacts(study) as artifacts:
        _begin(store, study, dataset)
        with passing_folder(study.retraining.folder, PASSING) as models:
            queue = Queue(store, artifacts, study.retraining, wishes, models, files)
            with stop_on_signals() as stop:
                store.heed(stop)
                artifacts.heed(stop)
                withdrawal = study_commands(study, options).line("retrain", "--withdraw")
                go_on = f"The same command goes on; `{withdrawal}` withdraws what waits."
                if not queue.fill(stop):
                    say(f"\nStopped before every training was added. {go_on}")
                    return EXIT_INTERRUPTED
                tell_waiting(store.trials(study.retraining.name), queue.wishes, withdrawal)
                _train(store, study, queue, options, stop)
            if queue.open:
                say(f"\nStopped with {len(wishes) - len(queue.open)} of {len(wishes)} trainings ended. {go_on}")
                return EXIT_INTERRUPTED
            queue.tidy()
            _assemble(study, queue, absent, options)
    return EXIT_OK


def _means_all(study: Study, wished: "Sequence[str] | None") -> bool:
    """Whether every class is meant: by that word, unless a class is called so."""
    return wished == [ALL] and ALL not in study.classes


def _begin(store: "TrialStore", study: Study, dataset: "PreparedDataset") -> None:
    """Make the study of the retraining, or give it the settings of now."""
    from trials_db.records import StudyRecord

    retraining = study.retraining
    check_folder(study)
    check_folder(retraining)
    record = StudyRecord(
        name=retraining.name,
        settings=encode(retraining.with_store("")),
        space_fingerprint="",
        data_fingerprint=dataset.fingerprint,
        seed=study.study.seed,
        software=settled_software(study, store),
    )
    store.open_study(record, MAY_CHANGE)
    save_study(retraining)
    if not (study.folder / STUDY_FILE).is_file():
        # So that it can be named without its file.
        save_study(study)


def _train(store: "TrialStore", study: Study, queue: Queue, options: argparse.Namespace, stop: "Stop") -> None:
    """See all trainings through."""
    from results.phrases import counted

    trials, wishes = list(queue.trials.values()), list(queue.wishes.values())
    num_open = len(queue.open)
    if num_open < len(trials):
        say(f"{counted(len(trials) - num_open, 'training')} of {len(trials)} done before")
    if not num_open:
        return
    say(f"Study {study.retraining.name}: {counted(num_open, 'training')} to do, folder {study.retraining.folder}")
    progress = RetrainProgress(wishes, trials)
    numbers = [trial.number for trial in queue.open]
    command = study_commands(study, options).line("worker")
    with Workers(store, study.retraining, options.workers, numbers, command) as workers:
        see_through(store, study.retraining, queue, workers, stop, progress.show)
        if queue.open:
            say("Stopping; trainings that run here are handed back ...")


def _assemble(
    study: Study,
    queue: Queue,
    absent: "Mapping[str, Sequence[int]]",
    options: argparse.Namespace,
) -> None:
    """Write the model set of all that has ended well, and of other classes what was retrained before.

    Raises:
        MapgroveError: A class has no model; the others are written.
    """
    from pipeline.models.finished_training import FinishedTraining
    from pipeline.models.model_set_writing import assemble

    finished = []
    for key, wish in queue.wishes.items():
        trial = queue.trials[key]
        model = queue.model(trial)
        if model is not None and trial.outcome is not None:
            finished.append(FinishedTraining(wish.task, wish.candidate, model, trial.reports, trial.outcome.figures))
    asked = list(dict.fromkeys(wish.task.class_name for wish in queue.wishes.values()))
    trained = {each.task.class_name for each in finished}
    failed = [name for name in asked if name not in trained]
    folder = study.folder / MODELS
    if trained:
        models = assemble(study, finished, folder, absent_folds=absent, keeps_others=True)
        tell_models(models)
        say(f"Model set: {folder}. Next: {study_commands(study, options).map_and_score()[0]}")
    if failed:
        raise MapgroveError(
            f"no training of {', '.join(failed)} ended with a model",
            remedy=f"Its lines are above; the same command tries again. `status --study {study.retraining.name}`",
        )

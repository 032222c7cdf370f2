"""Propose candidates for a study until its trials are all tried: this process is the master.

With `--one-vs-all` a study is made for each class, one class against the rest, and all are searched at once; they may
start from the best trials of the study of all classes. With `--workers N` it also starts N workers on this machine and
stops them at the end. The same command goes on with a study that was interrupted; a study that has ended goes on when
the limit that ended it is raised.

Examples:
  python run_search.py search --study configs/demo.toml --workers 2
  python run_search.py search --study configs/demo.toml --set limits.max_trials=40 --workers 2
  python run_search.py search --study own.toml --start-from recipes --workers 2
  python run_search.py search --study configs/demo.toml --one-vs-all --start-from study:demo --workers 2
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from search_space.decode import encode
from search_space.default_space import Space
from search_space.errors import MapgroveError, UsageError
from search_space.space import space_fingerprint, study_space
from search_space.study import MAY_CHANGE, LimitSettings, Study
from verbs.common import (
    STORE_VARIABLE,
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
from verbs.ending import Found, tell_found, tell_next
from verbs.exit_codes import EXIT_INTERRUPTED, EXIT_OK
from verbs.progress import SearchProgress
from verbs.starting import check_weights, start_lines, with_found_starts

if TYPE_CHECKING:
    from pipeline.folds.folds import Fold
    from pipeline.preparation.prepared import PreparedDataset
    from trials_db.local_workers import Slot
    from trials_db.records import StudyRecord
    from trials_db.store import TrialStore

ENTRY = Path(__file__).parents[1] / "run_search.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    parser.add_argument(
        "--start-from",
        metavar="NAMES",
        help="what the first trials try: recipes by name, separated by commas, `recipes` for all, `default` for a "
        "candidate as it is by itself, `study:NAME` for the best of another study in the same store; for a new study, "
        "as --set search.start_from=...",
    )
    parser.add_argument(
        "--one-vs-all", action="store_true", help="a study for each class, named STUDY/CLASS, instead of one for all"
    )
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="with --one-vs-all, only these")
    parser.add_argument("--workers", type=at_least(0), default=0, metavar="N", help="start N workers here (default 0)")


def run(options: argparse.Namespace) -> int:
    """Open or continue the study or studies, propose, show what was found."""
    from pipeline.backend import backend_name
    from trials_db.local_workers import LocalWorkers, TendedStop
    from trials_db.master import Master, lead_all
    from trials_db.stopping import stop_on_signals

    whole = load_study(_with_start(options))
    refuse_retraining(whole)
    _check_workers(options.workers, whole, len(options.classes or whole.classes) if options.one_vs_all else 1)
    backend_name()
    dataset, fold = _checked_data(whole)
    space = study_space(whole.space, dataset.input_bands)
    check_weights(space)
    _check_artifacts(whole)
    with open_study_store(whole, create=True) as store:
        masters, searched = [], {}
        # All are seen to be in order before the first is begun.
        for study in [with_found_starts(each, store) for each in _studies(whole, fold, options)]:
            check_folder(study)
            record = store.open_study(_study_record(study, space, dataset.fingerprint, store), MAY_CHANGE)
            save_study(study)
            say(f"Study {study.name}: {_limits_text(study.limits)}, folder {study.folder}")
            for line in start_lines(study, space, dataset.input_bands):
                say(line)
            searched[study.name] = study
            masters.append(Master(store, record, space, study.search, study.limits))
        if options.one_vs_all and not (whole.folder / STUDY_FILE).is_file():
            # So that it can be named without its file.
            save_study(whole)
        is_over = all(_is_over(store, study) for study in searched.values())
        if not (is_over or options.workers or any(store.workers(name) for name in searched)):
            say(f"No worker serves it yet. Start some: {_worker_line(whole, options)}")
        workers = LocalWorkers(*_worker_processes(whole, list(searched), 0 if is_over else options.workers))
        with stop_on_signals() as stop, workers, SearchProgress() as progress_bar:
            progress = lead_all(masters, TendedStop(stop, workers), progress_bar.show)
            if stop.is_set() and options.workers:
                say("Stopping the workers; their trials are handed back ...")
        found = [Found(study, store.trials(name), progress[name]) for name, study in searched.items()]
        _sweep(store, found)
    commands = study_commands(whole, options)
    tell_found(found)
    if all(each.progress.is_complete for each in found):
        tell_next(found, commands, one_vs_all=options.one_vs_all)
        return EXIT_OK
    if workers.failure:
        raise MapgroveError(f"no worker is left: {workers.failure}", remedy="Its own line is above")
    num_ended = sum(each.progress.num_ended for each in found)
    most = sum(each.progress.max_trials for each in found)
    say(f"\nStopped with {num_ended} of {most} trials ended. The same command goes on.")
    return EXIT_INTERRUPTED


def _with_start(options: argparse.Namespace) -> argparse.Namespace:
    """The options with `--start-from` as the `--set` that it stands for.

    A copy: a start is a matter of a new study alone, and no part of the commands that are told at the end.
    """
    if options.start_from is None:
        return options
    start = f"search.start_from={json.dumps([name.strip() for name in options.start_from.split(',')])}"
    return argparse.Namespace(**{**vars(options), "assignments": [*options.assignments, start]})


def _studies(whole: Study, fold: "Fold", options: argparse.Namespace) -> list[Study]:
    """What is searched: the study itself, or one for each of its classes that can be ranked."""
    if options.classes and not options.one_vs_all:
        raise UsageError(
            "--classes needs --one-vs-all",
            received=" ".join(options.classes),
            remedy="A study of several classes together names them in study.classes",
        )
    if not options.one_vs_all:
        return [whole]
    if "/" in whole.name:
        raise UsageError("--one-vs-all splits a study of several classes", received=whole.name)
    classes = checked_classes(whole, options.classes)
    if absent := [name for name in classes if name in fold.absent_in_validation]:
        say(f"No validation ground has {', '.join(absent)}, so nothing can be searched for")
    studies = [whole.of_class(name) for name in classes if name not in absent]
    if not studies:
        raise MapgroveError("no class can be searched for", remedy="Hold out other ground in [folds]")
    return studies


def _check_artifacts(study: Study) -> None:
    """Refuse a folder for large files that cannot be written, before hours of training."""
    if study.study.artifacts:
        with open_study_artifacts(study) as artifacts:
            artifacts.probe()


def _sweep(store: "TrialStore", found: list[Found]) -> None:
    """Drop the large files that nobody will ask for any more."""
    from trials_db.keeping import Keeping

    for each in found:
        if each.progress.is_complete:
            with open_study_artifacts(each.study) as artifacts:
                Keeping(artifacts, each.study.search.keep_models).sweep(store, each.study.name, is_over=True)


def _worker_line(whole: Study, options: argparse.Namespace) -> str:
    commands = study_commands(whole, options)
    return commands.worker_of_classes() if options.one_vs_all else commands.line("worker")


def _checked_data(study: Study) -> "tuple[PreparedDataset, Fold]":
    """The prepared data and their split, seen to leave room for training before anything is written."""
    from pipeline.patches.room import split_of
    from pipeline.preparation.prepared import PreparedDataset

    dataset = PreparedDataset.open_for(study.data)
    return dataset, split_of(study, dataset)


def _study_record(study: Study, space: Space, data_fingerprint: str, store: "TrialStore") -> "StudyRecord":
    """What the store keeps of the study."""
    from trials_db.records import StudyRecord

    return StudyRecord(
        name=study.name,
        settings=encode(study.with_store("")),
        space_fingerprint=space_fingerprint(space),
        data_fingerprint=data_fingerprint,
        seed=study.study.seed,
        software=settled_software(study, store),
    )


def _limits_text(limits: LimitSettings) -> str:
    """Where the search ends."""
    from results.phrases import counted

    also = [f"{limits.hours:g} h"] if limits.hours else []
    if limits.target_jaccard:
        also.append(f"a mean Jaccard of {limits.target_jaccard:g}")
    if limits.patience:
        also.append(f"{counted(limits.patience, 'trial')} without a better one")
    return " or ".join([f"up to {counted(limits.max_trials, 'trial')}", *also])


def _is_over(store: "TrialStore", study: Study) -> bool:
    """Whether there is nothing left to try, so that workers would only start and stop."""
    from trials_db.ending import study_ending

    trials = store.trials(study.name)
    num_ended = sum(trial.state.is_final for trial in trials)
    if num_ended >= study.limits.max_trials:
        return True
    return num_ended == len(trials) and bool(study_ending(study, trials, store.now()))


def _check_workers(num_workers: int, study: Study, num_studies: int) -> None:
    if 0 < study.search.lookahead * num_studies < num_workers:
        of_each = f" of {num_studies} studies" if num_studies > 1 else ""
        raise UsageError(
            f"only search.lookahead = {study.search.lookahead} trials{of_each} are in flight, so workers would idle",
            received=f"--workers {num_workers}",
            remedy="Raise search.lookahead in a new study (0 follows the workers), or start fewer workers",
        )


def _worker_processes(whole: Study, names: list[str], num_workers: int) -> "tuple[list[str], list[Slot]]":
    from trials_db.local_workers import Slot

    command = [sys.executable, str(ENTRY), "worker"]
    for name in names:
        command += ["--study", name]
    return command, [Slot(environment={STORE_VARIABLE: whole.store_url})] * num_workers

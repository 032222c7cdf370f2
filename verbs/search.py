"""Propose candidates for a study until its trials are all tried: this process is the master.

With `--workers N` it also starts N workers on this machine and stops them at the end. The same command goes on with a
study that was interrupted; a study that has ended goes on when the limit that ended it is raised.

Examples:
  python run_search.py search --study configs/demo.toml --workers 2
  python run_search.py search --study configs/demo.toml --set limits.max_trials=40 --workers 2
  python run_search.py search --study own.toml --start-from recipes --workers 2
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from search_space.decode import encode
from search_space.errors import MapgroveError, UsageError
from search_space.space import Space, resolve_space, space_fingerprint, space_for
from search_space.study import MAY_CHANGE, LimitSettings, Study
from verbs.common import (
    STORE_VARIABLE,
    add_study,
    at_least,
    load_study,
    open_study_store,
    save_study,
    say,
    study_commands,
)
from verbs.exit_codes import EXIT_INTERRUPTED, EXIT_OK
from verbs.progress import SearchProgress
from verbs.starting import check_weights, start_lines

if TYPE_CHECKING:
    from pipeline.prepared import PreparedDataset
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
        "candidate as it is by itself; for a new study, as --set search.start_from=...",
    )
    parser.add_argument("--workers", type=at_least(0), default=0, metavar="N", help="start N workers here (default 0)")


def run(options: argparse.Namespace) -> int:
    """Open or continue the study, propose, show the leader board."""
    from pipeline.backend import backend_name
    from results.facts import ranked
    from results.phrases import counted, failures_line
    from results.tables import leader_board
    from results.text import render_table
    from trials_db.local_workers import LocalWorkers, TendedStop
    from trials_db.master import Master
    from trials_db.stopping import stop_on_signals

    if options.start_from is not None:
        options.assignments.append(
            f"search.start_from={json.dumps([name.strip() for name in options.start_from.split(',')])}"
        )
    study = load_study(options)
    _check_workers(options.workers, study)
    backend_name()
    commands = study_commands(study, options)
    dataset = _checked_data(study)
    space = space_for(resolve_space(study.space), dataset.input_bands)
    check_weights(space)
    record = _study_record(study, space, dataset.fingerprint)
    with open_study_store(study, create=True) as store:
        record = store.open_study(record, MAY_CHANGE)
        save_study(study)
        say(f"Study {study.name}: {_limits_text(study.limits)}, folder {study.folder}")
        for line in start_lines(study, space, dataset.input_bands):
            say(line)
        if not options.workers and not store.workers(study.name):
            say(f"No worker serves it yet. Start some: {commands.line('worker')}")
        master = Master(store, record, space, study.search, study.limits)
        workers = LocalWorkers(*_worker_processes(study, 0 if _is_over(store, study) else options.workers))
        with stop_on_signals() as stop, workers, SearchProgress() as progress_bar:
            progress = master.run(TendedStop(stop, workers), progress_bar.show)
            if stop.is_set() and options.workers:
                say("Stopping the workers; their trials are handed back ...")
        trials = store.trials(study.name)
    best = next(iter(ranked(trials)), None)
    board = leader_board(trials, study.data.classes)
    say("\n" + render_table(board))
    if failures := failures_line(trials):
        say(failures)
    if progress.is_complete and best is None:
        raise MapgroveError(
            f"{counted(progress.num_ended, 'trial')} ended, none with a result",
            remedy="Mend the reason above, and search again under another study.name",
        )
    if progress.ending:
        say(f"\nThe search has ended: {progress.ending}. Changed in the study's file, the same command goes on.")
    if progress.is_complete:
        have = "has" if progress.num_ended == 1 else "have"
        say(f"\n{counted(progress.num_ended, 'trial')} {have} ended. Next: {commands.retrain(best)[0]}")
        return EXIT_OK
    if workers.failure:
        raise MapgroveError(f"no worker is left: {workers.failure}", remedy="Its own line is above")
    say(f"\nStopped with {progress.num_ended} of {progress.max_trials} trials ended. The same command goes on.")
    return EXIT_INTERRUPTED


def _checked_data(study: Study) -> "PreparedDataset":
    """The prepared data, seen to be there and to leave room for training, before anything is written."""
    from pipeline.prepared import PreparedDataset
    from pipeline.room import split_of

    dataset = PreparedDataset.open_for(study.data)
    split_of(study, dataset)
    return dataset


def _study_record(study: Study, space: Space, data_fingerprint: str) -> "StudyRecord":
    """What the store keeps of the study."""
    from pipeline.backend import software
    from trials_db.records import StudyRecord

    return StudyRecord(
        name=study.name,
        settings=encode(study.with_store("")),
        space_fingerprint=space_fingerprint(space),
        data_fingerprint=data_fingerprint,
        seed=study.study.seed,
        software=software(),
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


def _check_workers(num_workers: int, study: Study) -> None:
    if 0 < study.search.lookahead < num_workers:
        raise UsageError(
            f"only search.lookahead = {study.search.lookahead} trials are in flight, so workers would idle",
            received=f"--workers {num_workers}",
            remedy="Raise search.lookahead in a new study (0 follows the workers), or start fewer workers",
        )


def _worker_processes(study: Study, num_workers: int) -> "tuple[list[str], list[Slot]]":
    from trials_db.local_workers import Slot

    command = [sys.executable, str(ENTRY), "worker", "--study", study.name]
    return command, [Slot(environment={STORE_VARIABLE: study.store_url})] * num_workers

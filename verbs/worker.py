"""Try candidates that a master proposed, one after the other, each in a process of its own.

Start as many as there are GPUs. A worker may be stopped or killed at any time: its trial goes to another one.

Examples:
  python run_search.py worker --study demo
  CUDA_VISIBLE_DEVICES=1 python run_search.py worker --study demo --idle-exit-s 600
"""

import argparse
import math
import os
import socket
from typing import TYPE_CHECKING

from search_space.decode import decode
from search_space.errors import MapgroveError
from search_space.study import Study
from verbs.common import add_study, at_least, load_study, open_study_store
from verbs.exit_codes import EXIT_INTERRUPTED, EXIT_OK

if TYPE_CHECKING:
    from trials_db.records import StudyRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    parser.add_argument("--max-trials", type=at_least(1), metavar="N", help="leave after N trials")
    parser.add_argument("--idle-exit-s", type=_duration_s, metavar="S", help="leave after S seconds without a trial")
    parser.add_argument("--name", help="how `status` calls this worker (default HOST:PROCESS)")


def run(options: argparse.Namespace) -> int:
    """Serve the study until told to stop."""
    from pipeline.backend import backend_name
    from pipeline.objective import TrainingObjective
    from trials_db.local_workers import follow_master
    from trials_db.pruning import Pruning
    from trials_db.stopping import stop_on_signals
    from trials_db.worker import Assignment, Worker, WorkerLimits

    backend_name()
    wished = load_study(options)
    with open_study_store(wished) as store:
        record = store.load_study(wished.name)
        study = decode(Study, record.settings, where=f"study {wished.name}").with_store(wished.study.store)
        _check_data(study, record)
        assignment = Assignment(
            record,
            TrainingObjective(study),
            study.folder,
            WorkerLimits(
                lease_s=study.search.lease_s,
                trial_s=study.limits.trial_s,
                stuck_s=study.limits.stuck_s,
                trial_memory_mb=study.limits.trial_memory_mb,
            ),
            Pruning(study.pruning, study.budget.epochs),
        )
        name = options.name or f"{socket.gethostname()}:{os.getpid()}"
        worker = Worker(store, [assignment], name, preload=["pipeline.preload"])
        with stop_on_signals() as stop:
            has_master = follow_master(stop)
            worker.run(stop, max_trials=options.max_trials, idle_exit_s=options.idle_exit_s)
    return EXIT_INTERRUPTED if stop.is_set() and not has_master else EXIT_OK


def _duration_s(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if seconds < 0.0 or not math.isfinite(seconds):
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0, not {text!r}")
    return seconds


def _check_data(study: Study, record: "StudyRecord") -> None:
    """Refuse to train on other data than the study's."""
    from pipeline.prepared import PreparedDataset

    found = PreparedDataset.open_for(study.data).fingerprint
    if found != record.data_fingerprint:
        raise MapgroveError(
            f"the data prepared in {study.prepared} is not the data of study {study.name}",
            received={"here": found, "study": record.data_fingerprint},
            remedy="Prepare the same files with the same settings on this machine",
        )

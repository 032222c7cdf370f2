"""Try candidates that a master proposed, one after the other, each in a process of its own.

`--study 'dstl/*'` serves the studies of single classes, and those that come later, in turn; so does `--study` several
times. What `retrain` asks for is served with its study. One command serves a whole machine: `--gpus 0,1,2,3` starts a
worker on each GPU, which sees no other; `--workers 4` starts four that see all there is; with `--gpus-per-trial 2` two
GPUs share each batch of a training. A worker may be stopped or killed at any time: its trial goes to another one, which
goes on from its last checkpoint. Ctrl-C and SIGTERM hand the trial back at once; with `--finish` the first of them lets
it end, as SIGUSR1 always does.

Examples:
  python run_search.py worker --study demo
  python run_search.py worker --study 'demo/*' --workers 2
  python run_search.py worker --study demo --gpus 0,1,2,3 --trials-per-gpu 2 --idle-exit-s 600
  python run_search.py worker --study large --gpus 0,1,2,3 --gpus-per-trial 2
"""

import argparse
import logging
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from search_space.decode import decode, encode
from search_space.errors import MapgroveError, UsageError
from search_space.names import is_retraining, retraining_name, searched_name
from search_space.space import space_fingerprint, study_space
from search_space.study import MAY_CHANGE, MIXED, Study
from verbs.common import (
    STORE_VARIABLE,
    NamedStudies,
    add_studies,
    at_least,
    is_pattern,
    load_studies,
    matching,
    open_named,
    open_study_artifacts,
    say,
)
from verbs.exit_codes import EXIT_INTERRUPTED, EXIT_OK
from verbs.option_types import duration_s, gpu_numbers, spelled_numbers, trial_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trials_db.artifacts import Artifacts
    from trials_db.assignment import Assignment
    from trials_db.local_workers import Slot
    from trials_db.records import StudyRecord
    from trials_db.stopping import Asked
    from trials_db.store import TrialStore

_log = logging.getLogger(__name__)

ENTRY = Path(__file__).parents[1] / "run_search.py"
SLOT_VARIABLE = "MAPGROVE_SLOT"
"""What a worker computes on, as the process that started it says."""

SHARED_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""What keeps a framework from taking all of a GPU's memory for the first of several trials."""

TIDY_S = 86_400.0
"""What a writer has not finished for so long, it never will."""

_POLL_S = 0.2
_WAIT_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_studies(parser)
    slots = parser.add_mutually_exclusive_group()
    slots.add_argument(
        "--gpus", type=gpu_numbers, metavar="LIST", help="a worker on each of these GPUs, such as 0,1,2,3"
    )
    slots.add_argument("--workers", type=at_least(1), default=1, metavar="N", help="N workers (default 1)")
    parser.add_argument("--trials-per-gpu", type=at_least(1), default=1, metavar="K", help="K workers on each GPU")
    parser.add_argument(
        "--gpus-per-trial", type=at_least(1), default=1, metavar="K", help="K GPUs share each batch of a training"
    )
    parser.add_argument("--max-trials", type=at_least(1), metavar="N", help="leave after N trials, each worker")
    parser.add_argument("--only", type=trial_numbers, metavar="LIST", help="no trials but these of one study: 3,5-9")
    parser.add_argument("--idle-exit-s", type=duration_s, metavar="S", help="leave after S seconds without a trial")
    parser.add_argument("--finish", action="store_true", help="end the running trial when stopped; once more: at once")
    parser.add_argument("--name", help="how `status` calls this worker (default HOST:PROCESS)")


def run(options: argparse.Namespace) -> int:
    """Serve the study until told to stop."""
    from pipeline.backend import backend_name, check_data_parallel

    _check_slots(options)
    named = options.studies
    if options.only and (len(named) > 1 or is_pattern(named[0])):
        raise UsageError("--only names trials of one study", received=" ".join(named), remedy="Name it alone")
    name = backend_name()
    if options.gpus_per_trial > 1:
        check_data_parallel(name)
    slots = _slots(options)
    return _run_slots(options, slots) if slots else _run_here(options)


def _check_slots(options: argparse.Namespace) -> None:
    """Refuse numbers that do not go together."""
    num_shared, num_gpus = options.gpus_per_trial, len(options.gpus or ())
    if options.trials_per_gpu > 1 and not options.gpus:
        raise UsageError("--trials-per-gpu needs --gpus", remedy="Name the GPUs, or give --workers N")
    if num_shared == 1:
        return
    if options.trials_per_gpu > 1:
        raise UsageError(
            "a GPU has several trials, or a trial several GPUs", remedy="Leave --trials-per-gpu or --gpus-per-trial out"
        )
    if options.workers > 1:
        raise UsageError("--workers N share out no GPUs", remedy="Name the GPUs for --gpus-per-trial: --gpus LIST")
    if num_gpus % num_shared:
        raise UsageError(
            f"{num_gpus} GPUs cannot be shared out by {num_shared}",
            received=",".join(options.gpus),
            remedy=f"Name a multiple of {num_shared} GPUs",
        )


def _run_here(options: argparse.Namespace) -> int:
    """Be the one worker."""
    from trials_db.local_workers import follow_master
    from trials_db.stopping import stop_or_drain
    from trials_db.worker import Worker

    named = load_studies(options)
    with open_named(named) as store, ExitStack() as opened, stop_or_drain(finish=options.finish) as asked:
        has_master = follow_master(asked.stop)
        studies = _Studies(store, named, opened, options.gpus_per_trial, options.only)
        found = studies.wait_for_some(asked, options.idle_exit_s)
        if found:
            worker = Worker(
                store,
                found,
                options.name or f"{socket.gethostname()}:{os.getpid()}",
                preload=["pipeline.preload"],
                find_more=studies.find_more,
                device=os.environ.get(SLOT_VARIABLE, ""),
            )
            worker.run(asked.stop, drain=asked.drain, max_trials=options.max_trials, idle_exit_s=options.idle_exit_s)
    return EXIT_INTERRUPTED if asked.stop.is_set() and not has_master else EXIT_OK


class _Studies:
    """The studies that some names and patterns mean, looked for again and again: others may be begun meanwhile."""

    def __init__(
        self,
        store: "TrialStore",
        named: NamedStudies,
        opened: ExitStack,
        num_devices: int = 1,
        only: frozenset[int] | None = None,
    ) -> None:
        self._store = store
        self._num_devices = num_devices
        self._only = only
        self._named = named
        self._names = named.names
        self._opened = opened
        self._served: set[str] = set()
        self._refused: dict[str, str] = {}
        self._artifacts: dict[str, Artifacts] = {}

    def wait_for_some(self, asked: "Asked", idle_exit_s: float | None) -> "list[Assignment]":
        """Those there are at first: of patterns that match none yet, the first to come.

        Args:
            asked: Ends the waiting.
            idle_exit_s: So does this, in seconds.

        Returns:
            Nothing where the waiting was ended.

        Raises:
            MapgroveError: None of them, or the only one, cannot be served here.
        """
        begun_s, is_told = time.monotonic(), False
        while not (names := self._not_served()):
            if not is_told:
                say(f"No study of the store matches {', '.join(self._names)} yet; waiting for one to begin")
                is_told = True
            is_over = idle_exit_s is not None and time.monotonic() - begun_s >= idle_exit_s
            if is_over or asked.drain.is_set() or asked.stop.wait(_WAIT_S):
                return []
        if len(names) == 1:
            return [self._assignment(names[0])]
        found = self._those_served(names)
        if not found:
            raise MapgroveError("none of the studies can be served here", remedy="The lines above say why")
        return found

    def find_more(self) -> "list[Assignment]":
        """Those that have come since, of patterns and as retrainings; and those that could not be served before."""
        return self._those_served(self._not_served())

    def _not_served(self) -> list[str]:
        return [name for name in self._wanted() if name not in self._served]

    def _wanted(self) -> list[str]:
        """All there are by now, each with its retraining; what was never searched may be retrained all the same."""
        known = self._store.list_studies()
        found = []
        for name in matching(self._names, known):
            # Of `--only`, numbers name trials of the study itself.
            retraining = [each for each in [retraining_name(name)] if each in known and not self._only]
            found += [name, *retraining] if name in known or not retraining else retraining
        return list(dict.fromkeys(found))

    def _those_served(self, names: "Sequence[str]") -> "list[Assignment]":
        """All but those that cannot be served here now, told once: a worker of many does not leave for one."""
        found = []
        for name in names:
            try:
                found.append(self._assignment(name))
            except MapgroveError as error:
                if self._refused.get(name) != str(error):
                    _log.error("study %s is not served: %s", name, error)
                self._refused[name] = str(error)
        return found

    def _assignment(self, name: str) -> "Assignment":
        record = self._store.load_study(name)
        study = decode(Study, record.settings, where=f"study {name}").with_store(self._named.store_url)
        here = self._named.from_files.get(searched_name(name))
        if here is not None:
            here = here.retraining if is_retraining(name) else here
            _check_settings(here, record)
            study = study.placed_as(here)
        place = study.study.artifacts
        if place not in self._artifacts:
            self._artifacts[place] = self._opened.enter_context(open_study_artifacts(study))
            self._artifacts[place].tidy(TIDY_S)
        made = _assignment(study, record, self._artifacts[place], self._num_devices)
        self._served.add(name)
        return replace(made, only=self._only)


def _run_slots(options: argparse.Namespace, slots: "list[Slot]") -> int:
    """Keep a worker alive in each slot; pass on what this process is asked."""
    from trials_db.local_workers import LocalWorkers
    from trials_db.stopping import stop_or_drain

    # Told once, here, and not by each worker.
    named = load_studies(options)
    with open_named(named) as store:
        known = store.list_studies()
        for name in matching(named.names, known):
            if name in known or retraining_name(name) not in known:
                record = store.load_study(name)
                if name in named.from_files:
                    _check_settings(named.from_files[name], record)
    with stop_or_drain(finish=options.finish) as asked, LocalWorkers(_command(options), slots) as workers:
        say(f"{len(slots)} workers: {', '.join(slot.options[-1] for slot in slots)}")
        draining = threading.Event()
        while workers.tend() and not asked.stop.wait(_POLL_S):
            if asked.drain.is_set() and not draining.is_set():
                say("The workers end their trials, and leave ...")
                workers.drain()
                draining.set()
    if asked.stop.is_set():
        return EXIT_INTERRUPTED
    if workers.failure:
        raise MapgroveError(f"not all workers are left: {workers.failure}", remedy="Its own line is above")
    return EXIT_OK


def _slots(options: argparse.Namespace) -> "list[Slot]":
    """One for each worker, none where this process is the only one."""
    from trials_db.local_workers import Slot

    base = options.name or f"{socket.gethostname()}:{os.getpid()}"
    store = {STORE_VARIABLE: options.store} if options.store else {}
    if not options.gpus:
        numbers = range(options.workers) if options.workers > 1 else ()
        return [Slot(["--name", f"{base}/{number}"], store) for number in numbers]
    found, num = [], options.gpus_per_trial
    for gpus in (options.gpus[first : first + num] for first in range(0, len(options.gpus), num)):
        for number in range(options.trials_per_gpu):
            name = f"{base}/gpu{'+'.join(gpus)}" + (f".{number}" if options.trials_per_gpu > 1 else "")
            shared = SHARED_GPU if options.trials_per_gpu > 1 else {}
            told = ("GPUs " if len(gpus) > 1 else "GPU ") + ", ".join(gpus)
            variables = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), SLOT_VARIABLE: told, **shared, **store}
            found.append(Slot(["--name", name], variables))
    return found


def _command(options: argparse.Namespace) -> list[str]:
    """The command of each worker; the URL of a store, which may hold a password, is not part of it."""
    command = [sys.executable, str(ENTRY), "worker"]
    for name in options.studies:
        command += ["--study", name]
    for assignment in options.assignments:
        command += ["--set", assignment]
    if options.gpus_per_trial > 1:
        command += ["--gpus-per-trial", str(options.gpus_per_trial)]
    if options.only:
        command += ["--only", spelled_numbers(options.only)]
    if options.max_trials is not None:
        command += ["--max-trials", str(options.max_trials)]
    if options.idle_exit_s is not None:
        command += ["--idle-exit-s", f"{options.idle_exit_s:g}"]
    return command


def _assignment(study: Study, record: "StudyRecord", artifacts: "Artifacts", num_devices: int) -> "Assignment":
    from pipeline.objective import TrainingObjective
    from pipeline.retrain_objective import RetrainObjective
    from trials_db.assignment import Assignment, WorkerLimits
    from trials_db.keeping import Keeping
    from trials_db.pruning import Pruning

    _check_software(record)
    _check_data(study, record)
    study = study.in_precision(record.software.get("precision", "float32"))
    limits = WorkerLimits(
        lease_s=study.search.lease_s,
        trial_s=study.limits.trial_s,
        stuck_s=study.limits.stuck_s,
        trial_memory_mb=study.limits.trial_memory_mb,
    )
    if is_retraining(study.name):
        # Its trainings are longer than the trials that these limits were made for.
        limits = limits.model_copy(update={"trial_s": 0.0, "stuck_s": limits.stuck_s * _longer_epochs(study)})
        keeping = Keeping(artifacts, None, study.search.checkpoint_s)
        return Assignment(record, RetrainObjective(study, num_devices), study.folder, limits, keeping=keeping)
    pruning = Pruning(study.pruning, study.budget.epochs)
    keeping = Keeping(artifacts, study.search.keep_models, study.search.checkpoint_s)
    return Assignment(record, TrainingObjective(study, num_devices), study.folder, limits, pruning, keeping)


def _longer_epochs(study: Study) -> float:
    """How many times as long as in the search an epoch of a retraining takes, and at least as long."""
    return max(1.0, study.retrain.steps_per_epoch / study.budget.steps_per_epoch)


def _check_settings(given: Study, record: "StudyRecord") -> None:
    """Refuse a study's file that says something else than the study where its trials depend on it.

    How candidates are proposed is the master's matter alone; trainings of a retraining depend on data and folds alone.
    """
    from trials_db.store import check_same_study

    told = record.model_copy(update={"settings": encode(given.with_store(""))})
    others = [name for name in Study.model_fields if name not in ("data", "folds")]
    check_same_study(record, told, (*MAY_CHANGE, *(others if is_retraining(record.name) else ["search"])))


def _check_software(record: "StudyRecord") -> None:
    """Refuse to mix losses that cannot be compared."""
    from pipeline.backend import BACKEND_VARIABLE, PRECISION_VARIABLE, software

    remedies = {
        "mapgrove": "Use the same version on every machine",
        "backend": f"export {BACKEND_VARIABLE}=",
        "precision": f"export {PRECISION_VARIABLE}=",
    }
    for name, here in software().items():
        there = record.software.get(name, here)
        if there in MIXED:
            # Whatever is fast here: a worker computes as the study has it.
            there = "float32"
        if there != here:
            remedy = remedies[name] + (there if remedies[name].endswith("=") else "")
            raise MapgroveError(
                f"study {record.name} was begun with {name} {there}, and this worker has {here}", remedy=remedy
            )


def _check_data(study: Study, record: "StudyRecord") -> None:
    """Refuse to train on other data than the study's, or what was drawn from another space."""
    from pipeline.preparation.prepared import PreparedDataset

    dataset = PreparedDataset.open_for(study.data)
    if dataset.fingerprint != record.data_fingerprint:
        raise MapgroveError(
            f"the data prepared in {study.prepared} is not the data of study {study.name}",
            received={"here": dataset.fingerprint, "study": record.data_fingerprint},
            remedy="Prepare the same files with the same settings on this machine",
        )
    if is_retraining(study.name):
        # Nothing is drawn.
        return
    made = space_fingerprint(study_space(study.space, dataset.input_bands))
    if made != record.space_fingerprint:
        raise MapgroveError(
            f"the search space of study {study.name} is not what this Mapgrove makes of its settings",
            received={"here": made, "study": record.space_fingerprint},
            remedy="Use the Mapgrove that began the study, or begin another one",
        )

"""A worker's life: seconds from a claimed trial to its first step of training, and memory over many trials.

The demo's study, its default network, a step of training each. "Cold" is from the start of the worker's command, with
the import of the framework; "warm" from the claim of each trial after the first, in a process forked from the server
that has the framework. Memory is that of the worker and its server after each trial, and the highest of each trial's
own process, in 10**6 bytes; the last third beside the first tells whether it grows.

  python benchmarks/worker_life.py
  python benchmarks/worker_life.py --trials 100
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.objective import TrainingObjective
from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.objective import EpochReport, Outcome, TrialContext
from search_space.study import Study
from search_space.study_file import read_study
from trials_db.assignment import Assignment
from trials_db.opening import open_store
from trials_db.records import NewTrial, StudyRecord
from trials_db.worker import Worker

CONFIG = Path(__file__).parents[1] / "configs" / "demo.toml"
NUM_SCENES, SIZE_PX, SEED = 8, 360, 11
FIRST_STEP = "first_step.txt"
POLL_S = 0.05


@dataclass
class Watched:
    """A trial's surroundings, with a note of when its first step had ended."""

    inner: TrialContext

    def __getattr__(self, name: str) -> Any:
        """All but `report` as it is."""
        return getattr(self.inner, name)

    def report(self, report: EpochReport) -> None:
        """Note the time, less that of the validation since."""
        (self.inner.folder / FIRST_STEP).write_text(str(time.time() - (report.validation_s or 0.0)))
        self.inner.report(report)


@dataclass(frozen=True)
class WatchedObjective:
    """A study's objective, watched."""

    study: Study

    def warm_up(self) -> None:
        """See `TrainingObjective`."""
        TrainingObjective(self.study).warm_up()

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        """See `TrainingObjective`."""
        return TrainingObjective(self.study)(candidate, Watched(trial))


def main() -> None:
    """Make the data, run the worker in a process of its own, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(study_in(options.serve), options.trials)
        return
    with tempfile.TemporaryDirectory() as folder:
        study = study_in(Path(folder))
        add_trials(study, options.trials)
        started_s = time.time()
        command = [sys.executable, __file__, "--serve", folder, "--trials", str(options.trials)]
        memory = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
        with open_store(study.store_url, create=False) as store:
            trials = store.trials(study.name)
        first = [float((study.folder / "trials" / f"{t.number:04d}" / FIRST_STEP).read_text()) for t in trials]
        warm = [step_s - (trial.started_s or 0.0) for step_s, trial in zip(first, trials, strict=True)][1:]
    print(f"{len(trials)} trials, {sum(trial.loss is not None for trial in trials)} done")
    print(f"cold  {first[0] - started_s:6.1f} s from the worker's command to the end of its first step")
    print(f"warm  {statistics.median(warm):6.1f} s from the claim, median; {min(warm):.1f} to {max(warm):.1f}")
    for name, values in memory.items():
        print(f"{name:8} {tell_growth(values)}")


def tell_growth(values: Sequence[float]) -> str:
    """First and last third beside each other."""
    third = max(1, len(values) // 3)
    early, late = statistics.median(values[:third]), statistics.median(values[-third:])
    return (
        f"{early:7.0f} MB in the first third, {late:7.0f} MB in the last: {late / early:.3f}; at most {max(values):.0f}"
    )


def study_in(folder: Path) -> Study:
    """The demo's study in a folder, of trials with one step."""
    places = {"study.folder": "study", "data.folder": "dstl", "data.prepared": "prepared"}
    assignments = [f'{key}="{folder / name}"' for key, name in places.items()]
    return read_study(CONFIG, [*assignments, "budget.epochs=1", "budget.steps_per_epoch=1", "search.keep_models=0"])


def add_trials(study: Study, count: int) -> None:
    """Prepare the synthetic data set, and propose the default candidate again and again."""
    from pipeline.preparation.prepare import prepare
    from pipeline.synthetic.scenes import write_synthetic_dstl

    write_synthetic_dstl(Path(study.data.folder), NUM_SCENES, SIZE_PX, SEED)
    prepare(study.data)
    with open_store(study.store_url, create=True) as store:
        record = StudyRecord(
            name=study.name, settings=encode(study), space_fingerprint="", data_fingerprint="", seed=SEED
        )
        store.create_study(record)
        plain = encode(Candidate())
        for number in range(count):
            store.add_trial(study.name, NewTrial(number=number, point={}, candidate=plain, seed=number))


def serve(study: Study, count: int) -> None:
    """Be the worker; print the memory after each trial, and the most that each trial's process held."""
    own, most = psutil.Process(os.getpid()), [0.0]
    found: dict[str, list[float]] = {"worker": [], "server": [], "trial": []}

    def watch() -> None:
        while True:
            most[0] = max([most[0], *(resident_mb(each) for each in grandchildren(own))])
            time.sleep(POLL_S)

    def on_end(_: str, __: int, ___: Outcome) -> None:
        found["worker"].append(resident_mb(own))
        found["server"].append(sum(map(resident_mb, own.children())))
        found["trial"].append(most[0])
        most[0] = 0.0

    threading.Thread(target=watch, daemon=True).start()
    with open_store(study.store_url, create=False) as store:
        assignment = Assignment(store.load_study(study.name), WatchedObjective(study), study.folder)
        worker = Worker(store, [assignment], preload=["pipeline.preload"])
        worker.run(threading.Event(), max_trials=count, on_end=on_end)
    print(json.dumps(found))


def grandchildren(process: psutil.Process) -> list[psutil.Process]:
    """The trials' processes: children of the server that forks them."""
    try:
        return [each for child in process.children() for each in child.children()]
    except psutil.NoSuchProcess:
        return []


def resident_mb(process: psutil.Process) -> float:
    """Resident memory in 10**6 bytes, 0 of one that has ended."""
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


if __name__ == "__main__":
    main()

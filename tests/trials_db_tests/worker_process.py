"""A worker as a process of its own, for tests that kill it.

worker_process.py URL STUDY FOLDER GATE LEASE_S [MODULE], where MODULE is imported once for all trials.
"""

import sys
from pathlib import Path

from trial_objectives import Waits

from trials_db.assignment import Assignment, WorkerLimits
from trials_db.local_workers import follow_master
from trials_db.opening import open_store
from trials_db.stopping import stop_on_signals
from trials_db.worker import Worker


def main(url: str, study: str, folder: str, gate: str, lease_s: str, *preload: str) -> None:
    with open_store(url, create=False) as store, stop_on_signals() as stop:
        follow_master(stop)
        objective = Waits(Path(gate), with_child=True)
        limits = WorkerLimits(lease_s=float(lease_s))
        assignment = Assignment(store.load_study(study), objective, Path(folder), limits)
        Worker(store, [assignment], preload=preload).run(stop)


if __name__ == "__main__":
    main(*sys.argv[1:])

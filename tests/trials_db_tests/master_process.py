"""A master's part in its workers' lives, for tests that kill it: master_process.py COMMAND..., run by two workers."""

import sys

from trials_db.local_workers import LocalWorkers, Slot, TendedStop
from trials_db.stopping import stop_on_signals


def main(*command: str) -> None:
    with stop_on_signals() as stop, LocalWorkers(command, [Slot()] * 2) as workers:
        tended = TendedStop(stop, workers)
        while not tended.is_set():
            tended.wait(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])

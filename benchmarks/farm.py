"""A simulated farm: real masters, workers and stores on a simulated clock, with everything that can go wrong.

Workers are killed at any point of any call, stand still for longer than their lease and go on, are cut off, ask twice
as their answer was lost; masters die and are started again, two at once; the store is away for minutes; no machine's
clock agrees with another. Every answer of the store is checked when it comes, and all of it against the store in the
end: every trial ended once, none was taken from who held it, no late write was let in. The same seed does the same
again: one that finds a fault replays it.

The time is the world's, so a disk only slows it down: TMPDIR=/dev/shm keeps the store in memory. Needs
requirements-dev.txt; it has the server, too.

  TMPDIR=/dev/shm python benchmarks/farm.py --seed 1 --workers 1000 --trials 100000
  TMPDIR=/dev/shm python benchmarks/farm.py --seed 1 --workers 200 --trials 10000 --store mongodb
"""

import argparse
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.mongod import MongoServer, database_url
from tests.trials_db_tests.farm.farm import Farm, FarmError, Opener, Plan, Result
from tests.trials_db_tests.farm.mongo import open_mongo
from trials_db.sqlite_store import SqliteStore

JUDGED = 200
"""About so many trials are judged by the real rule of early stopping, whose cost grows with all trials there are."""
TELL_S = 60.0


@contextmanager
def opener(kind: str, folder: Path) -> Iterator[Opener]:
    """What opens handles of one new store; its server lives as long as the block."""
    if kind == "sqlite":
        yield lambda world, _: SqliteStore(folder / "trials.sqlite", clock=lambda: world.now_s)
        return
    with MongoServer(folder / "mongod") as server:
        yield lambda world, link_of: open_mongo(database_url(server.url, "farm"), world, link_of)


@contextmanager
def telling(farm: Farm) -> Iterator[None]:
    """Inside the block, tell now and then how far it is."""
    done = threading.Event()

    def tell() -> None:
        while not done.wait(TELL_S):
            print(f"{farm.world.num_events} events, {farm.audit.counts['claims']} claims", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def report(result: Result, seconds: float) -> None:
    """Print what happened."""
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'events':<48}{result.num_events:>10}")
    print(f"{'hours on the farm':<48}{result.hours:>10.2f}")
    for name, count in result.counts.items():
        print(f"{name:<48}{count:>10}")
    print(f"took {seconds:.0f} s and {memory_mb:.0f} MB; all of it as one number: {result.digest[:16]}")


def main() -> int:
    """Simulate what was asked for; return 1 where the store broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--store", choices=["sqlite", "mongodb"], default="sqlite")
    options = parser.parse_args()
    plan = Plan(options.seed, options.workers, options.trials, judged_every=max(1, options.trials // JUDGED))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, opener(options.store, Path(folder)) as open_store:
        farm = Farm(plan, open_store, is_atomic=options.store == "sqlite")
        try:
            with telling(farm):
                result = farm.run()
        except FarmError as error:
            print(error)
            words = f"--seed {plan.seed} --workers {plan.num_workers} --trials {plan.num_trials}"
            print(f"Replay: python benchmarks/farm.py {words} --store {options.store}")
            return 1
    report(result, time.monotonic() - begun)
    return 0


if __name__ == "__main__":
    sys.exit(main())

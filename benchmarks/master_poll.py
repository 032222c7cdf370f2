"""How long a master's poll takes when nothing is new, after so many finished trials.

A study of the default space with that many finished trials of five epochs each, which ended half a minute apart, and
eight that run. `changed_since` is the store's part, asked from the newest change on. `Master.step` is all that a
master does between two waits: it takes trials from workers that fell silent, reads what changed, and looks whether a
proposal is wanted. Sizes and stores take turns, so that all meet the same machine; a number is the median of all turns.
The first step, which reads the whole study, is told beside, in time on the processor.

  python benchmarks/master_poll.py
  python benchmarks/master_poll.py --finished 100 1000 --turns 50
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.objective import EpochReport, Outcome
from search_space.space import resolve_space, space_fingerprint
from search_space.study import LimitSettings, SearchSettings
from tests.mongod import MongoServer, database_url
from trials_db.bridge import propose
from trials_db.master import Master
from trials_db.mongo_store import MongoStore
from trials_db.records import NewTrial, StudyRecord, Trial, TrialState
from trials_db.sqlite_store import SqliteStore
from trials_db.store import TrialStore

STUDY = "benchmark"
NUM_RUNNING = 8
BETWEEN_S = 30.0
NUM_WRITERS = 16
SPACE = resolve_space({})
SEARCH = SearchSettings()


class Clock:
    """The store's time as the study is filled: so its changes lie as far apart as those of a search."""

    def __init__(self) -> None:
        self.now_s = time.time() - 1e7

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now_s


def fill(store: TrialStore, clock: Clock, num_finished: int) -> StudyRecord:
    """Make the study."""
    study = StudyRecord(
        name=STUDY, settings={}, space_fingerprint=space_fingerprint(SPACE), data_fingerprint="", seed=1
    )
    store.create_study(study)
    point, candidate = propose(SPACE, [], 0, 1, SEARCH).point, encode(Candidate())
    reports = tuple(EpochReport(epoch=each, training_loss=0.5, jaccard={"class": 0.1 * each}) for each in range(1, 6))

    def add(number: int) -> None:
        at_s = clock.now_s
        trial = Trial(
            number=number,
            state=TrialState.DONE,
            point=point,
            candidate=candidate,
            seed=number,
            attempts=1,
            worker="worker",
            reports=reports,
            outcome=Outcome(state="done", loss=1.0 / (number + 1)),
            created_s=at_s,
            started_s=at_s,
            finished_s=at_s,
        )
        store.restore_trial(STUDY, trial)
        clock.now_s += BETWEEN_S

    with ThreadPoolExecutor(NUM_WRITERS) as pool:
        list(pool.map(add, range(num_finished)))
    for number in range(num_finished, num_finished + NUM_RUNNING):
        store.add_trial(STUDY, NewTrial(number=number, point=point, candidate=candidate, seed=number))
        if store.claim(STUDY, "worker", 1e6) is None:
            raise SystemExit("A trial that was added cannot be claimed")
    return study


class Polled(NamedTuple):
    """A study under measurement.

    Attributes:
        kind: Of store.
        num_finished: Trials that have ended.
        ways: What is timed, by name.
        first_s: What the first step took of this process's time.
    """

    kind: str
    num_finished: int
    ways: dict[str, Callable[[], object]]
    first_s: float


def prepare(kind: str, store: TrialStore, clock: Clock, num_finished: int, held: ExitStack) -> Polled:
    """Fill a store and let a master read it."""
    study = fill(store, clock, num_finished)
    limits = LimitSettings(max_trials=num_finished + NUM_RUNNING)
    master = Master(store, study, SPACE, SEARCH, limits)
    held.enter_context(master.leading(threading.Event()))
    begun_s = time.process_time()
    proposed, progress = master.step()
    first_s = time.process_time() - begun_s
    if proposed or progress.num_ended != num_finished:
        raise SystemExit(f"{progress.num_ended} of {num_finished} trials ended")
    changed, cursor = store.changed_since(STUDY)
    if len(changed) != num_finished + NUM_RUNNING:
        raise SystemExit(f"{len(changed)} trials are told, not {num_finished + NUM_RUNNING}")
    ways = {"changed_since": lambda: store.changed_since(STUDY, cursor), "Master.step": master.step}
    return Polled(kind, num_finished, ways, first_s)


def measure(polled: Sequence[Polled], turns: int) -> None:
    """Take turns, and print a table."""
    taken: dict[tuple[str, int, str], list[float]] = {}
    for _ in range(turns):
        for each in polled:
            for name, poll in each.ways.items():
                begun_s = time.perf_counter()
                poll()
                ms = 1000 * (time.perf_counter() - begun_s)
                taken.setdefault((each.kind, each.num_finished, name), []).append(ms)
    print("| store | finished trials | changed_since, ms | Master.step, ms | first step, s of processor |")
    print("|---|---:|---:|---:|---:|")
    for each in polled:
        asked, step = (statistics.median(taken[each.kind, each.num_finished, name]) for name in each.ways)
        print(f"| {each.kind} | {each.num_finished:,} | {asked:.2f} | {step:.2f} | {each.first_s:.2f} |")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--turns", type=int, default=200)
    options = parser.parse_args()
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="master-poll-")))
        server = held.enter_context(MongoServer(folder / "mongodb"))
        polled = []
        for number in options.finished:
            clock = Clock()
            store: TrialStore = held.enter_context(SqliteStore(folder / f"{number}.sqlite", clock=clock))
            polled.append(prepare("SQLite", store, clock, number, held))
        for number in options.finished:
            clock = Clock()
            store = held.enter_context(MongoStore(database_url(server.url, f"after_{number}"), clock=clock))
            polled.append(prepare("MongoDB", store, clock, number, held))
        measure(polled, options.turns)


if __name__ == "__main__":
    main()

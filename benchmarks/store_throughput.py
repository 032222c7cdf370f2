"""Trials per second through a store: ours beside Optuna's storages, with 1, 8 and 64 workers at once.

Each worker is a process. For each trial it does four things, each of which must be in the store before the next: it
claims one that waits, records one intermediate value, finishes it with a value, and adds another one. So as many
trials wait as there are workers, as under a master of ours. What is tried are the numbers of the default space. With
`--queued` all trials are added before the clock starts, and workers only claim, report and finish.

Optuna's storages are asked for what its `Study.ask`, `Trial.report` and `Study.tell` ask them for, and no more:
`_pop_waiting_trial_id`, `set_trial_intermediate_value`, `set_trial_state_values`, and `enqueue_trial`. That each
suggested number costs a write of its own there is left out. The lines "asked" are Optuna's usual way, in which `ask`
makes the trial that the worker runs, and nothing waits: three writes in place of four.

What a call wrote survives the death of processes in all of them; in some, after a wait for the disk, that of the whole
machine too. The table says which.

Rounds alternate; a number is the median of its rounds. At the end of each, every trial must have ended in the store,
once; else the benchmark fails. Where a storage lets two workers claim one trial, that is counted.

  pip install optuna
  python benchmarks/store_throughput.py
  python benchmarks/store_throughput.py --queued --rounds 3
  python benchmarks/store_throughput.py --workers 64 --only Mapgrove
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.storages import ENDED_BEFORE, WAYS, import_all
from tests.mongod import MongoServer, database_url

CONNECT_S = 120.0
FORK = multiprocessing.get_context("fork")
NUM_TRIALS = {1: 200, 8: 400, 64: 1280}
"""By number of workers."""

FEWER = 8
"""Of Optuna's RDB by so much, as its rounds would take minutes."""


class Work(NamedTuple):
    """What one worker did.

    Attributes:
        ended_s: When it was through, by the clock of all.
        num_ended: Trials that it finished, as the store told it.
        num_claims: Trials that it claimed.
        longest_s: The longest that one of its calls took.
    """

    ended_s: float
    num_ended: int
    num_claims: int
    longest_s: float


def work(name: str, place: str, to_add: range, at_most: int | None, barrier: Barrier, told: Connection) -> None:
    """One worker: claim, report, finish and add, until nothing waits or it claimed `at_most`."""
    session = WAYS[name].connect(place)
    adding = iter(to_add)
    longest_s, num_ended, num_claims = 0.0, 0, 0

    def timed(call: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal longest_s
        begun_s = time.monotonic()
        answer = call(*arguments)
        longest_s = max(longest_s, time.monotonic() - begun_s)
        return answer

    barrier.wait()
    while num_claims != at_most:
        trial = timed(session.claim)
        if trial is not None:
            num_claims += 1
            # The other of two workers that were given one trial may have ended it.
            with suppress(ENDED_BEFORE):
                timed(session.report, trial)
                timed(session.finish, trial)
                num_ended += 1
        number = next(adding, None)
        if number is not None:
            timed(session.add, number)
        elif trial is None:
            break
    told.send(Work(time.monotonic(), num_ended, num_claims, longest_s))


class Round(NamedTuple):
    """One way, once.

    Attributes:
        rate: Trials per second.
        num_twice: Claims of a trial that another worker had claimed.
        longest_s: The longest that a call took.
    """

    rate: float
    num_twice: int
    longest_s: float


def race(name: str, place: str, num_workers: int, num_trials: int, *, queued: bool) -> Round:
    """Run all trials through one storage; fail where one of them did not end there once."""
    asks = WAYS[name].asks
    num_waiting = 0 if asks else num_trials if queued else 2 * num_workers
    in_child(prepare, name, place, num_waiting)
    parts = [range(num_waiting + first, num_trials, num_workers) for first in range(num_workers)]
    begun_s, works = let_loose(name, place, parts)
    num_ended = in_child(count_ended, name, place)
    if num_ended != num_trials:
        raise SystemExit(f"{name}: {num_ended} of {num_trials} trials ended in the store, {works} at the workers")
    num_twice = sum(each.num_claims for each in works) - num_trials
    elapsed_s = max(each.ended_s for each in works) - begun_s
    return Round(num_trials / elapsed_s, num_twice, max(each.longest_s for each in works))


def in_child(do: Callable[..., Any], *arguments: Any) -> Any:
    """What `do` returns in a process of its own: this one holds no connection that workers would inherit."""
    with ProcessPoolExecutor(1, mp_context=FORK) as pool:
        return pool.submit(do, *arguments).result()


def prepare(name: str, place: str, num_waiting: int) -> None:
    """Make the storage and its first trials."""
    session = WAYS[name].connect(place)
    for number in range(num_waiting):
        session.add(number)


def count_ended(name: str, place: str) -> int:
    """See `Session.num_ended`."""
    return WAYS[name].connect(place).num_ended()


def let_loose(name: str, place: str, parts: Sequence[range]) -> tuple[float, list[Work]]:
    """Start workers at once, each adding its part; return when, and what they did."""
    barrier = FORK.Barrier(len(parts) + 1)
    workers, pipes = [], []
    for part in parts:
        hearing, telling = FORK.Pipe(duplex=False)
        at_most = len(part) if WAYS[name].asks else None
        worker = FORK.Process(target=work, args=(name, place, part, at_most, barrier, telling), daemon=True)
        worker.start()
        telling.close()
        workers.append(worker)
        pipes.append(hearing)
    barrier.wait(CONNECT_S)
    begun_s = time.monotonic()
    try:
        works = [pipe.recv() for pipe in pipes]
    except EOFError:
        raise SystemExit(f"{name}: a worker died; its traceback is above") from None
    for worker in workers:
        worker.join()
    return begun_s, works


@contextmanager
def places(on_server: bool, server: str) -> Iterator[str]:
    """Where one round takes place: a fresh folder or database."""
    with tempfile.TemporaryDirectory(prefix="store-throughput-") as folder:
        yield database_url(server, f"round_{uuid.uuid4().hex}") if on_server else folder


def print_table(rounds: Mapping[str, Mapping[int, Sequence[Round]]], numbers: Sequence[int]) -> None:
    """The medians, and how ours stand to the faster of Optuna's and to its RDB storage."""
    titles = [f"{number} worker{'s'[: number > 1]}" for number in numbers]
    print(f"| trials/s | survives the death of | {' | '.join(titles)} | longest call, s | claimed twice |")
    print("|---|---|" + "---:|" * (len(numbers) + 2))
    rates = {
        name: {n: statistics.median(each.rate for each in done[n]) for n in numbers} for name, done in rounds.items()
    }
    for name, done in rounds.items():
        told = " | ".join(f"{rates[name][number]:.0f}" for number in numbers)
        longest = " / ".join(f"{statistics.median(each.longest_s for each in done[n]):.2f}" for n in numbers)
        twice = sum(each.num_twice for n in numbers for each in done[n])
        print(f"| {name} | {WAYS[name].survives} | {told} | {longest} | {twice} |")
    theirs = [name for name in rounds if name.startswith("Optuna")]
    for name in rounds:
        if name.startswith("Mapgrove") and theirs:
            fastest = {number: max(rates[each][number] for each in theirs) for number in numbers}
            rdbs = {number: max(rates[each][number] for each in theirs if "RDB" in each) for number in numbers}
            for what, others in (("fastest of Optuna's", fastest), ("fastest of its RDB", rdbs)):
                told = " | ".join(f"{rates[name][number] / others[number]:.1f}" for number in numbers)
                print(f"| {name} / {what} | | {told} | | |")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", choices=list(NUM_TRIALS), default=list(NUM_TRIALS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queued", action="store_true", help="all trials are added before the clock starts")
    parser.add_argument("--only", default="", help="the lines whose names begin so")
    options = parser.parse_args()
    names = [name for name in WAYS if name.startswith(options.only)]
    if options.queued:
        names = [name for name in names if not WAYS[name].asks]
    rounds: dict[str, dict[int, list[Round]]] = {name: {number: [] for number in options.workers} for name in names}
    import_all()
    with tempfile.TemporaryDirectory(prefix="store-throughput-") as folder, MongoServer(Path(folder)) as server:
        for _ in range(options.rounds):
            for number in options.workers:
                for name in names:
                    with places(WAYS[name].on_server, server.url) as place:
                        num_trials = NUM_TRIALS[number] // (FEWER if "RDB" in name else 1)
                        done = race(name, place, number, num_trials, queued=options.queued)
                    rounds[name][number].append(done)
                    print(f"{number:>3} {name:<56}{done.rate:>8.0f}", file=sys.stderr, flush=True)
    print_table(rounds, options.workers)


if __name__ == "__main__":
    main()

"""Masters and workers killed for real, at each step and at random: every trial ends once, as if nothing happened."""

import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import HARNESSES, StoreHarness
from nursery import Nursery
from nursery_process import Quick, search_settings
from trial_objectives import synthetic_loss
from waiting import wait_for

from search_space.objective import Outcome
from search_space.space import space_fingerprint
from search_space.study import LimitSettings
from tests.mongod import MongoServer, database_url
from trials_db.assignment import Assignment, WorkerLimits
from trials_db.master import Master
from trials_db.opening import open_store
from trials_db.records import NewTrial, StudyRecord, Trial, TrialState
from trials_db.sqlite_store import SqliteStore
from trials_db.store import TrialStore
from trials_db.worker import Worker

pytestmark = pytest.mark.timeout(900)

NUM_TRIALS = 130
SPACE, SETTINGS = search_settings()


@pytest.fixture(params=["mongodb", "sqlite"])
def harness(request: pytest.FixtureRequest) -> Iterator[StoreHarness]:
    made = HARNESSES[request.param](request)
    yield made
    made.close()


@pytest.fixture
def record(study: StudyRecord) -> StudyRecord:
    return study.model_copy(update={"space_fingerprint": space_fingerprint(SPACE)})


@pytest.fixture
def shared(harness: StoreHarness, record: StudyRecord) -> Iterator[TrialStore]:
    """On the real clock, as other processes see it."""
    with open_store(harness.url) as opened:
        opened.create_study(record)
        yield opened


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[Callable[[], MongoServer]]:
    """Starts a server of the test's own, which it may end."""
    with ExitStack() as started:
        yield lambda: started.enter_context(MongoServer(tmp_path / "mongod"))


def essence(trials: list[Trial]) -> list[Any]:
    """What must not depend on who was killed."""
    return [(trial.number, trial.point, trial.candidate, trial.seed, trial.state, trial.loss) for trial in trials]


@cache
def calm(seed: int, num_trials: int) -> list[Any]:
    """The trials of a search in which nothing happens."""
    record = StudyRecord(
        name="demo", settings={}, space_fingerprint=space_fingerprint(SPACE), data_fingerprint="data-1", seed=seed
    )
    with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder, "trials.sqlite")) as store:
        store.create_study(record)
        finish_search(store, record, num_trials)
        return essence(store.trials("demo"))


def finish_search(store: TrialStore, record: StudyRecord, num_trials: int) -> None:
    """Lead a search, and try its trials, here."""

    def work(_: object) -> None:
        while (claim := store.claim("demo", "here", 60.0)) is not None:
            trial = next(trial for trial in store.trials("demo") if trial.number == claim.number)
            store.finish(claim, Outcome(state="done", loss=synthetic_loss(trial.decoded())))

    Master(store, record, SPACE, SETTINGS, LimitSettings(max_trials=num_trials)).run(threading.Event(), work)


WORKER_DEATHS = {
    # What is left: whether the trial lost a worker, and whether the dead one had ended it.
    "claim:within": {"sqlite": (0, False), "mongodb": (1, False)},
    "claim:after": (1, False),
    "report:within": (1, False),
    "report:after": (1, False),
    "finish:before": (1, False),
    "finish:within": {"sqlite": (1, False), "mongodb": (0, True)},
    "finish:after": (0, True),
}


def test_workers_killed_in_a_claim_in_training_and_while_finishing(
    harness: StoreHarness, shared: TrialStore, record: StudyRecord, new_trial: Callable[[int], NewTrial], tmp_path: Path
) -> None:
    for number in range(len(WORKER_DEATHS)):
        shared.add_trial("demo", new_trial(number))
    with Nursery(harness.url, "demo", tmp_path, lease_s=1.0) as nursery:
        killed = {nursery.start("worker", death=death): death for death in WORKER_DEATHS}
        names = {f"w{pid}": death for pid, death in killed.items()}
        assert [nursery.wait(pid) for pid in killed] == [-signal.SIGKILL] * len(killed), nursery.log
    ended_by_dead = {names[trial.worker] for trial in shared.trials("demo") if trial.state.is_final}

    left = len(WORKER_DEATHS) - len(ended_by_dead)
    assert (
        Worker(shared, [Assignment(record, Quick(), tmp_path, WorkerLimits(lease_s=1.0))]).run(
            threading.Event(), max_trials=left
        )
        == left
    )

    trials = shared.trials("demo")
    assert [trial.state for trial in trials] == [TrialState.DONE] * len(WORKER_DEATHS)
    kind = "sqlite" if harness.url.startswith("sqlite") else "mongodb"
    expected = [each[kind] if isinstance(each, dict) else each for each in WORKER_DEATHS.values()]
    assert sorted(trial.lost_workers for trial in trials) == sorted(lost for lost, _ in expected)
    assert ended_by_dead == {death for death, (_, ended) in zip(WORKER_DEATHS, expected, strict=True) if ended}
    assert [len(trial.reports) for trial in trials] == [1] * len(trials)


MASTER_DEATHS = (
    "load_study:after",
    "acquire_lead:before",
    "acquire_lead:within",
    "acquire_lead:after",
    "requeue_expired:after",
    "changed_since:after",
    "add_trial:before",
    "add_trial:within",
    "add_trial:after",
    "renew_lead:before",
    "renew_lead:within",
    "release_lead:before",
    "release_lead:within",
    "release_lead:after",
)


def test_a_master_killed_at_each_step_leaves_a_search_like_any_other(
    harness: StoreHarness, shared: TrialStore, record: StudyRecord, tmp_path: Path
) -> None:
    num_trials = 16
    expected = calm(record.seed, num_trials)
    with Nursery(harness.url, "demo", tmp_path, lease_s=1.0) as nursery:
        for death in MASTER_DEATHS:
            # It releases the lead at the end; it renews it, and looks for silent workers, while there is nothing to do.
            most = 6 if death.startswith("re") else num_trials - 1
            role = "master" if death.startswith(("renew", "requeue")) else "alone"
            wait_for(lambda: shared.leader("demo") is None, "the dead master's lease to run out")
            pid = nursery.start(role, max_trials=most, death=death)
            assert nursery.wait(pid) == -signal.SIGKILL, f"{death}: {nursery.log}"
            found = essence(shared.trials("demo"))
            assert [each[:4] for each in found] == [each[:4] for each in expected[: len(found)]], death
    finish_search(shared, record, num_trials)
    assert essence(shared.trials("demo")) == expected
    assert [trial.attempts for trial in shared.trials("demo")] == [1] * num_trials


class Killer:
    """Ends a random process whenever a few more trials have ended, and starts another in its place."""

    def __init__(self, store: TrialStore, nursery: Nursery, num_trials: int, server: MongoServer | None) -> None:
        self.num_trials = num_trials
        self.random = random.Random(1)
        self.store = store
        self.nursery = nursery
        self.server = server
        self.master = nursery.start("master", max_trials=num_trials)
        self.workers = [nursery.start("worker") for _ in range(3)]
        self.num_killed = {"master": 0, "worker": 0, "server": 0}

    def run(self) -> None:
        next_kill = 3
        while (ended := self.num_ended()) < self.num_trials:
            if ended >= next_kill:
                self.kill_one()
                next_kill = ended + self.random.randint(4, 9)
            for pid in (self.master, *self.workers):
                assert not self.nursery.has_ended(pid) or pid == self.master, self.nursery.log
            time.sleep(0.05)

    def num_ended(self) -> int:
        return sum(number for state, number in self.store.counts("demo").items() if state.is_final)

    def kill_one(self) -> None:
        kinds = ["master", "master", *["worker"] * 4, *(["server"] if self.server else [])]
        kind = self.random.choice(kinds)
        if kind == "server":
            assert self.server is not None
            self.server.kill()
            self.server.start()
        elif kind == "master":
            if self.nursery.kill(self.master) == 0:
                return
            self.master = self.nursery.start("master", max_trials=self.num_trials)
        else:
            weak = {f"w{pid}" for pid in self.workers} & {
                trial.worker for trial in self.store.trials("demo") if trial.lost_workers and not trial.state.is_final
            }
            # A trial that loses three workers has failed, as it should: here it shall not.
            victims = [pid for pid in self.workers if f"w{pid}" not in weak]
            if not victims:
                return
            victim = self.random.choice(victims)
            assert self.nursery.kill(victim) == -signal.SIGKILL
            self.workers[self.workers.index(victim)] = self.nursery.start("worker")
        self.num_killed[kind] += 1


@pytest.mark.parametrize("kind", ["mongodb", "sqlite"])
def test_a_search_under_a_killer_ends_as_in_calm(
    kind: str, study: StudyRecord, record: StudyRecord, tmp_path: Path, mongod: Callable[[], MongoServer]
) -> None:
    """Every trial ends once, and the same best is found."""
    server = mongod() if kind == "mongodb" else None
    url = database_url(server.url, "trials") if server else f"sqlite:///{tmp_path}/trials.sqlite"
    with open_store(url) as store, Nursery(url, "demo", tmp_path, lease_s=2.0) as nursery:
        store.create_study(record)
        killer = Killer(store, nursery, NUM_TRIALS, server)
        killer.run()
        assert nursery.wait(killer.master) == 0
        trials = store.trials("demo")
    assert sum(killer.num_killed.values()) >= 15
    assert killer.num_killed["master"] >= 2
    assert killer.num_killed["worker"] >= 5
    assert killer.num_killed["server"] >= (2 if server else 0)
    expected = calm(record.seed, NUM_TRIALS)
    assert essence(trials) == expected
    best = min(trials, key=lambda trial: trial.loss)
    assert (best.number, best.loss) == min(((each[0], each[-1]) for each in expected), key=lambda each: each[1])

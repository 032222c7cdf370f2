"""What the tests of `trials_db` share: the stores under contract, and a study."""

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search_space.candidate import Candidate
from search_space.decode import encode
from tests.mongod import database_url
from trials_db.mongo_store import MongoStore
from trials_db.records import NewTrial, StudyRecord
from trials_db.sqlite_store import SqliteStore
from trials_db.store import TrialStore

# Child processes get the parent's sys.path; so they find the objectives that the tests hand to workers.
sys.path.insert(0, str(Path(__file__).parent))


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


class StoreHarness:
    """One store that several handles may share: what a kind of store provides to come under the contract."""

    def __init__(self, url: str, opener: Callable[[Clock], TrialStore]) -> None:
        self.url = url
        self.clock = Clock()
        self._opener = opener
        self._opened: list[TrialStore] = []

    def open(self) -> TrialStore:
        store = self._opener(self.clock)
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


def sqlite_harness(request: pytest.FixtureRequest) -> StoreHarness:
    path = request.getfixturevalue("tmp_path") / "trials.sqlite"
    return StoreHarness(f"sqlite:///{path}", lambda clock: SqliteStore(path, clock=clock))


def mongo_harness(request: pytest.FixtureRequest, server: str = "mongo_url") -> StoreHarness:
    """A database of its own on the server that all tests share."""
    url = database_url(request.getfixturevalue(server), f"mapgrove_test_{uuid.uuid4().hex}")
    return StoreHarness(url, lambda clock: MongoStore(url, clock=clock))


def replica_set_harness(request: pytest.FixtureRequest) -> StoreHarness:
    return mongo_harness(request, "replica_set_url")


HARNESSES: dict[str, Callable[[pytest.FixtureRequest], StoreHarness]] = {
    "sqlite": sqlite_harness,
    "mongodb": mongo_harness,
    "mongodb_replica_set": replica_set_harness,
}
"""Every kind of store; each runs through all of test_store_contract.py."""


@pytest.fixture(params=sorted(HARNESSES))
def harness(request: pytest.FixtureRequest) -> Iterator[StoreHarness]:
    made = HARNESSES[request.param](request)
    yield made
    made.close()


@pytest.fixture
def study() -> StudyRecord:
    return StudyRecord(
        name="demo",
        settings={"limits": {"max_trials": 10}, "space": {"architecture.depth": {"low": 2.0}}},
        space_fingerprint="space-1",
        data_fingerprint="data-1",
        seed=7,
        software={"backend": "tensorflow"},
    )


@pytest.fixture
def store(harness: StoreHarness, study: StudyRecord) -> TrialStore:
    opened = harness.open()
    opened.create_study(study)
    return opened


@pytest.fixture
def new_trial() -> Callable[[int], NewTrial]:
    def make(number: int) -> NewTrial:
        point: dict[str, int | float] = {"architecture.depth": 3.0, "plan.optimizer": 1}
        return NewTrial(number=number, point=point, candidate=encode(Candidate()), seed=100 + number)

    return make

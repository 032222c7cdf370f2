"""What `store_throughput.py` compares: our stores and Optuna's storages, each behind the same four calls."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

sys.path.insert(0, str(Path(__file__).parents[1]))

from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.objective import EpochReport, Outcome
from search_space.space import resolve_space
from search_space.study import SearchSettings
from trials_db.bridge import propose
from trials_db.mongo_store import MongoStore
from trials_db.records import NewTrial, StudyRecord, TrialState
from trials_db.sqlite_store import SqliteStore
from trials_db.store import TrialStore

try:
    import optuna
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState as TrialStates
    from sqlalchemy import event
except ImportError:
    sys.exit("Optuna is needed for this comparison: pip install optuna")

STUDY = "benchmark"
LEASE_S = 600.0
ENDED_BEFORE = UpdateFinishedTrialError
"""What Optuna raises where another worker has ended the trial."""

POINT = propose(resolve_space({}), [], 0, 1, SearchSettings()).point
CANDIDATE = encode(Candidate())


class Session(Protocol):
    """A worker's connection."""

    def add(self, number: int) -> None:
        """Let one more trial wait."""

    def claim(self) -> Any:
        """Begin a trial that waits; None where there is none."""

    def report(self, trial: Any) -> None:
        """Record one epoch."""

    def finish(self, trial: Any) -> None:
        """End it."""

    def num_ended(self) -> int:
        """Number of trials that are done and have one report, all others being an error."""


class Ours:
    """One of our stores, through the methods that a worker calls."""

    def __init__(self, store: TrialStore) -> None:
        self._store = store
        study = StudyRecord(name=STUDY, settings={}, space_fingerprint="", data_fingerprint="", seed=0)
        store.create_study(study)

    def add(self, number: int) -> None:
        """See `Session`."""
        self._store.add_trial(STUDY, NewTrial(number=number, point=POINT, candidate=CANDIDATE, seed=number))

    def claim(self) -> Any:
        """See `Session`."""
        return self._store.claim(STUDY, "worker", LEASE_S)

    def report(self, trial: Any) -> None:
        """See `Session`."""
        self._store.report(trial, EpochReport(epoch=1, training_loss=0.5, jaccard={"class": 0.5}))

    def finish(self, trial: Any) -> None:
        """See `Session`."""
        self._store.finish(trial, Outcome(state="done", loss=0.5))

    def num_ended(self) -> int:
        """See `Session`."""
        trials = self._store.trials(STUDY)
        return sum(each.state is TrialState.DONE and len(each.reports) == 1 for each in trials)


class Optunas:
    """One of Optuna's storages; see the module's docstring.

    Args:
        storage: Which.
        asks: Make the trial that is claimed.
    """

    def __init__(self, storage: Any, *, asks: bool = False) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(storage=storage, study_name=STUDY, load_if_exists=True)
        self._storage = self._study._storage
        self._asks = asks

    def add(self, number: int) -> None:
        """See `Session`."""
        if not self._asks:
            self._study.enqueue_trial({**POINT, "number": number})

    def claim(self) -> Any:
        """See `Session`."""
        return (
            self._storage.create_new_trial(self._study._study_id) if self._asks else self._study._pop_waiting_trial_id()
        )

    def report(self, trial: Any) -> None:
        """See `Session`."""
        self._storage.set_trial_intermediate_value(trial, 1, 0.5)

    def finish(self, trial: Any) -> None:
        """See `Session`."""
        self._storage.set_trial_state_values(trial, TrialStates.COMPLETE, [0.5])

    def num_ended(self) -> int:
        """See `Session`."""
        trials = self._study.get_trials(deepcopy=False)
        return sum(each.state == TrialStates.COMPLETE and each.intermediate_values == {1: 0.5} for each in trials)


def sqlite(place: str) -> Session:
    """Our file."""
    return Ours(SqliteStore(Path(place, "trials.sqlite")))


def sqlite_full(place: str) -> Session:
    """Our file, as it would be if it had to survive power cuts."""
    store = SqliteStore(Path(place, "trials.sqlite"))
    store._db.execute("PRAGMA synchronous = FULL")
    return Ours(store)


def rdb(place: str, *, wal: bool = False, asks: bool = False) -> Session:
    """Optuna's database in a SQLite file; it may wait long, as its documentation advises, so that no call fails."""
    storage = RDBStorage(f"sqlite:///{place}/optuna.sqlite", {"connect_args": {"timeout": 100}})
    if wal:
        event.listen(storage.engine, "connect", _use_wal)
        storage.engine.dispose()
    return Optunas(storage, asks=asks)


def _use_wal(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def journal(place: str, *, asks: bool = False) -> Session:
    """Optuna's journal in a file."""
    return Optunas(JournalStorage(JournalFileBackend(f"{place}/optuna.log")), asks=asks)


def import_all() -> None:
    """Import what Optuna imports late: workers that are forked off find it done."""
    RDBStorage("sqlite://").engine.dispose()


class Way(NamedTuple):
    """A line of the table.

    Attributes:
        connect: Opens the storage in a place: a folder or a database's URL.
        survives: What of the machine may die right after a call, and what it wrote stays.
        on_server: Whether its place is a database of the MongoDB server.
        asks: Whether a trial is made by whoever claims it.
    """

    connect: Callable[[str], Session]
    survives: str
    on_server: bool = False
    asks: bool = False


WAYS = {
    "Mapgrove, SQLite": Way(sqlite, "processes"),
    "Mapgrove, SQLite, synchronous = FULL": Way(sqlite_full, "all"),
    "Mapgrove, MongoDB": Way(lambda place: Ours(MongoStore(place)), "all", on_server=True),
    "Optuna RDB, SQLite": Way(rdb, "all"),
    "Optuna RDB, SQLite, asked": Way(partial(rdb, asks=True), "all", asks=True),
    "Optuna RDB, SQLite in WAL, synchronous = NORMAL, asked": Way(
        partial(rdb, wal=True, asks=True), "processes", asks=True
    ),
    "Optuna journal": Way(journal, "all"),
    "Optuna journal, asked": Way(partial(journal, asks=True), "all", asks=True),
}

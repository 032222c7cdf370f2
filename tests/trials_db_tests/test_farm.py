"""Small farms on a simulated clock: no trial is lost or ends twice, and a store that would lose one is found out."""

import re
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from search_space.objective import Outcome
from tests.mongod import database_url
from tests.trials_db_tests.farm.farm import Farm, FarmError, Plan, Result
from tests.trials_db_tests.farm.link import Faults
from tests.trials_db_tests.farm.mongo import open_mongo
from trials_db.mongo_store import MongoStore
from trials_db.records import Claim, Trial, TrialState
from trials_db.sqlite_store import SqliteStore
from trials_db.stopping import AwakeGuard

SMALL = {"num_workers": 20, "num_trials": 150}
HARSH = Faults(crash=0.04, stall=0.02, cut=0.01)
OUTAGES = Faults(crash=0.004, stall=0.001, cut=0.001, outage_every_s=150.0, outage_s=(100.0, 200.0))
HAPPENED = (
    *("killed", "masters killed", "stalled", "cut off", "answers lost", "outages"),
    *("lives lost", "handed back", "writes refused", "workers left"),
)
SEEDS = range(5)
"""Of so many seeds, one finds a planted fault."""


def on_sqlite(folder: Path, plan: Plan, kind: type[SqliteStore] = SqliteStore) -> Result:
    path = folder / f"{uuid.uuid4().hex}.sqlite"
    return Farm(plan, lambda world, _: kind(path, clock=lambda: world.now_s), is_atomic=True).run()


def on_mongodb(server: str, plan: Plan, kind: type[MongoStore] = MongoStore) -> Result:
    url = database_url(server, f"mapgrove_test_{uuid.uuid4().hex}")
    return Farm(plan, lambda world, link_of: open_mongo(url, world, link_of, kind), is_atomic=False).run()


def _check_ends(results: Sequence[Result], num_trials: int) -> None:
    """Every trial ended, and all that can go wrong has: else nothing was shown."""
    for result in results:
        assert sum(count for name, count in result.counts.items() if name.startswith("ended ")) == num_trials
    for what in HAPPENED:
        assert sum(result.counts.get(what, 0) for result in results) > 0, what


def test_every_trial_ends_once_in_a_file(tmp_path: Path) -> None:
    plans = [Plan(seed, num_workers=40, num_trials=300, faults=HARSH) for seed in range(2)]
    _check_ends([on_sqlite(tmp_path, plan) for plan in plans], 300)


def test_every_trial_ends_once_on_a_server(mongo_url: str) -> None:
    """Answers are lost within the store's methods, too, which ask again."""
    plans = [Plan(seed, num_workers=20, num_trials=100, faults=faults) for seed, faults in enumerate((HARSH, OUTAGES))]
    _check_ends([on_mongodb(mongo_url, plan) for plan in plans], 100)


def test_a_seed_does_the_same_again_and_another_one_does_not(tmp_path: Path) -> None:
    first, again, other = (on_sqlite(tmp_path, Plan(seed, num_workers=20, num_trials=60)) for seed in (5, 5, 6))
    assert again == first
    assert other.digest != first.digest


def test_a_seed_does_the_same_again_on_a_server(mongo_url: str) -> None:
    plan = Plan(5, num_workers=10, num_trials=30)
    assert on_mongodb(mongo_url, plan) == on_mongodb(mongo_url, plan)


class Unfenced(SqliteStore):
    """Whoever once claimed a trial may end it."""

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        with self.writing() as db:
            token = db.execute("SELECT token FROM trials WHERE number = ?", (claim.number,)).fetchone()["token"]
        super().finish(claim.model_copy(update={"token": token or claim.token}), outcome)


class SameToken(SqliteStore):
    """A trial that is claimed again has the token of its first claim."""

    def claim(self, study: str, worker: str, lease_s: float, only: Any = None) -> Claim | None:
        found = super().claim(study, worker, lease_s, only)
        if found is None:
            return None
        token = f"trial {found.number}"
        with self.writing() as db:
            db.execute("UPDATE trials SET token = ? WHERE number = ?", (token, found.number))
        return found.model_copy(update={"token": token})


class Generous(SqliteStore):
    """Where nothing is new, a trial is given away that runs."""

    def _lowest_new(self, study: str, only: Any) -> Any:
        with self.reading() as db:
            columns = "SELECT * FROM trials WHERE study = ? AND state = ?"
            running = db.execute(f"{columns} ORDER BY number LIMIT 1", (study, TrialState.RUNNING)).fetchone()
        return super()._lowest_new(study, only) or running


class Forgetful(SqliteStore):
    """Of many changes, the last one is left out."""

    def changed_since(self, study: str, cursor: str = "") -> tuple[list[Trial], str]:
        changed, cursor = super().changed_since(study, cursor)
        return changed[:-1] if len(changed) > 8 else changed, cursor


class Hasty(SqliteStore):
    """A lease runs out sooner than was said."""

    def _expired(self, study: str, at_s: float) -> Any:
        with self.reading() as db:
            columns = "SELECT * FROM trials WHERE study = ? AND state = ?"
            soon = (study, TrialState.RUNNING, at_s + 60.0)
            return db.execute(f"{columns} AND lease_until_s < ? ORDER BY number", soon).fetchall()


class Cruel(SqliteStore):
    """Two lives are enough."""

    def _take_away(self, study: str, number: int, lost: int) -> None:
        super()._take_away(study, number, lost + (lost == 2))


class Costly(SqliteStore):
    """A trial that was handed back has lost a life."""

    def release(self, claim: Claim) -> None:
        super().release(claim)
        with self.writing() as db:
            db.execute("UPDATE trials SET lost_workers = lost_workers + 1 WHERE number = ?", (claim.number,))


class Careless(SqliteStore):
    """An end is now and then told, and not written."""

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        if claim.number % 50 != 7:
            super().finish(claim, outcome)


class Unordered(SqliteStore):
    """The newest trial is tried first."""

    def _lowest_new(self, study: str, only: Any) -> Any:
        with self.reading() as db:
            columns = "SELECT * FROM trials WHERE study = ? AND state = ?"
            return db.execute(f"{columns} ORDER BY number DESC LIMIT 1", (study, TrialState.NEW)).fetchone()


FAULTS: Sequence[tuple[type[SqliteStore], str]] = (
    (Unfenced, "no longer holds trial .*, and could finish"),
    (SameToken, "no longer holds trial .*, and could"),
    (Generous, "is held by .*, and .* was given it"),
    (Forgetful, "who follows the changes sees .*, and there are"),
    (Hasty, "was taken from .* before its lease ran out"),
    (Cruel, "is told with .*'final'.* and has .*'new'|it was the turn of trial"),
    (Costly, "lost workers and epochs"),
    (Careless, "is told with .*'running'.* and has .*'final'|was taken from a worker, and it was final"),
    (Unordered, "it was the turn of trial"),
)


def _failure(run: Callable[[int], object], seeds: Sequence[int]) -> FarmError:
    """What the first of these seeds finds that finds anything."""
    for seed in seeds:
        try:
            run(seed)
        except FarmError as error:
            return error
    pytest.fail(f"none of {len(seeds)} seeds finds it")


@pytest.mark.parametrize(("kind", "told"), FAULTS, ids=[kind.__name__ for kind, _ in FAULTS])
def test_a_store_that_breaks_a_promise_is_found_out_and_its_seed_replays_it(
    tmp_path: Path, kind: type[SqliteStore], told: str
) -> None:
    def run(seed: int) -> Result:
        return on_sqlite(tmp_path, Plan(seed, **SMALL, faults=HARSH), kind)

    first = _failure(run, SEEDS)
    assert re.search(told, first.what), first.what
    assert str(first).startswith(f"seed {first.seed}, 20 workers, 150 trials, event {first.event}, after ")
    again = _failure(run, [first.seed])
    assert (again.event, again.digest, str(again)) == (first.event, first.digest, str(first))


class UnfencedMongo(MongoStore):
    """Whoever once claimed a trial may write about it while it runs."""

    def _update(self, collection: str, query: Any, values: Any) -> bool:
        return super()._update(collection, {key: query[key] for key in query if key != "token"}, values)


def test_a_server_without_fencing_is_found_out(mongo_url: str) -> None:
    first = _failure(lambda seed: on_mongodb(mongo_url, Plan(seed, **SMALL, faults=HARSH), UnfencedMongo), SEEDS)
    assert re.search("no longer holds trial .*, and could", first.what), first.what


def test_who_judges_at_once_after_an_outage_is_found_out(mongo_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that only the store kept waiting are about to renew."""
    monkeypatch.setattr(AwakeGuard, "may_judge", lambda _: True)
    first = _failure(lambda seed: on_mongodb(mongo_url, Plan(seed, **SMALL, faults=OUTAGES)), SEEDS)
    assert first.what.endswith("which only the store kept waiting"), first.what

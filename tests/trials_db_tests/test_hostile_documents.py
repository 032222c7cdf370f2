"""Documents that someone else wrote into the store: refused, named, nothing of them executed, and the study goes on."""

import ast
import json
import logging
import pickle
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest
from conftest import HARNESSES, StoreHarness
from trial_objectives import Synthetic, synthetic_loss

from search_space.candidate import Candidate
from search_space.decode import canonical_json, encode
from search_space.objective import EpochReport, Outcome
from search_space.space import resolve_space, space_fingerprint
from search_space.study import LimitSettings, SearchSettings
from trials_db.assignment import Assignment
from trials_db.errors import DamagedError, LeaseLostError
from trials_db.master import Master
from trials_db.mongo_documents import TRIAL_FIELDS
from trials_db.records import Claim, NewTrial, StudyRecord, TrialState, WorkerRecord
from trials_db.sqlite_store import SqliteStore
from trials_db.store import TrialStore
from trials_db.worker import Worker

ROOT = Path(__file__).parents[2]
DONE = Outcome(state="done", loss=0.25)
LEASE_S = 60.0
HUGE = 1_500_000
Maker = Callable[[int], NewTrial]


@pytest.fixture(params=["mongodb", "sqlite"])
def harness(request: pytest.FixtureRequest) -> Iterator[StoreHarness]:
    made = HARNESSES[request.param](request)
    yield made
    made.close()


class Planter:
    """Whoever can write the store: sets a field of one trial, whatever it is."""

    COLUMNS = {"proposal": "document", "created": "created_s", "finished": "finished_s", "lease_until": "lease_until_s"}

    def __init__(self, url: str) -> None:
        self.is_sqlite = url.startswith("sqlite")
        self._path = url.removeprefix("sqlite:///")
        self._client = None if self.is_sqlite else pymongo.MongoClient[dict[str, Any]](url)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    @property
    def database(self) -> Any:
        assert self._client is not None
        return self._client.get_default_database()

    def set(self, number: int, field: str, value: Any) -> None:
        if self.is_sqlite:
            column = self.COLUMNS.get(field, field)
            self._execute(
                f"UPDATE OR IGNORE trials SET {column} = ? WHERE study = 'demo' AND number = ?", value, number
            )
        else:
            self.mongo("trials", {"study": "demo", "number": number}, {"$set": {field: value}})

    def clear(self) -> None:
        """Take all trials away."""
        if self.is_sqlite:
            with sqlite3.connect(self._path) as db:
                db.executescript("DELETE FROM reports; DELETE FROM trials")
            db.close()
        else:
            self.database.trials.delete_many({})

    def set_report(self, number: int, value: Any) -> None:
        if self.is_sqlite:
            self._execute("UPDATE reports SET document = ?, jaccard = 'high' WHERE number = ?", value, number)
        else:
            self.set(number, "reports", {"1": value})

    def set_worker(self, value: Any) -> None:
        if self.is_sqlite:
            self._execute("UPDATE workers SET document = ? WHERE name = 'bad'", value)
        else:
            self.mongo("workers", {"_id.name": "bad"}, {"$set": {"document": value}})

    def set_study(self, value: Any) -> None:
        if self.is_sqlite:
            self._execute("UPDATE studies SET document = ? WHERE name = 'demo'", value)
        else:
            self.mongo("studies", {"_id": "demo"}, {"$set": {"document": value}})

    def mongo(self, collection: str, query: dict[str, Any], change: dict[str, Any]) -> None:
        assert self.database[collection].update_one(query, change).matched_count == 1

    def _execute(self, statement: str, *values: Any) -> None:
        with sqlite3.connect(self._path) as db:
            assert db.execute(statement, values).rowcount == 1
        db.close()


@pytest.fixture
def planter(harness: StoreHarness) -> Iterator[Planter]:
    made = Planter(harness.url)
    yield made
    made.close()


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.fuse,)


def hostile_proposals(good: NewTrial, fuse: Path) -> dict[str, Any]:
    """What stands in a trial's place, by what is wrong with it."""
    plain = encode(good)
    code = f"__import__('pathlib').Path({str(fuse)!r}).touch()"
    bomb = pickle.dumps(Bomb(fuse))

    def changed(**values: Any) -> str:
        return json.dumps({**plain, **values})

    return {
        "cut off": canonical_json(good)[:-9],
        "code": code,
        "yaml": f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{fuse}']]",
        "pickle": bomb,
        "pickle as text": bomb.decode("latin-1"),
        "pickle first protocol": pickle.dumps(Bomb(fuse), protocol=0).decode("latin-1"),
        "where": changed(**{"$where": code}),
        "class": changed(__class__="os.system", __reduce__=code),
        "jsonpickle": changed(**{"py/object": "pathlib.Path", "py/reduce": [{"py/type": "pathlib.Path"}, [str(fuse)]]}),
        "dots and dollars": changed(**{"a.$set.b": 1}),
        "code for a number": changed(seed=code),
        "missing field": json.dumps({key: value for key, value in plain.items() if key != "point"}),
        "wrong type": changed(point=[1, 2]),
        "another number": changed(number=good.number + 1000),
        "negative": changed(seed=-1),
        "task of a wrong type": changed(task=code),
        "nan": canonical_json(good).replace('"seed":', '"seed":NaN,"priority":'),
        "infinity": changed(point={"architecture.depth": float("inf")}),
        "infinity in disguise": canonical_json(good).replace("3.0", "1e999"),
        "infinity in the candidate": changed(candidate={"x": 0}).replace('"x": 0', '"x": 1e999'),
        "enormous integer": changed(point={"architecture.depth": 10**400}),
        "unreadable integer": canonical_json(good).replace("3.0", "9" * 10_000),
        "huge text": changed(candidate="x" * HUGE),
        "huge key": changed(**{"x" * HUGE: 1}),
        "deep": "[" * 200_000,
        "deep mapping": changed(candidate=0).replace(
            '"candidate": 0', '"candidate": ' + '{"a":' * 500 + "1" + "}" * 500
        ),
        "no text": 7,
    }


def test_hostile_trials_are_failed_ones_and_the_others_are_claimed(
    harness: StoreHarness,
    store: TrialStore,
    planter: Planter,
    new_trial: Maker,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fuse = tmp_path / "exploded"
    names = list(hostile_proposals(new_trial(0), fuse))
    bad = {2 * place: name for place, name in enumerate(names)}
    good = [number + 1 for number in bad]
    for number in range(2 * len(names)):
        store.add_trial("demo", new_trial(number))
    for number, name in bad.items():
        planter.set(number, "proposal", hostile_proposals(new_trial(number), fuse)[name])

    for _ in range(2):
        told = {trial.number: trial for trial in harness.open().trials("demo")}
        assert [bad[number] for number in bad if told[number].state is not TrialState.FAILED] == []
        assert [number for number in good if told[number].state is not TrialState.NEW] == []
    for number in bad:
        reason = told[number].outcome.reason
        assert f"trial {number} of study 'demo'" in reason
        assert len(reason) <= 300
        assert "\n" not in reason

    caplog.clear()
    claimed = []
    while (claim := store.claim("demo", "w", LEASE_S)) is not None:
        claimed.append(claim.number)
        store.finish(claim, DONE)
    assert claimed == good
    assert store.counts("demo") == dict.fromkeys(TrialState, 0) | {"failed": len(bad), "done": len(good)}
    assert [trial.state for trial in store.trials("demo")] == ["failed", "done"] * len(names)
    named = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(named) == len(set(named)) == len(bad), "each is named once, however often it is met"
    assert all(len(message) < 1000 for message in named)
    assert not fuse.exists()


FIELDS: dict[str, list[Any]] = {
    "state": ["enjoying", 7],
    "attempts": ["many", -1, 2**62],
    "lost_workers": ["some", -5],
    "created": ["yesterday"],
    "outcome": ["{", '{"state": "done", "loss": 0.1}', '{"state": "failed", "reason": ""}'],
    "finished": ["tomorrow"],
    "worker": [b"\xff\xfe", 7.5],
    "token": [b"\x00"],
    "lease_until": ["never", float("inf")],
    "changed": ["now", 2**62],
    "priority": ["high"],
}
MONGO_VALUES: dict[str, list[Any]] = {
    **{field: [{"$where": "sleep(1000)"}, ["$$NOW"], None, bson.Code("sleep(1000)")] for field in FIELDS},
    "created": [datetime(9999, 1, 1, tzinfo=UTC), bson.datetime_ms.DatetimeMS(2**62)],
    "changed": [datetime(9999, 1, 1, tzinfo=UTC), bson.datetime_ms.DatetimeMS(2**62), None],
    "version": ["first", None, float("nan"), -1, {"$inc": 1}],
    "schema": [99, "$$NOW", None],
    "reports": ["{}", [], {"one": "{}"}, {"1": {}}, {"99999999999999999999": "{}"}, {"-1": "{}"}, {"²": "{}"}, None],
    "scores": ["{}", {"1": "high"}, {"one": 0.5}, {"1": float("inf")}, None],
    "evil": ["a field that nobody knows"],
}


def damages(planter: Planter) -> list[tuple[str, Any]]:
    found = [(field, value) for field, values in FIELDS.items() for value in values]
    if not planter.is_sqlite:
        found += [(field, value) for field, values in MONGO_VALUES.items() for value in values]
    return found


def goes_through(store: TrialStore, claim: Claim) -> list[bool]:
    """Which writes about a trial the store still takes."""
    writes: list[Callable[[], None]] = [
        lambda: store.renew(claim),
        lambda: store.report(claim, EpochReport(epoch=2, training_loss=0.5)),
        lambda: store.finish(claim, DONE),
    ]
    done = []
    for write in writes:
        try:
            write()
        except LeaseLostError:
            done.append(False)
        else:
            done.append(True)
    return done


@pytest.mark.parametrize("when", ["new", "running", "done"])
def test_whatever_field_is_damaged_the_study_goes_on(
    harness: StoreHarness, store: TrialStore, planter: Planter, new_trial: Maker, when: str
) -> None:
    """Each method works, or tells a worker that the trial is no longer its own; then the next trial is claimed."""
    for field, value in damages(planter):
        planter.clear()
        store.add_trial("demo", new_trial(0))
        claim = None
        if when != "new":
            claim = store.claim("demo", "first", LEASE_S)
            assert claim is not None
            store.report(claim, EpochReport(epoch=1, training_loss=0.5, jaccard={"water": 0.5}))
        if when == "done":
            store.finish(claim, DONE)
        planter.set(0, field, value)
        if claim is not None:
            through = goes_through(store, claim)
            assert all(through) or field in ("state", "token") or when == "done"
            store.scores("demo", 1)
        harness.clock.now_s += 4 * LEASE_S
        store.requeue_expired("demo")
        assert sum(store.counts("demo").values()) == 1, (field, value)
        store.add_trial("demo", new_trial(1))
        claimed = []
        while (claim := store.claim("demo", "second", LEASE_S)) is not None:
            claimed.append(claim.number)
            store.finish(claim, DONE)
        assert 1 in claimed, (field, value)
        damaged, good = store.trials("demo")
        assert good.state is TrialState.DONE
        assert damaged.state.is_final, (field, value, damaged.state)


@pytest.mark.parametrize("days", [3, 3_000, 2_500_000])
def test_a_lease_in_times_to_come_keeps_no_trial(
    store: TrialStore, planter: Planter, new_trial: Maker, days: int
) -> None:
    store.add_trial("demo", new_trial(0))
    store.claim("demo", "first", LEASE_S)
    until_s = store.now() + days * 86_400
    planter.set(0, "lease_until", until_s if planter.is_sqlite else datetime.fromtimestamp(until_s, UTC))
    assert store.requeue_expired("demo") == [0]
    assert store.claim("demo", "second", LEASE_S) is not None


@pytest.mark.parametrize("value", ['{"epoch": 1}', "[]", "[" * 100_000, b"\x80\x04", 5])
def test_a_damaged_report_costs_one_trial(store: TrialStore, planter: Planter, new_trial: Maker, value: Any) -> None:
    for number in range(3):
        store.add_trial("demo", new_trial(number))
        claim = store.claim("demo", "w", LEASE_S)
        store.report(claim, EpochReport(epoch=1, training_loss=0.5, jaccard={"water": 0.1 * number}))
        store.finish(claim, DONE)
    planter.set_report(1, value)
    trials = store.trials("demo")
    assert [trial.state for trial in trials] == ["done", "failed", "done"]
    assert "a report of trial 1 of study 'demo'" in trials[1].outcome.reason
    assert trials[1].point == trials[0].point, "what can be read is told"
    assert store.scores("demo", 1).keys() >= {0, 2}
    assert all(isinstance(score, float) for score in store.scores("demo", 1).values())


@pytest.mark.parametrize("value", ["seven", b"\x07", 2.5, -7])
def test_a_trial_without_a_number_is_left_out_and_may_be_proposed_again(
    store: TrialStore, planter: Planter, new_trial: Maker, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        store.add_trial("demo", new_trial(number))
    planter.set(0, "number", value)
    assert [trial.number for trial in store.trials("demo")] == [1]
    assert "that is no number of a trial" in caplog.text
    assert store.add_trial("demo", new_trial(0))
    claimed = set()
    while (claim := store.claim("demo", "w", LEASE_S)) is not None:
        claimed.add(claim.number)
        store.finish(claim, DONE)
    assert claimed == {0, 1}
    assert [trial.state for trial in store.trials("demo")] == ["done", "done"]


def test_a_change_in_times_to_come_hides_no_other(store: TrialStore, planter: Planter, new_trial: Maker) -> None:
    for number in range(2):
        store.add_trial("demo", new_trial(number))
    planter.set(0, "changed", 2**60 if planter.is_sqlite else datetime(9999, 1, 1, tzinfo=UTC))
    cursor = store.changed_since("demo")[1]
    for number in range(2, 5):
        store.add_trial("demo", new_trial(number))
        told, cursor = store.changed_since("demo", cursor)
        assert number in [trial.number for trial in told]


def test_a_damaged_worker_is_left_out(store: TrialStore, planter: Planter, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("bad", "good"):
        store.heartbeat(WorkerRecord(name=name, host="here", pid=1, study="demo"))
    planter.set_worker("[]")
    for _ in range(3):
        assert [worker.name for worker in store.workers("demo")] == ["good"]
    assert caplog.text.count("a worker of study 'demo': it is no JSON mapping") == 1


@pytest.mark.parametrize("value", ["{}", "[", 3, '{"$where": "1"}', "[" * 100_000])
def test_a_damaged_study_is_refused_and_the_others_go_on(
    store: TrialStore, planter: Planter, study: StudyRecord, new_trial: Maker, value: Any
) -> None:
    store.create_study(study.model_copy(update={"name": "other"}))
    store.add_trial("other", new_trial(0))
    planter.set_study(value)
    with pytest.raises(DamagedError, match=r"damaged document, study 'demo': .*Restore the store from a copy"):
        store.load_study("demo")
    assert set(store.list_studies()) == {"demo", "other"}
    assert store.load_study("other").name == "other"
    assert store.claim("other", "w", LEASE_S).number == 0


def test_a_study_that_an_earlier_version_wrote_takes_other_settings(
    store: TrialStore, planter: Planter, study: StudyRecord
) -> None:
    """Before there was `software`, and with spaces."""
    planter.set_study(json.dumps({key: value for key, value in encode(study).items() if key != "software"}))
    raised = study.model_copy(update={"settings": {**study.settings, "limits": {"max_trials": 20}}})
    assert store.update_study_settings(raised, ["limits.max_trials"]) == raised
    assert store.load_study("demo") == raised


@pytest.mark.parametrize("harness", ["mongodb"], indirect=True)
def test_every_field_that_the_store_writes_is_known(store: TrialStore, planter: Planter, new_trial: Maker) -> None:
    """A field more, and every trial would be refused: this tells whoever adds one where to name it."""
    for number in range(2):
        store.add_trial("demo", new_trial(number))
    store.report(store.claim("demo", "w", LEASE_S), EpochReport(epoch=1, training_loss=0.5, jaccard={"water": 0.5}))
    store.finish(store.claim("demo", "w", LEASE_S), DONE)
    written = {key for each in planter.database.trials.find() for key in each}
    assert written == TRIAL_FIELDS


@pytest.mark.parametrize("harness", ["mongodb"], indirect=True)
def test_a_field_that_is_missing_ends_at_most_its_trial(store: TrialStore, planter: Planter, new_trial: Maker) -> None:
    may_lack = {
        "priority",
        "worker",
        "token",
        "lease_until",
        "started",
        "finished",
        "outcome",
        "scores",
        "loss",
        "last_epoch",
    }
    # Written anew by the claim.
    may_lack |= {"version", "changed"}
    found = {}
    for field in sorted(TRIAL_FIELDS - {"_id", "study"}):
        planter.clear()
        for number in range(2):
            store.add_trial("demo", new_trial(number))
        planter.mongo("trials", {"number": 0}, {"$unset": {field: ""}})
        assert 1 in [trial.number for trial in store.trials("demo")]
        while (claim := store.claim("demo", "w", LEASE_S)) is not None:
            store.finish(claim, DONE)
        *damaged, good = store.trials("demo")
        assert good.state is TrialState.DONE
        found[field] = damaged[0].state if damaged else None
    lacking = {field: "done" if field in may_lack else "failed" for field in TRIAL_FIELDS - {"_id", "study"}}
    assert found == lacking | {"number": None}


BLOCKS = [
    {"architecture": {"block": {"kind": "os.system"}}},
    {"architecture": {"encoder": {"kind": "__import__('os')"}}},
    {"architecture": "../../etc/passwd"},
    {"$where": "sleep(1000)"},
    {},
]


def test_a_worker_goes_on_after_candidates_that_are_none(
    tmp_path: Path, study: StudyRecord, new_trial: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    """A class's name in a candidate is a word like any other."""
    with SqliteStore(tmp_path / "trials.sqlite") as store:
        store.create_study(study)
        for number, wrong in enumerate(BLOCKS):
            candidate = {**encode(Candidate()), **wrong} if wrong else {"architecture": {}, "x": 1}
            store.add_trial("demo", new_trial(number).model_copy(update={"candidate": candidate}))
        store.add_trial("demo", new_trial(len(BLOCKS)))
        worker = Worker(store, [Assignment(study, Synthetic(), tmp_path)])
        assert worker.run(threading.Event(), idle_exit_s=0.0) == len(BLOCKS) + 1
        trials = store.trials("demo")
    assert [trial.state for trial in trials] == ["failed"] * len(BLOCKS) + ["done"]
    for trial in trials[:-1]:
        assert trial.outcome.reason.startswith("damaged in the store: its candidate")
        assert f"trial {trial.number}: damaged in the store" in caplog.text
        assert trial.known() is None


POINTS: list[dict[str, Any]] = [
    {"plan.optimizer": 99},
    {"plan.optimizer": -1},
    {"plan.optimizer": 1.5},
    {"architecture.depth": 10**12},
    {"plan.learning_rate": -1.0},
    {"plan.learning_rate": 0.0},
    {"__class__": 1},
]


def test_a_master_goes_on_after_points_that_it_cannot_have_proposed(
    tmp_path: Path, study: StudyRecord, caplog: pytest.LogCaptureFixture
) -> None:
    space = resolve_space({})
    record = study.model_copy(update={"space_fingerprint": space_fingerprint(space)})
    settings = SearchSettings(startup_trials=2, lookahead=1)
    limits = LimitSettings(max_trials=len(POINTS) + 6)
    with SqliteStore(tmp_path / "trials.sqlite") as store:
        store.create_study(record)

        def work(_: object) -> None:
            while (claim := store.claim("demo", "here", LEASE_S)) is not None:
                trial = next(trial for trial in store.trials("demo") if trial.number == claim.number)
                store.finish(claim, Outcome(state="done", loss=synthetic_loss(trial.decoded())))
                if claim.number < len(POINTS):
                    stored = encode(trial.proposal)
                    stored["point"] |= POINTS[claim.number]
                    Planter(f"sqlite:///{store.path}").set(claim.number, "proposal", json.dumps(stored))

        for _ in range(2):
            # The second one reads them all from the start.
            Master(store, record, space, settings, limits).run(threading.Event(), work)
            limits = LimitSettings(max_trials=limits.max_trials + 3)
        assert [trial.state for trial in store.trials("demo")] == ["done"] * (len(POINTS) + 9)
    for number in range(len(POINTS)):
        assert f"the point of trial {number} is none of the study's space" in caplog.text


EXECUTING = {
    "pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "yaml",
    "imp",
    "importlib",
    "runpy",
    "code",
}
CALLS = {"eval", "exec", "compile", "__import__", "recv", "execfile"}
READERS = ("trials_db", "results", "verbs", "search_space", "run_search.py")
"""All that the store's documents pass through on their way to the training, and to the user."""

ALLOWED = {
    # The objective on its way from a worker to the process that it starts, by a pipe; and what that process answers.
    "trials_db/worker.py: import pickle",
    "trials_db/worker.py: pickle.dumps",
    "trials_db/child.py: import pickle",
    "trials_db/child.py: pickle.loads",
    "trials_db/process.py: import pickle",
    "trials_db/process.py: pickle.PicklingError",
    "trials_db/process.py: recv()",
    # A verb's module, by its name in a list of ours.
    "verbs/demo.py: import importlib",
    "verbs/demo.py: importlib.import_module",
    "run_search.py: import importlib",
    "run_search.py: importlib.import_module",
}


def executing(path: Path, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (f"import {each.name}" for each in names if each.name.partition(".")[0] in EXECUTING)
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] in EXECUTING:
                yield from (f"import {module}.{each.name}" for each in names)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in EXECUTING:
                yield f"{name}.{attribute}"
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                yield f"{name}()"
            case ast.Call(func=ast.Attribute(attr="recv")):
                yield "recv()"


def test_nothing_that_reads_the_store_can_unpickle_or_evaluate() -> None:
    files = [
        path for name in READERS for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
    ]
    assert len(files) > 50
    found = {
        f"{path.relative_to(ROOT)}: {what}"
        for path in files
        for what in executing(path, path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED
    child = (ROOT / "trials_db" / "child.py").read_text(encoding="utf-8")
    assert child.count("pickle.loads(job.objective)") == child.count("pickle.loads(") == 1

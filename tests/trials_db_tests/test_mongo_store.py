"""What only the MongoDB store meets: servers that go away, URIs, documents that others wrote."""

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pymongo
import pytest
from pymongo.errors import AutoReconnect
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from search_space.objective import EpochReport, Outcome
from tests.mongod import MongoServer, database_url
from trials_db import mongo_server, reaping
from trials_db.errors import StoreError
from trials_db.mongo_store import OVERLAP, MongoStore
from trials_db.opening import open_store
from trials_db.reaping import Reaper
from trials_db.records import NewTrial, StudyRecord, TrialState
from trials_db.stopping import AwakeGuard

DONE = Outcome(state="done", loss=0.25)
Maker = Callable[[int], NewTrial]


class Clock:
    """A server's clock that the test turns."""

    now_s = 1e9

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def url(mongo_url: str) -> str:
    return database_url(mongo_url, f"mapgrove_test_{uuid.uuid4().hex}")


@pytest.fixture
def store(url: str, study: StudyRecord) -> Iterator[MongoStore]:
    with MongoStore(url) as opened:
        opened.create_study(study)
        yield opened


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MongoServer]:
    """A server of the test's own, which it may end."""
    with MongoServer(tmp_path / "mongod") as started:
        yield started


@pytest.fixture
def raw(url: str) -> Iterator[Any]:
    """The database as anybody with a client sees it."""
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        yield client.get_default_database()


class TestServersThatGoAway:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mongo_server, "CALL_MS", 2000)
        monkeypatch.setattr(mongo_server, "REACH_S", 2.0)

    @pytest.mark.parametrize("end", ["stop", "kill", "freeze"])
    def test_work_goes_on_when_the_server_is_back(
        self, server: MongoServer, study: StudyRecord, new_trial: Maker, end: str
    ) -> None:
        """Whatever is asked meanwhile waits; what was finished stays finished."""
        with MongoStore(database_url(server.url, "trials")) as store:
            store.create_study(study)
            for number in range(3):
                store.add_trial("demo", new_trial(number))
            first = store.claim("demo", "w", 60.0)
            second = store.claim("demo", "w", 60.0)
            assert first is not None
            assert second is not None
            store.finish(first, DONE)
            getattr(server, end)()
            answers: list[Any] = []
            asked = [
                threading.Thread(target=lambda: answers.append(store.finish(second, DONE))),
                threading.Thread(target=lambda: answers.append(store.claim("demo", "w", 60.0))),
            ]
            for thread in asked:
                thread.start()
            time.sleep(4.0)
            assert not answers, "they wait"
            if end == "freeze":
                server.thaw()
            else:
                server.start()
            for thread in asked:
                thread.join(timeout=60)
            trials = store.trials("demo")
            assert [trial.state for trial in trials] == [TrialState.DONE, TrialState.DONE, TrialState.RUNNING]
            assert [trial.attempts for trial in trials] == [1, 1, 1]

    def test_who_had_to_wait_for_the_server_takes_no_trial_away(
        self, url: str, study: StudyRecord, new_trial: Maker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The workers had to wait as well; the next call takes what they have not renewed by then."""
        monkeypatch.setattr(mongo_server, "PAUSE_S", 0.01)
        clock = Clock()
        with MongoStore(url, clock=clock) as store, MongoStore(url, clock=clock) as worker:
            store.create_study(study)
            for number in range(2):
                store.add_trial("demo", new_trial(number))
            about_to_renew = worker.claim("demo", "w", 60.0)
            worker.claim("demo", "gone", 60.0)
            assert about_to_renew is not None
            db, answers = store._server._db, [AutoReconnect("away")]

            class Away:
                """The server, gone for longer than the lease when it is asked for the first time."""

                def __getattr__(self, name: str) -> Any:
                    if answers:
                        clock.now_s += 100.0
                        raise answers.pop()
                    return getattr(db, name)

                def __getitem__(self, name: str) -> Any:
                    return db[name]

            monkeypatch.setattr(AwakeGuard, "may_judge", lambda _: True)
            monkeypatch.setattr(reaping, "MOST_OFTEN_S", 0.0)
            reaper = Reaper(store)
            reaper.watch("demo", 60.0)
            store._server._db = Away()
            assert reaper.look("demo") == [], "it had made sure of being awake before the server went"
            worker.renew(about_to_renew)
            assert reaper.look("demo") == [1]

    def test_a_server_that_was_never_reached_is_told_at_once(self, tmp_path: Path) -> None:
        begun = time.monotonic()
        with pytest.raises(
            StoreError, match=r"mongodb://someone:\*\*\*@127\.0\.0\.1:1/x is not reached, tried for \d+ s"
        ):
            open_store("mongodb://someone:s3cret@127.0.0.1:1/x")
        assert time.monotonic() - begun < 20

    def test_who_is_asked_to_stop_waits_no_longer(
        self, server: MongoServer, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mongo_server, "LEAVING_S", 2.0)
        stop = threading.Event()
        with MongoStore(database_url(server.url, "trials")) as store:
            store.create_study(study)
            store.heed(stop)
            server.kill()
            threading.Timer(1.0, stop.set).start()
            begun = time.monotonic()
            with pytest.raises(StoreError, match="Check that the server runs"):
                store.trials("demo")
            assert time.monotonic() - begun < 30

    def test_patience_has_an_end(
        self, server: MongoServer, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mongo_server, "PATIENCE_S", 3.0)
        with MongoStore(database_url(server.url, "trials")) as store:
            store.create_study(study)
            server.kill()
            with pytest.raises(StoreError, match=r"tried for \d+ s"):
                store.trials("demo")


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("mongodb://", "cannot be read"),
            ("mongodb://host:port/x", "cannot be read"),
            ("mongodb://user:pa@ss:w/ord@host/x", "cannot be read"),
            ("mongodb://user:pa@xyzzy/x@host:1/x?serverSelectionTimeoutMS=5", r"cannot be read.*%40"),
            ("mongodb://host/x?w=many&tls=perhaps", "cannot be read"),
            (
                "mongodb://user:pa%40ss@host/x?serverSelectionTimeoutMS=abc",
                r"read \(serverselectiontimeoutms must",
            ),
        ],
    )
    def test_what_is_no_uri_is_told_without_its_password(self, url: str, told: str) -> None:
        with pytest.raises(StoreError, match=told) as caught:
            open_store(url)
        assert "xyzzy" not in str(caught.value)
        assert not re.search("pa(@|%40)ss", str(caught.value))
        assert "ord@host" not in str(caught.value)

    def test_the_database_is_mapgrove_where_none_is_named(self, mongo_url: str) -> None:
        with MongoStore(mongo_url), pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
            assert "schema" in client["mapgrove"].list_collection_names()

    def test_a_store_that_is_not_there_is_not_made(self, url: str, raw: Any) -> None:
        with pytest.raises(StoreError, match="holds no study"):
            open_store(url, create=False)
        assert raw.list_collection_names() == []

    def test_a_later_version_is_refused(self, store: MongoStore, url: str, raw: Any) -> None:
        raw.schema.update_one({"_id": "mapgrove"}, {"$set": {"version": 99}})
        with pytest.raises(StoreError, match="has version 99, this Mapgrove reads 1"):
            open_store(url)

    def test_timeouts_that_the_uri_names_go_before_ours(self, url: str) -> None:
        options = "socketTimeoutMS=1500&CONNECTTIMEOUTMS=1600&serverSelectionTimeoutMS=1700&appName=mine"
        for said, expected in (("", (20.0, 20.0, 10.0, "mapgrove")), (f"?{options}", (1.5, 1.6, 1.7, "mine"))):
            with MongoStore(url + said) as opened:
                found = opened._server._client.options
                pool = found.pool_options
                assert (
                    pool.socket_timeout,
                    pool.connect_timeout,
                    found.server_selection_timeout,
                    pool.appname,
                ) == expected

    def test_what_was_just_written_is_read_whatever_the_uri_prefers(
        self, replica_set_url: str, study: StudyRecord
    ) -> None:
        """There is no secondary, and of one that lags a worker would not learn what it holds."""
        url = database_url(replica_set_url, f"mapgrove_test_{uuid.uuid4().hex}")
        with MongoStore(f"{url}&readPreference=secondary") as store:
            store.create_study(study)
            assert store.load_study("demo") == study

    def test_a_wrong_password_is_told_and_not_shown(self, tmp_path: Path) -> None:
        """A password with every character that has a meaning in URIs."""
        password = "p@ss:w/o?r#d%&"
        with MongoServer(tmp_path / "guarded") as server:
            with pymongo.MongoClient[dict[str, Any]](server.url) as client:
                roles = [{"role": "readWrite", "db": "trials"}]
                client["trials"].command("createUser", "worker", pwd=password, roles=roles)
            there = f"127.0.0.1:{server.port}/trials"
            with open_store(f"mongodb://worker:{quote_plus(password)}@{there}") as store:
                assert store.list_studies() == []
            wrong = quote_plus(password + "x")
            with pytest.raises(StoreError, match="the user name or the password is wrong") as caught:
                open_store(f"mongodb://worker:{wrong}@{there}")
            assert wrong not in str(caught.value)
            assert password not in str(caught.value)


class TestDocumentsOfOthers:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"$set": {"proposal": "{"}}, "it is no JSON mapping"),
            ({"$set": {"proposal": {"$where": "sleep(1000)"}}}, "it is no JSON mapping"),
            ({"$set": {"proposal": '{"__class__": "os.system"}'}}, "unknown key '__class__'"),
            ({"$unset": {"proposal": ""}}, "it is no JSON mapping"),
            ({"$set": {"state": "enjoying"}}, "state"),
            ({"$unset": {"attempts": ""}}, "attempts"),
            ({"$set": {"attempts": -1}}, "attempts"),
            ({"$set": {"outcome": '{"state": "done", "loss": "low"}'}}, "loss"),
            ({"$set": {"reports": {"1": "[]"}}}, "a report of trial 0"),
            ({"$set": {"reports": {"one": "{}"}}}, "reports"),
            ({"$set": {"created": "yesterday"}}, "created"),
            ({"$unset": {"created": ""}}, "created"),
            ({"$set": {"evil": 1}}, "unknown key 'evil'"),
            ({"$set": {"schema": 99}}, "its version is 99, and this Mapgrove reads 1"),
        ],
    )
    def test_damaged_ones_are_named_and_the_others_live(
        self,
        store: MongoStore,
        raw: Any,
        new_trial: Maker,
        study: StudyRecord,
        change: dict[str, Any],
        told: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for number in range(2):
            store.add_trial("demo", new_trial(number))
        store.create_study(study.model_copy(update={"name": "other"}))
        store.add_trial("other", new_trial(0))
        raw.trials.update_one({"study": "demo", "number": 0}, change)

        bad, good = store.trials("demo")
        assert (bad.state, good.state) == (TrialState.FAILED, TrialState.NEW)
        assert bad.outcome is not None
        assert "trial 0 of study 'demo'" in str(bad.outcome.reason)
        assert told in str(bad.outcome.reason)
        assert told in caplog.text
        assert "Restore the store" in caplog.text
        assert [trial.state for trial in store.trials("other")] == [TrialState.NEW]

    def test_names_are_only_names(self, store: MongoStore, study: StudyRecord, new_trial: Maker) -> None:
        """Dollars and dots mean nothing in what is kept and asked for."""
        name = "$where.{$gt: ''}/../x"
        store.create_study(study.model_copy(update={"name": name, "settings": {"$set": {"a.b": "$$NOW"}}}))
        store.add_trial(name, new_trial(0))
        claim = store.claim(name, "$number", 60.0)
        assert claim is not None
        store.report(claim, EpochReport(epoch=1, training_loss=0.5, jaccard={"$inc": 0.5}))
        store.finish(claim, Outcome(state="failed", reason="$lease_until"))

        (trial,) = store.trials(name)
        assert (trial.worker, trial.state) == ("$number", TrialState.FAILED)
        assert trial.outcome is not None
        assert trial.outcome.reason == "$lease_until"
        assert trial.reports[0].jaccard == {"$inc": 0.5}
        assert store.load_study(name).settings == {"$set": {"a.b": "$$NOW"}}
        lead = store.acquire_lead(name, "$owner", 60.0)
        assert lead is not None
        assert store.leader(name) == "$owner"


class Commands(CommandListener):
    """Counts what is sent to a server."""

    num_sent = 0

    def started(self, event: CommandStartedEvent) -> None:
        self.num_sent += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing more."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing more."""


def test_each_call_about_a_trial_goes_to_the_server_once(
    url: str, study: StudyRecord, new_trial: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way there and back, and the wait for the server's disk, are nearly all that a call takes."""
    sent = Commands()
    monkeypatch.setattr(mongo_server, "MongoClient", partial(pymongo.MongoClient, event_listeners=[sent]))
    with MongoStore(url) as store:
        store.create_study(study)
        # The first one looks whether there is such a study.
        store.add_trial("demo", new_trial(0))
        before, num_calls = sent.num_sent, 9
        store.add_trial("demo", new_trial(1))
        for outcome in (None, DONE):
            claim = store.claim("demo", "w", 60.0)
            assert claim is not None
            store.renew(claim)
            store.report(claim, EpochReport(epoch=1, training_loss=0.5, jaccard={"water": 0.5}))
            store.finish(claim, outcome) if outcome else store.release(claim)
        assert sent.num_sent - before == num_calls


class TestChanges:
    def test_a_change_that_becomes_visible_late_is_told(self, store: MongoStore, raw: Any, new_trial: Maker) -> None:
        """A write that another one overtook has an earlier time than what was told already."""
        for number in range(2):
            store.add_trial("demo", new_trial(number))
        _, cursor = store.changed_since("demo")
        late = raw.trials.find_one({"number": 0})
        earlier = late["changed"] - OVERLAP / 2
        raw.trials.update_one({"number": 0}, {"$set": {"changed": earlier, "attempts": 1}, "$inc": {"version": 1}})

        told, cursor = store.changed_since("demo", cursor)

        assert [trial.number for trial in told] == [0]
        assert store.changed_since("demo", cursor)[0] == []

    def test_every_query_has_an_index(self, store: MongoStore, raw: Any, new_trial: Maker) -> None:
        for number in range(50):
            store.add_trial("demo", new_trial(number))
        db = raw
        now = {"$expr": {"$lt": ["$lease_until", "$$NOW"]}}
        queries = [
            {"study": "demo", "number": 3},
            {"study": "demo", "state": "new"},
            {"study": "demo", "state": "running", **now},
            {"study": "demo", "changed": {"$gte": db.trials.find_one()["changed"]}},
            {"study": "demo", "token": "abc"},
        ]
        best = db.trials.find({"study": "demo", "loss": {"$type": "number"}}).sort([("loss", 1), ("number", 1)])
        plan = str(best.explain()["queryPlanner"]["winningPlan"])
        assert "COLLSCAN" not in plan
        assert "'SORT'" not in plan, "it reads all losses"
        for query in queries:
            plan = db.trials.find(query).sort("number", 1).explain()["queryPlanner"]["winningPlan"]
            assert "COLLSCAN" not in str(plan), query

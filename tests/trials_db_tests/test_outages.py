"""What all share goes away, the server, the network, the room on the disk: nothing is lost, nothing is done twice.

Namespaces need rights that not every machine gives; where they are missing, the tests that use them are skipped.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock
from nursery import Nursery
from nursery_process import HELD_FROM, HOLD
from silent_line import SilentLine
from test_kills import SPACE, calm, essence
from trial_objectives import Synthetic
from waiting import wait_for

from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.objective import EpochReport, Outcome
from search_space.space import space_fingerprint
from tests.mongod import MongoServer, database_url, mongod_path
from trials_db import sqlite_file
from trials_db.assignment import Assignment, WorkerLimits
from trials_db.errors import StoreError, StoreFullError
from trials_db.opening import open_store
from trials_db.records import NewTrial, StudyRecord, TrialState, WorkerRecord
from trials_db.sqlite_store import SqliteStore
from trials_db.store import TrialStore
from trials_db.worker import Worker

pytestmark = pytest.mark.timeout(900)

HERE = Path(__file__).parent
LEASE_S = 1.5
AWAY_S = float(os.environ.get("MAPGROVE_TEST_AWAY_S", "6"))
"""How long the server is away: several leases, and no longer than the suite can wait for."""

DONE = Outcome(state="done", loss=0.25)


def record() -> StudyRecord:
    return StudyRecord(
        name="demo", settings={}, space_fingerprint=space_fingerprint(SPACE), data_fingerprint="data-1", seed=7
    )


@pytest.mark.parametrize(("end", "replica_set"), [("stop", ""), ("kill", "tests")])
def test_a_search_outlives_its_server(end: str, replica_set: str, tmp_path: Path) -> None:
    """MongoDB stopped or killed for several leases while trials run and end, and started again with its data."""
    num_trials = 16
    hold = tmp_path / HOLD
    hold.touch()
    with MongoServer(tmp_path / "mongod", replica_set=replica_set) as server:
        url = database_url(server.url, "trials")
        # A driver that waits for longer would ask no second time.
        impatient = url + ("&" if "?" in url else "?") + "serverSelectionTimeoutMS=1000"
        with open_store(url) as store, Nursery(impatient, "demo", tmp_path, lease_s=LEASE_S) as nursery:
            store.create_study(record())
            pids = [nursery.start("worker", max_trials=num_trials) for _ in range(2)]
            pids.append(nursery.start("master", max_trials=num_trials))
            wait_for(lambda: held(store) == 2, "both workers to run trials that are held")
            getattr(server, end)()
            time.sleep(AWAY_S / 2)
            hold.unlink()
            time.sleep(AWAY_S / 2)
            assert not any(map(nursery.has_ended, pids)), nursery.log
            server.start()
            assert nursery.wait(pids[-1]) == 0, nursery.log
            assert not any(map(nursery.has_ended, pids[:-1])), nursery.log
            trials = store.trials("demo")
        assert essence(trials) == calm(7, num_trials)
        assert [len(trial.reports) for trial in trials] == [1] * num_trials
        assert nursery.log.count("is out of reach; trying again") >= 3
        assert "Traceback" not in nursery.log


def held(store: TrialStore) -> int:
    """How many trials run that are held."""
    return sum(each.state is TrialState.RUNNING and each.number >= HELD_FROM for each in store.trials("demo"))


def survive_a_cut(
    here: str, there: str, prefix: Sequence[str], cut: Callable[[], None], mend: Callable[[], None], folder: Path
) -> None:
    """A worker loses sight of the server for longer than its lease, and writes when it sees it again.

    Args:
        here: The store as the others see it.
        there: As the worker that is cut off sees it.
        prefix: Words before its command.
        cut: Lets its connections fall silent.
        mend: Lets them go on.
        folder: For files.
    """
    gate, log = folder / "gate", folder / "cut_off.log"
    options = "?socketTimeoutMS=1000&connectTimeoutMS=1000&serverSelectionTimeoutMS=1000&directConnection=true"
    command = [sys.executable, str(HERE / "worker_process.py"), f"{there}{options}", "demo"]
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    with open_store(here) as store, log.open("w") as output:
        store.create_study(record())
        store.add_trial("demo", NewTrial(number=0, point={}, candidate=encode(Candidate()), seed=1))
        cut_off = subprocess.Popen(
            [*prefix, *command, str(folder), str(gate), str(LEASE_S)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=output,
            stderr=output,
        )
        try:
            wait_for(gate.with_suffix(".pid").exists, "the trial to run")
            wait_for(lambda: store.trials("demo")[0].reports, "its first epoch to be told")
            cut()
            # Another worker waits for the lease, takes the trial and ends it.
            other = Worker(store, [Assignment(record(), Synthetic(), folder, WorkerLimits(lease_s=LEASE_S))], "other")
            assert other.run(threading.Event(), max_trials=1) == 1
            (before,) = store.trials("demo")
            assert (before.state, before.worker, before.lost_workers) == (TrialState.DONE, "other", 1)
            wait_for(lambda: "is out of reach" in log.read_text(), "it to see that nobody answers")
            # Its own result comes late.
            gate.touch()
            mend()
            store.add_trial("demo", NewTrial(number=1, point={}, candidate=encode(Candidate()), seed=1))
            wait_for(lambda: store.counts("demo")[TrialState.DONE] == 2, "it to go on with the next trial")
            first, second = store.trials("demo")
            assert first == before
            assert second.worker != "other"
            assert second.outcome == Outcome(state="done", loss=0.5)
            assert "Trial 0 of 'demo' is no longer held" in log.read_text()
            assert cut_off.poll() is None
        finally:
            cut_off.kill()
            cut_off.wait()


def test_a_worker_whose_connection_falls_silent_is_fenced_off(mongo_url: str, tmp_path: Path) -> None:
    here = database_url(mongo_url, f"mapgrove_test_{tmp_path.name}")
    with SilentLine(mongo_url) as line:
        survive_a_cut(here, database_url(line.url, here.rpartition("/")[2]), [], line.cut, line.mend, tmp_path)


def in_namespaces(folder: str) -> None:
    """Run in a network namespace of its own: the server here, the worker in another one, a cable between them."""
    far = subprocess.Popen(["unshare", "--net", "sleep", "600"])

    def run(*words: str) -> None:
        subprocess.run(words, check=True)

    def there(*words: str) -> None:
        run("nsenter", f"--target={far.pid}", "--net", *words)

    try:
        ours = Path("/proc/self/ns/net").readlink()
        wait_for(lambda: Path(f"/proc/{far.pid}/ns/net").readlink() != ours, "the other namespace")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(far.pid))
        run("ip", "address", "add", "10.99.0.1/24", "dev", "near")
        there("ip", "address", "add", "10.99.0.2/24", "dev", "far")
        run("ip", "link", "set", "near", "up")
        there("ip", "link", "set", "far", "up")
        with MongoServer(Path(folder) / "mongod", addresses="127.0.0.1,10.99.0.1") as server:
            survive_a_cut(
                database_url(server.url, "trials"),
                f"mongodb://10.99.0.1:{server.port}/trials",
                ["nsenter", f"--target={far.pid}", "--net"],
                lambda: run("ip", "link", "set", "near", "down"),
                lambda: run("ip", "link", "set", "near", "up"),
                Path(folder),
            )
    finally:
        far.kill()
        far.wait()


def own_namespaces(*kinds: str) -> list[str]:
    """Words before a command that shall have namespaces of its own; skips where there are none to be had."""
    words = ["unshare", "--user", "--map-root-user", *kinds]
    if not all(map(shutil.which, ("unshare", "nsenter", "ip", "mount"))):
        pytest.skip("needs unshare, nsenter, ip and mount")
    tried = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"namespaces are not permitted here: {tried.stderr.strip()}")
    return words


def run_there(prefix: Sequence[str], function: str, folder: Path) -> None:
    """Run a function of this file as a process behind a prefix."""
    code = f"import test_outages; test_outages.{function}({str(folder)!r})"
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_worker_in_another_namespace_is_fenced_off_after_a_cut(tmp_path: Path) -> None:
    mongod_path()
    run_there(own_namespaces("--net"), "in_namespaces", tmp_path)


class TestAFullDisk:
    """The store is full for a while: one line tells it, and all goes on when there is room."""

    @pytest.fixture
    def store(self, tmp_path: Path, study: StudyRecord, new_trial: Callable[[int], NewTrial]) -> Iterator[SqliteStore]:
        with SqliteStore(tmp_path / "t.sqlite", clock=Clock()) as opened:
            opened.create_study(study)
            opened.add_trial("demo", new_trial(0))
            yield opened

    @staticmethod
    def fill(store: SqliteStore) -> None:
        """Leave no page: neither for a new one nor for a longer document."""
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")

    @staticmethod
    def make_room(store: SqliteStore) -> None:
        store._db.execute("PRAGMA max_page_count = 100000")

    @pytest.mark.parametrize(
        "write",
        [
            lambda store, claim, large: store.add_trial("demo", large),
            lambda store, claim, large: store.finish(claim, Outcome(state="failed", reason="x" * 20_000)),
            lambda store, claim, large: store.report(
                claim, EpochReport(epoch=1, training_loss=0.5, jaccard={"x" * 20_000: 0.5})
            ),
            lambda store, claim, large: store.heartbeat(WorkerRecord(name="w", host="x" * 20_000, pid=1, study="demo")),
            lambda store, claim, large: store.acquire_lead("demo", "x" * 20_000, 60.0),
        ],
        ids=["add_trial", "finish", "report", "heartbeat", "acquire_lead"],
    )
    def test_who_writes_waits_for_room(
        self, store: SqliteStore, new_trial: Any, write: Any, monkeypatch: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(sqlite_file, "PAUSE_S", 0.01)
        claim = store.claim("demo", "w", 60.0)
        large = new_trial(1).model_copy(update={"candidate": {"x": "x" * 20_000}})
        before = store.changed_since("demo")
        self.fill(store)
        answers: list[Any] = []
        waiting = threading.Thread(target=lambda: answers.append(write(store, claim, large)))
        waiting.start()
        wait_for(lambda: "cannot grow, the disk is full" in caplog.text, "the line that tells it")
        assert store.changed_since("demo") == before
        assert answers == []
        self.make_room(store)
        waiting.join(timeout=30)
        assert len(answers) == 1
        assert caplog.text.count("cannot grow, the disk is full") == 1
        assert "there is room again" in caplog.text

    def test_who_is_asked_to_stop_waits_no_longer(self, store: SqliteStore, new_trial: Any) -> None:
        stop = threading.Event()
        store.heed(stop)
        self.fill(store)
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(StoreFullError, match=r"the disk is full.*Make room on it"):
            store.add_trial("demo", new_trial(1).model_copy(update={"candidate": {"x": "x" * 20_000}}))

    def test_patience_has_an_end(self, store: SqliteStore, new_trial: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(sqlite_file, "PATIENCE_S", 0.2)
        monkeypatch.setattr(sqlite_file, "PAUSE_S", 0.05)
        self.fill(store)
        with pytest.raises(StoreError, match="the disk is full"):
            store.add_trial("demo", new_trial(1).model_copy(update={"candidate": {"x": "x" * 20_000}}))

    def test_a_search_goes_on_when_there_is_room_again(self, tmp_path: Path) -> None:
        run_there(own_namespaces("--mount"), "on_a_full_disk", tmp_path)


def on_a_full_disk(folder: str) -> None:
    """Run in a mount namespace of its own: the store on a tiny disk that fills up while master and workers run."""
    num_trials = 16
    disk = Path(folder) / "disk"
    disk.mkdir()
    hold = Path(folder) / HOLD
    hold.touch()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=True)
    url = f"sqlite:///{disk}/trials.sqlite"
    with open_store(url) as store, Nursery(url, "demo", Path(folder), lease_s=LEASE_S) as nursery:
        store.create_study(record())
        pids = [nursery.start("worker", max_trials=num_trials), nursery.start("master", max_trials=num_trials)]
        wait_for(lambda: held(store) == 1, "the worker to run a trial that is held")
        ballast = disk / "ballast"
        with ballast.open("wb") as file:
            fill(file)
        hold.unlink()
        wait_for(lambda: nursery.log.count("cannot grow, the disk is full") == 2, "both to tell it")
        assert not any(map(nursery.has_ended, pids)), nursery.log
        assert store.counts("demo")[TrialState.DONE] < num_trials
        ballast.unlink()
        assert nursery.wait(pids[1]) == 0, nursery.log
        assert not nursery.has_ended(pids[0]), nursery.log
        assert essence(store.trials("demo")) == calm(7, num_trials)
        assert "Traceback" not in nursery.log


def fill(file: Any) -> None:
    """Write until nothing more fits."""
    try:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    except OSError:
        # What stayed in the buffer would be tried again on closing.
        file.raw.close()

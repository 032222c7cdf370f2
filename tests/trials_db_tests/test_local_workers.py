"""A master and the workers it starts: none outlives it, and which are started again."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import are_gone, family, wait_for

from trials_db import local_workers
from trials_db.local_workers import MAX_RESTARTS, LocalWorkers, Slot, TendedStop, is_gone
from trials_db.records import NewTrial, StudyRecord, TrialState, WorkerRecord
from trials_db.sqlite_store import SqliteStore

HERE = Path(__file__).parent


@pytest.fixture
def store(tmp_path: Path, study: StudyRecord, new_trial: Callable[[int], NewTrial]) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "trials.sqlite") as opened:
        opened.create_study(study)
        for number in range(2):
            opened.add_trial("demo", new_trial(number))
        yield opened


class TestMasterProcess:
    @pytest.fixture
    def start(self, store: SqliteStore, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
        """Start a master with two workers, which import `preload` first."""
        started = []

        def run(*preload: str) -> subprocess.Popen[str]:
            worker = [sys.executable, str(HERE / "worker_process.py")]
            worker += [f"sqlite:///{store.path}", "demo", str(tmp_path), str(tmp_path / "gate"), "60", *preload]
            path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
            process = subprocess.Popen(
                [sys.executable, str(HERE / "master_process.py"), *worker],
                cwd="/",
                env={**os.environ, "PYTHONPATH": path, "SLOW_IMPORT": str(tmp_path / "importing")},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            started.append(process)
            return process

        yield run
        for process in started:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
    def test_workers_hand_back_and_end_however_their_master_ends(
        self, start: Any, store: SqliteStore, number: signal.Signals
    ) -> None:
        master = start()
        wait_for(lambda: all(trial.reports for trial in store.trials("demo")), "both trials to run")
        pids = family(master.pid)
        assert len(pids) >= 1 + 2 * 3, "a master, and two workers with a server and a trial each"

        os.kill(master.pid, number)

        # It ends when nobody holds the master's output any more, as whoever reads it through a pipe waits for.
        told, _ = master.communicate(timeout=60)
        assert master.returncode == (-number if number == signal.SIGKILL else 0)
        assert told.count("the master is gone") == (2 if number == signal.SIGKILL else 0)
        wait_for(lambda: are_gone(pids), "all its processes to end")
        assert [(trial.state, trial.lost_workers) for trial in store.trials("demo")] == [(TrialState.NEW, 0)] * 2
        assert store.workers("demo") == []

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
    def test_workers_that_still_import_the_framework_end_at_once(
        self, start: Any, store: SqliteStore, tmp_path: Path, number: signal.Signals
    ) -> None:
        master = start("slow_to_import")
        wait_for((tmp_path / "importing").exists, "the import to begin")
        pids = family(master.pid)

        os.kill(master.pid, number)

        # The import goes on for two minutes.
        told, _ = master.communicate(timeout=60)
        assert "Traceback" not in told
        assert "does not stop" not in told
        wait_for(lambda: are_gone(pids), "all its processes to end")
        assert store.counts("demo")[TrialState.NEW] == 2

    def test_a_framework_that_dies_on_import_is_told_once_per_worker(self, start: Any, store: SqliteStore) -> None:
        master = start("deadly_to_import")
        told, _ = master.communicate(timeout=60)
        # Both write at once, and what stands before the message may be torn.
        assert told.count("The process that imports deadly_to_import for all trials died") == 2, told
        assert "starting another" not in told
        assert store.counts("demo")[TrialState.NEW] == 2


class TestRestarts:
    @staticmethod
    def tend(code: str, folder: Path, num_workers: int = 1) -> tuple[LocalWorkers, int]:
        """Let workers run the code until none is left; return how many were started in all."""
        code = f"import os, pathlib, sys; pathlib.Path({str(folder)!r}, str(os.getpid())).touch(); {code}"
        workers = LocalWorkers([sys.executable, "-c", code], [Slot()] * num_workers)
        with workers:
            stop = TendedStop(threading.Event(), workers)
            wait_for(stop.is_set, "all workers to be given up")
        return workers, len(list(folder.iterdir()))

    @pytest.mark.parametrize("code", [1, 2])
    def test_one_that_tells_an_error_is_not_started_again(self, tmp_path: Path, code: int) -> None:
        workers, num_started = self.tend(f"sys.exit({code})", tmp_path, num_workers=2)
        assert num_started == 2
        assert workers.failure == f"a worker ended with exit code {code}"

    def test_one_that_is_killed_is_started_again_a_few_times(self, tmp_path: Path) -> None:
        workers, num_started = self.tend("os.kill(os.getpid(), 9)", tmp_path)
        assert num_started == 1 + MAX_RESTARTS
        assert workers.failure == f"a worker was killed by signal 9, after {MAX_RESTARTS} restarts"

    def test_what_a_killed_worker_leaves_behind_is_ended(self, tmp_path: Path) -> None:
        told = tmp_path / "told"
        code = (
            "import subprocess; child = subprocess.Popen(['sleep', '600']);"
            f"open({str(told)!r}, 'a').write(f'{{child.pid}} '); os.kill(os.getpid(), 9)"
        )
        (tmp_path / "started").mkdir()
        self.tend(code, tmp_path / "started")
        pids = [int(pid) for pid in told.read_text().split()]
        assert len(pids) == 1 + MAX_RESTARTS
        wait_for(lambda: are_gone(pids), "the children to end")

    def test_one_that_left_in_peace_is_not_missed_and_each_has_its_own_slot(self, tmp_path: Path) -> None:
        code = (
            "import os, pathlib, sys;"
            f"pathlib.Path({str(tmp_path)!r}, sys.argv[1]).write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
        )
        slots = [Slot([f"slot{gpu}"], {"CUDA_VISIBLE_DEVICES": str(gpu)}) for gpu in (0, 3)]
        with LocalWorkers([sys.executable, "-c", code], slots) as workers:
            wait_for(lambda: not workers.tend(), "both to leave")
        assert workers.failure is None
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"slot0": "0", "slot3": "3"}

    def test_none_wanted_is_none_missed(self) -> None:
        with LocalWorkers(["absent"], []) as workers:
            assert not TendedStop(threading.Event(), workers).is_set()


def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_workers, "STOP_S", 0.5)
    ready = tmp_path / "ready"
    code = (
        "import os, pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path({str(ready)!r}).write_text(str(os.getpid())); time.sleep(600)"
    )
    with LocalWorkers([sys.executable, "-c", code], [Slot()]):
        pid = int(wait_for(lambda: ready.is_file() and ready.read_text().strip(), "the worker to start"))
        assert not are_gone([pid])
    assert are_gone([pid])


def test_of_workers_of_this_machine_it_is_known_whether_they_are_gone() -> None:
    now_s = time.time()
    began_s = psutil.Process().create_time()
    here = WorkerRecord(name="w", host=socket.gethostname(), pid=os.getpid(), study="demo", last_seen_s=now_s)
    assert not is_gone(here, now_s)
    another = here.model_copy(update={"last_seen_s": began_s - 60.0})
    assert is_gone(another, now_s), "a process that began later has got its number"
    with subprocess.Popen(["true"]) as ended:
        dead = here.model_copy(update={"pid": ended.pid})
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(dead, now_s), "nobody has asked for its end"
        ended.wait()
        assert is_gone(dead, now_s)
        assert not is_gone(dead.model_copy(update={"host": "elsewhere"}), now_s)

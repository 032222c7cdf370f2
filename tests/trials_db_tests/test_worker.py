"""One worker: every way a trial may end is one trial with its reason, and the worker goes on."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from trial_objectives import GoesOn, Slow, Synthetic, Waits, synthetic_loss
from waiting import are_gone, wait_for

from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.errors import MalformedError
from search_space.objective import Objective
from search_space.study import PruningSettings
from trials_db.assignment import Assignment, WorkerLimits
from trials_db.errors import StudyConflictError, WorkerError
from trials_db.process import oom_kills
from trials_db.pruning import Pruning
from trials_db.records import NewTrial, StudyRecord, Trial, TrialState
from trials_db.sqlite_store import SqliteStore
from trials_db.worker import Worker

Maker = Callable[[int], NewTrial]


@pytest.fixture
def store(tmp_path: Path, study: StudyRecord, new_trial: Maker) -> Iterator[SqliteStore]:
    """On the real clock, with two new trials."""
    with SqliteStore(tmp_path / "trials.sqlite") as opened:
        opened.create_study(study)
        for number in range(2):
            opened.add_trial("demo", new_trial(number))
        yield opened


@pytest.fixture
def work(store: SqliteStore, study: StudyRecord, tmp_path: Path) -> Callable[..., list[Trial]]:
    """Run a worker until nothing is new; return the trials."""

    def run(objective: Objective, stop: threading.Event | None = None, **limits: Any) -> list[Trial]:
        worker = Worker(store, [Assignment(study, objective, tmp_path, WorkerLimits(**limits))], name="me")
        worker.run(stop or threading.Event(), idle_exit_s=0.0)
        return store.trials("demo")

    return run


class Clock(threading.Event):
    """A worker's clock, which goes on by the worker's long waits alone, and these pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is None or timeout < 1.0:
            return super().wait(timeout)
        self.now_s += timeout
        return self.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("trials_db.worker.time", made)
    return made


def _trial_pids(gate: Path) -> list[int]:
    """Wait until a trial of `Waits` runs; return its processes."""
    told = gate.with_suffix(".pid")
    wait_for(told.exists, "the trial to start")
    return [int(pid) for pid in told.read_text().split()]


def test_a_good_trial_leaves_outcome_reports_and_files(work: Any, store: SqliteStore, tmp_path: Path) -> None:
    first, second = work(Synthetic())
    assert first.state is second.state is TrialState.DONE
    assert first.loss == synthetic_loss(Candidate())
    assert first.outcome.figures["seed"] == first.seed
    assert [report.epoch for report in first.reports] == [1]
    folder = tmp_path / "trials" / "0000"
    assert Candidate.model_validate_json((folder / "candidate.json").read_text()) == Candidate()
    assert (folder / "log.txt").read_text() == "--- attempt 1 ---\nhello from the objective\n"
    assert sorted(path.name for path in folder.iterdir()) == ["candidate.json", "log.txt"]
    assert store.workers("demo") == []


@pytest.mark.parametrize(
    ("trouble", "state", "reason"),
    [
        ("raises", "failed", r"ValueError: no such thing \(trial_objectives\.py:\d+\)"),
        ("nan", "failed", "the loss is nan"),
        ("smuggled nan", "failed", "the loss is nan"),
        ("nan report", "failed", "the training loss is inf"),
        ("no outcome", "failed", r"TypeError: the objective returned float, not an Outcome \(child\.py:\d+\)"),
        ("infeasible", "infeasible", r"too large\. Received 5\. Use 4\."),
        ("memory error", "infeasible", r"memory: MemoryError \(trial_objectives\.py:\d+\)"),
        ("gpu memory", "infeasible", r"memory: ResourceExhaustedError: no room for \(512, 512\) .*"),
        ("killed", "failed", r"the training process was killed by signal 9 \(SIGKILL\); often the system .*"),
        ("exits", "failed", "the training process ended with exit code 3 and no outcome"),
        ("sys.exit", "failed", r"SystemExit: 4 .*"),
        ("no file", "failed", r"FileNotFoundError: \[Errno 2\] No such file or directory: '/missing' .*"),
    ],
)
def test_a_bad_trial_is_one_trial_with_its_reason(
    work: Any, tmp_path: Path, trouble: str, state: str, reason: str
) -> None:
    bad, good = work(Synthetic(trouble, numbers=(0,)))
    assert bad.state == state
    assert re.fullmatch(reason, bad.outcome.reason)
    assert (bad.attempts, good.state) == (1, TrialState.DONE)
    told = (tmp_path / "trials" / "0000" / "traceback.txt").exists()
    assert told == (state == "failed" and trouble not in ("killed", "exits", "smuggled nan"))


@pytest.mark.parametrize("trouble", ["memory hog", "memory hog's child"])
def test_a_trial_that_takes_too_much_memory_is_infeasible(work: Any, trouble: str) -> None:
    bad, good = work(Synthetic(trouble, numbers=(0,)), trial_memory_mb=300)
    assert bad.state is TrialState.INFEASIBLE
    assert re.fullmatch(r"memory: used \d+ MB of 300 MB", bad.outcome.reason)
    assert good.state is TrialState.DONE


def test_a_trial_over_its_time_limit_has_failed_and_nothing_of_it_is_left(work: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    bad, _ = work(Waits(gate, with_child=True), trial_s=2.0)
    assert (bad.state, bad.outcome.reason) == (TrialState.FAILED, "over its time limit of 2 s")
    pids = _trial_pids(gate)
    wait_for(lambda: are_gone(pids), "the trial's processes to end")


def test_a_trial_that_tells_nothing_for_long_is_stuck(work: Any, tmp_path: Path) -> None:
    """Epochs reset the clock: the other one takes longer in all."""
    stuck, slow = work(Slow((30.0, 0.8), epochs=4), stuck_s=2.0)
    assert (stuck.state, stuck.outcome.reason) == (TrialState.FAILED, "stuck: no report for 2 s")
    assert (slow.state, len(slow.reports)) == (TrialState.DONE, 4)


def test_a_trial_that_the_system_killed_for_want_of_memory_is_infeasible(
    work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([0, 1, 1, 1])
    monkeypatch.setattr("trials_db.watch.oom_kills", lambda: next(counts))
    bad, good = work(Synthetic("killed", numbers=(0,)))
    assert (bad.state, bad.outcome.reason) == (
        TrialState.INFEASIBLE,
        "memory: killed by the system, which had no more",
    )
    assert good.state is TrialState.DONE


def test_the_system_tells_how_often_it_was_out_of_memory() -> None:
    assert oom_kills() >= 0


def test_a_trial_goes_on_from_what_the_attempt_before_it_left(
    store: SqliteStore, study: StudyRecord, tmp_path: Path
) -> None:
    """As pipeline.training.train does it; the worker cleans up after the end alone."""
    checkpoint = tmp_path / "trials" / "0000" / "checkpoint.npz"
    stop = threading.Event()
    worker = Worker(store, [Assignment(study, GoesOn(), tmp_path)])
    threading.Thread(target=lambda: (wait_for(lambda: _epochs(store) == 2, "two epochs"), stop.set())).start()
    assert worker.run(stop) == 0
    assert checkpoint.read_text() == "2"
    assert (store.trials("demo")[0].state, _epochs(store)) == (TrialState.NEW, 2)
    (tmp_path / "go").touch()
    assert worker.run(threading.Event(), max_trials=1) == 1
    trial = store.trials("demo")[0]
    assert [report.seconds for report in trial.reports] == [1.0, 1.0, 2.0, 2.0]
    assert (trial.attempts, trial.lost_workers, trial.outcome.figures["began_at"]) == (2, 0, 3.0)
    assert not checkpoint.exists()


def test_an_epoch_that_was_kept_but_never_told_is_told_by_the_next_attempt(
    store: SqliteStore, study: StudyRecord, tmp_path: Path
) -> None:
    """A worker is killed between the checkpoint and its report; what is told again is not judged again."""
    folder = tmp_path / "trials" / "0000"
    folder.mkdir(parents=True)
    (folder / "checkpoint.npz").write_text("3")
    (tmp_path / "go").touch()
    judged: list[int] = []

    class Rule(Pruning):
        def judge(self, store: Any, claim: Any, epoch: int) -> str:
            judged.append(epoch)
            return ""

    rule = Rule(PruningSettings(kind="median"), epochs=5)
    Worker(store, [Assignment(study, GoesOn(), tmp_path, pruning=rule)]).run(threading.Event(), max_trials=1)
    trial = store.trials("demo")[0]
    assert [report.epoch for report in trial.reports] == [1, 2, 3, 4]
    assert trial.outcome
    assert trial.outcome.figures["began_at"] == 4.0
    assert judged == [4]


def _epochs(store: SqliteStore) -> int:
    return len(store.trials("demo")[0].reports)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("import", r"Training cannot start here: ModuleNotFoundError: No module named 'a_framework_that_is_not_there'"),
        ("dies warming up", r"Training cannot start here: the training process was killed by signal 4 \(SIGILL\)"),
    ],
)
def test_a_worker_that_can_train_nothing_hands_back_and_says_so(
    work: Any, store: SqliteStore, trouble: str, told: str
) -> None:
    with pytest.raises(WorkerError, match=told) as caught:
        work(Synthetic(trouble))
    assert "\n" not in str(caught.value)
    trial = store.trials("demo")[0]
    assert (trial.state, trial.lost_workers) == (TrialState.NEW, 0)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("unable", "the data are gone. Mount the disk. The trial was handed back"),
        ("disk full", "No space left on device: '/full' (trial_objectives.py:"),
        ("disk full", "Make room on the disk (df shows it). The trial was handed back"),
        ("disk full, told in other words", "OSError: [Errno 122] Disk quota exceeded"),
        ("disk full, told in other words", "Make room within your quota"),
    ],
)
def test_what_any_trial_would_meet_ends_the_worker_and_costs_no_trial(
    work: Any, store: SqliteStore, trouble: str, told: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trials_db.worker.FULL_WAIT_S", 350.0)
    with pytest.raises(WorkerError, match="Training cannot go on here: ") as caught:
        work(Synthetic(trouble, numbers=(1,)), clock)
    assert clock.now_s == (0.0 if trouble == "unable" else 700.0)
    assert told in str(caught.value)
    good, spared = store.trials("demo")
    assert good.state is TrialState.DONE
    assert (spared.state, spared.lost_workers) == (TrialState.NEW, 0)


def test_a_worker_waits_for_room_on_the_disk_of_its_trials(
    work: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trials_db.worker.FULL_WAIT_S", 0.01)
    with caplog.at_level(logging.INFO):
        good, waited = work(Synthetic("disk full twice", numbers=(1,)))
    assert (good.state, waited.state, waited.loss) == (TrialState.DONE, TrialState.DONE, 0.25)
    assert (waited.attempts, waited.lost_workers) == (3, 0)
    assert len([line for line in caplog.messages if "Trying again for 600 s" in line]) == 1
    told = [line for line in caplog.messages if line.startswith(("trial 1", "There"))]
    assert told == ["trial 1: attempt 1", "trial 1: handed back", "There is room again", "trial 1: loss 0.2500"]


def test_a_disk_that_stays_full_is_asked_less_and_less_often(
    work: Any, store: SqliteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trials_db.worker.FULL_WAIT_S", 100.0)
    monkeypatch.setattr("trials_db.worker.LONGEST_FULL_WAIT_S", 350.0)
    with pytest.raises(WorkerError):
        work(Synthetic("disk full"), clock)
    assert (clock.now_s, store.trials("demo")[0].attempts) == (650.0, 4)


def test_what_a_trial_warns_of_is_told_by_its_worker_and_its_log(
    work: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        first, _ = work(Synthetic("warns", numbers=(0,)))
    assert (first.state, caplog.messages) == (TrialState.DONE, ["trial 0: it rains"])
    assert "it rains" in (tmp_path / "trials" / "0000" / "log.txt").read_text()


def test_patience_begins_anew_where_the_disk_was_full_long_ago(
    work: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trials_db.worker.FULL_WAIT_S", 700.0)
    with caplog.at_level(logging.WARNING):
        waited = work(Synthetic("disk full twice", numbers=(1,)), clock)[1]
    assert (waited.state, clock.now_s) == (TrialState.DONE, 1400.0)
    assert len([line for line in caplog.messages if "Trying again for 600 s" in line]) == 2


def test_a_trial_whose_log_is_full_keeps_its_outcome(work: Any) -> None:
    first, second = work(Synthetic("full log", numbers=(0,)))
    assert (first.state, first.loss, second.state) == (TrialState.DONE, 0.5, TrialState.DONE)


def test_malformed_is_a_bug_that_ends_the_worker(work: Any, store: SqliteStore) -> None:
    with pytest.raises(MalformedError, match="here: unknown key 'depth'"):
        work(Synthetic("malformed"))
    bad, untouched = store.trials("demo")
    assert bad.state is TrialState.FAILED
    assert bad.outcome.reason.startswith("malformed: here: unknown key 'depth'")
    assert untouched.state is TrialState.NEW


def test_a_stored_candidate_that_is_none_costs_one_trial(work: Any, store: SqliteStore, new_trial: Maker) -> None:
    """The master decoded it before it stored it: so it is not a bug that all trials have."""
    wrong = {**encode(Candidate()), "filters": 8.5}
    store.add_trial("demo", new_trial(2).model_copy(update={"candidate": wrong, "priority": 1}))
    assert [trial.state for trial in work(Synthetic())] == ["done", "done", "failed"]
    assert store.trials("demo")[2].outcome.reason == "damaged in the store: its candidate: unknown key 'filters'"


def test_a_worker_with_other_data_refuses_to_work(store: SqliteStore, study: StudyRecord, tmp_path: Path) -> None:
    other = study.model_copy(update={"data_fingerprint": "data-2"})
    with pytest.raises(StudyConflictError, match=r"data_fingerprint \(stored 'data-1', given 'data-2'\)"):
        Worker(store, [Assignment(other, Synthetic(), tmp_path)]).run(threading.Event())


def test_a_worker_leaves_after_its_number_of_trials(store: SqliteStore, study: StudyRecord, tmp_path: Path) -> None:
    ended: list[int] = []
    worker = Worker(store, [Assignment(study, Synthetic(), tmp_path)])
    assert worker.run(threading.Event(), max_trials=1, on_end=lambda _, number, __: ended.append(number)) == 1
    assert ended == [0]
    assert store.counts("demo")[TrialState.NEW] == 1


def test_a_worker_of_some_trials_leaves_the_others(
    store: SqliteStore, study: StudyRecord, new_trial: Maker, tmp_path: Path
) -> None:
    store.add_trial("demo", new_trial(2))
    some = Assignment(study, Synthetic(), tmp_path, only=frozenset({1}))
    assert Worker(store, [some]).run(threading.Event(), idle_exit_s=0.0) == 1
    assert [str(trial.state) for trial in store.trials("demo")] == ["new", "done", "new"]


def test_a_worker_at_work_keeps_its_lease(store: SqliteStore, study: StudyRecord, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    lease_s = 2.0

    def run() -> None:
        with SqliteStore(store.path) as own:
            worker = Worker(own, [Assignment(study, Waits(gate), tmp_path, WorkerLimits(lease_s=lease_s))])
            worker.run(threading.Event(), max_trials=1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        _trial_pids(gate)
        until = time.monotonic() + 2 * lease_s
        while time.monotonic() < until:
            assert store.requeue_expired("demo") == []
            time.sleep(0.1)
    finally:
        gate.touch()
        thread.join()
    assert store.trials("demo")[0].state is TrialState.DONE


def test_a_trial_that_was_taken_away_is_dropped_and_the_next_one_run(
    store: SqliteStore, study: StudyRecord, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    results: list[int] = []

    def run() -> None:
        with SqliteStore(store.path) as own:
            limits = WorkerLimits(lease_s=0.9)
            worker = Worker(own, [Assignment(study, Waits(gate), tmp_path, limits)])
            results.append(worker.run(threading.Event(), max_trials=1))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        (pid,) = _trial_pids(gate)
        # Someone whose clock is far ahead takes the trial.
        with SqliteStore(store.path, clock=lambda: time.time() + 1000) as ahead:
            assert ahead.requeue_expired("demo") == [0]
            claim = ahead.claim("demo", "other", 600.0)
        wait_for(lambda: are_gone([pid]), "the first process to end")
    finally:
        gate.touch()
        thread.join()
    first, second = store.trials("demo")
    assert results == [1]
    assert (claim.number, first.state, first.worker, first.attempts) == (0, TrialState.RUNNING, "other", 2)
    assert second.state is TrialState.DONE


class TestSeveralStudies:
    @pytest.fixture
    def other(self, store: SqliteStore, study: StudyRecord, new_trial: Maker) -> StudyRecord:
        other = study.model_copy(update={"name": "other"})
        store.create_study(other)
        for number in range(2):
            store.add_trial("other", new_trial(number))
            store.add_trial("demo", new_trial(2 + number))
        return other

    def test_they_are_served_in_turn(self, store: Any, study: Any, other: Any, tmp_path: Path) -> None:
        folders = {"demo": tmp_path / "a", "other": tmp_path / "b"}
        assignments = [Assignment(each, Synthetic(), folders[each.name]) for each in (study, other)]
        ended: list[tuple[str, int]] = []
        worker = Worker(store, assignments)
        seen: list[Any] = []

        def watch(name: str, number: int, _: object) -> None:
            ended.append((name, number))
            seen.append({each.study: each for each in store.workers("demo") + store.workers("other")})

        assert worker.run(threading.Event(), idle_exit_s=0.0, on_end=watch) == 6
        assert {*ended[:2]} == {("demo", 0), ("other", 0)}
        assert {*ended[2:4]} == {("demo", 1), ("other", 1)}
        assert ended[4:] == [("demo", 2), ("demo", 3)]
        name, number = ended[0]
        away = "other" if name == "demo" else "demo"
        assert (seen[0][name].trial, seen[0][name].elsewhere) == (number, "")
        assert (seen[0][away].trial, seen[0][away].elsewhere) == (None, name)
        assert store.workers("demo") == store.workers("other") == []
        assert (folders["other"] / "trials" / "0001" / "log.txt").exists()

    def test_a_study_that_cannot_be_trained_here_is_left_and_the_others_go_on(
        self, store: Any, study: Any, other: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        assignments = [Assignment(study, Synthetic("unable"), tmp_path), Assignment(other, Synthetic(), tmp_path / "b")]
        assert Worker(store, assignments, name="me").run(threading.Event(), idle_exit_s=0.0) == 2
        assert store.counts("other")[TrialState.DONE] == 2
        assert store.counts("demo")[TrialState.NEW] == 4
        assert "me no longer serves demo: Training cannot go on here: the data are gone" in caplog.text

    def test_one_that_comes_later_is_found(
        self, store: Any, study: Any, other: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("trials_db.worker.FIND_S", 0.0)
        later = iter([[], [Assignment(other, Synthetic(), tmp_path / "b")]])
        worker = Worker(store, [Assignment(study, Synthetic(), tmp_path)], find_more=lambda: next(later, []))
        assert worker.run(threading.Event(), idle_exit_s=0.0) == 6

    def test_a_drained_worker_ends_its_trial_and_leaves(
        self, store: SqliteStore, study: StudyRecord, tmp_path: Path
    ) -> None:
        gate, drain = tmp_path / "gate", threading.Event()
        results: list[int] = []

        def work() -> None:
            with SqliteStore(store.path) as own:
                worker = Worker(own, [Assignment(study, Waits(gate), tmp_path)])
                results.append(worker.run(threading.Event(), drain=drain))

        thread = threading.Thread(target=work)
        thread.start()
        _trial_pids(gate)
        drain.set()
        time.sleep(0.5)
        assert store.trials("demo")[0].state is TrialState.RUNNING
        gate.touch()
        thread.join(timeout=30)
        assert results == [1]
        assert [trial.state for trial in store.trials("demo")] == [TrialState.DONE, TrialState.NEW]


class TestWorkerProcess:
    @pytest.fixture
    def start(self, store: SqliteStore, tmp_path: Path) -> Iterator[Callable[[float], tuple[Any, list[int]]]]:
        """Start a worker, in a process group of its own; return it with the processes of its first trial."""
        started = []

        def run(lease_s: float) -> tuple[Any, list[int]]:
            script = Path(__file__).with_name("worker_process.py")
            gate = tmp_path / "gate"
            arguments = [f"sqlite:///{store.path}", "demo", str(tmp_path), str(gate), str(lease_s)]
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
            process = subprocess.Popen(
                [sys.executable, str(script), *arguments], cwd="/", env=environment, start_new_session=True
            )
            started.append(process)
            return process, _trial_pids(gate)

        yield run
        for process in started:
            process.kill()
            process.wait()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_hands_the_trial_back(self, start: Any, store: SqliteStore, number: int) -> None:
        process, pids = start(60.0)
        (seen,) = store.workers("demo")
        assert (seen.pid, seen.trial) == (process.pid, 0)
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
        wait_for(lambda: are_gone(pids), "the trial's processes to end")
        trial = store.trials("demo")[0]
        assert (trial.state, trial.lost_workers) == (TrialState.NEW, 0)
        assert store.workers("demo") == []

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_to_all_processes_hands_the_trial_back_too(
        self, start: Any, store: SqliteStore, number: int
    ) -> None:
        process, pids = start(60.0)
        # As a terminal does, and `timeout`: to the worker's group; as systemd does: to the trial's, perhaps first.
        os.killpg(pids[0], number)
        os.killpg(process.pid, number)
        assert process.wait(timeout=30) == 0
        wait_for(lambda: are_gone(pids), "the trial's processes to end")
        trial = store.trials("demo")[0]
        assert (trial.state, trial.lost_workers) == (TrialState.NEW, 0)

    def test_under_nohup_a_closed_terminal_stops_nothing(self, start: Any, store: SqliteStore, tmp_path: Path) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            process, _ = start(60.0)
        finally:
            signal.signal(signal.SIGHUP, before)
        os.killpg(process.pid, signal.SIGHUP)
        (tmp_path / "gate").touch()
        wait_for(lambda: store.counts("demo")[TrialState.DONE] == 2, "both trials to end")
        assert process.poll() is None

    def test_what_a_killed_worker_leaves_another_one_finishes(
        self, start: Any, store: SqliteStore, study: StudyRecord, tmp_path: Path
    ) -> None:
        process, pids = start(1.0)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: are_gone(pids), "the orphans to end")
        assert store.trials("demo")[0].state is TrialState.RUNNING
        second = Worker(store, [Assignment(study, Synthetic(), tmp_path, WorkerLimits(lease_s=1.0))], name="second")
        assert second.run(threading.Event(), max_trials=2) == 2
        first, other = store.trials("demo")
        assert (first.state, first.worker, first.attempts, first.lost_workers) == (TrialState.DONE, "second", 2, 1)
        assert (other.state, other.attempts) == (TrialState.DONE, 1)

"""The master with its workers: the same search whoever runs it, in one go or in several."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nursery_process import search_settings
from trial_objectives import Synthetic, synthetic_loss

from search_space.objective import Outcome
from search_space.space import resolve_space, space_fingerprint
from search_space.study import LimitSettings, SearchSettings
from trials_db.assignment import Assignment
from trials_db.errors import StoreError, StudyConflictError, StudyNotFoundError
from trials_db.master import Master, Progress, lead_all
from trials_db.records import StudyRecord, Trial, TrialState, WorkerRecord
from trials_db.sqlite_store import SqliteStore
from trials_db.worker import Worker

# What the loss depends on: a master does the same in larger spaces, where a proposal takes longer.
SPACE, _ = search_settings()
SETTINGS = SearchSettings(startup_trials=4, lookahead=2)
FOLLOWING = SearchSettings(startup_trials=4)


class Clock:
    """A store's clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now_s = 1e9

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def record(study: StudyRecord) -> StudyRecord:
    return study.model_copy(update={"space_fingerprint": space_fingerprint(SPACE)})


@pytest.fixture
def open_sqlite(tmp_path: Path, record: StudyRecord) -> Iterator[Callable[..., SqliteStore]]:
    opened = []

    def make(name: str = "a", **options: Any) -> SqliteStore:
        store = SqliteStore(tmp_path / f"{name}.sqlite", **options)
        opened.append(store)
        store.create_study(record)
        return store

    yield make
    for store in opened:
        store.close()


def run_here(
    store: SqliteStore, record: StudyRecord, max_trials: int, settings: SearchSettings = SETTINGS, **limits: Any
) -> Progress:
    """A master that tries each trial itself between two proposals, without processes."""
    stop = threading.Event()
    master = Master(store, record, SPACE, settings, LimitSettings(max_trials=max_trials, **limits))

    def work(_: Progress) -> None:
        while (claim := store.claim("demo", "here", 60.0)) is not None:
            trial = next(trial for trial in store.trials("demo") if trial.number == claim.number)
            store.finish(claim, Outcome(state="done", loss=synthetic_loss(trial.decoded())))

    return master.run(stop, work)


def _essence(trials: list[Trial]) -> list[Any]:
    return [(trial.number, trial.candidate, trial.seed, trial.loss) for trial in trials]


def test_five_and_five_equal_ten_and_a_finished_study_gets_nothing_more(open_sqlite: Any, record: Any) -> None:
    one, two = open_sqlite("one"), open_sqlite("two")
    whole = run_here(one, record, 10)
    assert whole.is_complete
    assert whole.counts[TrialState.DONE] == 10
    assert run_here(two, record, 5).num_ended == 5
    assert run_here(two, record, 5).num_ended == 5
    assert len(two.trials("demo")) == 5
    run_here(two, record, 10)
    assert _essence(two.trials("demo")) == _essence(one.trials("demo"))
    assert whole.best.loss == min(trial.loss for trial in one.trials("demo"))


def test_two_worker_processes_try_what_one_would(open_sqlite: Any, record: Any, tmp_path: Path) -> None:
    alone, many = open_sqlite("alone"), open_sqlite("many")
    run_here(alone, record, 8)
    stop = threading.Event()
    ended: list[int] = []

    def work(name: str) -> None:
        with SqliteStore(many.path) as own:
            worker = Worker(own, [Assignment(record, Synthetic(), tmp_path)], name=name)
            worker.run(stop, on_end=lambda _, number, __: ended.append(number))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    told: list[Progress] = []
    try:
        final = Master(many, record, SPACE, SETTINGS, LimitSettings(max_trials=8)).run(threading.Event(), told.append)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert final.is_complete
    assert sorted(ended) == list(range(8))
    assert _essence(many.trials("demo")) == _essence(alone.trials("demo"))
    assert [progress.num_ended for progress in told] == sorted(progress.num_ended for progress in told)
    assert told[-1] == final


def test_proposals_stay_within_the_lookahead_until_results_come(open_sqlite: Any, record: Any) -> None:
    store = open_sqlite()
    stop = threading.Event()

    def end_when_idle(progress: Progress) -> None:
        if progress.counts[TrialState.NEW] == SETTINGS.lookahead + 1:
            threading.Timer(0.5, stop.set).start()

    progress = Master(store, record, SPACE, SETTINGS, LimitSettings(max_trials=10)).run(stop, end_when_idle)
    assert progress.counts[TrialState.NEW] == SETTINGS.lookahead + 1 == len(store.trials("demo"))
    assert store.leader("demo") is None


def test_failures_do_not_end_the_search(open_sqlite: Any, record: Any) -> None:
    store = open_sqlite()

    def fail(_: Progress) -> None:
        while (claim := store.claim("demo", "here", 60.0)) is not None:
            store.finish(claim, Outcome(state="infeasible" if claim.number % 2 else "failed", reason="no"))

    final = Master(store, record, SPACE, SETTINGS, LimitSettings(max_trials=8)).run(threading.Event(), fail)
    assert (final.is_complete, final.best) == (True, None)
    assert (final.counts[TrialState.FAILED], final.counts[TrialState.INFEASIBLE]) == (4, 4)


def test_a_second_master_waits_and_follows(open_sqlite: Any, record: Any) -> None:
    store = open_sqlite()
    lead = store.acquire_lead("demo", "the first", 600.0)
    told: list[Progress] = []

    def watch(progress: Progress) -> None:
        told.append(progress)
        if progress.leader:
            assert store.trials("demo") == []
            store.release_lead(lead)
        while (claim := store.claim("demo", "here", 60.0)) is not None:
            store.finish(claim, Outcome(state="done", loss=0.5))

    final = Master(store, record, SPACE, SETTINGS, LimitSettings(max_trials=3)).run(threading.Event(), watch)
    assert told[0].leader == "the first"
    assert final.is_complete
    assert final.leader is None


def test_trials_of_silent_workers_are_tried_again(open_sqlite: Any, record: Any) -> None:
    store = open_sqlite()
    # It waits for a lease of its own before it judges others.
    settings = SETTINGS.model_copy(update={"lease_s": 1.0})
    run_here(store, record, 1)
    proposer = Master(store, record, SPACE, settings, LimitSettings(max_trials=2))
    stop = threading.Event()

    def claim_and_fall_silent(progress: Progress) -> None:
        if store.claim("demo", "silent", 0.001) is not None:
            stop.set()

    proposer.run(stop, claim_and_fall_silent)
    assert store.counts("demo")[TrialState.RUNNING] == 1
    final = run_here(store, record, 2, settings)
    assert final.is_complete
    assert [trial.lost_workers for trial in store.trials("demo")] == [0, 1]


def test_a_store_that_is_deleted_ends_the_search(open_sqlite: Any, record: Any) -> None:
    store = open_sqlite()

    def delete(progress: Progress) -> None:
        if progress.counts[TrialState.NEW] == 2:
            store.path.unlink()

    with pytest.raises(StoreError, match="was deleted or replaced"):
        Master(store, record, SPACE, SETTINGS, LimitSettings(max_trials=4)).run(threading.Event(), delete)
    assert not store.path.exists()


def test_a_master_of_another_study_is_refused(open_sqlite: Any, record: StudyRecord) -> None:
    store = open_sqlite()
    stop = threading.Event()
    with pytest.raises(StudyConflictError, match=r"seed \(stored 7, given 8\)"):
        Master(store, record.model_copy(update={"seed": 8}), SPACE, SETTINGS, LimitSettings(max_trials=3)).run(stop)
    narrowed = resolve_space({"architecture.depth": {"low": 3}})
    with pytest.raises(StudyConflictError, match="space_fingerprint"):
        Master(store, record, narrowed, SETTINGS, LimitSettings(max_trials=3)).run(stop)
    with pytest.raises(StudyNotFoundError):
        Master(store, record.model_copy(update={"name": "nemo"}), SPACE, SETTINGS, LimitSettings(max_trials=3)).run(
            stop
        )


def test_as_many_proposals_wait_as_there_are_workers(open_sqlite: Any, record: Any, monkeypatch: Any) -> None:
    """Without a lookahead, whatever the oldest trial does."""
    monkeypatch.setattr("trials_db.master.COUNT_WORKERS_S", 0.0)
    clock = Clock()
    store = open_sqlite(clock=clock)
    stop = threading.Event()
    waiting: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.counts[TrialState.NEW] == 0 or (waiting and waiting[-1] == progress.counts[TrialState.NEW]):
            return
        waiting.append(progress.counts[TrialState.NEW])
        if len(waiting) == 1:
            # The only waiting trial is taken and never ends; three workers come, one of which is silent.
            for name in ("silent", "a", "b", "c"):
                store.heartbeat(WorkerRecord(name=name, host="h", pid=1, study="demo"))
                clock.now_s += 1.0 if name != "silent" else 2 * SETTINGS.lease_s
            store.claim("demo", "a", 1e6)
        elif waiting[-1] == 3:
            threading.Timer(0.6, stop.set).start()

    master = Master(store, record, SPACE, FOLLOWING, LimitSettings(max_trials=20))
    progress = master.run(stop, watch)
    assert progress.counts[TrialState.NEW] == 3
    assert progress.counts[TrialState.RUNNING] == 1
    assert len(store.trials("demo")) == 4


def test_a_search_ends_after_its_hours(open_sqlite: Any, record: Any) -> None:
    clock = Clock()
    store = open_sqlite(clock=clock)
    stop = threading.Event()
    seen: list[str] = []

    def work(progress: Progress) -> None:
        seen.append(progress.ending)
        while (claim := store.claim("demo", "here", 60.0)) is not None:
            clock.now_s += 1000.0
            store.finish(claim, Outcome(state="done", loss=0.5))

    final = Master(store, record, SPACE, FOLLOWING, LimitSettings(max_trials=50, hours=1.0)).run(stop, work)
    assert final.is_complete
    assert final.ending == "limits.hours = 1 have passed since its first trial"
    assert final.num_ended == 4
    again = Master(store, record, SPACE, FOLLOWING, LimitSettings(max_trials=50, hours=2.0)).run(stop, work)
    assert again.num_ended == 8


@pytest.mark.parametrize("settings", ["SETTINGS", "FOLLOWING"])
def test_a_search_ends_when_it_is_good_enough_or_gets_no_better(open_sqlite: Any, record: Any, settings: str) -> None:
    rule = globals()[settings]
    whole = open_sqlite("whole")
    run_here(whole, record, 30, rule)
    losses = [trial.loss for trial in whole.trials("demo")]
    target = 1.0 - sorted(losses)[8]
    first = next(number for number, loss in enumerate(losses) if 1.0 - loss >= target)
    good = open_sqlite("good")
    final = run_here(good, record, 30, rule, target_jaccard=target)
    assert final.is_complete
    assert final.ending.startswith(f"trial {first} reached ")
    assert first < final.num_ended <= first + 2 + rule.lookahead
    assert _essence(good.trials("demo")) == _essence(whole.trials("demo"))[: final.num_ended]
    # The limit does not change what was proposed, so the search goes on as if there had been none.
    run_here(good, record, 30, rule)
    assert _essence(good.trials("demo")) == _essence(whole.trials("demo"))

    patient = open_sqlite("patient")
    final = run_here(patient, record, 30, rule, patience=5)
    # The first with five after it that are no better; one that was tried meanwhile may be.
    best = next(number for number in range(24) if losses.index(min(losses[: number + 6])) == number)
    assert final.ending == f"no trial after trial {best} was better, and limits.patience is 5"
    assert best + 6 <= final.num_ended <= best + 7 + rule.lookahead


def test_a_poll_costs_no_more_after_many_trials(open_sqlite: Any, record: Any, monkeypatch: Any) -> None:
    """What changed is read, and nothing else: not timed, but counted."""
    store = open_sqlite()
    run_here(store, record, 30)
    read: list[int] = []
    changed_since = store.changed_since

    def counted(study: str, cursor: str = "") -> Any:
        changed, cursor = changed_since(study, cursor)
        read.append(len(changed))
        return changed, cursor

    monkeypatch.setattr(store, "changed_since", counted)
    stop = threading.Event()
    threading.Timer(1.5, stop.set).start()
    Master(store, record, SPACE, SETTINGS, LimitSettings(max_trials=31)).run(stop)
    assert read[0] == 30
    assert sorted(read[1:]) == [0] * (len(read) - 2) + [1]


def test_one_process_leads_several_studies(open_sqlite: Any, record: StudyRecord) -> None:
    store, alone = open_sqlite(), open_sqlite("alone")
    run_here(alone, record, 5)
    several = {"demo": 5, "demo/trees": 2}
    masters = []
    for name, max_trials in several.items():
        own = record.model_copy(update={"name": name})
        store.create_study(own)
        masters.append(Master(store, own, SPACE, SETTINGS, LimitSettings(max_trials=max_trials)))
    told = []

    def work(name: str, progress: Progress) -> None:
        told.append(name)
        # One trial after each change, so that the studies go on in turns.
        if (claim := store.claim(name, "here", 60.0)) is not None:
            trial = next(trial for trial in store.trials(name) if trial.number == claim.number)
            store.finish(claim, Outcome(state="done", loss=synthetic_loss(trial.decoded())))

    ends = lead_all(masters, threading.Event(), work)

    assert {name: end.num_ended for name, end in ends.items()} == several
    assert all(end.is_complete for end in ends.values())
    assert _essence(store.trials("demo")) == _essence(alone.trials("demo"))
    assert told[:4] == ["demo", "demo/trees"] * 2
    assert [store.leader(name) for name in several] == [None, None]


def test_workers_that_died_long_ago_are_taken_off_the_list(open_sqlite: Any, record: StudyRecord) -> None:
    clock = Clock()
    store = open_sqlite(clock=clock)
    store.heartbeat(WorkerRecord(name="killed", host="h", pid=1, study="demo"))
    clock.now_s += 86_000.0
    store.heartbeat(WorkerRecord(name="away", host="h", pid=1, study="demo"))
    clock.now_s += 1_000.0
    store.heartbeat(WorkerRecord(name="here", host="h", pid=1, study="demo"))
    master = Master(store, record, SPACE, FOLLOWING, LimitSettings(max_trials=20))
    with master.leading(threading.Event()):
        for _ in range(3):
            master.step()
    assert [worker.name for worker in store.workers("demo")] == ["away", "here"]
    assert store.counts("demo")[TrialState.NEW] == 1


def test_workers_that_told_of_themselves_in_times_to_come_count_for_none(open_sqlite: Any, record: StudyRecord) -> None:
    """The clock was wrong, and was put right."""
    clock = Clock()
    store = open_sqlite(clock=clock)
    for name in ("a", "b", "c"):
        store.heartbeat(WorkerRecord(name=name, host="h", pid=1, study="demo"))
    clock.now_s -= 10 * 86_400.0
    master = Master(store, record, SPACE, FOLLOWING, LimitSettings(max_trials=20))
    with master.leading(threading.Event()):
        for _ in range(5):
            master.step()
    assert store.counts("demo")[TrialState.NEW] == 1
    assert store.workers("demo") == []


def test_workers_that_are_busy_with_another_study_want_nothing_here(open_sqlite: Any, record: StudyRecord) -> None:
    store = open_sqlite()
    for number in range(5):
        elsewhere = "demo/trees" if number < 3 else ""
        store.heartbeat(WorkerRecord(name=f"w{number}", host="h", pid=1, study="demo", elsewhere=elsewhere))
    stop = threading.Event()

    def enough(progress: Progress) -> None:
        if progress.counts[TrialState.NEW] >= 2:
            stop.set()

    Master(store, record, SPACE, FOLLOWING, LimitSettings(max_trials=20)).run(stop, enough)
    master = Master(store, record, SPACE, FOLLOWING, LimitSettings(max_trials=20))
    with master.leading(threading.Event()):
        for _ in range(5):
            master.step()
    assert store.counts("demo")[TrialState.NEW] == 2

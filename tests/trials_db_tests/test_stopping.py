"""How a process learns that it was asleep."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trials_db import reaping, stopping
from trials_db.reaping import Reaper
from trials_db.records import FURTHEST_LEASE_S, NewTrial, StudyRecord
from trials_db.sqlite_store import SqliteStore
from trials_db.stopping import AwakeGuard

LEASE_S = 60.0


class Clock:
    """What stands for the module `time`: a clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 1e9

    def time(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr(stopping, "time", turned)
    return turned


def _judged_after(guard: AwakeGuard, clock: Clock, seconds: float) -> float:
    """Call as often as one should; return after how long the guard lets the caller judge."""
    for step in range(int(seconds / 10.0)):
        if guard.may_judge():
            return 10.0 * step
        clock.now_s += 10.0
    return float("inf")


@pytest.fixture
def guard(clock: Clock) -> AwakeGuard:
    """One that was heard for a lease."""
    made = AwakeGuard(LEASE_S)
    _judged_after(made, clock, 3600.0)
    return made


def test_who_has_just_begun_waits_a_whole_lease(clock: Clock) -> None:
    """It may have begun with the first call that got through after hours."""
    assert _judged_after(AwakeGuard(LEASE_S), clock, 3600.0) == LEASE_S


def test_who_is_awake_may_judge(clock: Clock, guard: AwakeGuard) -> None:
    for _ in range(100):
        clock.now_s += LEASE_S / 4
        assert guard.may_judge()


def test_who_slept_waits_a_whole_lease(clock: Clock, guard: AwakeGuard) -> None:
    clock.now_s += 3600.0
    assert _judged_after(guard, clock, 3600.0) == LEASE_S


def test_a_clock_that_was_wrong_for_a_while_blinds_for_a_lease_alone(clock: Clock, guard: AwakeGuard) -> None:
    """Set forward by hours and back again, it had blinded for these hours."""
    clock.now_s += 5 * 3600.0
    assert not guard.may_judge()
    clock.now_s -= 5 * 3600.0
    assert _judged_after(guard, clock, 3600.0) == LEASE_S


@pytest.mark.parametrize("set_by_s", [3600.0, -3600.0, 1e7, -1e7])
def test_a_clock_of_the_store_that_was_set_takes_no_trial_from_who_lives(
    tmp_path: Path,
    clock: Clock,
    study: StudyRecord,
    new_trial: Callable[[int], NewTrial],
    monkeypatch: pytest.MonkeyPatch,
    set_by_s: float,
) -> None:
    """As a server's that is synchronised after its start; the clock of this machine goes on as before."""
    monkeypatch.setattr(reaping, "MOST_OFTEN_S", 0.0)
    ahead_s = 5.0
    with SqliteStore(tmp_path / "trials.sqlite", clock=lambda: clock.now_s + ahead_s) as store:
        store.create_study(study)
        for number in range(2):
            store.add_trial("demo", new_trial(number))
        alive, gone = store.claim("demo", "alive", LEASE_S), store.claim("demo", "gone", LEASE_S)
        assert alive is not None
        assert gone is not None
        reaper = Reaper(store)
        reaper.watch("demo", LEASE_S)
        taken = []
        for quarter in range(20):
            if quarter == 8:
                ahead_s += set_by_s
            clock.now_s += LEASE_S / 4
            taken += reaper.look("demo")
            store.renew(alive)
            if quarter < 8:
                store.renew(gone)
        assert taken == ([1] if abs(set_by_s) > FURTHEST_LEASE_S or set_by_s > 0.0 else [])


def test_clocks_that_part_slowly_keep_nobody_from_judging(clock: Clock, guard: AwakeGuard) -> None:
    for minute in range(100):
        clock.now_s += LEASE_S / 4
        guard.compare(clock.now_s + 100.0 + minute)
        assert guard.may_judge()

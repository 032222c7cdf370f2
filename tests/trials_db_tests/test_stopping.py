"""How a process learns that it was asleep."""

import pytest

from trials_db import stopping
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

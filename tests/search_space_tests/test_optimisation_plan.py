"""Plans of optimisation: what goes together, and when things happen in long and short trainings."""

from itertools import pairwise

import pytest

from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.errors import InfeasibleError
from search_space.optimisation import ConstantRate, CyclicRate, SnapshotAverage
from search_space.training_plan import TrainingPlan


@pytest.mark.parametrize(("patience", "is_sensible"), [(0, True), (3, False), (5, False), (6, True)])
def test_training_does_not_end_before_its_rate_can_fall(patience: int, is_sensible: bool) -> None:
    plan = {"schedule": {"kind": "plateau", "patience": 5}, "patience": patience}
    candidate = decode(Candidate, {"plan": plan}, where="test")
    if is_sensible:
        candidate.check_feasible()
        return
    with pytest.raises(InfeasibleError, match=r"Received .*5.*Use 6 or more, or 0 for no end\.$"):
        candidate.check_feasible()


@pytest.mark.parametrize("epochs", range(1, 30))
@pytest.mark.parametrize("start", [0.0, 0.4, 0.99])
@pytest.mark.parametrize("cycles", [1, 3, 8])
def test_lows_rise_to_the_last_epoch_and_are_as_even_as_epochs_allow(epochs: int, start: float, cycles: int) -> None:
    rate = CyclicRate(start=start, cycles=cycles)
    turns = (rate.begins_after(epochs), *rate.lows_after(epochs))
    lengths = [later - earlier for earlier, later in pairwise(turns)]
    assert turns[-1] == epochs
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1
    assert len(lengths) == min(cycles, epochs - turns[0])


def test_snapshots_are_the_last_lows_or_lie_in_the_last_third() -> None:
    every, some = SnapshotAverage(num=20), SnapshotAverage(num=2)
    cyclic = CyclicRate(start=0.5, cycles=5)
    assert every.taken_after(cyclic, 20) == cyclic.lows_after(20) == (12, 14, 16, 18, 20)
    assert some.taken_after(cyclic, 20) == (18, 20)
    assert some.taken_after(ConstantRate(), 30) == (25, 30)
    assert every.taken_after(ConstantRate(), 30) == tuple(range(21, 31))


@pytest.mark.parametrize(
    ("fields", "depends"),
    [
        ({}, False),
        ({"schedule": {"kind": "plateau"}}, False),
        ({"averaging": {"kind": "ema"}}, False),
        ({"warm_up": 0.1}, True),
        ({"schedule": {"kind": "cosine"}}, True),
        ({"averaging": {"kind": "snapshots"}}, True),
    ],
)
def test_what_goes_by_shares_of_the_training_depends_on_its_length(fields: dict[str, object], depends: bool) -> None:
    assert decode(TrainingPlan, fields, where="test").depends_on_length is depends

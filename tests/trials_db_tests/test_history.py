"""What is known of a study, kept up to date, is what its trials say, in whatever order they were told."""

import random
from typing import Any

import pytest

from search_space.objective import Outcome
from search_space.study import LimitSettings
from trials_db.ending import ending, told_history
from trials_db.history import History
from trials_db.records import Trial, TrialState

LIMITS = LimitSettings(max_trials=100)


def trial(number: int, state: str = "done", loss: float | None = None) -> Trial:
    outcome = None
    if TrialState(state).is_final:
        outcome = Outcome(state=state, loss=loss, reason=None if state == "done" else "so")
    return Trial(number=number, state=state, point={}, candidate={}, seed=0, created_s=1000.0 + number, outcome=outcome)


def facts(history: History) -> tuple[object, ...]:
    best = history.best.number if history.best else None
    return history.counts, best, history.next_number, history.first_open, history.num_since_best


@pytest.mark.parametrize("seed", range(20))
def test_any_order_gives_what_all_at_once_gives(seed: int) -> None:
    rng = random.Random(seed)
    final = []
    for number in range(30):
        state = rng.choice(["done"] * 6 + ["failed", "pruned", "infeasible", "running", "new"])
        # Equal losses too.
        final.append(trial(number, state, rng.randrange(10) / 10 if state == "done" else None))
    del final[rng.randrange(30)]
    whole = History()
    whole.update(final)

    bits = [*final]
    for each in final:
        bits += [trial(each.number, "new")] * (each.state is not TrialState.NEW)
    history = History()
    rng.shuffle(bits)
    order = {TrialState.NEW: 0, TrialState.RUNNING: 1}
    seen: dict[int, int] = {}
    for each in bits:
        # A store never tells an older state after a newer one.
        if order.get(each.state, 2) >= seen.get(each.number, 0):
            seen[each.number] = order.get(each.state, 2)
            history.update([each])
    assert facts(history) == facts(whole)

    losses = [(each.loss, each.number) for each in final if each.loss is not None]
    assert whole.best == next(each for each in final if (each.loss, each.number) == min(losses))
    later = [each for each in final if each.state.is_final and each.number > min(losses)[1]]
    assert whole.num_since_best == len(later)
    missing = next(number for number in range(30) if number not in {each.number for each in final})
    assert whole.next_number == missing
    assert whole.first_open == next(
        number for number in range(31) if not any(each.number == number and each.state.is_final for each in final)
    )


def test_better_and_better_trials_told_by_number_are_not_gone_through_for_each() -> None:
    class Watched(dict[int, Trial]):
        def items(self) -> Any:
            raise AssertionError("all trials are gone through")

    history = History()
    history.trials = Watched()
    history.update(trial(number, loss=1.0 / (number + 1)) for number in range(20))
    assert history.best == trial(19, loss=1.0 / 20)
    assert history.num_since_best == 0


def test_with_a_lookahead_only_what_proposals_rest_on_is_known() -> None:
    whole = History()
    whole.update([trial(0, loss=0.5), trial(1, loss=0.4), trial(2, "running"), trial(3, loss=0.1)])
    assert told_history(whole, 0) is whole
    told = told_history(whole, 2)
    assert sorted(told.trials) == [0, 1]
    whole.update([trial(2, loss=0.3), trial(4, loss=0.05)])
    assert told_history(whole, 2, told) is told
    assert sorted(told.trials) == [0, 1, 2]
    assert told.best == whole.trials[2]
    assert sorted(told_history(whole, 10).trials) == []


def test_why_a_search_ends() -> None:
    history = History()
    assert ending(LIMITS.model_copy(update={"hours": 1.0, "target_jaccard": 0.5, "patience": 1}), history, 1e9) == ""
    history.update([trial(0, loss=0.5), trial(1, "failed"), trial(2, loss=0.3), trial(3, "pruned")])
    assert ending(LIMITS, history, 1e9) == ""
    hours = LIMITS.model_copy(update={"hours": 0.5})
    assert ending(hours, history, 1000.0 + 1799.0) == ""
    assert ending(hours, history, 1000.0 + 1800.0) == "limits.hours = 0.5 have passed since its first trial"
    target = LIMITS.model_copy(update={"target_jaccard": 0.7})
    assert ending(target, history, 0.0) == "trial 2 reached 0.7000, and limits.target_jaccard is 0.7"
    assert ending(LIMITS.model_copy(update={"target_jaccard": 0.71}), history, 0.0) == ""
    assert ending(LIMITS.model_copy(update={"patience": 2}), history, 0.0) == ""
    patience = LIMITS.model_copy(update={"patience": 1})
    assert ending(patience, history, 0.0) == "no trial after trial 2 was better, and limits.patience is 1"

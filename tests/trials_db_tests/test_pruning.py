"""Early stopping: who goes on, and that the others end at once."""

import random
import statistics
import threading
from pathlib import Path
from typing import Any

import pytest
from trial_objectives import Curve

from search_space.objective import EpochReport
from search_space.study import PruningSettings, SearchSettings
from trials_db.assignment import Assignment
from trials_db.bridge import propose
from trials_db.pruning import Judging, Pruning
from trials_db.records import Trial, TrialState
from trials_db.worker import Worker

HALVING = PruningSettings(kind="halving", from_epoch=1, factor=3, least_trials=1)


def rule(epochs: int = 27, **settings: Any) -> Pruning:
    return Pruning(HALVING.model_copy(update=settings), epochs)


def test_when_trials_are_judged() -> None:
    assert rule().rungs == [1, 3, 9]
    assert rule(epochs=28).rungs == [1, 3, 9, 27]
    assert rule(from_epoch=2, factor=4).rungs == [2, 8]
    assert [epoch for epoch in range(1, 31) if rule().is_due(epoch)] == [1, 3, 9]
    assert [epoch for epoch in range(1, 7) if rule(epochs=5, kind="median", from_epoch=3).is_due(epoch)] == [3, 4]
    assert not any(rule(kind="none").is_due(epoch) for epoch in range(30))


def test_of_as_many_as_the_factor_says_one_goes_on() -> None:
    judged = rule()
    assert judged.verdict(1, 0.5, []) == ""
    assert judged.verdict(1, 0.5, [0.4]) == ""
    assert judged.verdict(1, 0.3, [0.4]) == "reached 0.3000 after 1 epoch, the best of 2 trials 0.4000"
    assert judged.verdict(1, 0.4, [0.4, 0.3]) == ""
    others = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert [own for own in (0.05, 0.35, 0.45, 0.55) if judged.verdict(3, own, others) == ""] == [0.45, 0.55]
    assert judged.verdict(3, 0.05, others) == "reached 0.0500 after 3 epochs, the last of the best 2 of 6 trials 0.4000"
    assert rule(least_trials=3).verdict(1, 0.0, [0.9, 0.8]) == ""
    assert rule(least_trials=3).verdict(1, 0.0, [0.9, 0.8, 0.7]) != ""


@pytest.mark.parametrize("seed", range(5))
def test_the_median(seed: int) -> None:
    values = [random.Random(seed).random() for _ in range(20)]
    judged = rule(kind="median", least_trials=4)
    for number, own in enumerate(values):
        others = values[:number]
        goes_on = number < 4 or own >= statistics.median(others)
        assert (judged.verdict(2, own, others) == "") == goes_on


def test_a_trial_is_judged_when_it_is_first_validated() -> None:
    """At the first rung that it has passed, however long ago, and then at each."""

    def due(epochs: int, scored: list[int], **settings: Any) -> list[int]:
        judging = Judging(rule(epochs=epochs, **settings))
        reports = [
            EpochReport(epoch=epoch, training_loss=0.0, jaccard={"a": 0.5} if epoch in scored else {})
            for epoch in range(1, epochs + 1)
        ]
        return [report.epoch for report in reports if judging.is_due(report)]

    assert due(10, list(range(1, 11))) == [1, 3, 9]
    assert due(10, [2, 4, 6, 8, 10]) == [2, 3, 9]
    assert due(10, [5, 10]) == [5, 9]
    assert due(10, [10]) == [], "a trial that had all its epochs is not judged"
    assert due(5, [2], kind="median") == [2, 3, 4]
    assert due(5, [2], kind="none") == []


def test_the_verdict_tells_the_median() -> None:
    told = rule(kind="median", least_trials=4).verdict(2, 0.1, [0.2, 0.4, 0.6, 0.9])
    assert told == "reached 0.1000 after 2 epochs, the median of 4 trials 0.5000"


@pytest.mark.parametrize("seed", range(5))
def test_a_third_reaches_each_rung_however_trials_come(seed: int) -> None:
    """Over many trials that come in any order: of the first rung's, a third, and the best of them almost all."""
    rng = random.Random(seed)
    values = [rng.random() for _ in range(900)]
    judged, reached = rule(), {1: [], 3: [], 9: []}
    for value in values:
        for epoch, others in reached.items():
            others.append(value)
            if judged.verdict(epoch, value, others[:-1]):
                break
    assert 0.30 < len(reached[3]) / 900 < 0.40
    assert 0.08 < len(reached[9]) / 900 < 0.15
    best = sorted(values)[-45:]
    assert sum(value in reached[9] for value in best) > 0.9 * len(best)


def test_a_pruned_trial_ends_within_an_epoch_and_the_next_begins(
    store: Any, study: Any, new_trial: Any, tmp_path: Path
) -> None:
    reached = (0.9, 0.6, 0.3, 0.95)
    for number in range(len(reached)):
        store.add_trial("demo", new_trial(number))
    worker = Worker(store, [Assignment(study, Curve(reached), tmp_path, pruning=rule(epochs=9))])
    worker.run(threading.Event(), max_trials=len(reached))
    trials = store.trials("demo")
    assert [trial.state for trial in trials] == ["done", "pruned", "pruned", "done"]
    assert [trial.loss for trial in trials] == pytest.approx([0.1, None, None, 0.05])
    assert trials[1].outcome.reason == "reached 0.0667 after 1 epoch, the best of 2 trials 0.1000"
    for number in (1, 2):
        assert [report.epoch for report in trials[number].reports] == [1]
        begun = len(list((tmp_path / "trials" / f"{number:04d}").glob("epoch*")))
        assert begun <= 2
    assert [report.epoch for report in trials[3].reports] == list(range(1, 10))


def told(number: int, state: str, epochs: int, jaccard: float) -> Trial:
    reports = tuple(
        EpochReport(epoch=epoch, training_loss=1.0, jaccard={"a": jaccard}) for epoch in range(1, epochs + 1)
    )
    outcome = {"state": state, "loss": 1 - jaccard} if state == "done" else {"state": state, "reason": "so"}
    point = {"plan.learning_rate": 10.0 ** -(2 + number % 3), "plan.optimizer": number % 3}
    return Trial(
        number=number,
        state=TrialState(state),
        point=point,
        candidate={},
        seed=0,
        created_s=0.0,
        reports=reports,
        outcome=outcome,
    )


def test_a_pruned_trial_is_told_as_worse_than_those_that_ended_and_better_than_those_that_failed() -> None:
    """Between pruned ones, who came further is better, and then who reached more."""
    from trials_db.bridge import _told

    trials = [told(0, "done", 9, 0.2), told(1, "pruned", 1, 0.5), told(2, "pruned", 3, 0.1), told(3, "pruned", 3, 0.3)]
    trials += [told(4, "failed", 5, 0.9), told(5, "done", 9, 0.6)]
    trials.append(trials[0].model_copy(update={"number": 6, "state": TrialState.RUNNING, "outcome": None}))
    seen = _told(trials, 7, 0)
    order = [each.number for each in sorted(seen, key=lambda each: each.rank)]
    assert order[:5] == [5, 0, 3, 2, 1]
    assert [each.number for each in seen if each.has_failed] == [4]
    # One that was pruned before it had a score is known to be no more than bad.
    lost = trials[1].model_copy(update={"reports": ()})
    assert [each.number for each in _told([lost.model_copy(update={"number": 0})], 1, 0) if each.has_failed] == [0]


def test_proposals_follow_what_was_not_pruned() -> None:
    from search_space.space import resolve_space

    overrides = {
        "*": {"drop": True},
        "plan.learning_rate": {"low": 1e-4, "high": 1e-2},
        "plan.optimizer": {"drop": False},
    }
    del overrides["plan.optimizer"]
    space = resolve_space(overrides)
    assert list(space) == ["plan.learning_rate"]
    history = []
    for number in range(24):
        good = number % 3 == 0
        trial = told(number, "done" if good else "pruned", 9 if good else 1, 0.5)
        history.append(trial.model_copy(update={"point": {"plan.learning_rate": trial.point["plan.learning_rate"]}}))
    settings = SearchSettings(startup_trials=1)
    rates = [propose(space, history, 24, seed, settings).point["plan.learning_rate"] for seed in range(12)]
    assert statistics.median(rates) > 3e-3

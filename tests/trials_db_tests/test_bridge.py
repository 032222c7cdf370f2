"""What Hyperopt proposes: by the seed and the losses alone, and better than chance."""

import statistics
from collections.abc import Callable

import pytest
from trial_objectives import synthetic_loss

from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.default_space import Space
from search_space.dimensions import Choice, Fixed, Integer
from search_space.objective import Outcome
from search_space.space import resolve_space
from search_space.study import SearchSettings
from trials_db import bridge
from trials_db.bridge import derived_seed, new_trial, propose
from trials_db.records import NewTrial, Trial, TrialState

SPACE: Space = resolve_space({})
# What a search learns must not hang on how many dimensions of no effect the default space has.
KEPT = ("depth", "growth", "block", "skip", "activation", "learning_rate", "optimizer", "batch_size")
NARROW: Space = {
    path: dim
    for path, dim in resolve_space({"architecture.depth": {"high": 5}}).items()
    if path.split(".")[1].partition("[")[0] in KEPT
}
SETTINGS = SearchSettings(startup_trials=8, gamma=0.5, lookahead=3)
RANDOM_ONLY = SETTINGS.model_copy(update={"startup_trials": 10_000})

Objective = Callable[[Candidate], Outcome]


def bowl(candidate: Candidate) -> Outcome:
    return Outcome(state="done", loss=synthetic_loss(candidate))


def deep_fails(candidate: Candidate) -> Outcome:
    """The bottom of the bowl lies beside a cliff: deep networks fail."""
    if candidate.architecture.depth >= 4:
        return Outcome(state="failed", reason="too deep")
    return bowl(candidate)


def _running(new: NewTrial) -> Trial:
    return Trial(**new.model_dump(), state=TrialState.RUNNING, created_s=0.0)


def _ended(trial: Trial, outcome: Outcome) -> Trial:
    return trial.model_copy(update={"state": TrialState(outcome.state), "outcome": outcome})


def search(
    objective: Objective, num_trials: int, seed: int, settings: SearchSettings = SETTINGS, space: Space = SPACE
) -> list[Trial]:
    """Run a search whose every trial ends before the next one is proposed."""
    history: list[Trial] = []
    for number in range(num_trials):
        trial = _running(new_trial(space, history, number, seed, settings))
        history.append(_ended(trial, objective(trial.decoded())))
    return history


def _best(history: list[Trial]) -> float:
    return min(trial.loss for trial in history if trial.loss is not None)


def searched(space: Space) -> list[str]:
    """Dimensions with more than one value."""
    several = [path for path, dim in space.items() if isinstance(dim, Choice) and len(dim.options) > 1]
    return several + [path for path, dim in space.items() if not isinstance(dim, Choice | Fixed) and dim.low < dim.high]


PLAN_PARTS = ("sampling", "optimizer", "schedule", "averaging")


def test_proposals_decode_and_hold_their_active_labels_only() -> None:
    for trial in search(bowl, 30, seed=1):
        candidate = trial.decoded()
        parts = ("encoder", "block", "bottom", "up", "dropout", "regularisation")
        branches = {f"architecture.{part}": getattr(candidate.architecture, part) for part in parts}
        branches |= {f"plan.{part}": getattr(candidate.plan, part) for part in PLAN_PARTS}
        conditional = {label.split("]")[0] for label in trial.point if "[" in label}
        chosen = {f"{path}[{branch.kind}" for path, branch in branches.items()}
        assert conditional == {each for each in chosen if any(path.startswith(f"{each}].") for path in searched(SPACE))}
        assert trial.point["architecture.depth"] == candidate.architecture.depth
        assert all(type(value) in (int, float) for value in trial.point.values())


def test_proposals_depend_on_seed_and_losses_alone() -> None:
    assert search(bowl, 20, seed=1) == search(bowl, 20, seed=1)
    first, second = search(bowl, 20, seed=1), search(bowl, 20, seed=2)
    assert all(a.candidate != b.candidate and a.seed != b.seed for a, b in zip(first, second, strict=True))
    assert len({trial.seed for trial in first}) == 20


def test_five_and_five_trials_equal_ten() -> None:
    settings = SearchSettings(startup_trials=3, lookahead=2)
    whole = search(bowl, 10, seed=5, settings=settings)
    resumed = whole[:5]
    # Read back from a store, and in another order.
    history = [Trial.model_validate_json(trial.model_dump_json(), strict=False) for trial in reversed(resumed)]
    for number in range(5, 10):
        trial = _running(new_trial(SPACE, history, number, 5, settings))
        history.append(_ended(trial, bowl(trial.decoded())))
    assert sorted(history, key=lambda trial: trial.number) == whole


def test_what_ended_within_the_lookahead_makes_no_difference() -> None:
    """As if many workers ran: the last trials are still under way, or ended well, or failed."""
    whole = search(bowl, 21, seed=3)
    expected = new_trial(SPACE, whole, 20, 3, SETTINGS)
    under_way = [*whole[:17], *(trial.model_copy(update={"state": "new", "outcome": None}) for trial in whole[17:20])]
    failed = [*whole[:17], *(_ended(trial, Outcome(state="failed", reason="no")) for trial in whole[17:20])]
    for history in (whole[:20], under_way, failed, whole):
        assert new_trial(SPACE, history, 20, 3, SETTINGS) == expected
    better = [_ended(whole[0], Outcome(state="done", loss=-5.0)), *whole[1:20]]
    assert new_trial(SPACE, better, 20, 3, SETTINGS) != expected


def test_what_was_proposed_in_other_spaces_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Hyperopt makes of a space is kept, for few spaces."""
    few = {"*": {"drop": True}, "architecture.block": {"choices": ["plain"]}}
    rates = [{"plan.learning_rate": {"low": 1e-4, "high": high}} for high in (1e-3, 2e-3, 3e-3, 4e-3, 5e-3)]
    fixed = [{"plan.batch_size": {"fix": number}, "plan.learning_rate": {"low": 1e-4}} for number in (4, 8)]
    spaces = [resolve_space({**few, **each}) for each in (*rates, *fixed)]
    alone = []
    for space in spaces:
        monkeypatch.setattr(bridge, "_MADE", {})
        alone.append(propose(space, [], 0, 1, SETTINGS))
    assert [propose(space, [], 0, 1, SETTINGS) for space in (*spaces, *reversed(spaces))] == [*alone, *alone[::-1]]
    assert len(bridge._MADE) == bridge.MOST_MADE
    assert len({str(each.sample) for each in alone}) == len(alone)


def test_the_scale_of_losses_makes_no_difference() -> None:
    whole = search(bowl, 20, seed=3)
    scaled = [_ended(trial, Outcome(state="done", loss=trial.loss * 100 - 7)) for trial in whole]
    assert propose(SPACE, scaled, 20, 3, SETTINGS) == propose(SPACE, whole, 20, 3, SETTINGS)


def test_a_proposal_waits_for_what_it_rests_on() -> None:
    whole = search(bowl, 10, seed=1)
    under_way = [*whole[:4], whole[4].model_copy(update={"state": TrialState.RUNNING}), *whole[5:]]
    with pytest.raises(ValueError, match="trial 8 is proposed before trial 4 has ended"):
        propose(SPACE, under_way, 8, 1, SETTINGS)
    propose(SPACE, under_way, 7, 1, SETTINGS)
    with pytest.raises(ValueError, match="trial 11 is proposed before trial 10"):
        propose(SPACE, whole, 11, 1, SETTINGS)


def test_tpe_beats_random_search() -> None:
    """Measured for these seeds; both are deterministic."""
    seeds = range(4)
    tpe = [_best(search(bowl, 50, seed, space=NARROW)) for seed in seeds]
    random = [_best(search(bowl, 50, seed, RANDOM_ONLY, NARROW)) for seed in seeds]
    assert statistics.mean(tpe) < 0.8 * statistics.mean(random)


def test_failing_points_do_not_draw_tpe_back() -> None:
    """The prior fails in half of its trials: depths are even. TPE learns to stay away, close as the cliff is."""
    tried = [trial for seed in range(3) for trial in search(deep_fails, 50, seed, space=NARROW)[10:]]

    num_failed = sum(trial.state is TrialState.FAILED for trial in tried)

    assert NARROW["architecture.depth"] == Integer(2, 5)
    assert num_failed < 0.6 * (len(tried) / 2)


def test_while_nothing_succeeds_failures_are_avoided() -> None:
    """Twelve networks of depth 5 have failed; of twelve proposals the prior would make three of depth 5."""

    def fails(candidate: Candidate) -> Outcome:
        return Outcome(state="failed", reason="no")

    startup = [
        trial.model_copy(update={"point": {**trial.point, "architecture.depth": 5.0}})
        for trial in search(fails, 12, seed=0)
    ]
    # TPE itself would take ceil(2 * sqrt(12)) = 7 of the failures for good ones.
    settings = SearchSettings(startup_trials=8, lookahead=1, gamma=2.0)
    proposals = [propose(SPACE, startup, 12, seed, settings) for seed in range(12)]
    deep = sum(proposal.point["architecture.depth"] == 5.0 for proposal in proposals)
    assert deep <= 1


def test_a_space_with_nothing_left_to_choose() -> None:
    fixed = resolve_space(
        {
            "*": {"drop": True},
            "architecture.block": {"fix": "plain"},
            "architecture.block[plain].kernel_px": {"fix": 3},
            "plan.learning_rate": {"fix": 0.001},
            "plan.scaling.kind": {"fix": "bytes"},
        }
    )
    history = search(bowl, 12, seed=0, space=fixed)
    assert {trial.decoded().fingerprint for trial in history} == {history[0].decoded().fingerprint}
    assert history[0].decoded().plan.learning_rate == 0.001
    assert history[0].point == {}
    assert len({trial.seed for trial in history}) == 12


def test_one_dimension_left() -> None:
    fixed = {path: {"fix": dim.options[0]} for path, dim in SPACE.items() if hasattr(dim, "options")}
    ranges = {path: {"fix": dim.low} for path, dim in SPACE.items() if hasattr(dim, "low")}
    ranges.pop("plan.learning_rate")
    # Under a choice that is fixed only one branch is left.
    there = resolve_space({path: override for path, override in fixed.items() if "[" not in path})
    space = resolve_space({path: override for path, override in {**fixed, **ranges}.items() if path in there})
    history = search(bowl, 15, seed=0, space=space)
    assert {tuple(trial.point) for trial in history} == {("plan.learning_rate",)}


def test_seeds_are_small_distinct_and_stable() -> None:
    seeds = {derived_seed(study, number, purpose) for study in (0, 1) for number in (0, 1) for purpose in ("a", "b")}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**31 for seed in seeds)
    # By `printf 0/0/trial | sha256sum`; another value would make every stored study differ from its continuation.
    assert derived_seed(0, 0, "trial") == 1662845096


def test_a_sample_is_plain() -> None:
    sample = propose(SPACE, [], 0, 0, SETTINGS).sample
    assert decode(Candidate, sample, where="sample")
    assert isinstance(sample["plan"]["loss"], dict)

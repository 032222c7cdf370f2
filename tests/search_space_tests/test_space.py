"""Every sample of the space decodes, every option is reachable, and overrides do what they say."""

import tomllib
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from hyperopt import space_eval
from hyperopt.pyll import as_apply, clone, rec_eval
from hyperopt.pyll.stochastic import recursive_set_rng_kwarg, sample

from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.default_space import CLASS_WEIGHTS, DEFAULT_SPACE
from search_space.dimensions import Choice, Fixed, Integer, Real
from search_space.errors import MalformedError
from search_space.network.unet import InputBand
from search_space.space import hyperopt_space, least_demand_px, resolve_space, space_fingerprint, space_for


def draw(num: int, overrides: dict[str, Any] | None = None) -> list[Candidate]:
    """As Hyperopt's `sample` draws them, which prepares the same for each anew."""
    expression = clone(as_apply(hyperopt_space(resolve_space(overrides or {}))))
    random = recursive_set_rng_kwarg(expression, as_apply(np.random.default_rng(0)))
    return [decode(Candidate, rec_eval(random), where="sample") for _ in range(num)]


@cache
def _thousand() -> list[Candidate]:
    return draw(1000)


def drawn(num: int) -> list[Candidate]:
    """The first samples of the whole space, drawn once for all tests."""
    return _thousand()[:num]


def test_of_two_patterns_the_narrower_counts_whatever_their_order() -> None:
    overrides = {
        "plan.augmentation.*": {"drop": True},
        "plan.aug*.ji*": {"fix": 0.5},
        "plan.augmentation.turns": {"fix": "d4"},
    }
    for given in (overrides, dict(reversed(overrides.items()))):
        space = resolve_space(given)
        assert {path for path in space if path.startswith("plan.augmentation")} == {
            "plan.augmentation.jitter",
            "plan.augmentation.turns",
        }


def test_two_patterns_of_which_neither_is_the_narrower_are_refused() -> None:
    across = {"plan.augmentation.*t*": {"drop": True}, "plan.augmentation.*e*": {"fix": 0.5}}
    with pytest.raises(MalformedError, match=r"both fit plan\.augmentation\..*neither is the narrower.*by itself"):
        resolve_space(across)
    same = {path: {"drop": True} for path in across}
    assert [path for path in resolve_space(same) if path.startswith("plan.augmentation")] == ["plan.augmentation.zoom"]


def test_hundreds_of_samples_make_the_round_trip() -> None:
    for candidate in drawn(300):
        assert decode(Candidate, encode(candidate), where="test") == candidate
        if candidate.architecture.encoder.kind == "grown" or candidate.architecture.depth < 6:
            candidate.check_feasible()


def test_samples_reach_every_option_and_both_ends() -> None:
    candidates = drawn(400)
    architectures = [each.architecture for each in candidates]

    assert {each.depth for each in architectures} == {2, 3, 4, 5, 6}
    grown = [each.encoder for each in architectures if each.encoder.kind == "grown"]
    assert {each.pooling for each in grown} == {"max", "average", "strided", "inception"}
    for path, kinds in (("block", {a.block.kind for a in architectures}), ("up", {a.up.kind for a in architectures})):
        assert kinds == set(DEFAULT_SPACE[f"architecture.{path}"].options)  # type: ignore[union-attr]
    assert {each.kernel_initialisation for each in architectures} == set(
        DEFAULT_SPACE["architecture.kernel_initialisation"].options  # type: ignore[union-attr]
    )
    rates = np.array([each.plan.learning_rate for each in candidates])
    assert 1e-4 <= rates.min() < 1.5e-4
    assert 7e-3 < rates.max() <= 1e-2
    # Log-uniform: about half of the rates lie below the geometric mean.
    assert 0.4 < (rates < 1e-3).mean() < 0.6


def test_samples_hold_every_scaling() -> None:
    scalings = [each.plan.scaling for each in drawn(200)]

    kinds, scopes = ("clipped", "standard", "percentile", "bytes"), ("dataset", "scene")
    assert {(each.kind, each.scope) for each in scalings} == set(product(kinds, scopes))
    assert {(each.low_percentile, each.high_percentile) for each in scalings} == {(1.0, 99.0)}


def test_the_scaling_can_be_fixed_and_its_percentiles_be_moved() -> None:
    overrides = {
        "plan.scaling.scope": {"fix": "scene"},
        "plan.scaling.kind": {"choices": ["bytes", "percentile"]},
        "plan.scaling.low_percentile": {"low": 0.5, "high": 4},
        "plan.scaling.high_percentile": {"fix": 98.0},
    }

    scalings = [each.plan.scaling for each in draw(100, overrides)]

    assert {each.scope for each in scalings} == {"scene"}
    assert {each.kind for each in scalings} == {"bytes", "percentile"}
    lows = np.array([each.low_percentile for each in scalings])
    assert 0.5 <= lows.min() < 1.0
    assert 3.0 < lows.max() <= 4.0
    assert {each.percentiles for each in scalings} == {(low, 98.0) for low in lows}


def test_details_of_losses_are_searched_and_weights_of_classes_set() -> None:
    details = [each.plan.loss_details for each in drawn(60)]

    assert {each.positive_weight > 1 for each in details} == {True, False}
    assert max(each.positive_weight for each in details) <= 8
    assert {each.focal_gamma > 2 for each in details} == {each.energy > 1 for each in details} == {True, False}
    assert {each.miss_share > 0.5 for each in details} == {True, False}
    assert [each.class_weights for each in details] == [{}] * 60
    assert str(DEFAULT_SPACE[CLASS_WEIGHTS]) == "= none"
    for override in ({"fix": {"road": 2}}, {"choices": [{"road": 2}, {}]}):
        found = [each.plan.loss_details.class_weights for each in draw(12, {CLASS_WEIGHTS: override})]
        assert {"road": 2.0} in found
        assert ({} in found) == ("choices" in override)


def test_details_that_no_loss_heeds_are_not_searched() -> None:
    def idle(*losses: dict[str, float], energy: bool = True) -> set[str]:
        overrides = {"plan.loss": {"choices": list(losses)}, "architecture.energy": {"fix": energy}}
        space = resolve_space(overrides)
        left = space_for(space, [InputBand("red"), InputBand("swir", 1)])
        return {path.removeprefix("plan.loss_details.") for path in space if path not in left}

    assert idle({"bce": 1.0}) == {"focal_gamma", "miss_share"}
    assert idle({"dice": 1.0}, energy=False) == {"positive_weight", "focal_gamma", "miss_share", "energy"}
    assert idle({"dice": 1.0, "focal": 0.0}) == {"positive_weight", "focal_gamma", "miss_share"}
    assert idle({"dice": 1.0}, {"focal": 1.0}, {"tversky": 1.0}) == set()
    every = resolve_space({"*": {"drop": True}})
    assert space_for(every, [InputBand("red")]) == {}


def test_a_range_without_width_is_shown_as_its_value() -> None:
    assert str(DEFAULT_SPACE["plan.scaling.low_percentile"]) == "= 1"


def test_whole_numbers_are_drawn_evenly() -> None:
    depths = np.array([each.architecture.depth for each in drawn(1000)])

    counts = np.array([(depths == depth).sum() for depth in (2, 3, 4, 5, 6)])
    assert counts.min() > 160
    assert counts.max() < 240


def test_every_field_of_a_candidate_is_a_dimension() -> None:
    def leaves(plain: dict[str, Any], prefix: str) -> set[str]:
        found = set()
        for key, value in plain.items():
            path = f"{prefix}{key}"
            if isinstance(value, dict) and path not in DEFAULT_SPACE:
                found |= leaves(value, f"{path}.")
            else:
                found.add(path)
        return found

    paths = {path for path in DEFAULT_SPACE if "[" not in path}
    assert leaves(encode(Candidate()), "") == paths


def test_samples_hold_every_way_to_optimise_with_its_knobs() -> None:
    plans = [each.plan for each in drawn(400)]
    for name in ("optimizer", "schedule", "averaging"):
        kinds = set(DEFAULT_SPACE[f"plan.{name}"].options)  # type: ignore[union-attr]
        assert {getattr(plan, name).kind for plan in plans} == kinds
    momenta = {plan.optimizer.momentum for plan in plans if plan.optimizer.kind == "sgd"}
    assert momenta == {0.9, 0.95, 0.99}
    cycles = {plan.schedule.cycles for plan in plans if plan.schedule.kind == "cyclic"}
    assert cycles == {2, 3, 4, 5}


def test_overrides_narrow_choose_and_fix() -> None:
    space = resolve_space(
        {
            "architecture.depth": {"low": 2, "high": 3},
            "architecture.encoder[grown].pooling": {"choices": ["max", "average"]},
            "architecture.block": {"fix": "inception"},
            "plan.patch_px": {"fix": 64},
            "plan.learning_rate": {"low": 1e-3},
        }
    )

    assert space["architecture.depth"] == Integer(2, 3)
    assert space["architecture.encoder[grown].pooling"] == Choice(("max", "average"))
    assert space["plan.patch_px"] == Fixed(64)
    assert space["plan.learning_rate"] == Real(1e-3, 1e-2, log=True)
    for candidate in draw(50, {path: {"fix": "inception"} for path in ["architecture.block"]}):
        assert candidate.architecture.block.kind == "inception"


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        ({"architecture.dept": {"low": 2}}, "Did you mean 'architecture.depth'"),
        ({"architecture.depth": {"low": 2, "high": 9}}, "from 1 to 6. Received 9"),
        ({"architecture.depth": {"low": 4, "high": 3}}, "low must not exceed high"),
        ({"architecture.depth": {"low": 2.5}}, "whole"),
        ({"architecture.depth": {"choices": [2]}}, "takes low = ... and high = ..."),
        ({"architecture.skip": {"low": 1}}, r"takes choices = \[...\]"),
        ({"architecture.skip": {"choices": ["addd"]}}, "architecture.skip.*Received 'addd'"),
        ({"architecture.skip": {"choices": ["add", "add"]}}, "a choice is given twice. Received 'add'"),
        ({"architecture.skip": {"choices": []}}, "no choice is left"),
        ({"architecture.skip": {"drop": False}}, "or drop = true"),
        ({"architecture.block": {"choices": ["denser"]}}, "denser"),
        ({"architecture.encoder[grown].pooling": {"fix": "min"}}, "architecture.encoder.pooling.*Received 'min'"),
        ({"nothing.*": {"drop": True}}, r"unknown dimension 'nothing\.\*'"),
        ({"plan.learning_rate": {"low": 0}}, "above 0"),
        ({"plan.optimizer": {"fix": "adamax"}}, "plan.optimizer.kind.*Received 'adamax'"),
        ({"plan.optimizer[adam].momentum": {"fix": 0.9}}, r"Did you mean 'plan\.optimizer\[sgd\]\.momentum'"),
        ({"plan.schedule[steps].at": {"choices": [[0.5, 0.2]]}}, r"must rise, such as \[0\.5, 0\.75\]"),
        ({"plan.schedule[steps].at": {"choices": [[0.5, 1.0]]}}, "item 2 must be below 1. Received 1"),
        ({"plan.schedule[cyclic].cycles": {"low": 0}}, "must be from 1 to 100. Received 0"),
        ({"plan.averaging[ema].momentum": {"choices": [1.0]}}, "must be at least 0.5 and below 1. Received 1"),
        ({"plan.patch_px": {"fixed": 64}}, "Did you mean 'fix'"),
        ({"plan.scaling.kind": {"choices": ["clipped", "minmax"]}}, "plan.scaling.kind.*Received 'minmax'"),
        ({"plan.scaling.low_percentile": {"high": 50}}, "must be at least 0 and below 50. Received 50"),
        ({"plan.scaling.high_percentile": {"low": 40.0}}, "must be above 50 and at most 100. Received 40"),
        ({CLASS_WEIGHTS: {"fix": {"road": 0}}}, r"class_weights\.road' must be above 0. Received 0"),
        ({CLASS_WEIGHTS: {"fix": 3}}, r"class_weights' must be a table of keys. Received 3"),
        ({"plan.loss_details.miss_share": {"high": 1.5}}, "must be from 0 to 1. Received 1.5"),
        ({"plan.scaling": {"fix": "scene"}}, "unknown dimension 'plan.scaling'. `show-space` lists all"),
        ({"architectur.*": {"drop": True}}, r"Did you mean 'architecture\.\*'"),
        ({"plan.learning_rate": {"fix": 0.1, "drop": True}}, "takes one of low and high, choices, fix, or drop"),
        ({"architecture.depth": {"low": 2.5}}, "low and high must be whole numbers"),
        (
            {"architecture.block[aspp].rate": {"fix": 2}},
            r"unknown dimension 'architecture\.block\[aspp\]\.rate'. Did you mean 'architecture\.bottom\[aspp\]\.rate'",
        ),
        (
            {"architecture.bottom[aspp].rate": {"low": 1, "high": 20}},
            r"space\.architecture\.bottom\[aspp\]\.rate: .* must be from 1 to 12. Received 20",
        ),
        (
            {"architecture.block": {"drop": True}, "architecture.block[dense].layers": {"fix": 3}},
            r"\[dense\]\.layers exists only where architecture\.block is dense, and architecture\.block is dropped",
        ),
        ({"plan.patch_px": 64}, r"\{ fix = 64 \}"),
        ({"plan.patch_px": [64, 96]}, r"\{ choices = \[64, 96\] \}"),
        ({"plan.patch": {"fix": 64}}, "unknown dimension 'plan.patch'. Did you mean 'plan.patch_px'"),
        (
            {"plan.augmentation": {"drop": True}},
            "unknown dimension 'plan.augmentation'. Did you mean 'plan.augmentation.*'",
        ),
        ({"plan": {"patch": {"fix": 64}}}, "unknown dimension 'plan'. `show-space` lists all"),
    ],
)
def test_wrong_overrides_are_refused(overrides: dict[str, Any], match: str) -> None:
    with pytest.raises(MalformedError, match=match):
        resolve_space(overrides)


@pytest.mark.parametrize(
    "toml",
    [
        "plan.patch_px = { fix = 64 }",
        "plan.patch_px.fix = 64",
        "plan = { zoom = 3, patch_px = { fix = 64 } }",
        "[plan]\npatch_px = { fix = 64 }",
    ],
)
def test_a_dotted_name_without_quotes_is_told_how_to_write_it(toml: str) -> None:
    with pytest.raises(MalformedError, match=r"'plan\.patch_px' needs quotes") as caught:
        resolve_space(tomllib.loads(toml))

    remedy = str(caught.value).partition("Under [space] write ")[2].partition(", after")[0]
    assert resolve_space(tomllib.loads(remedy))["plan.patch_px"] == Fixed(64)


@pytest.mark.parametrize(
    ("name", "override"),
    [("plan.loss", {"fix": {"bce": 1.0, "dice": 0.5}}), ("architecture.block", {"choices": ["plain", "residual"]})],
)
def test_the_remedy_for_missing_quotes_is_valid_toml(name: str, override: dict[str, Any]) -> None:
    parent, leaf = name.split(".")

    with pytest.raises(MalformedError) as caught:
        resolve_space({parent: {leaf: override}})

    remedy = caught.value.remedy
    assert tomllib.loads(remedy.partition("write ")[2].partition(", after")[0]) == {name: override}
    assert tomllib.loads(remedy.partition("'")[2].rstrip("'")) == {"space": {name: override}}


def test_a_space_without_any_feasible_network_is_refused() -> None:
    with pytest.raises(MalformedError, match=r"no network can be built: plan\.patch_px must .* = 32") as caught:
        resolve_space({"plan.patch_px": {"choices": [16, 24]}, "architecture.depth": {"low": 5}})
    assert "'plan.patch_px': '16 | 24'" in str(caught.value)
    with pytest.raises(MalformedError, match="margin_px must leave at least 8 px"):
        resolve_space({"plan.patch_px": {"fix": 64}, "architecture.margin_px": {"fix": 30}})
    assert resolve_space({"plan.patch_px": {"choices": [16, 40]}, "architecture.depth": {"low": 5}})


def test_what_is_dropped_is_what_a_candidate_has_by_itself() -> None:
    """A star fits every dimension of a group but those that are named."""
    space = resolve_space(
        {
            "architecture.*": {"drop": True},
            "architecture.block": {"choices": ["plain", "dense"]},
            "architecture.block[dense].layers": {"fix": 3},
            "*.learning_rate": {"fix": 1e-3},
        }
    )
    assert [path for path in space if path.startswith("architecture")] == [
        "architecture.block",
        "architecture.block[dense].layers",
    ]
    assert space["plan.learning_rate"] == Fixed(1e-3)
    expression = hyperopt_space(space)
    rng = np.random.default_rng(0)
    blocks = []
    for _ in range(20):
        candidate = decode(Candidate, sample(expression, rng), where="sample")
        blocks.append(candidate.architecture.block)
        assert candidate.architecture == Candidate().architecture.model_copy(update={"block": blocks[-1]})
    assert {(block.kind, getattr(block, "layers", 0)) for block in blocks} == {("plain", 0), ("dense", 3)}
    assert least_demand_px(space)[1] == min(Candidate().context_px(999), 999)


def test_options_may_be_drawn_more_often_than_others() -> None:
    kinds = [each.architecture.encoder.kind for each in drawn(600)]

    assert 0.75 < kinds.count("grown") / 600 < 0.85
    assert len(set(kinds)) == 6
    assert "grown (80%)" in str(DEFAULT_SPACE["architecture.encoder"])


def test_fingerprint_follows_the_ranges() -> None:
    plain = space_fingerprint(resolve_space({}))

    assert plain == space_fingerprint(resolve_space({}))
    assert plain != space_fingerprint(resolve_space({"architecture.depth": {"high": 4}}))


def test_a_recorded_point_gives_its_sample_back() -> None:
    expression = hyperopt_space(resolve_space({"architecture.block": {"fix": "residual"}}))
    point = {
        path: 0 if isinstance(dimension, Choice) else dimension.low
        for path, dimension in DEFAULT_SPACE.items()
        if isinstance(dimension, (Choice, Real, Integer))
    }

    candidate = decode(Candidate, space_eval(expression, point), where="point")

    assert candidate.architecture.block.kind == "residual"
    assert candidate.architecture.base_filters == 8
    assert candidate.plan.learning_rate == 1e-4


def test_the_least_demand_is_that_of_no_candidate_undercut() -> None:
    overrides = {"architecture.depth": {"low": 1, "high": 3}, "plan.patch_px": {"choices": [960, 320]}}
    patch_px, context_px = least_demand_px(resolve_space(overrides))

    contexts = [candidate.context_px(10_000) for candidate in draw(400, overrides)]

    assert patch_px == 320
    assert 0 < context_px <= min(contexts)


def test_a_narrowed_choice_keeps_its_shares() -> None:
    """What stays is drawn as often beside the others as before; what comes in as often as these in the mean."""

    def weights(path: str, *choices: object) -> tuple[float, ...]:
        dimension = resolve_space({path: {"choices": list(choices)}})[path]
        assert isinstance(dimension, Choice)
        return dimension.weights

    assert weights("architecture.encoder", "grown", "resnet34") == pytest.approx((0.8 / 0.84, 0.04 / 0.84))
    assert weights("architecture.skip", "none", "add") == pytest.approx((1 / 3, 2 / 3))
    assert weights("architecture.margin_px", 0, 8, 32) == pytest.approx((0.6 / 1.2, 0.2 / 1.2, 0.4 / 1.2))
    assert weights("architecture.margin_px", 4, 32) == ()
    assert weights("architecture.activation", "relu", "elu") == ()

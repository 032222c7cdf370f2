"""What a network costs, counted by hand, and which candidates cost too much."""

from typing import Any

import pytest

from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.errors import InfeasibleError
from search_space.network.cost import check_cost, training_cost
from search_space.network.graph import Draft
from search_space.network.layers import (
    Activate,
    Add,
    Attend,
    Conv,
    DepthwiseConv,
    Normalise,
    Pool,
    TileMean,
    TransposedConv,
)
from search_space.network.unet import InputBand, draw_up
from search_space.optimisation import MovingAverage, SnapshotAverage
from search_space.study import Budget, LimitSettings

BANDS = [InputBand(f"band{number}") for number in range(20)]
BUDGET = Budget(epochs=1, steps_per_epoch=100)


def limits(**fields: Any) -> LimitSettings:
    return decode(LimitSettings, {"max_trials": 1, **fields}, where="limits")


def candidate(**architecture: Any) -> Candidate:
    return decode(Candidate, {"architecture": architecture, "plan": {"patch_px": 64, "batch_size": 2}}, where="test")


def test_operations_are_those_of_the_textbook() -> None:
    """8 x 8 px: a 3x3 convolution from 4 to 6 channels at half the resolution, and so on."""
    draft = Draft(4)
    x = draft.add("conv", Conv(6, (3, 3), stride=2, use_bias=True), draft.image)
    conv = 16 * 6 * (2 * 9 * 4 + 1)
    x = draft.add("norm", Normalise("batch"), x)
    x = draft.add("relu", Activate("relu"), x)
    depthwise = draft.add("depthwise", DepthwiseConv(5), x)
    x = draft.add("sum", Add(), x, depthwise)
    x = draft.add("attend", Attend(2), x, x, x)
    mean = draft.add("mean", TileMean(), x)
    up = draft.add("up", TransposedConv(2, 2), draft.add("pool", Pool("max"), x))
    graph = draft.finished({"masks": up, "mean": mean})

    pixels = 16 * 6
    others = pixels * 2 + pixels + pixels * 2 * 25 + pixels + pixels * 4 * 16 + 4 * 6 * 4
    assert graph.flops(8, 8) == conv + others + 16 * 2 * (2 * 6 + 1)
    assert graph.num_parameters == 6 * (9 * 4 + 1) + 4 * 6 + 25 * 6 + 2 * (4 * 6 + 1)


def test_attention_keeps_scores_between_all_positions() -> None:
    """Four heads over 40 x 40 positions: 4 x 1600 x 1600 numbers of 4 bytes for each of 8 patches; twice more pass."""
    plain = decode(Architecture, {"depth": 2}, where="test")
    bottom = decode(Architecture, {"depth": 2, "bottom": {"kind": "attention", "heads": 4}}, where="test")
    costs = [training_cost(draw_up(each, BANDS, 1), 160, 8) for each in (plain, bottom)]

    scores = 4 * 1600**2 * 4 * 8
    assert costs[1].kept_bytes - costs[0].kept_bytes == pytest.approx(scores, rel=0.1)
    assert costs[1].device_bytes > costs[0].device_bytes + 2 * scores


def test_what_nothing_needs_is_left_out_and_names_are_unique() -> None:
    draft = Draft(3)
    used = draft.add("used", Conv(2), draft.image)
    draft.add("idle", Conv(900), draft.image)
    assert [node.name for node in draft.finished({"masks": used}).nodes] == ["image", "image_used"]
    with pytest.raises(ValueError, match="two layers are called image_used"):
        draft.add("used", Conv(2), draft.image)
    with pytest.raises(ValueError, match="signals must be alike"):
        draft.add("sum", Add(), used, draft.image)


def test_cost_grows_as_it_should() -> None:
    graph = draw_up(Architecture(), BANDS, 2)
    once, twice = training_cost(graph, 64, 4), training_cost(graph, 64, 8)
    assert twice.flops == 2 * once.flops
    assert twice.kept_bytes == 2 * once.kept_bytes
    assert training_cost(graph, 128, 4).kept_bytes == 4 * once.kept_bytes
    # Weights, gradients and Adam's two moments, four bytes each.
    assert once.weights_bytes == twice.weights_bytes == 16 * graph.num_parameters
    assert training_cost(graph, 64, 4, "rmsprop").weights_bytes == 12 * graph.num_parameters
    # Moving averages are a copy beside them; snapshots wait elsewhere, as a sum in double precision or each by itself.
    averages = training_cost(graph, 64, 4, "sgd", MovingAverage())
    assert averages.weights_bytes == 16 * graph.num_parameters
    assert averages.host_bytes > training_cost(graph, 64, 4, "sgd").host_bytes + 150_000 * averages.num_variables
    for snapshots, copies in ((SnapshotAverage(num=5), 2), (SnapshotAverage(num=5, of="predictions"), 5)):
        cost = training_cost(graph, 64, 4, "adam", snapshots)
        assert cost.device_bytes == once.device_bytes
        assert cost.host_bytes - once.host_bytes == pytest.approx(4 * copies * graph.num_parameters, abs=1)
    # 50 px are padded to 56, the next multiple of eight.
    assert training_cost(graph, 50, 4) == training_cost(graph, 56, 4)


DENSE, INCEPTION, RESIDUAL = (
    {"depth": depth, "base_filters": filters, "block": {"kind": kind}}
    for depth, filters, kind in ((3, 8, "dense"), (4, 16, "inception"), (4, 18, "residual"))
)
MEASURED_MB: list[tuple[dict[str, Any], str, str, int]] = [
    (DENSE, "adam", "none", 403),
    (INCEPTION, "adam", "none", 512),
    (RESIDUAL, "adam", "none", 354),
    (DENSE, "adamw", "none", 426),
    (INCEPTION, "adamw", "none", 545),
    (RESIDUAL, "adamw", "none", 378),
    (DENSE, "sgd", "none", 298),
    (INCEPTION, "sgd", "none", 361),
    (RESIDUAL, "sgd", "none", 273),
    (DENSE, "nadam", "none", 515),
    (DENSE, "rmsprop", "none", 316),
    (DENSE, "sgd", "ema", 342),
]
"""By `benchmarks/network_memory.py --optimizers`: 0.2, 1.1 and 5.1 million weights."""


@pytest.mark.parametrize(("architecture", "optimizer", "averaging", "measured_mb"), MEASURED_MB)
def test_memory_of_many_variables_is_what_was_measured(
    architecture: dict[str, Any], optimizer: str, averaging: str, measured_mb: int
) -> None:
    plan = {"optimizer": {"kind": optimizer}, "averaging": {"kind": averaging}}
    net = decode(Candidate, {"architecture": architecture, "plan": plan}, where="test")
    bands = [InputBand(f"band{number}", number // 8) for number in range(20)]
    cost = training_cost(draw_up(net.architecture, bands, 4), 32, 2, optimizer, net.plan.averaging)
    assert cost.host_bytes / 1e6 == pytest.approx(measured_mb, rel=0.25)


def test_a_candidate_within_all_limits_tells_its_cost() -> None:
    cost = check_cost(candidate(), BANDS, 2, limits(), BUDGET)
    assert cost.num_parameters == draw_up(Architecture(), BANDS, 2).num_parameters


@pytest.mark.parametrize(
    ("fields", "device_bytes", "told"),
    [
        (
            {"max_parameters": 1000},
            None,
            r"[\d,]{7} parameters, more than limits\.max_parameters = 1,000",
        ),
        ({"device_memory_mb": 20}, None, r"about \d+ MB, more than limits\.device_memory_mb = 20"),
        ({}, 20_000_000, r"more than the device's free memory in MB = 20"),
        (
            {"epoch_s": 0.5, "device_gflops": 10},
            None,
            r"an epoch takes about [\d.]+ s at 10 GFLOP/s.*limits\.epoch_s = 0\.5",
        ),
    ],
)
def test_what_costs_too_much_is_infeasible(fields: dict[str, Any], device_bytes: int | None, told: str) -> None:
    with pytest.raises(InfeasibleError, match=told):
        check_cost(candidate(), BANDS, 2, limits(**fields), BUDGET, device_bytes)

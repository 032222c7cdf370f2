"""Published systems: each recipe builds the network whose facts were published, and is a point of the space."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hyperopt import space_eval

from search_space.architecture import Architecture, L2Regularisation, Resnet34
from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.errors import MalformedError, MalformedFileError, UsageError
from search_space.losses import LossDetails, LossMix
from search_space.network.graph import Graph
from search_space.network.layers import Activate, Attend, Conv, Double, Drop, Normalise, Pool, TileMean, TransposedConv
from search_space.network.signals import num_parameters_of
from search_space.network.unet import InputBand, draw_up
from search_space.optimisation import SGD, CyclicRate, PolynomialRate, SnapshotAverage, StepRate
from search_space.recipes import FOLDER, read_recipe, read_recipe_file, recipe_names
from search_space.space import hyperopt_space, resolve_space
from search_space.starting_points import nearest_point, starting_points


def graph_of(name: str, num_bands: int, num_classes: int = 1) -> Graph:
    architecture = read_recipe(name).architecture
    names = architecture.bands or [f"band{number}" for number in range(num_bands)]
    return draw_up(architecture, [InputBand(each) for each in names], num_classes)


def layers(graph: Graph, kind: type) -> list[object]:
    return [node.layer for node in graph.nodes if isinstance(node.layer, kind)]


def channels(graph: Graph) -> list[int]:
    """Of what each stage of the encoder makes."""
    stages = [stage for stage in graph.stages if stage.startswith("down") or stage == "bottom"]
    return [next(n for n in reversed(graph.nodes) if n.stage == stage).signal.channels for stage in stages]


def the_first_unet(graph: Graph) -> None:
    """31,030,593 weights for one band and one class, as is often counted; 572 px in, 388 px out."""
    assert graph.num_parameters == 31_030_593
    assert channels(graph) == [64, 128, 256, 512, 1024]
    recipe = read_recipe("unet-2015")
    assert recipe.plan.patch_px - 2 * recipe.architecture.margin_px == 388
    assert not layers(graph, Normalise)


def ternaus(graph: Graph) -> None:
    recipe = read_recipe("ternaus")
    assert (recipe.plan.patch_px, recipe.plan.patch_px - 2 * recipe.architecture.margin_px) == (112, 80)
    assert channels(graph) == [32, 64, 128, 256, 512]
    # Two per stage, nine stages, and the head.
    assert len(layers(graph, Conv)) == 19
    assert set(layers(graph, Activate)) == {Activate("elu"), Activate("sigmoid")}
    assert layers(graph, Pool) == [Pool("max")] * 4
    # Counted by hand: 3x3 without bias and four numbers of batch normalisation per filter, for 16 bands.
    pairs, last = [], 16
    for filters in (32, 64, 128, 256, 512):
        pairs += [(last, filters), (filters, filters)]
        last = filters
    for filters in (256, 128, 64, 32):
        pairs += [(last + filters, filters), (filters, filters)]
        last = filters
    assert graph.num_parameters == sum(9 * a * b + 4 * b for a, b in pairs) + 33


def vooban(graph: Graph) -> None:
    """71 convolutions."""
    assert len(layers(graph, Conv)) + len(layers(graph, TransposedConv)) == 71
    assert read_recipe("vooban").plan.augmentation.turns == "d8"


def cresi(graph: Graph) -> None:
    """An encoder of 21.28 million weights, as ResNet-34 has without its classifier; positions doubled."""
    assert channels(graph) == [64, 64, 128, 256, 512]
    decoder = [node for node in graph.nodes if node.stage.startswith("up")]
    assert [node.layer for node in decoder if isinstance(node.layer, Double)] == [Double("nearest")] * 5
    assert {node.layer.kernel for node in decoder if isinstance(node.layer, Conv)} == {(3, 3)}
    assert not [node for node in decoder if isinstance(node.layer, (Normalise, TransposedConv))]
    plan = read_recipe("cresi").plan
    assert (plan.batch_size, plan.patch_px, plan.learning_rate) == (11, 512, 1e-4)
    encoder = Graph(tuple(n for n in graph.nodes if n.stage.startswith(("image", "down", "bottom"))), {"masks": 0})
    assert encoder.num_parameters == 21_284_672 + running(encoder)
    assert read_recipe("cresi").plan.loss.dice == 0.25


def running(graph: Graph) -> int:
    """Means and variances of batches, which PyTorch does not count as weights."""
    return sum(2 * node.signal.channels for node in graph.nodes if isinstance(node.layer, Normalise))


def solaris(graph: Graph) -> None:
    """VGG16's thirteen convolutions have 14,714,688 weights."""
    encoder = [node for node in graph.nodes if node.stage.startswith(("down", "bottom"))]
    assert sum(num_parameters_of(node.layer, graph.inputs_of(node)) for node in encoder) == 14_714_688
    assert channels(graph) == [64, 128, 256, 512, 512, 512]
    assert graph.divisor_px == 32
    assert len(layers(graph, Pool)) == 5
    assert layers(graph, Double) == [Double("bilinear")] * 5
    assert not layers(graph, Normalise)
    plan = read_recipe("solaris").plan
    assert (plan.batch_size, plan.patch_px) == (32, 512)
    assert plan.loss == LossMix(bce=10.0, jaccard=2.5)


def neuromation(graph: Graph) -> None:
    encoder = [n for n in graph.nodes if n.stage.startswith("down") or n.name.startswith("bottom_layer4")]
    assert len([n for n in encoder if isinstance(n.layer, Conv) and n.layer.groups == 32]) == 16
    assert channels(graph)[:4] == [64, 256, 512, 1024]
    assert len(layers(graph, TileMean)) == 16 + 1
    assert {node.layer.dilation for node in graph.nodes if isinstance(node.layer, Conv)} == {1, 2, 3}
    assert set(graph.outputs) == {"masks", "energy"}
    assert not layers(graph, Attend)
    assert read_recipe("neuromation").plan.loss == LossMix(bce=1.0, lovasz=1.0)


def residual_inception_skip(graph: Graph) -> None:
    kernels = {layer.kernel for layer in layers(graph, Conv) if isinstance(layer, Conv)}
    assert {(3, 1), (1, 3)} <= kernels
    assert set(layers(graph, Activate)) == {Activate("leaky_relu"), Activate("hard_sigmoid")}
    assert not [pool for pool in layers(graph, Pool) if isinstance(pool, Pool) and pool.stride == 2]
    assert len([node for node in graph.nodes if node.name.endswith("_skip_batchnorm")]) == 4
    assert len(layers(graph, Drop)) == 9


def nnunet(graph: Graph) -> None:
    assert channels(graph) == [32, 64, 128, 256, 512, 512, 512]
    assert set(graph.outputs) == {"masks", *(f"masks{level}" for level in range(1, 6))}
    # The gradient of an L2 is twice its weight times what it weighs: a decay of 0.00003.
    assert read_recipe("nnunet-2d").architecture.regularisation == L2Regularisation(weight=1.5e-5)


FACTS: dict[str, tuple[int, Callable[[Graph], None]]] = {
    "unet-2015": (1, the_first_unet),
    "ternaus": (16, ternaus),
    "vooban": (24, vooban),
    "cresi": (3, cresi),
    "solaris": (3, solaris),
    "neuromation": (3, neuromation),
    "residual-inception-skip": (3, residual_inception_skip),
    "nnunet-2d": (1, nnunet),
}


@pytest.mark.parametrize("name", FACTS)
def test_the_network_has_the_facts_that_were_published(name: str) -> None:
    num_bands, check = FACTS[name]
    read_recipe(name).candidate.check_feasible()
    check(graph_of(name, num_bands))


def test_every_recipe_is_checked_and_tells_its_source() -> None:
    assert set(recipe_names()) == set(FACTS)
    for name in recipe_names():
        text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
        assert text.startswith("# ")
        assert "Facts kept:" in text
        assert read_recipe(name).source.strip()


MOVED = {
    "unet-2015": {"architecture.margin_px", "plan.patch_px", "plan.batch_size"},
    "ternaus": {"plan.patch_px", "plan.batch_size"},
    "vooban": set(),
    "cresi": {
        "architecture.bands",
        *("plan.patch_px", "plan.batch_size", "plan.scaling.low_percentile", "plan.scaling.high_percentile"),
        *("plan.schedule.at", "plan.patience"),
    },
    "solaris": {"architecture.bands", "plan.patch_px", "plan.batch_size"},
    "neuromation": {"architecture.bands", "plan.patch_px"},
    "residual-inception-skip": {"plan.patch_px"},
    "nnunet-2d": {"plan.patch_px", "plan.batch_size"},
}
"""What the default space has no room for: large patches and batches, a margin of 92 px, other times; and what it does
not search."""


@pytest.mark.parametrize("name", FACTS)
def test_every_recipe_is_a_point_of_the_space(name: str) -> None:
    """Everything of it comes back, but what is named above."""
    space, candidate = resolve_space({}), read_recipe(name).candidate
    point = nearest_point(candidate, space)
    assert point is not None
    found = decode(Candidate, space_eval(hyperopt_space(space), point), where="test")
    ours, theirs = leaves(encode(found)), leaves(encode(candidate))
    assert {path for path in theirs if ours.get(path) != pytest.approx(theirs[path])} == MOVED[name]


def test_recipes_are_optimised_as_published() -> None:
    plans = {name: read_recipe(name).plan for name in recipe_names()}
    cresi, ternaus, snapshots = plans["cresi"], plans["ternaus"], plans["residual-inception-skip"]
    # Epochs 20 and 25 of 70, the first 50 of 100, and the first 100 of 150.
    assert isinstance(cresi.schedule, StepRate)
    assert [70 * share for share in cresi.schedule.at] == pytest.approx([20, 25], abs=1e-3)
    assert (cresi.schedule.factor, cresi.patience, cresi.clip_norm) == (0.2, 8, 1.0)
    assert (ternaus.optimizer.kind, ternaus.schedule) == ("nadam", StepRate(at=(0.5,), factor=0.1))
    assert isinstance(snapshots.schedule, CyclicRate)
    assert isinstance(snapshots.averaging, SnapshotAverage)
    assert snapshots.schedule.begins_after(150) == 100
    assert snapshots.averaging.taken_after(snapshots.schedule, 150) == snapshots.schedule.lows_after(150)
    assert plans["nnunet-2d"].optimizer == SGD(momentum=0.99, nesterov=True)
    assert plans["nnunet-2d"].schedule == PolynomialRate(power=0.9)
    assert plans["nnunet-2d"].learning_rate == 1e-2


def leaves(plain: Any, path: str = "") -> dict[str, Any]:
    """Dotted path to value."""
    if not isinstance(plain, Mapping):
        return {path: plain}
    return {
        inner: each
        for key, value in plain.items()
        for inner, each in leaves(value, f"{path}.{key}".lstrip(".")).items()
    }


def test_a_space_without_a_kind_has_no_point_for_it() -> None:
    space = resolve_space({"architecture.block": {"choices": ["plain", "residual"]}})
    assert nearest_point(read_recipe("vooban").candidate, space) is None
    assert len(starting_points(space, ["recipes"])) == 6
    assert starting_points(space, ["default", "vooban", "default"]) == starting_points(space, ["default"])
    fixed = resolve_space({"architecture.encoder": {"fix": "grown"}})
    assert nearest_point(read_recipe("cresi").candidate, fixed) is None


def test_the_space_has_the_last_word_on_all_but_encoder_and_block() -> None:
    overrides = {
        "architecture.up": {"choices": ["bilinear", "subpixel"]},
        "architecture.block": {"choices": [{"kind": "plain", "kernel_px": 5}, {"kind": "inception"}]},
        "architecture.encoder": {"choices": ["grown", "resnet34"]},
        "architecture.encoder[resnet34].weights": {"fix": "weights/resnet34.safetensors"},
        "plan.scaling.kind": {"fix": "bytes"},
        "plan.optimizer": {"choices": ["rmsprop", "nadam"]},
    }
    space = resolve_space(overrides)
    points = {name: nearest_point(read_recipe(name).candidate, space) for name in recipe_names()}
    assert {name for name, point in points.items() if point is None} == {
        "solaris",
        "neuromation",
        "residual-inception-skip",
    }
    for name, point in points.items():
        if point is None:
            continue
        found = decode(Candidate, space_eval(hyperopt_space(space), point), where=name)
        assert found.architecture.block.kind == read_recipe(name).architecture.block.kind
        assert found.architecture.encoder.kind == read_recipe(name).architecture.encoder.kind
        assert found.plan.scaling.kind == "bytes"
        # Neither does a candidate have one of these by itself: so it is the first.
        assert found.architecture.up.kind == "bilinear"
    cresi = decode(Candidate, space_eval(hyperopt_space(space), points["cresi"]), where="cresi")
    assert cresi.architecture.encoder == Resnet34(weights="weights/resnet34.safetensors")


def test_the_candidate_with_every_default_is_in_every_space() -> None:
    space = resolve_space({"architecture.encoder": {"fix": "vgg16"}, "architecture.block": {"choices": ["dense"]},
                           "architecture.depth": {"high": 4}})  # fmt: skip
    [point] = starting_points(space, ["default"])
    found = decode(Candidate, space_eval(hyperopt_space(space), point), where="default")
    assert (found.architecture.encoder.kind, found.architecture.block.kind) == ("vgg16", "dense")
    assert found.plan.learning_rate == pytest.approx(Candidate().plan.learning_rate)


def test_the_weights_of_classes_are_those_of_the_space() -> None:
    """A recipe's own stay behind where the space has none, and the first stands for what is like none of them."""
    recipe = read_recipe("ternaus").candidate
    details = LossDetails(class_weights={"road": 3.0})
    weighted = recipe.model_copy(update={"plan": recipe.plan.model_copy(update={"loss_details": details})})
    path = "plan.loss_details.class_weights"
    assert nearest_point(weighted, resolve_space({})) == nearest_point(recipe, resolve_space({}))
    space = resolve_space({path: {"choices": [{"water": 2.0}, {"road": 2.0}]}})
    points = [nearest_point(each, space) for each in (recipe, weighted)]
    assert [point and point[path] for point in points] == [0, 1]


def test_what_is_dropped_counts_as_a_candidate_has_it_by_itself() -> None:
    space = resolve_space({"architecture.*": {"drop": True}})
    assert nearest_point(read_recipe("ternaus").candidate, space) is not None
    assert nearest_point(read_recipe("cresi").candidate, space) is None
    assert nearest_point(read_recipe("vooban").candidate, space) is None


def test_a_dropped_dimension_is_in_no_point() -> None:
    space = resolve_space({"architecture.*": {"drop": True}, "plan.patch_px": {"choices": [64, 96]}})
    [point] = starting_points(space, ["default"])
    assert not [path for path in point if path.startswith("architecture")]
    assert point["plan.patch_px"] == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[architecture]\ndept = 3", r"unknown key 'architecture\.dept'\. Received 3\. Did you mean 'depth'"),
        ("[architecture]\ndepth = 9", r"'architecture\.depth' must be from 1 to 6\. Received 9"),
        ('[architecture]\nskip = "addd"', r"'architecture\.skip' must be \"concatenate\".*'addd'"),
        ("[architecture", "cannot be read as TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_path(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'source = "x"\n{text}\n[plan]\n')
    with pytest.raises(MalformedFileError, match=rf"mine\.toml.*{told}"):
        read_recipe_file(tmp_path / "mine.toml")


def test_a_file_says_only_what_is_not_as_a_candidate_has_it_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[architecture]\ndepth = 2\n")

    found = read_recipe_file(path)

    assert found.candidate == Candidate(architecture=Architecture(depth=2))
    assert (found.source, found.prediction) == ("", None)


def test_the_place_of_examples_is_told_as_it_is_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text("[architecture")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MalformedError) as told:
        read_recipe_file(Path("mine.toml"))
    assert any(Path(told.value.remedy.rpartition(" ")[2]).glob("*.toml"))


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no such recipe. Received 'voban'. Did you mean 'vooban'\?"):
        read_recipe("voban")

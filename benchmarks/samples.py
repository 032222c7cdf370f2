"""Random samples of the whole search space: each decodes, comes back to its point, is estimated, built and run.

For each sample: the plain mapping decodes into a candidate; the candidate's nearest point is the one that was drawn;
its cost is estimated; Keras builds it with exactly the weights that were estimated; and its maps of random bands hold
numbers only. With `--steps`, samples that together show every option of every choice and every whole number are built
likewise, train a step, are saved, and come back equal. The times tell what an estimate saves.

  python benchmarks/samples.py
  python benchmarks/samples.py --samples 0 --steps 60
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from hyperopt.pyll import as_apply, clone, dfs, rec_eval
from hyperopt.pyll.stochastic import recursive_set_rng_kwarg
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.backend import use_backend
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.default_space import Space
from search_space.dimensions import Choice, Integer
from search_space.network.cost import training_cost
from search_space.network.unet import InputBand, draw_up
from search_space.space import hyperopt_space, resolve_space
from search_space.starting_points import Point, nearest_point
from search_space.study import Budget

BANDS = [InputBand(f"band{number}", number // 8) for number in range(20)]
CLASSES = 3
SIDE_PX = 64
MOST_WEIGHTS = 3_000_000
"""Of a sample that is trained: larger ones show nothing more."""


def main() -> None:
    """Draw, check each, print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=0, help="samples that train a step, at least those that show all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{options.samples} samples, seed {options.seed}, {use_backend()}", flush=True)
    space = resolve_space({})
    seconds: dict[str, list[float]] = {"estimate": [], "build": []}
    for number, (candidate, _) in enumerate(samples(space, options.samples, options.seed)):
        for name, each in zip(seconds, build_and_run(candidate), strict=True):
            seconds[name].append(each)
        if number % 50 == 49:
            print(f"  {number + 1}", flush=True)
    if options.samples:
        for name, each in seconds.items():
            print(f"{name:9} median {1000 * np.median(each):8.1f} ms, longest {1000 * max(each):8.1f} ms")
        print(f"estimate / build {np.sum(seconds['estimate']) / np.sum(seconds['build']):.4f}")
    if options.steps:
        chosen = covering(space, options.seed, at_least=options.steps)
        for candidate in chosen:
            train_and_reload(candidate)
        print(f"{len(chosen)} samples, which show every value of every choice, trained a step and came back equal")


def samples(space: Space, count: int, seed: int) -> Iterator[tuple[Candidate, Point]]:
    """Random candidates with their points.

    Raises:
        ValueError: A candidate whose nearest point is not the one that was drawn.
    """
    expression = as_apply(hyperopt_space(space))
    # As Hyperopt's `sample` and `space_eval`, which prepare the same for each sample anew.
    random = recursive_set_rng_kwarg(clone(expression), as_apply(np.random.default_rng(seed)))
    params = {node.arg["label"].eval(): node for node in dfs(expression) if node.name == "hyperopt_param"}
    for number in range(count):
        plain = rec_eval(random)
        candidate = decode(Candidate, plain, where=f"sample {number}")
        point = nearest_point(candidate, space)
        memo = {params[label]: value for label, value in (point or {}).items()}
        if point is None or decode(Candidate, rec_eval(expression, memo=memo), where="point") != candidate:
            raise ValueError(f"sample {number} does not come back: {plain}")
        yield candidate, point


def build_and_run(candidate: Candidate) -> tuple[float, float]:
    """Estimate a candidate, build it, map random bands.

    Returns:
        Seconds for estimating, and for building.

    Raises:
        ValueError: Another number of weights than estimated, or maps that are not numbers.
    """
    import keras

    model, estimate_s, build_s = _built_as_estimated(candidate)
    for maps in _maps(model, _image(candidate)).values():
        if not np.isfinite(maps).all():
            raise ValueError(f"maps that are not numbers: {candidate}")
    keras.utils.clear_session()
    return estimate_s, build_s


def _built_as_estimated(candidate: Candidate) -> tuple[Any, float, float]:
    """The network, with seconds for estimating, and for building."""
    from pipeline.networks.builder import build_model

    plan = candidate.plan
    started = time.perf_counter()
    candidate.check_feasible()
    graph = draw_up(candidate.architecture, BANDS, CLASSES)
    cost = training_cost(graph, plan.patch_px, plan.batch_size, plan.optimizer.kind, plan.averaging)
    estimated = time.perf_counter()
    model = build_model(candidate.architecture, BANDS, CLASSES)
    built = time.perf_counter()
    if model.count_params() != cost.num_parameters:
        raise ValueError(f"{model.count_params()} weights, {cost.num_parameters} estimated: {candidate}")
    if len(model.trainable_variables) != cost.num_variables:
        raise ValueError(f"{len(model.trainable_variables)} variables, {cost.num_variables} counted: {candidate}")
    return model, estimated - started, built - estimated


def covering(space: Space, seed: int, at_least: int = 0, pool: int = 300) -> list[Candidate]:
    """Samples that together show every option of every choice and every whole number, the most telling first.

    They show it by small networks where these can, as the layers are made and run one by one. None is among them that
    shows nothing but what the others do, unless more are asked for.

    Args:
        space: Where from.
        seed: Of the samples.
        at_least: So many, even if fewer show all.
        pool: From how many they are chosen, and as many small ones; up to ten times as many as long as some option is
            in none.

    Raises:
        ValueError: Some option is in none that can be built.
    """
    found = list(_small_enough(samples(_slim(space), pool, seed + 1), space))
    unseen = set(_options(space)).difference(*(shown for *_, shown in found))
    for number, one in enumerate(samples(space, 10 * pool, seed)):
        if number >= pool and not unseen:
            break
        for each in _small_enough([one], space):
            found.append(each)
            unseen -= each.shown
    if unseen:
        raise ValueError(f"no sample shows {sorted(unseen)}")
    chosen: list[_Found] = []
    missing = set(_options(space))
    while missing:
        chosen.append(max(found, key=lambda each: len(each.shown & missing) / each.size))
        missing -= chosen[-1].shown
    for each in sorted(chosen, key=lambda each: -each.size):
        others = set[tuple[str, float]]().union(*(other.shown for other in chosen if other is not each))
        if not set(_options(space)) & each.shown - others:
            chosen.remove(each)
    more = sorted((each for each in found if each not in chosen), key=lambda each: -len(each.shown) / each.size)
    return [each.candidate for each in chosen + more[: max(0, at_least - len(chosen))]]


class _Found(NamedTuple):
    """A sample that may be chosen.

    Attributes:
        candidate: The sample.
        size: Of its network, in layers and operations.
        shown: Options and whole numbers it has, as path and number.
    """

    candidate: Candidate
    size: int
    shown: set[tuple[str, float]]


def _small_enough(drawn: Iterable[tuple[Candidate, Point]], space: Space) -> Iterator[_Found]:
    for candidate, point in drawn:
        graph = draw_up(candidate.architecture, BANDS, CLASSES)
        if graph.num_parameters <= MOST_WEIGHTS:
            shown = {(path, point[path]) for path in point if isinstance(space[path], Choice | Integer)}
            yield _Found(candidate, len(graph.nodes), shown)


def _slim(space: Space) -> Space:
    """The space's smallest depth and stages, with every other dimension."""
    least = {path: space[path] for path in ("architecture.depth", "architecture.units_per_stage")}
    return {**space, **{path: Integer(dim.low, dim.low) for path, dim in least.items() if isinstance(dim, Integer)}}


def train_and_reload(candidate: Candidate) -> None:
    """Estimate and build, train a step as its plan wants it, save, load, compare.

    Raises:
        ValueError: Another number of weights than estimated, a loss that is no number, weights that did not move, or
            another map from the model that was loaded.
    """
    import keras

    from pipeline.training.losses import MixedLoss
    from pipeline.training.optimisation import make_optimizer
    from pipeline.training.trainee import Trainee

    plan, architecture = candidate.plan, candidate.architecture
    model, *_ = _built_as_estimated(candidate)
    before = [np.array(keras.ops.convert_to_numpy(each)) for each in model.trainable_variables]
    loss = MixedLoss(plan.loss, plan.loss_details, [str(number) for number in range(CLASSES)])
    trainee = Trainee(model, loss, margin_px=architecture.margin_px)
    optimizer = make_optimizer(plan, Budget(epochs=1, steps_per_epoch=1))
    # One step is not worth being compiled.
    trainee.compile(optimizer=optimizer, run_eagerly=True)
    rng, image = np.random.default_rng(1), np.concatenate([_image(candidate)] * 2)
    targets = (rng.random((*image.shape[:3], CLASSES + 1)) < 0.5).astype(np.float32)
    loss = float(np.mean(trainee.train_on_batch(image, targets)))
    if not np.isfinite(loss):
        raise ValueError(f"a loss of {loss}: {candidate}")
    after = [keras.ops.convert_to_numpy(each) for each in model.trainable_variables]
    if all(np.array_equal(one, other) for one, other in zip(before, after, strict=True)):
        raise ValueError(f"no weight has moved: {candidate}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        copy = keras.saving.load_model(path, compile=False)
    saved = _maps(model, image)
    for name, maps in _maps(copy, image).items():
        if not np.array_equal(maps, saved[name]):
            raise ValueError(f"{name} differs after loading: {candidate}")
    keras.utils.clear_session()


def _options(space: Space) -> Iterator[tuple[str, float]]:
    """Every option of every choice and every whole number, as path and number."""
    for path, dimension in space.items():
        match dimension:
            case Choice(options) if len(options) > 1:
                yield from ((path, number) for number in range(len(options)))
            case Integer(low, high):
                yield from ((path, number) for number in range(low, high + 1))


def _image(candidate: Candidate) -> NDArray[np.float32]:
    side = SIDE_PX + 2 * candidate.architecture.margin_px
    return np.random.default_rng(0).normal(size=(1, side, side, len(BANDS))).astype(np.float32)


def _maps(model: Any, image: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
    """All outputs by name."""
    import keras

    outputs = model(image, training=False)
    named = outputs if isinstance(outputs, dict) else {"masks": outputs}
    return {name: keras.ops.convert_to_numpy(each) for name, each in named.items()}


if __name__ == "__main__":
    main()

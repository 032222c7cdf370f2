"""Random samples of the whole search space: each decodes, comes back to its point, is estimated, built and run.

For each sample: the plain mapping decodes into a candidate; the candidate's nearest point is the one that was drawn;
its cost is estimated; Keras builds it with exactly the weights that were estimated; and its maps of random bands hold
numbers only. The times tell what an estimate saves.

  python benchmarks/samples.py
  python benchmarks/samples.py --samples 100 --seed 7
"""

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from hyperopt import space_eval
from hyperopt.pyll.stochastic import sample

from pipeline.backend import use_backend
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.errors import InfeasibleError
from search_space.network.cost import training_cost
from search_space.network.unet import InputBand, draw_up
from search_space.space import hyperopt_space, resolve_space
from search_space.starting_points import nearest_point

BANDS = [InputBand(f"band{number}", number // 8) for number in range(20)]
CLASSES = 3


def main() -> None:
    """Draw, check each, print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{options.samples} samples, seed {options.seed}, {use_backend()}", flush=True)
    space = resolve_space({})
    expression, rng = hyperopt_space(space), np.random.default_rng(options.seed)
    seconds: dict[str, list[float]] = {"decode": [], "estimate": [], "build": []}
    infeasible: Counter[str] = Counter()
    for number in range(options.samples):
        plain = sample(expression, rng)
        started = time.perf_counter()
        candidate = decode(Candidate, plain, where=f"sample {number}")
        seconds["decode"].append(time.perf_counter() - started)
        point = nearest_point(candidate, space)
        if point is None or decode(Candidate, space_eval(expression, point), where="point") != candidate:
            raise SystemExit(f"Sample {number} does not come back: {plain}")
        try:
            candidate.check_feasible()
            check(candidate, seconds, rng)
        except InfeasibleError as error:
            infeasible[str(error).split(" Received")[0]] += 1
        if number % 50 == 49:
            print(f"  {number + 1}", flush=True)
    for name, each in seconds.items():
        print(f"{name:9} median {1000 * np.median(each):8.1f} ms, longest {1000 * max(each):8.1f} ms")
    print(f"estimate / build {np.sum(seconds['estimate']) / np.sum(seconds['build']):.4f}")
    print(f"infeasible {sum(infeasible.values())}: {dict(infeasible)}")


def check(candidate: Candidate, seconds: dict[str, list[float]], rng: np.random.Generator) -> None:
    """Estimate, build and run one candidate.

    Raises:
        SystemExit: A wrong number of weights, or maps without numbers.
    """
    import keras

    from pipeline.builder import build_model

    plan = candidate.plan
    started = time.perf_counter()
    graph = draw_up(candidate.architecture, BANDS, CLASSES)
    cost = training_cost(graph, plan.patch_px, plan.batch_size, plan.optimizer)
    seconds["estimate"].append(time.perf_counter() - started)
    started = time.perf_counter()
    model = build_model(candidate.architecture, BANDS, CLASSES)
    seconds["build"].append(time.perf_counter() - started)
    if model.count_params() != cost.num_parameters:
        raise SystemExit(f"{model.count_params()} weights, {cost.num_parameters} estimated: {candidate}")
    side = 64 + 2 * candidate.architecture.margin_px
    maps: Any = model(rng.normal(size=(1, side, side, len(BANDS))).astype(np.float32))
    for each in maps.values() if isinstance(maps, dict) else [maps]:
        if not np.isfinite(keras.ops.convert_to_numpy(each)).all():
            raise SystemExit(f"Maps without numbers: {candidate}")
    keras.utils.clear_session()


if __name__ == "__main__":
    main()

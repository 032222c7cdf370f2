"""How well candidates are proposed: regret after a number of trials, by algorithm and number of workers.

Workers run at the same time in a simulated clock, each trial as long as chance has it, and what is measured is noisy,
as trainings are. Proposals are made by `trials_db.bridge.propose` as the master makes them: without a lookahead, from
what has ended at that moment. The regret is the true value of the trial that looked best, beyond the least there is;
the median over seeds. Trials under way are told as the worst (as `propose` does, and stock Hyperopt), as the median of
what has ended, or not at all. `--time` tells time on the processor, as machines are shared.

  python benchmarks/proposals.py
  python benchmarks/proposals.py --trials 60 --seeds 4 --workers 8 --functions network
  python benchmarks/proposals.py --time
"""

import argparse
import heapq
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.dimensions import Dimension, Real
from search_space.objective import Outcome
from search_space.space import resolve_space
from search_space.study import SearchSettings
from trials_db import bridge
from trials_db.bridge import propose
from trials_db.records import Trial, TrialState

Space = Mapping[str, Dimension]


class Function(NamedTuple):
    """What is searched.

    Attributes:
        space: Where.
        value: Of a sample; the least is 0.
        noise: Standard deviation of what is measured.
    """

    space: Space
    value: Callable[[Mapping[str, Any]], float]
    noise: float


def branin(sample: Mapping[str, Any]) -> float:
    """Two numbers, three equal valleys."""
    x, y = sample["x"]["a"], sample["x"]["b"]
    valley = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.397887


def network(sample: Mapping[str, Any]) -> float:
    """The default space as if we knew it: what a network reaches, by its parts, many of which hardly matter."""
    candidate = decode(Candidate, sample, where="sample")
    net, plan = candidate.architecture, candidate.plan
    losses = plan.loss
    block = {"residual": 0.0, "inception": 0.02, "dense": 0.03, "plain": 0.05, "bottleneck": 0.05, "separable": 0.06}
    kind = plan.optimizer.kind
    optimizer = {"adam": 0.0, "adamw": 0.0, "nadam": 0.01, "rmsprop": 0.03, "sgd": 0.03}[kind]
    best_rate = {"rmsprop": -3.3, "sgd": -2.2}.get(kind, -2.9)
    return (
        0.04 * abs(net.depth - 4)
        + 0.05 * abs(math.log2(net.base_filters / 24))
        + block.get(net.block.kind, 0.04)
        + optimizer
        + 0.12 * (math.log10(plan.learning_rate) - best_rate) ** 2
        + {"batch": 0.0, "group": 0.02, "layer": 0.04, "none": 0.10}[net.normalisation]
        + {"concatenate": 0.0, "residual": 0.01, "add": 0.02, "gate": 0.01, "none": 0.15}[net.skip]
        + 0.06 * (losses.bce > 0 and losses.dice + losses.jaccard + losses.log_jaccard == 0)
        + 0.03 * abs(math.log2(plan.patch_px / 128))
        + 0.10 * abs(plan.augmentation.zoom - 0.15)
        + 0.20 * abs(plan.augmentation.jitter - 0.1)
        + (0.04 if plan.scaling.scope == "scene" else 0.0)
        + (0.08 * max(0.0, getattr(net.dropout, "rate", 0.0) - 0.15))
    )


FUNCTIONS = {
    "branin": Function({"x.a": Real(-5.0, 10.0), "x.b": Real(0.0, 15.0)}, branin, 0.0),
    "noisy branin": Function({"x.a": Real(-5.0, 10.0), "x.b": Real(0.0, 15.0)}, branin, 1.0),
    "network": Function(
        resolve_space(
            {
                "architecture.encoder": {"fix": "grown"},
                "architecture.depth": {"high": 5},
                "architecture.margin_px": {"fix": 0},
                "architecture.energy": {"fix": False},
            }
        ),
        network,
        0.02,
    ),
}

WORST, MEDIAN, SILENCE = LIES = ("worst", "median", "nothing")

LIES_TO = {"rand": (WORST,), "tpe": (WORST, SILENCE), "anneal": LIES, "mix": LIES}
"""TPE hears which trials are the few good ones, and a median trial never is: told median is told worst."""

ALGORITHMS: dict[str, dict[str, Any]] = {
    "chance": {"algorithm": "rand"},
    "TPE, gamma 0.25": {"algorithm": "tpe", "gamma": 0.25},
    "TPE, gamma 0.5": {"algorithm": "tpe", "gamma": 0.5},
    "TPE, gamma 1": {"algorithm": "tpe", "gamma": 1.0},
    "annealing": {"algorithm": "anneal"},
    "mix, gamma 0.5": {"algorithm": "mix", "gamma": 0.5},
}


def search(
    function: Function, settings: SearchSettings, num_trials: int, num_workers: int, seed: int, lie: str = WORST
) -> Iterator[float]:
    """Search once; yield the regret after each trial that ended."""
    rng = np.random.default_rng(seed)
    trials: dict[int, Trial] = {}
    under_way: list[tuple[float, int, float, float]] = []
    clock = 0.0
    best_seen, regret = math.inf, math.inf
    while len(trials) < num_trials or under_way:
        while len(under_way) < num_workers and len(trials) < num_trials:
            number = len(trials)
            with _lying(lie):
                proposal = propose(function.space, list(trials.values()), number, seed, settings)
            true = function.value(proposal.sample)
            ends = clock + rng.lognormal(0.0, 0.5)
            heapq.heappush(under_way, (ends, number, true, true + function.noise * rng.normal()))
            trials[number] = Trial(
                number=number, state=TrialState.RUNNING, point=proposal.point, candidate={}, seed=0, created_s=clock
            )
        clock, number, true, seen = heapq.heappop(under_way)
        outcome = Outcome(state="done", loss=seen)
        trials[number] = trials[number].model_copy(update={"state": TrialState.DONE, "outcome": outcome})
        if seen < best_seen:
            best_seen, regret = seen, true
        yield regret


@contextmanager
def _lying(lie: str) -> Iterator[None]:
    """What the algorithm is told of trials under way."""
    told = bridge._told

    def changed(*arguments: Any) -> list[Any]:
        everything = told(*arguments)
        ended = [each for each in everything if each.ended]
        if lie == SILENCE:
            return ended
        usual = statistics.median(each.loss for each in ended if each.loss is not None) if ended else None
        return [each if each.ended else each._replace(loss=usual) for each in everything]

    try:
        if lie != WORST:
            bridge._told = changed
        yield
    finally:
        bridge._told = told


def measure_quality(names: Sequence[str], num_trials: int, num_seeds: int, num_workers: Sequence[int]) -> None:
    """Print a table for each function and number of workers."""
    for name in names:
        for workers in num_workers:
            print(f"\n{name}, {workers} worker(s), {num_trials} trials, median regret of {num_seeds} seeds")
            print(f"{'algorithm':<34}{'a third':>10}{'all':>10}")
            for title, values in ALGORITHMS.items():
                for lie in LIES_TO[values["algorithm"]] if workers > 1 else (WORST,):
                    runs = []
                    for seed in range(num_seeds):
                        settings = SearchSettings(startup_trials=10, **values)
                        runs.append(list(search(FUNCTIONS[name], settings, num_trials, workers, seed, lie)))
                    third, whole = (statistics.median(run[at] for run in runs) for at in (num_trials // 3 - 1, -1))
                    print(f"{f'{title}, told {lie}':<34}{third:>10.4f}{whole:>10.4f}", flush=True)


def measure_time(numbers: Sequence[int]) -> None:
    """Print how long a proposal takes after so many trials, and what the bound on what TPE hears saves."""
    space = FUNCTIONS["network"].space
    settings = SearchSettings()
    points = [propose(space, [], 0, seed, settings).point for seed in range(200)]
    rng = np.random.default_rng(0)
    print(f"{len(space)} dimensions\n{'trials':>8}{'ms':>8}{'of 100':>8}{'told all, ms':>14}")
    first = 0.0
    for number in numbers:
        history = [
            Trial(
                number=each,
                state=TrialState.DONE,
                point=points[each % len(points)],
                candidate={},
                seed=0,
                created_s=0.0,
                outcome=Outcome(state="done", loss=float(rng.random())),
            )
            for each in range(number)
        ]
        bounded = _median_ms(lambda history=history, number=number: propose(space, history, number, 1, settings))
        first = first or bounded
        bound, bridge.MOST_OTHERS = bridge.MOST_OTHERS, 10**9
        whole = _median_ms(lambda history=history, number=number: propose(space, history, number, 1, settings), 1)
        bridge.MOST_OTHERS = bound
        print(f"{number:>8}{bounded:>8.0f}{bounded / first:>8.2f}{whole:>14.0f}", flush=True)


def _median_ms(do: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        start = time.process_time()
        do()
        taken.append(1000 * (time.process_time() - start))
    return statistics.median(taken)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--functions", nargs="+", choices=list(FUNCTIONS), default=list(FUNCTIONS))
    parser.add_argument("--time", action="store_true", help="how long a proposal takes instead")
    options = parser.parse_args()
    if options.time:
        measure_time([100, 1000, 10_000])
    else:
        measure_quality(options.functions, options.trials, options.seeds, options.workers)


if __name__ == "__main__":
    main()

"""How well memory is estimated before a network is built: random samples, estimated and then trained.

Each sample of the whole search space, patch size and batch of its own plan, trains an epoch of three steps in a process
of its own, as a trial does, with its validation; what the process took at its highest beyond a small network's
training, by the kernel's own count, is held against the estimate. On an accelerator JAX's and PyTorch's own counts of
it are read instead. Samples that are estimated to take more than there is are passed, and those that took so little
that the framework's own needs are most of it. With `--optimizers` it is three networks of different size, each with
every optimizer, and two with moving averages.

  python benchmarks/network_memory.py
  python benchmarks/network_memory.py --optimizers
  python benchmarks/network_memory.py --samples 10 --seed 7
  MAPGROVE_BACKEND=torch python benchmarks/network_memory.py --most-mb 60000     # on a GPU, its memory
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from hyperopt.pyll.stochastic import sample
from numpy.typing import NDArray

from pipeline.backend import free_device_bytes, use_backend
from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.network.cost import Cost, training_cost
from search_space.network.unet import InputBand, draw_up
from search_space.space import hyperopt_space, resolve_space
from search_space.study import Budget, LimitSettings

BANDS = [InputBand(f"band{number}", number // 8) for number in range(20)]
CLASSES, STEPS = 4, 3
NETWORKS: list[dict[str, Any]] = [
    {"depth": 3, "base_filters": 8, "block": {"kind": "dense"}},
    {"depth": 4, "base_filters": 16, "block": {"kind": "inception"}},
    {"depth": 4, "base_filters": 18, "block": {"kind": "residual"}},
]
"""Of 0.2, 1.1 and 5.1 million weights, in few and in many arrays."""

OPTIMIZERS = [
    *((kind, "none") for kind in ("adam", "adamw", "nadam", "rmsprop", "sgd")),
    ("adam", "ema"),
    ("sgd", "ema"),
]
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Scene:
    """Noise, in memory; see `LabelledImagery`."""

    id: str
    cube: NDArray[np.float32]
    masks: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    known: NDArray[np.bool_]


def main() -> None:
    """Measure each candidate in a process of its own, print both numbers and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least-mb", type=float, default=250)
    parser.add_argument("--most-mb", type=float, default=5000)
    parser.add_argument("--optimizers", action="store_true", help="three networks with each optimizer, no samples")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    use_backend()
    on_device = free_device_bytes() is not None
    if options.measure:
        print(measured_bytes(decode(Candidate, json.loads(options.measure), where="--measure"), on_device))
        return
    ratios = []
    print(f"{'estimated':>10} {'measured MB':>12} {'ratio':>6}", flush=True)
    if options.optimizers:
        options.samples, options.least_mb = len(NETWORKS) * len(OPTIMIZERS), 0.0
    drawn = chosen() if options.optimizers else samples(options, on_device)
    while len(ratios) < options.samples:
        candidate, cost = next(drawn)
        estimated = cost.device_bytes if on_device else cost.host_bytes
        measured = measured_apart(candidate)
        if measured / 1e6 < options.least_mb:
            continue
        ratios.append(estimated / measured)
        print(f"{estimated / 1e6:10.0f} {measured / 1e6:12.0f} {ratios[-1]:6.2f}  {told(candidate, cost)}", flush=True)
    within = sum(0.75 <= ratio <= 1.25 for ratio in ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(
        f"{within} of {len(ratios)} within 25 %; estimated / measured {np.median(ratios):.2f} in the median, {spread}"
    )


def measured_apart(candidate: Candidate) -> float:
    """What a process of its own took."""
    command = [sys.executable, __file__, "--measure", json.dumps(encode(candidate))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def cost_of(candidate: Candidate) -> Cost:
    """The estimate."""
    plan = candidate.plan
    graph = draw_up(candidate.architecture, BANDS, CLASSES)
    return training_cost(graph, plan.patch_px, plan.batch_size, plan.optimizer.kind, plan.averaging)


def chosen() -> Iterator[tuple[Candidate, Cost]]:
    """Networks whose signals are small beside their weights and what is kept of these, with every optimizer."""
    for kind, averaging in OPTIMIZERS:
        for architecture in NETWORKS:
            plan = {"patch_px": 32, "batch_size": 2, "optimizer": {"kind": kind}, "averaging": {"kind": averaging}}
            candidate = decode(Candidate, {"architecture": architecture, "plan": plan}, where="chosen")
            yield candidate, cost_of(candidate)


def samples(options: argparse.Namespace, on_device: bool) -> Iterator[tuple[Candidate, Cost]]:
    """Random candidates that can be measured, with what they are estimated to take."""
    expression, rng = hyperopt_space(resolve_space({})), np.random.default_rng(options.seed)
    while True:
        candidate = decode(Candidate, sample(expression, rng), where="sample")
        cost = cost_of(candidate)
        estimated = cost.device_bytes if on_device else cost.host_bytes
        if estimated / 1e6 <= options.most_mb:
            yield candidate, cost


def measured_bytes(candidate: Candidate, on_device: bool) -> int:
    """Train a small network, then the candidate's; what it took more at its highest."""
    small = {"architecture": {"depth": 1, "base_filters": 4}, "plan": {"patch_px": 16}}
    kept = train(decode(Candidate, small, where="small"))
    before = start_count(on_device)
    kept = [kept, train(candidate)]
    return highest(on_device) - before


def train(candidate: Candidate) -> Any:
    """An epoch as a trial has it, on noise."""
    from pipeline.patches.scenes import TrainingScene
    from pipeline.preparation.normalisation import BandScaling
    from pipeline.training.train import train as trained

    rng, size = np.random.default_rng(0), (candidate.plan.patch_px,) * 2
    everywhere = np.ones(size, bool)
    cube = rng.normal(size=(*size, len(BANDS))).astype(np.float32)
    masks = (rng.random((*size, CLASSES)) < 0.5).astype(np.uint8)
    unscaled = BandScaling(*(np.full(len(BANDS), value, np.float32) for value in (-9, 9, 0, 1)))
    scene = TrainingScene(Scene("noise", cube, masks, everywhere, everywhere), unscaled, tuple(range(CLASSES)))
    return trained(
        candidate,
        [scene],
        [scene],
        [str(number) for number in range(CLASSES)],
        BANDS,
        Budget(epochs=1, steps_per_epoch=STEPS),
        seed=0,
        limits=LimitSettings(max_trials=1, precision="float32", patches_on="processor").of_one_network,
        on_epoch=lambda _: None,
    )


def start_count(on_device: bool) -> int:
    """Forget the highest so far; what is taken now, bytes."""
    if not on_device:
        CLEAR.write_text("5")
        return resident("VmRSS")
    if os.environ["KERAS_BACKEND"] == "torch":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    return device_stats()["bytes_in_use"]


def highest(on_device: bool) -> int:
    """The most that was taken since `start_count`, bytes."""
    if not on_device:
        return resident("VmHWM")
    if os.environ["KERAS_BACKEND"] == "torch":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return device_stats()["peak_bytes_in_use"]


def device_stats() -> dict[str, int]:
    """JAX's counts of its first device."""
    import jax

    return dict(jax.devices()[0].memory_stats())


def resident(name: str) -> int:
    """A number of kB in the kernel's status of this process, as bytes."""
    [line] = [line for line in STATUS.read_text().splitlines() if line.startswith(name)]
    return 1024 * int(line.split()[1])


def told(candidate: Candidate, cost: Cost) -> str:
    """What of a candidate says most about its memory."""
    net, plan = candidate.architecture, candidate.plan
    averages = ", averages" if cost.has_averages else ""
    return (
        f"{cost.num_parameters / 1e6:.1f} M weights, {plan.patch_px} px x {plan.batch_size}, "
        f"{net.encoder.kind} {net.block.kind}, {net.activation}, {net.normalisation}, "
        f"w {cost.weights_bytes / 1e6:.0f} k {cost.kept_bytes / 1e6:.0f} "
        f"t {cost.working_bytes / 1e6:.0f} {cost.optimizer} {cost.num_variables}{averages}"
    )


if __name__ == "__main__":
    main()

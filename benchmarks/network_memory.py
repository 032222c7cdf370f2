"""How well memory is estimated before a network is built: random samples, estimated and then trained.

Each sample of the whole search space, patch size and batch of its own plan, trains three steps in a process of its own;
what the process took at its highest beyond a small network's training, by the kernel's own count, is held against the
estimate. On an accelerator JAX's and PyTorch's own counts of it are read instead. Samples that are estimated to take
more than there is are passed, and those that took so little that the framework's own needs are most of it.

  python benchmarks/network_memory.py
  python benchmarks/network_memory.py --samples 10 --seed 7
  MAPGROVE_BACKEND=torch python benchmarks/network_memory.py --most-mb 60000     # on a GPU, its memory
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from hyperopt.pyll.stochastic import sample

from pipeline.backend import free_device_bytes, use_backend
from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.network.cost import Cost, training_cost
from search_space.network.unet import InputBand, draw_up
from search_space.space import hyperopt_space, resolve_space
from search_space.study import Budget

BANDS = [InputBand(f"band{number}", number // 8) for number in range(20)]
CLASSES, STEPS = 4, 3
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    """Draw samples, measure each in a process of its own, print both numbers and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least-mb", type=float, default=250)
    parser.add_argument("--most-mb", type=float, default=5000)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    use_backend()
    on_device = free_device_bytes() is not None
    if options.measure:
        print(measured_bytes(decode(Candidate, json.loads(options.measure), where="--measure"), on_device))
        return
    ratios = []
    print(f"{'estimated':>10} {'measured MB':>12} {'ratio':>6}", flush=True)
    drawn = samples(options, on_device)
    while len(ratios) < options.samples:
        candidate, cost = next(drawn)
        estimated = cost.device_bytes if on_device else cost.host_bytes
        command = [sys.executable, __file__, "--measure", json.dumps(encode(candidate))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        measured = float(done.stdout.split()[-1])
        if measured / 1e6 < options.least_mb:
            continue
        ratios.append(estimated / measured)
        print(f"{estimated / 1e6:10.0f} {measured / 1e6:12.0f} {ratios[-1]:6.2f}  {told(candidate, cost)}", flush=True)
    within = sum(0.75 <= ratio <= 1.25 for ratio in ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(
        f"{within} of {len(ratios)} within 25 %; estimated / measured {np.median(ratios):.2f} in the median, {spread}"
    )


def samples(options: argparse.Namespace, on_device: bool) -> Iterator[tuple[Candidate, Cost]]:
    """Random candidates that can be measured, with what they are estimated to take."""
    expression, rng = hyperopt_space(resolve_space({})), np.random.default_rng(options.seed)
    while True:
        candidate = decode(Candidate, sample(expression, rng), where="sample")
        plan = candidate.plan
        graph = draw_up(candidate.architecture, BANDS, CLASSES)
        cost = training_cost(graph, plan.patch_px, plan.batch_size, plan.optimizer.kind, plan.averaging)
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
    """Some steps as `pipeline.training.train` makes them, on noise."""
    from pipeline.networks.builder import build_model
    from pipeline.training.losses import MixedLoss
    from pipeline.training.optimisation import make_optimizer
    from pipeline.training.trainee import Trainee

    plan, architecture = candidate.plan, candidate.architecture
    model = build_model(architecture, BANDS, CLASSES)
    loss = MixedLoss(plan.loss, plan.loss_details, [str(number) for number in range(CLASSES)])
    trainee = Trainee(model, loss, margin_px=architecture.margin_px)
    trainee.compile(optimizer=make_optimizer(plan, Budget(epochs=1, steps_per_epoch=STEPS)))
    rng, shape = np.random.default_rng(0), (plan.batch_size, plan.patch_px, plan.patch_px)
    patches = rng.normal(size=(*shape, len(BANDS))).astype(np.float32)
    targets = (rng.random((*shape, CLASSES + 1)) < 0.5).astype(np.float32)
    for _ in range(STEPS):
        trainee.train_on_batch(patches, targets)
    return trainee


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
    return (
        f"{cost.num_parameters / 1e6:.1f} M weights, {plan.patch_px} px x {plan.batch_size}, "
        f"{net.encoder.kind} {net.block.kind}, {net.activation}, {net.normalisation}, "
        f"w {cost.weights_bytes / 1e6:.0f} k {cost.kept_bytes / 1e6:.0f} "
        f"t {cost.working_bytes / 1e6:.0f} {cost.optimizer} {cost.num_variables}"
    )


if __name__ == "__main__":
    main()

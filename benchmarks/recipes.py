"""The recipes at an equal budget of minutes, beside another library's U-Net, on a study's own split.

Each candidate trains for so many minutes with each seed: from the first step on, with what compiles it, without
validation. Thresholds and the best of `CHECKS` epochs are chosen on the validation ground, the Jaccard is that of the
test ground. `smp` is the U-Net with a ResNet-34 of segmentation-models-pytorch, from random weights, on the very
patches that the default candidate gets; it wants PyTorch and that package in the same environment.

The study's data must be prepared first. With `--keep FILE` every training is written down when it ends, and none that
is there is done again. How many steps go into the minutes is known from some steps before; how long they took is told.

  python benchmarks/recipes.py configs/sentinel2_india.toml --minutes 2 --candidates default vooban smp
  python benchmarks/recipes.py configs/sentinel2_india.toml --minutes 2 --candidates study:sentinel2_india
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.backend import BACKEND_VARIABLE, use_backend
from pipeline.patches.scenes import TrainingScene
from pipeline.study_data import StudyData
from pipeline.validation.confusion import ThresholdCounts
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.network.cost import training_cost
from search_space.network.unet import InputBand, draw_up
from search_space.objective import EpochReport
from search_space.recipes import read_recipe, recipe_names
from search_space.study import Budget, Study
from search_space.study_file import read_study

if TYPE_CHECKING:
    from pipeline.validation.whole_ground import Validation

PEER = "smp"
OF_STUDY = "study:"
CHECKS = 5
"""Epochs of each training, which end with a validation each."""

PROBE_STEPS = 6
SLOW_STEP_S = 5.0
"""Of a network whose steps take longer one tells enough."""

MOST_BYTES = 6e9
"""Of a training; batches are made smaller until it takes no more."""

RESULT = "RESULT "


@dataclass(frozen=True)
class Ground:
    """What a candidate is trained, chosen and scored on.

    Attributes:
        training: Scenes to draw patches from.
        validation: Scenes that choose epoch and thresholds.
        test: Scenes that nothing looks at before.
        classes: Names of the classes.
        bands: Those of the cubes.
    """

    training: list[TrainingScene]
    validation: list[TrainingScene]
    test: list[TrainingScene]
    classes: tuple[str, ...]
    bands: tuple[InputBand, ...]


def main() -> None:
    """Train everything, one after the other, each in a process of its own; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a study's TOML file")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", nargs="+", default=["default", *recipe_names(), PEER])
    parser.add_argument("--store", help="where the study of study:NAME is")
    parser.add_argument("--keep", type=Path, help="JSON lines: results are added, and what is there is not done again")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    study = read_study(options.study, [])
    if options.one:
        name, seed = options.one
        result = train_one(study, name, int(seed), options)
        print(RESULT + json.dumps(result), flush=True)
        return
    found = kept(options.keep, options.minutes)
    for seed in range(options.seeds):
        for name in options.candidates:
            if (name, seed) in found or (result := in_process(name, seed)) is None:
                continue
            found[name, seed] = result
            if options.keep:
                entry = {"candidate": name, "seed": seed, "budget_minutes": options.minutes, **result}
                with options.keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
    print(f"{study.name}: {options.minutes:g} minutes each, {options.seeds} seeds; Jaccard on the test ground")
    columns = "  ".join(f"{name:>14}" for name in study.classes)
    print(f"{'candidate':26} {'mean':>14}  {columns}  minutes  patches  batch")
    for name in options.candidates:
        of_seeds = [found[name, seed] for seed in range(options.seeds) if (name, seed) in found]
        if of_seeds:
            print(line(name, of_seeds, study.classes), flush=True)


def kept(path: Path | None, minutes: float) -> dict[tuple[str, int], dict[str, Any]]:
    """Results by candidate and seed that an earlier run with as many minutes wrote down."""
    if path is None or not path.exists():
        return {}
    entries = [json.loads(each) for each in path.read_text(encoding="utf-8").splitlines()]
    return {(each["candidate"], each["seed"]): each for each in entries if each["budget_minutes"] == minutes}


def in_process(name: str, seed: int) -> dict[str, Any] | None:
    """Train one candidate with one seed in a fresh process; None where it fails, which is told."""
    environment = {**os.environ, BACKEND_VARIABLE: os.environ.get(BACKEND_VARIABLE, "tensorflow")}
    command = [sys.executable, *sys.argv, "--one", name, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    for each in done.stdout.splitlines():
        if each.startswith(RESULT):
            result = dict(json.loads(each.removeprefix(RESULT)))
            mean = np.mean(list(result["jaccard"].values()))
            print(f"{name}, seed {seed}: {mean:.3f} after {result['minutes']:.2f} minutes", flush=True)
            return result
    print(f"{name}, seed {seed}: failed: {(done.stderr.strip().splitlines() or ['no word'])[-1][:120]}", flush=True)
    return None


def line(name: str, found: Sequence[dict[str, Any]], classes: Sequence[str]) -> str:
    """One row: mean and standard deviation over seeds."""

    def spread(values: Sequence[float]) -> str:
        return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0.0:.3f}"

    columns = [spread([float(np.mean(list(each["jaccard"].values()))) for each in found])]
    columns += [spread([each["jaccard"][name] for each in found if name in each["jaccard"]]) for name in classes]
    patches = np.mean([each["patches"] for each in found])
    minutes = np.mean([each["minutes"] for each in found])
    texts = "  ".join(f"{column:>14}" for column in columns)
    return f"{name:26} {texts}  {minutes:7.2f}  {patches:7.0f}  {found[0]['batch_size']:5}"


def train_one(study: Study, name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and score; the Jaccard per class on the test ground."""
    if name == PEER:
        return train_peer(study, seed, options.minutes)
    use_backend(0)
    from pipeline.training.train import train

    candidate = candidate_of(name, study, options.store)
    ground = ground_of(study, candidate)
    candidate = within_memory(candidate, ground)

    def run(budget: Budget) -> tuple[Any, list[EpochReport]]:
        reports: list[EpochReport] = []
        trained = train(
            candidate,
            ground.training,
            ground.validation,
            ground.classes,
            ground.bands,
            budget,
            seed=seed,
            limits=study.limits.of_one_network,
            on_epoch=reports.append,
        )
        return trained, reports

    def trained_s(report: EpochReport) -> float:
        return report.seconds - (report.validation_s or 0.0)

    first_s = later_s = 0.0
    num_probed = 0
    while num_probed < PROBE_STEPS and later_s < SLOW_STEP_S:
        num_probed = PROBE_STEPS if num_probed else 1
        _, probe = run(Budget(epochs=2, steps_per_epoch=num_probed))
        first_s, later_s = map(trained_s, probe)
    steps = steps_within(60 * options.minutes, first_s - later_s, later_s / num_probed)
    trained, reports = run(Budget(epochs=CHECKS, steps_per_epoch=steps))
    tile_px, margin_px = candidate.plan.patch_px, candidate.architecture.margin_px
    jaccard = jaccard_of_test(trained.model, ground, trained.validation.thresholds, tile_px, margin_px)
    return result_of(trained.validation, jaccard, steps, candidate.plan.batch_size, sum(map(trained_s, reports)))


def result_of(
    validation: "Validation", jaccard: dict[str, float], steps: int, batch_size: int, seconds: float
) -> dict[str, Any]:
    """What is kept of one training."""
    return {
        "validation_jaccard": validation.mean_jaccard,
        "jaccard": jaccard,
        "patches": CHECKS * steps * batch_size,
        "batch_size": batch_size,
        "minutes": seconds / 60,
    }


def steps_within(seconds: float, once_s: float, step_s: float) -> int:
    """Steps per epoch so that all epochs take so long, with what the first step takes more than others."""
    return max(1, round((seconds - max(once_s, 0.0)) / step_s / CHECKS))


def candidate_of(name: str, study: Study, store_url: str | None) -> Candidate:
    """The candidate with every default, that of a recipe or a file, or the best of a study."""
    if name == "default":
        scaling = {"scope": "scene" if "scene" in str(study.space.get("plan.scaling.scope", "")) else "dataset"}
        return decode(Candidate, {"plan": {"scaling": scaling}}, where="default")
    if not name.startswith(OF_STUDY):
        return read_recipe(name).candidate
    from results.facts import ranked
    from trials_db.opening import open_store

    with open_store(store_url or study.store_url, create=False) as store:
        return ranked(store.trials(name.removeprefix(OF_STUDY)))[0].decoded()


def within_memory(candidate: Candidate, ground: Ground) -> Candidate:
    """The candidate with a batch that the machine has room for."""
    plan = candidate.plan
    graph = draw_up(candidate.architecture, ground.bands, len(ground.classes))
    batch_size = plan.batch_size
    while batch_size > 1:
        cost = training_cost(graph, plan.patch_px, batch_size)
        if cost.host_bytes <= MOST_BYTES:
            break
        batch_size -= 1
    return candidate.model_copy(update={"plan": plan.model_copy(update={"batch_size": batch_size})})


def ground_of(study: Study, candidate: Candidate) -> Ground:
    """The study's split, scaled as the candidate asks for."""
    data = StudyData.open(study)
    normalisation = data.normalisation(candidate.plan.scaling)
    training, validation, test = (
        data.scenes(parts, study.classes, normalisation)
        for parts in (data.fold.training, data.fold.validation, data.fold.test)
    )
    return Ground(training, validation, test, study.classes, tuple(data.dataset.input_bands))


def jaccard_of_test(
    model: Any, ground: Ground, thresholds: dict[str, float], tile_px: int, margin_px: int
) -> dict[str, float]:
    """Jaccard per class on the test ground, at thresholds from elsewhere; classes absent there are left out."""
    from pipeline.networks.prediction import model_predictor, predict_scene
    from pipeline.validation.whole_ground import OVERLAP, TILES_PER_BATCH, KnownImagery
    from search_space.prediction import Tiling

    counts, predict = ThresholdCounts(len(ground.classes)), model_predictor(model)
    tiling = Tiling(tile_px, margin_px, OVERLAP, "none", TILES_PER_BATCH)
    for source in ground.test:
        seen = KnownImagery(source.scene.cube, np.asarray(source.scene.known))
        probabilities = predict_scene(predict, seen, source.scaling, tiling)
        counts.add(probabilities, source.scene.masks[..., source.classes], seen.valid)
    found = counts.at([thresholds.get(name, 0.5) for name in ground.classes])
    labelled = found.tp + found.fn > 0
    return {
        name: float(jaccard)
        for name, jaccard, is_there in zip(ground.classes, found.jaccard, labelled, strict=True)
        if is_there
    }


class PeerModel:
    """PyTorch's network as validation and prediction call a model: tiles `(N, T, T, B)` to `(N, T, T, K)`."""

    output = None

    def __init__(self, network: Any) -> None:
        self.network = network

    def predict_on_batch(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities."""
        import torch

        self.network.eval()
        with torch.inference_mode():
            maps = self.network(torch.from_numpy(np.ascontiguousarray(np.moveaxis(tiles, -1, 1))))
            found: NDArray[np.float32] = np.moveaxis(torch.sigmoid(maps).numpy(), 1, -1)
        self.network.train()
        return found


def train_peer(study: Study, seed: int, minutes: float) -> dict[str, Any]:
    """The same for segmentation-models-pytorch: AdamW, one cycle, cross-entropy + Dice."""
    import torch

    smp = import_peer()
    candidate = candidate_of("default", study, None)
    # Validation comes from the pipeline, which imports Keras; its backend has no part in it.
    use_backend(0)
    from pipeline.patches.sampler import PatchSampler
    from pipeline.validation.whole_ground import validate

    ground, plan = ground_of(study, candidate), candidate.plan

    def begun() -> tuple[Any, Any]:
        torch.manual_seed(seed)
        made = smp.Unet("resnet34", encoder_weights=None, in_channels=len(ground.bands), classes=len(ground.classes))
        return made, torch.optim.AdamW(made.parameters(), lr=plan.learning_rate)

    network, optimizer = begun()
    patches = ahead(PatchSampler(ground.training, plan, seed, candidate.context_px(), ground.classes))

    def step() -> float:
        started = time.perf_counter()
        bands, targets = next(patches)
        image, target = (torch.from_numpy(np.ascontiguousarray(np.moveaxis(each, -1, 1))) for each in (bands, targets))
        loss = peer_loss(network(image), target[:, :-1], target[:, -1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return time.perf_counter() - started

    probe = [step() for _ in range(2 * PROBE_STEPS)]
    step_s = sum(probe[PROBE_STEPS:]) / PROBE_STEPS
    steps = steps_within(60 * minutes, sum(probe[:PROBE_STEPS]) - PROBE_STEPS * step_s, step_s)
    # What the steps before taught it does not count, as it does not of the others.
    network, optimizer = begun()
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3 * plan.learning_rate, total_steps=CHECKS * steps)
    best: Any = None
    seconds = 0.0
    for _ in range(CHECKS):
        for _ in range(steps):
            seconds += step()
            rate.step()
        found = validate(PeerModel(network), ground.validation, ground.classes, tile_px=plan.patch_px)
        if best is None or found.mean_jaccard > best[0].mean_jaccard:
            best = found, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best[1])
    jaccard = jaccard_of_test(PeerModel(network), ground, best[0].thresholds, plan.patch_px, 0)
    return result_of(best[0], jaccard, steps, plan.batch_size, seconds)


def peer_loss(logits: Any, masks: Any, known: Any) -> Any:
    """Cross-entropy + soft Dice over known pixels, as PyTorch computes them."""
    import torch

    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    num_known = known.sum().clamp(min=1.0)
    probabilities = torch.sigmoid(logits) * known
    both = (probabilities * masks).sum(dim=(0, 2, 3))
    dice = 1.0 - (2.0 * both + 1.0) / (probabilities.sum(dim=(0, 2, 3)) + (masks * known).sum(dim=(0, 2, 3)) + 1.0)
    return (entropy * known).sum() / num_known / masks.shape[1] + dice.mean()


def ahead(sampler: Any) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Batches, each made while the one before it trains."""
    with ThreadPoolExecutor(1) as pool:
        number, following = 0, pool.submit(sampler.batch, 0)
        while True:
            batch, number = following.result(), number + 1
            following = pool.submit(sampler.batch, number)
            yield batch


def import_peer() -> Any:
    """Import segmentation-models-pytorch, also where torchvision's operators, which it does not call, are missing."""
    import torch

    # A wheel of torchvision made for another build of PyTorch brings none; it only wants to see these declared.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        try:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        except RuntimeError:
            continue
    import segmentation_models_pytorch as smp

    return smp


if __name__ == "__main__":
    main()

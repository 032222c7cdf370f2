"""Training learns, keeps its best epoch, repeats itself, and refuses what cannot be trained."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.losses import MixedLoss
from pipeline.normalisation import Normalisation
from pipeline.patches.sampler import PatchSampler
from pipeline.patches.scenes import TrainingScene
from pipeline.training import DivergedError, Trained, train
from pipeline.validation import validate
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.errors import InfeasibleError, MapgroveError
from search_space.network.unet import InputBand
from search_space.objective import EpochReport
from search_space.recipes import read_recipe, recipe_names
from search_space.study import Budget, LimitSettings
from search_space.training_plan import Scaling
from tests.pipeline_tests.fake_scenes import FakeScene

SMALL = {
    "architecture": {"depth": 1, "base_filters": 4, "units_per_stage": 1},
    "plan": {"patch_px": 16, "batch_size": 4, "learning_rate": 0.02},
}


def make_scene(seed: int, with_class: bool = True) -> TrainingScene:
    rng = np.random.default_rng(seed)
    masks = np.zeros((48, 48, 2), np.uint8)
    if with_class:
        masks[10:30, 8 + seed : 28 + seed, 0] = 1
    masks[35:40, :, 1] = 1
    cube = rng.normal(0, 0.3, (48, 48, 3)).astype(np.float32) + masks[..., :1] - masks[..., 1:]
    known = np.ones((48, 48), bool)
    known[:2] = False
    scene = FakeScene(str(seed), cube, masks, np.ones((48, 48), bool), known)
    return TrainingScene(scene, Normalisation.fit(Scaling(), [scene]).for_scene(scene), (0, 1))


def run(fields: dict[str, Any] | None = None, seed: int = 1, epochs: int = 3, **limits: Any) -> Trained:
    reports: list[EpochReport] = []
    trained = train(
        decode(Candidate, fields or SMALL, where="test"),
        [make_scene(0), make_scene(1)],
        [make_scene(2)],
        ["square", "stripe"],
        [InputBand(name) for name in ("red", "green", "blue")],
        Budget(epochs=epochs, steps_per_epoch=15),
        seed=seed,
        limits=LimitSettings(max_trials=1, **limits),
        on_epoch=reports.append,
    )
    assert tuple(reports) == trained.reports
    return trained


@pytest.fixture(scope="module")
def trained() -> Trained:
    return run()


@pytest.mark.slow
def test_it_learns_what_is_easy(trained: Trained) -> None:
    assert trained.validation.mean_jaccard > 0.8
    assert [report.epoch for report in trained.reports] == [1, 2, 3]
    assert trained.reports[-1].training_loss < trained.reports[0].training_loss
    assert trained.figures["num_parameters"] == trained.model.count_params()


@pytest.mark.slow
def test_the_model_is_that_of_the_best_epoch(trained: Trained) -> None:
    best = max(report.mean_jaccard or 0 for report in trained.reports)
    again = validate(trained.model, [make_scene(2)], ["square", "stripe"], tile_px=16)

    assert trained.validation.mean_jaccard == best
    assert again.jaccard == trained.validation.jaccard
    assert again.thresholds == trained.validation.thresholds


@pytest.mark.slow
def test_the_same_seed_gives_the_same_training(trained: Trained) -> None:
    def essence(of: Trained) -> list[tuple[float, dict[str, float]]]:
        return [(report.training_loss, report.jaccard) for report in of.reports]

    assert essence(run()) == essence(trained)
    assert essence(run(seed=2, epochs=1)) != essence(trained)[:1]


@pytest.mark.slow
def test_validation_is_what_a_plain_count_gives(trained: Trained) -> None:
    source = make_scene(2)
    bands = source.scaling.apply(source.scene.cube)[None]
    probabilities = np.asarray(trained.model.predict_on_batch(bands))[0]
    # Below, one tile is as large as the scene, so nothing is blended.
    scores = {}
    for k, name in enumerate(["square", "stripe"]):
        truth = source.scene.masks[..., k][source.scene.known] > 0
        values = probabilities[..., k][source.scene.known]
        jaccards = [((values >= t) & truth).sum() / ((values >= t) | truth).sum() for t in np.arange(1, 256) / 256]
        scores[name] = max(jaccards)

    found = validate(trained.model, [source], ["square", "stripe"], tile_px=48)

    for name, score in scores.items():
        assert found.jaccard[name] == pytest.approx(score, abs=1e-9)


@pytest.mark.slow
def test_a_class_that_is_absent_from_validation_is_left_out(trained: Trained) -> None:
    found = validate(trained.model, [make_scene(3, with_class=False)], ["square", "stripe"], tile_px=16)

    assert set(found.jaccard) == {"stripe"}


def test_validation_without_any_class_is_refused(trained: Trained) -> None:
    source = make_scene(3)
    source.scene.known[:] = False

    with pytest.raises(MapgroveError, match="no class is labelled in the validation scenes"):
        validate(trained.model, [source], ["square", "stripe"], tile_px=16)


@pytest.mark.slow
def test_divergence_is_told_with_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(MixedLoss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return super().call(y_true, y_pred) * float("nan")

    monkeypatch.setattr("pipeline.training.MixedLoss", Nothing)

    with pytest.raises(DivergedError, match="the training loss is nan after epoch 1"):
        run(epochs=2)


def test_too_large_a_network_is_infeasible() -> None:
    with pytest.raises(InfeasibleError, match=r"parameters, more than limits.max_parameters = 100"):
        run(max_parameters=100)


def test_a_patch_that_is_smaller_than_the_network_halves_is_infeasible() -> None:
    with pytest.raises(InfeasibleError, match="patch_px must be at least"):
        run({"architecture": {"depth": 5}, "plan": {"patch_px": 20}})


def test_what_needs_too_much_memory_or_time_is_infeasible_before_anything_is_built() -> None:
    with pytest.raises(InfeasibleError, match=r"about [\d,]+ MB, more than limits\.device_memory_mb = 1"):
        run(device_memory_mb=1)
    with pytest.raises(InfeasibleError, match=r"an epoch takes about [\d.,]+ s at 0\.001 GFLOP/s"):
        run(epoch_s=1.0, device_gflops=0.001)


@pytest.mark.parametrize("turns", ["d4", "any"])
def test_all_outputs_are_trained_and_only_the_inner_map_counts(turns: str) -> None:
    """With coarser maps, energies and a margin; patches need not divide either."""
    extras = {"deep_supervision": True, "energy": True, "margin_px": 4, "depth": 2}
    loss = {"bce": 1.0, "lovasz": 1.0}
    plan = {**SMALL["plan"], "patch_px": 30, "augmentation": {"turns": turns}, "loss": loss}
    trained = run({"architecture": {**SMALL["architecture"], **extras}, "plan": plan}, epochs=4)

    assert set(trained.model.output) == {"masks", "masks1", "energy"}
    assert trained.validation.mean_jaccard > 0.7
    losses = [report.training_loss for report in trained.reports]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_patches_cut_on_the_device_train_like_those_of_the_processor(trained: Trained) -> None:
    on_device = run(patches_on="device")

    for ours, theirs in zip(on_device.reports, trained.reports, strict=True):
        assert ours.training_loss == pytest.approx(theirs.training_loss, rel=0.05)
    assert on_device.validation.mean_jaccard > 0.8
    assert len(on_device.model.weights) == len(trained.model.weights)


LOSS_WEIGHTED = {**SMALL, "plan": SMALL["plan"] | {"sampling": {"kind": "loss"}}}


@pytest.mark.slow
def test_losses_of_patches_steer_the_next_epoch_and_nothing_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []

    class Watched(PatchSampler):
        def batch(self, number: int) -> Any:
            told.append(("drawn", number))
            return super().batch(number)

        def record(self, number: int, losses: NDArray[Any]) -> None:
            assert losses.shape == (4,)
            assert (losses > 0).all()
            told.append(("recorded", number))
            super().record(number, losses)

        def settle(self) -> None:
            told.append(("settled", len([name for name, _ in told if name == "settled"])))
            super().settle()

    monkeypatch.setattr("pipeline.training.PatchSampler", Watched)
    first = run(LOSS_WEIGHTED, epochs=3)
    monkeypatch.undo()

    # Keras draws some batches ahead to see their shapes.
    begin = [position for position, (name, _) in enumerate(told) if name == "settled"]
    for epoch, (start, end) in enumerate(zip(begin, [*begin[1:], len(told)], strict=True)):
        numbers = set(range(epoch * 15, (epoch + 1) * 15))
        for what in ("drawn", "recorded"):
            assert {number for name, number in told[start:end] if name == what} == numbers
    assert [each.training_loss for each in run(LOSS_WEIGHTED, epochs=3).reports] == [
        each.training_loss for each in first.reports
    ]


@pytest.fixture
def untraced() -> Iterator[None]:
    """One step of a large network takes TensorFlow far less than to trace it; the other tests are traced."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_trains(name: str) -> None:
    """A step of its own network, losses, sampling and augmentation, on the smallest patches that it takes."""
    recipe = read_recipe(name).candidate
    least_px = max(2**recipe.architecture.depth, 2 * recipe.architecture.margin_px + 16)
    plan = recipe.plan.model_copy(update={"patch_px": least_px, "batch_size": 2})
    bands = recipe.architecture.bands or ("red", "green", "blue")
    trained = train(
        recipe.model_copy(update={"plan": plan}),
        [make_scene(0), make_scene(1)],
        [make_scene(2)],
        ["square", "stripe"],
        [InputBand(name) for name in bands],
        Budget(epochs=1, steps_per_epoch=1),
        seed=1,
        limits=LimitSettings(max_trials=1).of_one_network,
        on_epoch=lambda _: None,
    )
    assert np.isfinite(trained.reports[0].training_loss)
    assert set(trained.validation.jaccard) == {"square", "stripe"}

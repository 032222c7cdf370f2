"""Training learns, keeps its best epoch, repeats itself, and refuses what cannot be trained."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.patches.sampler import PatchSampler
from pipeline.training.losses import MixedLoss
from pipeline.training.train import DivergedError, Trained, train
from pipeline.validation.whole_ground import validate
from search_space.errors import InfeasibleError, MapgroveError
from search_space.network.unet import InputBand
from search_space.recipes import read_recipe, recipe_names
from search_space.study import Budget, LimitSettings
from tests.pipeline_tests.small_training import SMALL, make_scene, run


@pytest.fixture(scope="module")
def trained() -> Trained:
    return run()


@pytest.mark.slow
def test_it_learns_what_is_easy(trained: Trained) -> None:
    assert trained.validation.mean_jaccard > 0.8
    assert [report.epoch for report in trained.reports] == [1, 2, 3]
    assert trained.reports[-1].training_loss < trained.reports[0].training_loss
    assert trained.figures["num_parameters"] == trained.model.count_params()
    of_validation, of_all = np.array([(each.validation_s or 0.0, each.seconds) for each in trained.reports]).sum(axis=0)
    assert trained.figures["validation_share"] == pytest.approx(of_validation / of_all, abs=1e-4)
    assert 0.0 < trained.figures["validation_share"] < 1.0


@pytest.mark.slow
def test_each_epoch_tells_what_it_consists_of(trained: Trained) -> None:
    for report in trained.reports:
        assert report.loss_parts == {"bce": pytest.approx(report.training_loss)}
        assert report.learning_rate == pytest.approx(0.02)
        assert 0.0 <= report.data_wait_share <= 1.0
        of_steps_s, rounding_s = 15 * 4 / report.patches_per_s, 0.002
        assert 0.0 < of_steps_s <= report.seconds - report.validation_s + rounding_s
        assert report.memory_mb > 100.0


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
        def parts(self, *maps: Any) -> Any:
            return {name: value * float("nan") for name, value in super().parts(*maps).items()}

    monkeypatch.setattr("pipeline.training.train.MixedLoss", Nothing)

    with pytest.raises(DivergedError, match="the training loss is nan after epoch 1"):
        run(epochs=2)


@pytest.mark.slow
def test_a_network_that_predicts_no_numbers_has_diverged_whatever_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def predictor(_: Any) -> Any:
        return lambda tiles: np.full((*tiles.shape[:3], 2), np.nan, np.float32)

    monkeypatch.setattr("pipeline.validation.whole_ground.model_predictor", predictor)

    with pytest.raises(DivergedError, match="predicts NaN or infinity after epoch 1, though its training loss is a"):
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
    costs = {"regularisation": {"kind": "l2", "weight": 1e-4}}
    extras = {"deep_supervision": True, "energy": True, "margin_px": 4, "depth": 2, **costs}
    plan = {**SMALL["plan"], "loss": {"bce": 1.0, "lovasz": 1.0}, "patch_px": 30, "augmentation": {"turns": turns}}
    trained = run({"architecture": {**SMALL["architecture"], **extras}, "plan": plan}, epochs=4)

    assert set(trained.model.output) == {"masks", "masks1", "energy"}
    assert trained.validation.mean_jaccard > 0.7
    losses = [report.training_loss for report in trained.reports]
    assert losses[-1] < losses[0]
    for report in trained.reports:
        assert set(report.loss_parts) == {"bce", "lovasz", "energy", "l2"}
        assert min(report.loss_parts.values()) > 0.0
        assert sum(report.loss_parts.values()) == pytest.approx(report.training_loss, rel=1e-4)


@pytest.mark.slow
def test_patches_cut_on_the_device_train_like_those_of_the_processor(trained: Trained) -> None:
    on_device = run(patches_on="device")

    for ours, theirs in zip(on_device.reports, trained.reports, strict=True):
        assert ours.training_loss == pytest.approx(theirs.training_loss, rel=0.05)
    assert on_device.validation.mean_jaccard > 0.8
    assert len(on_device.model.weights) == len(trained.model.weights)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_learns_on_a_processor_too(policy: str) -> None:
    trained = run(precision=policy)

    losses = [report.training_loss for report in trained.reports]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert trained.validation.mean_jaccard > 0.7


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

    monkeypatch.setattr("pipeline.training.train.PatchSampler", Watched)
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


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_trains(name: str) -> None:
    """A step of its own network, losses, sampling and augmentation, on the smallest patches that it takes.

    With fewer filters: how many weights the published networks have is checked without training them.
    """
    recipe = read_recipe(name).candidate
    network = recipe.architecture.model_copy(update={"base_filters": min(8, recipe.architecture.base_filters)})
    least_px = max(2**network.depth, 2 * network.margin_px + 16)
    plan = recipe.plan.model_copy(update={"patch_px": least_px, "batch_size": 2})
    bands = network.bands or ("red", "green", "blue")
    trained = train(
        recipe.model_copy(update={"architecture": network, "plan": plan}),
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

"""Trainings that meet what must not harm them: no memory, no room, no class, hardly any data, half precision."""

import errno
import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pipeline.patches.sampler import PatchSampler
from pipeline.patches.scenes import TrainingScene
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.precision import chosen_policy, computing_in
from pipeline.training.trainee import Trainee
from pipeline.validation.whole_ground import validate
from search_space.decode import encode
from search_space.errors import InfeasibleError, MapgroveError
from search_space.losses import LossMix
from search_space.objective import EpochReport
from tests.pipeline_tests.small_training import SMALL, make_scene, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("untraced"),
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning"),
]


class ResourceExhaustedError(Exception):
    """As TensorFlow calls it."""


class Memory:
    """An accelerator that takes so many patches at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.most = most
        call = Trainee.call

        def limited(trainee: Trainee, inputs: Any, training: bool | None = None) -> Any:
            if len(inputs) > self.most:
                raise ResourceExhaustedError("OOM when allocating tensor with shape[4,16,16,4]")
            return call(trainee, inputs, training=training)

        monkeypatch.setattr(Trainee, "call", limited)


UNNORMALISED = {
    "architecture": {**SMALL["architecture"], "normalisation": "layer"},
    "plan": {**SMALL["plan"], "optimizer": {"kind": "sgd", "momentum": 0.5}},
}
"""Here patches do not depend on each other, and known pixels are as many in each, or nearly so."""


def test_where_memory_runs_out_two_halves_make_the_same_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scenes = [make_scene(0), make_scene(1)]
    for each in scenes:
        each.scene.known[:] = True
    whole = run(UNNORMALISED, epochs=1, steps=3, scenes=scenes)
    Memory(monkeypatch, 2)
    with caplog.at_level(logging.WARNING):
        halved = run(UNNORMALISED, epochs=1, steps=3, scenes=scenes)
    assert "batches of 4 patches are taken in two halves from now on" in caplog.text
    assert halved.figures["num_batch_parts"] == 2.0
    assert "num_batch_parts" not in whole.figures
    assert halved.reports[0].training_loss == pytest.approx(whole.reports[0].training_loss, rel=1e-4)
    for ours, theirs in zip(halved.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_where_memory_runs_out_again_nothing_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    Memory(monkeypatch, 1)
    with pytest.raises(InfeasibleError, match="memory: patches, 2 at a time of 16 px, take more than there is"):
        run(epochs=1)
    Memory(monkeypatch, 0)
    with pytest.raises(InfeasibleError, match="1 at a time"):
        run({**SMALL, "plan": {**SMALL["plan"], "batch_size": 1}}, epochs=1)


def test_memory_that_runs_out_later_costs_no_epoch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    memory = Memory(monkeypatch, 4)
    told: list[int] = []
    restored: list[int] = []

    def on_epoch(report: EpochReport) -> None:
        told.append(report.epoch)
        memory.most = 2

    def trained(epochs: int) -> Any:
        checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {})
        more = {
            "on_epoch": on_epoch,
            "on_restored": lambda reports: restored.extend(each.epoch for each in reports),
            "checkpoint": checkpoint,
        }
        plan = {**SMALL["plan"], "sampling": {"kind": "loss"}, "optimizer": {"kind": "adam"}}
        return run({**SMALL, "plan": plan}, epochs=epochs, steps=2, more=more)

    first = trained(2)
    assert (told, restored) == ([1, 2], [1])
    assert first.figures["num_batch_parts"] == 2.0
    # Nothing is tried in vain when it goes on.
    memory.most = 4
    later = trained(3)
    assert (told, restored) == ([1, 2, 3], [1, 1, 2])
    assert later.figures["num_batch_parts"] == 2.0


def test_a_full_disk_at_checkpoints_is_told_once_and_costs_no_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.training.checkpoint.np.savez", full)
    told: list[str] = []
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {}, told.append)
    trained = run(epochs=3, steps=2, more={"checkpoint": checkpoint})
    assert len(trained.reports) == 3
    [line] = told
    assert line.endswith("training goes on, but is not kept: No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_with_other_weights_than_it_says_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {})
    first = run(epochs=1, steps=2, more={"checkpoint": checkpoint})
    with np.load(checkpoint.path) as arrays:
        kept = dict(arrays)
    del kept[f"variables_{sum(name.startswith('variables_') for name in kept) - 1}"]
    np.savez(checkpoint.path, **kept)
    with caplog.at_level(logging.WARNING):
        again = run(epochs=1, steps=2, more={"checkpoint": checkpoint})
    assert "not used: its weights are those of another architecture" in caplog.text
    assert again.reports[0].training_loss == first.reports[0].training_loss


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_memory_that_runs_out_at_the_end_leaves_the_best_epoch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    ended: list[bool] = []

    def limited(model: keras.Model, *scenes: Any, **more: Any) -> Any:
        if len(ended) == 3:
            raise ResourceExhaustedError("OOM when allocating tensor with shape[8,16,16,4]")
        return validate(model, *scenes, **more)

    monkeypatch.setattr("pipeline.training.train.validate", limited)
    plan = {**SMALL["plan"], "averaging": {"kind": "snapshots", "num": 2}}
    with caplog.at_level(logging.WARNING):
        trained = run(
            {**SMALL, "plan": plan},
            precision=policy,
            more={"on_epoch": lambda report: ended.append(bool(report.jaccard))},
        )
    assert ended == [True] * 3, "no epoch is trained again"
    best = int(trained.figures["best_epoch"])
    assert trained.validation.jaccard == trained.reports[best - 1].jaccard
    assert "num_averaged" not in trained.figures
    assert {layer.compute_dtype for layer in trained.model.layers} == {"float32"}
    told = [each.getMessage() for each in caplog.records if "out of memory at the end" in each.getMessage()]
    assert told[-1].endswith(f": epoch {best} is kept, and no mean of snapshots")
    assert len(told) == (1 if policy == "float32" else 2)
    monkeypatch.undo()
    if policy == "float32":
        again = validate(trained.model, [make_scene(2)], ["square", "stripe"], tile_px=16)
        assert again.jaccard == trained.validation.jaccard


EVERY_LOSS = {"loss": dict.fromkeys(encode(LossMix(bce=1.0)), 1.0)}


def test_batches_without_a_known_pixel_teach_nothing_and_harm_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(PatchSampler):
        def batch(self, number: int) -> Any:
            bands, targets = super().batch(number)
            targets[..., -1] = 0.0
            return bands, targets

    before: list[Any] = []
    monkeypatch.setattr("pipeline.training.train.PatchSampler", Blind)
    plan = {**SMALL["plan"], **EVERY_LOSS, "optimizer": {"kind": "sgd"}}
    trained = run(
        {**SMALL, "plan": plan},
        epochs=1,
        steps=2,
        more={"initialise": lambda model: before.extend(model.get_weights())},
    )
    assert trained.reports[0].training_loss == pytest.approx(0.0, abs=1e-6)
    names = [variable.path for variable in trained.model.weights]
    for name, ours, theirs in zip(names, trained.model.get_weights(), before, strict=True):
        if "moving" not in name:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_a_class_that_never_occurs_is_trained_all_the_same() -> None:
    scenes = [make_scene(0, with_class=False), make_scene(1, with_class=False)]
    trained = run({**SMALL, "plan": {**SMALL["plan"], **EVERY_LOSS}}, epochs=1, steps=2, scenes=scenes)
    assert set(trained.validation.jaccard) == {"square", "stripe"}
    assert np.isfinite(trained.reports[0].training_loss)


def test_one_patch_is_enough_to_train_on() -> None:
    source = make_scene(0)
    fake = source.scene
    small = type(fake)(
        "small", fake.cube[20:36, 10:26], fake.masks[20:36, 10:26], fake.valid[20:36, 10:26], fake.known[20:36, 10:26]
    )
    plan = {**SMALL["plan"], "batch_size": 1, "augmentation": {"turns": "none"}}
    trained = run({**SMALL, "plan": plan}, epochs=1, steps=1, scenes=[TrainingScene(small, source.scaling, (0, 1))])
    assert np.isfinite(trained.reports[0].training_loss)


def test_what_goes_wrong_with_a_batch_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(PatchSampler):
        def batch(self, number: int) -> Any:
            if number == 2:
                raise MapgroveError("the disk with the scenes is gone")
            return super().batch(number)

    monkeypatch.setattr("pipeline.training.train.PatchSampler", Broken)
    with pytest.raises(MapgroveError, match="the disk with the scenes is gone"):
        run(epochs=1)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_for_the_way_through_the_network_alone(policy: str) -> None:
    seen: list[tuple[str, str]] = []

    def look(model: keras.Model) -> None:
        seen.extend((each.name, each.compute_dtype) for each in model.layers if each.count_params())
        seen.append(("output", model.output.dtype))
        assert {str(variable.dtype) for variable in model.trainable_variables} == {"float32"}

    before = keras.config.dtype_policy().name
    trained = run(epochs=1, steps=2, precision=policy, more={"initialise": look})
    assert dict(seen).pop("output") == "float32"
    assert {dtype for name, dtype in seen if name != "output"} == {policy.removeprefix("mixed_")}
    assert keras.config.dtype_policy().name == before
    # What is returned computes in single precision, and is validated so.
    assert {layer.compute_dtype for layer in trained.model.layers} == {"float32"}
    again = validate(trained.model, [make_scene(2)], ["square", "stripe"], tile_px=16)
    assert again.jaccard == trained.validation.jaccard
    assert np.isfinite(trained.reports[0].training_loss)


def test_a_processor_computes_in_single_precision_unless_told_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen_policy("auto") == "float32"
    assert not caplog.text
    assert chosen_policy("mixed_bfloat16") == "mixed_bfloat16"
    [told] = caplog.messages
    assert told.startswith("limits.precision = mixed_bfloat16: no device here is known to be fast in it")
    before = keras.config.dtype_policy().name
    with computing_in("mixed_float16"):
        assert keras.layers.Dense(1).compute_dtype == "float16"
    assert keras.config.dtype_policy().name == before


def test_patience_ends_a_training_and_a_resumed_one_agrees(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {})
    plan = {**SMALL["plan"], "learning_rate": 1e-9, "patience": 1}
    trained = run({**SMALL, "plan": plan}, epochs=9, steps=9, more={"checkpoint": checkpoint})
    assert len(trained.reports) == int(trained.figures["best_epoch"]) + 1 < 9
    again = run({**SMALL, "plan": plan}, epochs=9, steps=9, more={"checkpoint": checkpoint})
    assert again.reports == trained.reports


def test_short_epochs_are_validated_now_and_then_and_the_last_always() -> None:
    # 16 tiles of 16 px are predicted, which costs 0.44 of 3 steps with 4 patches: there is time for two in 7 epochs.
    trained = run(epochs=7, steps=3)
    validated = [False, False, False, True, False, False, True]
    assert [bool(report.jaccard) for report in trained.reports] == validated
    assert [report.validation_s is not None for report in trained.reports] == validated


def test_a_shorter_budget_does_not_end_with_an_epoch_that_was_not_validated(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {})

    class CutOffError(Exception):
        pass

    def cut(report: EpochReport) -> None:
        if report.epoch == 3:
            raise CutOffError

    with pytest.raises(CutOffError):
        run(epochs=7, steps=3, more={"checkpoint": checkpoint, "on_epoch": cut})
    told: list[EpochReport] = []
    trained = run(epochs=2, steps=3, more={"checkpoint": checkpoint, "on_restored": told.extend})
    assert [bool(report.jaccard) for report in trained.reports] == [False, True]
    assert told == list(trained.reports)
    assert trained.reports[-1].jaccard == trained.validation.jaccard
    whole = run(epochs=2, steps=3)
    assert whole.validation == trained.validation
    for ours, theirs in zip(trained.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_new_network_can_be_given_its_first_weights() -> None:
    def zero(model: keras.Model) -> None:
        model.set_weights([np.full_like(each, 0.125) for each in model.get_weights()])

    plan = {**SMALL["plan"], "learning_rate": 1e-9}
    trained = run({**SMALL, "plan": plan}, epochs=1, steps=1, more={"initialise": zero})
    for variable in trained.model.trainable_variables:
        np.testing.assert_allclose(np.asarray(keras.ops.convert_to_numpy(variable)), 0.125, atol=1e-6)

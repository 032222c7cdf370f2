"""Trainings that diverge late: a retraining keeps what it had reached, a search takes it for what it is."""

import logging
from typing import Any

import numpy as np
import pytest

from pipeline.patches.sampler import PatchSampler
from pipeline.training.train import DivergedError
from tests.pipeline_tests.small_training import SMALL, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("untraced"),
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning"),
]


def poison_from(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Poisoned(PatchSampler):
        def batch(self, number: int) -> Any:
            bands, targets = super().batch(number)
            return (bands * np.nan if number >= batch else bands), targets

    monkeypatch.setattr("pipeline.training.train.PatchSampler", Poisoned)


@pytest.mark.parametrize("averaging", [{"kind": "none"}, {"kind": "ema"}], ids=["none", "ema"])
def test_the_best_epoch_before_is_kept_where_that_is_wanted(
    averaging: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fields = {**SMALL, "plan": {**SMALL["plan"], "averaging": averaging}}
    until_then = run(fields, epochs=2)
    poison_from(2 * 15 + 7, monkeypatch)

    with caplog.at_level(logging.WARNING):
        trained = run(fields, epochs=4, more={"keeps_best": True})

    best = until_then.figures["best_epoch"]
    assert (trained.figures["best_epoch"], trained.figures["diverged_in_epoch"]) == (best, 3.0)
    assert "diverged_in_epoch" not in until_then.figures
    assert trained.validation == until_then.validation
    assert [each.training_loss for each in trained.reports] == [each.training_loss for each in until_then.reports]
    for ours, theirs in zip(trained.model.get_weights(), until_then.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert f"the training loss is nan after epoch 3 (bce). Epoch {best:.0f} is kept" in caplog.text


def test_snapshots_of_a_training_that_diverged_make_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were taken after the second and the third epoch of four, and the fourth would be the last."""
    plan = {**SMALL["plan"], "averaging": {"kind": "snapshots", "num": 3}}
    plan["schedule"] = {"kind": "cyclic", "start": 0.0, "cycles": 4}
    poison_from(3 * 15, monkeypatch)

    trained = run({**SMALL, "plan": plan}, epochs=4, more={"keeps_best": True})

    assert trained.figures["diverged_in_epoch"] == 4.0
    assert "num_averaged" not in trained.figures
    assert trained.validation.jaccard == trained.reports[int(trained.figures["best_epoch"]) - 1].jaccard


@pytest.mark.parametrize(("batch", "more"), [(15, {}), (0, {"keeps_best": True})], ids=["a search", "nothing to keep"])
def test_otherwise_it_has_diverged(batch: int, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    poison_from(batch, monkeypatch)
    with pytest.raises(DivergedError, match=f"the training loss is nan after epoch {batch // 15 + 1}"):
        run(epochs=3, more=more)

"""A network and scenes so small that they are trained within seconds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.patches.scenes import TrainingScene
from pipeline.preparation.normalisation import Normalisation
from pipeline.training.train import Trained, train
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.network.unet import InputBand
from search_space.objective import EpochReport
from search_space.study import Budget, LimitSettings
from search_space.training_plan import Scaling
from tests.pipeline_tests.fake_scenes import FakeScene

SMALL = {
    "architecture": {"depth": 1, "base_filters": 4, "units_per_stage": 1},
    "plan": {"patch_px": 16, "batch_size": 4, "learning_rate": 0.02},
}


def make_scene(seed: int, with_class: bool = True) -> TrainingScene:
    """A square and a stripe in noise, the square only where it shall be there."""
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


def run(
    fields: dict[str, Any] | None = None,
    seed: int = 1,
    epochs: int = 3,
    steps: int = 15,
    scenes: Sequence[TrainingScene] = (),
    more: dict[str, Any] | None = None,
    **limits: Any,
) -> Trained:
    """Train on `scenes`, by default two easy ones; what is told of epochs must be what is returned."""
    reports: list[EpochReport] = []
    given = more or {}
    trained = train(
        decode(Candidate, fields or SMALL, where="test"),
        scenes or [make_scene(0), make_scene(1)],
        [make_scene(2)],
        ["square", "stripe"],
        [InputBand(name) for name in ("red", "green", "blue")],
        Budget(epochs=epochs, steps_per_epoch=steps),
        seed=seed,
        limits=LimitSettings(max_trials=1, **limits),
        **{"on_epoch": reports.append, **given},
    )
    assert "on_epoch" in given or "checkpoint" in given or tuple(reports) == trained.reports
    return trained

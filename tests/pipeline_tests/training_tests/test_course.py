"""Which epochs are validated, and when a training ends: from the reports alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.networks.prediction import predict_scene
from pipeline.patches.scenes import TrainingScene
from pipeline.preparation.normalisation import Normalisation
from pipeline.training.course import Course
from pipeline.validation.validation_cost import epochs_per_validation, num_validated_tiles
from pipeline.validation.whole_ground import OVERLAP, TILES_PER_BATCH, KnownImagery
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.objective import EpochReport
from search_space.prediction import Tiling
from search_space.study import Budget
from search_space.training_plan import Scaling, TrainingPlan
from tests.pipeline_tests.fake_scenes import FakeScene


def course(epochs: int, every: int = 1, **plan: Any) -> Course:
    return Course(decode(TrainingPlan, plan, where="test"), Budget(epochs=epochs, steps_per_epoch=1), every)


def reports(*scores: float | None) -> list[EpochReport]:
    return [
        EpochReport(epoch=number, training_loss=0.0, jaccard={} if score is None else {"a": score})
        for number, score in enumerate(scores, start=1)
    ]


def test_every_so_manyth_epoch_is_validated_and_the_last() -> None:
    assert [epoch for epoch in range(1, 9) if course(8, 3).is_validated(epoch)] == [3, 6, 8]
    assert all(course(8).is_validated(epoch) for epoch in range(1, 9))


def test_patience_ends_a_training_that_gets_no_better() -> None:
    waiting = course(10, patience=2)
    assert not waiting.has_ended([])
    assert not waiting.has_ended(reports(0.5, 0.4))
    assert waiting.has_ended(reports(0.5, 0.4, 0.5)), "as good is not better: the first is kept"
    assert not waiting.has_ended(reports(0.5, 0.4, 0.6, 0.5))
    assert not course(10).has_ended(reports(0.5, *[0.4] * 8))
    assert course(3).has_ended(reports(0.1, 0.2, 0.3))


def test_patience_ends_no_training_between_two_validations() -> None:
    waiting = course(10, every=2, patience=2)
    assert not waiting.has_ended(reports(None, 0.5, None))
    assert not waiting.has_ended(reports(None, None, None, None))
    assert waiting.has_ended(reports(None, 0.5, None, 0.4))


def test_a_plateau_is_where_no_epoch_was_better() -> None:
    flat = course(10, schedule={"kind": "plateau", "patience": 2, "factor": 0.25})
    assert flat.falls(reports(0.5, 0.4)) is None
    assert flat.falls(reports(0.5, 0.4, 0.4)) == 0.25
    assert course(10).falls(reports(0.5, 0.4, 0.4)) is None


def test_the_rate_stays_between_two_validations_each_of_which_is_better() -> None:
    rising = reports(None, None, None, 0.1, None, None, None, 0.2, None, None, None, 0.3)
    sparse = course(12, 4, schedule={"kind": "plateau", "patience": 2, "factor": 0.25})
    assert [sparse.falls(rising[:epoch]) for epoch in range(1, 13)] == [None] * 12


def scene(height_px: int, width_px: int, known_px: int) -> TrainingScene:
    """Known are so many columns from the left."""
    cube = np.zeros((height_px, width_px, 1), np.float32)
    known = np.zeros((height_px, width_px), bool)
    known[:, :known_px] = True
    fake = FakeScene("s", cube, np.zeros((height_px, width_px, 1), np.uint8), np.ones_like(known), known)
    return TrainingScene(fake, Normalisation.fit(Scaling(), [fake]).for_scene(fake), (0,))


@pytest.mark.parametrize(("tile_px", "margin_px"), [(16, 0), (16, 3), (40, 4)])
def test_as_many_tiles_are_counted_as_are_predicted(tile_px: int, margin_px: int) -> None:
    predicted = []

    def predict(tiles: Any) -> Any:
        predicted.append(len(tiles))
        inner = tile_px - 2 * margin_px
        return np.zeros((len(tiles), inner, inner, 1), np.float32)

    scenes = [scene(50, 37, 37), scene(20, 60, 10)]
    for source in scenes:
        seen = KnownImagery(source.scene.cube, source.scene.known)
        predict_scene(predict, seen, source.scaling, Tiling(tile_px, margin_px, OVERLAP, "none", TILES_PER_BATCH))
    assert num_validated_tiles(scenes, tile_px, margin_px) == sum(predicted)


IN_LAST_THIRD = {1: 1, 2: 1, 5: 2, 7: 2, 30: 3, 200: 3}
"""Of so many epochs so many snapshots, three at most."""

AT_END: dict[str, tuple[dict[str, Any], bool, Callable[[int], int]]] = {
    "nothing": ({}, False, lambda _: 0),
    "single precision": ({}, True, lambda _: 1),
    "mean of weights": ({"averaging": {"kind": "snapshots", "num": 3}}, False, lambda _: 1),
    "mean of maps": ({"averaging": {"kind": "snapshots", "num": 3, "of": "predictions"}}, True,
                     lambda epochs: 1 + IN_LAST_THIRD[epochs]),
}  # fmt: skip
"""What else is validated when a training ends: plan, whether in half precision, and as many times all tiles."""


@pytest.mark.parametrize("at_end", AT_END)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 9, 17, 50])
@pytest.mark.parametrize("epochs", [1, 2, 5, 7, 30, 200])
def test_validations_cost_less_than_15_percent_and_are_no_rarer_than_that_needs(
    steps: int, epochs: int, at_end: str
) -> None:
    plan, is_mixed, num_at_end = AT_END[at_end]
    candidate = decode(Candidate, {"plan": {"patch_px": 64, "batch_size": 4, **plan}}, where="test")
    held_out, budget = [scene(200, 200, 200)], Budget(epochs=epochs, steps_per_epoch=steps)
    every = epochs_per_validation(candidate, held_out, budget, is_mixed=is_mixed)

    def share(validate_every: int) -> float:
        """4 tiles of 64 px along each side, at most 48 px apart. Training costs three passes per patch."""
        planned = Course(candidate.plan, budget, validate_every)
        num_validations = sum(planned.is_validated(epoch) for epoch in range(1, epochs + 1)) + num_at_end(epochs)
        return num_validations * 16 / (epochs * 3 * 4 * steps)

    assert share(every) < 0.15 or every == epochs, "only the last, which is never left out"
    assert all(share(oftener) >= 0.15 for oftener in range(1, every))

"""How often a training is validated: by counted operations, not by a clock, so that every machine agrees."""

import math
from collections.abc import Sequence

import numpy as np

from pipeline.patches.scenes import TrainingScene
from pipeline.validation.whole_ground import OVERLAP, TILES_PER_BATCH
from search_space.candidate import Candidate
from search_space.network.cost import PASSES
from search_space.optimisation import SnapshotAverage
from search_space.study import Budget
from search_space.training_plan import TrainingPlan
from smoothing.blending import num_tiles

MOST_SHARE = 0.15
"""All validations of a training cost less than this share of it, those after its last epoch too.

One there always is: a training that is too short for it ends with it all the same.
"""


def epochs_per_validation(
    candidate: Candidate, scenes: Sequence[TrainingScene], budget: Budget, *, is_mixed: bool = False
) -> int:
    """After how many epochs a validation is due: the fewest with which all together cost less than `MOST_SHARE`.

    Tiles are as large as patches, so that what one costs makes no difference.

    Args:
        candidate: What is trained.
        scenes: Held-out scenes, or parts of them.
        budget: Of the training, whose last epoch is validated whatever its number is.
        is_mixed: Whether layers compute in half precision, so that what is kept is validated in single precision again.

    Returns:
        From 1, for every epoch, to the number of epochs, for the last alone.
    """
    plan, epochs = candidate.plan, budget.epochs
    num_tiles = num_validated_tiles(scenes, plan.patch_px, candidate.architecture.margin_px)
    allowed = MOST_SHARE * PASSES * budget.steps_per_epoch * plan.batch_size * epochs
    most = math.ceil(allowed / max(1, num_tiles)) - 1 - _num_at_end(plan, epochs) - is_mixed
    return math.ceil(epochs / max(1, most))


def _num_at_end(plan: TrainingPlan, epochs: int) -> int:
    """As many validations as that of what snapshots make takes the time of: the mean of maps predicts each of them."""
    averaging = plan.averaging
    if not isinstance(averaging, SnapshotAverage):
        return 0
    return 1 if averaging.of == "weights" else len(averaging.taken_after(plan.schedule, epochs))


def num_validated_tiles(scenes: Sequence[TrainingScene], tile_px: int, margin_px: int) -> int:
    """How many tiles are predicted in a validation, with those that fill up the last batch of a scene."""
    total = 0
    for source in scenes:
        known = np.asarray(source.scene.known)
        tiles = num_tiles(known.shape, tile_px=tile_px, margin_px=margin_px, overlap=OVERLAP, valid=known)
        total += -(-tiles // TILES_PER_BATCH) * TILES_PER_BATCH
    return total

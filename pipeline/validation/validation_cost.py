"""How often a training is validated: by counted operations, not by a clock, so that every machine agrees."""

import math
from collections.abc import Sequence

import numpy as np

from pipeline.patches.scenes import TrainingScene
from pipeline.validation.whole_ground import OVERLAP, TILES_PER_BATCH
from search_space.candidate import Candidate
from search_space.network.cost import PASSES
from search_space.study import Budget
from smoothing.blending import num_tiles

MOST_SHARE = 0.15
"""All validations of a training, that after its last epoch too, cost less than this share of it.

One there always is: a training that is too short for it ends with it all the same.
"""


def epochs_per_validation(candidate: Candidate, scenes: Sequence[TrainingScene], budget: Budget) -> int:
    """After how many epochs a validation is due: the fewest with which all together cost less than `MOST_SHARE`.

    Tiles are as large as patches, so that what one costs makes no difference.

    Args:
        candidate: What is trained.
        scenes: Held-out scenes, or parts of them.
        budget: Of the training, whose last epoch is validated whatever its number is.

    Returns:
        From 1, for every epoch, to the number of epochs, for the last alone.
    """
    plan, epochs = candidate.plan, budget.epochs
    num_tiles = num_validated_tiles(scenes, plan.patch_px, candidate.architecture.margin_px)
    allowed = MOST_SHARE * PASSES * budget.steps_per_epoch * plan.batch_size * epochs
    most = math.ceil(allowed / max(1, num_tiles)) - 1
    return math.ceil(epochs / max(1, most))


def num_validated_tiles(scenes: Sequence[TrainingScene], tile_px: int, margin_px: int) -> int:
    """How many tiles are predicted in a validation, with those that fill up the last batch of a scene."""
    total = 0
    for source in scenes:
        known = np.asarray(source.scene.known)
        tiles = num_tiles(known.shape, tile_px=tile_px, margin_px=margin_px, overlap=OVERLAP, valid=known)
        total += -(-tiles // TILES_PER_BATCH) * TILES_PER_BATCH
    return total

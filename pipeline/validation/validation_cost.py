"""How often a training is validated: by counted operations, not by a clock, so that every machine agrees."""

from collections.abc import Sequence

import numpy as np

from pipeline.patches.scenes import TrainingScene
from pipeline.validation.whole_ground import OVERLAP, TILES_PER_BATCH
from search_space.candidate import Candidate
from search_space.network.cost import PASSES
from smoothing.blending import num_tiles

MOST_SHARE = 0.15
"""Validations together cost less than this share of the training."""


def epochs_per_validation(candidate: Candidate, scenes: Sequence[TrainingScene], steps_per_epoch: int) -> int:
    """After how many epochs a validation is due: the fewest with which it costs less than `MOST_SHARE`.

    Tiles are as large as patches, so that what one costs makes no difference.

    Args:
        candidate: What is trained.
        scenes: Held-out scenes, or parts of them.
        steps_per_epoch: Of the training.
    """
    plan = candidate.plan
    num_tiles = num_validated_tiles(scenes, plan.patch_px, candidate.architecture.margin_px)
    return int(num_tiles / (MOST_SHARE * PASSES * steps_per_epoch * plan.batch_size)) + 1


def num_validated_tiles(scenes: Sequence[TrainingScene], tile_px: int, margin_px: int) -> int:
    """How many tiles are predicted in a validation, with those that fill up the last batch of a scene."""
    total = 0
    for source in scenes:
        known = np.asarray(source.scene.known)
        tiles = num_tiles(known.shape, tile_px=tile_px, margin_px=margin_px, overlap=OVERLAP, valid=known)
        total += -(-tiles // TILES_PER_BATCH) * TILES_PER_BATCH
    return total

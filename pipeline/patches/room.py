"""A study's split of its data, seen to leave room for training."""

import logging

import numpy as np
from numpy.typing import NDArray

from pipeline.folds.folds import Fold, make_fold
from pipeline.patches.draws import reach_px
from pipeline.patches.places import far_from, shown_from
from pipeline.preparation.prepared import PreparedDataset
from pipeline.scene import DataError
from search_space.default_space import Space
from search_space.errors import did_you_mean
from search_space.space import least_demand_px, named_bands, resolve_space
from search_space.study import Study
from search_space.training_plan import Augmentation

logger = logging.getLogger(__name__)

Areas = NDArray[np.int64]

ENOUGH = 0.5
"""Share of the training ground below which it is told how little of it patches can show."""


def split_of(study: Study, dataset: PreparedDataset) -> Fold:
    """Split the data as a study asks for, and see that some network of its space can be trained on it.

    Raises:
        DataError: As in `make_fold`; the space names a band that the data lack; or blocks so small that not even the
            smallest patch, turned by quarters alone, can show every class that trains and keep the context of the
            network that looks least far to held-out ground.
    """
    space = resolve_space(study.space)
    _check_bands(space, dataset)
    fold = make_fold(study.folds, dataset)
    if all(part.held_out is None for part in fold.training):
        return fold
    patch_px, context_px = least_demand_px(space)
    # A map is drawn by tiles as large as a patch, so no network looks farther.
    context_px = min(context_px, patch_px)
    known, shown = _areas_px(fold, patch_px, reach_px(Augmentation(), patch_px) + context_px)
    # Last comes all known ground: where patches show nothing of it, no class need be named.
    hidden = (known > 0) & (shown == 0)
    if hidden.any():
        of_what = "" if hidden[-1] else f" that show {dataset.classes[int(np.argmax(hidden))]}"
        raise DataError(
            f"Held-out blocks leave no room for patches of {patch_px} px{of_what}, the smallest of the space, "
            f"whose network looks {context_px} px far",
            received={"folds.block_px": study.folds.block_px},
            remedy="Make folds.block_px larger, or plan.patch_px smaller under [space]",
        )
    if shown[-1] < ENOUGH * known[-1]:
        logger.warning(
            "Patches of %d px whose network looks %d px far, the smallest of the space, can show %.0f %% of the "
            "training ground: larger folds.block_px leave more of it",
            patch_px,
            context_px,
            100 * shown[-1] / known[-1],
        )
    return fold


def _check_bands(space: Space, dataset: PreparedDataset) -> None:
    for name in named_bands(space):
        if name not in dataset.bands:
            raise DataError(
                "space.architecture.bands names a band that the data do not have",
                received=name,
                remedy=did_you_mean(name, dataset.bands),
            )


def _areas_px(fold: Fold, patch_px: int, distance_px: int) -> tuple[Areas, Areas]:
    """Known pixels of the training ground, and how many of them patches can show: of each class, and in all."""
    totals = np.zeros((2, len(fold.training[0].scene.record.class_shares) + 1), np.int64)
    for part in fold.training:
        known = np.asarray(part.known)
        shown = known if part.held_out is None else known & shown_from(far_from(part.held_out, distance_px), patch_px)
        for row, ground in zip(totals, (known, shown), strict=True):
            classes = [np.count_nonzero(part.masks[..., k] & ground) for k in range(part.masks.shape[-1])]
            row += np.array([*classes, np.count_nonzero(ground)])
    return totals[0], totals[1]

"""A study's split of its data, seen to leave room for training."""

import numpy as np

from pipeline.folds import Fold, make_fold
from pipeline.patches.draws import reach_px
from pipeline.patches.places import far_from
from pipeline.prepared import PreparedDataset
from pipeline.scene import DataError
from search_space.space import least_demand_px, resolve_space
from search_space.study import Study
from search_space.training_plan import Augmentation


def split_of(study: Study, dataset: PreparedDataset) -> Fold:
    """Split the data as a study asks for, and see that some network of its space can be trained on it.

    Raises:
        DataError: As in `make_fold`; or blocks so small that not even the smallest patch, turned by quarters alone,
            keeps the context of the network that looks least far to held-out ground.
    """
    fold = make_fold(study.folds, dataset)
    patch_px, context_px = least_demand_px(resolve_space(study.space))
    # A map is drawn by tiles as large as a patch, so no network looks farther.
    context_px = min(context_px, patch_px)
    distance_px = reach_px(Augmentation(), patch_px) + context_px
    if all(part.held_out is not None and not np.any(far_from(part.held_out, distance_px)) for part in fold.training):
        raise DataError(
            f"Held-out blocks leave no room for patches of {patch_px} px, the smallest of the space, "
            f"whose network looks {context_px} px far",
            received={"folds.block_px": study.folds.block_px},
            remedy="Make folds.block_px larger, or plan.patch_px smaller under [space]",
        )
    return fold

"""Folds: which scenes train, which rank candidates, and which nothing looks at before the score."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.datasets.base import check_names
from pipeline.prepared import PreparedDataset
from pipeline.scene import DataError
from search_space.study import FoldSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fold:
    """A split by whole scenes.

    Attributes:
        training: Labelled scenes that are not held out.
        validation: Scenes that rank candidates and choose thresholds.
        test: Scenes that nothing looks at before `score`.
        unlabelled: Scenes without a labelled pixel, which no fold names; they can only be predicted.
        absent_in_validation: Classes that no validation scene has; they cannot be ranked.
        absent_in_test: Classes that no test scene has; empty where there are no test scenes.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()
    absent_in_validation: tuple[str, ...] = ()
    absent_in_test: tuple[str, ...] = ()


def make_fold(settings: FoldSettings, dataset: PreparedDataset) -> Fold:
    """Split a prepared data set.

    Args:
        settings: The study's `[folds]`.
        dataset: What is split.

    Returns:
        The split; a class that the held-out scenes lack is named in it, and logged.

    Raises:
        DataError: An unknown scene (the nearest one is named), nothing left to train on, a held-out scene without
            labels, a class that no training scene has or no validation scene at all, or scenes of the same ground in
            different folds.
    """
    ids = dataset.scene_ids
    check_names("folds.validation: the scene", settings.validation, ids)
    check_names("folds.test: the scene", settings.test, ids)
    held_out = {*settings.validation, *settings.test}
    labelled = {name for name in ids if dataset.scene(name).record.known_share > 0}
    training = tuple(name for name in ids if name in labelled - held_out)
    if not training:
        raise DataError(
            "The training fold is empty",
            received={"labelled": sorted(labelled), "held out": sorted(held_out)},
            remedy="Hold out fewer scenes in [folds]",
        )
    for fold_name, names in (("validation", settings.validation), ("test", settings.test)):
        blank = [name for name in names if name not in labelled]
        if blank:
            why = "labelled pixels with data" if dataset.scene(blank[0]).labelled else "labels"
            raise DataError(
                f"folds.{fold_name}: a scene without {why} cannot be scored",
                received=blank,
                remedy="Leave it out; run_search.py predict can still map it",
            )
    fold = Fold(
        training=training,
        validation=settings.validation,
        test=settings.test,
        unlabelled=tuple(name for name in ids if name not in labelled | held_out),
        absent_in_validation=_absent(dataset, settings.validation),
        absent_in_test=_absent(dataset, settings.test) if settings.test else (),
    )
    _refuse_split_ground(fold, dataset)
    _refuse_absent(fold, dataset)
    for where, classes in (("validation", fold.absent_in_validation), ("test", fold.absent_in_test)):
        if classes:
            logger.warning("No %s scene has %s: there is no score for it there", where, ", ".join(classes))
    return fold


def _absent(dataset: PreparedDataset, scene_ids: Iterable[str]) -> tuple[str, ...]:
    shares = [dataset.scene(name).record.class_shares for name in scene_ids]
    return tuple(name for name in dataset.classes if not any(share[name] > 0 for share in shares))


def _refuse_absent(fold: Fold, dataset: PreparedDataset) -> None:
    absent = _absent(dataset, fold.training)
    if absent:
        having = [n for n in dataset.scene_ids if any(dataset.scene(n).record.class_shares[c] > 0 for c in absent)]
        raise DataError(
            f"No training scene has {', '.join(absent)}",
            received={"training": list(fold.training)},
            remedy=f"Let one of {', '.join(having)} train" if having else "Leave it out of data.classes",
        )
    if fold.absent_in_validation == dataset.classes:
        raise DataError(
            "No validation scene has any of the classes",
            received=list(fold.validation),
            remedy="Name others in folds.validation",
        )


def _refuse_split_ground(fold: Fold, dataset: PreparedDataset) -> None:
    """Training on the ground that is then scored would flatter every candidate."""
    folds = {"training": fold.training, "validation": fold.validation, "test": fold.test}
    for group in dataset.manifest.same_ground:
        where = {name: fold_name for fold_name, names in folds.items() for name in names if name in group}
        if len(set(where.values())) > 1:
            raise DataError(
                "Scenes of the same ground must be in one fold, or the score is flattered",
                received=where,
                remedy=f"Put {' and '.join(group)} together in [folds]",
            )

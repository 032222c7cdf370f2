"""Models of an earlier retraining that stay in the set when other classes are retrained."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.files import sha256_of
from pipeline.models.model_set import MODEL_SET_FILE, read_model_set, read_model_set_study
from pipeline.models.model_set_writing import FinishedTraining
from search_space.chosen import ORIGIN
from search_space.decode import decode
from search_space.errors import MapgroveError
from search_space.records import ModelMember
from search_space.study import Study
from search_space.task import Task

logger = logging.getLogger(__name__)

_TOLD = ("class_name", "fold", "num_folds", "seed", "rank", "epochs", "steps_per_epoch", "start")


@dataclass(frozen=True)
class EarlierModels:
    """What stays.

    Attributes:
        finished: Their trainings.
        absent_folds: Per class the folds that were not trained.
    """

    finished: tuple[FinishedTraining, ...] = ()
    absent_folds: dict[str, tuple[int, ...]] = field(default_factory=dict)


def earlier_models(study: Study, folder: Path, data_fingerprint: str, without: Collection[str]) -> EarlierModels:
    """Sound models of a set that may be used together with new ones; why others may not is logged.

    Args:
        study: What is retrained now.
        folder: That of the set.
        data_fingerprint: Of the data that are prepared now.
        without: Classes that are retrained now.

    Returns:
        Nothing where there is no set, or it is of other data or folds.
    """
    if not (folder / MODEL_SET_FILE).is_file():
        return EarlierModels()
    try:
        models, earlier = read_model_set(folder), read_model_set_study(folder)
    except MapgroveError as error:
        logger.warning("%s", error)
        return EarlierModels()
    names = [each.class_name for each in models.maps if each.class_name not in without]
    if (models.data_fingerprint, earlier.folds, earlier.data.classes) != (
        data_fingerprint,
        study.folds,
        study.data.classes,
    ):
        for name in names:
            logger.warning("%s: not used: trained on other data or folds", name)
        return EarlierModels()
    found = {name: [_finished(each, folder) for each in models.members_of(name)] for name in names}
    kept = [name for name in names if _are_whole(name, found[name])]
    absent = {each.class_name: each.absent_folds for each in models.maps if each.class_name in kept}
    return EarlierModels(tuple(each for name in kept for each in found[name] if each is not None), absent)


def _are_whole(name: str, found: list[FinishedTraining | None]) -> bool:
    """Whether all models of a class can be used: with fewer its threshold would be another."""
    if None in found:
        logger.warning("%s: not used: a model is damaged, or of before; retrain it too", name)
    return None not in found


def _finished(member: ModelMember, folder: Path) -> FinishedTraining | None:
    path = folder / member.file
    is_sound = member.epochs > 0 and path.is_file() and sha256_of(path) == member.sha256
    if not is_sound:
        return None
    task = decode(Task, {name: getattr(member, name) for name in _TOLD}, where=str(path))
    task = task.model_copy(update={name: getattr(member, name) for name in ORIGIN})
    return FinishedTraining(task, member.candidate, path, member.reports, member.figures)

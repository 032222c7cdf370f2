"""Models of an earlier retraining that stay in the set when other classes are retrained."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.files import sha256_of
from pipeline.models.finished_training import FinishedTraining
from pipeline.models.model_set import MODEL_SET_FILE, read_model_set, read_model_set_study
from pipeline.validation.thresholds import Counted
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
        is_unreadable: Whether there is a set of which nothing is known.
    """

    finished: tuple[FinishedTraining, ...] = ()
    absent_folds: dict[str, tuple[int, ...]] = field(default_factory=dict)
    is_unreadable: bool = False


def earlier_models(study: Study, folder: Path, data_fingerprint: str, without: Collection[str]) -> EarlierModels:
    """Sound models of a set that may be used together with new ones; why others may not is logged.

    Of a class of which some models are sound these stay, and the others are left out: the threshold of the class is to
    be chosen again by those that are left.

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
        logger.warning("%s", error.what)
        return EarlierModels(is_unreadable=True)
    names = [each.class_name for each in models.maps if each.class_name not in without]
    if (models.data_fingerprint, earlier.folds, earlier.data.classes) != (
        data_fingerprint,
        study.folds,
        study.data.classes,
    ):
        for name in names:
            logger.warning("%s: not used: trained on other data or folds", name)
        return EarlierModels()
    found = {name: _sound(models.members_of(name), folder) for name in names}
    absent = {each.class_name: each.absent_folds for each in models.maps if found.get(each.class_name)}
    return EarlierModels(tuple(each for several in found.values() for each in several), absent)


def _sound(members: Sequence[ModelMember], folder: Path) -> list[FinishedTraining]:
    """Those of the models of a class that can be used; what cannot is told in one line."""
    found = [(member, _finished(member, folder)) for member in members]
    sound = [training for _, training in found if training is not None]
    if any(_counted(each).num_labelled for each in sound):
        if lost := [member.file for member, training in found if training is None]:
            logger.warning(
                "%s: %s left out, damaged or of before; the class is mapped by the %d of its %d models that are sound",
                members[0].class_name,
                ", ".join(lost),
                len(sound),
                len(members),
            )
        return sound
    logger.warning("%s: not used: a model is damaged, or of before; retrain it too", members[0].class_name)
    return []


def _counted(training: FinishedTraining) -> Counted:
    return Counted(training.task.fold, training.about().counts[training.task.class_name])


def _finished(member: ModelMember, folder: Path) -> FinishedTraining | None:
    path = folder / member.file
    is_sound = member.epochs > 0 and path.is_file() and sha256_of(path) == member.sha256
    if not is_sound:
        return None
    try:
        task = decode(Task, {name: getattr(member, name) for name in _TOLD}, where=str(path))
        task = task.model_copy(update={name: getattr(member, name) for name in ORIGIN})
        training = FinishedTraining(task, member.candidate, path, member.reports, member.figures)
        training.about()
    except MapgroveError:
        return None
    return training

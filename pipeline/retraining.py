"""Retraining of found candidates, one network per class, into a model set that prediction can use."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.atomic import sole_writer, written_beside
from pipeline.model_set import MODEL_SET_FILE, NORMALISATION_FILE, STUDY_FILE, read_model_set
from pipeline.study_data import StudyData
from pipeline.training import train
from search_space.candidate import Candidate
from search_space.decode import Frozen, encode, fingerprint
from search_space.errors import MapgroveError
from search_space.objective import EpochReport
from search_space.records import ModelMember, ModelSet
from search_space.study import Study

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"


def retrain(
    study: Study,
    candidates: Mapping[str, tuple[int, Candidate]],
    folder: Path,
    *,
    on_epoch: Callable[[str, EpochReport], None],
) -> ModelSet:
    """Train one network per class with the study's long budget.

    Each class ends in `folder/<class>/`: `model.keras`, `run.json` (the resolved study, the candidate, the reports).
    The model set is written after every class; a class that was already trained from the same candidate, data and
    settings is kept, so an interrupted retraining goes on where it stopped.

    Args:
        study: Data, folds and budget.
        candidates: Per class the number of the trial and the candidate it tried.
        folder: Where the model set goes.
        on_epoch: Told the class and the report after each epoch.

    Returns:
        The model set with every class trained so far.

    Raises:
        MapgroveError: A class is not labelled in the training or validation scenes, or training diverged, or another
            process retrains into the same folder.
    """
    data = StudyData.open(study)
    absent = [name for name in candidates if name in data.fold.absent_in_validation]
    if absent:
        raise MapgroveError(
            f"no validation scene has {', '.join(absent)}, so no threshold can be chosen",
            remedy="Hold out another scene in [folds], or leave the class out with --classes",
        )
    with sole_writer(folder):
        return _retrain(study, data, candidates, folder, on_epoch)


def _retrain(
    study: Study,
    data: StudyData,
    candidates: Mapping[str, tuple[int, Candidate]],
    folder: Path,
    on_epoch: Callable[[str, EpochReport], None],
) -> ModelSet:
    _write_json(folder / NORMALISATION_FILE, encode(data.normalisation))
    _write_json(folder / STUDY_FILE, encode(study.with_store("")))
    members = _earlier_members(data, folder)
    for class_name, (trial, candidate) in candidates.items():
        if class_name not in members or not _is_trained(folder / class_name, _run_key(study, data, candidate)):
            members[class_name] = _train_class(study, data, class_name, trial, candidate, folder, on_epoch)
        model_set = _model_set(study, data, members)
        _write_json(folder / MODEL_SET_FILE, encode(model_set))
    return _model_set(study, data, members)


def _train_class(
    study: Study,
    data: StudyData,
    class_name: str,
    trial: int,
    candidate: Candidate,
    folder: Path,
    on_epoch: Callable[[str, EpochReport], None],
) -> ModelMember:
    trained = train(
        candidate,
        data.scenes(data.fold.training, [class_name]),
        data.scenes(data.fold.validation, [class_name]),
        [class_name],
        study.retrain,
        seed=study.study.seed + study.data.classes.index(class_name),
        max_parameters=study.limits.max_parameters,
        on_epoch=lambda report: on_epoch(class_name, report),
    )
    member = ModelMember(
        class_name=class_name,
        file=f"{class_name}/model.keras",
        candidate=candidate,
        threshold=trained.validation.thresholds[class_name],
        trial=trial,
        validation_jaccard=trained.validation.jaccard[class_name],
        reports=trained.reports,
        figures=trained.figures,
    )
    with written_beside(folder / member.file) as beside:
        trained.model.save(beside, include_optimizer=False)
    _write_json(
        folder / class_name / RUN_FILE,
        {"key": _run_key(study, data, candidate), "study": encode(study.with_store("")), "member": encode(member)},
    )
    return member


def _earlier_members(data: StudyData, folder: Path) -> dict[str, ModelMember]:
    """The members of a model set that lies in `folder` already, if it was trained on the same data."""
    if not (folder / MODEL_SET_FILE).is_file():
        return {}
    earlier = read_model_set(folder)
    if earlier.data_fingerprint != data.dataset.fingerprint:
        return {}
    return {member.class_name: member for member in earlier.members}


def _is_trained(folder: Path, key: str) -> bool:
    """Whether an earlier call trained `folder` from the very same input; a damaged record is no proof."""
    path = folder / RUN_FILE
    if not path.is_file():
        return False
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("key") == key)
    except ValueError as error:
        logger.warning("%s is damaged (%s): training again", path, error)
        return False


def _run_key(study: Study, data: StudyData, candidate: Candidate) -> str:
    """Equal exactly where a training would give the same model, but for the last digits that threads may change."""
    parts = [
        candidate,
        data.dataset.fingerprint,
        study.folds,
        study.retrain,
        study.data,
        study.limits,
        study.study.seed,
    ]
    return fingerprint([encode(part) if isinstance(part, Frozen) else part for part in parts])


def _model_set(study: Study, data: StudyData, members: Mapping[str, ModelMember]) -> ModelSet:
    return ModelSet(
        study=study.name,
        data_fingerprint=data.dataset.fingerprint,
        classes=study.data.classes,
        bands=tuple(band for band in data.dataset.bands if band not in study.data.indices),
        indices=study.data.indices,
        normalise=study.data.normalise,
        members=tuple(members[name] for name in study.data.classes if name in members),
    )


def _write_json(path: Path, plain: dict[str, Any]) -> None:
    with written_beside(path) as beside:
        beside.write_text(json.dumps(plain, indent=1), encoding="utf-8")

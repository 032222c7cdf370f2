"""A trial's model in one file, with all that is needed to use it."""

import json
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backend import versions
from pipeline.files import written_beside
from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.errors import MapgroveError, UnableError
from search_space.records import BandNumbers, TrialModel
from search_space.study import Study
from search_space.task import Task

if TYPE_CHECKING:
    from pipeline.study_data import StudyData
    from pipeline.validation.whole_ground import Validation

ABOUT = "mapgrove.json"
"""Beside Keras's own parts in the `.keras` file, which is a zip archive; Keras leaves it alone."""

UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What a damaged archive raises; a `RuntimeError` where it says it is encrypted, or packed in an unknown way."""


def about_trial(
    study: Study,
    trial: int,
    candidate: Candidate,
    classes: Sequence[str],
    numbers: BandNumbers | None,
    data: "StudyData",
    validation: "Validation",
    task: Task | None = None,
) -> TrialModel:
    """What is to be said of the model that a trial has trained.

    Args:
        study: The trial's study.
        trial: Its number.
        candidate: What it tried.
        classes: What the model maps, in the order of its channels.
        numbers: What scales its bands.
        data: What it was trained and validated on.
        validation: What it reached at its best epoch.
        task: What a retraining does with the candidate; None in a search.
    """
    scenes = {part.id for part in data.fold.validation}
    groups = [tuple(name for name in group if name in scenes) for group in data.fold.split.same_ground]
    return TrialModel(
        study=study.name,
        trial=trial,
        recipe=task.recipe if task else "",
        prediction=task.prediction if task else None,
        classes=tuple(classes),
        bands=tuple(band for band in data.dataset.bands if band not in study.data.indices),
        indices=study.data.indices,
        candidate=candidate,
        numbers=numbers,
        thresholds=validation.thresholds,
        jaccard=validation.jaccard,
        counts={
            name: {scene: (tuple(counts[0].tolist()), tuple(counts[1].tolist())) for scene, counts in scenes.items()}
            for name, scenes in validation.counts.items()
        },
        same_ground=tuple(group for group in groups if len(group) > 1),
        data_fingerprint=data.dataset.fingerprint,
        validation_fingerprint=data.fold.validation_fingerprint,
        made_with=versions(),
    )


def write_trial_model(path: Path, model: Any, about: TrialModel) -> None:
    """Write a `.keras` file that also says what the model maps and how its bands are scaled."""
    with written_beside(path) as beside:
        model.save(beside, include_optimizer=False)
        _tell(beside, about)


def write_told(path: Path, source: Path, about: TrialModel) -> None:
    """Write a copy of a `.keras` file that also says what its model maps; of equal ones equal copies."""
    with written_beside(path) as beside:
        shutil.copyfile(source, beside)
        _tell(beside, about)


def _tell(path: Path, about: TrialModel) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        # With no time of its own, as a file that is equal is to have an equal checksum.
        archive.writestr(zipfile.ZipInfo(ABOUT), json.dumps(encode(about)), compress_type=zipfile.ZIP_DEFLATED)


def holds_about(path: Path) -> bool:
    """Whether a file says itself what its model maps. All of it is read.

    Raises:
        UnableError: It is damaged, or no model at all.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{broken} has another checksum")
            return ABOUT in archive.namelist()
    except UNREADABLE as error:
        raise UnableError(
            f"{path} is damaged, or no model of Keras ({error})", remedy="Name another, or make it again"
        ) from None


def read_about(path: Path) -> TrialModel:
    """What such a file says of its model; `keras.models.load_model` reads the model itself.

    Raises:
        MapgroveError: It is missing, or no model of a trial.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            plain = json.loads(archive.read(ABOUT))
    except (*UNREADABLE, KeyError, ValueError) as error:
        raise MapgroveError("no model of a trial", received=f"{path} ({error})") from None
    return decode(TrialModel, plain, where=str(path))

"""What a file says of the model in it that another is to start from; nothing here needs Keras."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.models.model_set import MODEL_SET_FILE, read_model_set
from pipeline.models.trial_model import holds_about, read_about, write_told
from search_space.candidate import Candidate
from search_space.errors import MapgroveError, UnableError
from search_space.records import ModelMember, ModelSet, TrialModel

LEVELS = 3
"""So many folders above a model's file, its model set is looked for."""


@dataclass(frozen=True)
class Source:
    """A trained model.

    Attributes:
        path: Its `.keras` file.
        about: What it maps, from which bands, and what it was made from.
    """

    path: Path
    about: TrialModel

    @property
    def bands(self) -> tuple[str, ...]:
        """The channels of its image by name, indices last."""
        return (*self.about.bands, *self.about.indices)

    @property
    def classes(self) -> tuple[str, ...]:
        """What it maps, in the order of its channels."""
        return self.about.classes

    @property
    def candidate(self) -> Candidate:
        """The architecture and training plan it was made from."""
        return self.about.candidate

    @property
    def origin(self) -> str:
        """Whose it is, in words."""
        what = self.classes[0] if len(self.classes) == 1 else f"{len(self.classes)} classes"
        return f"{what} of study {self.about.study}"

    @property
    def text(self) -> str:
        """Whose it is, and by which trial or recipe, in words."""
        trial = "" if self.about.trial is None else f"trial {self.about.trial}"
        recipe = self.about.recipe and f"recipe {self.about.recipe}"
        return ", ".join(part for part in (self.origin, trial, recipe) if part)


def read_source(path: Path) -> Source:
    """Read what there is to know of a trained model: of a trial, or of a member of a model set.

    Args:
        path: A `.keras` file. It says by itself whose it is; otherwise the model set does in whose folder it lies.

    Raises:
        UnableError: There is no such file, it is damaged, or nothing is known of it.
        MapgroveError: What is told of it is damaged.
    """
    if not path.is_file():
        raise UnableError(
            "there is no such model to start from",
            received=str(path),
            remedy="Name a model set, a .keras file of one, trial:N or study:NAME",
        )
    folders = [folder for folder in path.resolve().parents[:LEVELS] if (folder / MODEL_SET_FILE).is_file()]
    if holds_about(path):
        return Source(path, _with_recipe(read_about(path), path, folders))
    if not folders:
        raise UnableError(
            "nothing is known of this model: no trial or retraining has written it, and no model set lies above it",
            received=str(path),
            remedy="Name it where it was made; a published encoder's weights belong into architecture.encoder.weights",
        )
    models = read_model_set(folders[0])
    if (member := _member_of(models, path, folders[0])) is None:
        raise UnableError(
            f"the model set in {folders[0]} does not know this model",
            received=str(path),
            remedy=f"Name one of its own: {json.dumps([each.file for each in models.members])}",
        )
    return Source(path, _about_member(member, models))


def _with_recipe(about: TrialModel, path: Path, folders: Sequence[Path]) -> TrialModel:
    """With the recipe that a model set above names, where the model itself is of before it was written down."""
    if about.recipe or about.prediction is not None:
        return about
    for folder in folders:
        try:
            member = _member_of(read_model_set(folder), path, folder)
        except MapgroveError:
            # The model says enough by itself.
            continue
        if member is not None:
            return about.model_copy(update={"recipe": member.recipe, "prediction": member.prediction})
    return about


def _member_of(models: ModelSet, path: Path, folder: Path) -> ModelMember | None:
    return next((each for each in models.members if (folder / each.file).resolve() == path.resolve()), None)


def _about_member(member: ModelMember, models: ModelSet) -> TrialModel:
    name, reached = member.class_name, member.validation_jaccard
    return TrialModel(
        study=member.study or models.study,
        trial=member.trial,
        recipe=member.recipe,
        prediction=member.prediction,
        classes=(name,),
        bands=models.bands,
        indices=models.indices,
        candidate=member.candidate,
        numbers=member.numbers,
        thresholds={name: member.threshold},
        jaccard={} if reached is None else {name: reached},
        data_fingerprint=models.data_fingerprint,
    )


def self_describing(source: Source, copy: Path) -> Path:
    """A file of the model that says by itself whose it is, wherever it is moved.

    Args:
        source: The model.
        copy: Where such a file is written, unless the model's own is one; of equal models an equal one.

    Returns:
        Its path.
    """
    if holds_about(source.path):
        return source.path
    write_told(copy, source.path, source.about)
    return copy


def source_candidate(path: Path) -> Candidate:
    """The architecture and training plan that a trained model was made from.

    Raises:
        UnableError: As `read_source`.
        MapgroveError: As `read_source`.
    """
    return read_source(path).candidate

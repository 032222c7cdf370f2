"""What retraining ends in: the finished models of a study, gathered into one folder with all that they need."""

import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from pipeline.files import sha256_of, sole_writer, written_beside
from pipeline.models.earlier_models import EarlierModels, earlier_models
from pipeline.models.finished_training import AGAIN, FinishedTraining
from pipeline.models.model_card import CARD_FILE, model_card
from pipeline.models.model_set import MODEL_SET_FILE, STUDY_FILE
from pipeline.preparation.same_ground import joined_groups
from pipeline.validation.thresholds import Counted, class_map
from search_space.chosen import ORIGIN
from search_space.decode import encode
from search_space.errors import MapgroveError
from search_space.records import ClassMap, ModelMember, ModelSet, TrialModel
from search_space.study import Study
from search_space.version import VERSION

logger = logging.getLogger(__name__)

OUR_MODELS = "rank*_fold*_seed*-????????.keras"

DAMAGED_FILE = "model_set.damaged.json"
"""An earlier set that could not be read; whoever no longer wants it removes it."""

WAIT_S = 120.0
"""So long whoever writes to the folder is waited for: models are copied in seconds, after hours of training."""


def assemble(
    study: Study,
    finished: Sequence[FinishedTraining],
    folder: Path,
    *,
    absent_folds: Mapping[str, Iterable[int]] | None = None,
    keeps_others: bool = False,
) -> ModelSet:
    """Gather models into a set: `model_set.json`, `study.json`, `MODEL_CARD.md`, and a folder of models per class.

    The set holds these models, and of other classes those of before or none. It is there whole or not at all: models
    are copied, under names that tell their contents, beside those of an earlier set; `model_set.json`, written last,
    names the new ones in one stroke; then those that it no longer names are removed. Whatever fails before leaves the
    earlier set as it was. One that cannot be read is kept as `model_set.damaged.json`, with all models in the folder,
    where it may have had other classes.

    Args:
        study: Whose retraining it is.
        finished: At least one; of one class all of one split.
        folder: Where the set goes; whoever else writes to it is waited for a while.
        absent_folds: Per class the folds that were not trained, as their ground lacks it.
        keeps_others: Whether models of an earlier set stay, of classes of which nothing is finished, where
            `earlier_models` finds them fit. Nobody else changes the set meanwhile.

    Returns:
        The set.

    Raises:
        MapgroveError: Nothing is finished; a model is missing, damaged, not what its training was to make, or says
            nothing of what was counted; models that do not belong together; another process writes to the folder.
    """
    if not finished:
        raise MapgroveError("no training has ended with a model, so there is no model set", remedy="`status` says why")
    new = {each.task.class_name for each in finished}
    absent = {name: numbers for name, numbers in (absent_folds or {}).items() if name in new}
    with sole_writer(folder, WAIT_S):
        data_fingerprint = finished[0].about().data_fingerprint
        earlier = earlier_models(study, folder, data_fingerprint, new) if keeps_others else EarlierModels()
        in_order = _in_order(study, [*finished, *earlier.finished])
        models = _model_set(study, in_order, {**earlier.absent_folds, **absent})
        if earlier.is_unreadable and new != set(study.data.classes):
            _keep_damaged(folder)
        _write(folder, study, models, [each.model_file for each in in_order])
        if not (folder / DAMAGED_FILE).exists():
            _remove_others(folder, models)
    return models


def _keep_damaged(folder: Path) -> None:
    """Keep a set that nobody can read: it alone names the models of the classes that are not retrained now."""
    with written_beside(folder / DAMAGED_FILE) as beside:
        shutil.copyfile(folder / MODEL_SET_FILE, beside)
    logger.warning(
        "%s keeps what cannot be read, and no model is removed from %s while it is there. Classes that the new set "
        "lacks come back without training anew by `retrain` as it was called for them: what is done is kept",
        folder / DAMAGED_FILE,
        folder,
    )


def _in_order(study: Study, finished: Iterable[FinishedTraining]) -> list[FinishedTraining]:
    place = {name: number for number, name in enumerate(study.data.classes)}
    return sorted(finished, key=lambda f: (place.get(f.task.class_name, -1), f.task.fold, f.task.rank, f.task.seed))


def _model_set(
    study: Study, finished: Sequence[FinishedTraining], absent_folds: Mapping[str, Iterable[int]]
) -> ModelSet:
    abouts = [each.about() for each in finished]
    _check_alike(abouts)
    members = [_member(each, about) for each, about in zip(finished, abouts, strict=True)]
    first = abouts[0]
    return ModelSet(
        study=study.name,
        data_fingerprint=first.data_fingerprint,
        classes=study.data.classes,
        bands=first.bands,
        indices=first.indices,
        members=tuple(members),
        maps=_maps(study, members, abouts, absent_folds),
        version=VERSION,
    )


def _check_alike(abouts: Sequence[TrialModel]) -> None:
    for name in ("data_fingerprint", "bands", "indices"):
        found = list(dict.fromkeys(getattr(about, name) for about in abouts))
        if len(found) > 1:
            raise MapgroveError(
                f"models of one set must have been trained on the same data: their {name} differ",
                received=found,
                remedy=AGAIN,
            )


def _member(training: FinishedTraining, about: TrialModel) -> ModelMember:
    task, class_name = training.task, training.task.class_name
    sha256 = sha256_of(training.model_file)
    name = f"rank{task.rank}_fold{task.fold}_seed{task.seed}-{sha256[:8]}.keras"
    return ModelMember(
        class_name=class_name,
        file=f"{class_name}/{name}",
        sha256=sha256,
        candidate=training.candidate,
        fold=task.fold,
        num_folds=task.num_folds,
        seed=task.seed,
        rank=task.rank,
        epochs=task.epochs,
        steps_per_epoch=task.steps_per_epoch,
        start=task.start,
        threshold=about.thresholds.get(class_name, 0.5),
        numbers=about.numbers,
        validation_jaccard=about.jaccard.get(class_name),
        reports=tuple(training.reports),
        figures=dict(training.figures),
        made_with=about.made_with,
        **{origin: getattr(task, origin) for origin in ORIGIN},
    )


def _maps(
    study: Study,
    members: Sequence[ModelMember],
    abouts: Sequence[TrialModel],
    absent_folds: Mapping[str, Iterable[int]],
) -> tuple[ClassMap, ...]:
    groups = joined_groups(group for about in abouts for group in about.same_ground)
    counted: dict[str, list[Counted]] = {}
    for member, about in zip(members, abouts, strict=True):
        counted.setdefault(member.class_name, []).append(Counted(member.fold, about.counts[member.class_name]))
    return tuple(
        class_map(name, counted[name], same_ground=groups, absent_folds=absent_folds.get(name, ()))
        for name in study.data.classes
        if name in counted
    )


def _write(folder: Path, study: Study, models: ModelSet, sources: Sequence[Path]) -> None:
    fresh: list[Path] = []
    try:
        for member, source in zip(models.members, sources, strict=True):
            target = folder / member.file
            if not (target.is_file() and sha256_of(target) == member.sha256):
                fresh.append(target)
                _copy(source, target, member.sha256)
        texts = {
            folder / MODEL_SET_FILE: json.dumps(encode(models), indent=1),
            folder / STUDY_FILE: json.dumps(encode(study.with_store("")), indent=1),
            folder / CARD_FILE: model_card(models, study),
        }
        with ExitStack() as places:
            # None takes its place before all are written; the last to be opened does so first, so the set last.
            for path, text in texts.items():
                places.enter_context(written_beside(path)).write_text(text, encoding="utf-8")
    except BaseException:
        for path in fresh:
            path.unlink(missing_ok=True)
        raise


def _copy(source: Path, target: Path, sha256: str) -> None:
    with written_beside(target) as beside:
        shutil.copyfile(source, beside)
        if sha256_of(beside) != sha256:
            raise MapgroveError(f"{source} changed while it was copied, or the disk is at fault", remedy=AGAIN)


def _remove_others(folder: Path, models: ModelSet) -> None:
    """Remove the models that the set does not name, ours alone: other files in the folder are not ours.

    What a process that was killed has left of a copy goes too.
    """
    named = {folder / member.file for member in models.members}
    for path in sorted([*folder.glob(f"*/{OUR_MODELS}"), *folder.glob(f"*/.*.{OUR_MODELS}")]):
        if path not in named:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()

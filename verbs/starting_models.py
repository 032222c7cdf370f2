"""`retrain --from`: from words to the model that each class starts from."""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from search_space.candidate import Candidate
from search_space.chosen import Chosen
from search_space.decode import decode
from search_space.errors import MapgroveError, UsageError
from search_space.fine_tuning import FINE_TUNING_EPOCHS, continued, fine_tuned, fine_tuning_budget
from search_space.objective import MODEL_FILE
from search_space.study import Budget, Study
from verbs.common import at_least, open_study_store

if TYPE_CHECKING:
    from pipeline.models.start_source import Source
    from pipeline.preparation.prepared import PreparedDataset
    from trials_db.artifacts import Artifacts
    from trials_db.store import TrialStore

OF_TRIAL, OF_STUDY = "trial:", "study:"

_NEAR = ("models", "*/models", "runs/*/models")
"""Where model sets lie below folders that are named in their place."""


@dataclass(frozen=True)
class StartingModel:
    """What a class is trained on from.

    Attributes:
        chosen: The candidate, and whose it is.
        file: The model; it says by itself what it maps.
        sha256: Of that file.
        text: What is known of it beforehand, in one line.
    """

    chosen: Chosen
    file: Path
    sha256: str
    text: str


def add_start(which: "argparse._MutuallyExclusiveGroup", parser: argparse.ArgumentParser) -> None:
    """Add `--from`, to what else names candidates, and `--fine-tune`."""
    which.add_argument(
        "--from",
        metavar="MODEL",
        dest="start",
        help="start from trained weights: a model set's folder, a model.keras, trial:N of this study, or study:NAME",
    )
    parser.add_argument(
        "--fine-tune",
        nargs="?",
        type=at_least(1),
        const=FINE_TUNING_EPOCHS,
        metavar="EPOCHS",
        help=f"with --from: few epochs (default {FINE_TUNING_EPOCHS}) at a tenth of the learning rate, nothing frozen",
    )


def check_start(options: argparse.Namespace) -> None:
    """Refuse `--fine-tune` where there is nothing to tune.

    Raises:
        UsageError: It was given without `--from`.
    """
    if options.fine_tune is not None and options.start is None:
        raise UsageError("--fine-tune goes on from a model", remedy="Name it: --from MODEL")


def starting_budget(study: Study, options: argparse.Namespace) -> Budget:
    """How long each training takes: as the study says, or few epochs."""
    return study.retrain if options.fine_tune is None else fine_tuning_budget(study.retrain, options.fine_tune)


def starting_models(
    study: Study, classes: Sequence[str], dataset: "PreparedDataset", options: argparse.Namespace, folder: Path
) -> dict[str, StartingModel]:
    """For every class the model that it starts from; nothing where `--from` was not given.

    Args:
        study: What is retrained.
        classes: Of it.
        dataset: The study's data.
        options: `--from`, `--fine-tune` and `--folds`.
        folder: Where models from the store, and files that tell more of a model, are written.

    Raises:
        MapgroveError: There is no such model, it is damaged, or it has seen ground that is to validate.
    """
    from pipeline.files import sha256_of
    from pipeline.models.start_source import read_source, self_describing

    if options.start is None:
        return {}
    found: dict[Path, StartingModel] = {}
    paths = _paths(study, classes, str(options.start), folder)
    for number, path in enumerate(dict.fromkeys(paths.values())):
        source = read_source(path)
        _check_unseen(source, study, dataset, options.folds)
        candidate = continued(source.candidate, dataset.bands)
        if options.fine_tune is not None:
            candidate = fine_tuned(candidate)
        file = self_describing(source, folder / f"told{number}.keras")
        found[path] = StartingModel(
            _chosen(source, candidate, study, options), file, sha256_of(file), _told(source, dataset.bands)
        )
    return {name: found[path] for name, path in paths.items()}


def _check_unseen(source: "Source", study: Study, dataset: "PreparedDataset", num_folds: int) -> None:
    """Refuse a model of the same data that trained on ground on which its successor would be judged."""
    from pipeline.folds.folds import make_fold

    about = source.about
    if about.data_fingerprint != dataset.fingerprint:
        return
    if num_folds:
        raise MapgroveError(
            f"{source.origin} was trained on this very data, and saw the ground of most folds, which would flatter",
            received=f"--folds {num_folds}",
            remedy="Leave out --folds, and have several models by --seeds",
        )
    fold = make_fold(study.folds, dataset)
    held_out = {scene for scenes in about.counts.values() for scene in scenes}
    validating = {part.id for part in fold.validation}
    is_other = about.validation_fingerprint not in ("", fold.validation_fingerprint)
    if is_other or (held_out and held_out != validating):
        # Where scenes are cut, both may have some ground of the same ones.
        blocks = "other blocks of " if held_out == validating else ""
        raise MapgroveError(
            f"{source.origin} was trained on this very data, and saw ground that validates now, which would flatter",
            received={f"{blocks}held out then": sorted(held_out), "validates now": sorted(validating)},
            remedy="Start from a model with the same [folds], such as trial:N of this study",
        )


def _paths(study: Study, classes: Sequence[str], word: str, folder: Path) -> dict[str, Path]:
    if word.startswith(OF_TRIAL):
        number = word.removeprefix(OF_TRIAL)
        if not number.isdecimal():
            raise UsageError(f"{OF_TRIAL} is followed by a number", received=word, remedy=f"Such as {OF_TRIAL}5")
        with open_study_store(study) as store:
            return _kept(study, study.name, store, classes, folder, int(number))
    if word.startswith(OF_STUDY):
        with open_study_store(study) as store:
            return _kept(study, word.removeprefix(OF_STUDY), store, classes, folder)
    path = Path(word)
    return _of_set(path, classes) if path.is_dir() else dict.fromkeys(classes, path)


def _of_set(folder: Path, classes: Sequence[str]) -> dict[str, Path]:
    """Of each class the model whose candidate was the best, and of these the one that validated best."""
    from pipeline.models.model_set import MODEL_SET_FILE, read_model_set

    if not (folder / MODEL_SET_FILE).is_file():
        raise _no_set(folder, MODEL_SET_FILE)
    models = read_model_set(folder)
    found = {}
    for name in classes:
        members = models.members_of(name)
        if not members:
            raise MapgroveError(
                f"the model set in {folder} has no model of {name}",
                received=sorted({each.class_name for each in models.members}),
                remedy="Leave the class out with --classes, or name one model's file, which may begin any class",
            )
        best = min(members, key=lambda each: (each.rank, -(each.validation_jaccard or 0.0)))
        found[name] = folder / best.file
        if not found[name].is_file():
            raise MapgroveError(
                f"the model set in {folder} has lost its model of {name}",
                received=best.file,
                remedy="Run `retrain` again where it was made, or leave the class out with --classes",
            )
    return found


def _no_set(folder: Path, file: str) -> MapgroveError:
    """The error for a folder that is none of a model set; it names those near it."""
    below = (found.parent for pattern in _NEAR for found in sorted(folder.glob(f"{pattern}/{file}")))
    above = (each for each in folder.resolve().parents[:2] if (each / file).is_file())
    near = " or ".join(f"--from {each}" for each in islice((*below, *above), 3))
    return MapgroveError(
        f"the folder {folder.resolve()} is no model set: it has no {file}",
        received=f"--from {folder}",
        remedy=f"Name the set itself: {near}"
        if near
        else "Name a folder that `retrain` has written, such as runs/NAME/models, a .keras file, trial:N or study:NAME",
    )


def _kept(
    study: Study,
    name: str,
    store: "TrialStore",
    classes: Sequence[str],
    folder: Path,
    wanted: int | None = None,
) -> dict[str, Path]:
    """Of each class the model of the best trial that still has one; that of the best over all where none ranks it."""
    from results.facts import ranked, ranked_for
    from trials_db.opening import open_artifacts

    settings = decode(Study, store.load_study(name).settings, where=f"study {name}")
    trials = [trial for trial in store.trials(name) if wanted in (None, trial.number)]
    with open_artifacts(settings.study.artifacts, study.store_url) as artifacts:
        held = {each.number for each in artifacts.held(name) if each.file == MODEL_FILE}
        kept = [trial for trial in trials if trial.number in held]
        if not ranked(kept):
            numbers = ", ".join(map(str, sorted(held))) or "none"
            raise MapgroveError(
                f"no such trial of study {name} has a model that is kept; those of trials: {numbers}",
                received=wanted,
                remedy="search.keep_models says how many of the best are",
            )
        best = {each: (ranked_for(kept, [each]) or ranked(kept))[0].number for each in classes}
        return {each: _fetched(artifacts, name, number, folder) for each, number in best.items()}


def _fetched(artifacts: "Artifacts", study: str, number: int, folder: Path) -> Path:
    path = folder / f"trial{number:04d}.keras"
    newest = artifacts.newest(study, number, MODEL_FILE)
    if not path.is_file() and (newest is None or not artifacts.fetch(study, newest, path)):
        raise MapgroveError(
            f"the model of trial {number} of study {study} is no longer kept", remedy="A better one has come; try again"
        )
    return path


def _chosen(source: "Source", candidate: Candidate, study: Study, options: argparse.Namespace) -> Chosen:
    about = source.about
    return Chosen(
        candidate=candidate,
        trial=about.trial,
        study="" if about.study == study.name else about.study,
        recipe=about.recipe,
        prediction=about.prediction,
        start_from=str(options.start),
        fine_tuned=options.fine_tune is not None,
    )


def _told(source: "Source", bands: Collection[str]) -> str:
    read = source.candidate.architecture.bands or source.bands
    ours = continued(source.candidate, bands).architecture.bands or tuple(bands)
    parts = [source.text]
    for what, names in (
        ("bands new to it", [name for name in ours if name not in read]),
        ("bands no longer read", [name for name in read if name not in ours]),
    ):
        if names:
            parts.append(f"{what}: {', '.join(names)}")
    return "; ".join(parts)

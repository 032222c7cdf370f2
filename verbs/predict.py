"""Turn scenes into smooth masks and polygons with the retrained models of a study.

Scenes are named by their id, by a fold ("test", "validation", "training", "unlabelled" or "all"), or by the path of an
image with the study's bands. A scene of which only blocks are in the fold is mapped as a whole. Each gets a folder with
probabilities.tif, masks.tif, polygons.geojson, overlay.png, and, where labels are known, comparison.png. A class that
has several models is mapped by their mean. Of classes in prediction.instances single things are told apart: each has a
number in instances.tif and a polygon of its own. A map that is there already, of the same models and settings, is kept;
one that was cut off goes on with the same command. Where a scene cannot be mapped, the others are.

Examples:
  python run_search.py predict --study demo test
  python run_search.py predict --models runs/demo/models --out maps new/scene.tif
"""

import argparse
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from search_space.errors import MapgroveError, UsageError, did_you_mean
from search_space.study import Study
from verbs.common import (
    MODELS,
    PREDICTIONS,
    add_study,
    load_study,
    refuse_retraining,
    refuse_set_without_study,
    say,
)
from verbs.option_types import gpu_numbers
from verbs.predict_progress import MapProgress

if TYPE_CHECKING:
    from pipeline.maps.map_writing import WrittenMap
    from pipeline.preparation.prepared import PreparedDataset, PreparedScene

FOLDS = ("training", "validation", "test", "unlabelled", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser, required=False)
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="a model set (default that of the study)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to (default predictions/ of the study)")
    parser.add_argument(
        "--gpus", type=gpu_numbers, metavar="LIST", help="share each batch of tiles between these GPUs, such as 0,1"
    )
    parser.add_argument("scenes", nargs="+", metavar="SCENE", help="a scene's id, a fold's name, or an image file")


def run(options: argparse.Namespace) -> None:
    """Predict scene by scene."""
    from pipeline.maps.map_writing import write_map
    from pipeline.maps.scene_maps import open_image
    from pipeline.models.model_set import LoadedModelSet, read_model_set_study

    if not (options.study or options.models):
        raise UsageError("predict needs models", remedy="Give --study NAME or --models FOLDER")
    refuse_set_without_study(options)
    study = load_study(options) if options.study else read_model_set_study(options.models)
    refuse_retraining(study)
    folder = options.models or study.folder / MODELS
    out = options.out or study.folder / PREDICTIONS
    places = _places(study, options.scenes)
    _use_backend(options.gpus)
    failed = []
    with _shared(len(options.gpus or [""])):
        models = LoadedModelSet.open(folder)
        for number, (name, place) in enumerate(places.items(), start=1):
            try:
                scene = open_image(place, study.data) if isinstance(place, Path) else place
                with MapProgress(scene.id) as shown:
                    written = write_map(models, scene, study.prediction, out, shown.show)
            except MapgroveError as error:
                if len(places) == 1 or options.debug:
                    raise
                failed.append(name)
                say(f"  {number}/{len(places)} {name}: not mapped. {error}")
            else:
                say(f"  {number}/{len(places)} {written.scene_id}: {_shares(written)} -> {written.folder}")
    say(f"Maps: {out}")
    if failed:
        raise MapgroveError(
            f"{len(failed)} of {len(places)} scenes were not mapped",
            received=", ".join(failed),
            remedy="See above why; the same command maps what is missing",
        )


def _use_backend(gpus: list[str] | None) -> None:
    """Let Keras compute on these GPUs, on what there is where None.

    Raises:
        MapgroveError: GPUs are named, and there is none.
    """
    from pipeline.backend import sees_accelerators, use_backend

    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    name = use_backend()
    if gpus and not sees_accelerators():
        raise MapgroveError(
            f"--gpus names GPUs, and {name} sees none of them",
            received=",".join(gpus),
            remedy="Leave --gpus out to predict on the processor; `doctor` tells what is missing",
        )


def _shared(num_devices: int) -> AbstractContextManager[None]:
    """Where networks are loaded and predict: each batch is divided between so many devices."""
    if num_devices == 1:
        return nullcontext()
    from pipeline.networks.devices import data_parallel

    return data_parallel(num_devices, num_devices)


def _shares(written: "WrittenMap") -> str:
    if written.class_shares is None:
        return "mapped before"
    return ", ".join(f"{class_name} {share:.1%}" for class_name, share in written.class_shares.items())


def _places(study: Study, words: Iterable[str]) -> "dict[str, PreparedScene | Path]":
    """What is mapped, by the name of its folder: prepared scenes, and files of images.

    Raises:
        MapgroveError: A word that is no fold, scene or file, or two images that would share a folder.
    """
    places: dict[str, PreparedScene | Path] = {}
    dataset = _dataset(study)
    for word in words:
        found: dict[str, PreparedScene | Path] = {}
        if word in FOLDS:
            found.update(_fold_scenes(study, word))
        elif dataset is not None and word in dataset.scene_ids:
            found[word] = dataset.scene(word)
        elif Path(word).is_file():
            path = Path(word)
            if path.stem.startswith("."):
                raise MapgroveError("the image's name must fit a folder", received=word, remedy="Rename it")
            found[path.stem] = path
        elif "/" in word or Path(word).suffix.lower() in (".tif", ".tiff", ".png", ".jpg"):
            raise MapgroveError("there is no such file", received=word, remedy="Check its path")
        else:
            known = [] if dataset is None else dataset.scene_ids
            raise MapgroveError(
                "there is no such scene, fold or image", received=word, remedy=did_you_mean(word, known)
            )
        for name, place in found.items():
            if places.setdefault(name, place) != place:
                raise MapgroveError(
                    f"{word} and another scene would both be mapped into the folder {name!r}",
                    remedy="Map one of them with another --out",
                )
    return places


def _dataset(study: Study) -> "PreparedDataset | None":
    """The study's prepared scenes, if there are any: images can be mapped without."""
    from pipeline.preparation.prepared import MANIFEST, PreparedDataset

    return PreparedDataset.open_for(study.data) if (study.prepared / MANIFEST).is_file() else None


def _fold_scenes(study: Study, fold: str) -> "dict[str, PreparedScene]":
    from pipeline.folds.folds import make_fold
    from pipeline.preparation.prepared import PreparedDataset

    dataset = PreparedDataset.open_for(study.data)
    scene_ids = dataset.scene_ids if fold == "all" else make_fold(study.folds, dataset).scene_ids(fold)
    if not scene_ids:
        raise MapgroveError(f"the fold {fold!r} has no scenes", remedy="Name scenes, or another fold")
    return {scene_id: dataset.scene(scene_id) for scene_id in scene_ids}

"""Turn scenes into smooth masks and polygons with the retrained models of a study.

Scenes are named by their id, by a fold ("test", "validation", "training", "unlabelled" or "all"), or by the path of an
image with the study's bands. Each gets a folder with probabilities.tif, masks.tif, polygons.geojson, overlay.png, and,
where labels are known, comparison.png.

Examples:
  python run_search.py predict --study demo test
  python run_search.py predict --models runs/demo/models --out maps new/scene.tif
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from search_space.errors import MapgroveError
from search_space.study import Study
from verbs.common import MODELS, PREDICTIONS, add_study, load_study, say

if TYPE_CHECKING:
    from pipeline.maps import MapScene

FOLDS = ("training", "validation", "test", "unlabelled", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser, required=False)
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="a model set (default that of the study)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to (default predictions/ of the study)")
    parser.add_argument("scenes", nargs="+", metavar="SCENE", help="a scene's id, a fold's name, or an image file")


def run(options: argparse.Namespace) -> None:
    """Predict scene by scene."""
    from pipeline.backend import use_backend
    from pipeline.maps import write_map
    from pipeline.model_set import LoadedModelSet, read_model_set_study

    if not (options.study or options.models):
        raise MapgroveError("predict needs models", remedy="Give --study NAME or --models FOLDER")
    study = load_study(options) if options.study else read_model_set_study(options.models)
    folder = options.models or study.folder / MODELS
    out = options.out or study.folder / PREDICTIONS
    named = dict.fromkeys(each for name in options.scenes for each in _scene_names(study, name))
    _refuse_shared_folders(named)
    use_backend()
    models = LoadedModelSet.open(folder)
    for number, name in enumerate(named, start=1):
        written = write_map(models, _open(study, name), study.prediction, out)
        shares = ", ".join(f"{class_name} {share:.1%}" for class_name, share in written.class_shares.items())
        say(f"  {number}/{len(named)} {written.scene_id}: {shares} -> {written.folder}")
    say(f"Maps: {out}")


def _scene_names(study: Study, name: str) -> list[str]:
    """The scenes that a word on the command line stands for."""
    if name not in FOLDS:
        return [name]
    from pipeline.folds import make_fold
    from pipeline.prepared import PreparedDataset

    dataset = PreparedDataset.open(study.prepared)
    if name == "all":
        return list(dataset.scene_ids)
    scenes = list(getattr(make_fold(study.folds, dataset), name))
    if not scenes:
        raise MapgroveError(f"the fold {name!r} has no scenes", remedy="Name scenes, or another fold")
    return scenes


def _refuse_shared_folders(names: Iterable[str]) -> None:
    """Two images of one name would overwrite each other's map."""
    by_folder: dict[str, str] = {}
    for name in names:
        folder = Path(name).stem if Path(name).is_file() else name
        if by_folder.setdefault(folder, name) != name:
            raise MapgroveError(
                f"{by_folder[folder]} and {name} would both be mapped into the folder {folder!r}",
                remedy="Map one of them with another --out",
            )


def _open(study: Study, name: str) -> "MapScene":
    from pipeline.maps import open_image
    from pipeline.prepared import PreparedDataset

    path = Path(name)
    if path.is_file():
        return open_image(path, study.data)
    if path.suffix:
        raise MapgroveError(f"there is no image {name}")
    return PreparedDataset.open(study.prepared).scene(name)

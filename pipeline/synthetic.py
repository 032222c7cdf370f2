"""A small synthetic data set in the exact file format of the DSTL competition, for demos and tests."""

import csv
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import cv2
import numpy as np
import shapely
import tifffile
from numpy.typing import NDArray

from pipeline.datasets.dstl import CLASSES, GRID_SIZES, LABELS
from pipeline.landscape import Features, Landscape, imagine
from pipeline.scene import DataError, Georeference
from pipeline.spectra import paint
from search_space.decode import canonical_json

MARK = "synthetic.json"
MAX_RGB, MAX_SWIR = 2**11 - 1, 2**14 - 1
GRID_UNIT = 2.7e-6

_IDS = (
    *("6010_1_2", "6040_1_0", "6060_2_3", "6070_2_3", "6090_2_0", "6100_1_3", "6120_2_2", "6150_2_3", "6160_2_1"),
    *("6170_2_4", "6010_4_2", "6040_2_2", "6100_2_2", "6120_2_0", "6170_0_4"),
)
_UNLABELLED_ID = "6180_0_3"


@dataclass(frozen=True)
class _Written:
    """What the CSV files need to know of a scene."""

    id: str
    georeference: Georeference
    truth: Mapping[str, str] | None


def synthetic_scene_ids(num_scenes: int) -> tuple[str, ...]:
    """Ids of the labelled scenes that `write_synthetic_dstl` writes, in its order."""
    invented = (
        f"{7000 + 10 * region}_{row}_{column}" for region, row, column in product(range(200), range(5), range(5))
    )
    return tuple(islice((*_IDS, *invented), num_scenes))


def write_synthetic_dstl(folder: Path, num_scenes: int = 8, size_px: int = 360, seed: int = 0) -> tuple[str, ...]:
    """Write a data set; one that was written with the same arguments before is left as it is.

    Every scene has crops, trees, buildings and a track; roads, ponds, rivers, vehicles and small structures are absent
    from some. One further scene has no labels.

    Args:
        folder: Where to; made, with its parents.
        num_scenes: Labelled scenes, at least 1.
        size_px: Sides of the RGB images; scenes differ by up to a tenth.
        seed: Source of everything random.

    Returns:
        Ids of all scenes, the unlabelled one last.

    Raises:
        DataError: `folder` holds something else, or the arguments are out of range.
    """
    if num_scenes < 1 or size_px < 64:
        raise DataError(
            "A synthetic data set has at least 1 scene of at least 64 px",
            received={"num_scenes": num_scenes, "size_px": size_px},
        )
    ids = (*synthetic_scene_ids(num_scenes), _UNLABELLED_ID)
    mark = canonical_json({"version": 1, "num_scenes": num_scenes, "size_px": size_px, "seed": seed})
    if (folder / MARK).is_file() and (folder / MARK).read_text(encoding="utf-8") == mark:
        return ids
    if folder.exists() and any(folder.iterdir()):
        raise DataError(
            "The folder for the synthetic data set holds something else",
            received=str(folder),
            remedy="Remove it, or name another one",
        )
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        _write_all(beside, ids, size_px, seed)
        (beside / MARK).write_text(mark, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return ids


def _write_all(folder: Path, ids: tuple[str, ...], size_px: int, seed: int) -> None:
    for name in ("three_band", "sixteen_band"):
        (folder / name).mkdir(parents=True)
    written = [_write_scene(folder, name, number, size_px, seed) for number, name in enumerate(ids)]
    with (folder / GRID_SIZES).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["", "Xmax", "Ymin"])
        rows.writerows([scene.id, scene.georeference.xmax, scene.georeference.ymin] for scene in written)
    _write_polygons(folder / LABELS, {scene.id: scene.truth for scene in written if scene.truth is not None})
    nothing = dict.fromkeys(CLASSES, "MULTIPOLYGON (((0 0, 0 0, 0 0, 0 0)))")
    _write_polygons(folder / "sample_submission.csv", {s.id: nothing for s in written if s.truth is None})


def _write_polygons(path: Path, scenes: Mapping[str, Mapping[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["ImageId", "ClassType", "MultipolygonWKT"])
        for scene_id, truth in scenes.items():
            rows.writerows([scene_id, number, truth[name]] for number, name in enumerate(CLASSES, start=1))


def _write_scene(folder: Path, scene_id: str, number: int, size_px: int, seed: int) -> _Written:
    rng = np.random.default_rng([seed, number])
    height, width = (round(size_px * side) for side in rng.uniform(0.9, 1.1, 2))
    landscape = imagine(height, width, _features(number, rng), rng)
    planes = paint(landscape, rng)
    _write_images(folder, scene_id, planes)
    xmax, ymin = (float(unit * GRID_UNIT) for unit in rng.uniform(0.98, 1.02, 2) * (width, -height))
    georeference = Georeference(xmax=round(xmax, 8), ymin=round(ymin, 8))
    truth = None if scene_id == _UNLABELLED_ID else _truth(landscape, georeference)
    return _Written(scene_id, georeference, truth)


def _features(number: int, rng: np.random.Generator) -> Features:
    """Common things nearly everywhere, rare ones here and there, as in the real data set."""
    road = number % 4 != 3
    return Features(
        road=road,
        river=number % 3 == 1,
        ponds=0 if number % 5 == 4 else int(rng.integers(2, 4)),
        trucks=int(rng.integers(1, 4)) if road and number % 2 == 0 else 0,
        cars=int(rng.integers(4, 11)) if road else 0,
        misc=number % 5 != 3,
    )


def _truth(landscape: Landscape, georeference: Georeference) -> dict[str, str]:
    size = (landscape.height_px, landscape.width_px)
    shapes = {name: georeference.to_map(landscape.truth(name), *size) for name in CLASSES}
    return {name: shapely.to_wkt(shape, rounding_precision=11) for name, shape in shapes.items()}


def _write_images(folder: Path, scene_id: str, planes: NDArray[np.float32]) -> None:
    """RGB and P at full size, M at a quarter, A at a twenty-fifth, each plane averaged over its coarser pixels."""
    sixteen = folder / "sixteen_band"
    _write_tiff(folder / "three_band" / f"{scene_id}.tif", planes[:3], MAX_RGB)
    _write_tiff(sixteen / f"{scene_id}_P.tif", planes[3], MAX_RGB)
    _write_tiff(sixteen / f"{scene_id}_M.tif", _shrunk(planes[4:12], 4), MAX_RGB)
    _write_tiff(sixteen / f"{scene_id}_A.tif", _shrunk(planes[12:], 25), MAX_SWIR)


def _shrunk(planes: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    size = (max(1, round(planes.shape[2] / factor)), max(1, round(planes.shape[1] / factor)))
    return np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes])


def _write_tiff(path: Path, planes: NDArray[np.float32], highest: int) -> None:
    values = np.clip(np.rint(planes), 0, highest).astype(np.uint16)
    layout = {"planarconfig": "separate"} if values.ndim == 3 else {}
    tifffile.imwrite(path, values, photometric="minisblack", **layout)

"""Synthetic scenes in the exact file format of the DSTL competition, for demos, tests and benchmarks.

They carry what real ones do: four grids, two bit depths, shifts between the sensors, vehicles that move meanwhile, rare
and absent classes, overlapping labels, cells of a megabyte, and two dates of one ground.
"""

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Annotated

import numpy as np
import shapely
import tifffile
from pydantic import TypeAdapter, ValidationError

from pipeline.datasets.dstl import CLASSES, GRID_SIZES, LABELS, SAME_GROUND
from pipeline.scene import DataError, Georeference
from pipeline.synthetic.landscape import USUAL_AREA, Features, imagine
from pipeline.synthetic.sensors import MARGIN_PX, SENSORS, Counts, draw_shifts, look
from pipeline.synthetic.spectra import AUTUMN, SPRING, SUMMER, Painting
from search_space.decode import Frozen, ListAsTuple, canonical_json

MARK, TRUTH = "synthetic.json", "synthetic_truth.json"
VERSION = 2
GRID_UNIT = 2.7e-6

FULL_SIZE = (3391, 3349)
TRUE_SIZE_FROM_PX = 2500
"""Images at least so large show things in their true size; smaller ones shrink them, so that all kinds find room."""
TRUE_UNIT_PX = 2.5

_IDS = (
    *("6010_1_2", "6040_1_0", "6060_2_3", "6070_2_3", "6110_1_2", "6140_1_2", "6120_2_2", "6150_2_3", "6160_2_1"),
    *("6170_2_4", "6090_2_0", "6100_1_3", "6110_3_1", "6140_3_1", "6010_4_2", "6040_2_2", "6100_2_2", "6120_2_0"),
    "6170_0_4",
)
_UNLABELLED_ID = "6180_0_3"

Pair = Annotated[tuple[float, float], ListAsTuple]


class SceneTruth(Frozen):
    """What is true of a synthetic scene and cannot be read from its files.

    Attributes:
        shifts_px: Group of bands to how far right and down its image lies, in pixels of the RGB image.
        ground: Scene whose ground this is; itself but on a second date.
        ground_offset_px: How far right and down the ground lies, against its place in that scene.
        season: What day it is.
        brightness: Factor of all counts.
    """

    shifts_px: dict[str, Pair]
    ground: str
    ground_offset_px: Pair
    season: str
    brightness: float


@dataclass(frozen=True)
class _Plan:
    """One scene that is to be written."""

    id: str
    number: int
    ground: str
    ground_number: int
    size: tuple[int, int] | None
    size_px: int
    seed: int
    labelled: bool = True


@dataclass(frozen=True)
class _Written:
    """What the CSV files need to know of a scene."""

    id: str
    georeference: Georeference
    truth: Mapping[str, str] | None
    hidden: SceneTruth


def synthetic_scene_ids(num_scenes: int) -> tuple[str, ...]:
    """Ids of the labelled scenes that `write_synthetic_dstl` writes, in its order."""
    invented = (
        f"{7000 + 10 * region}_{row}_{column}" for region, row, column in product(range(200), range(5), range(5))
    )
    return tuple(islice((*_IDS, *invented), num_scenes))


def write_synthetic_dstl(folder: Path, num_scenes: int = 8, size_px: int = 360, seed: int = 0) -> tuple[str, ...]:
    """Write a data set; one that was written with the same arguments before is left as it is.

    Every scene has crops, trees, buildings and a track; roads, ponds, rivers, vehicles and small structures are absent
    from some. From the sixth on, scenes of `SAME_GROUND` show one ground on two dates. One further scene has no labels.

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
    mark = canonical_json({"version": VERSION, "num_scenes": num_scenes, "size_px": size_px, "seed": seed})
    _write_once(folder, mark, lambda: _plans(ids, None, size_px, seed))
    return ids


def write_full_size_dstl(folder: Path, num_scenes: int = 1, seed: int = 0) -> tuple[str, ...]:
    """Write labelled scenes as large as real ones, 3391 × 3349 pixels, with about as many things on them.

    A scene takes seconds and about a gigabyte and a half of memory; the next one begins when it is written.

    Args:
        folder: Where to; made, with its parents. What was written there with the same arguments is left as it is.
        num_scenes: How many, at least 1.
        seed: Source of everything random.

    Returns:
        Their ids, the first ones of `synthetic_scene_ids`.

    Raises:
        DataError: `folder` holds something else, or `num_scenes` is out of range.
    """
    if num_scenes < 1:
        raise DataError("A synthetic data set has at least 1 scene", received={"num_scenes": num_scenes})
    ids = synthetic_scene_ids(num_scenes)
    mark = canonical_json({"version": VERSION, "num_scenes": num_scenes, "size_px": FULL_SIZE, "seed": seed})
    _write_once(folder, mark, lambda: _plans(ids, FULL_SIZE, max(FULL_SIZE), seed))
    return ids


def read_synthetic_truth(folder: Path) -> dict[str, SceneTruth]:
    """What is true of each scene of a synthetic data set, for tests and benchmarks.

    Raises:
        DataError: `folder` holds no synthetic data set of this version.
    """
    try:
        return TypeAdapter(dict[str, SceneTruth]).validate_json((folder / TRUTH).read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{folder / TRUTH} cannot be read: {error}", remedy="Write the data set again") from error


def _write_once(folder: Path, mark: str, plans: Callable[[], Sequence[_Plan]]) -> None:
    if (folder / MARK).is_file() and (folder / MARK).read_text(encoding="utf-8") == mark:
        return
    if folder.exists() and any(folder.iterdir()):
        raise DataError(
            "The folder for the synthetic data set holds something else",
            received=str(folder),
            remedy="Remove it, or name another one",
        )
    with _moved_when_whole(folder) as beside:
        _write_all(beside, plans())
        (beside / MARK).write_text(mark, encoding="utf-8")


@contextmanager
def _moved_when_whole(folder: Path) -> Iterator[Path]:
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        yield beside
        if folder.exists():
            folder.rmdir()
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _plans(ids: Sequence[str], size: tuple[int, int] | None, size_px: int, seed: int) -> list[_Plan]:
    first_dates = {second: first for first, second in SAME_GROUND}
    plans = []
    for number, name in enumerate(ids):
        ground = first_dates.get(name, name)
        ground = ground if ground in ids else name
        plans.append(_Plan(name, number, ground, ids.index(ground), size, size_px, seed, name != _UNLABELLED_ID))
    return plans


def _write_all(folder: Path, plans: Sequence[_Plan]) -> None:
    for name in ("three_band", "sixteen_band"):
        (folder / name).mkdir(parents=True)
    written = [_write_scene(folder, plan) for plan in plans]
    with (folder / GRID_SIZES).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["", "Xmax", "Ymin"])
        rows.writerows([scene.id, scene.georeference.xmax, scene.georeference.ymin] for scene in written)
    _write_polygons(folder / LABELS, {scene.id: scene.truth for scene in written if scene.truth is not None})
    nothing = dict.fromkeys(CLASSES, "MULTIPOLYGON (((0 0, 0 0, 0 0, 0 0)))")
    _write_polygons(folder / "sample_submission.csv", {s.id: nothing for s in written if s.truth is None})
    hidden = {scene.id: scene.hidden.model_dump(mode="json") for scene in written}
    (folder / TRUTH).write_text(json.dumps(hidden, indent=1), encoding="utf-8")


def _write_polygons(path: Path, scenes: Mapping[str, Mapping[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["ImageId", "ClassType", "MultipolygonWKT"])
        for scene_id, truth in scenes.items():
            rows.writerows([scene_id, number, truth[name]] for number, name in enumerate(CLASSES, start=1))


def _write_scene(folder: Path, plan: _Plan) -> _Written:
    """Imagine the ground, which two dates may share, and look at it on one day."""
    ground_rng = np.random.default_rng([plan.seed, plan.ground_number])
    height, width = plan.size or tuple(round(plan.size_px * side) for side in ground_rng.uniform(0.9, 1.1, 2))
    unit_px = TRUE_UNIT_PX if plan.size_px >= TRUE_SIZE_FROM_PX else 1.0
    features = _features(plan.ground_number, height * width / unit_px**2, ground_rng)
    landscape = imagine(height, width, features, ground_rng, unit_px, MARGIN_PX)
    rng = np.random.default_rng([plan.seed, plan.number, 1])
    offset = (0.0, 0.0)
    if plan.ground != plan.id:
        x_px, y_px = rng.uniform(3, 9, 2) * rng.choice([-1, 1], 2)
        offset = (round(float(x_px), 2), round(float(y_px), 2))
        landscape = landscape.moved(*offset).with_traffic(features.trucks, features.cars, rng)
    season = SUMMER if plan.ground != plan.id else AUTUMN if plan.number % 5 == 4 else SPRING
    hidden = SceneTruth(
        shifts_px=draw_shifts(rng),
        ground=plan.ground,
        ground_offset_px=offset,
        season=season.name,
        brightness=round(float(rng.uniform(0.95, 1.05)) if plan.ground == plan.id else 1.1, 3),
    )
    _write_images(folder, plan.id, look(Painting(landscape, rng, season), hidden.shifts_px, rng, hidden.brightness))
    xmax, ymin = (float(unit * GRID_UNIT) for unit in rng.uniform(0.98, 1.02, 2) * (width, -height))
    georeference = Georeference(xmax=round(xmax, 8), ymin=round(ymin, 8))
    shapes = {name: georeference.to_map(landscape.truth(name), height, width) for name in CLASSES}
    truth = {name: shapely.to_wkt(shape, rounding_precision=11) for name, shape in shapes.items()}
    return _Written(plan.id, georeference, truth if plan.labelled else None, hidden)


def _features(number: int, area: float, rng: np.random.Generator) -> Features:
    """Common things nearly everywhere, rare ones here and there, as in the real data set."""
    road, plenty = number % 4 != 3, max(1.0, area / USUAL_AREA) ** 0.8
    return Features(
        road=road,
        river=number % 3 == 1,
        ponds=0 if number % 5 == 4 else round(plenty * int(rng.integers(2, 4))),
        trucks=round(plenty * int(rng.integers(1, 4))) if road and number % 2 == 0 else 0,
        cars=round(plenty * int(rng.integers(4, 11))) if road else 0,
        misc=number % 5 != 3,
    )


def _write_images(folder: Path, scene_id: str, images: Mapping[str, Counts]) -> None:
    """One file per sensor: a planar stack, but for the panchromatic one, a single plane."""
    for sensor in SENSORS:
        planes = images[sensor.name]
        path = folder / "three_band" / f"{scene_id}.tif"
        if sensor.name != "rgb":
            path = folder / "sixteen_band" / f"{scene_id}_{sensor.name[0].upper()}.tif"
        if len(planes) == 1:
            tifffile.imwrite(path, planes[0], photometric="minisblack")
        else:
            tifffile.imwrite(path, planes, photometric="minisblack", planarconfig="separate")

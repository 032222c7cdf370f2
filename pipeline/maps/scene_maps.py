"""What a map is made of and where it comes from: scenes that can be mapped, the record of a map, its score."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.base import check_names
from pipeline.datasets.table import open_image as open_image_dataset
from pipeline.files import sha256_of
from pipeline.folds.ground import Part
from pipeline.imagery import indices as spectral
from pipeline.imagery.alignment import measure_shifts
from pipeline.imagery.cube import BandStack, StackCube
from pipeline.imagery.grid import Grid
from pipeline.imagery.rasters import (
    read_masks,
)
from pipeline.maps.instance_maps import score_things
from pipeline.maps.scoring import Score, score_masks
from pipeline.preparation.normalisation import Imagery
from pipeline.preparation.prepare_scene import bands_of_the_grid
from pipeline.preparation.prepared import PreparedDataset
from pipeline.scene import DataError, Georeference
from search_space.decode import Frozen, decode, fingerprint
from search_space.errors import MapgroveError
from search_space.polygon_score import PolygonScore
from search_space.prediction import PredictionSettings
from search_space.records import ScoredGround
from search_space.study import DataSettings

PROBABILITIES_FILE, MASKS_FILE, POLYGONS_FILE = "probabilities.tif", "masks.tif", "polygons.geojson"
OVERLAY_FILE, COMPARISON_FILE = "overlay.png", "comparison.png"
MAP_FILE = "map.json"

MOST_VALUES = 100_000_000
"""Of an image: one with more pixels times bands is never in memory as a whole."""


class MapRecord(Frozen):
    """`map.json`: where a map comes from. Written last, so it is there only when the whole map is.

    Attributes:
        scene: Id of the scene.
        source: What the scene was made from.
        models: Fingerprint of the model set that drew it.
        prediction: How tiles became the map.
        sizes_bytes: Of the map's files, by name.
    """

    scene: str
    source: str
    models: str
    prediction: PredictionSettings
    sizes_bytes: dict[str, int] = {}


class MapScene(Imagery, Protocol):
    """A scene that can be mapped."""

    @property
    def id(self) -> str:
        """Its name, also of its map's folder."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, indices last."""

    @property
    def source(self) -> str:
        """Changes when what the scene was made from changes."""

    @property
    def georeference(self) -> Georeference:
        """Where it lies."""


@dataclass(frozen=True)
class ImageScene:
    """An image that is not part of a prepared data set.

    Attributes:
        id: Its file's name without the ending.
        bands: Names of the bands, indices last.
        source: Fingerprint of the files' contents and of the settings that say what pixels they make.
        cube: float32 `(H, W, B)`, NaN where there is no data; of a large image made when rows of it are asked for.
        valid: bool `(H, W)`; the same.
        georeference: Where it lies.
    """

    id: str
    bands: tuple[str, ...]
    source: str
    cube: NDArray[np.float32]
    valid: NDArray[np.bool_]
    georeference: Georeference


@dataclass(frozen=True)
class ScoredMaps:
    """Maps held against labels.

    Attributes:
        score: How well they agree; a class without a labelled pixel has no Jaccard.
        ground: What counted of each scene.
        models: Fingerprint of the model set that drew all of them.
        tile_px: Side length of the largest tiles; 0 where all are as large as the models' patches.
        polygons: How well single things are found, of the classes of which every map tells them apart.
    """

    score: Score
    ground: tuple[ScoredGround, ...]
    models: str
    tile_px: int
    polygons: dict[str, PolygonScore]


def open_image(path: Path, data: DataSettings) -> ImageScene:
    """Read an image with the bands of a study, on the study's grid, registered as `prepare` does.

    Raises:
        MapgroveError: The image has other bands, or the files that hold the others are not beside it, or it cannot be
            brought to the study's grid.
    """
    adapter = open_image_dataset(data, path)
    available = tuple(band.name for band in adapter.bands)
    bands = data.bands or available
    try:
        check_names("data.bands: the band", bands, available)
        needed = (*bands, *(name for index in data.indices for name in spectral.bands_for(index, adapter.bands)))
    except DataError as error:
        # The remedy would be to change the study, which is not at fault.
        raise DataError(
            f"{path}: the image lacks bands that the study needs: {error.what}",
            received=available,
            remedy="Where a scene is several files, name the one whose grid it has, the others beside it as prepared",
        ) from error
    needed = (*needed, *bands_of_the_grid(data.grid, needed, adapter))
    [scene_id] = adapter.scene_ids
    scene = adapter.read(scene_id, needed)
    grid = Grid.of(scene, data.grid)
    shifts = measure_shifts(scene, adapter.bands, needed)
    stack = BandStack(scene, bands, data.indices, grid.shape, shifts, adapter.bands)
    files = [sha256_of(each) for each in adapter.sources(scene_id, needed)]
    source = fingerprint({"files": files, "format": data.format, "options": data.options, "grid": data.grid})
    cube, valid = _cube(stack)
    return ImageScene(scene_id, (*bands, *data.indices), source, cube, valid, grid.georeference)


def _cube(stack: BandStack) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Bands and validity; of a large image what makes them when rows are asked for."""
    if math.prod(stack.shape) * stack.num_bands <= MOST_VALUES:
        return stack.whole()
    cube = StackCube(stack)
    return cast("NDArray[np.float32]", cube), cast("NDArray[np.bool_]", cube.valid)


def score_maps(dataset: PreparedDataset, parts: Sequence[Part], maps: Path) -> ScoredMaps:
    """Score written masks against the labels of held-out ground, pixel by pixel over what is known of it.

    Maps show whole scenes; outside a part's ground they are not looked at.

    Raises:
        MapgroveError: A scene was not mapped, or the maps were drawn by different models, or a map is of classes or a
            size that the data set does not have.
    """
    records = [read_map_record(maps / part.id) for part in parts]
    for record in records:
        if record.source != dataset.scene(record.scene).source:
            raise MapgroveError(
                f"the map of {record.scene} shows the scene as it was before it was prepared again",
                remedy="Run `predict` again",
            )
    models = {record.models for record in records}
    if len(models) > 1:
        raise MapgroveError("the maps were drawn by different models", remedy="Run `predict` again for all scenes")
    found = [(part, *read_masks(maps / part.id / MASKS_FILE)) for part in parts]
    names = found[0][2]
    unknown = [name for name in names if name not in dataset.classes]
    if unknown:
        raise MapgroveError("the maps show classes that the data set does not have", received=unknown)
    classes = [dataset.classes.index(name) for name in names]
    score = score_masks(((masks, part.masks[..., classes], part.known) for part, masks, _ in found), names)
    tile_px = max(record.prediction.tile_px for record in records)
    things = [name for name in names if all(name in record.prediction.instances for record in records)]
    return ScoredMaps(
        score=score.without_absent(),
        ground=tuple(map(_scored_ground, parts)),
        models=models.pop(),
        tile_px=tile_px,
        polygons=score_things(parts, maps, things, dataset.classes),
    )


def _scored_ground(part: Part) -> ScoredGround:
    blocks = tuple((rows.start, columns.start, rows.stop, columns.stop) for rows, columns in part.windows)
    num_known = max(1, int(np.count_nonzero(part.scene.known)))
    return ScoredGround(scene=part.id, blocks_px=blocks, known_share=int(np.count_nonzero(part.known)) / num_known)


def read_map_record(folder: Path) -> MapRecord:
    """Read where the map in `folder` comes from.

    Raises:
        MapgroveError: There is no whole map.
    """
    path = folder / MAP_FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MapgroveError(
            f"scene {folder.name} has no map in {folder.parent}", remedy="Run `predict` for it first"
        ) from None
    except (OSError, ValueError) as error:
        raise MapgroveError(f"{path} cannot be read ({error})", remedy="Run `predict` again") from None
    return decode(MapRecord, plain, where=str(path), remedy="Run `predict` again")

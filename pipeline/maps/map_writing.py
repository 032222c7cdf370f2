"""What prediction leaves of a scene: probabilities, masks, polygons and pictures, in a folder of its own."""

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.files import sole_writer, try_folder, write_json
from pipeline.imagery.raster_rows import BLOCK_PX, MASKS, PROBABILITIES, map_writer, mask_numbers, to_numbers
from pipeline.maps.instance_maps import INSTANCES, write_things
from pipeline.maps.polygons import vectorise_file, write_geojson
from pipeline.maps.quicklooks import write_quicklooks
from pipeline.maps.scene_maps import (
    COMPARISON_FILE,
    MAP_FILE,
    MASKS_FILE,
    OVERLAY_FILE,
    POLYGONS_FILE,
    PROBABILITIES_FILE,
    MapRecord,
    MapScene,
    read_map_record,
)
from pipeline.maps.unfinished import UNFINISHED, Unfinished
from pipeline.models.model_set import LoadedModelSet
from pipeline.models.passes import Layers, Pass, layers_of
from pipeline.networks.prediction import predict_rows
from pipeline.preparation.normalisation import Imagery
from pipeline.preparation.prepared import PreparedScene
from search_space.decode import encode, fingerprint
from search_space.errors import MapgroveError, is_out_of_memory
from search_space.prediction import PredictionSettings

_log = logging.getLogger(__name__)

FILES = (PROBABILITIES_FILE, MASKS_FILE, INSTANCES, POLYGONS_FILE, OVERLAY_FILE, COMPARISON_FILE)
"""Of a map, beside its record."""

Progress = Callable[[float], None]
Rows = Callable[[slice], NDArray[np.float32]]


@dataclass(frozen=True)
class WrittenMap:
    """A scene's map on disk.

    Attributes:
        scene_id: The scene.
        folder: Where its files are.
        class_shares: Share of the pixels with data that each class covers; None for a map of an earlier call.
    """

    scene_id: str
    folder: Path
    class_shares: dict[str, float] | None


def write_map(
    models: LoadedModelSet,
    scene: MapScene,
    settings: PredictionSettings,
    out: Path,
    progress: Progress | None = None,
) -> WrittenMap:
    """Predict a scene and write `out/<scene>/`; a whole map of the same models, scene and settings is kept.

    The scene is read by rows, and what is predicted of it lies on disk: a call that was cut off goes on where it was.

    Args:
        models: One or several per class.
        scene: What to map; of a prepared scene with labels a comparison is drawn too.
        settings: How tiles become a map.
        out: Folder of all maps.
        progress: Told which share of the tiles is predicted, from 0 to 1.

    Returns:
        What was written.

    Raises:
        MapgroveError: The scene has other bands than the models read, or the folder cannot be written.
    """
    # How many tiles at a time makes no difference to a map: who takes fewer, for want of memory, goes on with it.
    alike = settings.model_copy(update={"batch_size": 0})
    record = MapRecord(scene=scene.id, source=scene.source, models=models.description.fingerprint, prediction=alike)
    folder = out / scene.id
    if _is_kept(folder, record):
        return WrittenMap(scene.id, folder, None)
    models.check_bands(scene.bands)
    _check_writable(folder)
    with sole_writer(folder / UNFINISHED):
        if _is_kept(folder, record):
            return WrittenMap(scene.id, folder, None)
        _clear(folder)
        shares = _write(models, scene, settings, folder, record, progress)
    return WrittenMap(scene.id, folder, shares)


def _write(
    models: LoadedModelSet,
    scene: MapScene,
    settings: PredictionSettings,
    folder: Path,
    record: MapRecord,
    progress: Progress | None,
) -> dict[str, float]:
    """Predict, write every file, the record last; return the share of each class."""
    shape, names = (scene.valid.shape[0], scene.valid.shape[1]), models.classes
    thresholds = dict(zip(names, models.thresholds.tolist(), strict=True))
    layers, passes = layers_of(models.description, settings), models.passes(settings)
    rows = Unfinished(folder / UNFINISHED, fingerprint(encode(record)), shape, [each.layers for each in passes])
    read: Rows = rows.read
    if has_data(scene):
        _predict(models, scene, layers, passes, rows, progress)
    else:
        read = _nothing(shape, layers)
    shares = _write_rasters(folder, read, scene, settings, models)
    wanted = [name for name in names if name in settings.instances]
    things = write_things(
        folder / INSTANCES,
        {name: _layer(read, shape, layers.classes.index(name)) for name in wanted},
        {name: _layer(read, shape, len(names) + k) for k, name in enumerate(layers.energies)},
        thresholds,
        settings,
        scene.georeference,
    )
    polygons = {
        name: things[name] if name in things else vectorise_file(folder / MASKS_FILE, k, settings.min_area_px)
        for k, name in enumerate(names)
    }
    write_geojson(folder / POLYGONS_FILE, polygons, scene.georeference, shape, thresholds)
    _draw(folder, scene, models)
    sizes = {name: (folder / name).stat().st_size for name in FILES if (folder / name).is_file()}
    write_json(folder / MAP_FILE, encode(record.model_copy(update={"sizes_bytes": sizes})))
    rows.remove()
    return shares


def _predict(
    models: LoadedModelSet,
    scene: MapScene,
    layers: Layers,
    passes: Sequence[Pass],
    rows: Unfinished,
    progress: Progress | None,
) -> None:
    """Bring to disk what is not there yet."""
    weights = [len(each.members) for each in passes]
    furthest = 0.0
    for number, each in enumerate(passes):
        before, own = sum(weights[:number]) / sum(weights), weights[number] / sum(weights)

        def tell(share: float, before: float = before, own: float = own) -> None:
            nonlocal furthest
            furthest = max(furthest, before + own * share)
            if progress is not None:
                progress(furthest)

        if rows.rows_done[number] < scene.valid.shape[0]:
            _predict_pass(models, scene, layers, each, rows, number, tell)


def _predict_pass(
    models: LoadedModelSet,
    scene: MapScene,
    layers: Layers,
    of_pass: Pass,
    rows: Unfinished,
    number: int,
    tell: Progress,
) -> None:
    """Bring what is missing of a pass to disk; where memory runs out, with half as many tiles at a time."""
    predictor, scaling = models.predictor(of_pass, layers), of_pass.normalisation.for_scene(scene)
    tiling = of_pass.tiling
    while True:
        first_row = rows.rows_done[number]
        begun = first_row / scene.valid.shape[0]

        def told(done: int, total: int, begun: float = begun) -> None:
            tell(begun + (1.0 - begun) * done / total)

        try:
            with _room(), rows.sink(number) as sink:
                predict_rows(predictor, scene, scaling, tiling, sink, first_row=first_row, progress=told)
        except Exception as error:
            if not is_out_of_memory(error) or tiling.batch_size == 1:
                raise
            tiling = tiling._replace(batch_size=tiling.batch_size // 2)
            _log.warning("Memory ran out; going on with %d tiles at a time", tiling.batch_size)
        else:
            return


def _write_rasters(
    folder: Path, read: Rows, scene: MapScene, settings: PredictionSettings, models: LoadedModelSet
) -> dict[str, float]:
    """Write probabilities and masks; return the share of the pixels with data that each class covers."""
    names, thresholds = models.classes, models.thresholds
    shape, place = (scene.valid.shape[0], scene.valid.shape[1]), scene.georeference
    numbers, num_valid, covered = PROBABILITIES[settings.probabilities], 0, np.zeros(len(names), np.int64)
    with ExitStack() as opened:
        probabilities = opened.enter_context(map_writer(folder / PROBABILITIES_FILE, shape, place, names, numbers))
        masks = opened.enter_context(map_writer(folder / MASKS_FILE, shape, place, names, MASKS))
        for rows in blocks(shape[0]):
            said = read(rows)[..., : len(names)]
            valid = np.isfinite(said[..., 0])
            # NaN, where there is no data, is below every threshold.
            found = said >= thresholds
            probabilities.write(rows.start, to_numbers(said, numbers))
            masks.write(rows.start, mask_numbers(found, valid))
            num_valid += int(np.count_nonzero(valid))
            covered += np.count_nonzero(found, axis=(0, 1))
    return {name: float(num / max(1, num_valid)) for name, num in zip(names, covered.tolist(), strict=True)}


def _draw(folder: Path, scene: MapScene, models: LoadedModelSet) -> None:
    """Draw the pictures."""
    truth: Callable[[slice], NDArray[np.uint8]] | None = None
    if isinstance(scene, PreparedScene) and scene.labelled:
        masks, classes = scene.masks, [models.description.classes.index(name) for name in models.classes]

        def known(rows: slice) -> NDArray[np.uint8]:
            return np.asarray(masks[rows])[..., classes]

        truth = known
    else:
        (folder / COMPARISON_FILE).unlink(missing_ok=True)
    bands = (*models.description.bands, *models.description.indices)
    places = (folder / OVERLAY_FILE, folder / COMPARISON_FILE)
    write_quicklooks(*places, scene, scene.id, bands, folder / MASKS_FILE, models.classes, truth)


def blocks(num_rows: int) -> Iterator[slice]:
    """All rows, as many at a time as a file's tiles are high."""
    return (slice(first, min(num_rows, first + BLOCK_PX)) for first in range(0, num_rows, BLOCK_PX))


def has_data(scene: Imagery) -> bool:
    """Whether any pixel of a scene has data."""
    return any(bool(np.any(scene.valid[rows])) for rows in blocks(scene.valid.shape[0]))


def _layer(read: Rows, shape: tuple[int, int], number: int) -> NDArray[np.float32]:
    """One layer of the map, all of it."""
    return np.concatenate([read(rows)[..., number] for rows in blocks(shape[0])])


def _nothing(shape: tuple[int, int], layers: Layers) -> Rows:
    """The map of a scene without data."""
    return lambda rows: np.full((rows.stop - rows.start, shape[1], layers.num), np.nan, np.float32)


@contextmanager
def _room() -> Iterator[None]:
    """A disk that fills up while a map is drawn is told in a line; what was drawn stays."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise MapgroveError(
            f"the disk is full, the map is not finished: {error.strerror}",
            remedy="Make room (df) and give the same command again: it goes on where it was",
        ) from error


def _clear(folder: Path) -> None:
    """Remove the record of an older map, and what a process that was killed had half written, as large as a map."""
    (folder / MAP_FILE).unlink(missing_ok=True)
    for name in (*FILES, MAP_FILE):
        for left in folder.glob(f".[0-9]*.{name}"):
            left.unlink(missing_ok=True)


def _check_writable(folder: Path) -> None:
    try:
        try_folder(folder)
    except OSError as error:
        raise MapgroveError(
            f"the map's folder cannot be written: {error.strerror}",
            received=str(folder),
            remedy="Make room (df), see to rights (ls -l), or name another place with --out",
        ) from error
    if (folder / UNFINISHED).exists() and not (folder / UNFINISHED).is_dir():
        raise MapgroveError(
            f"{UNFINISHED} in the map's folder must be a folder, where what is predicted lies until the map is whole",
            received=str(folder / UNFINISHED),
            remedy="Remove that file, or name another place with --out",
        )


def _is_kept(folder: Path, wanted: MapRecord) -> bool:
    """Whether a map of the same origin lies there, with every file as it was written."""
    try:
        kept = read_map_record(folder)
        whole = all((folder / name).stat().st_size == size for name, size in kept.sizes_bytes.items())
    except (MapgroveError, OSError):
        return False
    return whole and kept.model_copy(update={"sizes_bytes": {}}) == wanted

"""`prepare`: from files as they come to cubes, masks and a manifest; resumes, and skips what is unchanged."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline import indices as spectral
from pipeline.cube import Cube, make_cube
from pipeline.datasets.base import Adapter, check_names
from pipeline.datasets.table import open_dataset
from pipeline.drawing import natural_colour
from pipeline.files import sha256_of, sole_writer, written_beside
from pipeline.prepared import (
    CUBE,
    FORMAT_VERSION,
    KNOWN,
    MANIFEST,
    MASKS,
    QUICKLOOK,
    RECORD,
    VALID,
    BandStatistics,
    MadeFor,
    Manifest,
    PreparedDataset,
    PreparedScene,
    SceneRecord,
    SourceFile,
)
from pipeline.rasters import write_overlay_png
from pipeline.scene import Band, DataError, Scene
from search_space.decode import fingerprint
from search_space.errors import MapgroveError
from search_space.study import DataSettings

logger = logging.getLogger(__name__)

STATISTICS_SAMPLE = 1_000_000
PARTIAL = ".partial"


@dataclass(frozen=True)
class Progress:
    """Told after every scene.

    Attributes:
        scene_id: Which one.
        number: Its position, from 1.
        total: Number of scenes.
        state: "prepared" now, "unchanged" since last time, or "failed".
        labelled: Whether it has labels.
        has_data: Whether any pixel has data.
        reason: Why it failed; empty otherwise.
    """

    scene_id: str
    number: int
    total: int
    state: Literal["prepared", "unchanged", "failed"]
    labelled: bool = False
    has_data: bool = True
    reason: str = ""


def prepare(settings: DataSettings, on_progress: Callable[[Progress], None] | None = None) -> PreparedDataset:
    """Prepare every scene of a data set.

    Each scene is written beside its place and moved there when whole; the manifest comes last. So an interrupted run
    leaves whole scenes only, and the next one goes on from there. A scene that fails does not stop the others.

    Args:
        settings: The study's `[data]`.
        on_progress: Called after every scene.

    Returns:
        The prepared data set.

    Raises:
        DataError: A problem of the data set as a whole, or, at the end, scenes that failed.
        MalformedError: Options that the adapter does not understand.
        MapgroveError: Another process prepares into the same folder.
    """
    folder = Path(settings.prepared)
    _refuse_own_imagery(folder, Path(settings.folder))
    plan = _Plan.make(settings, open_dataset(settings))
    _make_folder(folder)
    _refuse_foreign_manifest(folder / MANIFEST)
    with sole_writer(folder):
        _prepare_scenes(plan, folder, on_progress)
    return PreparedDataset.open(folder)


def _prepare_scenes(plan: "_Plan", folder: Path, on_progress: Callable[[Progress], None] | None) -> None:
    scene_ids = plan.adapter.scene_ids
    records: list[SceneRecord] = []
    failed: list[str] = []
    for number, scene_id in enumerate(scene_ids, start=1):
        try:
            record, state = _prepare_scene(plan, scene_id, folder)
        except FullDiskError:
            # No later scene would fare better.
            raise
        except (MapgroveError, OSError, MemoryError) as error:
            failed.append(scene_id)
            reason = str(error) or type(error).__name__
            (folder / MANIFEST).unlink(missing_ok=True)
            logger.error("%s: %s", scene_id, reason)
            _tell(on_progress, Progress(scene_id, number, len(scene_ids), "failed", reason=reason))
        else:
            records.append(record)
            has_data = record.valid_share > 0
            _tell(on_progress, Progress(scene_id, number, len(scene_ids), state, record.labelled, has_data))
    if failed:
        raise _failed(failed, len(scene_ids))
    _remove_stale(folder, set(scene_ids))
    manifest = Manifest(
        version=FORMAT_VERSION,
        made_for=MadeFor.of(plan.settings),
        classes=plan.settings.classes,
        bands=plan.output_bands,
        same_ground=tuple(group for group in plan.adapter.same_ground if set(group) <= set(scene_ids)),
        scenes=tuple(sorted(records, key=lambda record: record.id)),
    )
    with written_beside(folder / MANIFEST) as beside:
        beside.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")


@dataclass(frozen=True)
class _Plan:
    """What is made of every scene, once the names in the settings are known to be good."""

    settings: DataSettings
    adapter: Adapter
    bands: tuple[str, ...]
    needed: tuple[str, ...]
    output_bands: tuple[Band, ...]
    hashes: dict[Path, SourceFile]

    @classmethod
    def make(cls, settings: DataSettings, adapter: Adapter) -> "_Plan":
        _refuse_odd_names(adapter.scene_ids)
        known = {band.name: band for band in adapter.bands}
        check_names("data.classes: the class", settings.classes, adapter.class_names)
        check_names("data.bands: the band", settings.bands, known)
        bands = settings.bands or tuple(known)
        needed = dict.fromkeys(
            [*bands, *(b for index in settings.indices for b in spectral.bands_for(index, [*known]))]
        )
        output = tuple(known[name] for name in bands) + tuple(Band(name=index) for index in settings.indices)
        return cls(settings, adapter, bands, tuple(needed), output, {})

    def source(self, path: Path) -> SourceFile:
        """Size and hash; files that several scenes share are read once."""
        if path not in self.hashes:
            relative = path.relative_to(self.settings.folder).as_posix()
            self.hashes[path] = SourceFile(path=relative, size_bytes=path.stat().st_size, sha256=sha256_of(path))
        return self.hashes[path]

    def key(self, sources: Sequence[SourceFile]) -> str:
        """Changes when a source's contents or a setting that shapes arrays changes; not with the place of files."""
        settings = self.settings
        return fingerprint(
            {
                "version": FORMAT_VERSION,
                "sources": [[source.path, source.sha256] for source in sources],
                "format": settings.format,
                "options": settings.options,
                "classes": settings.classes,
                "bands": self.bands,
                "indices": settings.indices,
            }
        )


def _prepare_scene(plan: _Plan, scene_id: str, folder: Path) -> tuple[SceneRecord, Literal["prepared", "unchanged"]]:
    paths = plan.adapter.sources(scene_id, plan.needed)
    if any(not path.is_file() for path in paths):
        # The adapter knows best what to say about a missing file.
        plan.adapter.read(scene_id, plan.needed)
    sources = tuple(plan.source(path) for path in paths)
    key = plan.key(sources)
    kept = _kept_record(folder / scene_id, key)
    if kept is not None:
        return kept, "unchanged"
    scene = plan.adapter.read(scene_id, plan.needed)
    _refuse_full_disk(folder, scene, len(plan.output_bands), len(plan.settings.classes))
    cube = make_cube(scene, plan.bands, plan.settings.indices, plan.settings.classes)
    record = _record(scene, cube, key, sources, plan)
    # Without this a manifest of before could describe a scene of now.
    (folder / MANIFEST).unlink(missing_ok=True)
    _write_scene(folder / scene_id, cube, record, plan)
    return record, "prepared"


def _kept_record(folder: Path, key: str) -> SceneRecord | None:
    try:
        record = SceneRecord.model_validate_json((folder / RECORD).read_bytes())
        PreparedScene(folder, record).check()
    except (OSError, ValidationError, DataError):
        return None
    return record if record.key == key and (folder / QUICKLOOK).is_file() else None


def _write_scene(folder: Path, cube: Cube, record: SceneRecord, plan: _Plan) -> None:
    beside = folder.with_name(f".{folder.name}{PARTIAL}")
    if beside.exists():
        _refuse_foreign(beside)
        shutil.rmtree(beside)
    beside.mkdir(parents=True)
    try:
        for name, array in ((CUBE, cube.bands), (MASKS, cube.masks), (VALID, cube.valid), (KNOWN, cube.known)):
            np.save(beside / name, array, allow_pickle=False)
        _write_quicklook(beside / QUICKLOOK, cube, record, plan)
        (beside / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
        if folder.exists():
            _refuse_foreign(folder)
            shutil.rmtree(folder)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_quicklook(path: Path, cube: Cube, record: SceneRecord, plan: _Plan) -> None:
    rgb = natural_colour(cube.bands, [band.name for band in plan.output_bands], cube.valid)
    if record.labelled:
        rgb[cube.valid & ~cube.known] //= 2
    missing = "no data" if not record.valid_share else "no labels" if not record.labelled else ""
    title = f"{record.id} ({missing})" if missing else record.id
    write_overlay_png(path, rgb, cube.masks, plan.settings.classes, title)


def _record(scene: Scene, cube: Cube, key: str, sources: tuple[SourceFile, ...], plan: _Plan) -> SceneRecord:
    num_known = int(np.count_nonzero(cube.known))
    areas = np.count_nonzero(cube.masks, axis=(0, 1))
    return SceneRecord(
        id=scene.id,
        key=key,
        labelled=scene.labels is not None,
        height_px=scene.height_px,
        width_px=scene.width_px,
        sources=sources,
        georeference=scene.georeference,
        bands=tuple(
            _statistics(band.name, cube.bands[..., position], cube.valid)
            for position, band in enumerate(plan.output_bands)
        ),
        class_shares={
            name: int(area) / max(1, num_known) for name, area in zip(plan.settings.classes, areas, strict=True)
        },
        known_share=num_known / cube.known.size,
        valid_share=int(np.count_nonzero(cube.valid)) / cube.valid.size,
    )


def _statistics(name: str, plane: NDArray[np.float32], valid: NDArray[np.bool_]) -> BandStatistics:
    values = plane[valid]
    if not values.size:
        values = np.zeros(1, np.float32)
    low, middle, high = np.percentile(values[:: -(-values.size // STATISTICS_SAMPLE)], (2, 50, 98))
    return BandStatistics(
        name=name,
        minimum=float(values.min()),
        p02=float(low),
        p50=float(middle),
        p98=float(high),
        maximum=float(values.max()),
        mean=float(values.mean(dtype=np.float64)),
        std=float(values.std(dtype=np.float64)),
    )


class FullDiskError(DataError):
    """The disk has no room for what must be written."""


def _refuse_own_imagery(prepared: Path, imagery: Path) -> None:
    if prepared.resolve() == imagery.resolve():
        raise DataError(
            "data.prepared must be another folder than data.folder",
            received=str(prepared),
            remedy="Name a new folder, such as runs/prepared/NAME",
        )


def _refuse_foreign(folder: Path) -> None:
    """Only what `prepare` has made may be replaced."""
    if not _is_own(folder):
        raise DataError(
            f"{folder} holds files that `prepare` did not make",
            remedy="Move them away, or name another data.prepared",
        )


def _refuse_foreign_manifest(path: Path) -> None:
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return
    if not (isinstance(plain, dict) and {"version", "scenes"} <= set(plain)):
        raise DataError(
            f"{path} is a file that `prepare` did not make", remedy="Move it away, or name another data.prepared"
        )


def _refuse_odd_names(scene_ids: Sequence[str]) -> None:
    """Each scene gets a folder of its name."""
    for scene_id in scene_ids:
        if not scene_id or scene_id.startswith(".") or "/" in scene_id:
            raise DataError(
                "a scene's name must fit a folder: not empty, without /, not starting with a dot",
                received=scene_id,
                remedy="Rename its files, or mend the pattern",
            )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"data.prepared: the folder cannot be written: {error.strerror}",
            received=str(folder),
            remedy="Name another one",
        ) from error


def _refuse_full_disk(folder: Path, scene: Scene, num_bands: int, num_classes: int) -> None:
    needed = scene.height_px * scene.width_px * (4 * num_bands + num_classes + 2)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FullDiskError(
            f"{folder}: the disk is too full for the scene {scene.id}, which takes {needed / 1e6:,.1f} MB",
            received=f"{free / 1e6:,.1f} MB free",
            remedy="Make room, name another data.prepared, or keep fewer bands in data.bands",
        )


def _remove_stale(folder: Path, scene_ids: set[str]) -> None:
    """Scenes that the data set no longer has, and what a killed run left; only `prepare`'s own folders are touched."""
    stale = sorted(path for path in folder.glob("*/") if path.name not in scene_ids and _is_own(path))
    if stale:
        (folder / MANIFEST).unlink(missing_ok=True)
        logger.warning("Removed, as the data set no longer has them: %s", ", ".join(path.name for path in stale))
    for path in stale:
        shutil.rmtree(path)


def _is_own(folder: Path) -> bool:
    """Whether `prepare` made the folder, and nobody put anything else into it."""
    names = {path.name for path in folder.iterdir()}
    if not names <= {CUBE, MASKS, VALID, KNOWN, QUICKLOOK, RECORD}:
        return False
    if folder.name.startswith(".") and folder.name.endswith(PARTIAL):
        return True
    try:
        return SceneRecord.model_validate_json((folder / RECORD).read_bytes()).id == folder.name
    except (OSError, ValidationError):
        return not names


def _failed(scene_ids: Sequence[str], total: int) -> DataError:
    return DataError(
        f"{len(scene_ids)} of {total} scenes could not be prepared: {', '.join(scene_ids)}",
        remedy="Mend them or leave them out, then run prepare again; finished scenes are kept",
    )


def _tell(on_progress: Callable[[Progress], None] | None, progress: Progress) -> None:
    if on_progress is not None:
        on_progress(progress)

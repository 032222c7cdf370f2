"""What `prepare` makes of one scene: a folder with its cube, its masks and what is known of them."""

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.datasets.base import Adapter, check_names
from pipeline.files import sha256_of
from pipeline.imagery import indices as spectral
from pipeline.imagery.alignment import measure_shifts
from pipeline.imagery.cube import BandStack, draw_labels
from pipeline.imagery.drawing import natural_bands, natural_colour, resized_masks
from pipeline.imagery.grid import Grid, group_named, labels_on
from pipeline.imagery.outlines import OUTLINES, write_outlines
from pipeline.imagery.rasters import OVERLAY_SIDE_PX, write_overlay_png
from pipeline.imagery.registration import Shift
from pipeline.imagery.resampling import HALF, Shape, area_shares
from pipeline.imagery.thumbnail import edge_thumbnail
from pipeline.preparation.band_statistics import BandTotals
from pipeline.preparation.prepared import (
    CUBE,
    FORMAT_VERSION,
    KNOWN,
    MANIFEST,
    MASKS,
    QUICKLOOK,
    RECORD,
    THUMBNAIL,
    VALID,
    BandStatistics,
    GroupRecord,
    PreparedScene,
    SceneRecord,
    SourceFile,
)
from pipeline.preparation.prepared_folder import (
    DISK_FULL,
    beside,
    full_disk,
    refuse_foreign,
    refuse_full_disk,
    remove_partial,
)
from pipeline.scene import Band, DataError, PolygonLabels, Scene
from search_space.decode import fingerprint
from search_space.errors import MapgroveError
from search_space.study import NATIVE, DataSettings

logger = logging.getLogger(__name__)

State = Literal["prepared", "unchanged"]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ScenePlan:
    """What is made of every scene, once the names in the settings are known to be good.

    Attributes:
        settings: The study's `[data]`.
        adapter: Reads the data set.
        bands: Bands to keep, in order.
        needed: Bands to be read: these, those of the indices, and one of the group whose grid is asked for.
        output_bands: The cube's bands, indices last.
        hashes: Source files that were read already.
    """

    settings: DataSettings
    adapter: Adapter
    bands: tuple[str, ...]
    needed: tuple[str, ...]
    output_bands: tuple[Band, ...]
    hashes: dict[Path, SourceFile] = field(default_factory=dict)

    @classmethod
    def make(cls, settings: DataSettings, adapter: Adapter) -> "ScenePlan":
        """Check the names in the settings.

        Raises:
            DataError: A class, band, index or grid that the data set does not have.
        """
        known = {band.name: band for band in adapter.bands}
        check_names("data.classes: the class", settings.classes, adapter.class_names)
        check_names("data.bands: the band", settings.bands, known)
        bands = settings.bands or tuple(known)
        needed = [*bands, *(b for index in settings.indices for b in spectral.bands_for(index, adapter.bands))]
        needed += bands_of_the_grid(settings.grid, needed, adapter)
        output = tuple(known[name] for name in bands) + tuple(Band(name=index) for index in settings.indices)
        return cls(settings, adapter, bands, tuple(dict.fromkeys(needed)), output)

    def source(self, path: Path) -> SourceFile:
        """Size and hash; files that several scenes share are read once."""
        if path not in self.hashes:
            relative = Path(os.path.relpath(path, self.settings.folder)).as_posix()
            self.hashes[path] = SourceFile(path=relative, size_bytes=path.stat().st_size, sha256=sha256_of(path))
        return self.hashes[path]

    def looks_finished(self, scene_id: str, folder: Path) -> bool:
        """Whether a scene was made from files of the names and sizes that there are; what they hold, a hash tells.

        Args:
            scene_id: The scene.
            folder: That of the prepared data set.
        """
        try:
            record = SceneRecord.model_validate_json((folder / scene_id / RECORD).read_bytes())
            sizes = [path.stat().st_size for path in self.adapter.sources(scene_id, self.needed)]
        except (OSError, ValidationError, MapgroveError):
            return False
        return sizes == [source.size_bytes for source in record.sources] and record.key == self.key(record.sources)

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
                "grid": settings.grid,
            }
        )


def bands_of_the_grid(grid: str | float, needed: Sequence[str], adapter: Adapter) -> tuple[str, ...]:
    """A band of the group whose grid is wanted, so that the group is read even if no band of it is kept.

    Only a scene that was read tells which bands make a group; the first one that can be is asked.
    """
    if grid == NATIVE or not isinstance(grid, str):
        return ()
    for scene_id in adapter.scene_ids:
        try:
            groups = adapter.read(scene_id, [band.name for band in adapter.bands]).groups
        except (MapgroveError, OSError):
            # It will be told with its reason when its turn comes.
            continue
        names = group_named(groups, grid).names
        return () if set(names) & set(needed) else names[:1]
    return ()


def prepare_scene(plan: ScenePlan, scene_id: str, folder: Path) -> tuple[SceneRecord, State]:
    """Prepare one scene, or keep what is there.

    Args:
        plan: What to make.
        scene_id: Of what.
        folder: That of the prepared data set; the scene gets a folder of its name, whole or not at all.

    Returns:
        What the manifest says of it, and whether it was made now.

    Raises:
        FullDiskError: There is no room for it.
        MapgroveError, OSError, MemoryError: It cannot be read or written.
    """
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
    grid = Grid.of(scene, plan.settings.grid)
    refuse_full_disk(folder, scene_id, grid.shape, len(plan.output_bands), len(plan.settings.classes))
    shifts = measure_shifts(scene, plan.adapter.bands, plan.needed)
    _tell_left_in_place(scene_id, shifts)
    # Without this a manifest of before could describe a scene of now.
    (folder / MANIFEST).unlink(missing_ok=True)
    return _Writer(plan, scene, grid, shifts).write(folder / scene_id, key, sources), "prepared"


def _tell_left_in_place(scene_id: str, shifts: Sequence[Shift]) -> None:
    left = [f"{shift.group} ({shift.reason})" for shift in shifts if not shift.accepted]
    if left:
        logger.warning("%s: bands left in place, as their shift is not sure: %s", scene_id, ", ".join(left))


def _kept_record(folder: Path, key: str) -> SceneRecord | None:
    try:
        record = SceneRecord.model_validate_json((folder / RECORD).read_bytes())
        PreparedScene(folder, record).check()
    except (OSError, ValidationError, DataError):
        return None
    whole = (folder / QUICKLOOK).is_file() and (folder / THUMBNAIL).is_file()
    return record if record.key == key and whole else None


@dataclass(frozen=True)
class _Writer:
    """Writes one scene's folder; no more of the cube than a few rows is ever in memory."""

    plan: ScenePlan
    scene: Scene
    grid: Grid
    shifts: tuple[Shift, ...]

    def write(self, folder: Path, key: str, sources: tuple[SourceFile, ...]) -> SceneRecord:
        """Write beside, and move to its place when whole."""
        place = beside(folder)
        if place.exists():
            refuse_foreign(place)
            shutil.rmtree(place)
        place.mkdir(parents=True)
        try:
            record = self._write_files(place, key, sources)
            if folder.exists():
                refuse_foreign(folder)
                shutil.rmtree(folder)
            place.replace(folder)
        except OSError as error:
            if error.errno in DISK_FULL:
                free = shutil.disk_usage(folder.parent).free
                raise full_disk(folder.parent, self.scene.id, "which does not fit", free) from error
            raise
        finally:
            remove_partial(folder)
        return record

    def _write_files(self, place: Path, key: str, sources: tuple[SourceFile, ...]) -> SceneRecord:
        valid, bands = self._write_cube(place / CUBE)
        masks, known = draw_labels(self.scene, self.plan.settings.classes, valid)
        for name, array in ((MASKS, masks), (VALID, valid), (KNOWN, known)):
            np.save(place / name, array, allow_pickle=False)
        np.save(place / THUMBNAIL, edge_thumbnail(self.scene, self.grid.shape, self.shifts), allow_pickle=False)
        labels = labels_on(self.scene, self.grid.shape)
        if isinstance(labels, PolygonLabels):
            kept = {name: labels.by_class.get(name, ()) for name in self.plan.settings.classes}
            write_outlines(place / OUTLINES, kept)
        areas = {name: int(masks[..., k].sum(dtype=np.int64)) for k, name in enumerate(self.plan.settings.classes)}
        record = self._record(key, sources, bands, areas, _count(known), _count(valid))
        self._write_quicklook(place / QUICKLOOK, masks, valid, known, record)
        (place / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
        return record

    def _write_cube(self, path: Path) -> tuple[Mask, tuple[BandStatistics, ...]]:
        plan = self.plan
        stack = BandStack(
            self.scene, plan.bands, plan.settings.indices, self.grid.shape, self.shifts, plan.adapter.bands
        )
        totals = BandTotals(stack.shape, stack.num_bands)
        valid = np.empty(stack.shape, bool)
        with path.open("wb") as file:
            _write_header(file, (*stack.shape, stack.num_bands))
            for rows in stack.blocks():
                file.write(rows.bands.data)
                valid[rows.first : rows.first + len(rows.valid)] = rows.valid
                totals.add(rows)
        return valid, totals.statistics([band.name for band in plan.output_bands])

    def _record(
        self,
        key: str,
        sources: tuple[SourceFile, ...],
        bands: tuple[BandStatistics, ...],
        areas: dict[str, int],
        num_known: int,
        num_valid: int,
    ) -> SceneRecord:
        height, width = self.grid.shape
        pixel_m = self.grid.pixel_m
        return SceneRecord(
            id=self.scene.id,
            key=key,
            labelled=self.scene.labels is not None,
            height_px=height,
            width_px=width,
            sources=sources,
            georeference=self.grid.georeference,
            bands=bands,
            class_shares={name: area / max(1, num_known) for name, area in areas.items()},
            known_share=num_known / (height * width),
            valid_share=num_valid / (height * width),
            pixel_m=pixel_m,
            groups=tuple(
                GroupRecord(
                    name=group.name,
                    bands=group.names,
                    height_px=group.planes.shape[1],
                    width_px=group.planes.shape[2],
                    dtype=str(group.planes.dtype),
                )
                for group in self.scene.groups
            ),
            shifts=self.shifts,
            class_areas_px=areas,
            outlined=isinstance(self.scene.labels, PolygonLabels),
            class_areas_m2={} if pixel_m is None else {name: area * pixel_m**2 for name, area in areas.items()},
        )

    def _write_quicklook(
        self, path: Path, masks: NDArray[np.uint8], valid: Mask, known: Mask, record: SceneRecord
    ) -> None:
        """Drawn from the bands anew, as small as it is shown: so the cube is not read again."""
        names = natural_bands([band.name for band in self.plan.output_bands])
        shape = _shown_shape(self.grid.shape)
        small, has_data = BandStack(self.scene, names, (), shape, self.shifts).whole()
        drawn: NDArray[np.uint8] | Mask = masks
        if shape != self.grid.shape:
            drawn = resized_masks(masks, shape)
            known, valid = area_shares(known, *shape) >= HALF, area_shares(valid, *shape) >= HALF
        has_data &= valid
        rgb = natural_colour(small, names, has_data)
        if record.labelled:
            rgb[has_data & ~known] //= 2
        missing = "no data" if not record.valid_share else "no labels" if not record.labelled else ""
        title = f"{record.id} ({missing})" if missing else record.id
        write_overlay_png(path, rgb, drawn, self.plan.settings.classes, title)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Of an `.npy` file of float32."""
    layout = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, layout)


def _shown_shape(shape: Shape) -> Shape:
    """Of the quick-look's picture: never finer than the cube."""
    factor = min(1.0, OVERLAY_SIDE_PX[1] / max(shape))
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def _count(mask: Mask) -> int:
    return int(np.count_nonzero(mask))

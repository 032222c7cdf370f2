"""Prepared data: cubes, masks and what is known of them, as `prepare` leaves them on disk."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.imagery.outlines import OUTLINES, read_outlines
from pipeline.imagery.registration import Shift
from pipeline.scene import Band, DataError, Georeference
from search_space.decode import Frozen, ListAsTuple, canonical_json, encode, fingerprint
from search_space.errors import did_you_mean
from search_space.network.unet import InputBand
from search_space.study import NATIVE, DataSettings, GridName

FORMAT_VERSION = 2
MANIFEST, RECORD, QUICKLOOK = "manifest.json", "scene.json", "quicklook.png"
CUBE, MASKS, VALID, KNOWN, THUMBNAIL = "cube.npy", "masks.npy", "valid.npy", "known.npy", "thumbnail.npy"
REMEDY = "Run: run_search.py prepare --study ..."

Names = Annotated[tuple[str, ...], ListAsTuple]
Groups = Annotated[tuple[Names, ...], ListAsTuple]


class SourceFile(Frozen):
    """A file from which a scene was made.

    Attributes:
        path: Relative to the data set's folder.
        size_bytes: Its size.
        sha256: Hexadecimal SHA-256 of its contents.
    """

    path: str
    size_bytes: int
    sha256: str


class BandStatistics(Frozen):
    """One band over the pixels of one scene that have data; all 0 where none has.

    Attributes:
        name: The band.
        minimum: Smallest value.
        p02: 2nd percentile, like the other percentiles of every n-th pixel, a quarter of a million at most.
        p50: Median.
        p98: 98th percentile.
        maximum: Largest value.
        mean: Mean.
        std: Standard deviation.
    """

    name: str
    minimum: float
    p02: float
    p50: float
    p98: float
    maximum: float
    mean: float
    std: float


class GroupRecord(Frozen):
    """A group of bands as its file holds it.

    Attributes:
        name: Of the group.
        bands: Their names, one per plane.
        height_px: Rows.
        width_px: Columns.
        dtype: Type of the numbers, such as "uint16".
    """

    name: str
    bands: Names
    height_px: int
    width_px: int
    dtype: str


class SceneRecord(Frozen):
    """What the manifest says of one scene.

    Attributes:
        id: Its name, also of its folder.
        key: Fingerprint of the sources' contents and of every setting that shapes the scene.
        labelled: Whether it came with labels; without, no pixel is known.
        height_px: Rows of the cube.
        width_px: Columns of the cube.
        sources: The files it was made from.
        georeference: Where the cube lies.
        pixel_m: Side of the cube's pixels on the ground; None where nobody knows.
        groups: The groups of bands that were read, the first one being the scene's own grid.
        shifts: Of the groups that were registered to the first one, in pixels of the scene's own grid; those not
            accepted were left in place.
        bands: Statistics per band, in the cube's order.
        class_shares: Share of the known pixels that each class covers.
        class_areas_px: Number of pixels that each class covers.
        class_areas_m2: The same on the ground; empty where the size of a pixel is not known.
        known_share: Share of all pixels that have data and a label.
        valid_share: Share of all pixels that have data.
        outlined: Whether the labels came as polygons, which are kept beside the masks.
    """

    id: str
    key: str
    labelled: bool
    height_px: int
    width_px: int
    sources: Annotated[tuple[SourceFile, ...], ListAsTuple]
    georeference: Georeference
    bands: Annotated[tuple[BandStatistics, ...], ListAsTuple]
    class_shares: dict[str, float]
    known_share: float
    valid_share: float
    pixel_m: float | None = None
    groups: Annotated[tuple[GroupRecord, ...], ListAsTuple] = ()
    shifts: Annotated[tuple[Shift, ...], ListAsTuple] = ()
    class_areas_px: dict[str, int] = {}
    class_areas_m2: dict[str, float] = {}
    outlined: bool = False


class GroundLink(Frozen):
    """Why two scenes count as showing the same ground.

    Attributes:
        scenes: Their ids.
        found: "given" by the data set, or found by overlapping "footprint" or by "correlation" of what they show.
        score: Share of the smaller footprint that both cover, or the correlation; 1 where given.
    """

    scenes: Annotated[tuple[str, str], ListAsTuple]
    found: Literal["given", "footprint", "correlation"]
    score: float = 1.0


class MadeFor(Frozen):
    """The settings that shaped the data set; a study with others cannot use it.

    Attributes:
        format: As in `DataSettings`, like all others.
        options: What only the adapter understands.
        classes: Classes asked for.
        bands: Bands asked for; all where empty.
        indices: Spectral indices asked for.
        grid: Where all bands were brought to.
        same_ground: Whether scenes of the same ground were looked for.
    """

    format: str
    options: dict[str, Any]
    classes: Names
    bands: Names
    indices: Names
    grid: GridName = NATIVE
    same_ground: Literal["find", "given"] = "find"

    @classmethod
    def of(cls, settings: DataSettings) -> "MadeFor":
        """Take them from a study's `[data]`."""
        return cls(**{name: getattr(settings, name) for name in cls.model_fields})


class Manifest(Frozen):
    """`manifest.json`: the whole data set as prepared; written last, so it is there only when everything is.

    Attributes:
        version: Of the layout on disk.
        made_for: The settings that shaped the arrays.
        classes: In the order of the masks' last axis.
        bands: In the order of the cubes' last axis; spectral indices last, without wavelengths.
        same_ground: Groups of scenes that no fold may split.
        scenes: Sorted by id.
        same_ground_links: Why; the pairs that make the groups.
    """

    version: int
    made_for: MadeFor
    classes: Names
    bands: Annotated[tuple[Band, ...], ListAsTuple]
    same_ground: Groups
    scenes: Annotated[tuple[SceneRecord, ...], ListAsTuple]
    same_ground_links: Annotated[tuple[GroundLink, ...], ListAsTuple] = ()

    @property
    def fingerprint(self) -> str:
        """Equal exactly for data sets made from equal files with equal settings."""
        # Scenes of the same ground steer folds, so another finding makes another data set.
        return fingerprint([self.version, {record.id: record.key for record in self.scenes}, self.same_ground])


@dataclass(frozen=True)
class PreparedScene:
    """One prepared scene; its arrays are memory-mapped when first used, read-only.

    Attributes:
        folder: Where its files lie.
        record: What the manifest says of it.
    """

    folder: Path
    record: SceneRecord

    @property
    def id(self) -> str:
        """Its name."""
        return self.record.id

    @property
    def labelled(self) -> bool:
        """Whether it came with labels."""
        return self.record.labelled

    @property
    def shape_px(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.record.height_px, self.record.width_px

    @property
    def georeference(self) -> Georeference:
        """Where it lies."""
        return self.record.georeference

    @property
    def bands(self) -> tuple[str, ...]:
        """Band names in the order of the cube's last axis, indices last."""
        return tuple(band.name for band in self.record.bands)

    @property
    def source(self) -> str:
        """Changes when anything the scene was made from changes."""
        return self.record.key

    @property
    def quicklook(self) -> Path:
        """A picture of the scene with its labels drawn in."""
        return self.folder / QUICKLOOK

    @cached_property
    def cube(self) -> NDArray[np.float32]:
        """float32 `(H, W, B)` in the sensor's units, indices last; NaN where there is no data."""
        return self._map(CUBE, np.float32, (*self.shape_px, len(self.record.bands)))

    @cached_property
    def masks(self) -> NDArray[np.uint8]:
        """uint8 `(H, W, K)`, 1 where a class is; 0 where nothing is known."""
        return self._map(MASKS, np.uint8, (*self.shape_px, len(self.record.class_shares)))

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Bool `(H, W)`, True where there is data."""
        return self._map(VALID, np.bool_, self.shape_px)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Bool `(H, W)`, True where there is data and someone has said what is on the ground."""
        return self._map(KNOWN, np.bool_, self.shape_px)

    @cached_property
    def thumbnail(self) -> NDArray[np.float32]:
        """float32 `(h, w)`, the scene's edges in small; NaN where there is no data."""
        return np.array(np.load(self.folder / THUMBNAIL, allow_pickle=False), np.float32)

    def outlines(self, class_name: str) -> list[shapely.Polygon] | None:
        """The polygons of a class in pixel coordinates, as its labels have them; None where these are no polygons.

        Raises:
            DataError: They are missing or damaged.
        """
        return read_outlines(self.folder / OUTLINES).get(class_name, []) if self.record.outlined else None

    def check(self) -> None:
        """See that every array is there, whole, and of the manifest's shape; no pixel is read.

        Raises:
            DataError: Otherwise.
        """
        for name in ("cube", "masks", "valid", "known"):
            getattr(self, name)
        if self.record.outlined and not (self.folder / OUTLINES).is_file():
            raise DataError(f"{self.folder / OUTLINES} is missing", remedy=REMEDY)

    def _map(self, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
        path = self.folder / name
        try:
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} is missing or damaged: {error}", remedy=REMEDY) from error
        if array.dtype != dtype or array.shape != shape:
            raise DataError(
                f"{path} is not what the manifest says", received=f"{array.dtype} {array.shape}", remedy=REMEDY
            )
        return array


@dataclass(frozen=True)
class PreparedDataset:
    """A whole prepared data set.

    Attributes:
        folder: Where it lies.
        manifest: What is in it.
    """

    folder: Path
    manifest: Manifest

    @property
    def input_bands(self) -> tuple[InputBand, ...]:
        """The bands of the cubes, each with how often its sensor's resolution is half of the grid's.

        Indices are computed on the grid and have its resolution. Scenes are of one sensor: the first one tells.
        """
        record = self.manifest.scenes[0]
        levels = {
            band: max(0, round(math.log2(record.height_px / group.height_px)))
            for group in record.groups
            for band in group.bands
        }
        return tuple(InputBand(band.name, levels.get(band.name, 0)) for band in self.manifest.bands)

    @classmethod
    def open_for(cls, settings: DataSettings) -> "PreparedDataset":
        """Open what `prepare` has written for a study's `[data]`.

        Raises:
            DataError: It is missing, unfinished, damaged, of another version, or was made with other settings; the
                first one that differs is named.
        """
        dataset = cls.open(Path(settings.prepared))
        made, asked = encode(dataset.manifest.made_for), encode(MadeFor.of(settings))
        for name in made:
            if canonical_json(made[name]) != canonical_json(asked[name]):
                raise DataError(
                    f"{dataset.folder} was prepared with another data.{name} than the study's",
                    received={"prepared": made[name], "study": asked[name]},
                    remedy="Run `prepare` again, or give the study a data.prepared of its own",
                )
        return dataset

    @classmethod
    def open(cls, folder: Path) -> "PreparedDataset":
        """Open what `prepare` has written, whatever for.

        Raises:
            DataError: It is missing, unfinished, damaged, or of another version.
        """
        path = folder / MANIFEST
        if not path.is_file():
            what = "The data set is only partly prepared" if folder.is_dir() else "The data set is not prepared yet"
            raise DataError(what, received=str(folder), remedy=REMEDY)
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise DataError(f"{path} is damaged or of another version: {reason}", remedy=REMEDY) from error
        if manifest.version != FORMAT_VERSION:
            raise DataError(f"{path}: prepared by another version", received=manifest.version, remedy=REMEDY)
        dataset = cls(folder, manifest)
        for scene_id in dataset.scene_ids:
            dataset.scene(scene_id).check()
        return dataset

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the masks' last axis."""
        return self.manifest.classes

    @property
    def bands(self) -> tuple[str, ...]:
        """Band names in the order of the cubes' last axis, indices last."""
        return tuple(band.name for band in self.manifest.bands)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: equal exactly for data sets made from equal files with equal settings."""
        return self.manifest.fingerprint

    @property
    def scene_ids(self) -> tuple[str, ...]:
        """Every scene, sorted."""
        return tuple(record.id for record in self.manifest.scenes)

    def scene(self, scene_id: str) -> PreparedScene:
        """Return one scene.

        Raises:
            DataError: No such scene; the nearest one is named.
        """
        for record in self.manifest.scenes:
            if record.id == scene_id:
                return PreparedScene(self.folder / scene_id, record)
        raise DataError("There is no such scene", received=scene_id, remedy=did_you_mean(scene_id, self.scene_ids))

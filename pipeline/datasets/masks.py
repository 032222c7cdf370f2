"""A folder of images and label rasters: GeoTIFF, TIFF, PNG or JPEG, matched by name."""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from rasterio.crs import CRS

from pipeline.datasets.base import existing_folder
from pipeline.datasets.groups import ImageFile, Images, default_band_names, read_images
from pipeline.datasets.labels import IGNORED, Meanings, as_codes, labels_from_codes
from pipeline.datasets.patterns import find_files, refuse_half_labelled, warn_of_unused, with_companions
from pipeline.datasets.raster import NoData, Raster, read_raster
from pipeline.scene import Band, DataError, RasterLabels, Scene
from search_space.decode import Frozen, ListAsTuple, Whole, decode
from search_space.names import Names

logger = logging.getLogger(__name__)

Colour = Annotated[tuple[Whole, Whole, Whole], ListAsTuple]
Code = Whole | Colour
Level = Annotated[float, Field(gt=0.0)]

_JPEG = (".jpg", ".jpeg")


class MasksOptions(Frozen):
    """`[data.options]` of the format `masks`.

    Attributes:
        images: Pattern of the images below the folder; what stands for `*` is the scene's name.
        masks: Pattern of the label rasters, which hold all classes; or one for each class. The same name belongs to
            the same scene. No labels where empty.
        values: Class name to its value in label rasters that hold all classes, a whole number or a colour `[R, G, B]`.
        on: Least value of a pixel that is of the class, where each class has files of its own; by default all but 0.
            For each class where they differ.
        ignore: Values of pixels about which nothing is known: never trained on, never scored.
        ignored: Pattern of rasters that are on where nothing is known, whatever the masks say.
        background: Values of pixels that belong to no class.
        band_names: Names of the images' bands; red, green, blue for three, band1 … otherwise, where empty.
        nodata: Pixels of which all bands have this value have no data; by default what the file itself says.
    """

    images: str = "images/*"
    masks: str | dict[str, str] = "masks/*"
    values: Annotated[dict[str, Code], Field(min_length=1)] | None = None
    on: Level | dict[str, Level] | None = None
    ignore: Annotated[tuple[Code, ...], ListAsTuple] = ()
    ignored: str = ""
    background: Annotated[tuple[Code, ...], ListAsTuple] | None = None
    band_names: Names = ()
    nodata: NoData | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.masks, dict):
            self._check_class_files(self.masks)
        else:
            self._check_values()
        return self

    def _check_class_files(self, masks: Mapping[str, str]) -> None:
        if not masks:
            raise ValueError("`masks` names no class")
        files = list(masks.values())
        if twice := [name for name, pattern in masks.items() if files.count(pattern) > 1]:
            raise ValueError(f"`masks` gives {twice[0]} and {twice[1]} the same files")
        for option in ("values", "background"):
            if getattr(self, option) is not None:
                raise ValueError(f"`masks` has files for each class, so `{option}` means nothing")
        if any(isinstance(code, tuple) for code in self.ignore):
            raise ValueError("`ignore` must hold whole numbers, as `masks` has files for each class")
        strange = set(self.on) - set(masks) if isinstance(self.on, dict) else set()
        if strange:
            raise ValueError(f"`on` names {sorted(strange)[0]!r}, which is no class")

    def _check_values(self) -> None:
        if self.values is None:
            raise ValueError(
                "the key 'values' is missing: what stands for each class; or name files for each in `masks`"
            )
        if self.on is not None:
            raise ValueError("`on` means nothing, as `masks` has no files for each class")
        codes = [*self.values.values(), *self.ignore, *(self.background or ())]
        if len({isinstance(code, tuple) for code in codes}) > 1:
            raise ValueError("`values`, `ignore` and `background` are all whole numbers, or all colours [R, G, B]")
        if len(set(codes)) < len(codes):
            raise ValueError("a value is given two meanings in `values`, `ignore` and `background`")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every class that labels can have."""
        return tuple(self.masks) if isinstance(self.masks, dict) else tuple(self.values or ())

    @property
    def mask_patterns(self) -> dict[str, str]:
        """Class to the pattern of its files; `IGNORED` stands for all classes in one file."""
        if isinstance(self.masks, dict):
            return self.masks
        return {IGNORED: self.masks} if self.masks else {}

    @property
    def coloured(self) -> bool:
        """Whether label rasters are read as colours."""
        return isinstance(next(iter((self.values or {"": 0}).values())), tuple)

    @property
    def meanings(self) -> Meanings:
        """What codes stand for; black belongs to no class unless it is said to be anything."""
        values, black = self.values or {}, (0, 0, 0) if self.coloured else 0
        background = self.background
        if background is None:
            background = () if black in (*values.values(), *self.ignore) else (black,)
        return Meanings(
            classes={_number(code): name for name, code in values.items()},
            ignore=tuple(map(_number, self.ignore)),
            background=tuple(map(_number, background)),
        )

    def level(self, class_name: str) -> float | None:
        """Least value of a pixel that is of the class; None for all but 0."""
        return self.on.get(class_name) if isinstance(self.on, dict) else self.on


@dataclass(frozen=True)
class _Files:
    """Scene id to image; class to scene id to label raster; scene id to the raster of unknown ground."""

    images: Mapping[str, Path]
    masks: Mapping[str, Mapping[str, Path]]
    ignored: Mapping[str, Path]

    def labels_of(self, scene_id: str) -> Iterator[Path]:
        for found in (*self.masks.values(), self.ignored):
            if scene_id in found:
                yield found[scene_id]


class MasksAdapter:
    """Images with label rasters as a data set.

    Args:
        folder: Where the patterns start.
        options: Plain `MasksOptions`.
    """

    same_ground: tuple[tuple[str, ...], ...] = ()

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self._folder = folder
        self._plain = options
        self._options = decode(MasksOptions, options, where="data.options")
        self._image: Path | None = None

    @property
    def scene_ids(self) -> tuple[str, ...]:
        """See `Adapter.scene_ids`."""
        return tuple(sorted(self._files.images))

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `Adapter.class_names`."""
        return self._options.class_names

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """As named in the options, otherwise by the number of bands of the first image that can be read."""
        names = self._options.band_names or default_band_names(self._num_bands())
        return tuple(Band(name=name) for name in names)

    def _num_bands(self) -> int:
        damaged: DataError | None = None
        for scene_id in self.scene_ids:
            try:
                return len(read_raster(self._files.images[scene_id], by_rows=True).planes)
            except DataError as error:
                # It will be told when its turn comes; others may be whole.
                damaged = damaged or error
        raise damaged or DataError("there is no image to read the number of bands from")

    @cached_property
    def _files(self) -> _Files:
        if self._image is not None:
            return _Files({self._image.stem: self._image}, {}, {})
        options = self._options
        return _Files(
            find_files(self._folder, options.images, "images"),
            {
                name: find_files(self._folder, pattern, f"masks.{name}" if name else "masks")
                for name, pattern in options.mask_patterns.items()
            },
            find_files(self._folder, options.ignored, "ignored") if options.ignored else {},
        )

    def check(self) -> None:
        """See `Adapter.check`."""
        existing_folder(self._folder, "Mend data.folder")
        files = self._files
        if not files.images:
            raise DataError(
                "data.options.images: no image matches the pattern",
                received=str(self._folder / self._options.images),
                remedy="Mend the pattern or data.folder",
            )
        unused: dict[str, None] = {}
        for option, pattern, found in self._label_patterns():
            orphans = sorted(set(found) - set(files.images))
            if not set(found) & set(files.images):
                raise DataError(
                    f"data.options.{option}: no label raster matches an image",
                    received=str(self._folder / pattern),
                    remedy=f"Images are named {', '.join(sorted(files.images)[:3])}; {_named_like(orphans)}",
                )
            unused |= dict.fromkeys(orphans)
        warn_of_unused(unused)
        refuse_half_labelled(files.images, files.masks)

    def sources(self, scene_id: str, bands: Collection[str]) -> tuple[Path, ...]:  # noqa: ARG002
        """See `Adapter.sources`; an image is one file, whichever bands are needed."""
        return with_companions([self._files.images[scene_id], *self._files.labels_of(scene_id)])

    def read(self, scene_id: str, bands: Collection[str]) -> Scene:  # noqa: ARG002
        """See `Adapter.read`."""
        names = tuple(band.name for band in self.bands)
        files = [ImageFile("image", self._files.images[scene_id], names, self._options.nodata)]
        images = read_images(files, by_rows=self._image is not None)
        return images.scene(scene_id, self._read_labels(scene_id, images))

    def of_image(self, path: Path) -> Self:
        """See `Adapter.of_image`."""
        other = type(self)(self._folder, self._plain)
        other._image = path
        return other

    def _label_patterns(self) -> Iterator[tuple[str, str, Mapping[str, Path]]]:
        """Option, pattern and what it matches."""
        for name, pattern in self._options.mask_patterns.items():
            yield f"masks.{name}" if name else "masks", pattern, self._files.masks[name]
        if self._options.ignored:
            yield "ignored", self._options.ignored, self._files.ignored

    def _read_labels(self, scene_id: str, images: Images) -> RasterLabels | None:
        files = self._files
        paths = {name: found[scene_id] for name, found in files.masks.items() if scene_id in found}
        if not paths:
            return None
        labels = self._read_codes(paths[IGNORED], images) if IGNORED in paths else self._read_classes(paths, images)
        if scene_id not in files.ignored:
            return labels
        unknown, _ = self._read_on(files.ignored[scene_id], images, self._options.level(IGNORED))
        return replace(labels, known=labels.known & ~unknown)

    def _read_codes(self, path: Path, images: Images) -> RasterLabels:
        """Labels whose raster holds all classes."""
        mask = _matching(path, images, unfold_palette=self._options.coloured)
        if self._options.coloured:
            return labels_from_codes(_as_colours(mask.planes, path), self._options.meanings, path, _colour)
        codes = as_codes(mask, path, "Give colours [R, G, B] in data.options.values")
        return labels_from_codes(codes, self._options.meanings, path)

    def _read_classes(self, paths: Mapping[str, Path], images: Images) -> RasterLabels:
        """Labels with a raster for each class."""
        read = {name: self._read_on(path, images, self._options.level(name)) for name, path in paths.items()}
        known = np.logical_and.reduce([known for _, known in read.values()])
        return RasterLabels({name: on for name, (on, _) in read.items()}, known)

    def _read_on(self, path: Path, images: Images, level: float | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Where a raster is on, and where it says anything, both `(H, W)`."""
        if level is None and path.suffix.lower() in _JPEG:
            raise DataError(
                f"{path}: JPEG blurs masks, so it must be said from which value on a pixel counts",
                remedy="Write for example data.options.on = 128",
            )
        values = _colours(_matching(path, images, unfold_palette=True).planes)
        if not np.isfinite(values).all():
            raise DataError(f"{path}: masks must hold numbers", received="not-a-number", remedy="Export it again")
        if level is not None and np.issubdtype(values.dtype, np.integer) and level > np.iinfo(values.dtype).max:
            raise DataError(
                f"{path}: no pixel of {values.dtype} reaches data.options.on",
                received=level,
                remedy=f"Lower it; the largest value there is {values.max()}",
            )
        # A mask in red, or in any other colour, is on where it is not black.
        value = values.max(axis=0)
        known = ~np.isin(value, [_number(code) for code in self._options.ignore])
        return (value > 0 if level is None else value >= level) & known, known


def _matching(path: Path, images: Images, *, unfold_palette: bool) -> Raster:
    """A label raster that fits its image."""
    mask, image_path = read_raster(path, unfold_palette=unfold_palette), images.groups[0].path
    if mask.planes.shape[1:] != images.shape:
        raise DataError(
            f"{path}: the label raster must be as large as its image {image_path}",
            received={"label": mask.planes.shape[1:], "image": images.shape},
            remedy="Export it again in the image's size (rows, columns)",
        )
    if _lie_apart(mask, images):
        raise DataError(
            f"{path}: the label raster lies elsewhere on Earth than its image {image_path}",
            received={"label": mask.transform, "image": images.georeference.transform},
            remedy="Export it again on the image's grid, or without a georeference; the format geotiff resamples it",
        )
    return mask


def _lie_apart(mask: Raster, images: Images) -> bool:
    """Whether both have a place, and these differ by more than half a pixel somewhere."""
    image = images.georeference
    if mask.transform is None or image.transform is None:
        return False
    if mask.crs and image.crs and CRS.from_wkt(mask.crs) != CRS.from_wkt(image.crs):
        return True
    height, width = images.shape
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1)])
    ours, theirs = (corners @ np.reshape(transform, (2, 3)).T for transform in (mask.transform, image.transform))
    pixel = max(abs(value) for value in (*image.transform[:2], *image.transform[3:5]))
    return bool(np.abs(ours - theirs).max() > pixel / 2)


def _colours(planes: NDArray[Any]) -> NDArray[Any]:
    """Without the opacity that follows grey or red, green and blue."""
    return planes[:-1] if len(planes) in (2, 4) else planes


def _number(code: int | tuple[int, int, int]) -> int:
    if isinstance(code, tuple):
        return code[0] << 16 | code[1] << 8 | code[2]
    return code


def _colour(number: int) -> list[int]:
    return [number >> 16, number >> 8 & 255, number & 255]


def _as_colours(planes: NDArray[Any], path: Path) -> NDArray[np.int64]:
    if len(planes) not in (3, 4) or planes.dtype != np.uint8:
        raise DataError(
            f"{path}: the label raster must be an 8-bit colour picture, as data.options.values are colours",
            received=f"{len(planes)} bands of {planes.dtype}",
            remedy="Give whole numbers in data.options.values",
        )
    red, green, blue = planes[:3].astype(np.int64)
    codes: NDArray[np.int64] = red << 16 | green << 8 | blue
    return codes


def _named_like(names: list[str]) -> str:
    return f"label rasters are named {', '.join(names[:3])}" if names else "no file matches"

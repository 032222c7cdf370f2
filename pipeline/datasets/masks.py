"""A folder of images and label rasters: GeoTIFF, TIFF, PNG or JPEG, matched by name."""

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from rasterio.crs import CRS

from pipeline.datasets.base import existing_folder
from pipeline.datasets.raster import Raster, read_raster
from pipeline.scene import Band, BandGroup, DataError, Georeference, RasterLabels, Scene
from search_space.decode import Frozen, ListAsTuple, Whole, decode

logger = logging.getLogger(__name__)

Colour = Annotated[tuple[Whole, Whole, Whole], ListAsTuple]
Code = Whole | Colour
Names = Annotated[tuple[str, ...], ListAsTuple]


SIDECARS = (".xml", ".tfw", ".tifw", ".jgw", ".pgw", ".wld", ".prj", ".ovr", ".msk", ".txt", ".csv", ".json")
"""Endings of files that lie beside pictures and are none."""


class MasksOptions(Frozen):
    """`[data.options]` of the format `masks`.

    Attributes:
        images: Pattern of the images below the folder; what stands for `*` is the scene's name.
        masks: Pattern of the label rasters; the same name belongs to the same scene. No labels where empty.
        values: Class name to its value in the label rasters, a whole number or a colour `[R, G, B]`.
        ignore: Values of pixels about which nothing is known: never trained on, never scored.
        background: Values of pixels that belong to no class.
        band_names: Names of the images' bands; red, green, blue for three, band1 … otherwise, where empty.
        nodata: Pixels of which all bands have this value have no data; by default what the file itself says.
    """

    images: str = "images/*"
    masks: str = "masks/*"
    values: Annotated[dict[str, Code], Field(min_length=1)]
    ignore: Annotated[tuple[Code, ...], ListAsTuple] = ()
    background: Annotated[tuple[Code, ...], ListAsTuple] | None = None
    band_names: Names = ()
    nodata: float | Literal["nan"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        codes = [*self.values.values(), *self.ignore, *(self.background or ())]
        if len({isinstance(code, tuple) for code in codes}) > 1:
            raise ValueError("`values`, `ignore` and `background` are all whole numbers, or all colours [R, G, B]")
        if len(set(codes)) < len(codes):
            raise ValueError("a value is given two meanings in `values`, `ignore` and `background`")
        if len(set(self.band_names)) < len(self.band_names):
            raise ValueError("`band_names` names something twice")
        return self

    @property
    def coloured(self) -> bool:
        """Whether label rasters are read as colours."""
        return isinstance(next(iter(self.values.values())), tuple)

    @property
    def background_codes(self) -> tuple[Any, ...]:
        """Values that belong to no class: black unless said otherwise, or unless black has a meaning of its own."""
        if self.background is not None:
            return self.background
        black = (0, 0, 0) if self.coloured else 0
        return () if black in (*self.values.values(), *self.ignore) else (black,)


@dataclass(frozen=True)
class _Files:
    """Scene id to image, and to label raster where there is one."""

    images: Mapping[str, Path]
    masks: Mapping[str, Path]


class MasksAdapter:
    """Images with label rasters as a data set.

    Args:
        folder: Where the patterns start.
        options: Plain `MasksOptions`.
    """

    same_ground: tuple[tuple[str, ...], ...] = ()

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self._folder = folder
        self._options = decode(MasksOptions, options, where="data.options")

    @property
    def scene_ids(self) -> tuple[str, ...]:
        """See `Adapter.scene_ids`."""
        return tuple(sorted(self._files.images))

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `Adapter.class_names`."""
        return tuple(self._options.values)

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """As named in the options, otherwise by the number of bands of the first image."""
        names = self._options.band_names
        if not names:
            names = _band_names(len(read_raster(self._files.images[self.scene_ids[0]]).planes))
        return tuple(Band(name=name) for name in names)

    @cached_property
    def _files(self) -> _Files:
        images = _find(self._folder, self._options.images, "images")
        masks = _find(self._folder, self._options.masks, "masks") if self._options.masks else {}
        return _Files(images, masks)

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
        orphans = sorted(set(files.masks) - set(files.images))
        if self._options.masks and not set(files.masks) & set(files.images):
            raise DataError(
                "data.options.masks: no label raster matches an image",
                received=str(self._folder / self._options.masks),
                remedy=f"Images are named {', '.join(sorted(files.images)[:3])}; {_named_like(orphans)}",
            )
        if orphans:
            logger.warning("%d label rasters have no image: %s", len(orphans), ", ".join(orphans[:10]))

    def sources(self, scene_id: str, bands: Collection[str]) -> tuple[Path, ...]:  # noqa: ARG002
        """See `Adapter.sources`; an image is one file, whichever bands are needed."""
        image, mask = self._files.images[scene_id], self._files.masks.get(scene_id)
        return (image,) if mask is None else (image, mask)

    def read(self, scene_id: str, bands: Collection[str]) -> Scene:  # noqa: ARG002
        """See `Adapter.read`."""
        path = self._files.images[scene_id]
        image = read_raster(path)
        names = tuple(band.name for band in self.bands)
        if len(image.planes) != len(names):
            raise DataError(
                f"{path}: the image must have {len(names)} bands ({', '.join(names)})",
                received=len(image.planes),
                remedy="Mend data.options.band_names if that is the number of all images, else leave this one out",
            )
        mask = self._files.masks.get(scene_id)
        labels = None if mask is None else self._read_labels(mask, path, image)
        return _scene(scene_id, path, image, names, self._options.nodata, labels)

    def _read_labels(self, path: Path, image_path: Path, image: Raster) -> RasterLabels:
        mask = read_raster(path, unfold_palette=self._options.coloured)
        if mask.planes.shape[1:] != image.planes.shape[1:]:
            raise DataError(
                f"{path}: the label raster must be as large as its image {image_path}",
                received={"label": mask.planes.shape[1:], "image": image.planes.shape[1:]},
                remedy="Export it again in the image's size (rows, columns)",
            )
        if _lie_apart(mask, image):
            raise DataError(
                f"{path}: the label raster lies elsewhere on Earth than its image {image_path}",
                received={"label": mask.transform, "image": image.transform},
                remedy="Export it again on the image's grid, or without a georeference",
            )
        codes = _as_colours(mask.planes, path) if self._options.coloured else _as_values(mask.planes, path)
        by_class = {name: codes == _number(code) for name, code in self._options.values.items()}
        known = ~np.isin(codes, [_number(code) for code in self._options.ignore])
        self._refuse_unknown(codes, path)
        return RasterLabels(by_class, known)

    def _refuse_unknown(self, codes: NDArray[np.int64], path: Path) -> None:
        options = self._options
        allowed = [*options.values.values(), *options.ignore, *options.background_codes]
        found, counts = np.unique(codes, return_counts=True)
        strange = ~np.isin(found, [_number(code) for code in allowed])
        if strange.any():
            most = int(np.argmax(np.where(strange, counts, 0)))
            value = int(found[most])
            shown = [value >> 16, value >> 8 & 255, value & 255] if options.coloured else value
            raise DataError(
                f"{path}: {int(counts[strange].sum())} pixels have a value without a meaning, "
                f"{int(counts[most])} of them {shown}",
                received=f"{int(strange.sum())} such values",
                remedy="Add it to data.options.values, ignore or background",
            )


def read_image(path: Path, options: Mapping[str, Any]) -> Scene:
    """Read one image by itself, with the bands and the no-data value that a data set's options tell.

    Args:
        path: The image.
        options: Plain `MasksOptions` of the data set whose bands it has; its patterns do not matter.

    Returns:
        A scene named like the file, without labels.

    Raises:
        DataError: A missing or corrupt file, or another number of bands than the options name.
    """
    decoded = decode(MasksOptions, options, where="data.options")
    image = read_raster(path)
    names = decoded.band_names or _band_names(len(image.planes))
    if len(image.planes) != len(names):
        raise DataError(f"{path}: the image must have the bands {', '.join(names)}", received=len(image.planes))
    return _scene(path.stem, path, image, names, decoded.nodata, None)


def _scene(
    scene_id: str,
    path: Path,
    image: Raster,
    names: Names,
    nodata: float | Literal["nan"] | None,
    labels: RasterLabels | None,
) -> Scene:
    height, width = image.planes.shape[1:]
    return Scene(
        id=scene_id,
        height_px=height,
        width_px=width,
        groups=(BandGroup(names, image.planes, path, _valid(image, nodata)),),
        labels=labels,
        georeference=Georeference(crs=image.crs, transform=image.transform),
    )


def _valid(image: Raster, wished: float | Literal["nan"] | None) -> NDArray[np.bool_] | None:
    nodata = image.nodata if wished is None else float(wished)
    if nodata is None:
        return image.opaque
    empty = np.isnan(image.planes) if np.isnan(nodata) else image.planes == nodata
    # One band may hold the value by chance; a hole shows in all of them, not-a-number in any.
    valid: NDArray[np.bool_] = ~(empty.any(axis=0) if np.isnan(nodata) else empty.all(axis=0))
    return valid if image.opaque is None else valid & image.opaque


def _band_names(num_bands: int) -> Names:
    return ("red", "green", "blue") if num_bands == 3 else tuple(f"band{n + 1}" for n in range(num_bands))


def _lie_apart(mask: Raster, image: Raster) -> bool:
    """Whether both have a place, and these differ by more than half a pixel somewhere."""
    if mask.transform is None or image.transform is None:
        return False
    if mask.crs and image.crs and CRS.from_wkt(mask.crs) != CRS.from_wkt(image.crs):
        return True
    height, width = image.planes.shape[1:]
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1)])
    ours, theirs = (corners @ np.reshape(transform, (2, 3)).T for transform in (mask.transform, image.transform))
    pixel = max(abs(value) for value in (*image.transform[:2], *image.transform[3:5]))
    return bool(np.abs(ours - theirs).max() > pixel / 2)


def _number(code: int | tuple[int, int, int]) -> int:
    if isinstance(code, tuple):
        return code[0] << 16 | code[1] << 8 | code[2]
    return code


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


def _as_values(planes: NDArray[Any], path: Path) -> NDArray[np.int64]:
    # Many tools save a grey picture as RGB with three equal bands.
    first = planes[0]
    if any(not np.array_equal(first, plane) for plane in planes[1:3]):
        raise DataError(
            f"{path}: the label raster must have one band, as data.options.values are whole numbers",
            received=f"{len(planes)} different bands",
            remedy="Give colours [R, G, B] in data.options.values",
        )
    if not np.issubdtype(first.dtype, np.integer) and not (np.isfinite(first) & (np.trunc(first) == first)).all():
        received = f"fractions or not-a-number in {first.dtype}"
        raise DataError(f"{path}: labels must be whole numbers", received=received, remedy="Export it again")
    values: NDArray[np.int64] = first.astype(np.int64)
    return values


def _find(folder: Path, pattern: str, option: str) -> dict[str, Path]:
    """Scene id to file: the id is what stands for the pattern's stars, without the suffix."""
    if pattern.startswith("/") or ".." in pattern.split("/") or "**" in pattern or "*" not in pattern:
        raise DataError(
            f"data.options.{option}: the pattern lies below data.folder and has a * for the scene's name",
            received=pattern,
            remedy=f"Write for example '{option}/*.png'",
        )
    stem = re.sub(r"\.[^./]*$", "", pattern)
    matcher = re.compile("".join("([^/]*)" if part == "*" else re.escape(part) for part in re.split(r"(\*)", stem)))
    found: dict[str, Path] = {}
    for path in sorted(folder.glob(re.sub(r"([\[?])", r"[\1]", pattern))):
        match = matcher.fullmatch(path.relative_to(folder).with_suffix("").as_posix())
        if match is None or _is_beside(path) or not path.is_file():
            continue
        scene_id = "_".join(part for part in match.groups() if part)
        if scene_id in found:
            raise DataError(
                f"data.options.{option}: two files belong to the scene {scene_id}",
                received=[found[scene_id].name, path.name],
                remedy="Narrow the pattern, or rename one",
            )
        found[scene_id] = path
    return found


def _is_beside(path: Path) -> bool:
    """Hidden files, and what GIS programs leave beside a picture."""
    return path.name.startswith(".") or path.suffix.lower() in SIDECARS


def _named_like(names: list[str]) -> str:
    return f"label rasters are named {', '.join(names[:3])}" if names else "no file matches"

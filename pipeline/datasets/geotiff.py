"""Georeferenced images, one or several files per scene, with labels as vectors or rasters anywhere on Earth."""

import logging
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from rasterio.crs import CRS

from pipeline.datasets.base import check_names, existing_folder
from pipeline.datasets.geotiff_labels import NO_LABELS, LabelFiles, read_labels, refuse_far_off
from pipeline.datasets.geotiff_options import ONLY_GROUP, GeotiffOptions
from pipeline.datasets.groups import ImageFile, default_band_names, read_images
from pipeline.datasets.patterns import find_files, root_and_id, with_companions
from pipeline.datasets.places import Ground, known_crs
from pipeline.datasets.raster import read_header
from pipeline.scene import Band, DataError, Scene
from search_space.decode import decode

logger = logging.getLogger(__name__)


class GeotiffAdapter:
    """Georeferenced images with labels as a data set.

    Args:
        folder: Where the patterns start.
        options: Plain `GeotiffOptions`.
    """

    same_ground: tuple[tuple[str, ...], ...] = ()

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self._folder = folder
        self._plain = options
        self._options = decode(GeotiffOptions, options, where="data.options")
        self._image: Path | None = None

    @property
    def scene_ids(self) -> tuple[str, ...]:
        """See `Adapter.scene_ids`: those that have the image whose grid is the scene's."""
        return tuple(sorted(self._images[self._first]))

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `Adapter.class_names`."""
        return self._options.class_names

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """As named in the options, otherwise by the number of bands of the first scene's files."""
        names = [name for group in self._images for name in self._names(group)]
        if len(set(names)) < len(names):
            raise DataError("two bands have one name", received=names, remedy="Name them in data.options.band_names")
        wavelengths = self._options.wavelengths_nm
        check_names("data.options.wavelengths_nm: the band", tuple(wavelengths), names)
        return tuple(Band(name=name, wavelength_nm=wavelengths.get(name)) for name in names)

    def check(self) -> None:
        """See `Adapter.check`."""
        existing_folder(self._folder, "Mend data.folder")
        if not self._images[self._first]:
            raise DataError(
                f"data.options.{_option(self._first)}: no image matches the pattern",
                received=str(self._folder / self._options.image_patterns[self._first]),
                remedy="Mend the pattern or data.folder",
            )
        for group, files in self._images.items():
            orphans = sorted(set(files) - set(self.scene_ids))
            if orphans:
                logger.warning(
                    "%d images of %s have no image of %s: %s", len(orphans), group, self._first, orphans[:10]
                )
        self._labels.check(self.scene_ids)
        refuse_far_off(self._options, self._labels, self._grounds())

    def sources(self, scene_id: str, bands: Collection[str]) -> tuple[Path, ...]:
        """See `Adapter.sources`; with the files that lie beside an image or a shapefile and belong to it."""
        images = [file.path for file in self._image_files(scene_id, bands)]
        return with_companions([*images, *self._labels.of(scene_id).paths])

    def read(self, scene_id: str, bands: Collection[str]) -> Scene:
        """See `Adapter.read`."""
        files = tuple(self._image_files(scene_id, bands))
        by_rows, may_be_shifted = self._image is not None, self._options.register
        images = read_images(files, self._options.crs, may_be_shifted=may_be_shifted, by_rows=by_rows)
        return images.scene(scene_id, read_labels(self._options, self._labels.of(scene_id), images))

    def of_image(self, path: Path) -> Self:
        """See `Adapter.of_image`."""
        other = type(self)(self._folder, self._plain)
        other._image = path
        return other

    @property
    def _first(self) -> str:
        return next(iter(self._options.image_patterns))

    @cached_property
    def _images(self) -> dict[str, dict[str, Path]]:
        """Group to scene id to file."""
        patterns = self._options.image_patterns
        if self._image is None:
            return {group: find_files(self._folder, text, _option(group)) for group, text in patterns.items()}
        scene_id, place = self._image.stem, root_and_id(self._image, patterns[self._first])
        found: dict[str, dict[str, Path]] = {self._first: {scene_id: self._image}}
        for group in list(patterns)[1:]:
            beside = find_files(place[0], patterns[group], _option(group)) if place else {}
            found[group] = {scene_id: beside[place[1]]} if place and place[1] in beside else {}
        return found

    def _grounds(self) -> Iterator[Ground]:
        """Where scenes lie, by the headers of their images; those without a place are told when they are read."""
        for scene_id in self.scene_ids:
            header = read_header(self._images[self._first][scene_id])
            if header.transform is None:
                continue
            stated = known_crs(self._options.crs, "data.options.crs") if self._options.crs else None
            crs = stated if header.crs is None else CRS.from_wkt(header.crs)
            yield Ground(header.transform, header.height_px, header.width_px, crs)

    @cached_property
    def _labels(self) -> LabelFiles:
        if self._image is not None:
            return NO_LABELS
        return LabelFiles.find(self._folder, self._options)

    def _names(self, group: str) -> tuple[str, ...]:
        names = self._options.names_of(group)
        if names:
            return names
        files = self._images[group]
        if not files:
            raise DataError(
                f"data.options.{_option(group)}: no image matches the pattern",
                received=self._options.image_patterns[group],
                remedy="Mend the pattern, or name its bands in data.options.band_names",
            )
        several = len(self._options.image_patterns) > 1
        num_bands = read_header(files[min(files)]).num_bands
        return default_band_names(num_bands, group if several else "")

    def _image_files(self, scene_id: str, bands: Collection[str]) -> Iterator[ImageFile]:
        """The scene's files that hold one of `bands`; the first one always, as it is the grid."""
        for group, files in self._images.items():
            if group != self._first and not set(self._names(group)) & set(bands):
                continue
            if scene_id not in files:
                raise self._lacking(scene_id, group)
            yield ImageFile(group, files[scene_id], self._names(group), self._options.nodata_of(group))

    def _lacking(self, scene_id: str, group: str) -> DataError:
        patterns = self._options.image_patterns
        if self._image is None:
            return DataError(
                f"data.options.{_option(group)}: the scene {scene_id} has no such image",
                received=str(self._folder / patterns[group]),
                remedy="Fetch it, or leave its bands out of data.bands",
            )
        place = root_and_id(self._image, patterns[self._first])
        if place is None:
            return DataError(
                f"{self._image}: one file does not hold all bands of the study, and as it is not named like "
                f"{patterns[self._first]!r}, nothing tells where that of {group} lies",
                remedy="Name and lay out the scene's files as the data set does (data.options.images), "
                f"and give the one of {self._first}",
            )
        return DataError(
            f"{self._image}: one file does not hold all bands of the study, and that of {group} is missing",
            received=str(place[0] / patterns[group].replace("*", place[1], 1)),
            remedy="Put it there",
        )


def _option(group: str) -> str:
    return "images" if group == ONLY_GROUP else f"images.{group}"

"""The image files of a scene as groups of bands, each laid onto the grid of the first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from pipeline.datasets.places import Ground, is_on_earth, known_crs, placement, warp
from pipeline.datasets.raster import NoData, Raster, read_raster, valid_pixels
from pipeline.imagery.geodesy import pixel_side_m
from pipeline.scene import BandGroup, DataError, Georeference, PolygonLabels, RasterLabels, Scene


@dataclass(frozen=True)
class ImageFile:
    """An image of a scene and what the study says of it.

    Attributes:
        group: Name of the group that its bands become.
        path: The file.
        bands: Names of its bands, in order.
        nodata: The value that means no data; what the file declares where None.
    """

    group: str
    path: Path
    bands: tuple[str, ...]
    nodata: NoData | None = None


@dataclass(frozen=True)
class Images:
    """The bands of a scene and where they lie.

    Attributes:
        groups: One per file; the first one's grid is the scene's.
        georeference: Where that grid lies.
    """

    groups: tuple[BandGroup, ...]
    georeference: Georeference

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the scene's grid."""
        _, height, width = self.groups[0].planes.shape
        return height, width

    def ground(self, labels: Path) -> Ground:
        """Where the scene lies, for labels that are drawn onto it.

        Raises:
            DataError: The image has no place on a map.
        """
        transform, crs = self.georeference.transform, self.georeference.crs
        if transform is None:
            raise DataError(
                f"{labels}: labels cannot be laid over {self.groups[0].path}, which has no place on a map",
                remedy="Give it one (QGIS: georeferencer; `rio edit-info --transform --crs`), "
                "or use label rasters of its size",
            )
        height, width = self.shape
        return Ground(transform, height, width, None if crs is None else CRS.from_wkt(crs))

    def scene(self, scene_id: str, labels: PolygonLabels | RasterLabels | None) -> Scene:
        """The scene with these bands."""
        height, width = self.shape
        side_m = pixel_side_m(self.georeference, self.shape)
        return Scene(scene_id, height, width, self.groups, labels, self.georeference, side_m)


def default_band_names(num_bands: int, group: str = "") -> tuple[str, ...]:
    """Names of bands that nobody has named.

    Args:
        num_bands: How many there are.
        group: Name of their group; empty where a scene has one only.

    Returns:
        Red, green and blue for three; numbered ones otherwise; beginning with the group's name where there are several.
    """
    if group:
        return (group,) if num_bands == 1 else tuple(f"{group}_{n + 1}" for n in range(num_bands))
    return ("red", "green", "blue") if num_bands == 3 else tuple(f"band{n + 1}" for n in range(num_bands))


def read_images(
    files: Sequence[ImageFile], crs: str = "", *, may_be_shifted: bool = False, by_rows: bool = False
) -> Images:
    """Read the files of a scene.

    Args:
        files: The first one's grid and CRS are the scene's; files in another CRS are brought into it.
        crs: CRS of files that have a transform and do not say what it means.
        may_be_shifted: Whether the others must be registered to the first.
        by_rows: Leave large files on disk; those that must be registered or brought into another CRS are read.

    Raises:
        DataError: A file that is missing, damaged, of another number of bands, or lies elsewhere.
    """
    first, *others = files
    by_rows = by_rows and not may_be_shifted
    raster = _read(first, crs, by_rows=by_rows)
    height, width = raster.planes.shape[1:]
    groups = [_group(first, raster)]
    for file in others:
        other = _read(file, crs, by_rows=by_rows)
        if other.transform is None and raster.transform is None:
            group = _group(file, other)
        elif other.transform is None or raster.transform is None:
            placed, placeless = (file, first) if raster.transform is None else (first, file)
            raise DataError(
                f"{placeless.path}: the image has no place on a map, but {placed.path} of the same scene has one",
                remedy="Give it one, or leave its bands out of data.bands",
            )
        else:
            ground = Ground(raster.transform, height, width, None if raster.crs is None else CRS.from_wkt(raster.crs))
            group = _placed(file, other, ground)
        groups.append(replace(group, may_be_shifted=may_be_shifted))
    return Images(tuple(groups), Georeference(crs=raster.crs, transform=raster.transform))


def _read(file: ImageFile, crs: str, *, by_rows: bool) -> Raster:
    raster = read_raster(file.path, by_rows=by_rows)
    if len(raster.planes) != len(file.bands):
        shown = ", ".join(file.bands[:10]) + (" …" if len(file.bands) > 10 else "")
        raise DataError(
            f"{file.path}: the image must have {len(file.bands)} bands ({shown})",
            received=len(raster.planes),
            remedy="Mend data.options.band_names if that is the number of all images, else leave this one out",
        )
    if raster.transform is not None:
        a, b, _, d, e, _ = raster.transform
        if not np.isfinite(raster.transform).all() or a * e == b * d:
            raise DataError(
                f"{file.path}: the transform must span two directions",
                received=raster.transform,
                remedy="Mend the georeference",
            )
    if raster.crs is None and raster.transform is not None and crs:
        return replace(raster, crs=known_crs(crs, "data.options.crs").to_wkt())
    return raster


def _group(file: ImageFile, raster: Raster) -> BandGroup:
    return BandGroup(file.bands, raster.planes, file.path, valid_pixels(raster, file.nodata), file.group)


def _placed(file: ImageFile, raster: Raster, ground: Ground) -> BandGroup:
    """Bands on a grid of their own that lies somewhere on the scene's."""
    if raster.transform is None:
        raise ValueError("only what has a place can be laid over another")
    # Its check for numbers must come first: warping would smear what is none.
    group, transform = _group(file, raster), raster.transform
    own = None if raster.crs is None else CRS.from_wkt(raster.crs)
    if own != ground.crs:
        if own is None or ground.crs is None or not (is_on_earth(own) and is_on_earth(ground.crs)):
            raise DataError(
                f"{file.path}: the image and the first one of its scene must both say in which CRS they are",
                received={"this": own and own.to_string()[:40], "first": ground.crs and ground.crs.to_string()[:40]},
                remedy='State it, as in data.options.crs = "EPSG:32633"',
            )
        valid = None if group.valid is None else np.asarray(group.valid)
        warped = warp(np.asarray(group.planes), valid, transform, own, ground.crs)
        group, transform = replace(group, planes=warped.planes, valid=warped.valid), warped.transform
    placed = placement(transform, group.planes.shape[1:], ground)
    if placed is not None:
        _refuse_elsewhere(file.path, placed, group.planes, ground)
    return replace(group, placement=placed)


def _refuse_elsewhere(path: Path, placed: tuple[float, ...], planes: NDArray[Any], ground: Ground) -> None:
    height, width = planes.shape[1:]
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)])
    x, y = (corners @ np.reshape(placed, (2, 3)).T).T
    if x.max() <= 0 or y.max() <= 0 or x.min() >= ground.width_px or y.min() >= ground.height_px:
        raise DataError(
            f"{path}: the image lies elsewhere on Earth than the first one of its scene",
            received=f"pixels {x.min():.0f} to {x.max():.0f} across, {y.min():.0f} to {y.max():.0f} down, of the first",
            remedy="Check which files belong together (data.options.images)",
        )

"""What an adapter hands over for one place: bands on their own grids, labels, and where on Earth it lies."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator
from shapely.geometry.base import BaseGeometry

from search_space.decode import Frozen, ListAsTuple
from search_space.errors import MapgroveError

Affine = tuple[float, float, float, float, float, float]
"""`(a, b, c, d, e, f)`: x = a·column + b·row + c, y = d·column + e·row + f, as rasterio orders it."""

LARGEST = 1e18
"""Pixels beyond it are no measurements, and their squares would leave float32."""

LEAST_NM, MOST_NM = 100.0, 100_000.0
"""From ultraviolet to thermal infrared; a wavelength in micrometres lies below."""


def _of_light(span: tuple[float, float]) -> tuple[float, float]:
    shortest, longest = span
    if not LEAST_NM <= shortest < longest <= MOST_NM:
        raise ValueError(
            f"must be the shortest and the longest wavelength in nanometres, {LEAST_NM:g} to {MOST_NM:g}: "
            f"not {shortest:g} and {longest:g}"
        )
    return span


Span = Annotated[tuple[float, float], ListAsTuple, AfterValidator(_of_light)]


class DataError(MapgroveError):
    """Imagery or labels that cannot be used as they are."""


class Band(Frozen):
    """One band of a sensor.

    Attributes:
        name: Lower-case name by which studies and indices know it.
        wavelength_nm: Shortest and longest wavelength, where known.
    """

    name: str
    wavelength_nm: Span | None = None


class Georeference(Frozen):
    """Where the pixels of a scene lie.

    Either the scene has a transform (and mostly a CRS), or it has the grid of the DSTL competition, or neither.

    Attributes:
        crs: WKT of the coordinate reference system.
        transform: Pixel corners to map coordinates, `(a, b, c, d, e, f)`.
        xmax: DSTL: grid units that the image's width spans, above 0.
        ymin: DSTL: grid units that the image's height spans, below 0.
    """

    crs: str | None = None
    transform: Annotated[Affine, ListAsTuple] | None = None
    xmax: Annotated[float, Field(gt=0.0)] | None = None
    ymin: Annotated[float, Field(lt=0.0)] | None = None

    @model_validator(mode="after")
    def _one_grid(self) -> Self:
        if (self.xmax is None) != (self.ymin is None):
            raise ValueError("xmax and ymin are given together")
        if self.xmax is not None and self.transform is not None:
            raise ValueError("a scene has a transform or a DSTL grid, not both")
        return self

    def affine(self, height_px: int, width_px: int) -> Affine | None:
        """Pixel to map coordinates for an image of this size; None where the scene has no place on a map.

        In the DSTL grid an image of `W` pixels spans `Xmax` with `W·W/(W+1)` pixels; the competition's rule.
        """
        if self.xmax is None or self.ymin is None:
            return self.transform
        x_unit = self.xmax * (width_px + 1) / width_px**2
        y_unit = self.ymin * (height_px + 1) / height_px**2
        return (x_unit, 0.0, 0.0, 0.0, y_unit, 0.0)

    def resized(self, shape: tuple[int, int], wanted: tuple[int, int]) -> "Georeference":
        """The same place for an image of other rows and columns over the same ground.

        The DSTL grid depends on the image's size, so it becomes an equal transform.
        """
        affine = self.affine(*shape)
        if shape == wanted or affine is None:
            return self
        across, down = shape[1] / wanted[1], shape[0] / wanted[0]
        a, b, c, d, e, f = affine
        return Georeference(crs=self.crs, transform=(a * across, b * down, c, d * across, e * down, f))

    def to_map(self, geometry: BaseGeometry, height_px: int, width_px: int) -> BaseGeometry:
        """Move `geometry` from pixel coordinates (x right, y down) to map coordinates; unchanged without a place."""
        return _transformed(geometry, self.affine(height_px, width_px))

    def to_pixels(self, geometry: BaseGeometry, height_px: int, width_px: int) -> BaseGeometry:
        """Move `geometry` from map coordinates to pixel coordinates, the inverse of `to_map`.

        Raises:
            DataError: The transform squeezes the image to a line.
        """
        affine = self.affine(height_px, width_px)
        return _transformed(geometry, None if affine is None else inverse(affine))


class RowPlanes(ABC):
    """Planes `(B, h, w)` of which rows are read when they are asked for: what is sliced like an array and is none.

    Attributes:
        shape: Bands, rows and columns.
        dtype: Of the numbers.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    ndim = 3

    @abstractmethod
    def __len__(self) -> int:
        """How many bands there are."""

    @abstractmethod
    def __getitem__(self, key: Any) -> Any:
        """Some bands by a list of positions, or rows of all bands, `[:, first:stop]`, checked as they come."""


@dataclass(frozen=True)
class BandGroup:
    """Bands that share one grid and one file.

    Attributes:
        names: Their names, one per plane.
        planes: `(B, h, w)`, as stored; of large images perhaps `RowPlanes`.
        path: The file, for messages.
        valid: Bool `(h, w)`, False where there is no data; None where there is data everywhere.
        name: By which `data.grid` and the manifest know the group.
        placement: The group's pixels to the scene's, corners at whole numbers, `(a, b, c, d, e, f)` as in `Affine`;
            None where both show the same ground from edge to edge.
        may_be_shifted: Whether the sensor shot at another moment than the first group's, so that its bands must be
            registered.
    """

    names: tuple[str, ...]
    planes: NDArray[Any]
    path: Path
    valid: NDArray[np.bool_] | None = None
    name: str = "image"
    placement: Affine | None = None
    may_be_shifted: bool = False

    def __post_init__(self) -> None:
        """Refuse not-a-number, infinite and overlarge pixels where there is data."""
        if isinstance(self.planes, RowPlanes) or not np.issubdtype(self.planes.dtype, np.floating):
            return
        for name, plane in zip(self.names, self.planes, strict=True):
            # Not-a-number compares as False too.
            bad = ~(np.abs(plane) <= LARGEST)
            num_bad = int(np.count_nonzero(bad if self.valid is None else bad & self.valid))
            if num_bad:
                raise DataError(
                    f"{self.path}: pixels must be numbers up to {LARGEST:.0e}",
                    received=f"{num_bad} not-a-number, infinite or larger pixels in band {name}",
                    remedy="Replace them, or mark them as no-data in the file or with the option `nodata`",
                )


@dataclass(frozen=True)
class PolygonLabels:
    """Labels as geometries in pixel coordinates (x right, y down, pixel corners at whole numbers).

    Attributes:
        by_class: Polygons and multipolygons of each class; a class without any may be left out.
        ignored: Polygons within which nobody knows what is on the ground.
    """

    by_class: Mapping[str, tuple[BaseGeometry, ...]]
    ignored: tuple[BaseGeometry, ...] = ()


@dataclass(frozen=True)
class RasterLabels:
    """Labels as pixels of the scene's grid.

    Attributes:
        by_class: Bool `(H, W)` per class; a class without any pixel may be left out.
        known: Bool `(H, W)`, False where nobody knows what is on the ground.
    """

    by_class: Mapping[str, NDArray[np.bool_]]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """One place with all its bands.

    Attributes:
        id: Its name, unique in the data set and fit for a folder's name.
        height_px: Rows of its own grid, that of the first group.
        width_px: Columns of that grid.
        groups: The bands, by file.
        labels: What is on the ground, on its own grid; None where nobody has said.
        georeference: Where its own grid lies.
        pixel_m: Side of a pixel of its own grid on the ground; None where nobody knows.
    """

    id: str
    height_px: int
    width_px: int
    groups: tuple[BandGroup, ...]
    labels: PolygonLabels | RasterLabels | None
    georeference: Georeference
    pixel_m: float | None = None


def _transformed(geometry: BaseGeometry, affine: Affine | None) -> BaseGeometry:
    if affine is None:
        return geometry
    a, b, c, d, e, f = affine
    matrix, offset = np.array([[a, d], [b, e]]), np.array([c, f])
    return shapely.transform(geometry, lambda points: points @ matrix + offset)


def inverse(affine: Affine) -> Affine:
    """The transform that takes back another.

    Raises:
        DataError: It squeezes the plane to a line.
    """
    a, b, c, d, e, f = affine
    determinant = a * e - b * d
    if determinant == 0.0:
        raise DataError("A transform must span two directions", received=affine, remedy="Mend the georeference")
    a, b, d, e = e / determinant, -b / determinant, -d / determinant, a / determinant
    return (a, b, -(a * c + b * f), d, e, -(d * c + e * f))

"""The grid that all bands and labels of a scene are brought to: its own, that of a group of bands, or metres."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from pipeline.imagery.geodesy import SAME_LENGTH, pixel_side_m, pixel_sides_m
from pipeline.imagery.resampling import Shape, area_shares
from pipeline.scene import BandGroup, DataError, Georeference, PolygonLabels, RasterLabels, Scene
from search_space.study import NATIVE

GROUP_ALIASES = {"p": "pan", "panchromatic": "pan", "ms": "m"}
"""Names of band groups as users write them, where a data set has none of that name."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a cube lie; the ground covered is that of the scene, from edge to edge.

    Attributes:
        shape: Rows and columns.
        georeference: Where they lie on the map.
        pixel_m: Side of a pixel on the ground; None where nobody knows.
    """

    shape: Shape
    georeference: Georeference
    pixel_m: float | None

    @classmethod
    def of(cls, scene: Scene, wanted: str | float = NATIVE) -> "Grid":
        """The grid that a study asks for.

        Args:
            scene: Its own grid is that of its first group of bands.
            wanted: "native", the name of one of the scene's groups of bands, or metres per pixel.

        Raises:
            DataError: No such group, or the size of the scene's own pixels is not known.
        """
        own = (scene.height_px, scene.width_px)
        pixel_m = scene.pixel_m or pixel_side_m(scene.georeference, own)
        shape = own if wanted == NATIVE else _shape_for(scene, own, wanted)
        if shape == own:
            return cls(own, scene.georeference, pixel_m)
        growth = math.sqrt(own[0] / shape[0] * own[1] / shape[1])
        return cls(shape, scene.georeference.resized(own, shape), None if pixel_m is None else pixel_m * growth)


def labels_on(scene: Scene, shape: Shape) -> PolygonLabels | RasterLabels | None:
    """Bring a scene's labels from its own grid to another one over the same ground.

    Returns:
        Polygons scaled; of label rasters, what covers most of a pixel, known only where all of the pixel is known.
    """
    own = (scene.height_px, scene.width_px)
    if scene.labels is None or shape == own:
        return scene.labels
    if isinstance(scene.labels, PolygonLabels):
        scale = np.array([shape[1] / own[1], shape[0] / own[0]])
        by_class = {name: _scaled(geometries, scale) for name, geometries in scene.labels.by_class.items()}
        return PolygonLabels(by_class, _scaled(scene.labels.ignored, scale))
    by_class_mask = {name: _majority(mask, shape) for name, mask in scene.labels.by_class.items()}
    return RasterLabels(by_class_mask, area_shares(scene.labels.known, *shape) > 1.0 - 1e-4)


def _shape_for(scene: Scene, own: Shape, wanted: str | float) -> Shape:
    if isinstance(wanted, str):
        return shape_of(group_named(scene.groups, wanted), own)
    sides_m = pixel_sides_m(scene.georeference, own) or (scene.pixel_m and (scene.pixel_m, scene.pixel_m))
    if not sides_m:
        raise DataError(
            f"data.grid in metres needs the size of a pixel on the ground, which {scene.groups[0].path} does not tell",
            received=wanted,
            remedy='Give the images a CRS and a transform, or set data.grid to "native" or a group of bands',
        )
    if all(abs(side / wanted - 1.0) < SAME_LENGTH for side in sides_m):
        # Rounded by whoever wrote it: interpolating would gain nothing.
        return own
    height, width = (side * each / wanted for side, each in zip(own, sides_m, strict=True))
    if min(height, width) < 1.0:
        raise DataError(
            f"data.grid: one pixel would hold all of {scene.groups[0].path}, whose own pixels have {sides_m[0]:g} m",
            received=wanted,
            remedy="Give metres per pixel of the cubes",
        )
    return round(height), round(width)


def group_named(groups: Sequence[BandGroup], name: str) -> BandGroup:
    """Find a group by its name, whatever the case, or else by what users call such a group.

    Raises:
        DataError: There is none.
    """
    for wanted in (name, GROUP_ALIASES.get(name)):
        for group in groups:
            if group.name.lower() == wanted:
                return group
    raise DataError(
        "data.grid: there is no such group of bands",
        received=name,
        remedy=f'Known are: {", ".join(g.name for g in groups)}; or "native", or metres per pixel as a number',
    )


def shape_of(group: BandGroup, own: Shape) -> Shape:
    """A grid as fine as the group's, over the ground of the whole scene."""
    if group.placement is None:
        return group.planes.shape[1], group.planes.shape[2]
    a, b, _, d, e, _ = group.placement
    return max(1, round(own[0] / math.hypot(b, e))), max(1, round(own[1] / math.hypot(a, d)))


def _scaled(geometries: tuple[BaseGeometry, ...], scale: NDArray[np.float64]) -> tuple[BaseGeometry, ...]:
    return tuple(shapely.transform(geometry, lambda points: points * scale) for geometry in geometries)


def _majority(mask: NDArray[np.bool_], shape: Shape) -> NDArray[np.bool_]:
    """True where a mask covers most of a pixel; what covers just half of it wins where it holds the centre."""
    rows = ((np.arange(shape[0]) + 0.5) * mask.shape[0] / shape[0]).astype(np.intp)
    columns = ((np.arange(shape[1]) + 0.5) * mask.shape[1] / shape[1]).astype(np.intp)
    centre = mask[np.ix_(rows, columns)]
    covered: NDArray[np.bool_] = area_shares(mask, *shape) + np.where(centre, 1e-4, -1e-4).astype(np.float32) > 0.5
    return covered

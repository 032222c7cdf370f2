"""The polygons of a scene's labels, kept beside its masks: neighbours that touch are one in a mask, not here."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from pipeline.imagery.rasterise import valid_polygons
from pipeline.scene import DataError

OUTLINES = "outlines.npz"
_PARTS = ("points", "rings", "polygons")


def write_outlines(path: Path, by_class: Mapping[str, Iterable[BaseGeometry]]) -> None:
    """Write the polygons of each class.

    Args:
        path: File to write, which ends in `.npz`.
        by_class: Geometries in pixel coordinates; invalid ones are mended, lines and points left out.

    Raises:
        DataError: A coordinate is not a number.
    """
    arrays = {"classes": np.array(list(by_class), np.str_)}
    for k, geometries in enumerate(by_class.values()):
        polygons = valid_polygons(geometries)
        if len(polygons):
            _, points, (rings, parts) = shapely.to_ragged_array(polygons, include_z=False)
            arrays |= {f"{name}{k}": array for name, array in zip(_PARTS, (points, rings, parts), strict=True)}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def read_outlines(path: Path) -> dict[str, list[shapely.Polygon]]:
    """Read what `write_outlines` wrote: valid polygons of each class, in pixel coordinates.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found: dict[str, list[shapely.Polygon]] = {}
            for k, name in enumerate(arrays["classes"].tolist()):
                found[name] = []
                if f"{_PARTS[0]}{k}" in arrays:
                    points, rings, parts = (arrays[f"{part}{k}"] for part in _PARTS)
                    kind = shapely.GeometryType.POLYGON
                    found[name] = list(shapely.from_ragged_array(kind, points, (rings, parts)))
            return found
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, shapely.errors.ShapelyError) as error:
        raise DataError(f"{path} is missing or damaged: {error}", remedy="Run `prepare` again") from error

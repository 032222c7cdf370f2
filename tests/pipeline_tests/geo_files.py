"""Tiny georeferenced files for tests."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

UTM = "EPSG:32633"
NORTH_UP = Affine(0.5, 0.0, 500_000.0, 0.0, -0.5, 4_000_000.0)
"""Half a metre; (500000, 4000000) is the top left corner."""


def write_tiff(
    path: Path,
    planes: NDArray[Any],
    *,
    crs: str | None = UTM,
    transform: Affine | None = NORTH_UP,
    mask: NDArray[np.bool_] | None = None,
    **profile: Any,
) -> Path:
    """Write planes `(B, H, W)`; `mask` becomes a mask band inside the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": crs, "transform": transform} if transform is not None else {}
    size = {"count": len(planes), "height": planes.shape[1], "width": planes.shape[2]}
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", dtype=planes.dtype, **size, **place, **profile) as file,
    ):
        file.write(planes)
        if mask is not None:
            file.write_mask(mask)
    return path


def write_vectors(
    path: Path,
    geometries: Sequence[BaseGeometry | None],
    attributes: Mapping[str, Sequence[Any]] | None = None,
    *,
    crs: str | None = UTM,
    layer: str | None = None,
    append: bool = False,
) -> Path:
    """Write features in the format that the path's ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.array([None if each is None else shapely.to_wkb(each) for each in geometries], object)
    kinds = {each.geom_type for each in geometries if each is not None}
    columns = {name: np.array(values, None) for name, values in (attributes or {"n": range(len(stored))}).items()}
    columns = {name: column.astype(object) if column.dtype.kind == "U" else column for name, column in columns.items()}
    kind = kinds.pop() if len(kinds) == 1 else "Unknown"
    if any(each is not None and each.has_z for each in geometries):
        kind += " Z"
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        pyogrio.raw.write(
            path,
            stored,
            list(columns.values()),
            list(columns),
            geometry_type=kind,
            crs=crs,
            **({"layer": layer} if layer else {}),
            append=append,
        )
    return path


def on_map(geometry: BaseGeometry, transform: Affine = NORTH_UP) -> BaseGeometry:
    """Move a geometry from pixels to the map."""
    a, b, c, d, e, f = tuple(transform)[:6]
    return shapely.transform(geometry, lambda points: points @ np.array([[a, d], [b, e]]) + np.array([c, f]))


def chain(*affines: Affine) -> Affine:
    """One transform after the other, the last one first."""
    whole = np.eye(3)
    for each in affines:
        whole = whole @ np.reshape(tuple(each), (3, 3))
    return Affine(*whole[:2].ravel().tolist())

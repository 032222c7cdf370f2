"""A scene of 40 × 50 pixels with labels of the format `geotiff`, and what is read of it."""

from pathlib import Path
from typing import Any

import numpy as np
import shapely
from geo_files import NORTH_UP, UTM, write_tiff
from rasterio.transform import Affine
from rasterio.warp import transform as rasterio_transform
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from pipeline.datasets.geotiff import GeotiffAdapter
from pipeline.imagery.cube import make_cube
from pipeline.scene import PolygonLabels, Scene

HOUSE = box(2, 3, 12, 9)
"""In pixels: 60 of them, of the scene's 40 × 50."""

POND = box(20, 20, 30, 24)
ROADS = {"labels": {"road": "labels/*.geojson"}}
BY_KIND = {"labels": "labels/*.geojson", "class_field": "kind", "values": {"building": ["house", "barn"], "water": 7}}
ONE = {"labels": {"building": "labels/*.geojson"}}


def image(folder: Path, scene_id: str = "a", transform: Affine = NORTH_UP, crs: str | None = UTM) -> None:
    write_tiff(folder / "images" / f"{scene_id}.tif", np.ones((1, 40, 50), np.uint8), transform=transform, crs=crs)


def adapter(folder: Path, **options: Any) -> GeotiffAdapter:
    opened = GeotiffAdapter(folder, options or ONE)
    opened.check()
    return opened


def read(folder: Path, scene_id: str = "a", **options: Any) -> Scene:
    return adapter(folder, **options).read(scene_id, [])


def masks(scene: Scene, *classes: str) -> dict[str, int]:
    """Pixels of each class and of known ground."""
    cube = make_cube(scene, ["band1"], [], classes)
    return dict(zip(classes, cube.masks.sum(axis=(0, 1)).tolist(), strict=True)) | {"known": int(cube.known.sum())}


def polygons(scene: Scene, name: str = "building") -> BaseGeometry:
    assert isinstance(scene.labels, PolygonLabels)
    return shapely.union_all(list(scene.labels.by_class[name]))


def in_crs(geometry: BaseGeometry, crs: str, source: str = UTM) -> BaseGeometry:
    """From one CRS to another."""
    return shapely.transform(
        geometry,
        lambda points: np.column_stack(rasterio_transform(source, crs, points[:, 0].tolist(), points[:, 1].tolist())),
    )

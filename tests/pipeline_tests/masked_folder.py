"""A folder of one image and its label raster, of the format `masks`, and what is read of it."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from pipeline.datasets.masks import MasksAdapter
from pipeline.scene import RasterLabels, Scene

ROAD = {"values": {"road": 1}}


def write_tiff(path: Path, planes: NDArray[Any], **profile: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0.0, 500_000.0, 0.0, -0.5, 4_000_000.0)}
    size = {"count": len(planes), "height": planes.shape[1], "width": planes.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", dtype=planes.dtype, **size, **(place | profile)) as file:
        file.write(planes)


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels if pixels.ndim == 2 else pixels[..., ::-1])


def labels_of(scene: Scene) -> RasterLabels:
    assert isinstance(scene.labels, RasterLabels)
    return scene.labels


def read(folder: Path, scene_id: str = "a", **options: Any) -> Scene:
    adapter = MasksAdapter(folder, ROAD | {"background": [0, 2]} | options)
    adapter.check()
    return adapter.read(scene_id, ())


def class_files(folder: Path) -> dict[str, Any]:
    """Road in grey as DeepGlobe has it, buildings in red; the two overlap in column 3."""
    road, building = np.zeros((6, 8), np.uint8), np.zeros((6, 8, 3), np.uint8)
    road[:, :2], road[:, 2], road[:, 3] = 255, 127, 128
    building[:, 3:5, 0] = 255
    write_png(folder / "masks" / "a_road.png", road)
    write_png(folder / "masks" / "a_building.png", building)
    (folder / "masks" / "a.png").unlink(missing_ok=True)
    return {"masks": {"road": "masks/*_road.png", "building": "masks/*_building.png"}}


def columns(labels: RasterLabels, name: str) -> list[int]:
    assert (labels.by_class[name] == labels.by_class[name][0]).all()
    return np.flatnonzero(labels.by_class[name][0]).tolist()


def read_classes(folder: Path, **options: Any) -> RasterLabels:
    adapter = MasksAdapter(folder, options)
    adapter.check()
    return labels_of(adapter.read("a", ()))

"""From a scene's bands and labels to arrays on one grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline import indices as spectral
from pipeline.rasterise import rasterise
from pipeline.scene import BandGroup, RasterLabels, Scene

ALL_VALID = 0.999
"""A pixel is valid where its share of valid ground, a sum of rounded weights, is above this."""


@dataclass(frozen=True)
class Cube:
    """A scene as arrays.

    Attributes:
        bands: float32 `(H, W, B)`, indices last; NaN where there is no data.
        masks: uint8 `(H, W, K)`, 1 where a class is; 0 where nothing is known.
        valid: bool `(H, W)`, True where every band has data.
        known: bool `(H, W)`, True where there is data and a label.
    """

    bands: NDArray[np.float32]
    masks: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    known: NDArray[np.bool_]


def make_cube(scene: Scene, bands: Sequence[str], indices: Sequence[str], classes: Sequence[str]) -> Cube:
    """Bring every band onto the scene's grid, compute indices, rasterise labels.

    Args:
        scene: Has every one of `bands`, and those that `indices` need.
        bands: Bands to keep, in order.
        indices: Spectral indices to add, in order.
        classes: Classes of the masks, in order; one that the labels lack is absent.

    Raises:
        DataError: A band or an index that the scene cannot give, or a broken polygon.
    """
    height, width = scene.height_px, scene.width_px
    groups = {name: group for group in scene.groups for name in group.names}
    available = tuple(groups)
    needed = dict.fromkeys([*bands, *(name for index in indices for name in spectral.bands_for(index, available))])
    cube = np.empty((height, width, len(bands) + len(indices)), np.float32)
    planes: dict[str, NDArray[np.float32]] = {}
    for name in needed:
        planes[name] = _plane(groups[name], name, height, width)
        if name in bands:
            # A full-size scene holds a gigabyte: from here on the cube's own copy serves.
            position = bands.index(name)
            cube[..., position] = planes[name]
            planes[name] = cube[..., position]
    for position, index in enumerate(indices, start=len(bands)):
        cube[..., position] = spectral.compute(index, planes)
    valid = np.ones((height, width), bool)
    for group in {id(groups[name]): groups[name] for name in needed}.values():
        if group.valid is not None:
            valid &= resample(group.valid.astype(np.float32), height, width) > ALL_VALID
    cube[~valid] = np.nan
    masks, known = _draw_labels(scene, classes)
    known &= valid
    masks[~known] = 0
    return Cube(cube, masks, valid, known)


def resample(plane: NDArray[np.float32], height_px: int, width_px: int) -> NDArray[np.float32]:
    """Bring a plane to another size over the same ground: edges stay edges, so the grid is not shifted.

    Args:
        plane: float32 `(h, w)`; OpenCV's integer path would shift the grid by two pixels.
        height_px: Rows wanted.
        width_px: Columns wanted.

    Returns:
        float32 `(height_px, width_px)`: linear between pixel centres, constant beyond the outermost ones; where the
        plane is finer than the grid, the mean over each pixel.
    """
    if plane.shape == (height_px, width_px):
        return plane
    finer = plane.shape[0] >= height_px and plane.shape[1] >= width_px
    how = cv2.INTER_AREA if finer else cv2.INTER_LINEAR
    resized: NDArray[np.float32] = cv2.resize(plane, (width_px, height_px), interpolation=how)
    return resized


def _plane(group: BandGroup, name: str, height_px: int, width_px: int) -> NDArray[np.float32]:
    plane = np.ascontiguousarray(group.planes[group.names.index(name)], dtype=np.float32)
    if group.valid is not None:
        plane = np.where(group.valid, plane, np.float32(0.0))
    return resample(plane, height_px, width_px)


def _draw_labels(scene: Scene, classes: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    shape = (scene.height_px, scene.width_px)
    masks = np.zeros((*shape, len(classes)), np.uint8)
    if scene.labels is None:
        return masks, np.zeros(shape, bool)
    for position, name in enumerate(classes):
        if name in scene.labels.by_class:
            if isinstance(scene.labels, RasterLabels):
                masks[..., position] = scene.labels.by_class[name]
            else:
                masks[..., position] = rasterise(scene.labels.by_class[name], *shape)
    if isinstance(scene.labels, RasterLabels):
        return masks, scene.labels.known.copy()
    return masks, rasterise(scene.labels.ignored, *shape) == 0

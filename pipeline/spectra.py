"""Paints invented landscapes as a sensor would see them: 20 bands with believable spectra, texture and noise.

Spectra are given in standard deviations around the mean of each band, as one competitor of the DSTL contest published
them; so every material is bright or dark in proportion to what real scenes span.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.affinity import scale, translate
from shapely.geometry import Polygon

from pipeline.landscape import Landscape

Plane = NDArray[np.float32]

MEANS = np.array(
    [414, 460, 326, 503, 295, 326, 460, 482, 414, 528, 678, 530, 4243, 4473, 4179, 3708, 2887, 2590, 2526, 2417],
    np.float32,
)
DEVIATIONS = np.array(
    [62, 47, 25, 55, 14, 25, 47, 62, 61, 59, 86, 69, 448, 635, 567, 523, 530, 462, 487, 479], np.float32
)
"""Per band: red, green, blue, pan; the eight M bands; the eight A bands."""

SUPERSAMPLING = 3

# Coastal, blue, green, yellow, red, red edge, NIR1, NIR2; then SWIR around 1200, 1650 and 2250 nm.
MATERIALS: dict[str, tuple[float, ...]] = {
    "dry_grass": (-0.1, -0.1, 0.75, 0.4, 0.35, 0.3, 0.2, 0.2, 0.3, 0.4, 0.3),
    "green_grass": (-0.5, -0.5, 0.35, -0.3, -0.4, 0.1, 0.7, 0.7, 0.3, -0.1, -0.3),
    "bare_soil": (0.2, 0.2, 1.05, 1.0, 1.15, 0.8, 0.1, 0.1, 0.6, 0.9, 0.9),
    "young_crop": (-0.6, -0.6, 0.5, -0.4, -0.6, 0.7, 1.9, 1.9, 0.5, -0.5, -0.8),
    "lush_crop": (-0.9, -0.9, 0.0, -0.9, -1.1, 0.3, 2.2, 2.2, 0.4, -0.9, -1.1),
    "ripe_crop": (0.1, -0.1, 1.4, 1.1, 0.9, 1.0, 1.2, 1.2, 0.7, 0.4, 0.2),
    "crown": (-1.1, -1.15, -0.7, -1.4, -1.45, -0.7, 1.0, 1.0, 0.0, -1.3, -1.5),
    "pond": (-0.7, -0.75, -0.95, -1.5, -1.6, -2.4, -3.3, -3.2, -3.5, -3.2, -3.0),
    "river": (-0.2, -0.15, -0.2, -0.8, -0.9, -1.8, -2.9, -2.9, -3.2, -3.0, -2.8),
    "asphalt": (0.2, 0.1, 0.5, 0.2, 0.1, -0.6, -1.4, -1.4, -1.2, -0.6, -0.4),
    "dirt": (0.6, 0.7, 1.7, 1.6, 1.7, 1.2, 0.5, 0.4, 0.9, 1.2, 1.2),
    "tiles": (0.1, 0.1, 0.4, 1.4, 1.9, 1.2, 0.3, 0.2, 0.1, 0.6, 0.7),
    "slate": (0.9, 0.9, 1.2, 1.0, 0.9, 0.2, -0.8, -0.8, -0.7, -0.2, 0.0),
    "metal": (3.8, 3.8, 3.2, 3.0, 2.9, 1.6, 0.2, 0.1, -0.5, -0.2, 0.2),
    "concrete": (2.0, 2.1, 1.9, 1.9, 1.9, 1.0, 0.0, 0.0, 0.0, 0.4, 0.6),
    "white_paint": (5.0, 5.0, 4.2, 4.0, 4.0, 2.5, 1.2, 1.0, 0.2, 0.3, 0.4),
    "red_paint": (0.2, 0.0, -0.6, 1.2, 3.2, 2.2, 1.2, 1.0, 0.2, 0.3, 0.4),
    "blue_paint": (2.6, 3.0, 0.4, -0.9, -1.2, -0.8, 0.4, 0.3, 0.1, 0.2, 0.3),
    "dark_paint": (-1.0, -1.2, -1.6, -1.8, -1.9, -1.9, -2.2, -2.1, -1.5, -1.3, -1.2),
}


@dataclass(frozen=True)
class _Layer:
    """Objects of one class, and what they may be made of."""

    name: str
    materials: tuple[str, ...]
    variation: float
    casts_shadow_px: float = 0.0


_LAYERS = (
    _Layer("crops", ("young_crop", "lush_crop", "ripe_crop", "young_crop"), 0.22),
    _Layer("waterway", ("river",), 0.1),
    _Layer("track", ("dirt",), 0.12),
    _Layer("road", ("asphalt",), 0.08),
    _Layer("standing_water", ("pond",), 0.15),
    _Layer("misc_structures", ("concrete", "slate"), 0.35, 1.0),
    _Layer("buildings", ("tiles", "tiles", "slate", "metal"), 0.35, 3.0),
    _Layer("vehicle_large", ("white_paint", "blue_paint", "red_paint"), 0.3, 1.2),
    _Layer("vehicle_small", ("white_paint", "red_paint", "dark_paint", "blue_paint"), 0.3, 0.8),
    _Layer("trees", ("crown",), 0.3, 2.2),
)


def spectrum(material: str) -> NDArray[np.float32]:
    """One material in all 20 bands, in standard deviations around the bands' means."""
    m = np.array(MATERIALS[material][:8], np.float32)
    swir = np.interp(
        [1210, 1570, 1660, 1730, 2165, 2205, 2260, 2330], [1210, 1650, 2250], MATERIALS[material][8:]
    ).astype(np.float32)
    pan = float(0.8 * m[[1, 2, 3, 4]].mean() + 0.2 * m[5])
    return np.concatenate([m[[4, 2, 1]], [np.float32(pan)], m, swir])


def paint(landscape: Landscape, rng: np.random.Generator) -> NDArray[np.float32]:
    """Paint a landscape.

    Args:
        landscape: What is to be seen.
        rng: Source of texture and noise.

    Returns:
        float32 `(20, H, W)` in the sensor's numbers, all bands at full resolution, noise included.
    """
    shape = (landscape.height_px, landscape.width_px)
    planes = _ground(shape, rng)
    for layer in _LAYERS:
        objects = landscape.of(layer.name)
        if not objects:
            continue
        if layer.casts_shadow_px:
            _cast_shadows(planes, objects, layer.casts_shadow_px)
        _draw_objects(planes, layer, objects, rng)
        if layer.name == "crops":
            _draw_rows(planes, objects, landscape.field_angle, rng)
        if layer.name == "buildings":
            planes -= 0.9 * _coverage(landscape.roof_sides, shape)
        if layer.name == "trees":
            _round_crowns(planes, objects)
    haze = rng.normal(0.0, 0.08, (20, 1, 1)).astype(np.float32)
    planes += haze + 0.10 * rng.standard_normal(planes.shape, dtype=np.float32)
    values: NDArray[np.float32] = MEANS[:, None, None] + DEVIATIONS[:, None, None] * planes
    return np.maximum(values, 1.0)


def _ground(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Dry grass, with greener hollows, bare patches, and a fine grain that is alike in all bands."""
    green = _smoothstep(_terrain(shape, 48, rng))[None]
    bare = _smoothstep(_terrain(shape, 30, rng) - 0.55)[None]
    dry, lush, soil = (spectrum(name)[:, None, None] for name in ("dry_grass", "green_grass", "bare_soil"))
    planes = dry * (1 - green) + lush * green
    planes = planes * (1 - bare) + soil * bare
    relief = 0.22 * _terrain(shape, 20, rng) + 0.16 * _terrain(shape, 3, rng)
    return np.asarray(planes + relief[None], np.float32)


def _terrain(shape: tuple[int, int], scale_px: float, rng: np.random.Generator) -> Plane:
    """Smooth noise of unit deviation whose features are `scale_px` wide."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), scale_px / 2, borderType=cv2.BORDER_REFLECT)
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


def _smoothstep(values: Plane) -> Plane:
    share = np.clip(values * 0.6 + 0.5, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def _draw_objects(
    planes: NDArray[np.float32], layer: _Layer, objects: Sequence[Polygon], rng: np.random.Generator
) -> None:
    """Blend each object's own shade of its material over what is there, by the share of a pixel that it covers."""
    numbers, cover = _numbered(objects, planes.shape[1:])
    choice = rng.integers(0, len(layer.materials), len(objects) + 1)
    colours = np.stack([spectrum(name) for name in layer.materials])[choice]
    colours = colours + layer.variation * rng.standard_normal((len(objects) + 1, 1)).astype(np.float32)
    grain = 0.14 * _terrain(planes.shape[1:], 2.5, rng)
    for band in range(len(planes)):
        seen = colours[:, band].astype(np.float32)[numbers] + grain
        planes[band] += cover * (seen - planes[band])


def _draw_rows(planes: NDArray[np.float32], fields: Sequence[Polygon], angle: float, rng: np.random.Generator) -> None:
    """Rows of crops: stripes along the fields, each field with its own strength."""
    numbers, cover = _numbered(fields, planes.shape[1:])
    rows, columns = np.mgrid[: planes.shape[1], : planes.shape[2]]
    across = columns * -np.sin(angle) + rows * np.cos(angle)
    strength = rng.uniform(0.05, 0.28, len(fields) + 1)[numbers]
    period = rng.uniform(4.0, 7.0, len(fields) + 1)[numbers]
    planes += (cover * strength * np.sin(2 * np.pi * across / period)).astype(np.float32)


def _cast_shadows(planes: NDArray[np.float32], objects: Sequence[Polygon], length_px: float) -> None:
    shadows = [translate(shape, length_px, 0.8 * length_px) for shape in objects]
    cover = cv2.GaussianBlur(_coverage(shadows, planes.shape[1:]), (0, 0), 0.6)
    planes += 0.75 * cover * (np.float32(-2.1) - planes)


def _round_crowns(planes: NDArray[np.float32], trees: Sequence[Polygon]) -> None:
    """The sun stands in the upper left: crowns are bright there."""
    lit = [translate(scale(tree, 0.55, 0.55), -0.9, -0.8) for tree in trees]
    planes += 0.55 * cv2.GaussianBlur(_coverage(lit, planes.shape[1:]), (0, 0), 0.8)


def _coverage(shapes: Sequence[Polygon], shape_px: tuple[int, ...]) -> Plane:
    return _numbered(shapes, shape_px)[1]


def _numbered(shapes: Sequence[Polygon], shape_px: tuple[int, ...]) -> tuple[NDArray[np.int32], Plane]:
    """Per pixel: number of an object from 1 (0 for none), and the share of the pixel that objects cover."""
    height, width = shape_px[0], shape_px[1]
    fine = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.int32)
    if shapes:
        step = 1 / SUPERSAMPLING
        rasterize(
            [(shape, number) for number, shape in enumerate(shapes, start=1)],
            out=fine,
            transform=(step, 0.0, 0.0, 0.0, step, 0.0),
        )
    blocks = fine.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING)
    return blocks.max(axis=(1, 3)), np.asarray((blocks > 0).mean(axis=(1, 3)), np.float32)

"""What is drawn at random for a batch of patches, as plain numbers that every way of cutting follows."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from search_space.training_plan import Augmentation

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

ELASTIC_CELLS = 4
"""Control points of the elastic deformation lie a quarter of a patch apart."""

NOISE_TABLE_SIZE = 2**20


@dataclass(frozen=True)
class Geometry:
    """How each of N patches lies in its scene, but for its centre.

    Pixel `(i, j)` of a patch shows the scene at `centre + matrix @ (i - m, j - m) + displacement(i, j)`, where `m` is
    the middle of the patch, `(P - 1) / 2`.

    Attributes:
        matrices: float64 `(N, 2, 2)`: turn, mirror, zoom and shear; (row, column).
        control: float32 `(N, C, C, 2)`: displacements at the control points of a cubic B-spline, pixels of the scene;
            C is 0 where nothing is deformed.
    """

    matrices: Doubles
    control: Floats


@dataclass(frozen=True)
class Radiometry:
    """How each of N patches is varied in its B bands, after scaling: `value * factor + offset + noise_std * noise`.

    Attributes:
        factor: float32 `(N, B)`; 0 for a band that is dropped.
        offset: float32 `(N, B)`, in standard deviations.
        noise_std: float32 `(N, B)`.
        noise_start: int64 `(N,)`: where in the table of noise a patch begins to read.
    """

    factor: Floats
    offset: Floats
    noise_std: Floats
    noise_start: NDArray[np.int64]


@dataclass(frozen=True)
class Draws:
    """Everything that tells N patches apart.

    Attributes:
        scene: int64 `(N,)`: which training scene.
        centre: float64 `(N, 2)`: row and column in the scene that the patch's middle shows.
        pixel: int64 `(N, 2)`: row and column of the pixel that the patch was drawn by.
        geometry: How it lies there.
        radiometry: How its bands are varied.
    """

    scene: NDArray[np.int64]
    centre: Doubles
    pixel: NDArray[np.int64]
    geometry: Geometry
    radiometry: Radiometry


def draw_geometry(plan: Augmentation, patch_px: int, count: int, rng: np.random.Generator) -> Geometry:
    """Draw turns, zooms, shears and deformations of `count` patches."""
    matrices = _turns(plan.turns, count, rng)
    if plan.zoom:
        limit = np.log1p(plan.zoom)
        # A patch that shows things larger covers less of the scene.
        matrices = matrices * np.exp(-rng.uniform(-limit, limit, count))[:, None, None]
    if plan.shear:
        sheared = np.tile(np.eye(2), (count, 1, 1))
        sheared[:, 0, 1] = rng.uniform(-plan.shear, plan.shear, count)
        matrices = matrices @ sheared
    points = ELASTIC_CELLS + 3 if plan.elastic else 0
    spread_px = plan.elastic * patch_px / ELASTIC_CELLS
    control = rng.uniform(-spread_px, spread_px, (count, points, points, 2)).astype(np.float32)
    return Geometry(matrices, control)


def draw_radiometry(plan: Augmentation, num_bands: int, count: int, rng: np.random.Generator) -> Radiometry:
    """Draw the variation of `count` patches of `num_bands` bands."""
    size = (count, num_bands)
    factor = 1.0 + rng.uniform(-plan.jitter, plan.jitter, size)
    offset = rng.uniform(-plan.jitter, plan.jitter, size)
    factor *= 1.0 + rng.uniform(-plan.contrast, plan.contrast, (count, 1))
    offset += rng.uniform(-plan.brightness, plan.brightness, (count, 1))
    noise_std = np.broadcast_to(rng.uniform(0.0, plan.noise, (count, 1)), size)
    kept = rng.random(size) >= plan.band_dropout
    # A patch without any band would teach nothing.
    kept[np.arange(count), rng.integers(num_bands, size=count)] = True
    return Radiometry(
        factor=np.where(kept, factor, 0.0).astype(np.float32),
        offset=np.where(kept, offset, 0.0).astype(np.float32),
        noise_std=np.where(kept, noise_std, 0.0).astype(np.float32),
        noise_start=rng.integers(NOISE_TABLE_SIZE, size=count),
    )


def reach_px(plan: Augmentation, patch_px: int) -> int:
    """How far from its centre, in rows or columns, a patch can read at most."""
    half = (patch_px - 1) / 2
    widest = 1.0 if plan.turns in ("none", "d4") else np.sqrt(2.0)
    stretched = half * widest * (1.0 + plan.zoom) * (1.0 + plan.shear)
    deformed = plan.elastic * patch_px / ELASTIC_CELLS
    # Between two pixels both are read.
    return int(np.ceil(stretched + deformed)) + 1


@lru_cache(maxsize=8)
def spline_basis(patch_px: int, num_points: int) -> Floats:
    """Uniform cubic B-spline: `basis @ control` runs smoothly along a patch.

    Args:
        patch_px: Pixels along the patch.
        num_points: Control points; the outermost ones lie a cell beyond the patch.

    Returns:
        float32 `(patch_px, num_points)`, non-negative rows that add up to one.
    """
    cells = num_points - 3
    position = np.arange(patch_px) / max(1, patch_px - 1) * cells
    cell = np.minimum(position.astype(int), cells - 1)
    t = position - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=-1) / 6
    basis = np.zeros((patch_px, num_points), np.float32)
    np.put_along_axis(basis, cell[:, None] + np.arange(4), weights.astype(np.float32), axis=1)
    return basis


@lru_cache(maxsize=1)
def noise_table() -> Floats:
    """A million standard normal numbers: each patch reads on from a place of its own, round and round.

    Drawing a number per pixel and band would cost more than cutting the patch, and differ between devices.
    """
    return np.random.default_rng(0).standard_normal(NOISE_TABLE_SIZE, dtype=np.float32)


def _turns(kind: str, count: int, rng: np.random.Generator) -> Doubles:
    if kind == "none":
        return np.tile(np.eye(2), (count, 1, 1))
    mirror = np.where(rng.integers(2, size=count), -1.0, 1.0)
    if kind == "any":
        angle = rng.uniform(0.0, 2 * np.pi, count)
        cosine, sine = np.cos(angle), np.sin(angle)
    else:
        eighth = rng.integers(8, size=count) if kind == "d8" else 2 * rng.integers(4, size=count)
        # Exact numbers keep quarter turns on the pixels.
        straight, slanted = np.array([0.0, 1.0, 0.0, -1.0]), np.sqrt(0.5) * np.array([1.0, 1.0, -1.0, -1.0])
        sines = np.ravel(np.column_stack([straight, slanted]))
        sine, cosine = sines[eighth], sines[(eighth + 2) % 8]
    return np.stack([np.stack([cosine, -sine * mirror], -1), np.stack([sine, cosine * mirror], -1)], -2)

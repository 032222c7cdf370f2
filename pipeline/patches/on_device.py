"""Patches cut on the accelerator: the scenes live there, and only a few numbers per patch are sent."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.patches.draws import Draws, noise_table, spline_basis
from pipeline.patches.sampler import placements
from pipeline.patches.scenes import TrainingScene
from search_space.training_plan import TrainingPlan

Tensor = Any

MEMORY_SHARE = 0.4
"""Of the device's free memory that scenes may take: the rest is the network's."""

ROWS_AT_ONCE = 512


def bytes_on_device(scenes: Sequence[TrainingScene]) -> int:
    """What the scenes take as half-precision bands and byte masks."""
    return sum(_num_pixels(each) * (2 * each.scene.cube.shape[-1] + len(each.classes) + 1) for each in scenes)


def fits_on_device(scenes: Sequence[TrainingScene], free_bytes: int | None) -> bool:
    """Whether the scenes can live on a device with so much free memory; None for no device."""
    if free_bytes is None or sum(map(_num_pixels, scenes)) >= 2**31:
        return False
    return bytes_on_device(scenes) <= MEMORY_SHARE * free_bytes


def plain_draws(draws: Draws, patch_px: int) -> dict[str, NDArray[Any]]:
    """The draws of N patches as small arrays that `PatchCutter` reads."""
    return {
        "scene": draws.scene.astype(np.int32),
        "where": placements(draws, patch_px).astype(np.float32),
        "control": draws.geometry.control,
        "factor": draws.radiometry.factor,
        "offset": draws.radiometry.offset,
        "noise_std": draws.radiometry.noise_std,
        "noise_start": draws.radiometry.noise_start.astype(np.int32),
    }


class PatchCutter(keras.layers.Layer):  # type: ignore[misc]
    """Holds scaled scenes in half precision and cuts patches from them.

    The meaning is that of `PatchSampler.batch`; values differ by the rounding to half precision.

    Args:
        scenes: All of them are copied to the device.
        plan: Patch size and augmentation.
    """

    def __init__(self, scenes: Sequence[TrainingScene], plan: TrainingPlan) -> None:
        super().__init__(trainable=False, name="patch_cutter", dtype="float32")
        self._plan = plan
        sizes = [each.scene.known.shape for each in scenes]
        starts = np.cumsum([0, *(height * width for height, width in sizes)])
        num_bands, num_classes = scenes[0].scene.cube.shape[-1], len(scenes[0].classes)
        self._sizes = self._keep(
            "sizes", np.array([(start, *size) for start, size in zip(starts, sizes, strict=False)])
        )
        bands = np.empty((starts[-1], num_bands), np.float16)
        targets = np.empty((starts[-1], num_classes + 1), np.uint8)
        for start, source in zip(starts, scenes, strict=False):
            _copy(source, bands[start:], targets[start:])
        self._bands, self._targets = self._keep("bands", bands), self._keep("targets", targets)
        self._noise = self._keep("noise", noise_table()) if plan.augmentation.noise else None

    def call(self, draws: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Bands `(N, P, P, B)` and targets `(N, P, P, K + 1)` in float32, for what `plain_draws` gives."""
        size_px = self._plan.patch_px
        rows, columns = self._positions(draws, size_px)
        scene = ops.take(self._sizes, draws["scene"], axis=0)
        corners = _corners(rows, columns, scene[:, None, None, :])
        bands = sum(
            weight[..., None] * ops.cast(ops.take(self._bands, index, axis=0), "float32") for weight, index in corners
        )
        bands = bands * draws["factor"][:, None, None, :] + draws["offset"][:, None, None, :]
        if self._noise is not None:
            bands = bands + draws["noise_std"][:, None, None, :] * self._noise_of(draws["noise_start"], bands.shape)
        return bands, self._cut_targets(rows, columns, scene, corners)

    def _cut_targets(
        self, rows: Tensor, columns: Tensor, scene: Tensor, corners: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        if not self._plan.augmentation.soft_labels:
            nearest = _index(ops.floor(rows + 0.5), ops.floor(columns + 0.5), scene[:, None, None, :])
            return ops.cast(ops.take(self._targets, nearest, axis=0), "float32")
        parts = [
            (weight[..., None], ops.cast(ops.take(self._targets, index, axis=0), "float32"))
            for weight, index in corners
        ]
        masks = sum(weight * part[..., :-1] for weight, part in parts)
        unknown = sum(ops.cast(weight > 0, "float32") * (1.0 - part[..., -1:]) for weight, part in parts)
        return ops.concatenate([masks, ops.cast(unknown == 0, "float32")], axis=-1)

    def _positions(self, draws: dict[str, Tensor], size_px: int) -> tuple[Tensor, Tensor]:
        where = draws["where"][:, :, :, None, None]
        along = ops.arange(size_px, dtype="float32")
        down, right = along[None, :, None], along[None, None, :]
        rows, columns = (where[:, axis, 0] * down + where[:, axis, 1] * right + where[:, axis, 2] for axis in (0, 1))
        num_points = draws["control"].shape[1]
        if num_points:
            basis = ops.convert_to_tensor(spline_basis(size_px, num_points))
            bent = ops.einsum("pi,nijc,qj->npqc", basis, draws["control"], basis)
            rows, columns = rows + bent[..., 0], columns + bent[..., 1]
        return rows, columns

    def _noise_of(self, start: Tensor, shape: tuple[int, ...]) -> Tensor:
        count = int(np.prod(shape[1:]))
        index = (start[:, None] + ops.arange(count, dtype="int32")[None]) % len(noise_table())
        return ops.reshape(ops.take(self._noise, index, axis=0), (-1, *shape[1:]))

    def _keep(self, name: str, values: NDArray[Any]) -> Tensor:
        values = values.astype(np.int32) if values.dtype == np.int64 else values
        kept = self.add_weight(
            shape=values.shape, dtype=str(values.dtype), initializer="zeros", trainable=False, autocast=False, name=name
        )
        kept.assign(values)
        return kept


def _corners(rows: Tensor, columns: Tensor, scene: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weight and flat index of the four pixels around each position."""
    above, left = ops.floor(rows), ops.floor(columns)
    down, right = rows - above, columns - left
    return [
        ((1.0 - down) * (1.0 - right), _index(above, left, scene)),
        ((1.0 - down) * right, _index(above, left + 1.0, scene)),
        (down * (1.0 - right), _index(above + 1.0, left, scene)),
        (down * right, _index(above + 1.0, left + 1.0, scene)),
    ]


def _index(rows: Tensor, columns: Tensor, scene: Tensor) -> Tensor:
    """Flat pixel of whole positions, mirrored into the scene; `scene` tells start, height and width."""
    start, height, width = scene[..., 0], scene[..., 1], scene[..., 2]
    row, column = (_mirrored(ops.cast(at, "int32"), size) for at, size in ((rows, height), (columns, width)))
    return start + row * width + column


def _mirrored(position: Tensor, size: Tensor) -> Tensor:
    period = ops.maximum(2 * (size - 1), 1)
    folded = ops.mod(position, period)
    return ops.minimum(folded, period - folded)


def _num_pixels(source: TrainingScene) -> int:
    return int(source.scene.known.size)


def _copy(source: TrainingScene, bands: NDArray[np.float16], targets: NDArray[np.uint8]) -> None:
    """By some rows at a time, so that no second copy of a scene is alive."""
    scene = source.scene
    height, width = scene.known.shape
    highest = np.finfo(np.float16).max
    for first in range(0, height, ROWS_AT_ONCE):
        rows = slice(first, min(first + ROWS_AT_ONCE, height))
        flat = slice(rows.start * width, rows.stop * width)
        scaled = source.scaling.apply(np.asarray(scene.cube[rows]))
        bands[flat] = np.clip(scaled, -highest, highest).reshape(-1, bands.shape[1])
        targets[flat, :-1] = scene.masks[rows][..., source.classes].reshape(-1, len(source.classes))
        targets[flat, -1] = scene.known[rows].ravel()

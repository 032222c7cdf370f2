"""From a scene's bands and labels to arrays on one grid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imagery import indices as spectral
from pipeline.imagery.grid import Grid, labels_on
from pipeline.imagery.rasterise import rasterise
from pipeline.imagery.registration import Shift
from pipeline.imagery.resampling import Resampling, Shape, composed, edge_to_edge, row_blocks
from pipeline.scene import Band, BandGroup, RasterLabels, Scene, inverse


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


@dataclass(frozen=True)
class CubeRows:
    """Some rows of a cube.

    Attributes:
        first: The first one.
        bands: float32 `(n, W, B)`, indices last; NaN where there is no data.
        valid: bool `(n, W)`, True where every band has data.
    """

    first: int
    bands: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class _Source:
    """The bands of one group that are needed, and how they come onto the grid."""

    names: tuple[str, ...]
    planes: NDArray[np.generic]
    valid: NDArray[np.bool_] | None
    resampling: Resampling


class BandStack:
    """A scene's bands and indices on a grid, made some rows at a time: a whole cube can be larger than the memory.

    Each band is interpolated once, whatever lies between its own pixels and the grid: where its group lies, by how
    much it is shifted, and how coarse the grid is.

    Args:
        scene: Has every one of `bands`, and those that `indices` need.
        bands: Bands to keep, in order.
        indices: Spectral indices to add, in order.
        shape: Rows and columns of the grid, which covers the scene from edge to edge.
        shifts: Of the scene's groups; only accepted ones count.
        sensor: All bands of the data set: those of an index may be found by their wavelengths. By the names that the
            scene has where empty.

    Raises:
        DataError: An index that the scene cannot give, or a placement without area.
    """

    def __init__(
        self,
        scene: Scene,
        bands: Sequence[str],
        indices: Sequence[str],
        shape: Shape,
        shifts: Sequence[Shift] = (),
        sensor: Sequence[Band] = (),
    ) -> None:
        self.shape = shape
        self.num_bands = len(bands) + len(indices)
        self._bands, self._indices = tuple(bands), tuple(indices)
        self._sensor: tuple[str | Band, ...] = tuple(sensor) or tuple(n for group in scene.groups for n in group.names)
        needed = {*bands, *(name for index in indices for name in spectral.bands_for(index, self._sensor))}
        by_group = {shift.group: shift for shift in shifts if shift.moves}
        self._sources = [
            _source(scene, group, tuple(name for name in group.names if name in needed), shape, by_group)
            for group in scene.groups
            if needed & set(group.names)
        ]

    def blocks(self) -> Iterator[CubeRows]:
        """All rows from the first to the last, in blocks that a processor's cache holds."""
        for first, last in row_blocks(self.shape, self.num_bands):
            yield self.rows(first, last)

    def whole(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """All rows at once: bands `(H, W, B)`, and where every band has data `(H, W)`."""
        bands, valid = np.empty((*self.shape, self.num_bands), np.float32), np.empty(self.shape, bool)
        for rows in self.blocks():
            place = slice(rows.first, rows.first + len(rows.bands))
            bands[place], valid[place] = rows.bands, rows.valid
        return bands, valid

    def rows(self, first: int, last: int) -> CubeRows:
        """Rows from `first` to the one before `last`."""
        cube = np.empty((last - first, self.shape[1], self.num_bands), np.float32)
        valid = np.ones(cube.shape[:2], bool)
        planes: dict[str, NDArray[np.float32]] = {}
        for source in self._sources:
            values, known = source.resampling.rows(source.planes, source.valid, first, last)
            if known is not None:
                valid &= known
            for position, name in enumerate(source.names):
                planes[name] = values[..., position]
        for position, name in enumerate(self._bands):
            cube[..., position] = planes[name]
        for position, index in enumerate(self._indices, start=len(self._bands)):
            cube[..., position] = spectral.compute(index, planes, self._sensor)
        if not valid.all():
            cube[~valid] = np.nan
        return CubeRows(first, cube, valid)


class StackCube:
    """The bands of a stack, float32 `(H, W, B)`, made when rows of them are asked for: `cube[first:stop]`.

    Args:
        stack: The bands. Rows that were made last are kept for `valid`.
    """

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, stack: BandStack) -> None:
        self._stack = stack
        self._kept: CubeRows | None = None
        self.shape = (*stack.shape, stack.num_bands)
        self.valid = StackValid(self)
        """Where every band has data, bool `(H, W)`, by rows as well."""

    def __getitem__(self, key: Any) -> Any:
        """Rows by a slice; anything else makes the whole cube first."""
        if isinstance(key, slice) and key.step in (None, 1):
            return self.rows(key).bands
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it."""
        return np.asarray(self._stack.whole()[0], dtype)

    def rows(self, rows: slice) -> CubeRows:
        """Rows with their validity, in blocks that a processor's cache holds."""
        first, stop, _ = rows.indices(self.shape[0])
        kept = self._kept
        if kept is None or (kept.first, kept.first + len(kept.bands)) != (first, stop):
            step = row_blocks(self._stack.shape, self._stack.num_bands)[0][1]
            parts = [self._stack.rows(each, min(stop, each + step)) for each in range(first, stop, step)]
            bands, valid = (np.concatenate([getattr(part, name) for part in parts]) for name in ("bands", "valid"))
            self._kept = kept = CubeRows(first, bands, valid)
        return kept


class StackValid:
    """Where a stack has data, bool `(H, W)`, by rows.

    Args:
        cube: Of the stack.
    """

    ndim = 2
    dtype = np.dtype(bool)

    def __init__(self, cube: StackCube) -> None:
        self._cube = cube
        self.shape = cube.shape[:2]

    def __getitem__(self, key: Any) -> Any:
        """Rows by a slice; anything else makes all of it first."""
        if isinstance(key, slice) and key.step in (None, 1):
            return self._cube.rows(key).valid
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it."""
        return np.asarray(self._cube.rows(slice(None)).valid, dtype)


def make_cube(
    scene: Scene,
    bands: Sequence[str],
    indices: Sequence[str],
    classes: Sequence[str],
    grid: Grid | None = None,
    shifts: Sequence[Shift] = (),
    sensor: Sequence[Band] = (),
) -> Cube:
    """Bring every band onto one grid, compute indices, rasterise labels.

    Args:
        scene: Has every one of `bands`, and those that `indices` need.
        bands: Bands to keep, in order.
        indices: Spectral indices to add, in order.
        classes: Classes of the masks, in order; one that the labels lack is absent.
        grid: Where to; the scene's own where None.
        shifts: Of the scene's groups; only accepted ones count.
        sensor: As for `BandStack`.

    Raises:
        DataError: A band or an index that the scene cannot give, or a broken polygon.
    """
    stack = BandStack(scene, bands, indices, (grid or Grid.of(scene)).shape, shifts, sensor)
    cube, valid = stack.whole()
    masks, known = draw_labels(scene, classes, valid)
    return Cube(cube, masks, valid, known)


def draw_labels(
    scene: Scene, classes: Sequence[str], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw a scene's labels on the grid of `valid`.

    Returns:
        uint8 masks `(H, W, K)` and bool `(H, W)`, where there is data and a label; as in `Cube`.

    Raises:
        DataError: A broken polygon.
    """
    shape = (valid.shape[0], valid.shape[1])
    masks = np.zeros((*shape, len(classes)), np.uint8)
    labels = labels_on(scene, shape)
    if labels is None:
        return masks, np.zeros(shape, bool)
    if isinstance(labels, RasterLabels):
        known = labels.known & valid
    else:
        known = valid & (rasterise(labels.ignored, *shape) == 0) if labels.ignored else valid.copy()
    for position, name in enumerate(classes):
        if name in labels.by_class:
            mask = (
                labels.by_class[name] if isinstance(labels, RasterLabels) else rasterise(labels.by_class[name], *shape)
            )
            masks[..., position] = mask & known
    return masks, known


def _source(scene: Scene, group: BandGroup, names: tuple[str, ...], shape: Shape, shifts: dict[str, Shift]) -> _Source:
    positions = [group.names.index(name) for name in names]
    planes = group.planes if len(names) == len(group.names) else group.planes[positions]
    return _Source(names, planes, group.valid, resampling_of(scene, group, shape, shifts.get(group.name)))


def resampling_of(scene: Scene, group: BandGroup, shape: Shape, shift: Shift | None = None) -> Resampling:
    """How a group's pixels come onto a grid that covers the scene.

    Args:
        scene: Whose group it is.
        group: Edge to edge with the scene, or placed within it.
        shape: Rows and columns of the grid.
        shift: By which the group's content lies off, in pixels of the scene's own grid; None for none.

    Raises:
        DataError: The group's placement squeezes it to a line.
    """
    own, source = (scene.height_px, scene.width_px), (group.planes.shape[1], group.planes.shape[2])
    to_scene = edge_to_edge(own, shape)
    to_group = edge_to_edge(source, own) if group.placement is None else inverse(group.placement)
    still = composed(to_group, to_scene)
    moved = still
    if shift is not None:
        moved = composed(to_group, composed((1.0, 0.0, shift.x_px, 0.0, 1.0, shift.y_px), to_scene))
    return Resampling(moved, source, shape, None if group.placement is None else still)

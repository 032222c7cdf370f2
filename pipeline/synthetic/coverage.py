"""How much of each pixel polygons cover, exactly: for painting, where the 0 or 1 of a mask would leave steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

Plane = NDArray[np.float32]

TILE_PX = 128
"""Larger polygons are cut along pixel borders first, or a long road would fill its bounding box with zeros."""

LEAST, FULL = 1e-3, 0.999


@dataclass(frozen=True)
class Coverage:
    """Pixels that polygons cover.

    Attributes:
        at: int64, flat positions in the plane, rising.
        share: float32, how much of each is covered, above 0 and at most 1.
        number: int32, which polygon covers it; of several the one with the largest share.
    """

    at: NDArray[np.int64]
    share: Plane
    number: NDArray[np.int32]

    def plane(self, shape: tuple[int, int]) -> Plane:
        """The shares as an image, 0 where nothing is."""
        flat = np.zeros(shape[0] * shape[1], np.float32)
        flat[self.at] = self.share
        return flat.reshape(shape)


def cover(polygons: Sequence[Polygon], shape: tuple[int, int]) -> Coverage:
    """Measure how much of each pixel polygons cover; exact for each, and where several overlap their sum up to 1.

    Args:
        polygons: In pixel coordinates, x right, y down, pixel corners at whole numbers; what lies outside is cut off.
        shape: Rows and columns.
    """
    pieces, owner = _pieces(polygons, shape)
    if not len(pieces):
        return Coverage(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int32))
    at, share, piece = _cells(pieces, shape[1])
    total = np.zeros(shape[0] * shape[1], np.float32)
    np.add.at(total, at, share)
    number = np.zeros(len(total), np.int32)
    # The last assignment to a pixel stays, so the largest share goes last.
    partly, wholly = np.flatnonzero(share < FULL), np.flatnonzero(share >= FULL)
    for cells in (partly[np.argsort(share[partly], kind="stable")], wholly):
        number[at[cells]] = owner[piece[cells]]
    covered = np.flatnonzero(total > LEAST)
    return Coverage(covered, np.minimum(total[covered], 1.0), number[covered])


def _pieces(polygons: Sequence[Polygon], shape: tuple[int, int]) -> tuple[NDArray[np.object_], NDArray[np.int32]]:
    """Polygons cut at the border and along tiles, and which polygon each piece is from."""
    whole = np.array(list(polygons), object)
    if not len(whole):
        return whole, np.zeros(0, np.int32)
    left, top, right, bottom = shapely.bounds(whole).T
    rows = [np.arange(low, high) for low, high in _tiles(top, bottom, shape[0])]
    columns = [np.arange(low, high) for low, high in _tiles(left, right, shape[1])]
    owner = np.repeat(np.arange(len(whole)), [len(r) * len(c) for r, c in zip(rows, columns, strict=True)])
    if not len(owner):
        return whole[:0], np.zeros(0, np.int32)
    row = np.concatenate([np.repeat(r, len(c)) for r, c in zip(rows, columns, strict=True)])
    column = np.concatenate([np.tile(c, len(r)) for r, c in zip(rows, columns, strict=True)])
    frames = shapely.box(
        column * TILE_PX,
        row * TILE_PX,
        np.minimum((column + 1) * TILE_PX, shape[1]),
        np.minimum((row + 1) * TILE_PX, shape[0]),
    )
    within = (left[owner] >= column * TILE_PX) & (right[owner] <= np.minimum((column + 1) * TILE_PX, shape[1]))
    within &= (top[owner] >= row * TILE_PX) & (bottom[owner] <= np.minimum((row + 1) * TILE_PX, shape[0]))
    cut = whole[owner]
    cut[~within] = shapely.intersection(cut[~within], frames[~within])
    parts, which = shapely.get_parts(cut, return_index=True)
    kept = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
    return parts[kept], owner[which[kept]].astype(np.int32)


def _tiles(low: NDArray[np.float64], high: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """First and last-but-one tile that each span touches within the plane."""
    first = np.floor(np.clip(low, 0, size) / TILE_PX)
    last = np.ceil(np.clip(high, 0, size) / TILE_PX)
    return np.stack([first, last], axis=1).astype(np.int64)


def _cells(pieces: NDArray[np.object_], num_columns: int) -> tuple[NDArray[np.int64], Plane, NDArray[np.int64]]:
    """Flat position, share and piece of every pixel that a piece covers.

    Each piece has a box of its own, one column wider than it is. Every edge adds its signed height to the box, to the
    right of where it runs; a running sum along the rows makes areas of it, and is back at 0 at the end of each row.
    """
    left, top, right, bottom = shapely.bounds(pieces).T
    first_row, first_column = np.floor(top).astype(np.int64), np.floor(left).astype(np.int64)
    widths = np.ceil(right).astype(np.int64) - first_column + 1
    sizes = widths * (np.ceil(bottom).astype(np.int64) - first_row)
    begins = np.cumsum(sizes) - sizes
    x, y, height, piece = _segments(pieces)
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    at = begins[piece] + (row - first_row[piece]) * widths[piece] + column - first_column[piece]
    within = x - column
    sums = np.bincount(at, height * (1 - within), minlength=sizes.sum() + 1)
    sums += np.bincount(at + 1, height * within, minlength=len(sums))
    share = np.abs(np.cumsum(sums))
    cell = np.flatnonzero(share > LEAST)
    piece = np.searchsorted(begins, cell, side="right") - 1
    inside = cell - begins[piece]
    rows, columns = first_row[piece] + inside // widths[piece], first_column[piece] + inside % widths[piece]
    return rows * num_columns + columns, share[cell].astype(np.float32), piece


def _segments(
    pieces: NDArray[np.object_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """All outlines, cut where they pass from pixel to pixel: middles, signed heights, and which piece each is of."""
    # Normalised, outer rings run one way and holes the other, so that holes are taken away.
    rings, piece_of_ring = shapely.get_rings(shapely.normalize(pieces), return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    joined = ring[1:] == ring[:-1]
    start, step = points[:-1][joined], np.diff(points, axis=0)[joined]
    piece = piece_of_ring[ring[:-1][joined]]
    edge, where = _crossings(start, step)
    order = np.lexsort((where, edge))
    edge, where = edge[order], where[order]
    same = edge[1:] == edge[:-1]
    edge, begin, end = edge[:-1][same], where[:-1][same], where[1:][same]
    rising = (begin < end) & (step[edge, 1] != 0)
    edge, begin, end = edge[rising], begin[rising], end[rising]
    middle = start[edge] + step[edge] * ((begin + end) / 2)[:, None]
    return middle[:, 0], middle[:, 1], step[edge, 1] * (end - begin), piece[edge]


def _crossings(start: NDArray[np.float64], step: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where along itself, from 0 to 1, each edge begins, ends, and crosses from one pixel to the next."""
    edges = np.arange(len(start))
    found = [(edges, np.zeros(len(edges))), (edges, np.ones(len(edges)))]
    for axis in (0, 1):
        low = np.minimum(start[:, axis], start[:, axis] + step[:, axis])
        high = np.maximum(start[:, axis], start[:, axis] + step[:, axis])
        first = np.floor(low).astype(np.int64) + 1
        number = np.maximum(np.ceil(high).astype(np.int64) - first, 0)
        edge = np.repeat(edges, number)
        line = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(number) - number, number)
        found.append((edge, (line - start[edge, axis]) / step[edge, axis]))
    return np.concatenate([edge for edge, _ in found]), np.concatenate([where for _, where in found])

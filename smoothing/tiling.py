"""Where tiles lie along an axis, and what a tile that sticks out of the image sees there."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from smoothing.errors import BlendingError

BORDERS = ("snap", "beyond")


@dataclass(frozen=True)
class Axis:
    """One axis of an image, and what of it is mapped.

    Attributes:
        length_px: Length of the image.
        first: First pixel that is mapped.
        stop: That after the last one.
    """

    length_px: int
    first: int
    stop: int

    @property
    def mapped_px(self) -> int:
        """How many pixels are mapped."""
        return self.stop - self.first


@dataclass(frozen=True)
class Span:
    """One tile along one axis.

    Attributes:
        start: First pixel of the tile in the image; may lie before it.
        tile_px: Length of the tile.
        axis: What it lies on.
    """

    start: int
    tile_px: int
    axis: Axis

    @property
    def stop(self) -> int:
        """The pixel after the tile's last one; may lie beyond the image."""
        return self.start + self.tile_px

    def grown(self, margin_px: int) -> "Span":
        """The same tile with so much more before and after it."""
        return replace(self, start=self.start - margin_px, tile_px=self.tile_px + 2 * margin_px)

    @cached_property
    def in_image(self) -> slice:
        """The pixels that are mapped and that the tile covers, as places in the image."""
        return slice(max(self.axis.first, self.start), min(self.axis.stop, self.stop))

    @cached_property
    def in_map(self) -> slice:
        """The same pixels as places in the map, which begins with the first one that is mapped."""
        inside = self.in_image
        return slice(inside.start - self.axis.first, inside.stop - self.axis.first)

    @cached_property
    def first_mapped(self) -> int:
        """The first of these places."""
        return max(0, self.start - self.axis.first)

    @cached_property
    def in_tile(self) -> slice:
        """The same pixels as places in the tile."""
        inside = self.in_image
        return slice(inside.start - self.start, inside.stop - self.start)

    @cached_property
    def sticks_out(self) -> bool:
        """Whether some of the tile lies outside the image."""
        return self.start < 0 or self.stop > self.axis.length_px

    @cached_property
    def seen(self) -> npt.NDArray[np.intp]:
        """The image's pixel at each place of the tile, mirrored at the image's borders: integers `(tile_px,)`."""
        places = np.arange(self.start, self.stop)
        last = self.axis.length_px - 1
        if last == 0:
            return np.zeros_like(places)
        folded = places % (2 * last)
        return np.minimum(folded, 2 * last - folded)

    @cached_property
    def needed(self) -> slice:
        """The pixels of the image that hold all of `seen`."""
        if not self.sticks_out:
            return slice(self.start, self.stop)
        seen = self.seen
        return slice(int(seen.min()), int(seen.max()) + 1)


def spans(axis: Axis, tile_px: int, overlap: float, borders: str = "snap") -> tuple[Span, ...]:
    """Spread tiles over what of an axis is mapped, from border to border.

    Tiles overlap by at least `overlap` and lie symmetrically, so that turning an image turns its tiles.

    Args:
        axis: What is mapped of an image.
        tile_px: Length of a tile.
        overlap: Share of a tile that its neighbour covers too, in [0, 1).
        borders: "snap", where the outer tiles end at the borders, and stick out, evenly on both sides, only where less
            is mapped than a tile; or "beyond", where they stick out by as much as tiles overlap, so that pixels at a
            border are seen as often as others.

    Returns:
        The tiles in order; every pixel is in at least one.

    Raises:
        BlendingError: A length below 1, an overlap out of range, or no such borders.
    """
    if axis.mapped_px < 1 or tile_px < 1:
        raise BlendingError(
            f"`tile_px` and the image's sides must be at least 1. Received {tile_px}, {axis.mapped_px}."
        )
    if not 0.0 <= overlap < 1.0:
        raise BlendingError(f"`overlap` must be in [0, 1). Received {overlap!r}.")
    if borders not in BORDERS:
        raise BlendingError(f"`borders` must be one of {', '.join(BORDERS)}. Received {borders!r}.")
    # 1 - 0.9 is a little less than 0.1, which would cost a step of tiles a pixel.
    stride = max(1, math.floor(tile_px * (1.0 - overlap) + 1e-9 * tile_px))
    outside = tile_px - stride if borders == "beyond" else 0
    outside = max(outside, -((axis.mapped_px - tile_px) // 2))
    room = axis.mapped_px + 2 * outside - tile_px
    num_steps = -(-room // stride)
    if num_steps % 2 == 0 and room % 2 == 1:
        # An odd number of tiles needs a middle one, which cannot lie in the middle of an odd room.
        num_steps += 1
    first_half = {-(-i * room // num_steps) for i in range(num_steps // 2 + 1)} if num_steps else {0}
    starts = sorted(first_half | {room - start for start in first_half})
    return tuple(Span(axis.first + start - outside, tile_px, axis) for start in starts)

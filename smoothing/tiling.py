"""Where tiles lie along an axis, and what a tile that sticks out of the image sees there."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smoothing.errors import BlendingError


@dataclass(frozen=True)
class Span:
    """One tile along one axis.

    Attributes:
        start: First pixel of the tile in the image; negative where it sticks out.
        tile_px: Length of the tile.
        length_px: Length of the image.
    """

    start: int
    tile_px: int
    length_px: int

    def grown(self, margin_px: int) -> "Span":
        """The same tile with so much more before and after it."""
        return Span(self.start - margin_px, self.tile_px + 2 * margin_px, self.length_px)

    @property
    def in_image(self) -> slice:
        """The pixels of the image that the tile covers."""
        return slice(max(0, self.start), min(self.length_px, self.start + self.tile_px))

    @property
    def in_tile(self) -> slice:
        """The same pixels, counted from the start of the tile."""
        inside = self.in_image
        return slice(inside.start - self.start, inside.stop - self.start)

    @property
    def sticks_out(self) -> bool:
        """Whether some of the tile lies outside the image."""
        return self.start < 0 or self.start + self.tile_px > self.length_px

    @property
    def seen(self) -> npt.NDArray[np.intp]:
        """The image's pixel at each place of the tile, mirrored at the borders: integers `(tile_px,)`."""
        places = np.arange(self.start, self.start + self.tile_px)
        if self.length_px == 1:
            return np.zeros_like(places)
        period = 2 * (self.length_px - 1)
        folded = places % period
        return np.minimum(folded, period - folded)


def spans(length_px: int, tile_px: int, overlap: float) -> tuple[Span, ...]:
    """Spread tiles over an axis, from border to border.

    Tiles overlap by at least `overlap` and lie symmetrically, so that turning an image turns its tiles. The outer ones
    end at the borders; only where the image is shorter than a tile do they stick out, evenly on both sides.

    Args:
        length_px: Length of the image.
        tile_px: Length of a tile.
        overlap: Share of a tile that its neighbour covers too, in [0, 1).

    Returns:
        The tiles in order; every pixel is in at least one.

    Raises:
        BlendingError: A length below 1, or an overlap out of range.
    """
    if length_px < 1 or tile_px < 1:
        raise BlendingError(f"`tile_px` and the image's sides must be at least 1. Received {tile_px}, {length_px}.")
    if not 0.0 <= overlap < 1.0:
        raise BlendingError(f"`overlap` must be in [0, 1). Received {overlap!r}.")
    outside = max(0, -((length_px - tile_px) // 2))
    room = length_px + 2 * outside - tile_px
    stride = max(1, round(tile_px * (1.0 - overlap)))
    num_steps = -(-room // stride)
    if num_steps % 2 == 0 and room % 2 == 1:
        # An odd number of tiles needs a middle one, which cannot lie in the middle of an odd room.
        num_steps += 1
    first_half = {-(-i * room // num_steps) for i in range(num_steps // 2 + 1)} if num_steps else {0}
    starts = sorted(first_half | {room - start for start in first_half})
    return tuple(Span(start - outside, tile_px, length_px) for start in starts)

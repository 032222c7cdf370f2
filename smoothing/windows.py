"""Blending weights of a tile: high in the middle, where a predictor sees most of the surroundings, low at the edge.

Every window is the product of the same positive, symmetric profile along rows and columns, taken at pixel centres, so
it is never zero inside the tile and a pixel that one tile alone sees can be divided by its weight.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from smoothing.errors import BlendingError

Profile = npt.NDArray[np.float64]


def window_weights(name: str, tile_px: int) -> npt.NDArray[np.float32]:
    """Compute the weights of a tile.

    Args:
        name: "spline" (a squared spline: two parabolas that meet halfway), "hann" (a raised cosine) or "flat".
        tile_px: Side length of the tile.

    Returns:
        float32 `(tile_px, tile_px)`, all in (0, 1].

    Raises:
        BlendingError: No such window.
    """
    if name not in WINDOWS:
        raise BlendingError(f"`window` must be one of {', '.join(WINDOWS)}. Received {name!r}.")
    centres = (np.arange(tile_px) + 0.5) / tile_px
    # The distance to the nearer edge: 0 at the edge, 1 in the middle, and exactly the same from both sides.
    profile = WINDOWS[name](2.0 * np.minimum(centres, centres[::-1]))
    return np.outer(profile, profile).astype(np.float32)


def _spline(inwards: Profile) -> Profile:
    return np.where(inwards < 0.5, 2.0 * inwards**2, 1.0 - 2.0 * (1.0 - inwards) ** 2)


def _hann(inwards: Profile) -> Profile:
    return np.sin(0.5 * np.pi * inwards) ** 2


WINDOWS: dict[str, Callable[[Profile], Profile]] = {"spline": _spline, "hann": _hann, "flat": np.ones_like}
"""The profiles by name, as functions of the distance to the nearer edge in half tiles."""

"""Weights of a tile's pixels: high in the middle, low at its edges, where another tile sees more."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smoothing.errors import BlendingError

Profile = npt.NDArray[np.float64]

LEAST_WEIGHT = 1e-12
"""Of a pixel along one axis: whatever the power, what one tile alone has seen can be divided by its weight."""


def window_weights(
    name: str, tile_px: int, *, power: float | None = None, overlap: float = 0.5
) -> npt.NDArray[np.float32]:
    """Compute the weights of a tile.

    Args:
        name: One of `WINDOWS`.
        tile_px: Side length of the tile.
        power: Makes the window steeper, above 0; that of `WINDOWS` where None. Of "spline" it is that of the
            two pieces that meet halfway, else that of the weights.
        overlap: Share of a tile that its neighbour covers too, over which "cosine" rises.

    Returns:
        float32 `(tile_px, tile_px)`, all in (0, 1].

    Raises:
        BlendingError: No such window, or a power that is none.
    """
    # The distance of pixels' centres to the nearer edge, exactly the same from both sides.
    centres = (np.arange(tile_px) + 0.5) / tile_px
    profile = window_profile(name, 2.0 * np.minimum(centres, centres[::-1]), power=power, overlap=overlap)
    return np.outer(profile, profile).astype(np.float32)


def window_profile(name: str, inwards: Profile, *, power: float | None = None, overlap: float = 0.5) -> Profile:
    """The weights along one axis, at any places.

    Args:
        name: See `window_weights`.
        inwards: Distances to the nearer edge in half tiles: 0 at the edge, 1 in the middle.
        power: See `window_weights`.
        overlap: See `window_weights`.

    Returns:
        Weights in (0, 1], shaped as `inwards`.
    """
    check_window(name, power)
    window = WINDOWS[name]
    if window.is_ramp:
        # Of neighbours that share this part of a tile, one rises where the other one falls.
        ramp = min(1.0, 2.0 * overlap)
        inwards = np.minimum(inwards / ramp, 1.0) if ramp > 0.0 else np.ones_like(inwards)
    return np.maximum(window.profile(inwards, window.power if power is None else power), LEAST_WEIGHT)


def check_window(name: str, power: float | None) -> None:
    """Refuse windows that there are not.

    Raises:
        BlendingError: No such window, or a power that is none.
    """
    if name not in WINDOWS:
        raise BlendingError(f"`window` must be one of {', '.join(WINDOWS)}. Received {name!r}.")
    if power is not None and not 0.0 < power < np.inf:
        raise BlendingError(f"`power` must be a number above 0. Received {power!r}.")


def _spline(inwards: Profile, power: float) -> Profile:
    return np.where(inwards < 0.5, (2.0 * inwards) ** power, 2.0 - (2.0 * (1.0 - inwards)).clip(0.0) ** power) / 2.0


def _hann(inwards: Profile, power: float) -> Profile:
    return np.sin(0.5 * np.pi * inwards) ** (2.0 * power)


def _gaussian(inwards: Profile, power: float) -> Profile:
    # A standard deviation of an eighth of the tile, as in nnU-Net and MONAI.
    return np.exp(-0.5 * power * (4.0 * (1.0 - inwards)) ** 2)


def _flat(inwards: Profile, power: float) -> Profile:
    return np.ones_like(inwards) ** power


@dataclass(frozen=True)
class Window:
    """A kind of window.

    Attributes:
        profile: Weights along one axis, of the distance to the nearer edge in half tiles and of the power.
        power: That which is taken where none is given.
        is_ramp: Whether it rises only over what tiles share with their neighbours, and is flat within.
    """

    profile: Callable[[Profile, float], Profile]
    power: float = 1.0
    is_ramp: bool = False


WINDOWS = {
    "spline": Window(_spline, power=2.0),
    "hann": Window(_hann),
    "gaussian": Window(_gaussian),
    "cosine": Window(_hann, is_ramp=True),
    "flat": Window(_flat),
}
"""By name: two parabolas that meet halfway (a squared spline), a raised cosine, a bell, a plateau between cosine ramps
(Tukey's window), and all alike."""

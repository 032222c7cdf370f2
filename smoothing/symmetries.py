"""Turns and mirrors of square tiles, a whole batch at a time."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Symmetry:
    """One way to look at a square.

    Attributes:
        mirrored: Left and right are swapped first.
        quarter_turns: Then it is turned counter-clockwise so many times.
    """

    mirrored: bool
    quarter_turns: int

    @property
    def lies_across(self) -> bool:
        """Whether rows of pixels become columns."""
        return self.quarter_turns % 2 == 1

    def forward(self, tiles: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Turn tiles `(N, t, t, ...)`; a view, nothing is copied."""
        mirrored = tiles[:, :, ::-1] if self.mirrored else tiles
        return np.rot90(mirrored, self.quarter_turns, axes=(1, 2))

    def inverse(self, tiles: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Turn tiles back; `inverse(forward(tiles))` is `tiles`."""
        turned = np.rot90(tiles, -self.quarter_turns, axes=(1, 2))
        return turned[:, :, ::-1] if self.mirrored else turned

    def relative_to(self, other: "Symmetry") -> "Symmetry":
        """How tiles that are turned as by `other` must be turned further to lie as by this one."""
        # A mirrored square turns the other way round.
        turns = self.quarter_turns + (-1 if self.mirrored == other.mirrored else 1) * other.quarter_turns
        return Symmetry(self.mirrored != other.mirrored, turns % 4)


@dataclass(frozen=True)
class SymmetrySet:
    """From which sides tiles are looked at.

    Attributes:
        upright: Ways to look at a tile as it lies.
        diagonal: Ways to look at one of the same size and middle that lies at 45°.
    """

    upright: tuple[Symmetry, ...]
    diagonal: tuple[Symmetry, ...] = ()

    @property
    def num_views(self) -> int:
        """How often each tile is predicted."""
        return len(self.upright) + len(self.diagonal)


_D4 = tuple(Symmetry(mirrored, turns) for turns in range(4) for mirrored in (False, True))

SYMMETRIES: dict[str, SymmetrySet] = {
    "none": SymmetrySet((Symmetry(False, 0),)),
    "flips": SymmetrySet(tuple(Symmetry(mirrored, turns) for turns in (0, 2) for mirrored in (False, True))),
    "d4": SymmetrySet(_D4),
    "d8": SymmetrySet(_D4, _D4),
}
"""The sets by name: the identity; it, two mirrors and both; all eight turns and mirrors of a square; these, and these
again after a turn by 45°, which are the sixteen of an octagon."""

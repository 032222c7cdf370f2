"""What patches are cut from."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.preparation.normalisation import BandScaling, Imagery


class LabelledImagery(Imagery, Protocol):
    """A scene with its truth."""

    @property
    def id(self) -> str:
        """The scene's name."""

    @property
    def masks(self) -> NDArray[np.uint8]:
        """Classes as pixels, 0 or 1, `(H, W, K)`."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which pixels have data and a label, `(H, W)`."""


@dataclass(frozen=True)
class TrainingScene:
    """A scene with its scaling, and the classes that are trained, in order.

    Attributes:
        scene: Bands and truth; `known` tells the pixels of this fold alone.
        scaling: How its bands become numbers.
        classes: Positions of the trained classes in its masks.
        held_out: Bool `(H, W)`, True on ground of other folds, which no training patch may touch; None where the whole
            scene belongs to one fold.
    """

    scene: LabelledImagery
    scaling: BandScaling
    classes: tuple[int, ...]
    held_out: NDArray[np.bool_] | None = None

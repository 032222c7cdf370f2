"""A scene in memory, as training sees it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FakeScene:
    """Arrays `(H, W, B)`, `(H, W, K)` and `(H, W)`."""

    id: str
    cube: NDArray[np.float32]
    masks: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    known: NDArray[np.bool_]

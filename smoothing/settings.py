"""How tiles become a map: what can be chosen, and checked at once."""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt

from smoothing.diagonals import reach_px, turned_offsets
from smoothing.errors import BlendingError
from smoothing.symmetries import SYMMETRIES, SymmetrySet
from smoothing.tiling import Axis, spans
from smoothing.windows import check_window, window_profile, window_weights

AVERAGES = ("mean", "geometric", "median")
MOST_TILE_PX = 32_768
"""A tile of more would take gigabytes for its weights alone."""


@dataclass(frozen=True)
class Blending:
    """How tiles become a map.

    Attributes:
        tile_px: Side length of a tile, t.
        margin_px: How much less than the tile the predictor returns on each side, m; what it lacks, neighbours have.
            Beyond the image's borders a tile sees the image mirrored.
        overlap: Least share of a tile, less its margin, that its neighbour covers too, in [0, 1).
        symmetries: "none", "flips" (4 views), "d4" (8), or "d8" (16, half of them of a tile that lies at 45°).
        average: How the views of a tile become one: "mean"; "geometric", the root of their product, of predictions that
            are not below 0; or "median". Tiles are blended by their weighted mean.
        window: Weights of a tile's pixels, one of "spline", "hann", "gaussian", "cosine", "flat".
        power: How steep the window is; None for 2 of a spline, 1 of others.
        borders: "snap", where the outer tiles end at the borders, or "beyond", where they stick out.
        batch_size: Tiles per call of the predictor.

    Raises:
        BlendingError: One of them is out of range.
    """

    tile_px: int
    margin_px: int = 0
    overlap: float = 0.5
    symmetries: str = "d4"
    average: str = "mean"
    window: str = "spline"
    power: float | None = None
    borders: str = "snap"
    batch_size: int = 16

    def __post_init__(self) -> None:
        self._check_kinds()
        for name in ("tile_px", "margin_px", "batch_size"):
            # Those of NumPy overflow where they are narrow.
            object.__setattr__(self, name, int(getattr(self, name)))
        if self.tile_px > MOST_TILE_PX:
            raise BlendingError(f"`tile_px` must be at most {MOST_TILE_PX}. Received {self.tile_px}.")
        if self.margin_px < 0 or 0 < self.tile_px <= 2 * self.margin_px:
            raise BlendingError(
                f"`margin_px` must leave something of a tile of {self.tile_px} px. Received {self.margin_px}."
            )
        if self.symmetries not in SYMMETRIES:
            raise BlendingError(f"`symmetries` must be one of {', '.join(SYMMETRIES)}. Received {self.symmetries!r}.")
        if self.average not in AVERAGES:
            raise BlendingError(f"`average` must be one of {', '.join(AVERAGES)}. Received {self.average!r}.")
        if self.batch_size < 1:
            raise BlendingError(f"`batch_size` must be at least 1. Received {self.batch_size!r}.")
        check_window(self.window, self.power)
        spans(Axis(1, 0, 1), self.shown_px, self.overlap, self.borders)

    def _check_kinds(self) -> None:
        for name in ("tile_px", "margin_px", "batch_size"):
            if not isinstance(getattr(self, name), Integral) or isinstance(getattr(self, name), bool):
                raise BlendingError(f"`{name}` must be a whole number. Received {getattr(self, name)!r}.")
        for name, kind in (("overlap", Real), ("power", Real | None), ("symmetries", str), ("window", str)):
            if not isinstance(getattr(self, name), kind):
                what = "a name" if kind is str else "a number"
                raise BlendingError(f"`{name}` must be {what}. Received {getattr(self, name)!r}.")

    @property
    def shown_px(self) -> int:
        """Side length of what the predictor returns of a tile."""
        return self.tile_px - 2 * self.margin_px

    @property
    def views(self) -> SymmetrySet:
        """From which sides tiles are looked at."""
        return SYMMETRIES[self.symmetries]

    @property
    def reach_px(self) -> int:
        """How far beyond a tile its views look."""
        return reach_px(self.tile_px) if self.views.diagonal else 0

    def batch_bytes(self, num_bands: int, num_classes: int) -> int:
        """Most memory that a batch takes beside the image, the map and the predictor, about: tiles, turned, answers."""
        views = self.views
        extra = 4 if views.diagonal else 0
        tiles = 2 + any(view.lies_across for view in views.upright) + extra
        answers = 2 + extra + views.num_views if self.average == "median" else 5 + extra // 2
        if self.average == "mean" and views.num_views == 1:
            tiles, answers = 1, 2
        return 4 * self.batch_size * self.tile_px**2 * (tiles * num_bands + answers * num_classes)

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """What a tile's pixels weigh in one of its upright views, `(t - 2m, t - 2m)`."""
        return window_weights(self.window, self.shown_px, power=self.power, overlap=self.overlap)

    @property
    def diagonal_weights(self) -> npt.NDArray[np.float32]:
        """The same in a view that lies at 45°, in upright pixels; 0 where it sees nothing."""
        half_px = self.shown_px / 2.0
        inwards = [1.0 - np.abs(each) / half_px for each in turned_offsets(self.shown_px, backwards=True)]
        rows, columns = (
            window_profile(self.window, each.clip(0.0), power=self.power, overlap=self.overlap) for each in inwards
        )
        return (rows * columns).astype(np.float32)

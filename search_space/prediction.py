"""How tiles become a map: what a study sets, and what follows from a network where it sets nothing."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from search_space.candidate import LEAST_MAP_PX, Candidate
from search_space.decode import Frozen, Whole
from search_space.names import ClassNames
from search_space.network.unet import outline

Symmetries = Literal["none", "flips", "d4", "d8"]
Average = Literal["mean", "geometric", "median"]
WindowName = Literal["spline", "hann", "gaussian", "cosine", "flat"]
Borders = Literal["snap", "beyond"]

LEAST_OVERLAP, MOST_OVERLAP = 0.25, 0.5

ENERGY_PX = 16
"""The energy tells depths within a class up to so many pixels: this one is 1, a pixel at the border one of so many."""


class PredictionSettings(Frozen):
    """`[prediction]`: how tiles become a map.

    Attributes:
        tile_px: Side length of a tile; the patch size of the model where 0.
        overlap: Share of a tile that its neighbour covers too. Where it is not given, so much that every pixel lies
            as far from the border of one of its tiles as the network looks, between a quarter and a half.
        symmetries: "none", "flips" (4 views), "d4" (8 views), or "d8" (16 views, half of them turned by 45°).
        average: How the views of a tile become one: "mean", "geometric", the root of their product, or "median".
        window: How tiles weigh where they overlap: "spline", a squared one, "hann", "gaussian", "cosine", a plateau
            between ramps, or "flat".
        borders: "snap", where the outer tiles end at the borders of the scene, or "beyond", where they stick out, so
            that pixels at a border are predicted as often as others.
        batch_size: Tiles per call of the model; 0 for as many as there is memory for, within reason.
        probabilities: How `probabilities.tif` holds them: "uint8", in steps of 1/254, or "float16".
        min_area_px: Polygons smaller than this are left out.
        instances: Classes of which single things are told apart, such as buildings.
        marker_energy: What lies deeper within such a class than this, in units of the energy, is the core of a thing:
            where two cores are, there are two things. A pixel of depth is 1/16.
    """

    tile_px: Annotated[Whole, Field(ge=0)] = 0
    overlap: Annotated[float, Field(ge=0.0, le=0.9)] | None = None
    symmetries: Symmetries = "d4"
    average: Average = "mean"
    window: WindowName = "spline"
    borders: Borders = "snap"
    batch_size: Annotated[Whole, Field(ge=0, le=4096)] = 0
    probabilities: Literal["uint8", "float16"] = "uint8"
    min_area_px: Annotated[Whole, Field(ge=0)] = 0
    instances: ClassNames = ()
    marker_energy: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.15

    def shaped_as(self, other: "PredictionSettings | None") -> "PredictionSettings":
        """These, with how others cut, turn and weigh tiles if there are some."""
        names = ("tile_px", "overlap", "symmetries", "average", "window", "borders")
        return self if other is None else self.model_copy(update={name: getattr(other, name) for name in names})


class Tiling(NamedTuple):
    """Tiles for one network.

    Attributes:
        tile_px: Side length of a tile.
        margin_px: How much smaller than the tile the network's map is, on each side.
        overlap: Share of a tile, less its margins, that its neighbour covers too.
        symmetries: Views of each tile.
        batch_size: Tiles per call of the model; 0 where nobody has said yet.
        average: How views become one.
        window: How tiles weigh.
        borders: Where the outer ones lie.
    """

    tile_px: int
    margin_px: int
    overlap: float
    symmetries: Symmetries
    batch_size: int
    average: Average = "mean"
    window: WindowName = "spline"
    borders: Borders = "snap"


def tiling_for(candidate: Candidate, settings: PredictionSettings) -> Tiling:
    """Tiles for a candidate's network.

    Args:
        candidate: Its patch size, margin, stride and context.
        settings: What is wished. A tile's side is rounded up to what the network halves without a rest.
    """
    drawn = outline(candidate.architecture)
    margin_px = candidate.architecture.margin_px
    wished = max(settings.tile_px or candidate.plan.patch_px, 2 * margin_px + LEAST_MAP_PX)
    tile_px = drawn.padded_px(wished)
    overlap = settings.overlap
    if overlap is None:
        overlap = overlap_for(drawn.context_px, tile_px, margin_px)
    how = (settings.symmetries, settings.batch_size, settings.average, settings.window, settings.borders)
    return Tiling(tile_px, margin_px, overlap, *how)


def overlap_for(context_px: int | None, tile_px: int, margin_px: int = 0) -> float:
    """The overlap with which every pixel has what the network looks at around it in one of its tiles.

    Tiles that share s pixels leave none nearer to the border than s / 2 in all of them; the margin adds to that.

    Args:
        context_px: How far the network looks; None where nothing bounds it.
        tile_px: Side length of a tile.
        margin_px: What the network's map lacks on each side.

    Returns:
        A share of the tile less its margins, from a quarter, below which seams show, to a half, with which each pixel
        is predicted four times.
    """
    if context_px is None:
        return MOST_OVERLAP
    missing_px = max(0, context_px - margin_px)
    return min(max(2 * missing_px / (tile_px - 2 * margin_px), LEAST_OVERLAP), MOST_OVERLAP)

"""The score of single things: how many polygons were found, missed and made up."""

from typing import Annotated, Literal

from pydantic import Field

from search_space.decode import Frozen, Whole

Number = Annotated[Whole, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class PolygonCounts(Frozen):
    """How many single things of one class were found, each by more than half of its ground.

    Attributes:
        tp: Found and labelled.
        fp: Found, not labelled.
        fn: Labelled, not found.
    """

    tp: Number
    fp: Number
    fn: Number

    @property
    def precision(self) -> float | None:
        """Share of what was found that is right; None where nothing was found."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """Share of what is labelled that was found; None where nothing is labelled."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both, 2 TP / (2 TP + FP + FN); None where nothing is labelled."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn) if self.tp + self.fn else None


class PolygonScore(Frozen):
    """How well single things of one class are found.

    Attributes:
        f1: Over all scenes' polygons together; None where nothing is labelled, as ground without it cannot tell.
        precision: Share of what was found that is right; None where nothing was found.
        recall: Share of what is labelled that was found; None where nothing is labelled.
        counts: The polygons behind them.
        scenes: The same for each scene.
        truth: What one labelled thing is: one of the labels' "polygons", or a connected place of their "masks", in
            which neighbours that touch are one; "both" where some scenes have no polygons.
    """

    f1: Share | None
    precision: Share | None
    recall: Share | None
    counts: PolygonCounts
    scenes: dict[str, PolygonCounts] = {}
    truth: Literal["polygons", "masks", "both"] = "masks"

"""Scenes that show the same ground, found where the data set does not tell: no fold may split them.

Scenes with a place on Earth are compared by their footprints. The others are compared by what they show: their edges,
in small, correlated over all shifts. Two scenes of the same ground agree at one shift and at no other; scenes of other
ground agree nowhere well, and regular ones, as towns and fields are, nearly as well at many shifts.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate

from pipeline.imagery.geodesy import around, on_map, to_degrees
from pipeline.imagery.resampling import resized
from pipeline.imagery.thumbnail import thumbnail_scale
from pipeline.preparation.prepared import GroundLink, PreparedScene, SceneRecord

logger = logging.getLogger(__name__)

Plane = NDArray[np.float32]

LEAST_FOOTPRINT = 0.02
"""Share of the smaller footprint; neighbouring images that touch may share a row of pixels."""

LEAST_OVERLAP = 0.25
"""Share of the smaller thumbnail that both must show, for a correlation to say anything."""

LEAST_CORRELATION, LEAST_SHARPNESS = 0.3, 2.0
STRONG_CORRELATION, STRONG_SHARPNESS = 0.7, 1.25
"""Either pair convinces, the second where all is regular; measured: `benchmarks/results/same_ground.md`."""

LEAST_SIDE_PX = 20
MAX_SCALE_RATIO = 4.0

_HIGH_PASS_PX = 3.0
_PEAK_PX = 4
_SAME_SCALE = 1.03
_SLOW_S = 60.0


def given_links(groups: Iterable[Sequence[str]], scene_ids: Sequence[str]) -> list[GroundLink]:
    """What the data set tells, as far as it concerns scenes that are there."""
    present = [[name for name in group if name in scene_ids] for group in groups]
    return [GroundLink(scenes=pair, found="given") for group in present for pair in pairwise(sorted(group))]


def joined_groups(groups: Iterable[Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    """Join groups of scenes that have one in common, over any number of steps.

    Returns:
        Groups of ids, sorted, each scene in one at most.
    """
    found: list[set[str]] = []
    for group in groups:
        joined = set(group).union(*(each for each in found if not each.isdisjoint(group)))
        found = [each for each in found if each.isdisjoint(joined)] + [joined]
    return tuple(sorted(tuple(sorted(group)) for group in found))


def find_same_ground(scenes: Sequence[PreparedScene]) -> list[GroundLink]:
    """Look for pairs of scenes of the same ground.

    Args:
        scenes: As prepared.

    Returns:
        Pairs, those by footprint first.
    """
    footprints = {scene.id: shape for scene in scenes if (shape := _footprint(scene.record)) is not None}
    links = list(_by_footprint(footprints))
    pictures = [picture for scene in scenes if (picture := Picture.of(scene, scene.id in footprints)) is not None]
    return links + list(_by_correlation(pictures))


def _footprint(record: SceneRecord) -> shapely.Polygon | None:
    """In longitude and latitude; None without a CRS and a transform, or where these do not lie on Earth."""
    georeference = record.georeference
    if georeference.crs is None or georeference.transform is None:
        return None
    if georeference.transform == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0):
        # What a file says that has no transform: all such scenes would lie on one another.
        return None
    height, width = record.height_px, record.width_px
    along = np.linspace(0.0, 1.0, 9)[:-1, None]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height), (0, 0)], np.float64)
    outline = np.concatenate([start + along * (end - start) for start, end in pairwise(corners)])
    degrees = to_degrees(georeference.crs, on_map(georeference.transform, outline))
    if degrees is None:
        return None
    # Across the antimeridian longitudes begin anew.
    footprint = shapely.Polygon(around(degrees, float(degrees[0, 0])))
    return footprint if footprint.is_valid and footprint.area > 0 else None


def _by_footprint(footprints: dict[str, shapely.Polygon]) -> Iterator[GroundLink]:
    names, shapes = list(footprints), np.array(list(footprints.values()), dtype=object)
    # One place has many longitudes: each scene is looked for a turn further too.
    turns = np.concatenate([[translate(shape, by) for shape in shapes] for by in (-360.0, 0.0, 360.0)])
    tree = shapely.STRtree(turns)
    found: dict[tuple[int, int], float] = {}
    for first, turned in tree.query(shapes, predicate="intersects").T.tolist():
        second = turned % len(shapes)
        if first < second:
            a, b = shapes[first], turns[turned]
            share = a.intersection(b).area / min(a.area, b.area)
            found[first, second] = max(share, found.get((first, second), 0.0))
    for (first, second), share in sorted(found.items()):
        if share > LEAST_FOOTPRINT:
            yield GroundLink(scenes=(names[first], names[second]), found="footprint", score=min(1.0, share))


@dataclass(frozen=True)
class Picture:
    """A scene's thumbnail at one scale.

    Attributes:
        id: The scene.
        edges: float32 `(h, w)`; NaN where there is no data.
        scale: Side of its pixels, in metres where `in_metres`, else in pixels of the cube.
        in_metres: Whether the size of a pixel on the ground is known.
        placed: Whether its footprint is known, so that it need not be compared with others of which it is.
    """

    id: str
    edges: Plane
    scale: float
    in_metres: bool
    placed: bool

    @classmethod
    def of(cls, scene: PreparedScene, placed: bool) -> "Picture | None":
        """None where it is too small, or shows nothing."""
        edges = scene.thumbnail
        known = edges[np.isfinite(edges)]
        if min(edges.shape) < LEAST_SIDE_PX or known.size < LEAST_SIDE_PX**2 or float(known.std()) == 0.0:
            return None
        pixel_m = scene.record.pixel_m
        return cls(scene.id, edges, thumbnail_scale(scene.shape_px) * (pixel_m or 1.0), pixel_m is not None, placed)

    def at(self, scale: float) -> "Picture":
        """The same, no finer than `scale`."""
        if scale <= self.scale * _SAME_SCALE:
            return self
        shape = tuple(max(1, round(side * self.scale / scale)) for side in self.edges.shape)
        known = np.isfinite(self.edges)
        share = resized(known.astype(np.float32), *shape)
        sums = resized(np.where(known, self.edges, np.float32(0.0)), *shape)
        edges = np.where(share >= 0.5, sums / np.maximum(share, np.float32(1e-6)), np.float32(np.nan))
        return Picture(self.id, edges.astype(np.float32), scale, self.in_metres, self.placed)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Where there is data."""
        return np.isfinite(self.edges)

    @cached_property
    def contrast(self) -> Plane:
        """Edges that stand out from those around them, of unit deviation; 0 where there is no data."""
        filled = np.where(self.known, self.edges, np.float32(0.0))
        share = cv2.GaussianBlur(self.known.astype(np.float32), (0, 0), _HIGH_PASS_PX)
        around = cv2.GaussianBlur(filled, (0, 0), _HIGH_PASS_PX) / np.maximum(share, np.float32(1e-6))
        values: Plane = filled - around
        values -= values[self.known].mean()
        values /= max(float(values[self.known].std()), 1e-30)
        values[~self.known] = 0.0
        return values

    def spectrum(self, side: int) -> Plane:
        """Of the contrast within a square of zeros, as OpenCV packs it."""
        padded = np.zeros((side, side), np.float32)
        padded[: self.edges.shape[0], : self.edges.shape[1]] = self.contrast
        return np.asarray(cv2.dft(padded), np.float32)


def _by_correlation(pictures: Sequence[Picture]) -> Iterator[GroundLink]:
    pairs = [(a, b) for a, b in combinations(pictures, 2) if not (a.placed and b.placed) and a.in_metres == b.in_metres]
    comparer = Comparer(pictures)
    began_s, told = time.monotonic(), False
    for number, (a, b) in enumerate(pairs):
        if max(a.scale, b.scale) > MAX_SCALE_RATIO * min(a.scale, b.scale):
            continue
        agreement = comparer.agreement(a, b)
        if agreement is not None and agreement.convinces:
            score = round(min(1.0, agreement.correlation), 3)
            yield GroundLink(scenes=(a.id, b.id), found="correlation", score=score)
        if not told and time.monotonic() - began_s > _SLOW_S:
            told = True
            logger.info(
                'Comparing scenes to find those of the same ground: %d of %d pairs; data.same_ground = "given" '
                "leaves it out",
                number + 1,
                len(pairs),
            )


@dataclass(frozen=True)
class Agreement:
    """Of two pictures at the shift at which they agree best.

    Attributes:
        correlation: Of what both show.
        sharpness: How many times better they agree there than at any other shift.
    """

    correlation: float
    sharpness: float

    @property
    def convinces(self) -> bool:
        """Whether they show the same ground."""
        limits = ((LEAST_CORRELATION, LEAST_SHARPNESS), (STRONG_CORRELATION, STRONG_SHARPNESS))
        return any(self.correlation >= least and self.sharpness >= sharp for least, sharp in limits)


class Comparer:
    """Compares pictures two by two, keeping what it has computed of each."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        # Room for all shifts without wrapping around.
        longest = max((max(picture.edges.shape) for picture in pictures), default=1)
        self._side = cv2.getOptimalDFTSize(2 * longest)
        self._scaled: dict[tuple[str, float], tuple[Picture, Plane]] = {}
        self._weights: dict[tuple[tuple[int, ...], tuple[int, ...]], Plane] = {}

    def agreement(self, a: Picture, b: Picture) -> "Agreement | None":
        """How well two pictures agree at their best shift; None where too little of them can be compared."""
        scale = max(a.scale, b.scale)
        (a, ours), (b, theirs) = self._at(a, scale), self._at(b, scale)
        if min(*a.edges.shape, *b.edges.shape) < LEAST_SIDE_PX:
            return None
        sums = cv2.idft(cv2.mulSpectrums(theirs, ours, 0, conjB=True), flags=cv2.DFT_SCALE)
        # In deviations of what chance would give: where little overlaps, more comes by chance.
        strengths = cv2.multiply(sums, self._weight(a, b))
        _, highest, _, (right, down) = cv2.minMaxLoc(strengths)
        smaller = min(a.edges.size, b.edges.size)
        if highest < LEAST_CORRELATION * (LEAST_OVERLAP * smaller) ** 0.5:
            # Nearly all pairs: they cannot reach the least correlation, so it need not be known.
            return Agreement(0.0, 1.0)
        correlation = _correlation(a, b, self._signed(down), self._signed(right))
        return Agreement(correlation, highest / max(self._elsewhere(strengths, down, right), 1e-30))

    def _at(self, picture: Picture, scale: float) -> tuple[Picture, Plane]:
        key = (picture.id, scale if scale > picture.scale * _SAME_SCALE else picture.scale)
        if key not in self._scaled:
            scaled = picture.at(scale)
            self._scaled[key] = (scaled, scaled.spectrum(self._side))
        return self._scaled[key]

    def _weight(self, a: Picture, b: Picture) -> Plane:
        """Per shift: 1 over the root of the number of pixels that overlap; 0 where these are too few."""
        key = (a.edges.shape, b.edges.shape)
        if key not in self._weights:
            down, across = (self._overlap(*sides) for sides in zip(*key, strict=True))
            counts = down[:, None] * across[None, :]
            enough = counts >= LEAST_OVERLAP * min(a.edges.size, b.edges.size)
            self._weights[key] = np.where(enough, 1.0 / np.sqrt(np.maximum(counts, 1)), 0.0).astype(np.float32)
        return self._weights[key]

    def _overlap(self, ours: int, theirs: int) -> NDArray[np.int64]:
        shifts = np.array([self._signed(place) for place in range(self._side)])
        overlap: NDArray[np.int64] = np.maximum(np.minimum(ours, theirs - shifts) - np.maximum(0, -shifts), 0)
        return overlap

    def _signed(self, place: int) -> int:
        """A place in the circle of shifts as a number of pixels."""
        return place if place < self._side // 2 else place - self._side

    def _elsewhere(self, strengths: Plane, down: int, right: int) -> float:
        """The second best shift that is no neighbour of the best."""
        rows = np.arange(down - _PEAK_PX, down + _PEAK_PX + 1) % self._side
        columns = np.arange(right - _PEAK_PX, right + _PEAK_PX + 1) % self._side
        strengths[np.ix_(rows, columns)] = 0.0
        return float(strengths.max())


def _correlation(a: Picture, b: Picture, down: int, right: int) -> float:
    """Of what both show where pixel (0, 0) of `a` lies on (down, right) of `b`."""
    ours = (slice(max(0, -down), None), slice(max(0, -right), None))
    theirs = (slice(max(0, down), None), slice(max(0, right), None))
    height = min(a.edges[ours].shape[0], b.edges[theirs].shape[0])
    width = min(a.edges[ours].shape[1], b.edges[theirs].shape[1])
    both = a.known[ours][:height, :width] & b.known[theirs][:height, :width]
    if np.count_nonzero(both) < LEAST_OVERLAP * min(np.count_nonzero(a.known), np.count_nonzero(b.known)):
        return 0.0
    first, second = a.contrast[ours][:height, :width][both], b.contrast[theirs][:height, :width][both]
    first, second = first - first.mean(), second - second.mean()
    energy = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / energy if energy > 0 else 0.0

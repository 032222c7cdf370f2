"""Invents landscapes: a river, roads, fields, ponds, villages, woods and what stands about in them.

Polygons are the truth; `pipeline.synthetic.spectra` paints pixels from them, so labels and imagery agree to a fraction
of a pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import shapely
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box
from shapely.geometry.base import BaseGeometry

from pipeline.synthetic.scenery import (
    Landscape,
    Position,
    Shapes,
    at_distance,
    at_share,
    directions,
    heading_at,
    placed,
)

USUAL_AREA = 360.0**2
"""The ground, in units, on which a village, a few woods and a road or two find their place."""


@dataclass(frozen=True)
class Features:
    """What a landscape has; villages, woods, fields and tracks grow in number with its area by themselves.

    Attributes:
        road: Paved roads; without them the village lies on a track.
        river: A waterway.
        ponds: How many there are.
        trucks: How many there are.
        cars: How many there are.
        misc: Whether there are sheds, tanks and fences.
    """

    road: bool = True
    river: bool = False
    ponds: int = 2
    trucks: int = 2
    cars: int = 8
    misc: bool = True


def imagine(
    height_px: int,
    width_px: int,
    features: Features,
    rng: np.random.Generator,
    unit_px: float = 1.0,
    margin_px: int = 0,
) -> Landscape:
    """Invent a landscape.

    Args:
        height_px: Rows of the image.
        width_px: Columns of the image.
        features: What it has.
        rng: Source of everything random.
        unit_px: How large objects are; at a pixel of 0.31 m they have their true size with 2.5.
        margin_px: How far beyond the image the ground goes on.
    """
    height, width = ((side + 2 * margin_px) / unit_px for side in (height_px, width_px))
    builder = _Builder(height, width, features, rng)
    builder.build()

    def there(shapes: Sequence[BaseGeometry]) -> list[BaseGeometry]:
        return list(shapely.transform(list(shapes), lambda at: at * unit_px - margin_px)) if shapes else []

    landscape = Landscape(
        height_px,
        width_px,
        margin_px,
        unit_px,
        seed=int(rng.integers(2**31)),
        shapes={name: there(shapes) for name, shapes in builder.shapes.items()},
        roof_sides=there(builder.roof_sides),
        field_angle=builder.angle,
        streets=there(builder.streets),
    )
    return landscape.with_traffic(features.trucks, features.cars, rng)


class _Ground:
    """What is taken: a picture with a pixel per unit says quickly, geometries say exactly."""

    def __init__(self, height: float, width: float) -> None:
        self.picture = np.zeros((int(height) + 1, int(width) + 1), np.uint8)
        self.shapes: list[BaseGeometry] = []

    def take(self, shape: BaseGeometry) -> None:
        for part in (part for part in shapely.get_parts(shape) if not part.is_empty):
            rings = [np.rint(np.asarray(ring.coords)).astype(np.int32) for ring in (part.exterior, *part.interiors)]
            cv2.fillPoly(self.picture, rings, 1)
            self.shapes.append(part)

    def is_free(self, shape: Polygon) -> bool:
        points = np.rint(np.asarray(shape.exterior.coords)).astype(np.int32)
        low = np.maximum(points.min(axis=0), 0)
        part = self.picture[low[1] : max(0, points[:, 1].max() + 1), low[0] : max(0, points[:, 0].max() + 1)]
        return not part.size or not (part & cv2.fillPoly(np.zeros_like(part), [points - low], 1)).any()

    def near(self, shape: BaseGeometry) -> BaseGeometry:
        """All that is taken where the shape is, as one geometry."""
        tree = shapely.STRtree(self.shapes)
        return shapely.union_all([self.shapes[number] for number in tree.query(shape, predicate="intersects")])


class _Builder:
    """Adds one kind of thing after the other; what comes later makes room for what is there. Lengths are in units."""

    def __init__(self, height: float, width: float, features: Features, rng: np.random.Generator) -> None:
        self.rng = rng
        self.features = features
        self.angle = float(rng.uniform(0.0, np.pi))
        self.centre = np.array([width / 2, height / 2])
        self.reach = float(np.hypot(width, height)) / 2
        self.plenty = max(1.0, height * width / USUAL_AREA)
        self.ground = _Ground(height, width)
        self.shapes: dict[str, Shapes] = {}
        self.roof_sides: Shapes = []
        self.streets: list[LineString] = []

    def build(self) -> None:
        if self.features.river:
            river = self._curve(self.angle + 1.2 + self.rng.normal(0, 0.2), offset=0.55, wiggle=22)
            self._add("waterway", river.buffer(float(self.rng.uniform(7, 10))), keep_clear=5)
        for _ in range(round(self.plenty**0.3)):
            self._add_street()
        self._add_tracks()
        self._add_ponds()
        villages = self._add_villages()
        woods = self._add_woods(villages)
        self._add_fields(shapely.union_all([villages, *woods]))
        self._add_scattered_trees(villages)

    def _add(self, name: str, shape: BaseGeometry, keep_clear: float = 0.0) -> None:
        self.shapes.setdefault(name, []).extend(p for p in shapely.get_parts(shape) if not p.is_empty)
        if keep_clear:
            self.ground.take(shape.buffer(keep_clear))

    def _somewhere(self, margin: float = 0.0) -> Position:
        inset = np.minimum(margin, 0.6 * self.centre)
        return self.rng.uniform(inset, 2 * self.centre - inset)

    def _curve(self, angle: float, offset: float, wiggle: float) -> LineString:
        """A winding line right across the scene, at most `offset` of its half-diagonal off the centre."""
        along = np.linspace(-1.3, 1.3, 60) * self.reach
        aside = np.full(along.shape, self.rng.uniform(-offset, offset) * self.reach * 0.6)
        for _ in range(2):
            frequency, phase = self.rng.uniform(0.5, 1.6), self.rng.uniform(0, 2 * np.pi)
            aside += wiggle * np.sin(frequency * along / self.reach * np.pi + phase)
        ahead, left = directions(angle)
        return LineString(self.centre + along[:, None] * ahead + aside[:, None] * left)

    def _add_street(self) -> None:
        turn = np.pi / 2 * (len(self.streets) % 2)
        line = self._curve(self.angle + turn + self.rng.normal(0, 0.08), 0.25 + 0.3 * len(self.streets), wiggle=10)
        self.streets.append(line)
        self._add("road" if self.features.road else "track", line.buffer(4.2 if self.features.road else 2.0), 2.5)

    def _add_tracks(self) -> None:
        for number in range(round((1 + int(self.rng.random() < 0.7)) * self.plenty**0.5)):
            turn = np.pi / 2 * (1 - number % 2)
            line = self._curve(self.angle + turn + self.rng.normal(0, 0.05), offset=0.9, wiggle=4)
            self._add("track", line.buffer(float(self.rng.uniform(1.7, 2.3))), 1.5)

    def _add_ponds(self) -> None:
        for _ in range(self.features.ponds):
            for _ in range(40):
                pond = self._blob(self._somewhere(40), float(self.rng.uniform(13, 27)), roughness=0.22)
                if self.ground.is_free(pond.buffer(4)):
                    self._add("standing_water", pond, 5)
                    break

    def _add_villages(self) -> BaseGeometry:
        """Houses along a street around one spot, more such places where there is room, and farms elsewhere."""
        places: list[tuple[Position, float, LineString]] = []
        for number in range(round(self.plenty**0.5)):
            street = self.streets[number % len(self.streets)]
            share = self.rng.uniform(0.4, 0.6) if number == 0 else self.rng.uniform(0.3, 0.7)
            radius = 0.42 * min(*(2 * self.centre), 360.0) * (1.4 if number == 0 and self.plenty > 4 else 1.0)
            places.append((at_share(street, float(share)), radius, street))
        places += [(self._somewhere(50), 30.0, self.streets[0]) for _ in range(round(self.plenty**0.8))]
        villages = shapely.union_all([self._blob(spot, radius, 0.15) for spot, radius, _ in places])
        shapely.prepare(villages)
        houses = [house for place in places for house in self._add_houses(villages, *place)]
        if self.features.misc:
            self._add_misc(houses)
        return villages

    def _add_houses(self, villages: BaseGeometry, spot: Position, radius: float, street: LineString) -> Shapes:
        houses: Shapes = []
        for _ in range(round(380 * (radius / 151) ** 2) if radius > 30 else 42):
            at = spot + self.rng.normal(0, radius * 0.55, 2)
            house, dark_side = self._house(at, heading_at(street, at))
            if villages.contains(house) and self.ground.is_free(house):
                self._add("buildings", house, 2.5)
                self.roof_sides.append(dark_side)
                houses.append(house)
        return houses

    def _house(self, at: Position, heading: float) -> tuple[Polygon, Polygon]:
        length, depth = self.rng.uniform(12, 24), self.rng.uniform(9, 14)
        if self.rng.random() < 0.08:
            length, depth = length * 1.7, depth * 1.4
        body: BaseGeometry = box(-length / 2, -depth / 2, length / 2, depth / 2)
        if length > 17 and self.rng.random() < 0.4:
            body = body.union(box(-length / 2, 0, -length / 2 + depth * 0.8, depth))
        shade = box(-length / 2, 0, length / 2, depth / 2)
        turn = heading + self.rng.normal(0, 0.05) + (np.pi / 2 if self.rng.random() < 0.3 else 0.0)
        return placed(body, turn, at), placed(shade, turn, at)

    def _add_misc(self, houses: Shapes) -> None:
        for house in houses:
            kind = self.rng.random()
            at = np.array([house.centroid.x, house.centroid.y]) + self.rng.normal(0, 13, 2)
            if kind < 0.45:
                shed: BaseGeometry = placed(box(-2.2, -1.8, 2.2, 1.8), self.rng.uniform(0, np.pi), at)
            elif kind < 0.6:
                shed = Point(at).buffer(float(self.rng.uniform(2.0, 3.2)))
            elif kind < 0.72:
                yard = house.minimum_rotated_rectangle.buffer(5, join_style="mitre")
                fence = yard.exterior.buffer(0.7)
                self._add("misc_structures", fence.difference(self.ground.near(fence)), 1)
                continue
            else:
                continue
            if self.ground.is_free(shed):
                self._add("misc_structures", shed, 1)

    def _add_woods(self, villages: BaseGeometry) -> list[BaseGeometry]:
        woods = []
        blocked = villages.buffer(6)
        for _ in range(round(int(self.rng.integers(3, 6)) * self.plenty**0.8)):
            wood = self._blob(self._somewhere(10), float(self.rng.uniform(28, 55)), roughness=0.3)
            wood = wood.difference(blocked)
            woods.append(wood)
            self._plant(wood, spacing=6.5 if self.plenty < 4 else float(self.rng.uniform(6.5, 12.0)))
        return woods

    def _plant(self, wood: BaseGeometry, spacing: float) -> None:
        if wood.is_empty:
            return
        left, top, right, bottom = wood.bounds
        grid = np.stack(np.meshgrid(np.arange(left, right, spacing), np.arange(top, bottom, spacing)), -1)
        spots = grid.reshape(-1, 2) + self.rng.normal(0, spacing * 0.22, (grid.size // 2, 2))
        for spot in spots[shapely.contains_xy(wood, spots)]:
            self._tree(spot, self.rng.uniform(3.2, 5.4))

    def _tree(self, at: Position, radius: float) -> None:
        crown = self._blob(at, radius, roughness=0.12, num_points=14)
        if self.ground.is_free(crown.buffer(-0.5)):
            self._add("trees", crown)

    def _add_fields(self, reserved: BaseGeometry) -> None:
        """Parcels of a skewed grid, the smaller part of them fallow; some with a hedge."""
        ahead, left = directions(self.angle)
        wide = self.plenty**0.15
        self.ground.shapes.extend(shapely.get_parts(reserved))
        tree = shapely.STRtree(self.ground.shapes)
        everything = box(0, 0, *(2 * self.centre))
        for u0, u1 in self._strips(60 * wide, 125 * wide):
            for v0, v1 in self._strips(38 * wide, 80 * wide):
                ends = self.rng.normal(0, 3, 2)
                corners = [(u0, v0 + ends[0]), (u1, v0 + ends[1]), (u1, v1 + ends[1]), (u0, v1 + ends[0])]
                parcel = Polygon([self.centre + u * ahead + v * left for u, v in corners]).buffer(-1.2)
                if not parcel.intersects(everything):
                    continue
                if self.rng.random() < 0.62:
                    near = [self.ground.shapes[number] for number in tree.query(parcel, predicate="intersects")]
                    free = parcel.difference(shapely.union_all(near)).buffer(-1.5).buffer(1.5)
                    self._add("crops", MultiPolygon([p for p in shapely.get_parts(free) if p.area > 250]))
                if self.rng.random() < 0.22:
                    self._hedge(LineString(parcel.exterior.coords[:2]))

    def _strips(self, least: float, most: float) -> list[tuple[float, float]]:
        ends = [-self.reach]
        while ends[-1] < self.reach:
            ends.append(ends[-1] + float(self.rng.uniform(least, most)))
        return list(pairwise(ends))

    def _hedge(self, line: LineString) -> None:
        for distance in np.arange(2, line.length, 5.5):
            if self.rng.random() < 0.85:
                self._tree(at_distance(line, float(distance)) + self.rng.normal(0, 0.8, 2), self.rng.uniform(2.6, 4.2))

    def _add_scattered_trees(self, villages: BaseGeometry) -> None:
        share = 0.25 if self.plenty < 4 else 0.6
        for _ in range(round(150 * self.plenty)):
            at = self._somewhere()
            if villages.contains(Point(at)) or self.rng.random() < share:
                self._tree(at, self.rng.uniform(2.6, 5.0))

    def _blob(self, at: Position, radius: float, roughness: float, num_points: int = 40) -> Polygon:
        """A closed curve around `at`, round but for a few waves."""
        turn = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
        waves = np.arange(2, 5)[:, None]
        strength = self.rng.normal(0, 1, (3, 1)) * roughness / waves
        swell = 1 + (strength * np.cos(waves * turn + self.rng.uniform(0, 2 * np.pi, (3, 1)))).sum(axis=0)
        reach = radius * np.clip(swell, 0.4, 1.8)
        squash = self.rng.uniform(0.75, 1.0) if radius > 8 else 1.0
        outline = np.stack([reach * np.cos(turn), squash * reach * np.sin(turn)], axis=1)
        ahead, left = directions(self.rng.uniform(0, np.pi))
        # A curve given by angle and distance never crosses itself.
        return Polygon(at + outline[:, :1] * ahead + outline[:, 1:] * left)

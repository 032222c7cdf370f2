"""Invented landscapes as polygons: a river, roads, fields, ponds, a village, woods and what stands about in them.

Everything is in pixel coordinates, x right and y down. Polygons are the truth; `pipeline.spectra` paints pixels from
them, so labels and imagery agree to a fraction of a pixel.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import rotate, translate
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box
from shapely.geometry.base import BaseGeometry

Shapes = list[Polygon]


@dataclass(frozen=True)
class Features:
    """What a landscape has.

    Attributes:
        road: A paved road; without it the village lies on a track.
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


@dataclass
class Landscape:
    """Objects by kind, each a polygon; all of a kind belong to one class, some kinds to none.

    Attributes:
        height_px: Rows.
        width_px: Columns.
        shapes: Class name to polygons; some reach over the border.
        roof_sides: The darker half of each gable roof.
        field_angle: Direction of the fields' rows, radians.
    """

    height_px: int
    width_px: int
    shapes: dict[str, Shapes] = field(default_factory=dict)
    roof_sides: Shapes = field(default_factory=list)
    field_angle: float = 0.0

    def of(self, name: str) -> Shapes:
        """Polygons of a class, none where the landscape lacks it."""
        return self.shapes.get(name, [])

    def truth(self, name: str) -> MultiPolygon:
        """The class as a label: merged, and cut at the image's border."""
        frame = box(0, 0, self.width_px, self.height_px)
        merged = shapely.intersection(shapely.union_all(self.of(name)), frame)
        parts = [part for part in shapely.get_parts(merged) if part.geom_type == "Polygon" and part.area > 0.5]
        return MultiPolygon(parts)


def imagine(height_px: int, width_px: int, features: Features, rng: np.random.Generator) -> Landscape:
    """Invent a landscape.

    Args:
        height_px: Rows.
        width_px: Columns.
        features: What it has.
        rng: Source of everything random.
    """
    return _Builder(height_px, width_px, features, rng).build()


class _Builder:
    """Adds one kind of thing after the other; what comes later makes room for what is there."""

    def __init__(self, height_px: int, width_px: int, features: Features, rng: np.random.Generator) -> None:
        self.rng = rng
        self.features = features
        self.land = Landscape(height_px, width_px, field_angle=float(rng.uniform(0.0, np.pi)))
        self.centre = np.array([width_px / 2, height_px / 2])
        self.reach = float(np.hypot(width_px, height_px)) / 2
        self.taken: list[BaseGeometry] = []

    def build(self) -> Landscape:
        angle = self.land.field_angle
        if self.features.river:
            river = self._curve(angle + 1.2 + self.rng.normal(0, 0.2), offset=0.55, wiggle=22)
            self._add("waterway", river.buffer(float(self.rng.uniform(7, 10))), keep_clear=5)
        street = self._curve(angle + self.rng.normal(0, 0.08), offset=0.25, wiggle=10)
        self._add("road" if self.features.road else "track", street.buffer(4.2 if self.features.road else 2.0), 2.5)
        self._add_tracks()
        self._add_ponds()
        village = self._add_village(street)
        woods = self._add_woods(village)
        self._add_fields(shapely.union_all([village, *woods]))
        self._add_scattered_trees(village)
        self._add_vehicles(street)
        return self.land

    def _add(self, name: str, shape: BaseGeometry, keep_clear: float = 0.0) -> None:
        self.land.shapes.setdefault(name, []).extend(p for p in shapely.get_parts(shape) if not p.is_empty)
        if keep_clear:
            self.taken.append(shape.buffer(keep_clear))

    def _free(self, shape: BaseGeometry) -> bool:
        return not any(shape.intersects(other) for other in self.taken)

    def _somewhere(self, margin: float = 0.0) -> NDArray[np.float64]:
        inset = np.minimum(margin, 0.6 * self.centre)
        return self.rng.uniform(inset, 2 * self.centre - inset)

    def _curve(self, angle: float, offset: float, wiggle: float) -> LineString:
        """A winding line right across the scene, at most `offset` of its half-diagonal off the centre."""
        along = np.linspace(-1.3, 1.3, 60) * self.reach
        aside = np.full(along.shape, self.rng.uniform(-offset, offset) * self.reach * 0.6)
        for _ in range(2):
            frequency, phase = self.rng.uniform(0.5, 1.6), self.rng.uniform(0, 2 * np.pi)
            aside += wiggle * np.sin(frequency * along / self.reach * np.pi + phase)
        ahead, left = _directions(angle)
        return LineString(self.centre + along[:, None] * ahead + aside[:, None] * left)

    def _add_tracks(self) -> None:
        for turn in (np.pi / 2, 0.0)[: 1 + int(self.rng.random() < 0.7)]:
            line = self._curve(self.land.field_angle + turn + self.rng.normal(0, 0.05), offset=0.9, wiggle=4)
            self._add("track", line.buffer(float(self.rng.uniform(1.7, 2.3))), 1.5)

    def _add_ponds(self) -> None:
        for _ in range(self.features.ponds):
            for _ in range(40):
                pond = self._blob(self._somewhere(40), float(self.rng.uniform(13, 27)), roughness=0.22)
                if self._free(pond.buffer(4)):
                    self._add("standing_water", pond, 5)
                    break

    def _add_village(self, street: LineString) -> BaseGeometry:
        """Houses along the street around one spot, and a farm elsewhere."""
        spots = [self._on(street, float(self.rng.uniform(0.4, 0.6))), self._somewhere(50)]
        radii = (0.42 * min(2 * self.centre), 30.0)
        village = shapely.union_all([self._blob(spot, r, 0.15) for spot, r in zip(spots, radii, strict=True)])
        houses: Shapes = []
        for _ in range(420):
            spot, radius = (spots[0], radii[0]) if self.rng.random() < 0.9 else (spots[1], radii[1])
            at = spot + self.rng.normal(0, radius * 0.55, 2)
            house, dark_side = self._house(at, _heading(street, at))
            if village.contains(house) and self._free(house):
                self._add("buildings", house, 2.5)
                self.land.roof_sides.append(dark_side)
                houses.append(house)
        if self.features.misc:
            self._add_misc(houses)
        return village

    def _house(self, at: NDArray[np.float64], heading: float) -> tuple[Polygon, Polygon]:
        length, depth = self.rng.uniform(12, 24), self.rng.uniform(9, 14)
        if self.rng.random() < 0.08:
            length, depth = length * 1.7, depth * 1.4
        body: BaseGeometry = box(-length / 2, -depth / 2, length / 2, depth / 2)
        if length > 17 and self.rng.random() < 0.4:
            body = body.union(box(-length / 2, 0, -length / 2 + depth * 0.8, depth))
        shade = box(-length / 2, 0, length / 2, depth / 2)
        turn = heading + self.rng.normal(0, 0.05) + (np.pi / 2 if self.rng.random() < 0.3 else 0.0)
        return _placed(body, turn, at), _placed(shade, turn, at)

    def _add_misc(self, houses: Shapes) -> None:
        for house in houses:
            kind = self.rng.random()
            x, y = house.centroid.x, house.centroid.y
            at = np.array([x, y]) + self.rng.normal(0, 13, 2)
            if kind < 0.45:
                shed: BaseGeometry = _placed(box(-2.2, -1.8, 2.2, 1.8), self.rng.uniform(0, np.pi), at)
            elif kind < 0.6:
                shed = Point(at).buffer(float(self.rng.uniform(2.0, 3.2)))
            elif kind < 0.72:
                yard = house.minimum_rotated_rectangle.buffer(5, join_style="mitre")
                shed = yard.exterior.buffer(0.7).difference(shapely.union_all(self.taken))
            else:
                continue
            if kind >= 0.6 or self._free(shed):
                self._add("misc_structures", shed, 1)

    def _add_woods(self, village: BaseGeometry) -> list[BaseGeometry]:
        woods = []
        for _ in range(int(self.rng.integers(3, 6))):
            wood = self._blob(self._somewhere(10), float(self.rng.uniform(28, 55)), roughness=0.3)
            wood = wood.difference(village.buffer(6))
            woods.append(wood)
            self._plant(wood, spacing=6.5)
        return woods

    def _plant(self, wood: BaseGeometry, spacing: float) -> None:
        if wood.is_empty:
            return
        left, top, right, bottom = wood.bounds
        grid = np.stack(np.meshgrid(np.arange(left, right, spacing), np.arange(top, bottom, spacing)), -1)
        spots = grid.reshape(-1, 2) + self.rng.normal(0, spacing * 0.22, (grid.size // 2, 2))
        for spot in spots[shapely.contains_xy(wood, spots)]:
            self._tree(spot, self.rng.uniform(3.2, 5.4))

    def _tree(self, at: NDArray[np.float64], radius: float) -> None:
        crown = self._blob(at, radius, roughness=0.12, num_points=14)
        if self._free(crown.buffer(-0.5)):
            self._add("trees", crown)

    def _add_fields(self, reserved: BaseGeometry) -> None:
        """Parcels of a skewed grid, the smaller part of them fallow; some with a hedge."""
        blocked = shapely.union_all([reserved, *self.taken])
        ahead, left = _directions(self.land.field_angle)
        for u0, u1 in self._strips(60, 125):
            for v0, v1 in self._strips(38, 80):
                ends = self.rng.normal(0, 3, 2)
                corners = [(u0, v0 + ends[0]), (u1, v0 + ends[1]), (u1, v1 + ends[1]), (u0, v1 + ends[0])]
                parcel = Polygon([self.centre + u * ahead + v * left for u, v in corners]).buffer(-1.2)
                if self.rng.random() < 0.62:
                    free = parcel.difference(blocked).buffer(-1.5).buffer(1.5)
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
                at = line.interpolate(float(distance))
                self._tree(np.array([at.x, at.y]) + self.rng.normal(0, 0.8, 2), self.rng.uniform(2.6, 4.2))

    def _add_scattered_trees(self, village: BaseGeometry) -> None:
        for _ in range(150):
            at = self._somewhere()
            if village.contains(Point(at)) or self.rng.random() < 0.25:
                self._tree(at, self.rng.uniform(2.6, 5.0))

    def _add_vehicles(self, street: LineString) -> None:
        for name, number, length, width in (
            ("vehicle_large", self.features.trucks, 11.0, 3.8),
            ("vehicle_small", self.features.cars, 5.6, 2.9),
        ):
            for _ in range(number):
                at = self._on(street, float(self.rng.uniform(0.25, 0.75)))
                heading = _heading(street, at)
                side = 2.0 if self.rng.random() < 0.5 else -2.0
                body = box(-length / 2, -width / 2, length / 2, width / 2)
                self._add(name, _placed(body, heading, at + side * _directions(heading)[1]))

    def _on(self, line: LineString, share: float) -> NDArray[np.float64]:
        at = line.interpolate(share, normalized=True)
        return np.array([at.x, at.y])

    def _blob(self, at: NDArray[np.float64], radius: float, roughness: float, num_points: int = 40) -> Polygon:
        """A closed curve around `at`, round but for a few waves."""
        turn = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
        swell = np.ones(num_points)
        for wave in range(2, 5):
            swell += self.rng.normal(0, roughness / wave) * np.cos(wave * turn + self.rng.uniform(0, 2 * np.pi))
        reach = radius * np.clip(swell, 0.4, 1.8)
        squash = self.rng.uniform(0.75, 1.0) if radius > 8 else 1.0
        outline = np.stack([reach * np.cos(turn), squash * reach * np.sin(turn)], axis=1)
        return _placed(Polygon(outline), self.rng.uniform(0, np.pi), at).buffer(0)


def _directions(angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ahead = np.array([np.cos(angle), np.sin(angle)])
    return ahead, np.array([-ahead[1], ahead[0]])


def _heading(line: LineString, at: NDArray[np.float64]) -> float:
    """Direction of the line where it is nearest to `at`."""
    distance = line.project(Point(at))
    before, after = line.interpolate(distance - 2), line.interpolate(distance + 2)
    return float(np.arctan2(after.y - before.y, after.x - before.x))


def _placed(shape: BaseGeometry, angle: float, at: NDArray[np.float64]) -> BaseGeometry:
    turned = rotate(shape, float(angle), origin=(0, 0), use_radians=True)
    return translate(turned, float(at[0]), float(at[1]))

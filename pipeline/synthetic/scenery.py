"""What an invented landscape holds: polygons by class, and vehicles that are elsewhere a moment later.

Everything is in pixel coordinates, x right and y down.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import rotate, translate
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box
from shapely.geometry.base import BaseGeometry

Shapes = list[Polygon]
Position = NDArray[np.float64]


@dataclass(frozen=True)
class Vehicle:
    """Something that may move between the moments at which the sensors look.

    Attributes:
        kind: Its class.
        body: Its outline at moment 0.
        velocity_px: How far it goes right and down until moment 1.
    """

    kind: str
    body: Polygon
    velocity_px: tuple[float, float]

    def at(self, moment: float) -> Polygon:
        """Its outline at another moment."""
        return translate(self.body, moment * self.velocity_px[0], moment * self.velocity_px[1])


@dataclass(frozen=True)
class Landscape:
    """Objects by kind, each a polygon; all of a kind belong to one class, some kinds to none.

    Attributes:
        height_px: Rows of the image.
        width_px: Columns of the image.
        margin_px: How far beyond the image the ground is known.
        unit_px: Pixels per unit in which objects were planned; a car is 5.6 units long.
        seed: Of whatever stays the same from one date to another: colours of roofs, dry and green places.
        offset_px: How far right and down the ground lies in the image, against its first date.
        shapes: Class name to polygons, vehicles left out; some reach over the border.
        roof_sides: The darker half of each gable roof.
        field_angle: Direction of the fields' rows, radians.
        streets: Middle lines of what vehicles drive on.
        vehicles: What is on them.
    """

    height_px: int
    width_px: int
    margin_px: int = 0
    unit_px: float = 1.0
    seed: int = 0
    offset_px: tuple[float, float] = (0.0, 0.0)
    shapes: dict[str, Shapes] = field(default_factory=dict)
    roof_sides: Shapes = field(default_factory=list)
    field_angle: float = 0.0
    streets: list[LineString] = field(default_factory=list)
    vehicles: list[Vehicle] = field(default_factory=list)

    def of(self, name: str, moment: float = 0.0) -> Shapes:
        """Polygons of a class, none where the landscape lacks it."""
        return [*self.shapes.get(name, []), *(each.at(moment) for each in self.vehicles if each.kind == name)]

    def truth(self, name: str) -> MultiPolygon:
        """The class as a label at moment 0: merged, and cut at the image's border."""
        frame = box(0, 0, self.width_px, self.height_px)
        merged = shapely.intersection(shapely.union_all(self.of(name)), frame)
        parts = [part for part in shapely.get_parts(merged) if part.geom_type == "Polygon" and part.area > 0.5]
        return MultiPolygon(parts)

    def moved(self, x_px: float, y_px: float) -> "Landscape":
        """The same ground, lying further right and down in the image; what enters must lie within the margin."""

        def there(shapes: Sequence[BaseGeometry]) -> list[BaseGeometry]:
            return shifted(shapes, x_px, y_px)

        return replace(
            self,
            offset_px=(self.offset_px[0] + x_px, self.offset_px[1] + y_px),
            shapes={name: there(shapes) for name, shapes in self.shapes.items()},
            roof_sides=there(self.roof_sides),
            streets=there(self.streets),
            vehicles=[replace(each, body=translate(each.body, x_px, y_px)) for each in self.vehicles],
        )

    def with_traffic(self, trucks: int, cars: int, rng: np.random.Generator) -> "Landscape":
        """The same ground with other vehicles on its streets; two in five are parked."""
        vehicles: list[Vehicle] = []
        for kind, number, length, width in (("vehicle_large", trucks, 11.0, 3.8), ("vehicle_small", cars, 5.6, 2.9)):
            for _ in range(number):
                body, ahead = self._somewhere_on_a_street(length * self.unit_px, width * self.unit_px, rng)
                if any(body.intersects(other.body) for other in vehicles):
                    continue
                speed = 0.0 if rng.random() < 0.4 else float(rng.uniform(2.0, 6.0)) * self.unit_px
                vehicles.append(Vehicle(kind, body, (speed * float(ahead[0]), speed * float(ahead[1]))))
        return replace(self, vehicles=vehicles)

    def _somewhere_on_a_street(self, length: float, width: float, rng: np.random.Generator) -> tuple[Polygon, Position]:
        """A body on one side of a street within the image, and the way it is heading."""
        inside = shapely.box(0, 0, self.width_px, self.height_px).buffer(-length)
        lines = [part for street in self.streets for part in shapely.get_parts(street.intersection(inside))]
        lengths = np.array([line.length for line in lines])
        line = lines[int(rng.choice(len(lines), p=lengths / lengths.sum()))]
        at = at_share(line, float(rng.uniform(0.1, 0.9)))
        heading, left_hand = heading_at(line, at), rng.random() < 0.5
        ahead, left = directions(heading)
        side = 2.0 * self.unit_px * (1 if left_hand else -1)
        body = placed(box(-length / 2, -width / 2, length / 2, width / 2), heading, at + side * left)
        return body, ahead if left_hand else -ahead


def shifted(shapes: Sequence[BaseGeometry], x_px: float, y_px: float) -> list[BaseGeometry]:
    """Geometries moved right and down."""
    by = np.array([x_px, y_px])
    return list(shapely.transform(list(shapes), lambda points: points + by)) if shapes else []


def directions(angle: float) -> tuple[Position, Position]:
    """Unit steps ahead and to the side."""
    ahead = np.array([np.cos(angle), np.sin(angle)])
    return ahead, np.array([-ahead[1], ahead[0]])


def at_distance(line: LineString, distance: float) -> Position:
    """The point so far along the line."""
    at = line.interpolate(distance)
    return np.array([at.x, at.y])


def at_share(line: LineString, share: float) -> Position:
    """The point so far along the line, as a share of its length."""
    return at_distance(line, share * line.length)


def heading_at(line: LineString, at: Position) -> float:
    """Direction of the line where it is nearest to `at`."""
    distance = line.project(Point(at))
    x, y = at_distance(line, distance + 2) - at_distance(line, distance - 2)
    return float(np.arctan2(y, x))


def placed(shape: BaseGeometry, angle: float, at: Position) -> BaseGeometry:
    """A shape around the origin, turned and put somewhere."""
    turned = rotate(shape, float(angle), origin=(0, 0), use_radians=True)
    return translate(turned, float(at[0]), float(at[1]))

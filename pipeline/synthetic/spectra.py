"""Paints invented landscapes as a sensor would see them: 20 bands with believable spectra, texture and noise.

Spectra are given in standard deviations around the mean of each band, as one competitor of the DSTL contest published
them; so every material is bright or dark in proportion to what real scenes span.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from pipeline.synthetic.coverage import Coverage, cover
from pipeline.synthetic.scenery import Landscape, Shapes, shifted

Plane = NDArray[np.float32]

MEANS = np.array(
    [414, 460, 326, 503, 295, 326, 460, 482, 414, 528, 678, 530, 4243, 4473, 4179, 3708, 2887, 2590, 2526, 2417],
    np.float32,
)
DEVIATIONS = np.array(
    [62, 47, 25, 55, 14, 25, 47, 62, 61, 59, 86, 69, 448, 635, 567, 523, 530, 462, 487, 479], np.float32
)
"""Per band: red, green, blue, pan; the eight M bands; the eight A bands."""

# Coastal, blue, green, yellow, red, red edge, NIR1, NIR2; then SWIR around 1200, 1650 and 2250 nm.
MATERIALS: dict[str, tuple[float, ...]] = {
    "dry_grass": (-0.1, -0.1, 0.75, 0.4, 0.35, 0.3, 0.2, 0.2, 0.3, 0.4, 0.3),
    "green_grass": (-0.5, -0.5, 0.35, -0.3, -0.4, 0.1, 0.7, 0.7, 0.3, -0.1, -0.3),
    "bare_soil": (0.2, 0.2, 1.05, 1.0, 1.15, 0.8, 0.1, 0.1, 0.6, 0.9, 0.9),
    "young_crop": (-0.6, -0.6, 0.5, -0.4, -0.6, 0.7, 1.9, 1.9, 0.5, -0.5, -0.8),
    "lush_crop": (-0.9, -0.9, 0.0, -0.9, -1.1, 0.3, 2.2, 2.2, 0.4, -0.9, -1.1),
    "ripe_crop": (0.1, -0.1, 1.4, 1.1, 0.9, 1.0, 1.2, 1.2, 0.7, 0.4, 0.2),
    "stubble": (0.2, 0.1, 1.1, 1.1, 1.1, 0.7, 0.3, 0.3, 0.7, 0.9, 0.7),
    "crown": (-1.1, -1.15, -0.7, -1.4, -1.45, -0.7, 1.0, 1.0, 0.0, -1.3, -1.5),
    "pond": (-0.7, -0.75, -0.95, -1.5, -1.6, -2.4, -3.3, -3.2, -3.5, -3.2, -3.0),
    "river": (-0.2, -0.15, -0.2, -0.8, -0.9, -1.8, -2.9, -2.9, -3.2, -3.0, -2.8),
    "asphalt": (0.2, 0.1, 0.5, 0.2, 0.1, -0.6, -1.4, -1.4, -1.2, -0.6, -0.4),
    "dirt": (0.6, 0.7, 1.7, 1.6, 1.7, 1.2, 0.5, 0.4, 0.9, 1.2, 1.2),
    "tiles": (0.1, 0.1, 0.4, 1.4, 1.9, 1.2, 0.3, 0.2, 0.1, 0.6, 0.7),
    "slate": (0.9, 0.9, 1.2, 1.0, 0.9, 0.2, -0.8, -0.8, -0.7, -0.2, 0.0),
    "metal": (3.8, 3.8, 3.2, 3.0, 2.9, 1.6, 0.2, 0.1, -0.5, -0.2, 0.2),
    "concrete": (2.0, 2.1, 1.9, 1.9, 1.9, 1.0, 0.0, 0.0, 0.0, 0.4, 0.6),
    "white_paint": (5.0, 5.0, 4.2, 4.0, 4.0, 2.5, 1.2, 1.0, 0.2, 0.3, 0.4),
    "red_paint": (0.2, 0.0, -0.6, 1.2, 3.2, 2.2, 1.2, 1.0, 0.2, 0.3, 0.4),
    "blue_paint": (2.6, 3.0, 0.4, -0.9, -1.2, -0.8, 0.4, 0.3, 0.1, 0.2, 0.3),
    "dark_paint": (-1.0, -1.2, -1.6, -1.8, -1.9, -1.9, -2.2, -2.1, -1.5, -1.3, -1.2),
}
COMPONENTS = 11
"""All bands are mixtures of so many: a material's row above."""

CENTRE = np.array((-0.25, -0.3, 0.5, 0.1, 0.05, 0.3, 0.55, 0.55, 0.2, -0.1, -0.25), np.float32)
"""What usual landscapes come to on average; it is taken off, so that bands have the published means."""

SHADE = -2.1


@dataclass(frozen=True)
class Season:
    """How one day differs from another.

    Attributes:
        name: What it is called.
        crops: What fields may bear.
        green: How far the grass is from dry (-1) to green (1).
        sun: Which way shadows fall, right and down, as shares of their usual length.
    """

    name: str
    crops: tuple[str, ...]
    green: float = 0.0
    sun: tuple[float, float] = (1.0, 0.8)


SPRING = Season("spring", ("young_crop", "lush_crop", "ripe_crop", "young_crop"))
SUMMER = Season("summer", ("ripe_crop", "stubble", "lush_crop", "stubble"), -0.5, (0.7, 0.75))
AUTUMN = Season("autumn", ("stubble", "bare_soil", "young_crop", "stubble"), 0.35, (1.25, 0.6))


@dataclass(frozen=True)
class _Layer:
    """Objects of one class, what they may be made of, and how much one differs from another."""

    name: str
    materials: tuple[str, ...]
    variation: float
    shadow: float = 0.0
    lasting: bool = True


_LAYERS = (
    _Layer("crops", (), 0.22, lasting=False),
    _Layer("waterway", ("river",), 0.1),
    _Layer("track", ("dirt",), 0.12),
    _Layer("road", ("asphalt",), 0.08),
    _Layer("standing_water", ("pond",), 0.15),
    _Layer("misc_structures", ("concrete", "slate"), 0.35, 1.0),
    _Layer("buildings", ("tiles", "tiles", "slate", "metal"), 0.35, 3.0),
    _Layer("trees", ("crown",), 0.3, 2.2),
)
_VEHICLES = (
    _Layer("vehicle_large", ("white_paint", "blue_paint", "red_paint"), 0.3, 1.2, lasting=False),
    _Layer("vehicle_small", ("white_paint", "red_paint", "dark_paint", "blue_paint"), 0.3, 0.8, lasting=False),
)


@dataclass(frozen=True)
class _Stroke:
    """One stroke of the brush: what is there stays by a share, and something is added.

    Attributes:
        at: Flat positions of the pixels it touches, each once.
        stays: float32, how much of what is there stays.
        comes: float32, how much of the object's colour comes.
        number: Which object.
        colours: float32 `(N, COMPONENTS)`, by object.
        light: float32, added to all components alike.
    """

    at: NDArray[np.int64]
    stays: Plane | float
    comes: Plane | float
    number: NDArray[np.int32]
    colours: Plane
    light: Plane | float

    def draw(self, plane: Plane, component: int) -> None:
        flat = plane.reshape(-1)
        colour = self.colours[:, component][self.number] if len(self.colours) else np.float32(0)
        flat[self.at] = flat[self.at] * self.stays + self.comes * colour + self.light


def mixture() -> Plane:
    """float32 `(20, COMPONENTS)`: how much of each component is in each band; every row sums to 1."""
    mixed = np.zeros((20, COMPONENTS), np.float32)
    mixed[(0, 1, 2), (4, 2, 1)] = 1.0
    mixed[3, 1:6] = 0.2
    mixed[np.arange(4, 12), np.arange(8)] = 1.0
    for band, middle in enumerate((1210, 1570, 1660, 1730, 2165, 2205, 2260, 2330), start=12):
        mixed[band, 8:] = [np.interp(middle, (1210, 1650, 2250), unit) for unit in np.eye(3)]
    return mixed


def spectrum(material: str) -> Plane:
    """One material in all 20 bands, in standard deviations around the bands' means."""
    return mixture() @ np.array(MATERIALS[material], np.float32)


def paint(landscape: Landscape, rng: np.random.Generator, season: Season = SPRING) -> NDArray[np.float32]:
    """Paint a landscape as one sensor would that has all bands at full resolution and sees them at one moment.

    Args:
        landscape: What is to be seen.
        rng: Source of texture and noise.
        season: When.

    Returns:
        float32 `(20, H, W)` in the sensor's numbers, noise included.
    """
    painting = Painting(landscape, rng, season)
    planes = np.zeros((20, *painting.shape), np.float32)
    for component, shares in enumerate(mixture().T):
        with painting.component(component, moment=0.0) as plane:
            for band in np.flatnonzero(shares):
                planes[band] += shares[band] * plane
    rows, columns = painting.frame
    planes = planes[:, rows, columns]
    planes += rng.normal(0.0, 0.08, (20, 1, 1)).astype(np.float32)
    for plane in planes:
        plane += 0.10 * rng.standard_normal(plane.shape, dtype=np.float32)
    return in_counts(planes, slice(0, 20))


def in_counts(planes: Plane, bands: slice) -> Plane:
    """Turn deviations from the mean into the sensor's numbers, at least 1.

    Args:
        planes: float32 `(B, H, W)`.
        bands: Which of the 20 bands they are.
    """
    centre = (mixture() @ CENTRE)[bands, None, None]
    values: Plane = MEANS[bands, None, None] + DEVIATIONS[bands, None, None] * (planes - centre)
    return np.maximum(values, np.float32(1.0), out=values)


class Painting:
    """A landscape on one day, painted component by component: a full-size scene has no room for all at once.

    Attributes:
        shape: Rows and columns, margins included.
        frame: The rows and columns within the margins.
    """

    def __init__(self, landscape: Landscape, rng: np.random.Generator, season: Season = SPRING) -> None:
        """Plan all strokes.

        Args:
            landscape: What is to be seen.
            rng: Source of what differs from day to day.
            season: What day it is.
        """
        margin = landscape.margin_px
        self.shape = (landscape.height_px + 2 * margin, landscape.width_px + 2 * margin)
        self.frame = (slice(margin, margin + landscape.height_px), slice(margin, margin + landscape.width_px))
        self._landscape = landscape
        self._unit = landscape.unit_px
        self._season = season
        self._lasting, self._rng = np.random.default_rng(landscape.seed), rng
        self._grain = 0.14 * _terrain(self.shape, 2.5, rng)
        self._ground = self._mix_ground()
        self._strokes = [stroke for layer in _LAYERS for stroke in self._layer(layer)]
        crowns = cover(self._polygons("trees"), self.shape)
        self._crowns = crowns.plane(self.shape).reshape(-1)
        self._vehicle_seed = int(rng.integers(2**31))
        self._traffic: dict[float, list[_Stroke]] = {}

    @contextmanager
    def component(self, component: int, moment: float) -> Iterator[Plane]:
        """One component with the vehicles where they are at `moment`: float32 of `shape`, in deviations."""
        plane = self.without_traffic(component)
        with self.traffic(plane, component, moment):
            yield plane

    def without_traffic(self, component: int) -> Plane:
        """One component of all that does not move."""
        (green, bare, relief), materials = self._ground, ("dry_grass", "green_grass", "bare_soil")
        dry, lush, soil = (np.float32(MATERIALS[name][component]) for name in materials)
        plane = dry + (lush - dry) * green
        plane += bare * (soil - plane)
        plane += relief
        for stroke in self._strokes:
            stroke.draw(plane, component)
        return plane

    @contextmanager
    def traffic(self, plane: Plane, component: int, moment: float) -> Iterator[None]:
        """Draw the vehicles where they are at `moment`, and take them away again at the end."""
        if moment not in self._traffic:
            self._traffic[moment] = self._drive(moment)
        strokes, flat = self._traffic[moment], plane.reshape(-1)
        before: list[Plane] = []
        for stroke in strokes:
            before.append(flat[stroke.at])
            stroke.draw(plane, component)
        yield
        for stroke, values in zip(reversed(strokes), reversed(before), strict=True):
            flat[stroke.at] = values

    def _polygons(self, name: str) -> Shapes:
        return self._here(self._landscape.shapes.get(name, []))

    def _here(self, shapes: Sequence[Polygon]) -> Shapes:
        """From the image's coordinates to the painting's."""
        return shifted(shapes, self._landscape.margin_px, self._landscape.margin_px)

    def _mix_ground(self) -> tuple[Plane, Plane, Plane]:
        """How green the grass is, how much soil shows, and a fine grain that is alike in all bands."""
        unit, offset = self._unit, self._landscape.offset_px
        green = _moved(_terrain(self.shape, 48 * unit, self._lasting), offset)
        bare = _moved(_terrain(self.shape, 30 * unit, self._lasting), offset)
        relief = 0.22 * _moved(_terrain(self.shape, 20 * unit, self._lasting), offset)
        relief += 0.16 * _terrain(self.shape, 3, self._rng)
        return _smoothstep(green + self._season.green), _smoothstep(bare - 0.55 - 0.3 * self._season.green), relief

    def _layer(self, layer: _Layer) -> Iterator[_Stroke]:
        objects = self._polygons(layer.name)
        if not objects:
            return
        if layer.shadow:
            yield self._shadow(objects, layer.shadow * self._unit, blurred=True)
        covered = cover(objects, self.shape)
        yield self._body(layer, covered, len(objects), self._lasting if layer.lasting else self._rng)
        if layer.name == "crops":
            yield self._rows(covered, len(objects))
        if layer.name == "buildings":
            sides = cover(self._here(self._landscape.roof_sides), self.shape)
            yield _light(sides.plane(self.shape), -0.9)
        if layer.name == "trees":
            # The sun stands in the upper left: crowns are bright there.
            unit = self._unit
            lit = shifted(_shrunk(objects, 0.55), -0.9 * unit, -0.8 * unit)
            yield _light(_blurred(cover(lit, self.shape).plane(self.shape), 0.8 * unit), 0.55)

    def _body(self, layer: _Layer, covered: Coverage, num_objects: int, rng: np.random.Generator) -> _Stroke:
        """Blend each object's own shade of its material over what is there, by the share of a pixel that it covers."""
        materials = layer.materials or self._season.crops
        choice = rng.integers(0, len(materials), num_objects)
        colours = np.array([MATERIALS[name] for name in materials], np.float32)[choice]
        colours += layer.variation * rng.standard_normal((num_objects, 1)).astype(np.float32)
        light = covered.share * self._grain.reshape(-1)[covered.at]
        return _Stroke(covered.at, 1 - covered.share, covered.share, covered.number, colours, light)

    def _rows(self, covered: Coverage, num_fields: int) -> _Stroke:
        """Rows of crops: stripes along the fields, each field with its own strength."""
        row, column = np.divmod(covered.at, self.shape[1])
        angle = self._landscape.field_angle
        across = column * -np.sin(angle) + row * np.cos(angle)
        strength = self._rng.uniform(0.05, 0.28, num_fields)[covered.number]
        period = self._unit * self._rng.uniform(4.0, 7.0, num_fields)[covered.number]
        light = (covered.share * strength * np.sin(2 * np.pi * across / period)).astype(np.float32)
        return _Stroke(covered.at, 1.0, 0.0, covered.number, np.zeros((0, COMPONENTS), np.float32), light)

    def _shadow(self, objects: Sequence[Polygon], length_px: float, blurred: bool) -> _Stroke:
        right, down = self._season.sun
        covered = cover(shifted(objects, right * length_px, down * length_px), self.shape)
        shade = _blurred(covered.plane(self.shape), 0.6 * self._unit) if blurred else covered.plane(self.shape)
        at = np.flatnonzero(shade > 1e-3)
        dark = 0.75 * shade.reshape(-1)[at]
        no_number = np.zeros(len(at), np.int32)
        return _Stroke(at, 1 - dark, dark, no_number, np.full((1, COMPONENTS), SHADE, np.float32), 0.0)

    def _drive(self, moment: float) -> list[_Stroke]:
        """Vehicles and their shadows at one moment; crowns hide them."""
        strokes: list[_Stroke] = []
        rng = np.random.default_rng(self._vehicle_seed)
        for layer in _VEHICLES:
            there = self._here(self._landscape.of(layer.name, moment))
            if not there:
                continue
            shadow = self._shadow(there, layer.shadow * self._unit, blurred=False)
            body = self._body(layer, cover(there, self.shape), len(there), rng)
            strokes += [self._hidden(shadow), self._hidden(body)]
        return strokes

    def _hidden(self, stroke: _Stroke) -> _Stroke:
        seen = 1 - self._crowns[stroke.at]
        stays = 1 - seen * (1 - stroke.stays)
        return _Stroke(stroke.at, stays, seen * stroke.comes, stroke.number, stroke.colours, seen * stroke.light)


def _light(amount: Plane, strength: float) -> _Stroke:
    """Make all components brighter or darker alike."""
    at = np.flatnonzero(amount > 1e-3)
    light = np.float32(strength) * amount.reshape(-1)[at]
    return _Stroke(at, 1.0, 0.0, np.zeros(0, np.int32), np.zeros((0, COMPONENTS), np.float32), light)


def _shrunk(shapes: Sequence[Polygon], factor: float) -> Shapes:
    """Each polygon about its middle."""
    whole = np.array(shapes, object)
    points, owner = shapely.get_coordinates(whole, return_index=True)
    middles = shapely.get_coordinates(shapely.centroid(whole))[owner]
    return list(shapely.set_coordinates(whole, middles + factor * (points - middles)))


def _terrain(shape: tuple[int, int], scale_px: float, rng: np.random.Generator) -> Plane:
    """Smooth noise of unit deviation whose features are `scale_px` wide."""
    # Wide features are drawn on a coarser grid: the same to the eye, in a fraction of the time.
    step = max(1, int(scale_px // 6))
    coarse = tuple(-(-side // step) + 3 for side in shape)
    noise = rng.standard_normal(coarse, dtype=np.float32)
    smooth = _blurred(noise, scale_px / 2 / step)
    if step > 1:
        wide = cv2.resize(smooth, (coarse[1] * step, coarse[0] * step), interpolation=cv2.INTER_CUBIC)
        smooth = np.ascontiguousarray(wide[step : step + shape[0], step : step + shape[1]])
    else:
        smooth = np.ascontiguousarray(smooth[: shape[0], : shape[1]])
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


def _blurred(plane: Plane, sigma_px: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT), np.float32)


def _moved(plane: Plane, offset_px: tuple[float, float]) -> Plane:
    """A smooth plane, moved right and down."""
    if offset_px == (0.0, 0.0):
        return plane
    matrix = np.array([[1, 0, offset_px[0]], [0, 1, offset_px[1]]], np.float64)
    size = (plane.shape[1], plane.shape[0])
    return np.asarray(cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def _smoothstep(values: Plane) -> Plane:
    share = np.clip(values * 0.6 + 0.5, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)

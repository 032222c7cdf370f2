"""The grid that a study asks for, and labels and georeferences that go with it."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio.crs import CRS
from shapely.geometry import box

from pipeline.imagery.geodesy import pixel_side_m, pixel_sides_m
from pipeline.imagery.grid import Grid, labels_on
from pipeline.imagery.rasterise import rasterise
from pipeline.scene import Affine, BandGroup, DataError, Georeference, PolygonLabels, RasterLabels, Scene
from search_space.decode import decode
from search_space.errors import MalformedError
from search_space.study import DataSettings


def group(name: str, height: int, width: int, placement: Affine | None = None) -> BandGroup:
    return BandGroup((f"{name}_1",), np.ones((1, height, width), np.uint8), Path(f"{name}.tif"), None, name, placement)


def scene(**changes: object) -> Scene:
    groups = (group("rgb", 240, 200), group("pan", 241, 201), group("m", 60, 50), group("a", 10, 8))
    known = {"labels": None, "georeference": Georeference(), "pixel_m": 0.5, "groups": groups}
    return Scene("s", 240, 200, **(known | changes))


def settings(grid: object) -> DataSettings:
    return decode(
        DataSettings, {"format": "f", "folder": "d", "prepared": "p", "classes": ["c"], "grid": grid}, where=""
    )


@pytest.mark.parametrize(
    ("written", "shape"),
    [
        ("native", (240, 200)),
        ("RGB", (240, 200)),
        ("M", (60, 50)),
        ("m", (60, 50)),
        ("P", (241, 201)),
        ("pan", (241, 201)),
        ("a", (10, 8)),
        (1, (120, 100)),
        (0.25, (480, 400)),
        (0.6, (200, 167)),
        (0.4999, (240, 200)),
    ],
)
def test_the_grid_is_what_the_study_asks_for(written: object, shape: tuple[int, int]) -> None:
    grid = Grid.of(scene(), settings(written).grid)
    assert grid.shape == shape
    assert grid.pixel_m == pytest.approx(0.5 * np.sqrt(240 * 200 / (shape[0] * shape[1])))


@pytest.mark.parametrize("written", ["", 0, -1.0, True, None, [], float("nan"), float("inf")])
def test_a_grid_that_cannot_be_meant_is_refused(written: object) -> None:
    with pytest.raises(MalformedError, match="'grid' must be"):
        settings(written)


def test_an_unknown_group_names_those_there_are() -> None:
    with pytest.raises(DataError, match=r"no such group of bands\. Received 'swir'\. Known are: rgb, pan, m, a"):
        Grid.of(scene(), settings("SWIR").grid)


def test_metres_need_the_size_of_a_pixel() -> None:
    with pytest.raises(DataError, match=r"data\.grid in metres needs the size of a pixel.*rgb\.tif"):
        Grid.of(scene(pixel_m=None), 0.5)


def test_a_placed_group_gives_its_resolution_over_the_whole_scene() -> None:
    placed = group("ms", 20, 20, (4.0, 0.0, 30.0, 0.0, 5.0, 10.0))
    assert Grid.of(scene(groups=(group("rgb", 240, 200), placed)), "ms").shape == (48, 50)


@pytest.mark.parametrize(
    "georeference",
    [
        Georeference(xmax=0.0092, ymin=-0.009),
        Georeference(crs=CRS.from_epsg(32643).to_wkt(), transform=(10.0, 0.5, 500_000.0, 0.25, -10.0, 2_000_000.0)),
    ],
    ids=["dstl", "transform"],
)
@pytest.mark.parametrize("grid", ["m", 0.7, "pan"])
def test_polygons_lie_on_the_same_place_of_the_map_on_every_grid(georeference: Georeference, grid: str | float) -> None:
    triangle = shapely.Polygon([(10, 20), (190, 30), (70, 230)])
    labels = PolygonLabels({"field": (triangle,)}, (box(0, 0, 10, 10),))
    made = scene(labels=labels, georeference=georeference)
    target = Grid.of(made, grid)
    scaled = labels_on(made, target.shape)
    assert isinstance(scaled, PolygonLabels)
    for before, after in (
        (labels.by_class["field"][0], scaled.by_class["field"][0]),
        (labels.ignored[0], scaled.ignored[0]),
    ):
        there = target.georeference.to_map(after, *target.shape)
        expected = georeference.to_map(before, 240, 200)
        scale = max(abs(bound) for bound in expected.bounds)
        np.testing.assert_allclose(there.exterior.coords, expected.exterior.coords, rtol=0, atol=1e-12 * scale)
        back = target.georeference.to_pixels(expected, *target.shape)
        np.testing.assert_allclose(back.exterior.coords, after.exterior.coords, rtol=0, atol=1e-6)
    assert target.georeference.crs == georeference.crs
    assert rasterise(scaled.by_class["field"], *target.shape).mean() == pytest.approx(triangle.area / 48_000, rel=0.02)


def test_a_group_of_the_very_name_comes_before_what_others_call_it() -> None:
    groups = (group("pan", 120, 100), group("ms", 60, 50), group("p", 30, 25))
    made = Scene("s", 120, 100, groups, None, Georeference())
    assert Grid.of(made, settings("MS").grid).shape == (60, 50)
    assert Grid.of(made, settings("P").grid).shape == (30, 25)
    with pytest.raises(DataError, match=r"Received 'panorama'. Known are: pan, ms, p;"):
        Grid.of(made, settings("panorama").grid)


def test_a_scene_without_a_place_has_none_on_any_grid() -> None:
    assert Grid.of(scene(), "m").georeference == Georeference()


def test_raster_labels_follow_the_majority_of_area() -> None:
    water = np.zeros((6, 6), bool)
    water[:3, :3] = True
    known = np.ones((6, 6), bool)
    known[5, 5] = False
    made = Scene("s", 6, 6, (group("rgb", 6, 6),), RasterLabels({"water": water}, known), Georeference())
    coarse = labels_on(made, (2, 2))
    assert isinstance(coarse, RasterLabels)
    assert np.array_equal(coarse.by_class["water"], [[True, False], [False, False]])
    assert np.array_equal(coarse.known, [[True, True], [True, False]])
    fine = labels_on(made, (12, 18))
    assert isinstance(fine, RasterLabels)
    assert np.array_equal(fine.by_class["water"], np.repeat(np.repeat(water, 2, 0), 3, 1))
    assert np.array_equal(fine.known, np.repeat(np.repeat(known, 2, 0), 3, 1))
    uneven = labels_on(made, (4, 4))
    assert isinstance(uneven, RasterLabels)
    expected = np.zeros((4, 4), bool)
    expected[:2, :2] = True
    assert np.array_equal(uneven.by_class["water"], expected)


def test_classes_that_part_the_ground_still_do_on_a_coarser_grid() -> None:
    """Halves are the rule when pixels merge by two; neither class may get them all, nor both."""
    values = np.random.default_rng(0).integers(0, 2, (200, 200)).astype(bool)
    labels = RasterLabels({"one": values, "other": ~values}, np.ones(values.shape, bool))
    coarse = labels_on(Scene("s", 200, 200, (group("rgb", 200, 200),), labels, Georeference()), (100, 100))
    assert isinstance(coarse, RasterLabels)
    assert np.array_equal(coarse.by_class["one"], ~coarse.by_class["other"])
    assert coarse.by_class["one"].mean() == pytest.approx(values.mean(), abs=0.02)


def test_a_pixel_larger_than_the_scene_is_refused() -> None:
    made = Scene("s", 40, 60, (group("rgb", 40, 60),), None, Georeference(), pixel_m=0.5)
    assert Grid.of(made, 20.0).shape == (1, 2)
    with pytest.raises(DataError, match=r"data\.grid: one pixel would hold all of .* own pixels have 0\.5 m.*20\.1"):
        Grid.of(made, 20.1)


@pytest.mark.parametrize(
    ("epsg", "transform", "side_m"),
    [
        (32643, (10.0, 0.0, 500_000.0, 0.0, -10.0, 2_000_000.0), 10.0),
        (2263, (3.0, 0.0, 980_000.0, 0.0, -3.0, 200_000.0), 3.0 * 0.3048006),
        (4326, (1e-5, 0.0, 7.0, 0.0, -1e-5, 60.0), np.sqrt(0.5580021 * 1.1141215)),
        (3857, (1.0, 0.0, 779_236.0, 0.0, -1.0, 8_399_738.0), 0.5),
    ],
    ids=["UTM", "feet", "degrees", "web map at 60 degrees"],
)
def test_pixels_are_measured_on_the_ground(epsg: int, transform: Affine, side_m: float) -> None:
    georeference = Georeference(crs=CRS.from_epsg(epsg).to_wkt(), transform=transform)
    assert pixel_side_m(georeference, (100, 100)) == pytest.approx(side_m, rel=2e-3)


@pytest.mark.parametrize(
    "georeference",
    [
        Georeference(),
        Georeference(xmax=0.009, ymin=-0.009),
        Georeference(transform=(1.0, 0.0, 5.0, 0.0, 1.0, 5.0)),
        Georeference(crs="nonsense", transform=(1.0, 0.0, 5.0, 0.0, 1.0, 5.0)),
        Georeference(crs='LOCAL_CS["somewhere",UNIT["metre",1]]', transform=(1.0, 0.0, 5.0, 0.0, 1.0, 5.0)),
        Georeference(crs=CRS.from_epsg(4326).to_wkt(), transform=(0.0, 0.0, 7.0, 0.0, 0.0, 60.0)),
    ],
)
def test_a_place_that_tells_no_size_gives_none(georeference: Georeference) -> None:
    assert pixel_side_m(georeference, (100, 100)) is None


def test_metres_per_pixel_are_the_same_along_both_sides_where_pixels_are_oblong() -> None:
    """At 60 degrees north a pixel of equal degrees is about half as wide as it is high."""
    place = Georeference(crs=CRS.from_epsg(4326).to_wkt(), transform=(1e-5, 0.0, 7.0, 0.0, -1e-5, 60.0))
    made = Scene("s", 240, 200, (group("rgb", 240, 200),), None, place, pixel_side_m(place, (240, 200)))
    grid = Grid.of(made, 1.0)
    assert grid.shape == (round(240 * 1.1141), round(200 * 0.5580))
    assert pixel_sides_m(grid.georeference, grid.shape) == pytest.approx((1.0, 1.0), rel=0.01)
    assert grid.pixel_m == pytest.approx(1.0, rel=0.01)

"""The format `geotiff`: labels as vectors, anywhere on Earth."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from geo_files import NORTH_UP, UTM, chain, on_map, write_vectors
from labelled_scenes import BY_KIND, HOUSE, POND, ROADS, adapter, image, in_crs, masks, polygons, read
from rasterio.transform import Affine
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from pipeline.scene import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image(tmp_path)
    return tmp_path


# -- where labels lie -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["geojson", "gpkg", "shp", "fgb"])
def test_polygons_of_every_format(folder: Path, ending: str) -> None:
    write_vectors(folder / "labels" / f"a.{ending}", [on_map(HOUSE)])
    scene = read(folder, labels={"building": f"labels/*.{ending}"})
    assert polygons(scene).equals_exact(HOUSE, 1e-4, normalize=True)
    assert masks(scene, "building") == {"building": 60, "known": 2000}


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32634", "EPSG:3035", "EPSG:2263"])
def test_labels_in_another_crs_fall_on_the_same_pixels(folder: Path, crs: str) -> None:
    write_vectors(folder / "labels" / "a.gpkg", [in_crs(on_map(HOUSE), crs)], crs=crs)
    scene = read(folder, labels={"building": "labels/*.gpkg"})
    difference = polygons(scene).symmetric_difference(HOUSE).area
    assert difference < 0.02


@pytest.mark.parametrize("angle", [0, 17, 90, 203])
def test_labels_follow_a_rotated_image(tmp_path: Path, angle: float) -> None:
    turned = chain(NORTH_UP, Affine.rotation(angle))
    image(tmp_path, transform=turned)
    write_vectors(tmp_path / "labels" / "a.geojson", [in_crs(on_map(HOUSE, turned), "EPSG:4326")], crs="EPSG:4326")
    assert polygons(read(tmp_path)).symmetric_difference(HOUSE).area < 0.02


def test_labels_follow_a_geographic_image(tmp_path: Path) -> None:
    place = Affine(4.5e-6, 0, -43.68, 0, -4.5e-6, -22.98)
    image(tmp_path, transform=place, crs="EPSG:4326")
    write_vectors(tmp_path / "labels" / "a.geojson", [on_map(HOUSE, place)], crs="EPSG:4326")
    assert masks(read(tmp_path), "building") == {"building": 60, "known": 2000}


def test_heights_are_left_out(folder: Path) -> None:
    write_vectors(folder / "labels" / "a.gpkg", [shapely.force_3d(on_map(HOUSE), 7.0)])
    assert not polygons(read(folder, labels={"building": "labels/*.gpkg"})).has_z


def test_multipolygons_and_collections_are_taken_apart(folder: Path) -> None:
    both = [MultiPolygon([on_map(HOUSE)]), GeometryCollection([on_map(POND)]), None, Polygon()]
    write_vectors(folder / "labels" / "a.geojson", both)
    assert masks(read(folder), "building") == {"building": 100, "known": 2000}


def test_a_self_crossing_polygon_keeps_both_lobes(folder: Path) -> None:
    bow_tie = Polygon([(5, 5), (25, 25), (25, 5), (5, 25)])
    assert not bow_tie.is_valid
    write_vectors(folder / "labels" / "a.geojson", [on_map(bow_tie)])
    scene = read(folder)
    assert polygons(scene).area == pytest.approx(200, abs=0.1)
    assert masks(scene, "building")["building"] == pytest.approx(200, abs=20)


def test_what_reaches_over_the_border_is_cut_there(folder: Path) -> None:
    write_vectors(folder / "labels" / "a.geojson", [on_map(box(-100, -100, 4, 5)), on_map(box(300, 300, 400, 400))])
    assert masks(read(folder), "building") == {"building": 20, "known": 2000}


# -- what labels mean -------------------------------------------------------------------------------------------------


def test_an_attribute_tells_the_class(folder: Path) -> None:
    shapes = [on_map(each) for each in (HOUSE, POND, box(40, 0, 42, 2))]
    write_vectors(folder / "labels" / "a.geojson", shapes, {"kind": ["house", "7", "barn"]})
    scene = read(folder, **BY_KIND)
    assert adapter(folder, **BY_KIND).class_names == ("building", "water")
    assert masks(scene, "building", "water") == {"building": 64, "water": 40, "known": 2000}


@pytest.mark.parametrize("numbers", [[1, 2], [1.0, 2.0], ["1", "2"], [True, False]])
@pytest.mark.parametrize("ending", ["geojson", "gpkg", "shp"])
def test_values_are_compared_as_they_are_written(folder: Path, numbers: list[Any], ending: str) -> None:
    write_vectors(folder / "labels" / f"a.{ending}", [on_map(HOUSE), on_map(POND)], {"code": numbers})
    first, second = ("true", "false") if isinstance(numbers[0], bool) else ("1", "2")
    for values in ({"building": first, "water": second}, {"building": [first, "x"], "water": second}):
        scene = read(folder, labels=f"labels/*.{ending}", class_field="code", values=values)
        assert masks(scene, "building", "water") == {"building": 60, "water": 40, "known": 2000}


def test_a_file_for_each_class(folder: Path) -> None:
    write_vectors(folder / "houses" / "a.geojson", [on_map(HOUSE)])
    write_vectors(folder / "water.gpkg", [on_map(POND)])
    options = {"labels": {"building": "houses/*.geojson", "water": "water.gpkg"}}
    assert masks(read(folder, **options), "building", "water") == {"building": 60, "water": 40, "known": 2000}
    names = {path.name for path in adapter(folder, **options).sources("a", [])}
    assert names == {"a.tif", "a.geojson", "water.gpkg"}


def test_ignored_ground_is_unknown_whatever_the_labels_say(folder: Path) -> None:
    shapes = [on_map(HOUSE), on_map(box(10, 0, 20, 10))]
    write_vectors(folder / "labels" / "a.geojson", shapes, {"kind": ["house", "unsure"]})
    scene = read(folder, **BY_KIND, ignore=["unsure"])
    assert masks(scene, "building") == {"building": 60 - 12, "known": 2000 - 100}
    write_vectors(folder / "holes.geojson", [on_map(box(0, 0, 5, 40))])
    scene = read(folder, **BY_KIND, ignore=["unsure"], ignored="holes.geojson")
    assert masks(scene, "building") == {"building": 60 - 12 - 18, "known": 2000 - 100 - 200}


def test_nothing_is_known_outside_the_area(folder: Path) -> None:
    image(folder, "far", chain(NORTH_UP, Affine.translation(5000, 0)))
    write_vectors(folder / "labels.gpkg", [on_map(HOUSE)])
    write_vectors(folder / "area.geojson", [on_map(box(0, 0, 7, 40)), on_map(box(5, 0, 9, 40))])
    options = {"labels": {"building": "labels.gpkg"}, "area": "area.geojson"}
    assert masks(read(folder, **options), "building") == {"building": 7 * 6, "known": 9 * 40}
    assert read(folder, "far", **options).labels is None


def test_an_area_without_labels_in_it_is_known_to_be_empty(folder: Path) -> None:
    write_vectors(folder / "labels.gpkg", [on_map(box(5000, 0, 5010, 10))])
    image(folder, "far", chain(NORTH_UP, Affine.translation(4990, 0)))
    labels = {"labels": {"building": "labels.gpkg"}}
    assert read(folder, **labels).labels is None, "nobody says that anyone has looked"
    write_vectors(folder / "area.geojson", [on_map(box(0, 0, 50, 40))])
    assert masks(read(folder, **labels, area="area.geojson"), "building") == {"building": 0, "known": 2000}


def test_background_features_say_that_somebody_has_looked(folder: Path) -> None:
    write_vectors(folder / "labels.gpkg", [on_map(HOUSE)], {"kind": ["meadow"]})
    options = BY_KIND | {"labels": "labels.gpkg", "background": ["meadow"]}
    assert masks(read(folder, **options), "building") == {"building": 0, "known": 2000}


@pytest.mark.parametrize(("others", "known"), [("background", 2000), ("ignore", 1960)])
def test_other_values_are_background_or_unknown(folder: Path, others: str, known: int) -> None:
    shapes = [on_map(HOUSE), on_map(POND)]
    write_vectors(folder / "labels" / "a.geojson", shapes, {"kind": ["house", "shrub"]})
    assert masks(read(folder, **BY_KIND, others=others), "building") == {"building": 60, "known": known}


def test_a_value_without_a_meaning_is_refused_with_its_count(folder: Path) -> None:
    shapes = [on_map(HOUSE)] * 4
    write_vectors(folder / "labels" / "a.geojson", shapes, {"kind": ["house", "shrub", "shrub", None]})
    with pytest.raises(
        DataError, match=r"a\.geojson: 3 features have a value without a meaning, 2 of them 'shrub'.*others"
    ):
        read(folder, **BY_KIND)


def test_one_file_for_all_scenes_is_cut_to_each(folder: Path) -> None:
    east = chain(NORTH_UP, Affine.translation(50, 0))
    image(folder, "b", east)
    image(folder, "far", chain(NORTH_UP, Affine.translation(5000, 0)))
    shapes = [on_map(HOUSE), on_map(box(45, 10, 60, 12)), on_map(POND, east)]
    write_vectors(folder / "all.gpkg", [in_crs(each, "EPSG:4326") for each in shapes], crs="EPSG:4326")
    options = {"labels": {"building": "all.gpkg"}}
    assert masks(read(folder, "a", **options), "building")["building"] == 60 + 5 * 2
    assert masks(read(folder, "b", **options), "building")["building"] == 10 * 2 + 40
    assert read(folder, "far", **options).labels is None
    assert sum(map(len, read(folder, "b", **options).labels.by_class.values())) == 2


# -- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crs", "place"),
    [
        (UTM, NORTH_UP),
        ("EPSG:4326", Affine(8e-6, 0, 10, 0, -4e-6, 60)),
        ("EPSG:3857", Affine(1.0, 0, 1_113_194.9, 0, -1.0, 8_399_737.9)),
    ],
)
@pytest.mark.parametrize("points", [[(10, 20), (30, 20)], [(20, 10), (20, 30)]])
def test_a_line_is_as_wide_as_on_the_ground(
    tmp_path: Path, crs: str, place: Affine, points: list[tuple[float, float]]
) -> None:
    """Across and along: at 60 degrees a degree of longitude is half as long as one of latitude."""
    image(tmp_path, transform=place, crs=crs)
    write_vectors(tmp_path / "labels" / "a.geojson", [on_map(LineString(points), place)], crs=crs)
    scene = read(tmp_path, **ROADS, width_m=3.0)
    left, top, right, bottom = polygons(scene, "road").bounds
    across, down = {
        UTM: (0.5, 0.5),
        # Length of a degree on the ellipsoid at 60 degrees north, from geodetic tables.
        "EPSG:4326": (8e-6 * 55_800.0, 4e-6 * 111_412.0),
        "EPSG:3857": (0.5013, 0.4996),
    }[crs]
    if points[0][1] == points[1][1]:
        assert (bottom - top) * down == pytest.approx(3.0, rel=0.01)
    else:
        assert (right - left) * across == pytest.approx(3.0, rel=0.01)


def test_each_class_may_have_its_width(folder: Path) -> None:
    lines = [on_map(LineString([(0, 10), (50, 10)])), on_map(LineString([(0, 30), (50, 30)]))]
    write_vectors(folder / "labels" / "a.geojson", lines, {"kind": ["road", "track"]})
    options = {"labels": "labels/*.geojson", "class_field": "kind", "values": {"road": "road", "track": "track"}}
    scene = read(folder, **options, width_m={"road": 4.0, "track": 1.0})
    assert masks(scene, "road", "track") == {"road": 8 * 50, "track": 2 * 50, "known": 2000}
    with pytest.raises(DataError, match=r"a\.geojson: lines must .*1 lines without.*Give track a"):
        read(folder, **options, width_m={"road": 4.0})


def test_each_line_may_have_its_width(folder: Path) -> None:
    lines = [on_map(LineString([(0, 10), (50, 10)])), on_map(LineString([(0, 30), (50, 30)]))]
    write_vectors(folder / "labels" / "a.geojson", lines, {"wide": [4.0, 1.0]})
    assert masks(read(folder, **ROADS, width_field="wide"), "road")["road"] == 8 * 50 + 2 * 50
    write_vectors(folder / "labels" / "a.geojson", lines, {"wide": ["4", "broad"]})
    with pytest.raises(DataError, match=r"1 lines without, such as .broad.*Write a bare number"):
        read(folder, **ROADS, width_field="wide")


def test_a_wide_line_just_outside_reaches_in(folder: Path) -> None:
    line = on_map(LineString([(-3, -50), (-3, 90)]))
    write_vectors(folder / "labels" / "a.geojson", [line])
    assert masks(read(folder, **ROADS, width_m=5.0), "road")["road"] == 2 * 40
    write_vectors(folder / "labels" / "a.geojson", [line], {"wide": [5.0]})
    assert masks(read(folder, **ROADS, width_field="wide"), "road")["road"] == 2 * 40


def test_a_line_however_wide_reaches_in_from_far_outside(folder: Path) -> None:
    """170 m from its middle to its edge; the image begins 150 m off, so 40 columns of half a metre are road."""
    line = on_map(LineString([(-300, -900), (-300, 900)]))
    write_vectors(
        folder / "labels" / "a.geojson", [line, on_map(LineString([(0, 900), (9, 900)]))], {"w": [340.0, 1.0]}
    )
    assert masks(read(folder, **ROADS, width_field="w"), "road")["road"] == 40 * 40


def test_lines_without_a_width_are_refused(folder: Path) -> None:
    write_vectors(folder / "labels" / "a.geojson", [on_map(LineString([(0, 10), (50, 10)]))])
    with pytest.raises(DataError, match=r"a\.geojson: lines need a width.*1 lines.*data\.options\.width_m"):
        read(folder, **ROADS)


def test_lines_in_the_crs_of_the_image(folder: Path) -> None:
    write_vectors(folder / "labels" / "a.shp", [on_map(LineString([(0, 10), (50, 10)]))], crs=None)
    options = {"labels": {"road": "labels/*.shp"}, "labels_crs": "image", "width_m": 4.0}
    assert masks(read(folder, **options), "road")["road"] == 8 * 50


def test_lines_and_polygons_may_be_mixed(folder: Path) -> None:
    write_vectors(folder / "labels" / "a.geojson", [on_map(LineString([(0, 30), (50, 30)])), on_map(HOUSE)])
    assert masks(read(folder, **ROADS, width_m=2.0), "road")["road"] == 4 * 50 + 60


def test_what_only_touches_the_border_says_nothing_of_the_scene(tmp_path: Path) -> None:
    """Four tiles side by side: a meadow covers the first, a house stands in the last right at its border."""
    for number, name in enumerate("abcd"):
        image(tmp_path, name, NORTH_UP @ Affine.translation(50 * number, 0))
    shapes = [on_map(box(0, 0, 50, 40)), on_map(box(150, 5, 160, 15))]
    write_vectors(tmp_path / "labels.gpkg", shapes, {"kind": ["meadow", "house"]})
    options = BY_KIND | {"labels": "labels.gpkg", "background": ["meadow"]}
    labelled = {name: read(tmp_path, name, **options).labels is not None for name in "abcd"}
    assert labelled == {"a": True, "b": False, "c": False, "d": True}


def test_background_within_the_rectangle_around_a_turned_image_is_not_on_it(tmp_path: Path) -> None:
    turned = NORTH_UP @ Affine.rotation(45)
    image(tmp_path, "a", turned)
    for place, is_on_it in ((box(23, 3, 27, 7), True), (box(23, -7, 27, -3), False)):
        write_vectors(tmp_path / "labels.gpkg", [on_map(place, turned)], {"kind": ["meadow"]})
        labels = read(tmp_path, **BY_KIND | {"labels": "labels.gpkg", "background": ["meadow"]}).labels
        assert (labels is not None) == is_on_it


# -- at the ends of the map -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [0.0, -360.0])
def test_labels_of_an_image_across_the_antimeridian(tmp_path: Path, turn: float) -> None:
    """Cut there as RFC 7946 wants it: what lies beyond begins at -180 degrees."""
    place = Affine(1e-5, 0, 179.9998 + turn, 0, -1e-5, -17.0)
    image(tmp_path, "a", place, "EPSG:4326")
    near = box(179.9999, -17.0002, 180.0, -17.0001)
    beyond = box(-180.0, -17.0002, -179.9999, -17.0001)
    write_vectors(tmp_path / "labels" / "a.geojson", [near, beyond], crs="EPSG:4326")
    assert masks(read(tmp_path), "building")["building"] == 20 * 10


@pytest.mark.parametrize("beyond", [False, True], ids=["begins anew", "goes on"])
def test_labels_in_degrees_of_a_projected_image_across_the_antimeridian(tmp_path: Path, beyond: bool) -> None:
    crs = "EPSG:32660"
    border = in_crs(Point(180.0, -17.0), crs, "EPSG:4326")
    place = Affine(0.5, 0, border.x - 12.5, 0, -0.5, border.y)
    image(tmp_path, "a", place, crs)
    shape = in_crs(on_map(box(30, 5, 45, 25), place), "EPSG:4326", crs)
    if beyond:
        shape = shapely.transform(shape, lambda points: np.where(points < -100, points + 360.0, points))
    write_vectors(tmp_path / "labels" / "a.geojson", [shape], crs="EPSG:4326")
    assert masks(read(tmp_path), "building")["building"] == 15 * 20


def test_labels_around_a_pole(tmp_path: Path) -> None:
    crs = "EPSG:3031"
    place = Affine(100.0, 0, -2500.0, 0, -100.0, 2000.0)
    image(tmp_path, "a", place, crs)
    shapes = [
        in_crs(on_map(box(5 * n, 5 * m, 5 * n + 5, 5 * m + 5), place), "EPSG:4326", crs)
        for n in range(2, 8)
        for m in range(2, 6)
    ]
    # Squares that hold the pole or cross the antimeridian cannot be told in degrees.
    whole = [each for each in shapes if each.bounds[2] - each.bounds[0] < 180]
    assert len(whole) > 12
    write_vectors(tmp_path / "labels" / "a.geojson", whole, crs="EPSG:4326")
    # Edges that are straight in degrees are not quite so on the map.
    assert masks(read(tmp_path), "building")["building"] == pytest.approx(25 * len(whole), rel=0.1)

"""The format `geotiff`: labels as vectors and rasters, anywhere on Earth."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from geo_files import NORTH_UP, UTM, chain, on_map, write_tiff, write_vectors
from rasterio.transform import Affine
from rasterio.warp import transform as rasterio_transform
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box
from shapely.geometry.base import BaseGeometry

from pipeline.cube import make_cube
from pipeline.datasets.geotiff import GeotiffAdapter
from pipeline.scene import DataError, PolygonLabels, RasterLabels, Scene
from search_space.errors import MalformedError

HOUSE = box(2, 3, 12, 9)
"""In pixels: 60 of them, of the scene's 40 × 50."""

POND = box(20, 20, 30, 24)
ONE = {"labels": {"building": "labels/*.geojson"}}


def image(folder: Path, scene_id: str = "a", transform: Affine = NORTH_UP, crs: str | None = UTM) -> None:
    write_tiff(folder / "images" / f"{scene_id}.tif", np.ones((1, 40, 50), np.uint8), transform=transform, crs=crs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image(tmp_path)
    return tmp_path


def adapter(folder: Path, **options: Any) -> GeotiffAdapter:
    opened = GeotiffAdapter(folder, options or ONE)
    opened.check()
    return opened


def read(folder: Path, scene_id: str = "a", **options: Any) -> Scene:
    return adapter(folder, **options).read(scene_id, [])


def masks(scene: Scene, *classes: str) -> dict[str, int]:
    """Pixels of each class and of known ground."""
    cube = make_cube(scene, ["band1"], [], classes)
    return dict(zip(classes, cube.masks.sum(axis=(0, 1)).tolist(), strict=True)) | {"known": int(cube.known.sum())}


def polygons(scene: Scene, name: str = "building") -> BaseGeometry:
    assert isinstance(scene.labels, PolygonLabels)
    return shapely.union_all(list(scene.labels.by_class[name]))


def in_crs(geometry: BaseGeometry, crs: str) -> BaseGeometry:
    """From UTM to another CRS."""
    return shapely.transform(
        geometry,
        lambda points: np.column_stack(rasterio_transform(UTM, crs, points[:, 0].tolist(), points[:, 1].tolist())),
    )


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


BY_KIND = {"labels": "labels/*.geojson", "class_field": "kind", "values": {"building": ["house", "barn"], "water": 7}}


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


ROADS = {"labels": {"road": "labels/*.geojson"}}


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
    with pytest.raises(DataError, match=r"a\.geojson: lines must have widths in metres above 0.*1 lines, one with nan"):
        read(folder, **options, width_m={"road": 4.0})


def test_each_line_may_have_its_width(folder: Path) -> None:
    lines = [on_map(LineString([(0, 10), (50, 10)])), on_map(LineString([(0, 30), (50, 30)]))]
    write_vectors(folder / "labels" / "a.geojson", lines, {"wide": [4.0, 1.0]})
    assert masks(read(folder, **ROADS, width_field="wide"), "road")["road"] == 8 * 50 + 2 * 50
    write_vectors(folder / "labels" / "a.geojson", lines, {"wide": ["4", "broad"]})
    with pytest.raises(DataError, match="widths in metres above 0"):
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


# -- label rasters ----------------------------------------------------------------------------------------------------


RASTER = {"labels": "labels/*.tif", "values": {"building": [1, 5], "water": 2}, "ignore": [9]}


def codes(height: int = 40, width: int = 50) -> np.ndarray[Any, Any]:
    planes = np.zeros((1, height, width), np.uint8)
    planes[0, :10], planes[0, 10:12], planes[0, 20:25], planes[0, 30:31] = 1, 5, 2, 9
    return planes


def test_a_label_raster_on_the_images_grid(folder: Path) -> None:
    write_tiff(folder / "labels" / "a.tif", codes())
    scene = read(folder, **RASTER)
    assert isinstance(scene.labels, RasterLabels)
    assert masks(scene, "building", "water") == {"building": 600, "water": 250, "known": 1950}


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_label_raster_of_another_resolution_is_resampled_to_the_nearest(folder: Path, scale: float) -> None:
    coarse = np.kron(codes()[0], np.ones((2, 2), np.uint8)) if scale < 1 else codes()[0, ::2, ::2]
    write_tiff(folder / "labels" / "a.tif", coarse[np.newaxis], transform=chain(NORTH_UP, Affine.scale(scale)))
    assert masks(read(folder, **RASTER), "building", "water")["building"] == 600


def test_ground_beyond_a_label_raster_is_unknown(folder: Path) -> None:
    write_tiff(folder / "labels" / "a.tif", codes(), transform=chain(NORTH_UP, Affine.translation(20, 15)))
    scene = read(folder, **RASTER)
    assert masks(scene, "building", "water") == {"building": 12 * 30, "water": 5 * 30, "known": 25 * 30}


def test_a_label_raster_beside_the_image_leaves_it_unlabelled(folder: Path) -> None:
    write_tiff(folder / "labels" / "a.tif", codes(), transform=chain(NORTH_UP, Affine.translation(2000, 0)))
    assert read(folder, **RASTER).labels is None


def test_a_label_raster_in_another_crs_falls_on_the_same_ground(folder: Path) -> None:
    [west], [north] = rasterio_transform(UTM, "EPSG:4326", [499_990.0], [4_000_010.0])
    step = 1e-6
    rows, columns = np.mgrid[:500, :600]
    xs, ys = rasterio_transform(
        "EPSG:4326",
        UTM,
        (west + (columns.ravel() + 0.5) * step).tolist(),
        (north - (rows.ravel() + 0.5) * step).tolist(),
    )
    x, y = (np.array(xs) - 500_000) / 0.5, (4_000_000 - np.array(ys)) / 0.5
    planes = shapely.contains_xy(HOUSE, x, y).reshape(1, 500, 600).astype(np.uint8)
    place = Affine(step, 0, west, 0, -step, north)
    write_tiff(folder / "labels" / "a.tif", planes, crs="EPSG:4326", transform=place)
    found = masks(read(folder, **RASTER), "building", "water")
    assert found == {"building": 60, "water": 0, "known": 2000}


def test_one_label_raster_for_all_scenes(folder: Path) -> None:
    image(folder, "b", chain(NORTH_UP, Affine.translation(50, 0)))
    write_tiff(folder / "all.tif", codes(40, 75))
    options = RASTER | {"labels": "all.tif"}
    assert masks(read(folder, "a", **options), "building")["known"] == 1950
    assert masks(read(folder, "b", **options), "building") == {"building": 12 * 25, "known": 39 * 25}


def test_no_data_of_a_label_raster_is_unknown_unless_it_means_something(folder: Path) -> None:
    write_tiff(folder / "labels" / "a.tif", codes(), nodata=0)
    assert masks(read(folder, **RASTER), "building")["known"] == 600 + 250
    assert masks(read(folder, **RASTER, background=[0]), "building")["known"] == 1950


def test_ignored_ground_and_area_count_for_label_rasters_too(folder: Path) -> None:
    write_tiff(folder / "labels" / "a.tif", codes())
    write_vectors(folder / "holes.geojson", [on_map(box(0, 0, 5, 5))])
    assert masks(read(folder, **RASTER, ignored="holes.geojson"), "building")["known"] == 1950 - 25
    assert masks(read(folder, **RASTER, area="holes.geojson"), "building") == {"building": 25, "known": 25}


def test_a_code_without_a_meaning_is_refused(folder: Path) -> None:
    write_tiff(folder / "labels" / "a.tif", codes() + (codes() == 2).astype(np.uint8))
    with pytest.raises(DataError, match=r"a\.tif: 250 pixels have a value without a meaning, 250 of them 3"):
        read(folder, **RASTER)
    assert masks(read(folder, **RASTER, others="ignore"), "building")["known"] == 1950 - 250


def test_a_label_raster_without_a_place_must_be_as_large_as_the_image(folder: Path) -> None:
    write_tiff(folder / "labels" / "a.tif", codes(), crs=None, transform=None)
    assert masks(read(folder, **RASTER), "building")["building"] == 600
    write_tiff(folder / "labels" / "a.tif", codes(30), crs=None, transform=None)
    with pytest.raises(DataError, match=r"a\.tif: .*must be as large as its image.*'label': \(30, 50\)"):
        read(folder, **RASTER)


def test_the_crs_of_a_label_raster_may_be_stated(folder: Path) -> None:
    write_tiff(folder / "labels" / "a.tif", codes(), crs=None)
    with pytest.raises(DataError, match=r"a\.tif: the label raster and its image must both say.*labels_crs"):
        read(folder, **RASTER)
    for said in (UTM, "image"):
        assert masks(read(folder, **RASTER, labels_crs=said), "building")["building"] == 600


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_labels_without_a_crs(folder: Path) -> None:
    write_vectors(folder / "labels" / "a.shp", [on_map(HOUSE)], crs=None)
    options = {"labels": {"building": "labels/*.shp"}}
    with pytest.raises(DataError, match=r"a\.shp: the labels do not say in which CRS.*labels_crs = \"EPSG:32633\""):
        read(folder, **options)
    for said in (UTM, "image"):
        assert masks(read(folder, **options, labels_crs=said), "building")["building"] == 60


def test_labels_and_images_in_one_unknown_crs(tmp_path: Path) -> None:
    image(tmp_path, crs=None)
    write_vectors(tmp_path / "labels" / "a.shp", [on_map(HOUSE)], crs=None)
    options = {"labels": {"building": "labels/*.shp"}, "labels_crs": "image"}
    assert masks(read(tmp_path, **options), "building")["building"] == 60
    write_vectors(tmp_path / "labels" / "a.shp", [on_map(LineString([(0, 10), (50, 10)]))], crs=None)
    with pytest.raises(DataError, match="lines with a width in metres need a CRS"):
        read(tmp_path, **options, width_m=3.0)


def test_geojson_in_map_coordinates_that_does_not_say_so(folder: Path) -> None:
    path = write_vectors(folder / "labels" / "a.geojson", [on_map(HOUSE)])
    text = path.read_text()
    start = text.index('"crs"')
    path.write_text(text[:start] + text[text.index('"features"') :])
    with pytest.raises(DataError, match=r"a\.geojson: none of 1 features touches the image.*labels_crs"):
        read(folder)
    assert masks(read(folder, **ONE, labels_crs=UTM), "building")["building"] == 60


def test_labels_outside_of_the_image(folder: Path) -> None:
    write_vectors(folder / "labels" / "a.geojson", [on_map(box(60, 0, 70, 10))] * 3)
    with pytest.raises(DataError, match=r"a\.geojson: none of 3 features touches the image, which spans x 500000"):
        read(folder)


def test_one_file_for_all_scenes_that_lies_on_none(folder: Path) -> None:
    image(folder, "b", chain(NORTH_UP, Affine.translation(50, 0)))
    for features in ([on_map(box(-90, 0, -80, 10)), on_map(box(-70, 0, -60, 10))], []):
        write_vectors(folder / "all.gpkg", features)
        with pytest.raises(DataError, match=r"options\.labels\.building: no feature lies on any image.*all\.gpkg"):
            adapter(folder, labels={"building": "all.gpkg"})
    write_vectors(folder / "all.gpkg", [on_map(HOUSE)])
    adapter(folder, labels={"building": "all.gpkg"})


def test_a_file_that_changes_is_read_again(folder: Path) -> None:
    write_vectors(folder / "labels" / "a.geojson", [on_map(HOUSE)])
    opened = adapter(folder)
    assert masks(opened.read("a", []), "building")["building"] == 60
    write_vectors(folder / "labels" / "a.geojson", [on_map(HOUSE), on_map(POND)], {"kind": ["x", "y"]})
    assert masks(opened.read("a", []), "building")["building"] == 100


@pytest.mark.parametrize("content", ["", "{", '{"type":"FeatureCollection","features":[{"type":', "hello"])
def test_an_empty_or_damaged_file_is_one_line(folder: Path, content: str) -> None:
    (folder / "labels").mkdir()
    (folder / "labels" / "a.geojson").write_text(content)
    with pytest.raises(DataError, match=r"a\.geojson: the file cannot be read as vectors") as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def test_a_damaged_geopackage_is_one_line(folder: Path) -> None:
    path = write_vectors(folder / "labels" / "a.gpkg", [on_map(HOUSE)])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"a\.gpkg: ") as caught:
        read(folder, labels={"building": "labels/*.gpkg"})
    assert "\n" not in str(caught.value)


def test_a_file_without_features_says_that_there_is_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "labels").mkdir()
    (folder / "labels" / "a.geojson").write_text('{"type":"FeatureCollection","features":[]}')
    with caplog.at_level(logging.WARNING):
        assert masks(read(folder), "building") == {"building": 0, "known": 2000}
    assert "a.geojson has no features" in caplog.text
    assert masks(read(folder, **BY_KIND), "building") == {"building": 0, "known": 2000}


def test_an_unknown_attribute_is_named_with_the_nearest(folder: Path) -> None:
    write_vectors(folder / "labels" / "a.geojson", [on_map(HOUSE)], {"Kind": ["house"]})
    with pytest.raises(DataError, match=r"a\.geojson: the features have no such attribute.*'kind'.*'Kind'"):
        read(folder, **BY_KIND)


def test_points_are_refused(folder: Path) -> None:
    write_vectors(folder / "labels" / "a.geojson", [on_map(Point(5, 5)), on_map(Point(6, 7)), on_map(HOUSE)])
    with pytest.raises(
        DataError, match=r"a\.geojson: labels are polygons, or lines with a width\. Received '2 points'"
    ):
        read(folder)


def test_several_layers_want_a_choice(folder: Path) -> None:
    path = folder / "all.gpkg"
    write_vectors(path, [on_map(HOUSE)], layer="houses")
    write_vectors(path, [on_map(POND)], layer="ponds", append=True)
    options = {"labels": {"building": "all.gpkg"}}
    with pytest.raises(DataError, match=r"all\.gpkg: the file must have one layer.*'houses', 'ponds'.*options\.layer"):
        read(folder, **options)
    assert masks(read(folder, **options, layer="ponds"), "building")["building"] == 40
    with pytest.raises(DataError, match=r"no such layer.*'pond'.*Did you mean 'ponds'"):
        read(folder, **options, layer="pond")


def test_a_label_without_a_scene_and_a_scene_without_a_label(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    image(folder, "b")
    write_vectors(folder / "labels" / "a.geojson", [on_map(HOUSE)])
    write_vectors(folder / "labels" / "lost.geojson", [on_map(HOUSE)])
    assert read(folder, "b").labels is None
    assert adapter(folder).scene_ids == ("a", "b")
    assert "lost" in caplog.text


def test_no_label_matches_any_scene(folder: Path) -> None:
    write_vectors(folder / "labels" / "lost.geojson", [on_map(HOUSE)])
    with pytest.raises(DataError, match=r"data\.options\.labels\.building: no file matches.*lost.*Images are named a"):
        adapter(folder)
    with pytest.raises(DataError, match=r"data\.options\.labels\.building: there is no such file.*all\.gpkg"):
        adapter(folder, labels={"building": "all.gpkg"})


def test_a_scene_with_labels_of_some_classes_only(folder: Path) -> None:
    image(folder, "b")
    for name in ("a", "b"):
        write_vectors(folder / "houses" / f"{name}.geojson", [on_map(HOUSE)])
    write_vectors(folder / "water" / "a.geojson", [on_map(POND)])
    with pytest.raises(DataError, match=r"the scene b has labels, but none of water.*'b\.geojson'"):
        adapter(folder, labels={"building": "houses/*.geojson", "water": "water/*.geojson"})


def test_coordinates_that_are_no_numbers(folder: Path) -> None:
    good = on_map(HOUSE)
    bad = shapely.set_coordinates(
        shapely.from_wkt(good.wkt),
        np.vstack([shapely.get_coordinates(good)[:2], [[math.inf, 4e6]], shapely.get_coordinates(good)[3:]]),
    )
    write_vectors(folder / "labels" / "a.gpkg", [bad])
    with pytest.raises(DataError, match=r"a\.gpkg: coordinates must be numbers"):
        read(folder, labels={"building": "labels/*.gpkg"})


def test_a_shapefile_has_its_parts_among_the_sources(folder: Path) -> None:
    write_vectors(folder / "labels" / "a.shp", [on_map(HOUSE)])
    names = {path.name for path in adapter(folder, labels={"building": "labels/*.shp"}).sources("a", [])}
    assert {"a.shp", "a.shx", "a.dbf", "a.prj"} <= names


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "'labels' is missing"),
        ({"labels": {}}, "names no class"),
        ({"labels": "labels/*.geojson"}, "`values` is missing"),
        ({"labels": "labels/*.geojson", "values": {"a": "x"}}, "`class_field` is missing"),
        ({"labels": {"a": "a.gpkg"}, "class_field": "kind"}, "`class_field` means nothing"),
        ({"labels": {"a": "a.gpkg"}, "others": "ignore"}, "`others` means nothing"),
        ({"labels": {"a": "a.tif"}}, r"`labels\.a` must end in \.geojson"),
        ({"labels": "a.tif", "values": {"a": "x"}}, "must be whole numbers"),
        ({"labels": "a.tif", "values": {"a": 1}, "class_field": "k"}, "`class_field` means nothing"),
        ({"labels": "a.tif", "values": {"a": 1}, "ignore": [1]}, "given two meanings"),
        ({"labels": "a.gpkg", "class_field": "k", "values": {"a": 1, "b": "1"}}, "given two meanings"),
        (ROADS | {"width_m": 3.0, "width_field": "w"}, "both tell the width"),
        (ROADS | {"width_m": {"rode": 3.0}}, "names 'rode', which is no class"),
        (ROADS | {"width_m": 0.0}, "must be above 0"),
        (ROADS | {"area": "area.tif"}, "`area` must end in"),
    ],
)
def test_options_that_make_no_sense_are_malformed(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(MalformedError, match=told):
        GeotiffAdapter(tmp_path, options)

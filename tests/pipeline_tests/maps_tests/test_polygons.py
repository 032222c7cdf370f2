import json

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.crs import CRS

from pipeline.imagery.rasterise import rasterise
from pipeline.maps.polygons import PolygonError, rounded, vectorise, write_geojson
from pipeline.scene import Georeference

MASKS = arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))
COORDINATE = st.floats(0, 3).map(lambda value: round(value, 6))
"""Nothing on the ground is told more finely; GEOS warns of lengths whose squares vanish."""
UTM = CRS.from_epsg(32643).to_wkt()


def blobs(height, width, seed):
    """Smooth random shapes with holes and islands, as predictions have them."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(height, width))
    for axis in (0, 1):
        noise = sum(np.roll(noise, shift, axis) for shift in range(-3, 4))
    return noise > 0


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_any_mask_comes_back_exactly_from_its_polygons(mask):
    polygons = vectorise(mask)
    assert polygons.is_valid
    assert polygons.area == mask.sum()
    np.testing.assert_array_equal(rasterise([polygons], *mask.shape), mask)


@pytest.mark.parametrize("seed", range(4))
def test_smooth_shapes_with_holes_come_back_exactly(seed):
    mask = blobs(211, 307, seed)
    polygons = vectorise(mask)
    assert any(polygon.interiors for polygon in polygons.geoms)
    np.testing.assert_array_equal(rasterise([polygons], *mask.shape), mask)


def test_pixel_row_2_column_5_is_the_square_from_5_2():
    mask = np.zeros((4, 9), np.uint8)
    mask[2, 5] = 1
    assert vectorise(mask).equals(shapely.box(5, 2, 6, 3))


def test_small_polygons_are_left_out():
    mask = np.zeros((20, 20), bool)
    mask[0:2, 0:2] = mask[5:9, 5:10] = True
    assert vectorise(mask, min_area_px=5).equals(shapely.box(5, 5, 10, 9))
    assert len(vectorise(mask, min_area_px=4).geoms) == 2


def test_an_empty_mask_has_no_polygons():
    assert vectorise(np.zeros((3, 3), bool)).is_empty


def test_a_stack_of_masks_is_refused():
    with pytest.raises(PolygonError, match=r"\(3, 3, 2\)"):
        vectorise(np.zeros((3, 3, 2), bool))


@settings(max_examples=100, deadline=None)
@example(circles=[(0.0, 0.0, 0.5), (0.0, 2.0, 1.0)], decimals=0)
@example(circles=[(0.5, 0.5, 0.125)], decimals=0)
@given(
    st.lists(st.tuples(COORDINATE, COORDINATE, st.floats(0.05, 2)), min_size=1, max_size=6),
    st.integers(0, 3),
)
def test_rounded_polygons_are_valid_and_near(circles, decimals):
    """Coarse rounding of fine shapes makes most of them invalid at first."""
    shape = shapely.union_all([shapely.Point(x, y).buffer(r, quad_segs=20) for x, y, r in circles])
    result = rounded(shape, decimals)
    points = shapely.get_coordinates(result)
    assert result.is_valid
    np.testing.assert_array_equal(points, np.round(points, decimals))
    # A point moves by less than a step of the grid, so what changes lies that near to the outline.
    assert shape.boundary.buffer(10.0**-decimals).covers(result.symmetric_difference(shape).buffer(-1e-9))


def test_a_sliver_that_collapses_is_dropped():
    sliver = shapely.Polygon([(0, 0), (10, 0.001), (10, 0)])
    assert rounded(shapely.MultiPolygon([sliver, shapely.box(20, 0, 21, 1)]), 1).equals(shapely.box(20, 0, 21, 1))


def test_a_bow_tie_made_by_rounding_is_mended():
    nearly = shapely.Polygon([(0, 0), (4, 0), (4, 4), (2.04, 0.06), (1.96, 0.06), (0, 4)])
    result = rounded(nearly, 1)
    assert result.is_valid
    assert result.area == pytest.approx(nearly.area, abs=0.5)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def shapes_of(document, name):
    features = [each for each in document["features"] if each["properties"]["class"] == name]
    return shapely.MultiPolygon([shapely.geometry.shape(each["geometry"]) for each in features])


PLACES = [
    Georeference(),
    Georeference(xmax=0.0092, ymin=-0.0090),
    Georeference(crs=UTM, transform=(0.31, 0.0, 412_345.25, 0.0, -0.31, 2_100_000.5)),
    Georeference(crs="EPSG:4326", transform=(2.7e-6, 1e-7, -43.2, 1e-7, -2.7e-6, -22.9)),
]


@pytest.mark.parametrize("place", PLACES, ids=["pixels", "dstl", "utm", "wgs84"])
def test_masks_survive_the_way_through_a_file(tmp_path, place):
    masks = {"Tree": blobs(83, 61, 1), "Wässer": blobs(83, 61, 2)}
    path = tmp_path / "deep" / "scene.geojson"
    write_geojson(path, {name: vectorise(mask) for name, mask in masks.items()}, place, (83, 61), {"Tree": 0.375})
    document = read(path)
    for name, mask in masks.items():
        polygons = shapes_of(document, name)
        assert polygons.is_valid
        np.testing.assert_array_equal(rasterise([place.to_pixels(polygons, 83, 61)], 83, 61), mask)
    thresholds = {(each["properties"]["class"], each["properties"].get("threshold")) for each in document["features"]}
    assert thresholds == {("Tree", 0.375), ("Wässer", None)}
    assert [each.name for each in path.parent.iterdir()] == ["scene.geojson"]


def test_geojson_names_its_crs_unless_it_is_wgs84(tmp_path):
    documents = []
    for number, place in enumerate(PLACES):
        write_geojson(tmp_path / f"{number}.geojson", {"a": shapely.box(0, 0, 2, 2)}, place, (9, 9))
        documents.append(read(tmp_path / f"{number}.geojson"))
    assert documents[2]["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32643"
    assert all("crs" not in documents[number] for number in (0, 1, 3))
    assert [each["coordinates"] for each in documents] == [
        "pixels, x right, y down",
        "units of the DSTL grid",
        "units of the CRS",
        "longitude, latitude",
    ]


def test_outer_rings_run_counter_clockwise_as_geojson_asks(tmp_path):
    ring = shapely.box(0, 0, 9, 9).difference(shapely.box(3, 3, 5, 5))
    for place in PLACES:
        write_geojson(tmp_path / "ring.geojson", {"a": ring}, place, (9, 9))
        outer, inner = read(tmp_path / "ring.geojson")["features"][0]["geometry"]["coordinates"]
        assert shapely.LinearRing(outer).is_ccw
        assert not shapely.LinearRing(inner).is_ccw


def test_an_unknown_crs_is_refused_and_leaves_no_file(tmp_path):
    place = Georeference(crs="PROJECTION OF MY DREAMS", transform=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    with pytest.raises(PolygonError, match="DREAMS"):
        write_geojson(tmp_path / "a.geojson", {"a": shapely.box(0, 0, 1, 1)}, place, (9, 9))
    assert not list(tmp_path.iterdir())

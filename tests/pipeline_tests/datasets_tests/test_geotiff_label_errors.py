"""The format `geotiff`: labels that cannot be used, and what is said of them."""

import logging
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from geo_files import NORTH_UP, UTM, chain, on_map, write_vectors
from labelled_scenes import BY_KIND, HOUSE, ONE, POND, ROADS, adapter, image, masks, read
from rasterio.transform import Affine
from shapely.geometry import LineString, Point, Polygon, box
from shapely.geometry.base import BaseGeometry

from pipeline.datasets.geotiff import GeotiffAdapter
from pipeline.scene import DataError
from search_space.errors import MalformedError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image(tmp_path)
    return tmp_path


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


@pytest.mark.parametrize("corner", [(math.inf, 4e6), (math.nan, math.nan), (5e5, math.nan)])
@pytest.mark.parametrize("kind", [Polygon, LineString])
def test_coordinates_that_are_no_numbers(folder: Path, kind: type[BaseGeometry], corner: tuple[float, float]) -> None:
    corners = shapely.get_coordinates(on_map(HOUSE))
    corners[2] = corner
    with np.errstate(invalid="ignore"):
        write_vectors(folder / "labels" / "a.gpkg", [kind(corners)])
    with pytest.raises(DataError, match=r"a\.gpkg: coordinates must be numbers.*1 geometries"):
        read(folder, labels={"building": "labels/*.gpkg"}, width_m=2.0)


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
        (ROADS | {"width_m": 0.0}, "must be from 0.01 to 10000. Received 0.0"),
        (ROADS | {"width_m": {"road": 1e9}}, r"'width_m\.road' must be at most 10000"),
        (ROADS | {"width_m": {"road": "6"}}, r"'width_m\.road' must be a number\. Received '6'"),
        (ROADS | {"labels_crs": "EPSG:999999"}, "'labels_crs' must be a coordinate reference system"),
        (ROADS | {"labels": {"road": "a.gpkg", "track": "a.gpkg"}}, "gives road and track the same files"),
        ({"labels": "a.tif", "values": {"a": []}}, "`values` gives 'a' none"),
        (ROADS | {"area": "area.tif"}, "`area` must end in"),
    ],
)
def test_options_that_make_no_sense_are_malformed(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(MalformedError, match=told):
        GeotiffAdapter(tmp_path, options)


def test_ground_in_a_file_of_its_own_needs_no_layer_of_the_same_name(folder: Path) -> None:
    write_vectors(folder / "labels.gpkg", [on_map(HOUSE)], layer="footprints")
    write_vectors(folder / "labels.gpkg", [on_map(POND)], layer="other", append=True)
    write_vectors(folder / "unsure.gpkg", [on_map(box(0, 0, 5, 5))])
    write_vectors(folder / "area.geojson", [on_map(box(0, 0, 25, 40))])
    options = {"labels": {"building": "labels.gpkg"}, "layer": "footprints", "ignored": "unsure.gpkg"}
    assert masks(read(folder, **options, area="area.geojson"), "building") == {"building": 54, "known": 25 * 40 - 25}


def test_a_table_without_geometries_is_no_layer(folder: Path) -> None:
    path = write_vectors(folder / "labels.gpkg", [on_map(HOUSE)], layer="footprints")
    styles = np.array(["red"], object)
    pyogrio.raw.write(path, None, [styles], ["style"], geometry_type=None, layer="layer_styles", append=True, crs=None)
    assert masks(read(folder, labels={"building": "labels.gpkg"}), "building")["building"] == 60


def test_what_a_gis_has_not_yet_written_into_its_geopackage_is_among_the_sources(folder: Path) -> None:
    path = write_vectors(folder / "labels" / "a.gpkg", [on_map(HOUSE)])
    opened = adapter(folder, labels={"building": "labels/*.gpkg"})
    with closing(sqlite3.connect(path)) as first:
        first.execute("PRAGMA journal_mode=WAL")
        first.execute("CREATE TABLE unsaved (number INTEGER)")
        first.commit()
        assert folder / "labels" / "a.gpkg-wal" in opened.sources("a", [])

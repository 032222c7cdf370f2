"""Tiny chips in SpaceNet's true layouts: Rio's of the first challenge, and those of the later ones with roads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geo_files import on_map, write_tiff
from rasterio.transform import Affine
from shapely.geometry import LineString, MultiPolygon, Point, box, mapping
from shapely.geometry.base import BaseGeometry

from pipeline.datasets.spacenet import SPEED_CLASSES, SpacenetAdapter
from pipeline.imagery.cube import make_cube
from pipeline.scene import DataError, Scene
from search_space.errors import MalformedError

CHIP = Affine(2.7e-6, 0.0, 37.5, 0.0, -2.7e-6, 55.7)
"""Chips of later challenges: about 0.3 m, longitude and latitude."""

SIDE = 80


def write_geojson(path: Path, features: list[tuple[BaseGeometry, dict[str, Any]]]) -> None:
    """As SpaceNet writes it: CRS84, nothing but an empty list where there is nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    plain = [
        {"type": "Feature", "properties": properties, "geometry": mapping(geometry)}
        for geometry, properties in features
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": plain}))


def pixels(num_bands: int, side: int, hole: bool = False) -> np.ndarray[Any, Any]:
    planes = np.full((num_bands, side, side), 300, np.uint16)
    if hole:
        planes[:, : side // 4] = 0
    return planes


def rio(folder: Path, name: str = "013022223130_Public_img1", houses: int = 1) -> None:
    """RGB at half a metre, eight bands at two, of the same ground; a quarter without data."""
    fine, coarse = Affine(4.5e-6, 0, -43.68, 0, -4.5e-6, -22.98), Affine(18e-6, 0, -43.68, 0, -18e-6, -22.98)
    rgb = pixels(3, 40, hole=True).astype(np.uint8)
    write_tiff(folder / "3band" / f"3band_{name}.tif", rgb, crs="EPSG:4326", transform=fine)
    write_tiff(folder / "8band" / f"8band_{name}.tif", pixels(8, 10, hole=True), crs="EPSG:4326", transform=coarse)
    shapes = [(on_map(box(4 + 12 * n, 20, 12 + 12 * n, 30), fine), {"building": None}) for n in range(houses)]
    write_geojson(folder / "vectorData" / "geoJson" / f"{name}_Geo.geojson", shapes)


def later(folder: Path, name: str, kind: str, number: int, *products: str) -> None:
    """Chips as later challenges have them: PS-RGB at full resolution, MS at a quarter."""
    for product in products or ("PS-RGB", "MS", "PAN"):
        bands, shrink = {"PS-RGB": (3, 1), "MS": (8, 4), "PS-MS": (8, 1), "PAN": (1, 1)}[product]
        a, _, c, _, e, f = tuple(CHIP)[:6]
        place = Affine(a * shrink, 0, c, 0, e * shrink, f)
        path = folder / product / f"{name}_{product}_{kind}{number}.tif"
        write_tiff(path, pixels(bands, SIDE // shrink), crs="EPSG:4326", transform=place)


def roads(folder: Path, *lines: tuple[BaseGeometry, dict[str, Any]], kind: str = "geojson_roads_speed") -> None:
    shapes = [(on_map(line, CHIP), properties) for line, properties in lines]
    write_geojson(folder / kind / f"SN5_roads_train_AOI_7_Moscow_{kind}_chip5.geojson", shapes)


@pytest.fixture
def moscow(tmp_path: Path) -> Path:
    later(tmp_path, "SN5_roads_train_AOI_7_Moscow", "chip", 5)
    return tmp_path


def adapter(folder: Path, **options: Any) -> SpacenetAdapter:
    opened = SpacenetAdapter(folder, options)
    opened.check()
    return opened


def read(folder: Path, **options: Any) -> Scene:
    opened = adapter(folder, **options)
    return opened.read(opened.scene_ids[0], [band.name for band in opened.bands])


def masks(scene: Scene, *classes: str) -> dict[str, int]:
    cube = make_cube(scene, ["red"], [], classes)
    return dict(zip(classes, cube.masks.sum(axis=(0, 1)).tolist(), strict=True)) | {"known": int(cube.known.sum())}


def test_rios_chips_have_two_resolutions_of_one_ground(tmp_path: Path) -> None:
    rio(tmp_path)
    opened = adapter(tmp_path)
    assert opened.scene_ids == ("013022223130_Public_img1",)
    assert opened.class_names == ("building",)
    names = [band.name for band in opened.bands]
    assert names[:4] == ["red", "green", "blue", "m_coastal"]
    assert (len(names), names[-1]) == (11, "m_nir2")
    scene = read(tmp_path)
    assert [group.planes.shape for group in scene.groups] == [(3, 40, 40), (8, 10, 10)]
    assert [group.placement for group in scene.groups] == [None, None]
    assert [group.valid.mean() for group in scene.groups] == [0.75, 0.8]
    assert masks(scene, "building") == {"building": 80, "known": 40 * 30}


def test_only_the_products_of_wanted_bands_are_read(tmp_path: Path) -> None:
    rio(tmp_path)
    opened = adapter(tmp_path)
    (next(iter((tmp_path / "8band").iterdir()))).write_text("damaged")
    [chip] = opened.scene_ids
    assert [group.name for group in opened.read(chip, ["green"]).groups] == ["rgb"]
    with pytest.raises(DataError, match=r"8band_.*cannot be read"):
        opened.read(chip, ["m_red"])


def test_a_chip_without_buildings_is_known_to_have_none(tmp_path: Path) -> None:
    rio(tmp_path, houses=0)
    assert masks(read(tmp_path), "building") == {"building": 0, "known": 40 * 30}


def test_a_chip_without_a_label_file_is_not_labelled(tmp_path: Path) -> None:
    rio(tmp_path)
    rio(tmp_path, "013022223130_Public_img2")
    (tmp_path / "vectorData" / "geoJson" / "013022223130_Public_img2_Geo.geojson").unlink()
    opened = adapter(tmp_path)
    assert [opened.read(chip, []).labels is None for chip in opened.scene_ids] == [False, True]


@pytest.mark.parametrize(
    ("image", "label", "chip"),
    [
        ("3band/3band_AOI_1_RIO_img9", "geojson/Geo_AOI_1_RIO_img9", "AOI_1_RIO_img9"),
        (
            "RGB-PanSharpen/RGB-PanSharpen_AOI_2_Vegas_img9",
            "geojson/buildings/buildings_AOI_2_Vegas_img9",
            "AOI_2_Vegas_img9",
        ),
        (
            "PS-RGB/SN2_buildings_train_AOI_2_Vegas_PS-RGB_img9",
            "geojson_buildings/SN2_buildings_train_AOI_2_Vegas_geojson_buildings_img9",
            "SN2_buildings_train_AOI_2_Vegas_img9",
        ),
    ],
)
def test_names_of_every_layout_are_matched(tmp_path: Path, image: str, label: str, chip: str) -> None:
    write_tiff(tmp_path / f"{image}.tif", pixels(3, SIDE), crs="EPSG:4326", transform=CHIP)
    write_geojson(tmp_path / f"{label}.geojson", [(on_map(box(10, 10, 20, 15), CHIP), {})])
    assert adapter(tmp_path).scene_ids == (chip,)
    assert masks(read(tmp_path), "building") == {"building": 50, "known": SIDE**2}


def test_buildings_of_several_parts(tmp_path: Path) -> None:
    rio(tmp_path)
    fine = Affine(4.5e-6, 0, -43.68, 0, -4.5e-6, -22.98)
    both = MultiPolygon([box(4, 20, 12, 30), box(20, 20, 22, 22)])
    path = tmp_path / "vectorData" / "geoJson" / "013022223130_Public_img1_Geo.geojson"
    write_geojson(path, [(on_map(both, fine), {})])
    assert masks(read(tmp_path), "building")["building"] == 84


# -- roads ------------------------------------------------------------------------------------------------------------


def row(y: float, left: float = -5, right: float = SIDE + 5) -> LineString:
    return LineString([(left, y), (right, y)])


def test_the_classes_of_roads_are_stable() -> None:
    assert SPEED_CLASSES == (
        "road_1_10_mph",
        "road_11_20_mph",
        "road_21_30_mph",
        "road_31_40_mph",
        "road_41_50_mph",
        "road_51_60_mph",
        "road_over_60_mph",
    )


@pytest.mark.parametrize(
    ("speed", "expected"),
    [(1, 0), (10, 0), (10.5, 1), (11, 1), (18.75, 1), (20, 1), (25, 2), (45, 4), (60, 5), (61, 6), (65, 6), (110, 6)],
)
def test_speeds_fall_into_the_bins_of_cresi(moscow: Path, speed: float, expected: int) -> None:
    roads(moscow, (row(40), {"inferred_speed_mph": speed}))
    found = masks(read(moscow), "road", *SPEED_CLASSES)
    assert found["road"] > 0
    assert {name for name in SPEED_CLASSES if found[name]} == {SPEED_CLASSES[expected]}
    assert found[SPEED_CLASSES[expected]] == found["road"]


def test_roads_are_as_wide_as_on_the_ground(moscow: Path) -> None:
    """A pixel is 0.17 m wide and 0.30 m high there: at 55.7 degrees, longitudes are short."""
    roads(moscow, (row(40), {"inferred_speed_mph": 25.0}))
    assert masks(read(moscow), "road")["road"] / SIDE == pytest.approx(4.0 / 0.3006, abs=1.0)
    assert masks(read(moscow, road_width_m=8.0), "road")["road"] / SIDE == pytest.approx(8.0 / 0.3006, abs=1.0)
    roads(moscow, (LineString([(40, -5), (40, SIDE + 5)]), {"inferred_speed_mph": 25.0}))
    assert masks(read(moscow), "road")["road"] / SIDE == pytest.approx(4.0 / 0.1697, abs=1.0)


def test_ground_where_roads_meet_belongs_to_the_faster_one(moscow: Path) -> None:
    crossing = LineString([(40, -5), (40, SIDE + 5)])
    roads(moscow, (row(40), {"inferred_speed_mph": 25}), (crossing, {"inferred_speed_mph": 55}))
    found = masks(read(moscow), "road", "road_21_30_mph", "road_51_60_mph")
    assert found["road_21_30_mph"] + found["road_51_60_mph"] == found["road"]
    assert found["road_51_60_mph"] / SIDE == pytest.approx(4.0 / 0.1697, abs=1.0)


def test_the_inferred_speed_comes_before_the_plain_one(moscow: Path) -> None:
    roads(moscow, (row(40), {"speed_mph": 15, "inferred_speed_mph": 45}))
    assert masks(read(moscow), "road_41_50_mph")["road_41_50_mph"] > 0
    roads(moscow, (row(40), {"speed_mph": 15}))
    assert masks(read(moscow), "road_11_20_mph")["road_11_20_mph"] > 0


def test_a_road_without_a_speed_is_unknown_ground(moscow: Path, caplog: pytest.LogCaptureFixture) -> None:
    roads(moscow, (row(20), {"inferred_speed_mph": 25}), (row(60), {"inferred_speed_mph": None}))
    found = masks(read(moscow), "road", "road_21_30_mph")
    assert found["road"] == found["road_21_30_mph"]
    assert (SIDE**2 - found["known"]) / SIDE == pytest.approx(4.0 / 0.3006, abs=1.0)
    assert "1 pieces of road have no speed" in caplog.text
    without = masks(read(moscow, speeds=False), "road")
    assert without["known"] == SIDE**2
    assert without["road"] / SIDE == pytest.approx(2 * 4.0 / 0.3006, abs=2.0)


def test_roads_without_any_speed_are_refused_where_speeds_are_wanted(moscow: Path) -> None:
    roads(moscow, (row(40), {"lanes": "2"}), kind="geojson_roads")
    with pytest.raises(DataError, match=r"roads have no speed.*inferred_speed_mph, speed_mph.*speeds = false"):
        read(moscow)
    assert adapter(moscow, speeds=False).class_names == ("road",)
    assert masks(read(moscow, speeds=False), "road")["road"] > 0


def test_labels_with_speeds_are_preferred(moscow: Path) -> None:
    roads(moscow, (row(40), {}), kind="geojson_roads")
    roads(moscow, (row(40), {"inferred_speed_mph": 25}))
    assert adapter(moscow).sources("SN5_roads_train_AOI_7_Moscow_chip5", [])[-1].parent.name == "geojson_roads_speed"


def test_a_chip_without_roads_is_known_to_have_none(moscow: Path) -> None:
    roads(moscow)
    assert masks(read(moscow), "road", *SPEED_CLASSES) == dict.fromkeys(("road", *SPEED_CLASSES), 0) | {
        "known": SIDE**2
    }


def test_later_chips_have_all_their_products(moscow: Path) -> None:
    later(moscow, "SN5_roads_train_AOI_7_Moscow", "chip", 5, "PS-MS")
    roads(moscow, (row(40), {"inferred_speed_mph": 25}))
    scene = read(moscow)
    assert scene.id == "SN5_roads_train_AOI_7_Moscow_chip5"
    assert [group.name for group in scene.groups] == ["rgb", "psm", "pan", "m"]
    names = [name for group in scene.groups for name in group.names]
    assert len(names) == len(set(names)) == 3 + 8 + 1 + 8
    assert "psm_nir2" in names


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_buildings_and_roads_want_a_choice(moscow: Path) -> None:
    roads(moscow, (row(40), {"inferred_speed_mph": 25}))
    label = "SN5_roads_train_AOI_7_Moscow_geojson_buildings_chip5.geojson"
    write_geojson(moscow / "geojson_buildings" / label, [(on_map(box(10, 10, 20, 15), CHIP), {})])
    with pytest.raises(DataError, match=r"labels of buildings and of roads.*data\.options\.labels"):
        adapter(moscow)
    assert adapter(moscow, labels="buildings").class_names == ("building",)
    assert adapter(moscow, labels="roads").class_names[0] == "road"


def test_points_are_no_buildings(tmp_path: Path) -> None:
    rio(tmp_path)
    path = tmp_path / "vectorData" / "geoJson" / "013022223130_Public_img1_Geo.geojson"
    write_geojson(path, [(Point(-43.6799, -22.9801), {})])
    with pytest.raises(DataError, match=r"labels are polygons, or lines with a width.*1 points"):
        read(tmp_path)


def test_labels_of_another_city_are_refused(tmp_path: Path) -> None:
    rio(tmp_path)
    path = tmp_path / "vectorData" / "geoJson" / "013022223130_Public_img1_Geo.geojson"
    write_geojson(path, [(box(2.3, 48.8, 2.31, 48.81), {})])
    with pytest.raises(DataError, match=r"none of 1 features touches the image"):
        read(tmp_path)


def test_a_folder_without_chips(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No chip was found.*PS-RGB"):
        adapter(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        adapter(tmp_path / "gone")


def test_labels_that_belong_to_no_chip(tmp_path: Path) -> None:
    rio(tmp_path)
    [label] = (tmp_path / "vectorData" / "geoJson").iterdir()
    label.rename(label.with_name("other.geojson"))
    with pytest.raises(DataError, match=r"No label file belongs to a chip.*labels of other"):
        adapter(tmp_path)


def test_labels_that_are_asked_for_and_not_there(tmp_path: Path) -> None:
    rio(tmp_path)
    with pytest.raises(DataError, match=r"there are no roads.*geojson_roads_speed"):
        adapter(tmp_path, labels="roads")


def test_a_chip_that_lacks_a_product(moscow: Path) -> None:
    later(moscow, "SN5_roads_train_AOI_7_Moscow", "chip", 6, "PS-RGB")
    opened = adapter(moscow)
    chip = "SN5_roads_train_AOI_7_Moscow_chip6"
    assert opened.read(chip, ["red"]).labels is None
    with pytest.raises(DataError, match=r"chip6 has no image in .*PAN.*leave its bands out"):
        opened.read(chip, ["pan"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labels": "trees"}, '"buildings", "roads" or "auto"'),
        ({"road_width_m": 0.0}, "must be above 0"),
        ({"speed": True}, "Did you mean 'speeds'"),
    ],
)
def test_options_that_make_no_sense_are_malformed(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(MalformedError, match=told):
        SpacenetAdapter(tmp_path, options)


# -- one image by itself ----------------------------------------------------------------------------------------------


def test_the_other_products_of_a_chip_lie_in_their_folders(moscow: Path) -> None:
    image = moscow / "PS-RGB" / "SN5_roads_train_AOI_7_Moscow_PS-RGB_chip5.tif"
    alone = SpacenetAdapter(moscow / "gone", {}).of_image(image)
    assert alone.scene_ids == (image.stem,)
    scene = alone.read(image.stem, ["red", "m_nir2"])
    assert ([group.name for group in scene.groups], scene.labels) == (["rgb", "m"], None)
    other = moscow / "MS" / "SN5_roads_train_AOI_7_Moscow_MS_chip5.tif"
    with pytest.raises(DataError, match=r"the grid of the study is that of another product.*PS-RGB_chip5"):
        SpacenetAdapter(moscow, {}).of_image(other).read(other.stem, [])


def test_a_plain_picture_serves_where_red_green_and_blue_are_enough(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "new" / "town.tif", pixels(3, 20))
    alone = SpacenetAdapter(tmp_path / "gone", {}).of_image(path)
    assert [band.name for band in alone.bands] == ["red", "green", "blue"]
    assert alone.read("town", ["red"]).id == "town"

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from pipeline.datasets.masks import MasksAdapter
from pipeline.scene import DataError, RasterLabels, Scene
from search_space.errors import MalformedError

ROAD = {"values": {"road": 1}}


def write_tiff(path: Path, planes: NDArray[Any], **profile: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0.0, 500_000.0, 0.0, -0.5, 4_000_000.0)}
    size = {"count": len(planes), "height": planes.shape[1], "width": planes.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", dtype=planes.dtype, **size, **(place | profile)) as file:
        file.write(planes)


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels if pixels.ndim == 2 else pixels[..., ::-1])


def labels_of(scene: Scene) -> RasterLabels:
    assert isinstance(scene.labels, RasterLabels)
    return scene.labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One scene of 4 bands, 6 × 8 px, with three values in its label raster."""
    planes = np.arange(4 * 6 * 8).reshape(4, 6, 8).astype(np.uint16)
    write_tiff(tmp_path / "images" / "a.tif", planes)
    mask = np.zeros((6, 8), np.uint8)
    mask[:2], mask[2:4] = 1, 2
    write_png(tmp_path / "masks" / "a.png", mask)
    return tmp_path


def read(folder: Path, scene_id: str = "a", **options: Any) -> Scene:
    adapter = MasksAdapter(folder, ROAD | {"background": [0, 2]} | options)
    adapter.check()
    return adapter.read(scene_id, ())


def test_reads_bands_place_and_labels(folder: Path) -> None:
    scene = read(folder, values={"road": 1, "water": 2}, background=[], ignore=[0])
    assert scene.groups[0].names == ("band1", "band2", "band3", "band4")
    assert scene.groups[0].planes[2, 3, 4] == 2 * 48 + 3 * 8 + 4
    assert scene.georeference.transform == (0.5, 0.0, 500_000.0, 0.0, -0.5, 4_000_000.0)
    assert scene.georeference.crs is not None
    assert "UTM zone 33N" in scene.georeference.crs
    labels = labels_of(scene)
    assert labels.by_class["road"][:2].all()
    assert labels.by_class["water"].sum() == 16
    assert np.array_equal(labels.known, labels.by_class["road"] | labels.by_class["water"])


def test_a_plain_picture_has_red_green_blue_and_no_place(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "x.png", np.full((5, 4, 3), (200, 100, 50), np.uint8))
    write_png(tmp_path / "masks" / "x.png", np.ones((5, 4), np.uint8))
    scene = read(tmp_path, "x")
    assert scene.groups[0].names == ("red", "green", "blue")
    assert scene.groups[0].planes[:, 0, 0].tolist() == [200, 100, 50]
    assert scene.georeference.crs is None
    assert scene.georeference.transform is None


def test_labels_as_colours(folder: Path) -> None:
    colours = np.zeros((6, 8, 3), np.uint8)
    colours[1] = (255, 120, 80)
    colours[2] = (9, 9, 9)
    write_png(folder / "masks" / "a.png", colours)
    labels = labels_of(read(folder, values={"road": [255, 120, 80]}, ignore=[[9, 9, 9]], background=None))
    assert np.array_equal(np.flatnonzero(labels.by_class["road"].any(axis=1)), [1])
    assert np.array_equal(np.flatnonzero(~labels.known.any(axis=1)), [2])


def test_a_palette_is_read_as_numbers_or_as_colours(folder: Path) -> None:
    (folder / "masks" / "a.png").unlink()
    codes = np.zeros((1, 6, 8), np.uint8)
    codes[0, 3] = 7
    write_tiff(folder / "masks" / "a.tif", codes, photometric="palette")
    with rasterio.open(folder / "masks" / "a.tif", "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 255), 7: (10, 20, 30, 255)})
    by_number = labels_of(read(folder, values={"road": 7}))
    by_colour = labels_of(read(folder, values={"road": [10, 20, 30]}, background=None))
    for labels in (by_number, by_colour):
        assert np.array_equal(np.flatnonzero(labels.by_class["road"].any(axis=1)), [3])


def test_a_grey_mask_saved_as_rgb_is_understood(folder: Path) -> None:
    write_png(folder / "masks" / "a.png", np.ones((6, 8, 3), np.uint8))
    assert labels_of(read(folder)).by_class["road"].all()


def test_a_scene_without_a_mask_has_no_labels(folder: Path) -> None:
    write_tiff(folder / "images" / "b.tif", np.zeros((4, 3, 3), np.uint16))
    assert read(folder, "b").labels is None
    assert read(folder, masks="").labels is None


def test_what_stands_for_the_star_names_the_scene(tmp_path: Path) -> None:
    write_png(tmp_path / "7_sat.png", np.zeros((3, 3, 3), np.uint8))
    write_png(tmp_path / "7_mask.png", np.ones((3, 3), np.uint8))
    adapter = MasksAdapter(tmp_path, ROAD | {"images": "*_sat.png", "masks": "*_mask.*"})
    assert adapter.scene_ids == ("7",)
    assert labels_of(adapter.read("7", ())).by_class["road"].all()


def test_no_data_by_tag_by_option_and_by_alpha(folder: Path) -> None:
    planes = np.full((3, 6, 8), 5, np.int16)
    planes[:, 0] = -9
    planes[0, 1] = -9
    write_tiff(folder / "images" / "a.tif", planes, nodata=-9)
    rows = np.flatnonzero(~read(folder).groups[0].valid.all(axis=1))
    assert rows.tolist() == [0], "one band alone may hold the value by chance"
    write_tiff(folder / "images" / "a.tif", planes)
    assert read(folder).groups[0].valid is None
    assert not read(folder, nodata=-9).groups[0].valid[0].any()
    (folder / "images" / "a.tif").unlink()
    seen = np.full((6, 8, 4), 255, np.uint8)
    seen[4, :, 3] = 0
    assert cv2.imwrite(str(folder / "images" / "a.png"), seen)
    scene = read(folder)
    assert len(scene.groups[0].planes) == 3
    assert np.flatnonzero(~scene.groups[0].valid.any(axis=1)).tolist() == [4]


def test_not_a_number_is_refused_unless_it_means_no_data(folder: Path) -> None:
    planes = np.ones((3, 6, 8), np.float32)
    planes[1, 2, 3] = np.nan
    write_tiff(folder / "images" / "a.tif", planes)
    with pytest.raises(DataError, match=r"a\.tif.*1 not-a-number, infinite or larger pixels in band green.*no-data"):
        read(folder)
    assert read(folder, nodata="nan").groups[0].valid.sum() == 47
    planes[1, 2, 3] = np.inf
    write_tiff(folder / "images" / "a.tif", planes, nodata=np.nan)
    with pytest.raises(DataError, match="infinite"):
        read(folder)


def test_a_value_without_a_meaning_is_named_with_its_count(folder: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: 16 pixels have a value without a meaning, 16 of them 2"):
        read(folder, background=None)
    write_png(folder / "masks" / "a.png", np.full((6, 8, 3), (1, 2, 3), np.uint8))
    with pytest.raises(DataError, match=r"48 of them \[1, 2, 3\]"):
        read(folder, values={"road": [9, 9, 9]}, background=None)


def test_black_is_background_only_where_it_means_nothing_else(folder: Path) -> None:
    labels = labels_of(read(folder, values={"land": 0, "road": 1, "water": 2}, background=None))
    assert labels.by_class["land"].sum() == 16


def test_a_mask_of_another_size_is_refused(folder: Path) -> None:
    write_png(folder / "masks" / "a.png", np.zeros((8, 6), np.uint8))
    with pytest.raises(DataError, match=r"a\.png.*as large as its image.*'label': \(8, 6\), 'image': \(6, 8\)"):
        read(folder)


def test_colours_where_numbers_are_meant_and_the_reverse(folder: Path) -> None:
    write_png(folder / "masks" / "a.png", np.full((6, 8, 3), (1, 2, 3), np.uint8))
    with pytest.raises(DataError, match=r"must have one band.*Give colours"):
        read(folder)
    write_png(folder / "masks" / "a.png", np.zeros((6, 8), np.uint8))
    with pytest.raises(DataError, match=r"8-bit colour picture.*Give whole numbers"):
        read(folder, values={"road": [1, 2, 3]}, background=None)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.95])
def test_a_file_cut_short_is_one_line(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / "images" / f"a.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    write_png(path, pixels)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=rf"a\.{suffix}.*Fetch or export it again") as caught:
        read(tmp_path, masks="", band_names=["r", "g", "b"])
    assert "\n" not in str(caught.value)


def test_a_damaged_png_is_not_read_as_black(folder: Path) -> None:
    path = folder / "masks" / "a.png"
    data = bytearray(path.read_bytes())
    data[-20] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="cut short or damaged"):
        read(folder)


def test_a_text_file_is_no_picture(folder: Path) -> None:
    (folder / "images" / "a.tif").write_text("hello")
    with pytest.raises(DataError, match=r"a\.tif: the picture cannot be read"):
        read(folder, band_names=["x"])


def test_two_files_of_one_scene_are_refused(folder: Path) -> None:
    write_png(folder / "images" / "a.png", np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"two files belong to the scene a\. Received \['a\.png', 'a\.tif'\]"):
        read(folder)


def test_other_numbers_of_bands_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"a\.tif: the image must have 2 bands \(x, y\)\. Received 4"):
        read(folder, band_names=["x", "y"])


def test_patterns_that_match_nothing_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no image matches.*images/\*\.jpg"):
        read(folder, images="images/*.jpg")
    write_png(folder / "labels" / "z.png", np.zeros((6, 8), np.uint8))
    with pytest.raises(DataError, match=r"no label raster matches.*Images are named a; label rasters are named z"):
        read(folder, masks="labels/*.png")
    with pytest.raises(DataError, match="does not exist"):
        read(folder / "nowhere")


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.tif", "images/a.tif", "**/*.tif"])
def test_patterns_stay_below_the_folder_and_have_a_star(folder: Path, pattern: str) -> None:
    with pytest.raises(DataError, match="the pattern lies below"):
        read(folder, images=pattern)


def test_masks_without_an_image_are_reported(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_png(folder / "masks" / "lost.png", np.zeros((6, 8), np.uint8))
    read(folder)
    assert "lost" in caplog.text


def test_labels_without_an_image_are_told_once_for_all_classes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = class_files(folder)
    for name in ("road", "building"):
        write_png(folder / "masks" / f"lost_{name}.png", np.zeros((6, 8), np.uint8))
    read_classes(folder, **options)
    assert [record.getMessage() for record in caplog.records] == ["Labels of 1 scenes have no image: lost"]


def test_a_folder_that_may_not_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = folder / "masks"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)
    with pytest.raises(DataError, match=r"data\.options\.masks: the folder may not be read.*/masks'.*ls -ld"):
        read(folder)


def test_hidden_files_are_left_alone(folder: Path) -> None:
    (folder / "images" / "._a.tif").write_bytes(b"left by a Mac")
    assert MasksAdapter(folder, ROAD).scene_ids == ("a",)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "'values' is missing"),
        ({"values": {}}, "at least 1 item"),
        ({"values": {"road": 1}, "ignor": [0]}, "Did you mean 'ignore'"),
        ({"values": {"road": 1, "water": 1}}, "given two meanings"),
        ({"values": {"road": 1}, "ignore": [1]}, "given two meanings"),
        ({"values": {"road": 1}, "ignore": [[1, 2, 3]]}, "all whole numbers, or all colours"),
        ({"values": {"road": 1}, "band_names": ["x", "x"]}, "'x' is named twice"),
        ({"values": {"road": 1}, "on": 128}, "`on` means nothing"),
        ({"masks": {}}, "`masks` names no class"),
        ({"masks": {"road": "r/*"}, "values": {"road": 1}}, "`values` means nothing"),
        ({"masks": {"road": "r/*"}, "background": [0]}, "`background` means nothing"),
        ({"masks": {"road": "r/*"}, "ignore": [[1, 2, 3]]}, "must hold whole numbers"),
        ({"masks": {"road": "r/*"}, "on": {"rode": 1}}, "names 'rode', which is no class"),
        ({"masks": {"road": "r/*"}, "on": 0}, "'on' must be above 0. Received 0"),
    ],
)
def test_options_that_make_no_sense_are_malformed(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(MalformedError, match=told):
        MasksAdapter(tmp_path, options)


def test_a_label_raster_elsewhere_on_earth_is_refused(folder: Path) -> None:
    mask = np.zeros((1, 6, 8), np.uint8)
    (folder / "masks" / "a.png").unlink()
    write_tiff(folder / "masks" / "a.tif", mask)
    assert not labels_of(read(folder)).by_class["road"].any()

    write_tiff(folder / "masks" / "a.tif", mask, crs="EPSG:32634")
    with pytest.raises(DataError, match="lies elsewhere"):
        read(folder)

    write_tiff(folder / "masks" / "a.tif", mask, transform=Affine(0.5, 0.0, 500_000.3, 0.0, -0.5, 4_000_000.0))
    with pytest.raises(DataError, match="lies elsewhere"):
        read(folder)


def test_labels_that_are_not_a_number_are_refused(folder: Path) -> None:
    mask = np.zeros((1, 6, 8), np.float32)
    (folder / "masks" / "a.png").unlink()
    write_tiff(folder / "masks" / "a.tif", mask)
    assert not labels_of(read(folder)).by_class["road"].any()
    mask[0, 0, 0] = np.nan
    write_tiff(folder / "masks" / "a.tif", mask)
    with pytest.raises(DataError, match="must be whole numbers"):
        read(folder)


def test_what_lies_beside_an_image_is_no_scene(folder: Path) -> None:
    for name in ("a.tif.aux.xml", "a.tfw", ".hidden.tif"):
        (folder / "images" / name).write_text("x")
    adapter = MasksAdapter(folder, ROAD)
    adapter.check()
    assert adapter.scene_ids == ("a",)


def test_one_image_is_read_without_a_look_at_its_neighbours(folder: Path) -> None:
    (folder / "images" / "0.tif").write_text("no picture")
    path = folder / "images" / "a.tif"
    alone = MasksAdapter(folder / "gone", ROAD).of_image(path)
    assert (alone.scene_ids, alone.sources("a", ())) == (("a",), (path,))
    scene = alone.read("a", ())
    assert (scene.id, scene.labels, scene.groups[0].names) == ("a", None, ("band1", "band2", "band3", "band4"))
    named = MasksAdapter(folder, ROAD | {"band_names": ["red", "nir"]}).of_image(path)
    with pytest.raises(DataError, match=r"must have 2 bands \(red, nir\).*Received 4"):
        named.read("a", ())


def test_huge_pixels_are_refused(folder: Path) -> None:
    planes = np.ones((4, 6, 8))
    planes[1, 2, 3] = 1e300
    write_tiff(folder / "images" / "a.tif", planes)
    with pytest.raises(DataError, match=r"a\.tif: pixels must be numbers up to 1e\+18.*band2"):
        read(folder)


# -- a file for each class --------------------------------------------------------------------------------------------


def class_files(folder: Path) -> dict[str, Any]:
    """Road in grey as DeepGlobe has it, buildings in red; the two overlap in column 3."""
    road, building = np.zeros((6, 8), np.uint8), np.zeros((6, 8, 3), np.uint8)
    road[:, :2], road[:, 2], road[:, 3] = 255, 127, 128
    building[:, 3:5, 0] = 255
    write_png(folder / "masks" / "a_road.png", road)
    write_png(folder / "masks" / "a_building.png", building)
    (folder / "masks" / "a.png").unlink(missing_ok=True)
    return {"masks": {"road": "masks/*_road.png", "building": "masks/*_building.png"}}


def columns(labels: RasterLabels, name: str) -> list[int]:
    assert (labels.by_class[name] == labels.by_class[name][0]).all()
    return np.flatnonzero(labels.by_class[name][0]).tolist()


def read_classes(folder: Path, **options: Any) -> RasterLabels:
    adapter = MasksAdapter(folder, options)
    adapter.check()
    return labels_of(adapter.read("a", ()))


def test_each_class_may_have_files_of_its_own(folder: Path) -> None:
    options = class_files(folder)
    assert MasksAdapter(folder, options).class_names == ("road", "building")
    labels = read_classes(folder, **options)
    assert columns(labels, "road") == [0, 1, 2, 3]
    assert columns(labels, "building") == [3, 4]
    assert labels.known.all()


def test_a_threshold_beyond_all_values_is_told(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no pixel of uint8 reaches data\.options\.on\. Received 300.*largest.* 255"):
        read_classes(folder, **class_files(folder), on=300)


@pytest.mark.parametrize("level", [128, {"road": 128}])
def test_a_threshold_tells_what_is_on(folder: Path, level: Any) -> None:
    labels = read_classes(folder, **class_files(folder), on=level)
    assert columns(labels, "road") == [0, 1, 3]
    assert columns(labels, "building") == [3, 4]


def test_unknown_ground_has_a_value_or_a_file_of_its_own(folder: Path) -> None:
    options = class_files(folder)
    labels = read_classes(folder, **options, ignore=[127])
    assert np.flatnonzero(~labels.known[0]).tolist() == [2]
    assert columns(labels, "road") == [0, 1, 3]
    unknown = np.zeros((6, 8), np.uint8)
    unknown[:, 6:] = 1
    write_png(folder / "unknown" / "a.png", unknown)
    assert np.flatnonzero(~read_classes(folder, **options, ignored="unknown/*.png").known[0]).tolist() == [6, 7]
    write_png(folder / "masks" / "a.png", np.ones((6, 8), np.uint8))
    one = {"masks": "masks/*.png", **ROAD, "ignored": "unknown/*.png"}
    for path in (folder / "masks").glob("a_*"):
        path.unlink()
    assert np.flatnonzero(~read_classes(folder, **one).known[0]).tolist() == [6, 7]


def test_jpeg_masks_need_a_threshold(folder: Path) -> None:
    road = np.zeros((6, 8), np.uint8)
    road[:, :4] = 255
    write_png(folder / "masks" / "a_road.jpg", road)
    options = {"masks": {"road": "masks/*_road.jpg"}}
    with pytest.raises(DataError, match=r"a_road\.jpg: JPEG blurs masks.*on = 128"):
        read_classes(folder, **options)
    assert columns(read_classes(folder, **options, on=128), "road") == [0, 1, 2, 3]


def test_a_palette_is_on_where_it_is_not_black(folder: Path) -> None:
    codes = np.zeros((1, 6, 8), np.uint8)
    codes[0, :, 5], codes[0, :, 6] = 1, 2
    write_tiff(folder / "masks" / "a_road.tif", codes, photometric="palette")
    with rasterio.open(folder / "masks" / "a_road.tif", "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 255, 255, 255), 2: (0, 0, 90, 255)})
    options = {"masks": {"road": "masks/*_road.tif"}}
    assert columns(read_classes(folder, **options), "road") == [5, 6]
    assert columns(read_classes(folder, **options, on=128), "road") == [5]


def test_a_scene_with_masks_of_some_classes_only_is_refused(folder: Path) -> None:
    options = class_files(folder)
    write_tiff(folder / "images" / "b.tif", np.zeros((4, 6, 8), np.uint16))
    read_classes(folder, **options)
    write_png(folder / "masks" / "b_road.png", np.zeros((6, 8), np.uint8))
    with pytest.raises(DataError, match=r"the scene b has labels, but none of building.*'b_road\.png'"):
        read_classes(folder, **options)


def test_patterns_of_classes_that_match_nothing_are_named(folder: Path) -> None:
    options = class_files(folder)
    with pytest.raises(DataError, match=r"data\.options\.masks\.water: no label raster matches an image"):
        read_classes(folder, masks=options["masks"] | {"water": "masks/*_water.png"})
    with pytest.raises(DataError, match=r"data\.options\.ignored: no label raster matches an image"):
        read_classes(folder, **options, ignored="unknown/*.png")


def test_a_georeferenced_image_knows_the_size_of_its_pixels(folder: Path) -> None:
    assert read(folder).pixel_m == 0.5


def test_a_mask_band_marks_holes(folder: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(folder / "images" / "a.tif", "r+") as file:
        hole = np.ones((6, 8), bool)
        hole[5] = False
        file.write_mask(hole)
    assert np.flatnonzero(~read(folder).groups[0].valid.all(axis=1)).tolist() == [5]
    assert any(path.name == "a.tif.msk" for path in MasksAdapter(folder, ROAD).sources("a", ()))


def test_a_damaged_first_image_does_not_stop_the_others(folder: Path) -> None:
    (folder / "images" / "0.tif").write_bytes((folder / "images" / "a.tif").read_bytes()[:60])
    adapter = MasksAdapter(folder, ROAD | {"background": [0, 2]})
    adapter.check()

    assert [band.name for band in adapter.bands] == ["band1", "band2", "band3", "band4"]
    assert adapter.read("a", ()).groups[0].planes.shape == (4, 6, 8)
    with pytest.raises(DataError, match=r"0\.tif"):
        adapter.read("0", ())
    (folder / "images" / "a.tif").unlink()
    with pytest.raises(DataError, match=r"0\.tif"):
        MasksAdapter(folder, ROAD).bands  # noqa: B018


def test_the_opacity_of_a_colour_mask_is_not_the_class(folder: Path) -> None:
    options = class_files(folder)
    colours = np.zeros((4, 6, 8), np.uint8)
    colours[:3, :, :2], colours[3] = 255, 255
    (folder / "masks" / "a_road.png").unlink()
    write_tiff(folder / "masks" / "a_road.tif", colours, photometric="RGB", alpha="yes")
    options["masks"]["road"] = "masks/*_road.tif"
    assert columns(read_classes(folder, **options), "road") == [0, 1]


def test_no_data_of_a_palette_are_numbers_of_the_palette(folder: Path) -> None:
    codes = np.zeros((1, 6, 8), np.uint8)
    codes[0, 2:4], codes[0, 4:] = 1, 2
    write_tiff(folder / "images" / "p.tif", codes, photometric="palette", nodata=2)
    with rasterio.open(folder / "images" / "p.tif", "r+") as file:
        file.write_colormap(1, {0: (2, 2, 2, 255), 1: (0, 0, 0, 255), 2: (255, 255, 255, 255)})
    (folder / "images" / "a.tif").unlink()
    group = MasksAdapter(folder, {"values": {"road": 1}, "masks": ""}).read("p", ()).groups[0]
    assert group.valid is not None
    assert np.array_equal(group.valid.all(axis=1), codes[0, :, 0] != 2)


def test_where_an_image_is_clear_there_is_no_data(folder: Path) -> None:
    """As drones' mosaics come; the fourth band stays, as it is near infrared in other data sets."""
    planes = np.full((4, 6, 8), 90, np.uint8)
    planes[3] = 255
    planes[:, :, 5:] = 0
    write_tiff(folder / "images" / "a.tif", planes, photometric="RGB", alpha="yes")
    group = MasksAdapter(folder, {"values": {"road": 1}, "masks": ""}).read("a", ()).groups[0]
    assert group.names == ("band1", "band2", "band3", "band4")
    assert group.valid is not None
    assert group.valid.all(axis=0).tolist() == [True] * 5 + [False] * 3
    planes[3] = np.arange(8) * 30
    write_tiff(folder / "images" / "a.tif", planes, photometric="RGB", alpha="yes")
    assert MasksAdapter(folder, {"values": {"road": 1}, "masks": ""}).read("a", ()).groups[0].valid is None


def test_no_data_in_some_bands_only_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    planes = np.ones((4, 6, 8), np.float32)
    planes[1, :, 0] = -9999
    write_tiff(folder / "images" / "a.tif", planes, nodata=-9999)
    read(folder)
    assert "6 pixels have the no-data value -9999 in some bands only, where it counts as data" in caplog.text


@pytest.mark.parametrize("ending", ["pgw", "wld", "png.aux.xml"])
def test_world_files_beside_a_picture_are_among_its_sources(folder: Path, ending: str) -> None:
    write_png(folder / "images" / "b.png", np.ones((6, 8, 3), np.uint8))
    beside = folder / "images" / f"b.{ending}"
    georeference = "<PAMDataset><GeoTransform>5, 1, 0, 9, 0, -1</GeoTransform></PAMDataset>"
    beside.write_text(georeference if ending.endswith("xml") else "1\n0\n0\n-1\n5\n9\n")
    opened = MasksAdapter(folder, {"values": {"road": 1}, "images": "images/*.png", "masks": ""})
    assert beside in opened.sources("b", ())


def test_the_sources_of_a_virtual_raster_are_its_own(folder: Path) -> None:
    write_tiff(folder / "originals" / "b.tif", np.ones((4, 6, 8), np.uint8))
    band = '<SimpleSource><SourceFilename relativeToVRT="1">../originals/b.tif</SourceFilename></SimpleSource>'
    text = f'<VRTDataset rasterXSize="8" rasterYSize="6"><VRTRasterBand dataType="Byte" band="1">{band}</VRTRasterBand>'
    (folder / "images" / "b.vrt").write_text(f"{text}</VRTDataset>")
    opened = MasksAdapter(folder, {"values": {"road": 1}, "images": "images/*.vrt", "masks": ""})
    names = {path.resolve().relative_to(folder.resolve()).as_posix() for path in opened.sources("b", ())}
    assert names == {"images/b.vrt", "originals/b.tif"}


def test_a_link_to_nothing_is_a_scene_that_cannot_be_read(folder: Path) -> None:
    (folder / "images" / "b.tif").symlink_to(folder / "gone.tif")
    opened = MasksAdapter(folder, {"values": {"road": 1}})
    assert opened.scene_ids == ("a", "b")
    with pytest.raises(DataError, match=r"does not exist.*b\.tif"):
        opened.read("b", ())

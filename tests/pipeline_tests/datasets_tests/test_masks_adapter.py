"""The format `masks`: which files there are, what their values mean, and what is refused."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from masked_folder import ROAD, class_files, labels_of, read, read_classes, write_png, write_tiff
from rasterio.transform import Affine

from pipeline.datasets.masks import MasksAdapter
from pipeline.scene import DataError
from search_space.errors import MalformedError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One scene of 4 bands, 6 × 8 px, with three values in its label raster."""
    planes = np.arange(4 * 6 * 8).reshape(4, 6, 8).astype(np.uint16)
    write_tiff(tmp_path / "images" / "a.tif", planes)
    mask = np.zeros((6, 8), np.uint8)
    mask[:2], mask[2:4] = 1, 2
    write_png(tmp_path / "masks" / "a.png", mask)
    return tmp_path


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

"""The format `masks`: label rasters of one class each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from masked_folder import ROAD, class_files, columns, read_classes, write_png, write_tiff

from pipeline.datasets.masks import MasksAdapter
from pipeline.scene import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One scene of 4 bands, 6 × 8 px, with three values in its label raster."""
    planes = np.arange(4 * 6 * 8).reshape(4, 6, 8).astype(np.uint16)
    write_tiff(tmp_path / "images" / "a.tif", planes)
    mask = np.zeros((6, 8), np.uint8)
    mask[:2], mask[2:4] = 1, 2
    write_png(tmp_path / "masks" / "a.png", mask)
    return tmp_path


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


def test_the_opacity_of_a_colour_mask_is_not_the_class(folder: Path) -> None:
    options = class_files(folder)
    colours = np.zeros((4, 6, 8), np.uint8)
    colours[:3, :, :2], colours[3] = 255, 255
    (folder / "masks" / "a_road.png").unlink()
    write_tiff(folder / "masks" / "a_road.tif", colours, photometric="RGB", alpha="yes")
    options["masks"]["road"] = "masks/*_road.tif"
    assert columns(read_classes(folder, **options), "road") == [0, 1]

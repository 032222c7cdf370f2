import resource
import warnings
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from pipeline.imagery.drawing import DrawingError
from pipeline.imagery.raster_rows import RasterError
from pipeline.imagery.rasters import (
    read_masks,
    read_probabilities,
    write_comparison_png,
    write_masks,
    write_overlay_png,
    write_probabilities,
)
from pipeline.scene import Georeference

UTM = Georeference(crs="EPSG:32643", transform=(0.5, 0.0, 400_000.0, 0.0, -0.5, 2_000_000.0))
CLASSES = ("road", "wässer")


def probabilities(height=301, width=277):
    values = np.random.default_rng(0).random((height, width, 2)).astype(np.float32)
    values[0, :2] = [[0.0, 1.0], [1.0, 0.0]]
    values[40:90, 10:30] = np.nan
    return values


@pytest.mark.parametrize("place", [UTM, Georeference(), Georeference(xmax=0.0092, ymin=-0.009)])
def test_probabilities_come_back_within_half_a_step(tmp_path, place):
    values = probabilities()
    write_probabilities(tmp_path / "a" / "p.tif", values, place, CLASSES)
    found = read_probabilities(tmp_path / "a" / "p.tif")
    assert found.classes == CLASSES
    assert found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities, values, atol=0.5 / 254 + 1e-6)
    np.testing.assert_array_equal(found.probabilities[0, :2], [[0.0, 1.0], [1.0, 0.0]])
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["p.tif"]


def test_probabilities_as_halves_come_back_to_eleven_bits(tmp_path):
    values = probabilities()
    write_probabilities(tmp_path / "p.tif", values, UTM, CLASSES, "float16")
    found = read_probabilities(tmp_path / "p.tif")
    assert (found.classes, found.probabilities.dtype) == (CLASSES, np.float32)
    np.testing.assert_array_equal(found.probabilities, values.astype(np.float16).astype(np.float32))
    with rasterio.open(tmp_path / "p.tif") as source:
        assert source.tags(1, ns="IMAGE_STRUCTURE")["NBITS"] == "16"
        assert np.isnan(source.nodata)


@contextmanager
def room_of(num_bytes):
    """Files may grow no larger, as on a disk that is full."""
    least, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))


@pytest.mark.parametrize("missing", [1, 1000, 100_000])
def test_a_disk_that_is_full_leaves_no_part_of_a_map(tmp_path, missing):
    path, values = tmp_path / "p.tif", probabilities()
    write_probabilities(path, values, UTM, CLASSES)
    before = path.read_bytes()

    with room_of(len(before) - missing), pytest.raises(RasterError, match=r"p\.tif cannot be written"):
        write_probabilities(path, values, UTM, CLASSES)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_gis_finds_place_scale_names_and_no_data(tmp_path):
    write_probabilities(tmp_path / "p.tif", probabilities(), UTM, CLASSES)
    with rasterio.open(tmp_path / "p.tif") as source:
        assert source.crs.to_epsg() == 32643
        assert tuple(source.transform)[:6] == UTM.transform
        assert source.descriptions == CLASSES
        assert source.nodata == 255
        assert source.scales == pytest.approx((1 / 254, 1 / 254))
        assert source.profile["tiled"]
        assert source.profile["compress"] == "deflate"


def test_the_dstl_grid_spans_the_image_by_the_competitions_formula(tmp_path):
    write_masks(
        tmp_path / "m.tif",
        np.ones((100, 200, 1), bool),
        np.ones((100, 200), bool),
        Georeference(xmax=0.0092, ymin=-0.009),
        ["a"],
    )
    with rasterio.open(tmp_path / "m.tif") as source:
        x_unit, _, _, _, y_unit, _ = tuple(source.transform)[:6]
    assert x_unit * 200 * 200 / 201 == pytest.approx(0.0092)
    assert y_unit * 100 * 100 / 101 == pytest.approx(-0.009)


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_masks_come_back(tmp_path, dtype):
    masks = (np.random.default_rng(0).random((33, 47, 2)) < 0.4).astype(dtype)
    valid = np.random.default_rng(1).random((33, 47)) < 0.9
    write_masks(tmp_path / "m.tif", masks, valid, Georeference(), CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "m.tif") as source:
            stored = np.moveaxis(source.read(), 0, -1)
            assert source.descriptions == CLASSES
            assert source.nodata == 255
    np.testing.assert_array_equal(stored[valid], masks[valid])
    assert (stored[~valid] == 255).all()
    read, classes = read_masks(tmp_path / "m.tif")
    np.testing.assert_array_equal(read, masks * valid[..., None])
    assert classes == CLASSES


def test_probabilities_are_no_masks(tmp_path):
    write_probabilities(tmp_path / "p.tif", probabilities(), UTM, CLASSES)
    with pytest.raises(RasterError, match="holds no masks"):
        read_masks(tmp_path / "p.tif")


def test_what_is_no_probability_map_is_refused(tmp_path):
    (tmp_path / "text.tif").write_text("no image")
    write_masks(tmp_path / "m.tif", np.ones((9, 9, 1), bool), np.ones((9, 9), bool), UTM, ["a"])
    for name, message in [("text.tif", "cannot be read"), ("none.tif", "cannot be read"), ("m.tif", "no probab")]:
        with pytest.raises(RasterError, match=message) as caught:
            read_probabilities(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_map_with_other_classes_is_refused_and_an_older_file_stays(tmp_path):
    path = tmp_path / "p.tif"
    path.write_bytes(b"older")
    with pytest.raises(RasterError, match=r"\(H, W, 1\)"):
        write_probabilities(path, probabilities(), UTM, ["road"])
    assert path.read_bytes() == b"older"


def test_a_write_that_breaks_off_leaves_nothing(tmp_path):
    place = Georeference(crs="PROJECTION OF MY DREAMS", transform=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    with pytest.raises(RasterError, match="DREAMS"):
        write_masks(tmp_path / "m.tif", np.ones((9, 9, 1), bool), np.ones((9, 9), bool), place, ["a"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(1, 1), (60, 1000), (700, 500), (2100, 300)])
def test_pictures_are_written_at_a_readable_size(tmp_path, shape):
    rgb = np.full((*shape, 3), 90, np.uint8)
    masks = np.zeros((*shape, 2), np.uint8)
    masks[: shape[0] // 2] = 1
    write_overlay_png(tmp_path / "o.png", rgb, masks, CLASSES, "Scene 1")
    write_comparison_png(tmp_path / "c.png", rgb, masks, masks > 0, CLASSES)
    overlay, comparison = (cv2.imread(str(tmp_path / name)) for name in ("o.png", "c.png"))
    assert 400 <= max(overlay.shape) <= 1800
    assert comparison.shape[1] > overlay.shape[1] or max(shape) > 900
    assert sorted(each.name for each in tmp_path.iterdir()) == ["c.png", "o.png"]


def test_masks_of_another_size_are_refused_before_anything_is_written(tmp_path):
    rgb = np.zeros((50, 60, 3), np.uint8)
    right, wrong = np.zeros((50, 60, 2), bool), np.zeros((50, 61, 2), bool)
    with pytest.raises(DrawingError, match=r"\(50, 61, 2\)"):
        write_overlay_png(tmp_path / "o.png", rgb, wrong, CLASSES)
    with pytest.raises(DrawingError, match=r"\(50, 61, 2\)"):
        write_comparison_png(tmp_path / "c.png", rgb, right, wrong, CLASSES)
    assert not list(tmp_path.iterdir())

"""Pictures and GeoTIFFs as scenes: their place, their holes, and the files on which they depend."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from masked_folder import ROAD, read, write_png, write_tiff

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

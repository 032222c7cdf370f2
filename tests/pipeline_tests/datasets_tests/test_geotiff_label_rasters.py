"""The format `geotiff`: labels as rasters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from geo_files import NORTH_UP, UTM, chain, on_map, write_tiff, write_vectors
from labelled_scenes import HOUSE, image, masks, read
from rasterio.transform import Affine
from rasterio.warp import transform as rasterio_transform
from shapely.geometry import box

from pipeline.scene import DataError, RasterLabels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image(tmp_path)
    return tmp_path


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
    write_tiff(folder / "labels" / "a.tif", np.where(codes() == 0, 77, codes()), nodata=77)
    assert masks(read(folder, **RASTER), "building")["known"] == 600 + 250
    assert masks(read(folder, **RASTER, background=[77]), "building")["known"] == 1950


def test_zeros_that_are_declared_to_have_no_data_must_be_explained(folder: Path) -> None:
    """Programs that draw masks often declare what they leave empty so; others mean ground beyond what was labelled."""
    write_tiff(folder / "labels" / "a.tif", codes(), nodata=0)
    with pytest.raises(DataError, match=r"pixels of 0 are declared .*55%.*background = \[0\], or ignore"):
        read(folder, **RASTER)
    assert masks(read(folder, **RASTER, background=[0]), "building")["known"] == 1950
    ignored = {**RASTER, "ignore": [*RASTER["ignore"], 0]}
    assert masks(read(folder, **ignored), "building")["known"] == 600 + 250


def test_not_a_number_may_be_declared_to_have_no_data(folder: Path) -> None:
    numbers = codes().astype(np.float32)
    numbers[:, :10] = np.nan
    write_tiff(folder / "labels" / "a.tif", numbers, nodata=np.nan)
    found = masks(read(folder, **RASTER), "building")
    write_tiff(folder / "labels" / "a.tif", np.where(np.isnan(numbers), -9999, numbers), nodata=-9999)
    assert masks(read(folder, **RASTER), "building") == found


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

"""The format `geotiff`: images of any number of files, bands and grids."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from geo_files import NORTH_UP, UTM, chain, write_tiff, write_vectors
from rasterio.transform import Affine
from rasterio.warp import transform as rasterio_transform
from shapely.geometry import box

from pipeline.datasets.geotiff import GeotiffAdapter
from pipeline.preparation.prepare import prepare
from pipeline.scene import DataError, Scene
from search_space.errors import MalformedError
from search_space.study import DataSettings

LABELS = {"labels": {"building": "labels/*.geojson"}}


def ramp(num_bands: int, height: int = 20, width: int = 30, dtype: str = "uint16") -> np.ndarray[Any, Any]:
    return np.arange(num_bands * height * width).reshape(num_bands, height, width).astype(dtype)


def label(folder: Path, scene_id: str = "a", crs: str = UTM) -> None:
    write_vectors(folder / "labels" / f"{scene_id}.geojson", [box(500_001, 3_999_992, 500_004, 3_999_999)], crs=crs)


def adapter(folder: Path, **options: Any) -> GeotiffAdapter:
    opened = GeotiffAdapter(folder, LABELS | options)
    opened.check()
    return opened


def read(folder: Path, scene_id: str = "a", **options: Any) -> Scene:
    opened = adapter(folder, **options)
    return opened.read(scene_id, [band.name for band in opened.bands])


def test_bands_place_and_size_of_a_pixel(tmp_path: Path) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(4))
    label(tmp_path)
    scene = read(tmp_path, band_names=["red", "green", "blue", "nir"])
    assert scene.groups[0].names == ("red", "green", "blue", "nir")
    assert np.array_equal(scene.groups[0].planes, ramp(4))
    assert (scene.height_px, scene.width_px) == (20, 30)
    assert scene.georeference.transform == tuple(NORTH_UP)[:6]
    assert "UTM zone 33N" in str(scene.georeference.crs)
    assert scene.pixel_m == 0.5
    assert scene.groups[0].placement is None


@pytest.mark.parametrize(("num_bands", "names"), [(1, ("band1",)), (3, ("red", "green", "blue"))])
def test_bands_get_names_where_nobody_gave_any(tmp_path: Path, num_bands: int, names: tuple[str, ...]) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(num_bands))
    label(tmp_path)
    assert tuple(band.name for band in adapter(tmp_path).bands) == names


def test_two_hundred_bands(tmp_path: Path) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(200, dtype="int32"))
    label(tmp_path)
    scene = read(tmp_path)
    assert len(scene.groups[0].names) == len(set(scene.groups[0].names)) == 200
    assert scene.groups[0].planes[199, 3, 4] == 199 * 600 + 3 * 30 + 4


def test_wavelengths_belong_to_bands(tmp_path: Path) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(3))
    label(tmp_path)
    bands = {band.name: band.wavelength_nm for band in adapter(tmp_path, wavelengths_nm={"red": [630, 690]}).bands}
    assert bands == {"red": (630, 690), "green": None, "blue": None}
    with pytest.raises(DataError, match=r"wavelengths_nm.*'rde'.*Did you mean 'red'"):
        adapter(tmp_path, wavelengths_nm={"rde": [630, 690]}).bands  # noqa: B018


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_any_type_of_pixel(tmp_path: Path, dtype: str) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(2, 5, 6, dtype))
    label(tmp_path)
    assert read(tmp_path).groups[0].planes.dtype == dtype


# -- several files ----------------------------------------------------------------------------------------------------


TWO = {"images": {"ms": "images/*_ms.tif", "pan": "images/*_pan.tif"}}


def two_files(folder: Path, pan: Affine, shape: tuple[int, int], **profile: Any) -> None:
    write_tiff(folder / "images" / "a_ms.tif", ramp(4))
    write_tiff(folder / "images" / "a_pan.tif", ramp(1, *shape), transform=pan, **profile)
    label(folder)


def test_files_of_a_scene_become_groups(tmp_path: Path) -> None:
    two_files(tmp_path, chain(NORTH_UP, Affine.scale(0.25)), (80, 120))
    scene = read(tmp_path, **TWO)
    assert [group.name for group in scene.groups] == ["ms", "pan"]
    assert [group.names for group in scene.groups] == [("ms_1", "ms_2", "ms_3", "ms_4"), ("pan",)]
    assert [group.placement for group in scene.groups] == [None, None]
    assert not any(group.may_be_shifted for group in scene.groups)
    assert adapter(tmp_path, **TWO).scene_ids == ("a",)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    two_files(tmp_path, NORTH_UP, (20, 30))
    (tmp_path / "images" / "a_pan.tif").write_text("damaged")
    opened = adapter(tmp_path, **TWO, band_names={"ms": ["r", "g", "b", "n"], "pan": ["pan"]})
    assert [group.name for group in opened.read("a", ["r"]).groups] == ["ms"]
    assert not any("pan" in path.name for path in opened.sources("a", ["r"]))
    assert any("pan" in path.name for path in opened.sources("a", ["pan"]))
    with pytest.raises(DataError, match=r"a_pan\.tif: the picture cannot be read"):
        opened.read("a", ["pan"])


def test_register_marks_the_groups_after_the_first(tmp_path: Path) -> None:
    two_files(tmp_path, NORTH_UP, (20, 30))
    assert [group.may_be_shifted for group in read(tmp_path, **TWO, register=True).groups] == [False, True]


@pytest.mark.parametrize(
    ("grid", "shape"),
    [
        (chain(NORTH_UP, Affine.translation(3.25, -2.5), Affine.scale(0.25)), (100, 90)),
        (chain(NORTH_UP, Affine.translation(12, 4), Affine.rotation(31), Affine.scale(1.5)), (9, 11)),
        (chain(NORTH_UP, Affine.scale(30 / 7, 20 / 5.1)), (5, 7)),
    ],
)
def test_another_grid_is_placed_where_it_lies(tmp_path: Path, grid: Affine, shape: tuple[int, int]) -> None:
    two_files(tmp_path, grid, shape)
    placed = read(tmp_path, **TWO).groups[1].placement
    assert placed is not None
    # By way of the map, and by way of the scene's grid.
    assert tuple(chain(NORTH_UP, Affine(*placed)))[:6] == pytest.approx(tuple(grid)[:6], abs=1e-6)


def test_the_same_ground_from_edge_to_edge_needs_no_placement(tmp_path: Path) -> None:
    """Sizes that do not divide: 20 × 30 pixels and 7 × 11 over the same ground."""
    two_files(tmp_path, chain(NORTH_UP, Affine.scale(30 / 11, 20 / 7)), (7, 11))
    assert read(tmp_path, **TWO).groups[1].placement is None


def test_a_rotated_image_is_placed_by_its_whole_transform(tmp_path: Path) -> None:
    turned = chain(NORTH_UP, Affine.rotation(20))
    write_tiff(tmp_path / "images" / "a.tif", ramp(3), transform=turned)
    label(tmp_path)
    scene = read(tmp_path)
    assert scene.georeference.transform == pytest.approx(tuple(turned)[:6])
    assert scene.pixel_m == pytest.approx(0.5)


def test_another_crs_is_warped_to_the_first_files(tmp_path: Path) -> None:
    """A pattern that is a function of longitude and latitude must be found at the same longitude and latitude."""
    fine = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 5_000_000.0)
    write_tiff(tmp_path / "images" / "a_ms.tif", ramp(4, 200, 200), transform=fine)
    [west], [north] = rasterio_transform(UTM, "EPSG:4326", [499_980.0], [5_000_020.0])
    step = 2e-5
    rows, columns = np.mgrid[:150, :180]
    longitude, latitude = west + (columns + 0.5) * step, north - (rows + 0.5) * step
    pattern = (1000 * (np.sin((longitude - west) * 3000) + np.cos((north - latitude) * 2000))).astype(np.float32)
    write_tiff(
        tmp_path / "images" / "a_pan.tif",
        pattern[np.newaxis],
        crs="EPSG:4326",
        transform=Affine(step, 0.0, west, 0.0, -step, north),
    )
    write_vectors(tmp_path / "labels" / "a.geojson", [box(500_010, 4_999_900, 500_050, 4_999_990)])
    group = read(tmp_path, **TWO).groups[1]
    assert group.valid is not None
    a, b, c, d, e, f = group.placement
    assert (b, d) == pytest.approx((0.0, 0.0), abs=1e-9)
    # Twice its own resolution, 1.6 × 2.2 m of ground per pixel: what is interpolated again loses little.
    assert (a, e) == pytest.approx((1.575 / 2, 2.223 / 2), rel=0.02)
    rows, columns = np.nonzero(group.valid)
    x, y = a * (columns + 0.5) + c + 500_000.0, 5_000_000.0 - (e * (rows + 0.5) + f)
    longitude, latitude = rasterio_transform(UTM, "EPSG:4326", x.tolist(), y.tolist())
    expected = 1000 * (np.sin((np.array(longitude) - west) * 3000) + np.cos((north - np.array(latitude)) * 2000))
    error = np.abs(group.planes[0][group.valid] - expected)
    assert np.median(error) < 3.0
    # Half a pixel of displacement would be 30 of 1000.
    assert np.abs(np.mean(group.planes[0][group.valid] - expected)) < 1.0
    assert group.valid.sum() > 0.8 * 150 * 180 * 0.8


def test_holes_stay_holes_in_another_crs(tmp_path: Path) -> None:
    write_tiff(tmp_path / "images" / "a_ms.tif", ramp(4, 40, 60))
    [west], [north] = rasterio_transform(UTM, "EPSG:4326", [500_000.0], [4_000_000.0])
    planes = np.full((1, 30, 40), 50, np.uint8)
    planes[:, 8:20, 10:25] = 0
    place = Affine(6e-6, 0.0, west, 0.0, -5e-6, north)
    write_tiff(tmp_path / "images" / "a_pan.tif", planes, crs="EPSG:4326", transform=place, nodata=0)
    label(tmp_path)
    group = read(tmp_path, **TWO).groups[1]
    assert np.unique(group.planes[0][group.valid]).tolist() == [50.0]
    lost = 1 - group.valid.mean()
    assert 12 * 15 / (30 * 40) < lost < 0.35


def test_a_file_elsewhere_on_earth_is_refused(tmp_path: Path) -> None:
    two_files(tmp_path, chain(NORTH_UP, Affine.translation(500, 0)), (20, 30))
    with pytest.raises(DataError, match=r"a_pan\.tif: the image lies elsewhere.*pixels 500 to 530 across"):
        read(tmp_path, **TWO)


def test_a_missing_file_of_a_scene_is_named(tmp_path: Path) -> None:
    two_files(tmp_path, NORTH_UP, (20, 30))
    write_tiff(tmp_path / "images" / "b_ms.tif", ramp(4))
    opened = adapter(tmp_path, **TWO)
    assert opened.read("b", ["ms_1"]).labels is None
    with pytest.raises(DataError, match=r"images\.pan: the scene b has no such image.*leave its bands out"):
        opened.read("b", ["pan"])


def test_two_files_without_any_place_show_the_same_ground(tmp_path: Path) -> None:
    for name, bands, shape in (("a_ms", 4, (20, 30)), ("a_pan", 1, (80, 120))):
        write_tiff(tmp_path / "images" / f"{name}.tif", ramp(bands, *shape), crs=None, transform=None)
    write_tiff(tmp_path / "labels" / "a.tif", np.ones((1, 20, 30), np.uint8), crs=None, transform=None)
    raster = {"labels": "labels/*.tif", "values": {"building": 1}}
    scene = read(tmp_path, **TWO, **raster)
    assert [group.placement for group in scene.groups] == [None, None]
    assert scene.pixel_m is None
    write_tiff(tmp_path / "images" / "a_pan.tif", ramp(1, 80, 120))
    with pytest.raises(DataError, match=r"a_ms\.tif: the image has no place on a map, but .*a_pan\.tif .* has one"):
        read(tmp_path, **TWO, **raster)


# -- size of a pixel --------------------------------------------------------------------------------------------------


def test_metres_of_a_geographic_pixel_shrink_with_the_latitude(tmp_path: Path) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(3), crs="EPSG:4326", transform=Affine(1e-5, 0, 10, 0, -1e-5, 60))
    write_vectors(tmp_path / "labels" / "a.geojson", [box(10, 59.9999, 10.0001, 60)], crs="EPSG:4326")
    # On the sphere 1e-5 degrees of latitude are 1.11 m, and of longitude half as much at 60 degrees.
    assert read(tmp_path).pixel_m == pytest.approx(1.11 * math.sqrt(0.5), rel=0.005)


def test_mercators_metre_is_not_taken_by_its_word(tmp_path: Path) -> None:
    place = Affine(1.0, 0, 1_113_194.9, 0, -1.0, 8_399_737.9)
    write_tiff(tmp_path / "images" / "a.tif", ramp(3), crs="EPSG:3857", transform=place)
    write_vectors(tmp_path / "labels" / "a.geojson", [box(1_113_196, 8_399_730, 1_113_200, 8_399_736)], crs="EPSG:3857")
    assert read(tmp_path).pixel_m == pytest.approx(0.5, rel=0.005)


def test_feet_are_turned_into_metres(tmp_path: Path) -> None:
    place = Affine(1.0, 0, 983_000.0, 0, -1.0, 200_000.0)
    write_tiff(tmp_path / "images" / "a.tif", ramp(3), crs="EPSG:2263", transform=place)
    write_vectors(tmp_path / "labels" / "a.geojson", [box(983_001, 199_990, 983_010, 199_999)], crs="EPSG:2263")
    assert read(tmp_path).pixel_m == pytest.approx(0.3048, rel=1e-4)


# -- no-data ----------------------------------------------------------------------------------------------------------


def test_no_data_by_tag_by_option_and_by_mask_band(tmp_path: Path) -> None:
    planes = np.full((3, 20, 30), 5, np.int16)
    planes[:, 0] = -9
    planes[0, 1] = -9
    label(tmp_path)
    write_tiff(tmp_path / "images" / "a.tif", planes, nodata=-9)
    assert np.flatnonzero(~read(tmp_path).groups[0].valid.all(axis=1)).tolist() == [0]
    write_tiff(tmp_path / "images" / "a.tif", planes)
    assert read(tmp_path).groups[0].valid is None
    assert np.flatnonzero(~read(tmp_path, nodata=-9).groups[0].valid.all(axis=1)).tolist() == [0]
    mask = np.ones((20, 30), bool)
    mask[7:9] = False
    write_tiff(tmp_path / "images" / "a.tif", planes, mask=mask)
    assert np.flatnonzero(~read(tmp_path).groups[0].valid.all(axis=1)).tolist() == [7, 8]
    assert np.flatnonzero(~read(tmp_path, nodata=-9).groups[0].valid.all(axis=1)).tolist() == [0, 7, 8]


def test_each_group_may_have_its_own_no_data(tmp_path: Path) -> None:
    two_files(tmp_path, NORTH_UP, (20, 30))
    scene = read(tmp_path, **TWO, nodata={"pan": 7})
    assert scene.groups[0].valid is None
    assert np.argwhere(~scene.groups[1].valid).tolist() == [[0, 7]]


def test_not_a_number_is_no_data_where_file_or_study_say_so(tmp_path: Path) -> None:
    planes = np.ones((3, 20, 30), np.float32)
    planes[1, 2, 3] = np.nan
    label(tmp_path)
    write_tiff(tmp_path / "images" / "a.tif", planes, nodata=np.nan)
    assert np.argwhere(~read(tmp_path).groups[0].valid).tolist() == [[2, 3]]
    write_tiff(tmp_path / "images" / "a.tif", planes)
    assert np.argwhere(~read(tmp_path, nodata="nan").groups[0].valid).tolist() == [[2, 3]]
    with pytest.raises(DataError, match=r"a\.tif.*1 not-a-number, infinite or larger pixels in band green.*`nodata`"):
        read(tmp_path)


def test_huge_values_are_refused(tmp_path: Path) -> None:
    planes = np.ones((1, 20, 30))
    planes[0, 2, 3] = 1e300
    write_tiff(tmp_path / "images" / "a.tif", planes)
    label(tmp_path)
    with pytest.raises(DataError, match=r"a\.tif: pixels must be numbers up to 1e\+18.*band1"):
        read(tmp_path)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_unequal_numbers_of_bands_are_told_by_file(tmp_path: Path) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(4))
    write_tiff(tmp_path / "images" / "b.tif", ramp(3))
    label(tmp_path)
    opened = adapter(tmp_path)
    assert len(opened.read("a", []).groups[0].planes) == 4
    with pytest.raises(DataError, match=r"b\.tif: the image must have 4 bands \(band1, band2.*Received 3"):
        opened.read("b", [])


def test_a_missing_crs_may_be_stated(tmp_path: Path) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(3), crs=None)
    label(tmp_path)
    with pytest.raises(DataError, match=r"have a CRS, but their image has none.*data\.options\.crs = \"EPSG:32633\""):
        read(tmp_path)
    scene = read(tmp_path, crs=UTM)
    assert scene.pixel_m == 0.5
    assert len(scene.labels.by_class["building"]) == 1
    with pytest.raises(MalformedError, match=r"'crs' must be a coordinate reference system.*'EPSG:nonsense'"):
        read(tmp_path, crs="EPSG:nonsense")


def test_of_two_files_both_must_have_a_crs(tmp_path: Path) -> None:
    two_files(tmp_path, NORTH_UP, (20, 30), crs=None)
    with pytest.raises(DataError, match=r"a_pan\.tif: .* must both say in which CRS.*'this': None"):
        read(tmp_path, **TWO)
    assert read(tmp_path, **TWO, crs=UTM).groups[1].placement is None


def test_an_image_without_a_place_cannot_take_vectors(tmp_path: Path) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(3), crs=None, transform=None)
    label(tmp_path)
    with pytest.raises(DataError, match=r"a\.geojson: labels cannot be laid over .*a\.tif, which has no place"):
        read(tmp_path)


def test_a_flat_transform_is_refused(tmp_path: Path) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(3), transform=Affine(1.0, 1.0, 5e5, 1.0, 1.0, 4e6))
    label(tmp_path)
    with pytest.raises(DataError, match="must span two directions"):
        read(tmp_path)


def test_a_truncated_image_is_one_line(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "images" / "a.tif", ramp(3, 200, 200))
    label(tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"a\.tif: the picture cannot be read") as caught:
        adapter(tmp_path).read("a", [])
    assert "\n" not in str(caught.value)


def test_no_image_at_all(tmp_path: Path) -> None:
    label(tmp_path)
    with pytest.raises(DataError, match=r"data\.options\.images: no image matches.*images/\*\.tif"):
        adapter(tmp_path)


def test_bands_of_two_groups_need_different_names(tmp_path: Path) -> None:
    two_files(tmp_path, NORTH_UP, (20, 30))
    with pytest.raises(MalformedError, match="names 'r' twice"):
        adapter(tmp_path, **TWO, band_names={"ms": ["r", "g", "b", "n"], "pan": ["r"]})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"images": {}}, "names no group"),
        (TWO | {"band_names": ["r", "g"]}, "must be a table"),
        (TWO | {"band_names": {"swir": ["r"]}}, "names 'swir', which is no group"),
        (TWO | {"nodata": {"swir": 0}}, "names 'swir', which is no group"),
        ({"band_names": ["r", "r"]}, "'band_names': 'r' is named twice"),
        ({"imags": "x"}, "Did you mean 'images'"),
        ({"register": "yes"}, "'register' must be true or false"),
    ],
)
def test_options_that_make_no_sense_are_malformed(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(MalformedError, match=told):
        GeotiffAdapter(tmp_path, LABELS | options)


# -- one image by itself ----------------------------------------------------------------------------------------------


def test_an_image_from_elsewhere_needs_nothing_of_the_data_set(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "new" / "bay.tif", ramp(3))
    alone = GeotiffAdapter(tmp_path / "gone", LABELS).of_image(path)
    assert alone.scene_ids == ("bay",)
    scene = alone.read("bay", [band.name for band in alone.bands])
    assert (scene.id, scene.labels, scene.groups[0].names) == ("bay", None, ("red", "green", "blue"))
    assert alone.sources("bay", []) == (path,)


def test_the_other_files_of_an_image_lie_beside_it(tmp_path: Path) -> None:
    two_files(tmp_path / "new", NORTH_UP, (20, 30))
    image = tmp_path / "new" / "images" / "a_ms.tif"
    alone = GeotiffAdapter(tmp_path / "gone", LABELS | TWO).of_image(image)
    assert alone.scene_ids == ("a_ms",)
    assert [group.name for group in alone.read("a_ms", ["ms_1", "pan"]).groups] == ["ms", "pan"]


def test_one_file_serves_where_it_holds_all_bands_that_are_needed(tmp_path: Path) -> None:
    names = {"band_names": {"ms": ["r", "g", "b", "n"], "pan": ["pan"]}}
    path = write_tiff(tmp_path / "anything.tif", ramp(4))
    alone = GeotiffAdapter(tmp_path / "gone", LABELS | TWO | names).of_image(path)
    assert alone.read("anything", ["r", "n"]).groups[0].names == ("r", "g", "b", "n")
    with pytest.raises(DataError, match=r"one file does not hold all bands.*not named like 'images/\*_ms\.tif'"):
        alone.read("anything", ["r", "pan"])
    path = write_tiff(tmp_path / "new" / "images" / "b_ms.tif", ramp(4))
    alone = GeotiffAdapter(tmp_path / "gone", LABELS | TWO | names).of_image(path)
    with pytest.raises(DataError, match=r"that of pan is missing.*new/images/b_pan\.tif'\. Put it there"):
        alone.read("b_ms", ["r", "pan"])


def test_files_beside_an_image_change_its_sources(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "images" / "a.tif", ramp(3))
    label(tmp_path)
    before = adapter(tmp_path).sources("a", [])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(np.ones((20, 30), bool))
    assert {each.name for each in set(adapter(tmp_path).sources("a", [])) - set(before)} == {"a.tif.msk"}


def test_a_crs_that_puts_the_image_beyond_a_pole_is_told(tmp_path: Path) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(3), crs=None)
    label(tmp_path)
    with pytest.raises(DataError, match=r"does not belong to its transform.*EPSG:4326.*data.options.crs"):
        read(tmp_path, crs="EPSG:4326", labels_crs=UTM)


@pytest.mark.parametrize("jobs", [1, 2, None])
def test_a_scene_that_lacks_one_of_its_files_does_not_stop_the_others(tmp_path: Path, jobs: int | None) -> None:
    for name in "ab":
        write_tiff(tmp_path / "images" / f"{name}_ms.tif", ramp(3))
        label(tmp_path, name)
    write_tiff(tmp_path / "images" / "a_pan.tif", ramp(1))
    options = LABELS | {"images": {"ms": "images/*_ms.tif", "pan": "images/*_pan.tif"}}
    settings = DataSettings(
        format="geotiff",
        folder=str(tmp_path),
        prepared=str(tmp_path / "prepared"),
        classes=("building",),
        options=options,
    )
    with pytest.raises(DataError, match="1 of 2 scenes could not be prepared: b"):
        prepare(settings, jobs=jobs)
    assert (tmp_path / "prepared" / "a" / "scene.json").is_file()


@pytest.mark.parametrize("span", [[0.63, 0.69], [690, 630], [-5, 3], [630, 630]])
def test_wavelengths_that_are_no_nanometres_are_refused(tmp_path: Path, span: list[float]) -> None:
    write_tiff(tmp_path / "images" / "a.tif", ramp(3))
    label(tmp_path)
    with pytest.raises(MalformedError, match=r"wavelengths_nm.*red.*in nanometres, 100 to 100000: not "):
        adapter(tmp_path, wavelengths_nm={"red": span})

"""Inputs as they come in practice: each gets its line or is taken as it is, and the other scenes go on."""

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import tifffile
from numpy.typing import NDArray

from pipeline.preparation.prepare import Progress, prepare
from pipeline.preparation.prepared import PreparedDataset
from pipeline.scene import DataError
from search_space.study import DataSettings

SIZE = (24, 32)


def write_tiff(path: Path, planes: NDArray[Any], **profile: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = planes.shape
    shape = {"count": count, "height": height, "width": width, "dtype": planes.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as target:
        target.write(planes)


def write_scene(folder: Path, name: str, planes: NDArray[Any], *, label: bool = True, **profile: Any) -> None:
    profile = {"crs": "EPSG:32643", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 2e6)} | profile
    write_tiff(folder / "images" / f"{name}.tif", planes, **profile)
    if label:
        mask = np.zeros(planes.shape[1:], np.uint8)
        mask[: max(1, len(mask) // 3)] = 1
        (folder / "masks").mkdir(exist_ok=True)
        assert cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)


def image(bands: int = 3, size: tuple[int, int] = SIZE, dtype: Any = np.uint16, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(1, 200, (bands, *size)).astype(dtype)


@pytest.fixture
def data(tmp_path: Path) -> DataSettings:
    """Two good scenes of three bands."""
    for seed, name in enumerate("az"):
        write_scene(tmp_path / "raw", name, image(seed=seed))
    return DataSettings(
        format="masks",
        folder=str(tmp_path / "raw"),
        prepared=str(tmp_path / "prepared"),
        classes=("road",),
        options={"values": {"road": 1}, "images": "images/*", "masks": "masks/*"},
    )


def run(data: DataSettings, **changes: Any) -> PreparedDataset:
    return prepare(data.model_copy(update=changes))


def failure(data: DataSettings, caplog: pytest.LogCaptureFixture, name: str = "b") -> str:
    """What is told of the only scene that fails while both good ones are prepared."""
    told: list[Progress] = []
    with pytest.raises(DataError, match=f"1 of {len(list(Path(data.folder).glob('images/*')))} scenes .*: {name}\\."):
        prepare(data, told.append)
    assert {progress.scene_id: progress.state for progress in told if progress.scene_id in "az"} == {
        "a": "prepared",
        "z": "prepared",
    }
    lines = [
        record.getMessage() for record in caplog.records if record.levelname == "ERROR" and "pipeline" in record.name
    ]
    assert len(lines) == 1
    assert "\n" not in lines[0]
    (reason,) = [progress.reason for progress in told if progress.state == "failed"]
    assert lines == [f"{name}: {reason}"]
    return reason


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("compress", ["none", "deflate", "lzw"])
def test_a_truncated_tiff(data: DataSettings, caplog: pytest.LogCaptureFixture, share: float, compress: str) -> None:
    path = Path(data.folder) / "images" / "b.tif"
    write_scene(Path(data.folder), "b", image(size=(300, 300)), compress=compress)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "b.tif: the picture cannot be read" in failure(data, caplog)


def test_a_truncated_tiff_of_dstl(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_dstl(tmp_path / "raw", {"6010_0_0": {}, "6020_0_0": {}})
    path = tmp_path / "raw" / "sixteen_band" / "6010_0_0_M.tif"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="1 of 2 scenes could not be prepared: 6010_0_0"):
        prepare(dstl(tmp_path))
    assert "6010_0_0_M.tif: the TIFF file cannot be read" in caplog.text
    assert (tmp_path / "prepared" / "6020_0_0" / "cube.npy").is_file()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_float_tiff_with_numbers_that_are_none(
    data: DataSettings, caplog: pytest.LogCaptureFixture, bad: float
) -> None:
    planes = image(dtype=np.float32)
    planes[1, 5, 6:9] = bad
    write_scene(Path(data.folder), "b", planes)
    reason = failure(data, caplog)
    assert "b.tif: pixels must be numbers up to 1e+18" in reason
    assert "3 not-a-number, infinite or larger pixels in band green" in reason


def test_not_a_number_as_no_data_is_a_hole(data: DataSettings) -> None:
    planes = image(dtype=np.float32)
    planes[1, 5, 6:9] = np.nan
    write_scene(Path(data.folder), "b", planes)
    scene = run(data, options=data.options | {"nodata": "nan"}).scene("b")
    assert np.flatnonzero(~scene.valid.ravel()).tolist() == [5 * SIZE[1] + column for column in (6, 7, 8)]
    assert np.isnan(scene.cube[~scene.valid]).all()
    assert np.isfinite(scene.cube[scene.valid]).all()
    assert all(np.isfinite([band.minimum, band.p98, band.mean, band.std]).all() for band in scene.record.bands)


@pytest.mark.parametrize("bands", [1, 2, 200])
def test_any_number_of_bands(data: DataSettings, bands: int) -> None:
    for seed, name in enumerate("az"):
        write_scene(Path(data.folder), name, image(bands, seed=seed))
    dataset = run(data)
    assert dataset.bands == tuple(f"band{number + 1}" for number in range(bands))
    assert np.array_equal(np.moveaxis(dataset.scene("z").cube, -1, 0), image(bands, seed=1))


def test_a_strip_of_twenty_thousand_pixels(data: DataSettings) -> None:
    strip = image(3, (5, 20_000), np.uint8)
    write_scene(Path(data.folder), "b", strip)
    scene = run(data).scene("b")
    assert np.array_equal(np.moveaxis(scene.cube, -1, 0), strip)
    assert cv2.imread(str(scene.quicklook)) is not None
    coarse = run(data, grid=25.0).scene("b")
    assert coarse.shape_px == (2, 8000)
    np.testing.assert_allclose(coarse.cube.mean(axis=(0, 1)), strip.mean(axis=(1, 2)), rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 3), (3, 1), (1, 1), (2, 2), (3, 3)])
def test_an_image_of_three_pixels(data: DataSettings, size: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    write_scene(Path(data.folder), "b", image(size=size))
    for grid in ("native", 4.0):
        scene = run(data, grid=grid).scene("b")
        assert scene.valid.all()
        assert cv2.imread(str(scene.quicklook)) is not None
    with pytest.raises(DataError, match="scenes could not be prepared"):
        run(data, grid=400.0)
    assert "one pixel would hold all of" in caplog.text


def test_without_a_crs_metres_cannot_be_had_and_all_else_can(
    data: DataSettings, caplog: pytest.LogCaptureFixture
) -> None:
    write_scene(Path(data.folder), "b", image(), crs=None)
    assert run(data).scene("b").record.class_areas_m2 == {}
    assert run(data).scene("a").record.class_areas_m2["road"] == pytest.approx(8 * 32 * 100, rel=0.01)
    reason = failure(data.model_copy(update={"grid": 20.0}), caplog)
    assert "data.grid in metres needs the size of a pixel on the ground" in reason
    assert "b.tif" in reason


def test_a_label_of_another_size(data: DataSettings, caplog: pytest.LogCaptureFixture) -> None:
    write_scene(Path(data.folder), "b", image(size=(10, 10)))
    assert cv2.imwrite(str(Path(data.folder) / "masks" / "b.png"), np.zeros((10, 11), np.uint8))
    assert "the label raster must be as large as its image" in failure(data, caplog)


def test_another_number_of_bands(data: DataSettings, caplog: pytest.LogCaptureFixture) -> None:
    write_scene(Path(data.folder), "b", image(4))
    assert "the image must have 3 bands" in failure(data, caplog)


def test_scenes_without_labels_and_labels_without_scenes(data: DataSettings, caplog: pytest.LogCaptureFixture) -> None:
    write_scene(Path(data.folder), "b", image(), label=False)
    assert cv2.imwrite(str(Path(data.folder) / "masks" / "lost.png"), np.zeros(SIZE, np.uint8))
    dataset = run(data)
    assert dataset.scene_ids == ("a", "b", "z")
    assert not dataset.scene("b").known.any()
    assert "Labels of 1 scenes have no image: lost" in caplog.text


def write_planes(path: Path, planes: NDArray[np.uint16]) -> None:
    layout = {"planarconfig": "separate"} if planes.ndim == 3 else {}
    tifffile.imwrite(path, planes, photometric="minisblack", **layout)


def write_dstl(folder: Path, scenes: dict[str, dict[int, str]], size: tuple[int, int] = (100, 120)) -> None:
    """Scenes in the DSTL format; polygons by class in grid units of which a pixel has about 1e-4."""
    rng = np.random.default_rng(0)
    (folder / "three_band").mkdir(parents=True)
    (folder / "sixteen_band").mkdir()
    rows = [["ImageId", "ClassType", "MultipolygonWKT"]]
    for name, wkt in scenes.items():
        for part, bands, factor in (("P", 1, 1), ("M", 8, 4), ("A", 8, 25)):
            shape = (bands, -(-size[0] // factor), size[1] // factor)
            write_planes(
                folder / "sixteen_band" / f"{name}_{part}.tif", rng.integers(1, 999, shape, np.uint16).squeeze()
            )
        write_planes(folder / "three_band" / f"{name}.tif", rng.integers(1, 999, (3, *size), np.uint16))
        rows += [[name, str(number), wkt.get(number, "MULTIPOLYGON EMPTY")] for number in range(1, 11)]
    with (folder / "train_wkt_v4.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with (folder / "grid_sizes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["", "Xmax", "Ymin"], *([name, 0.012, -0.01] for name in scenes)])


def dstl(tmp_path: Path, **changes: Any) -> DataSettings:
    known = {"folder": str(tmp_path / "raw"), "prepared": str(tmp_path / "prepared"), "classes": ("buildings", "road")}
    return DataSettings(format="dstl", **(known | changes))


@pytest.mark.parametrize("grid", ["native", "m"])
def test_labels_outside_of_the_image_and_polygons_that_cross_themselves(tmp_path: Path, grid: str) -> None:
    outside = "MULTIPOLYGON (((0.02 -0.02, 0.03 -0.02, 0.03 -0.03, 0.02 -0.02)))"
    bow = "MULTIPOLYGON (((0 0, 0.006 -0.004, 0.006 0, 0 -0.004, 0 0)))"
    write_dstl(tmp_path / "raw", {"6010_0_0": {1: outside, 3: bow}, "6020_0_0": {}})
    scene = prepare(dstl(tmp_path, grid=grid)).scene("6010_0_0")
    areas = scene.record.class_areas_px
    assert areas["buildings"] == 0
    # Both lobes of the bow: half of 6 by 4 thousandths of a grid of 12 by 10.
    assert areas["road"] / scene.known.size == pytest.approx(0.5 * 24 / 120, rel=0.1)
    assert scene.record.class_areas_m2["road"] == pytest.approx(0.5 * 24 / 120 * 12_000 * 0.31**2, rel=0.1)


def test_bands_of_unequal_and_odd_sizes_cover_the_same_ground(tmp_path: Path) -> None:
    write_dstl(tmp_path / "raw", {"6010_0_0": {}}, size=(103, 121))
    dataset = prepare(dstl(tmp_path))
    record = dataset.scene("6010_0_0").record
    assert [(group.name, group.height_px, group.width_px) for group in record.groups] == [
        ("rgb", 103, 121),
        ("pan", 103, 121),
        ("m", 26, 30),
        ("a", 5, 4),
    ]
    assert dataset.scene("6010_0_0").cube.shape == (103, 121, 20)
    assert dataset.scene("6010_0_0").valid.all()
    assert [group.dtype for group in record.groups] == ["uint16"] * 4


def test_labels_of_a_scene_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_dstl(tmp_path / "raw", {"6010_0_0": {}, "6020_0_0": {}})
    (tmp_path / "raw" / "three_band" / "6020_0_0.tif").unlink()
    assert prepare(dstl(tmp_path)).scene_ids == ("6010_0_0",)
    assert "labels 1 scenes that have no image: 6020_0_0" in caplog.text

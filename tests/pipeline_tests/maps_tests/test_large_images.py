"""Images that are never in memory as a whole: the same pixels and maps as of those that are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from geo_files import write_tiff
from numpy.typing import NDArray

from pipeline.datasets import file_rows, raster
from pipeline.maps import scene_maps
from pipeline.maps.map_writing import write_map
from pipeline.maps.scene_maps import ImageScene, open_image
from pipeline.models.model_set import LoadedModelSet
from pipeline.preparation.normalisation import Normalisation
from pipeline.scene import DataError
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.prediction import PredictionSettings
from search_space.records import ClassMap, ModelMember, ModelSet
from search_space.study import DataSettings
from search_space.training_plan import Scaling, TrainingPlan

TWO = {
    "images": {"ms": "*_ms.tif", "pan": "*_pan.tif"},
    "labels": {"x": "labels/*.geojson"},
    "band_names": {"ms": ["green", "nir"], "pan": ["pan"]},
}


@pytest.fixture
def by_rows(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Takes every image for a large one; tells which rows of files are read."""
    monkeypatch.setattr(raster, "MOST_BYTES", 0)
    monkeypatch.setattr(scene_maps, "MOST_VALUES", 0)
    reads: list[tuple[int, int]] = []
    read = file_rows.FileRows._read

    def told(self: file_rows.FileRows, first: int, stop: int) -> Any:
        reads.append((first, stop))
        return read(self, first, stop)

    monkeypatch.setattr(file_rows.FileRows, "_read", told)
    return reads


def opened(path: Path, form: str, grid: str | float = "native", **options: Any) -> ImageScene:
    indices = ("ndwi",) if form == "geotiff" else ()
    settings = DataSettings(
        format=form, folder="gone", prepared="gone", classes=("x",), grid=grid, indices=indices, options=options
    )
    return open_image(path, settings)


def make(folder: Path, kind: str) -> tuple[Path, str, dict[str, Any]]:
    """An image, the format that reads it, and its options."""
    rng = np.random.default_rng(0)
    planes = rng.integers(1, 2000, (3, 300, 41)).astype(np.uint16)
    path = folder / "a.tif"
    if kind == "several files":
        write_tiff(folder / "a_pan.tif", planes[:1] + 9)
        return write_tiff(folder / "a_ms.tif", planes[:2]), "geotiff", TWO
    if kind == "no-data value":
        planes[:, 100:150, 10:20] = 7
        return write_tiff(path, planes), "masks", {"nodata": 7}
    if kind == "not-a-number":
        values = planes.astype(np.float32)
        values[1, 50:60] = np.nan
        return write_tiff(path, values), "masks", {"nodata": "nan"}
    if kind == "alpha":
        alpha = np.where(rng.random((1, 300, 41)) > 0.2, 255, 0)
        write_tiff(path, np.concatenate([planes % 255, alpha]).astype(np.uint8))
        with rasterio.open(path, "r+") as target:
            target.colorinterp = [*target.colorinterp[:-1], rasterio.enums.ColorInterp.alpha]
        return path, "masks", {}
    if kind == "mask":
        return write_tiff(path, planes, mask=rng.random((300, 41)) > 0.2), "masks", {}
    return write_tiff(path, planes), "masks", {}


KINDS = ("plain", "several files", "no-data value", "not-a-number", "alpha", "mask")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", ["native", "coarse"])
def test_rows_of_a_large_image_are_those_of_the_whole(
    kind: str, grid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, form, options = make(tmp_path, kind)
    options = {"values": {"x": 1}, **options} if form == "masks" else options
    native = opened(path, form, **options)
    assert native.georeference.transform is not None
    wanted: str | float = "native" if grid == "native" else 2.5 * abs(native.georeference.transform[0])
    whole = opened(path, form, wanted, **options)
    monkeypatch.setattr(raster, "MOST_BYTES", 0)
    monkeypatch.setattr(scene_maps, "MOST_VALUES", 0)
    large = opened(path, form, wanted, **options)

    assert (large.id, large.source, large.bands) == (whole.id, whole.source, whole.bands)
    assert large.georeference == whole.georeference
    assert not isinstance(large.cube, np.ndarray)
    assert large.cube.shape == whole.cube.shape
    assert kind in ("plain", "several files") or not whole.valid.all()
    for rows in (slice(0, 17), slice(90, 119), slice(100, None), slice(None)):
        np.testing.assert_array_equal(large.cube[rows], whole.cube[rows])
        np.testing.assert_array_equal(large.valid[rows], whole.valid[rows])
    scaling = Scaling(kind="percentile", scope="scene")
    one, other = (Normalisation(scaling).for_scene(each) for each in (large, whole))
    np.testing.assert_array_equal(one.low, other.low)


def brightness(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    return 1.0 / (1.0 + np.exp(-tiles[..., :1] - tiles[..., 1:2].mean(axis=(1, 2), keepdims=True)))


def models(bands: tuple[str, ...]) -> LoadedModelSet:
    plan = TrainingPlan(patch_px=16, scaling=Scaling(kind="standard", scope="scene"))
    candidate = Candidate(architecture=Architecture(depth=1), plan=plan)
    description = ModelSet(
        study="s",
        data_fingerprint="f",
        classes=("road",),
        bands=bands,
        members=(ModelMember(class_name="road", file="m.keras", candidate=candidate, threshold=0.5),),
        maps=(ClassMap(class_name="road", threshold=0.5),),
    )
    return LoadedModelSet(description, lambda _: brightness)


def test_a_large_image_is_mapped_as_any_other_a_few_rows_at_a_time(
    tmp_path: Path, by_rows: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, form, options = make(tmp_path, "no-data value")
    settings = PredictionSettings(tile_px=16, symmetries="flips", batch_size=4)
    large = opened(path, form, values={"x": 1}, **options)
    written = write_map(models(large.bands), large, settings, tmp_path / "large").folder
    assert by_rows
    assert max(stop - first for first, stop in by_rows) <= 256
    monkeypatch.undo()
    by_rows.clear()
    whole = opened(path, form, values={"x": 1}, **options)
    expected = write_map(models(whole.bands), whole, settings, tmp_path / "whole").folder
    assert not by_rows
    for name in ("probabilities.tif", "masks.tif", "polygons.geojson", "overlay.png"):
        assert (written / name).read_bytes() == (expected / name).read_bytes(), name


def test_what_is_no_measurement_is_told_where_it_is_read(tmp_path: Path, by_rows: list[tuple[int, int]]) -> None:
    values = np.ones((3, 300, 41), np.float32)
    values[1, 250, 3] = np.inf
    scene = opened(write_tiff(tmp_path / "a.tif", values), "masks", values={"x": 1})
    assert np.isfinite(scene.cube[0:200]).all()
    with pytest.raises(DataError, match=r"a\.tif: pixels must be numbers up to 1e\+18.*1 not-a-number"):
        scene.cube[200:280]
    assert by_rows


def test_a_value_that_means_no_data_in_some_bands_only_is_told_once(
    tmp_path: Path, by_rows: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    planes = np.ones((3, 300, 41), np.int16)
    planes[:, 20] = planes[1, 200:220] = -7
    scene = opened(write_tiff(tmp_path / "a.tif", planes), "masks", values={"x": 1}, nodata=-7)
    told = "a.tif: pixels have the no-data value -7 in some bands only, where it counts as data"
    assert not scene.valid[0:100].all()
    assert told not in caplog.text
    assert scene.valid[150:210].all()
    assert scene.valid[210:250].all()
    assert caplog.text.count(told) == 1
    assert by_rows


def test_a_large_image_that_is_cut_short_is_told_when_its_rows_are_missing(
    tmp_path: Path, by_rows: list[tuple[int, int]]
) -> None:
    path, form, options = make(tmp_path, "plain")
    settings = PredictionSettings(tile_px=16, symmetries="none", batch_size=4)
    content = path.read_bytes()

    def mapped(folder: str) -> Path:
        large = opened(path, form, values={"x": 1}, **options)
        return write_map(models(large.bands), large, settings, tmp_path / folder).folder

    expected = mapped("expected")
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataError, match=r"a\.tif: the picture cannot be read.*Fetch or export it again"):
        mapped("cut")
    assert not (tmp_path / "cut" / "a" / "map.json").exists()
    path.write_bytes(content)
    written = mapped("cut")
    for name in ("probabilities.tif", "masks.tif", "polygons.geojson", "overlay.png"):
        assert (written / name).read_bytes() == (expected / name).read_bytes(), name
    assert by_rows

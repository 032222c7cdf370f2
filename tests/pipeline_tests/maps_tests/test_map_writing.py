"""Maps drawn by rows: the same as in memory, also where the drawing was cut off and goes on."""

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from pipeline.files import sole_writer
from pipeline.imagery.rasters import read_masks, read_probabilities
from pipeline.maps import quicklooks, unfinished
from pipeline.maps.map_writing import blocks, has_data, write_map
from pipeline.maps.polygons import vectorise, vectorise_file
from pipeline.maps.scene_maps import ImageScene
from pipeline.maps.unfinished import ROWS_FILE, UNFINISHED, Unfinished
from pipeline.models.model_set import LoadedModelSet
from pipeline.models.passes import Pass, layers_of, passes_of, sized
from pipeline.scene import Georeference
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.errors import MapgroveError
from search_space.prediction import PredictionSettings
from search_space.records import ClassMap, ModelMember, ModelSet
from search_space.training_plan import Scaling, TrainingPlan

Floats = NDArray[np.float32]

SETTINGS = PredictionSettings(tile_px=16, symmetries="flips", batch_size=4)
SHAPE = (600, 40)


def slanted(tiles: Floats) -> Floats:
    """Neither the same from all sides nor a matter of single pixels."""
    rows = np.linspace(-1.0, 1.0, tiles.shape[1], dtype=np.float32)[:, None]
    return (1.0 / (1.0 + np.exp(-tiles[..., 0] - rows - tiles[..., 1].mean(axis=(1, 2), keepdims=True))))[..., None]


def inverse(tiles: Floats) -> Floats:
    return 1.0 - slanted(tiles)


def member(name: str, rank: int, kind: str) -> ModelMember:
    scaling = Scaling(kind="standard" if kind == "standard" else "percentile", scope="scene")
    plan = TrainingPlan(patch_px=16, scaling=scaling)
    candidate = Candidate(architecture=Architecture(depth=1), plan=plan)
    return ModelMember(class_name=name, file=f"{name}/{rank}.keras", candidate=candidate, threshold=0.5, rank=rank)


def models(predictor_of: Callable[[ModelMember], Callable[[Floats], Floats]] | None = None) -> LoadedModelSet:
    """Roads of two models that are scaled in two ways, fields of one that is scaled as the first."""
    description = ModelSet(
        study="s",
        data_fingerprint="f",
        classes=("road", "field"),
        bands=("red", "nir"),
        members=(member("road", 0, "standard"), member("road", 1, "percentile"), member("field", 0, "standard")),
        maps=(ClassMap(class_name="road", threshold=0.5), ClassMap(class_name="field", threshold=0.4)),
    )
    return LoadedModelSet(
        description, predictor_of or (lambda each: inverse if each.class_name == "field" else slanted)
    )


def scene() -> ImageScene:
    rng = np.random.default_rng(0)
    cube = cv2.GaussianBlur(rng.normal(100, 300, (*SHAPE, 2)).astype(np.float32), (0, 0), 3)
    valid = np.ones(SHAPE, bool)
    valid[100:180, 10:30] = False
    cube[~valid] = np.nan
    return ImageScene("long", ("red", "nir"), "abc", cube, valid, Georeference())


def test_members_that_are_scaled_alike_share_a_pass() -> None:
    description = models().description
    first, second = passes_of(description, SETTINGS, lambda _: 1, most_bytes=10)
    assert [each.class_name for each in first.members] == ["road", "field"]
    assert [each.class_name for each in second.members] == ["road"]
    assert (first.layers, second.layers) == ((0, 1), (0,))
    assert len(passes_of(description, SETTINGS, lambda _: 6, most_bytes=10)) == 3
    assert len(passes_of(description, SETTINGS, lambda _: 60, most_bytes=10)) == 3
    assert layers_of(description, SETTINGS).num == 2


@pytest.mark.parametrize("kind", ["uint8", "float16"])
def test_a_map_by_rows_is_that_in_memory(kind: str, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"probabilities": kind})
    expected = models().predict(scene(), settings)
    shares: list[float] = []

    written = write_map(models(), scene(), settings, tmp_path, shares.append)

    found = read_probabilities(written.folder / "probabilities.tif").probabilities
    np.testing.assert_allclose(found, expected, atol=0.5 / 254 + 1e-6 if kind == "uint8" else 2**-11)
    masks, classes = read_masks(written.folder / "masks.tif")
    np.testing.assert_array_equal(masks, expected >= np.float32([0.5, 0.4]))
    assert classes == ("road", "field")
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert 0.0 < shares[0] < 0.2
    assert not (written.folder / UNFINISHED).exists()
    num_valid = scene().valid.sum()
    assert written.class_shares == {"road": masks[..., 0].sum() / num_valid, "field": masks[..., 1].sum() / num_valid}


def counted(calls: list[int], stop_after: int | None = None) -> LoadedModelSet:
    def predictor_of(each: ModelMember) -> Callable[[Floats], Floats]:
        def predict(tiles: Floats) -> Floats:
            calls.append(1)
            if stop_after is not None and len(calls) > stop_after:
                raise KeyboardInterrupt
            return inverse(tiles) if each.class_name == "field" else slanted(tiles)

        return predict

    return models(predictor_of)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_drawing_that_was_cut_off_goes_on_to_the_same_map(share: float, tmp_path: Path) -> None:
    calls: list[int] = []
    whole = write_map(counted(calls), scene(), SETTINGS, tmp_path / "whole").folder
    num_whole = len(calls)
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        write_map(counted(calls, int(share * num_whole)), scene(), SETTINGS, tmp_path / "cut")
    assert not (tmp_path / "cut" / "long" / "map.json").exists()
    calls.clear()

    folder = write_map(counted(calls), scene(), SETTINGS, tmp_path / "cut").folder

    # What was begun of rows is predicted again.
    assert len(calls) < (1.12 - share) * num_whole
    for name in ("probabilities.tif", "masks.tif", "polygons.geojson", "overlay.png"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_fewer_tiles_at_a_time_go_on_with_what_was_begun(tmp_path: Path) -> None:
    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        write_map(counted(calls, 300), scene(), SETTINGS, tmp_path)
    noted = json.loads((tmp_path / "long" / UNFINISHED / ROWS_FILE).read_text())["rows"][0]
    assert noted > 100
    fewer = SETTINGS.model_copy(update={"batch_size": 2})
    first: list[float] = []
    write_map(models(), scene(), fewer, tmp_path, first.append)
    assert first[0] > 2 / 3 * noted / SHAPE[0]
    assert write_map(models(), scene(), SETTINGS, tmp_path).class_shares is None


def test_what_was_begun_with_other_settings_is_begun_anew(tmp_path: Path) -> None:
    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        write_map(counted(calls, 60), scene(), SETTINGS, tmp_path)
    other = SETTINGS.model_copy(update={"symmetries": "none"})
    folder = write_map(models(), scene(), other, tmp_path).folder
    expected = models().predict(scene(), other)
    np.testing.assert_allclose(
        read_probabilities(folder / "probabilities.tif").probabilities, expected, atol=0.5 / 254 + 1e-6
    )


def test_two_processes_do_not_draw_one_map(tmp_path: Path) -> None:
    with (
        sole_writer(tmp_path / "long" / UNFINISHED),
        pytest.raises(MapgroveError, match="another process is writing"),
    ):
        write_map(models(), scene(), SETTINGS, tmp_path)


def test_a_disk_without_room_for_what_is_unfinished_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(unfinished.shutil, "disk_usage", lambda _: usage._replace(free=200_000))
    with pytest.raises(MapgroveError, match=r"no room for a map of 600 x 40 px.*0\.2 MB free of 0\.\d MB"):
        write_map(counted([], 0), scene(), SETTINGS, tmp_path)


def test_a_file_where_the_unfinished_map_would_lie_is_told(tmp_path: Path) -> None:
    (tmp_path / scene().id).mkdir()
    (tmp_path / scene().id / ".unfinished").write_text("", encoding="utf-8")
    with pytest.raises(MapgroveError, match=r"\.unfinished in the map's folder must be a folder.*Remove that file"):
        write_map(models(), scene(), SETTINGS, tmp_path)


def test_a_disk_that_fills_up_leaves_what_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = unfinished.RowSink.write

    def full(self: unfinished.RowSink, first_row: int, rows: Floats) -> None:
        if first_row > 300:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, first_row, rows)

    monkeypatch.setattr(unfinished.RowSink, "write", full)
    with pytest.raises(MapgroveError, match=r"the disk is full, the map is not finished.*goes on where it was"):
        write_map(models(), scene(), SETTINGS, tmp_path)
    monkeypatch.undo()
    noted = json.loads((tmp_path / "long" / UNFINISHED / ROWS_FILE).read_text())
    assert 200 < noted["rows"][0] <= 320


def test_what_a_killed_process_had_half_written_goes(tmp_path: Path) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    half = [folder / f".4711.{name}" for name in ("probabilities.tif", "map.json")]
    for path in (*half, folder / ".mine", folder / "notes.4711.probabilities.tif"):
        path.write_bytes(bytes(100))
    write_map(models(), scene(), SETTINGS, tmp_path)
    assert not any(path.exists() for path in half)
    assert {".mine", "notes.4711.probabilities.tif", "map.json"} < {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("damage", ["cut", "gone", "nonsense"])
def test_rows_that_were_lost_are_drawn_again(damage: str, tmp_path: Path) -> None:
    rows = Unfinished(tmp_path / UNFINISHED, "k", (10, 4), [[0, 1], [1]])
    with rows.sink(0) as sink:
        sink.write(0, np.ones((6, 4, 2), np.float32))
    assert Unfinished(tmp_path / UNFINISHED, "k", (10, 4), [[0, 1], [1]]).rows_done == [6, 0]
    assert Unfinished(tmp_path / UNFINISHED, "k", (10, 4), [[0, 1], [1]]).rows_done == [6, 0]
    if damage == "cut":
        (tmp_path / UNFINISHED / "0.rows").write_bytes(bytes(6 * 4 * 2 * 4 - 1))
    elif damage == "gone":
        (tmp_path / UNFINISHED / "0.rows").unlink()
    else:
        (tmp_path / UNFINISHED / ROWS_FILE).write_text("[1")
    assert Unfinished(tmp_path / UNFINISHED, "k", (10, 4), [[0, 1], [1]]).rows_done == [0, 0]


@pytest.mark.parametrize("rows", [[-6, 0], [11, 0], [float("inf"), 0], ["6", 0], [6.5, 0], [[6], 0]])
def test_a_note_of_rows_that_cannot_be_is_not_believed(rows: list[Any], tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.rows").write_bytes(bytes(1000))
    (tmp_path / ROWS_FILE).write_text(json.dumps({"key": "k", "rows": rows}))
    assert Unfinished(tmp_path, "k", (10, 4), [[0, 1], [1]]).rows_done == [0, 0]
    assert not list(tmp_path.iterdir())


def test_the_rows_of_passes_add_up(tmp_path: Path) -> None:
    rows = Unfinished(tmp_path / UNFINISHED, "k", (5, 3), [[0, 2], [1], [2]])
    parts = [np.random.default_rng(n).random((5, 3, num)).astype(np.float32) for n, num in enumerate([2, 1, 1])]
    for number, part in enumerate(parts):
        with rows.sink(number) as sink:
            sink.write(0, part[:2])
            sink.write(2, part[2:])
    whole = rows.read(slice(0, 5))
    np.testing.assert_array_equal(whole[..., 0], parts[0][..., 0])
    np.testing.assert_array_equal(whole[..., 1], parts[1][..., 0])
    np.testing.assert_array_equal(whole[..., 2], parts[0][..., 1] + parts[2][..., 0])
    np.testing.assert_array_equal(rows.read(slice(3, 4)), whole[3:4])


PLACES = {
    "none": Georeference(),
    "dstl": Georeference(xmax=0.0092, ymin=-0.0090),
    "utm": Georeference(crs="EPSG:32643", transform=(0.31, 0.0, 412_345.25, 0.0, -0.31, 2_100_000.5)),
    "turned": Georeference(crs="EPSG:4326", transform=(2.7e-6, 1e-6, -43.2, 1e-6, -2.7e-6, -22.9)),
    "south up": Georeference(crs="EPSG:32733", transform=(10.0, 0.0, 3e5, 0.0, 10.0, 7e6)),
}


@pytest.mark.parametrize("place", sorted(PLACES))
def test_masks_in_a_file_are_traced_as_in_memory(place: str, tmp_path: Path) -> None:
    """In pixels, and what is written of them lies where the image does."""
    settings, georeference = SETTINGS.model_copy(update={"min_area_px": 4}), PLACES[place]
    folder = write_map(models(), replace(scene(), georeference=georeference), settings, tmp_path).folder
    masks, _ = read_masks(folder / "masks.tif")
    features = json.loads((folder / "polygons.geojson").read_text(encoding="utf-8"))["features"]
    for k, name in enumerate(("road", "field")):
        traced, expected = vectorise_file(folder / "masks.tif", k, 4), vectorise(masks[..., k], 4)
        assert len(traced.geoms) == len(expected.geoms) > 3
        assert traced.equals_exact(expected)
        written = [shapely.geometry.shape(each["geometry"]) for each in features if each["properties"]["class"] == name]
        in_pixels = georeference.to_pixels(shapely.MultiPolygon(written), *SHAPE)
        assert shapely.transform(in_pixels, np.rint).normalize().equals_exact(expected.normalize())


def test_pictures_of_large_scenes_are_made_of_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_map(models(), scene(), SETTINGS, tmp_path)
    monkeypatch.setattr(quicklooks, "MOST_PX", 250)
    cube = scene().cube
    reduced = quicklooks._reduced(lambda rows: cube[rows], SHAPE, 3)
    assert reduced.shape == (200, 13, 2)
    np.testing.assert_allclose(reduced[3, 5], cube[9:12, 15:18].mean(axis=(0, 1)), rtol=1e-5)
    small = write_map(models(), scene(), SETTINGS, tmp_path / "small").folder
    picture = cv2.imread(str(small / "overlay.png"))
    assert picture is not None
    assert picture.shape[0] < cv2.imread(str(tmp_path / "long" / "overlay.png")).shape[0]


@pytest.mark.parametrize("shape", [(50, 2), (2, 50)])
def test_pictures_of_scenes_narrower_than_what_becomes_a_pixel(
    shape: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quicklooks, "MOST_PX", 10)
    plane = np.random.default_rng(0).normal(size=(*shape, 1)).astype(np.float32)
    reduced = quicklooks._reduced(lambda rows: plane[rows], shape, 5)
    expected = plane.reshape(10, 10).mean(axis=1) if shape[0] > shape[1] else plane.reshape(2, 10, 5).mean(axis=(0, 2))
    np.testing.assert_allclose(reduced.ravel(), expected, rtol=1e-5, atol=1e-6)
    narrow = ImageScene("n", ("red", "nir"), "a", plane.repeat(2, axis=2), np.ones(shape, bool), Georeference())
    folder = write_map(models(), narrow, SETTINGS, tmp_path).folder
    picture = cv2.imread(str(folder / "overlay.png"))
    assert picture is not None


def test_rows_come_in_the_blocks_of_a_file() -> None:
    assert list(blocks(600)) == [slice(0, 256), slice(256, 512), slice(512, 600)]
    blank = scene()
    blank.valid[:] = False
    assert has_data(scene())
    assert not has_data(blank)
    blank.valid[-1, -1] = True
    assert has_data(blank)


def test_where_memory_runs_out_fewer_tiles_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []

    def predictor_of(each: ModelMember) -> Callable[[Floats], Floats]:
        def predict(tiles: Floats) -> Floats:
            sizes.append(len(tiles))
            if len(tiles) > 3 and len(sizes) > 40:
                raise MemoryError
            return inverse(tiles) if each.class_name == "field" else slanted(tiles)

        return predict

    settings = SETTINGS.model_copy(update={"batch_size": 8})
    shares: list[float] = []
    folder = write_map(models(predictor_of), scene(), settings, tmp_path / "short", shares.append).folder
    assert set(sizes[:40]) == {8}
    assert sizes[-1] == 2
    assert shares == sorted(shares)
    assert "going on with 4 tiles at a time" in caplog.text
    whole = write_map(models(), scene(), settings, tmp_path / "whole").folder
    expected, found = (read_probabilities(each / "probabilities.tif").probabilities for each in (whole, folder))
    np.testing.assert_allclose(found, expected, atol=1.01 / 254)


def test_where_there_is_no_memory_for_one_tile_that_is_told(tmp_path: Path) -> None:
    def never(_: Floats) -> Floats:
        raise MemoryError

    with pytest.raises(MemoryError):
        write_map(models(lambda _: never), scene(), SETTINGS, tmp_path)


def test_batches_are_as_large_as_memory_allows() -> None:
    description = models().description
    first, _ = passes_of(description, PredictionSettings(), lambda _: 1, most_bytes=10)
    assert first.tiling.batch_size == 0
    much = 10**12

    def size(of_pass: Pass, free_bytes: int, host_bytes: int) -> int:
        return sized(of_pass, description.bands, free_bytes, host_bytes, 64).tiling.batch_size

    sizes = [size(first, free, much) for free in (2 * 10**5, 4 * 10**6, much)]
    assert sizes[0] == 1
    assert 1 < sizes[1] < 64
    assert sizes[2] == 64
    # Beside the accelerator, tiles are turned and views averaged: their median needs them all at once.
    median = replace(first, tiling=first.tiling._replace(average="median", symmetries="d4"))
    tile_bytes = 4 * first.tiling.tile_px**2 * (3 * len(description.bands) + 5 * len(first.layers))
    assert size(first, much, 32 * tile_bytes) == 16
    assert size(first, much, 32 * tile_bytes - 1) == 8
    assert size(median, much, 32 * tile_bytes) == 8
    chosen, _ = passes_of(description, SETTINGS, lambda _: 1, most_bytes=10)
    assert size(chosen, 1, 1) == SETTINGS.batch_size

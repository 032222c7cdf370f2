"""`prepare` on tiny imagery: what it writes, what it keeps, what it leaves behind when it fails."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.preparation.prepare import Progress, prepare
from pipeline.preparation.prepare_scene import ScenePlan
from pipeline.preparation.prepared import FORMAT_VERSION, PreparedDataset
from pipeline.preparation.prepared_folder import FullDiskError
from pipeline.scene import DataError
from search_space.study import DataSettings

FILES = {"cube.npy", "known.npy", "masks.npy", "quicklook.png", "scene.json", "thumbnail.npy", "valid.npy"}


def write_scene(folder: Path, name: str, *, seed: int = 0, mask: bool = True) -> None:
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    pixels = rng.integers(1, 255, (20, 30, 3), dtype=np.uint8)
    assert cv2.imwrite(str(folder / "images" / f"{name}.png"), pixels)
    if mask:
        values = np.zeros((20, 30), np.uint8)
        values[:5], values[5:8] = 1, 9
        assert cv2.imwrite(str(folder / "masks" / f"{name}.png"), values)


@pytest.fixture
def data(tmp_path: Path) -> DataSettings:
    for number, name in enumerate(("a", "b", "c")):
        write_scene(tmp_path / "raw", name, seed=number, mask=name != "c")
    return DataSettings(
        format="masks",
        folder=str(tmp_path / "raw"),
        prepared=str(tmp_path / "prepared"),
        classes=("road",),
        options={"values": {"road": 1, "water": 2}, "ignore": [9], "images": "images/*.png", "masks": "masks/*.png"},
    )


def run(data: DataSettings, **changes: Any) -> tuple[PreparedDataset, list[Progress]]:
    told: list[Progress] = []
    return prepare(data.model_copy(update=changes), told.append), told


def states(told: Sequence[Progress]) -> dict[str, str]:
    return {progress.scene_id: progress.state for progress in told}


def test_writes_cubes_masks_and_a_manifest(data: DataSettings) -> None:
    dataset, told = run(data)
    assert [(p.scene_id, p.number, p.total, p.labelled) for p in told] == [
        ("a", 1, 3, True),
        ("b", 2, 3, True),
        ("c", 3, 3, False),
    ]
    assert dataset.classes == ("road",)
    assert dataset.bands == ("red", "green", "blue")
    scene = dataset.scene("b")
    image = cv2.imread(str(Path(data.folder) / "images" / "b.png"))
    assert np.array_equal(scene.cube, image[..., ::-1].astype(np.float32))
    assert scene.cube.dtype == np.float32
    assert np.array_equal(np.flatnonzero(scene.masks[..., 0].any(axis=1)), range(5))
    assert np.array_equal(np.flatnonzero(~scene.known.any(axis=1)), range(5, 8))
    assert scene.valid.all()
    assert {path.name for path in scene.folder.iterdir()} == FILES
    assert scene.shape_px == (20, 30)


def test_arrays_are_mapped_and_cannot_be_changed(data: DataSettings) -> None:
    cube = run(data)[0].scene("a").cube
    assert isinstance(cube, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        cube[0, 0, 0] = 1


def test_a_scene_without_labels_is_unknown_everywhere(data: DataSettings) -> None:
    scene = run(data)[0].scene("c")
    assert not scene.labelled
    assert not scene.known.any()
    assert scene.record.known_share == 0


def test_the_manifest_tells_sources_and_statistics(data: DataSettings) -> None:
    dataset, _ = run(data, indices=())
    record = dataset.scene("a").record
    assert [source.path for source in record.sources] == ["images/a.png", "masks/a.png"]
    assert record.sources[0].size_bytes == (Path(data.folder) / "images" / "a.png").stat().st_size
    assert record.class_shares["road"] == pytest.approx(5 / 17)
    assert record.known_share == pytest.approx(17 / 20)
    red = dataset.scene("a").cube[..., 0].astype(np.float64)
    assert record.bands[0].mean == pytest.approx(red.mean())
    assert record.bands[0].std == pytest.approx(red.std())
    assert record.bands[0].p98 == pytest.approx(np.percentile(red, 98))
    assert json.loads((dataset.folder / "manifest.json").read_text())["classes"] == ["road"]


def test_a_second_run_changes_nothing(data: DataSettings) -> None:
    first, _ = run(data)
    times = {path: path.stat().st_mtime_ns for path in first.folder.glob("*/*")}
    second, told = run(data)
    assert set(states(told).values()) == {"unchanged"}
    assert second.fingerprint == first.fingerprint
    assert {path: path.stat().st_mtime_ns for path in first.folder.glob("*/*")} == times


def test_only_what_changed_is_made_again(data: DataSettings) -> None:
    first, _ = run(data)
    write_scene(Path(data.folder), "b", seed=77)
    second, told = run(data)
    assert states(told) == {"a": "unchanged", "b": "prepared", "c": "unchanged"}
    assert second.fingerprint != first.fingerprint


@pytest.mark.parametrize("change", [{"classes": ("water",)}, {"bands": ("red",)}, {"classes": ("road", "water")}])
def test_other_settings_make_everything_again(data: DataSettings, change: dict[str, Any]) -> None:
    first, _ = run(data)
    second, told = run(data, **change)
    assert set(states(told).values()) == {"prepared"}
    assert second.fingerprint != first.fingerprint


def test_the_fingerprint_does_not_depend_on_where_files_lie(data: DataSettings, tmp_path: Path) -> None:
    first, _ = run(data)
    shutil.move(data.folder, tmp_path / "moved")
    second, told = run(data, folder=str(tmp_path / "moved"))
    assert second.fingerprint == first.fingerprint
    assert set(states(told).values()) == {"unchanged"}


def test_scenes_that_are_gone_are_removed_and_strangers_stay(data: DataSettings) -> None:
    dataset, _ = run(data)
    (dataset.folder / "notes").mkdir()
    (dataset.folder / "notes" / "mine.txt").write_text("keep")
    (Path(data.folder) / "images" / "a.png").unlink()
    (Path(data.folder) / "masks" / "a.png").unlink()
    dataset, _ = run(data)
    assert dataset.scene_ids == ("b", "c")
    assert sorted(path.name for path in dataset.folder.iterdir()) == [".lock", "b", "c", "manifest.json", "notes"]


def test_a_scene_that_fails_does_not_stop_the_others(data: DataSettings, caplog: pytest.LogCaptureFixture) -> None:
    (Path(data.folder) / "images" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    told: list[Progress] = []
    with pytest.raises(DataError, match=r"1 of 3 scenes could not be prepared: b\."):
        prepare(data, told.append)
    assert [record.getMessage().count("b.png: the PNG file is cut short") for record in caplog.records] == [1]
    assert states(told) == {"a": "prepared", "b": "failed", "c": "prepared"}
    assert "cut short" in told[1].reason
    folder = Path(data.prepared)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "a", "c"], "no manifest, nothing half-written"
    with pytest.raises(DataError, match=r"only partly prepared.*run_search\.py prepare --study"):
        PreparedDataset.open(folder)
    write_scene(Path(data.folder), "b", seed=1)
    assert states(run(data)[1]) == {"a": "unchanged", "b": "prepared", "c": "unchanged"}


def test_a_failure_takes_an_older_manifest_with_it(data: DataSettings) -> None:
    run(data)
    (Path(data.folder) / "masks" / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="1 of 3"):
        run(data)
    assert not (Path(data.prepared) / "manifest.json").exists()


def test_a_file_that_vanishes_is_one_failed_scene(
    data: DataSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = ScenePlan.source

    def source(self: Any, path: Path) -> Any:
        found = original(self, path)
        if path.name == "b.png":
            path.unlink()
        return found

    monkeypatch.setattr(ScenePlan, "source", source)
    with pytest.raises(DataError, match="1 of 3 scenes could not be prepared: b"):
        run(data)
    assert "b.png" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_interrupted_or_out_of_disk_leaves_nothing_half_written(
    data: DataSettings, monkeypatch: pytest.MonkeyPatch, error: BaseException | type[BaseException]
) -> None:
    original, calls = np.save, []

    def save(path: Path, *arguments: Any, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 6:
            raise error
        original(path, *arguments, **options)

    monkeypatch.setattr(np, "save", save)
    with pytest.raises((KeyboardInterrupt, DataError)):
        run(data)
    left = {path.name for path in Path(data.prepared).iterdir()}
    assert "b" not in left
    assert not any(name.endswith(".tmp") for name in left)
    assert "manifest.json" not in left
    monkeypatch.undo()
    assert states(run(data)[1])["a"] == "unchanged"


def test_what_a_killed_run_left_is_cleared(data: DataSettings) -> None:
    dataset, _ = run(data)
    shutil.copytree(dataset.folder / "a", dataset.folder / ".gone.partial")
    (dataset.folder / ".gone.partial" / "scene.json").unlink()
    (dataset.folder / "a" / "masks.npy").unlink()
    _, told = run(data)
    assert states(told)["a"] == "prepared"
    assert not (dataset.folder / ".gone.partial").exists()


def test_a_disk_that_is_too_full_is_told_before_writing(data: DataSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(DataError, match="the disk is too full for the scene"):
        run(data)


def test_a_band_that_is_the_same_everywhere_is_told(data: DataSettings, caplog: pytest.LogCaptureFixture) -> None:
    run(data, indices=("red - red", "log(0 - red)"))
    told = [record.getMessage() for record in caplog.records]
    assert "The band red - red is 0 on all ground of all scenes" in told
    assert "The band log(0 - red) is 0 on all ground of all scenes" in told
    assert len(told) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"classes": ("roads",)}, r"data\.classes: the class.*Received 'roads'\. Did you mean 'road'"),
        ({"bands": ("reed",)}, r"data\.bands: the band.*Received 'reed'\. Did you mean 'red'"),
        ({"indices": ("ndwi",)}, "ndwi needs a band named m_nir2"),
        ({"format": "mask"}, "no such format.*Did you mean 'masks'"),
        ({"folder": "/nowhere"}, "does not exist.*/nowhere"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(
    data: DataSettings, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        run(data, **change)
    assert not Path(data.prepared).exists()


def test_a_prepared_folder_that_is_a_file_is_refused(data: DataSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"data\.prepared: the folder cannot be written"):
        run(data, prepared=str(tmp_path / "file"))


def test_missing_or_damaged_prepared_data_is_one_line(data: DataSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not prepared yet.*run_search\.py prepare --study"):
        PreparedDataset.open(tmp_path / "nowhere")
    folder = run(data)[0].folder
    cube = folder / "a" / "cube.npy"
    whole = cube.read_bytes()
    for broken in (b"", whole[:200], b"hello"):
        cube.write_bytes(broken)
        with pytest.raises(DataError, match=r"cube\.npy is missing or damaged"):
            PreparedDataset.open(folder)
    np.save(cube, np.zeros((2, 2, 3), np.float32))
    with pytest.raises(DataError, match="not what the manifest says"):
        PreparedDataset.open(folder)
    cube.write_bytes(whole)
    manifest = folder / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text[:100])
    with pytest.raises(DataError, match="damaged or of another version") as caught:
        PreparedDataset.open(folder)
    assert "\n" not in str(caught.value)
    manifest.write_text(text.replace(f'"version": {FORMAT_VERSION}', '"version": 0'))
    with pytest.raises(DataError, match="another version"):
        PreparedDataset.open(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ("water",)},
        {"bands": ("blue", "red")},
        {"indices": ("ndwi",)},
        {"grid": 2.0},
        {"same_ground": "given"},
        {"options": {"values": {"road": 2, "water": 1}, "ignore": [9]}},
    ],
)
def test_prepared_data_serve_only_the_settings_they_were_made_for(data: DataSettings, change: dict[str, Any]) -> None:
    run(data)
    assert PreparedDataset.open_for(data).classes == ("road",)
    moved = data.model_copy(update={"folder": "elsewhere"})
    assert PreparedDataset.open_for(moved).classes == ("road",)
    with pytest.raises(DataError, match=f"another data.{next(iter(change))} than"):
        PreparedDataset.open_for(data.model_copy(update=change))


def test_a_damaged_array_is_prepared_again(data: DataSettings) -> None:
    cube = run(data)[0].folder / "b" / "cube.npy"
    cube.write_bytes(cube.read_bytes()[:300])
    assert states(run(data)[1]) == {"a": "unchanged", "b": "prepared", "c": "unchanged"}


def test_files_of_others_are_never_removed(data: DataSettings, caplog: pytest.LogCaptureFixture) -> None:
    thesis = Path(data.prepared) / "b" / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    with pytest.raises(DataError, match="1 of 3 scenes could not be prepared: b"):
        run(data)
    assert thesis.read_text() == "years of work"
    assert "holds files that `prepare` did not make" in caplog.text
    with pytest.raises(DataError, match=r"another folder than data\.folder"):
        run(data, prepared=data.folder)


def test_folders_that_only_look_like_its_own_stay(data: DataSettings, caplog: pytest.LogCaptureFixture) -> None:
    run(data)
    prepared = Path(data.prepared)
    for place in ("thesis/scene.json", "other/cube.npy", "b/notes.txt"):
        (prepared / place).parent.mkdir(exist_ok=True)
        (prepared / place).write_text('{"mine": 1}')
    (Path(data.folder) / "images" / "b.png").write_bytes((Path(data.folder) / "images" / "a.png").read_bytes())
    with pytest.raises(DataError, match="could not be prepared: b"):
        run(data)
    assert "did not make" in caplog.text
    assert (prepared / "b" / "notes.txt").is_file()
    (prepared / "b" / "notes.txt").unlink()
    run(data)
    assert (prepared / "thesis" / "scene.json").is_file()
    assert (prepared / "other" / "cube.npy").is_file()

    manifest = prepared / "manifest.json"
    manifest.write_text('{"mine": 1}')
    with pytest.raises(DataError, match="did not make"):
        run(data)
    assert manifest.read_text() == '{"mine": 1}'


def test_an_array_with_another_number_of_bands_is_prepared_again(data: DataSettings) -> None:
    cube = run(data)[0].folder / "a" / "cube.npy"
    np.save(cube, np.load(cube)[..., :2])
    assert states(run(data)[1]) == {"a": "prepared", "b": "unchanged", "c": "unchanged"}


@pytest.mark.parametrize("name", ["scene_", "scene_..", "scene_.hidden"])
def test_names_that_fit_no_folder_are_refused(data: DataSettings, name: str) -> None:
    write_scene(Path(data.folder), name, seed=1, mask=False)
    keep = Path(data.prepared) / "keep.txt"
    keep.parent.mkdir()
    keep.write_text("x")
    with pytest.raises(DataError, match="must fit a folder"):
        run(data, options=data.options | {"images": "images/scene_*.png", "masks": ""})
    assert keep.read_text() == "x"


def test_a_scene_without_data_is_told(data: DataSettings) -> None:
    pixels = np.full((20, 30, 3), 7, np.uint8)
    assert cv2.imwrite(str(Path(data.folder) / "images" / "b.png"), pixels)
    told = run(data, options=data.options | {"nodata": 7})[1]
    assert [progress.has_data for progress in told] == [True, False, True]


def test_a_full_disk_is_told_once(data: DataSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    told: list[Progress] = []
    with pytest.raises(DataError, match=r"too full for the scene a, which takes 0\.0 MB.*0\.0 MB free"):
        prepare(data, told.append)
    assert told == []


def test_a_disk_that_fills_up_while_writing_stops_everything(
    data: DataSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = np.save

    def save(path: Path, *arguments: Any, **options: Any) -> None:
        if "b.partial" in str(path):
            raise OSError(28, "No space left on device")
        original(path, *arguments, **options)

    monkeypatch.setattr(np, "save", save)
    told: list[Progress] = []
    with pytest.raises(FullDiskError, match=r"the disk is too full for the scene b, which does not fit.*MB free"):
        prepare(data, told.append)
    assert states(told) == {"a": "prepared"}
    assert sorted(path.name for path in Path(data.prepared).iterdir()) == [".lock", "a"]


def test_an_unknown_scene_names_the_nearest(data: DataSettings) -> None:
    with pytest.raises(DataError, match="no such scene"):
        run(data)[0].scene("z")


def test_the_picture_shows_the_labels(data: DataSettings) -> None:
    picture = cv2.imread(str(run(data)[0].scene("a").quicklook))
    plain = cv2.imread(str(run(data)[0].scene("c").quicklook))
    assert picture is not None
    assert plain is not None
    assert picture.shape == plain.shape
    assert not np.array_equal(picture, plain)

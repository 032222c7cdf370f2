"""`prepare` with several processes: the same data set, and nothing half-written or left running however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import rasterio

from pipeline.datasets.table import open_dataset
from pipeline.preparation import prepare_pool
from pipeline.preparation.prepare import Progress, prepare
from pipeline.preparation.prepare_pool import sensible_jobs
from pipeline.preparation.prepare_scene import ScenePlan
from pipeline.preparation.prepared import PreparedDataset
from pipeline.preparation.prepared_folder import FullDiskError
from pipeline.scene import DataError
from search_space.study import DataSettings

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0
SCRIPT = """
import sys
from pipeline.preparation.prepare import prepare
from search_space.study import DataSettings
if __name__ == "__main__":
    try:
        prepare(DataSettings.model_validate_json(sys.argv[1]), None, 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""


def write_images(folder: Path, names: str, size_px: int) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(1, 255, (3, size_px, size_px), dtype=np.uint8)
        shape = {"count": 3, "height": size_px, "width": size_px, "dtype": "uint8"}
        place = {"crs": "EPSG:32643", "transform": rasterio.Affine(1, 0, 5e5 + 2 * seed * size_px, 0, -1, 2e6)}
        with rasterio.open(folder / "images" / f"{name}.tif", "w", driver="GTiff", **shape, **place) as target:
            target.write(pixels)


def settings(tmp_path: Path, **changes: Any) -> DataSettings:
    options = {"values": {"road": 1}, "images": "images/*.tif", "masks": ""}
    known = {"folder": str(tmp_path / "raw"), "prepared": str(tmp_path / "prepared"), "options": options}
    return DataSettings(format="masks", classes=("road",), **(known | changes))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_several_processes_make_the_same_data_set(tmp_path: Path) -> None:
    write_images(tmp_path / "raw", "abcde", 40)
    prepare(settings(tmp_path, prepared=str(tmp_path / "one"), grid=1.5), None, 1)
    told: list[Progress] = []
    prepare(settings(tmp_path, prepared=str(tmp_path / "many"), grid=1.5), told.append, 3)
    assert files(tmp_path / "many") == files(tmp_path / "one")
    assert sorted(progress.scene_id for progress in told) == list("abcde")
    assert [progress.number for progress in told] == [1, 2, 3, 4, 5]
    again: list[Progress] = []
    prepare(settings(tmp_path, prepared=str(tmp_path / "many"), grid=1.5), again.append, 2)
    assert {progress.state for progress in again} == {"unchanged"}


def test_no_process_is_started_where_nothing_is_to_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "raw", "abc", 40)
    prepare(settings(tmp_path), None, 1)
    monkeypatch.setattr(prepare_pool, "ProcessPoolExecutor", None)
    told: list[Progress] = []
    prepare(settings(tmp_path), told.append, 3)
    assert [progress.state for progress in told] == ["unchanged"] * 3
    write_images(tmp_path / "raw", "b", 41)
    told.clear()
    # One scene alone needs no other process either.
    prepare(settings(tmp_path), told.append, 3)
    assert [progress.state for progress in told] == ["unchanged", "prepared", "unchanged"]


def test_what_fails_and_what_is_logged_elsewhere_reaches_the_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenes too small to register their bands, one of them damaged."""
    from pipeline.synthetic.scenes import write_synthetic_dstl

    names = write_synthetic_dstl(tmp_path / "raw", 2, 120, 0)
    damaged = tmp_path / "raw" / "three_band" / f"{names[1]}.tif"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    told: list[Progress] = []
    data = DataSettings(
        format="dstl", folder=str(tmp_path / "raw"), prepared=str(tmp_path / "prepared"), classes=("road",)
    )
    with pytest.raises(DataError, match=f"1 of 3 scenes could not be prepared: {names[1]}"):
        prepare(data, told.append, 2)
    assert {progress.scene_id: progress.state for progress in told} == {
        names[0]: "prepared",
        names[1]: "failed",
        names[2]: "prepared",
    }
    messages = [record.getMessage() for record in caplog.records]
    assert sum(f"{names[0]}: bands left in place" in message for message in messages) == 1
    assert sum(message.startswith(f"{names[1]}: ") and "cannot be read" in message for message in messages) == 1
    assert not (tmp_path / "prepared" / "manifest.json").exists()


def test_files_that_scenes_share_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.synthetic.scenes import write_synthetic_dstl

    write_synthetic_dstl(tmp_path / "raw", 2, 80, 0)
    data = DataSettings(
        format="dstl", folder=str(tmp_path / "raw"), prepared=str(tmp_path / "prepared"), classes=("road",)
    )
    plan = ScenePlan.make(data, open_dataset(data))
    prepare_pool._hash_shared(plan)
    assert {path.name for path in plan.hashes} == {"train_wkt_v4.csv", "grid_sizes.csv"}


def test_a_full_disk_stops_all_processes(tmp_path: Path) -> None:
    """A hundred-thousandth of a metre per pixel: no disk has room for it."""
    write_images(tmp_path / "raw", "abc", 30)
    told: list[Progress] = []
    with pytest.raises(FullDiskError, match=r"the disk is too full for the scene [abc], which takes"):
        prepare(settings(tmp_path, grid=1e-5), told.append, 2)
    assert told == []
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == [".lock"]


@contextmanager
def begun(tmp_path: Path, script: str = SCRIPT) -> Iterator[subprocess.Popen[str]]:
    """`prepare` with two processes in a process group of its own, as a terminal starts it; none is left behind."""
    text = settings(tmp_path).model_dump_json()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, text]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def until(what: Callable[[], Any]) -> Any:
    end_s = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < end_s, "nothing happened"
        time.sleep(0.005)
    return found


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Its processes that prepare scenes."""
    children = psutil.Process(process.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def partial(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "prepared").glob(".*.partial"))


def assert_whole(tmp_path: Path, group: int) -> None:
    """No half-written scene, no process left, and the next run goes on."""
    until(lambda: not [each for each in psutil.process_iter() if alive_in(each, group)])
    assert not partial(tmp_path)
    kept = {path.name for path in (tmp_path / "prepared").iterdir() if path.is_dir()}
    told: list[Progress] = []
    dataset = prepare(settings(tmp_path), told.append)
    assert isinstance(dataset, PreparedDataset)
    assert {progress.scene_id for progress in told if progress.state == "unchanged"} == kept


def alive_in(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Scenes that take their time."""
    write_images(tmp_path / "raw", "abcd", 1500)
    return tmp_path


@pytest.mark.parametrize("moment", ["at once", "while writing"])
def test_ctrl_c_stops_everything_at_once(large: Path, moment: str) -> None:
    with begun(large) as process:
        until(lambda: partial(large) if moment == "while writing" else len(workers(process)) == 2)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130, error
        assert "Traceback" not in error
        assert_whole(large, process.pid)


@pytest.mark.parametrize("number", [1, 2])
def test_ctrl_c_while_processes_start(large: Path, number: int) -> None:
    """Another thread takes the signal that the first one holds back."""
    script = f"""
import os, signal, threading, time
from multiprocessing.context import SpawnProcess
threading.Thread(target=threading.Event().wait, daemon=True).start()
started, start = [], SpawnProcess.start
def interrupted(process):
    start(process)
    started.append(process)
    if len(started) == {number}:
        os.killpg(0, signal.SIGINT)
        time.sleep(0.2)
SpawnProcess.start = interrupted
{SCRIPT}"""
    with begun(large, script) as process:
        _, error = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130, error
        assert "Traceback" not in error
        assert_whole(large, process.pid)


@pytest.mark.parametrize("moment", ["at once", "while writing"])
def test_a_killed_process_is_told_with_its_scene_and_the_remedy(large: Path, moment: str) -> None:
    with begun(large) as process:
        until(lambda: partial(large) if moment == "while writing" else len(workers(process)) == 2)
        workers(process)[0].kill()
        _, error = process.communicate(timeout=PATIENCE_S)
        last = error.strip().splitlines()[-1]
        assert last.startswith("DataError: A process was killed while it prepared ")
        named = last.removeprefix("DataError: A process was killed while it prepared ").split(",")[0].split(" or ")
        assert 1 <= len(named) <= 2
        assert set(named) <= set("abcd")
        assert "Run prepare again with --jobs 1; finished scenes are kept." in last
        assert_whole(large, process.pid)


def test_no_process_outlives_the_first_one(large: Path) -> None:
    with begun(large) as process:
        until(lambda: len(workers(process)) == 2)
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        until(lambda: not [each for each in psutil.process_iter() if alive_in(each, process.pid)])
    prepare(settings(large))
    assert not partial(large)


@pytest.mark.parametrize(
    ("size_mb", "free_mb", "cores", "jobs"),
    [
        (1, 100_000, 8, 1),
        (200, 100_000, 8, 5),
        (200, 100_000, 3, 3),
        (200, 8_000, 8, 2),
        (200, 500, 8, 1),
    ],
)
def test_the_number_of_processes_fits_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_mb: int, free_mb: int, cores: int, jobs: int
) -> None:
    (tmp_path / "raw" / "images").mkdir(parents=True)
    for name in "abcde":
        assert cv2.imwrite(str(tmp_path / "raw" / "images" / f"{name}.tif"), np.zeros((4, 4, 3), np.uint8))
    data = settings(tmp_path)
    plan = ScenePlan.make(data, open_dataset(data))
    monkeypatch.setattr(prepare_pool, "_size_bytes", lambda path: size_mb * 1_000_000)
    free = psutil.virtual_memory()._replace(available=free_mb * 1_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert sensible_jobs(plan) == jobs

"""Seconds and peak memory of `prepare` on full-size synthetic DSTL scenes, beside writing the same bytes plainly.

A scene has 3391 x 3349 pixels, 20 bands in four files and ten classes of polygons. It is one painted landscape, set
side by side, as painting a whole one takes minutes. Every measurement runs in a process of its own; its memory is the
resident memory of that process and its children, looked at every 10 ms.

    python benchmarks/prepare.py
"""

import argparse
import csv
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import psutil
import shapely
import tifffile
from numpy.typing import NDArray
from shapely.affinity import translate

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.datasets.dstl import CLASSES
from pipeline.datasets.table import open_dataset
from pipeline.imagery.cube import make_cube
from pipeline.preparation.prepare import prepare
from pipeline.scene import Georeference
from pipeline.synthetic.landscape import Features, imagine
from pipeline.synthetic.spectra import paint
from search_space.study import DataSettings

HEIGHT_PX, WIDTH_PX, TILES = 3391, 3349, 4
SHIFTS = {"_P": (0.6, -0.4), "_M": (2.3, -3.6)}
BANDS = 20


def write_scenes(folder: Path, num_scenes: int) -> None:
    """Write a data set in the DSTL format; its scenes are links to one set of images."""
    for name in ("three_band", "sixteen_band"):
        (folder / name).mkdir(parents=True)
    planes, labels = scene()
    georeference = Georeference(xmax=0.0092, ymin=-0.009)
    wkt = [
        shapely.to_wkt(georeference.to_map(shape, HEIGHT_PX, WIDTH_PX), rounding_precision=11)
        for shape in labels.values()
    ]
    names = [f"6{number:03d}_0_0" for number in range(num_scenes)]
    for number, name in enumerate(names):
        files = {f"three_band/{name}.tif": "RGB", **{f"sixteen_band/{name}_{part}.tif": part for part in "PMA"}}
        for file, part in files.items():
            if number == 0:
                write_image(folder / file, planes, part)
            else:
                (folder / file).hardlink_to(folder / file.replace(name, names[0]))
    with (folder / "grid_sizes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["", "Xmax", "Ymin"], *([name, 0.0092, -0.009] for name in names)])
    with (folder / "train_wkt_v4.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ImageId", "ClassType", "MultipolygonWKT"])
        rows.writerows([name, number, text] for name in names for number, text in enumerate(wkt, start=1))


def scene() -> tuple[NDArray[np.uint16], dict[str, shapely.MultiPolygon]]:
    """All 20 bands at full size, and the polygons of each class."""
    rng = np.random.default_rng(0)
    side = -(-HEIGHT_PX // TILES)
    land = imagine(side, side, Features(river=True), rng)
    tile = np.clip(np.rint(paint(land, rng)), 0, 2**14 - 1).astype(np.uint16)
    planes = np.tile(tile, (1, TILES, TILES))[:, :HEIGHT_PX, :WIDTH_PX]
    frame = shapely.box(0, 0, WIDTH_PX, HEIGHT_PX)
    places = [(x * side, y * side) for x in range(TILES) for y in range(TILES)]
    labels = {}
    for name in CLASSES:
        parts = [part for place in places for part in translate(land.truth(name), *place).geoms]
        cut = shapely.intersection(np.array(parts, dtype=object), frame) if parts else []
        labels[name] = shapely.MultiPolygon([part for part in cut if part.geom_type == "Polygon" and part.area > 0])
    return planes, labels


def write_image(path: Path, planes: NDArray[np.uint16], part: str) -> None:
    """Write one of a scene's four files; the coarser ones shifted."""
    chosen = {"RGB": planes[:3], "P": planes[3:4], "M": planes[4:12], "A": planes[12:]}[part]
    factor = {"RGB": 1, "P": 1, "M": 4, "A": 25}[part]
    x, y = SHIFTS.get(f"_{part}", (0.0, 0.0))
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    size = (round(WIDTH_PX / factor), round(HEIGHT_PX / factor))
    moved = [
        cv2.resize(
            cv2.warpAffine(plane.astype(np.float32), matrix, (WIDTH_PX, HEIGHT_PX), borderMode=cv2.BORDER_REFLECT),
            size,
            interpolation=cv2.INTER_AREA,
        )
        for plane in chosen
    ]
    stored = np.rint(np.stack(moved)).astype(np.uint16)
    tifffile.imwrite(path, stored[0] if part == "P" else stored, photometric="minisblack")


@dataclass(frozen=True)
class Case:
    """What is measured: these scenes of the data set in `folder`, written into `prepared`."""

    folder: Path
    prepared: Path
    scenes: tuple[str, ...]
    jobs: int = 1


def run_prepare(case: Case) -> None:
    """All of `prepare`."""
    options = {"scenes": list(case.scenes)}
    settings = DataSettings(
        format="dstl", folder=str(case.folder), prepared=str(case.prepared), classes=CLASSES, options=options
    )
    prepare(settings, None, case.jobs)


def run_nothing(_: Case) -> None:
    """What a process takes that has only imported `prepare`."""
    time.sleep(0.5)


def run_plainly(case: Case) -> None:
    """The floor: read the files, and write as many bytes as a prepared scene has."""
    case.prepared.mkdir(parents=True)
    block = np.zeros((64, WIDTH_PX, BANDS), np.float32)
    for name in case.scenes:
        for file in (f"three_band/{name}.tif", *(f"sixteen_band/{name}_{part}.tif" for part in "PMA")):
            tifffile.imread(case.folder / file)
        with (case.prepared / name).open("wb") as out:
            for _ in range(HEIGHT_PX // 64):
                out.write(block.data)


def run_at_once(case: Case) -> None:
    """The plain way: the whole cube in memory, then on disk, with percentiles of whole planes."""
    settings = DataSettings(format="dstl", folder=str(case.folder), prepared=str(case.prepared), classes=CLASSES)
    adapter = open_dataset(settings)
    names = [band.name for band in adapter.bands]
    case.prepared.mkdir(parents=True)
    for name in case.scenes:
        cube = make_cube(adapter.read(name, names), names, (), CLASSES)
        for band in range(len(names)):
            np.percentile(cube.bands[..., band], (2, 50, 98))
        np.save(case.prepared / f"{name}.npy", cube.bands)
        np.save(case.prepared / f"{name}_masks.npy", cube.masks)


def measured(work: Callable[[Case], None], case: Case) -> tuple[float, float, float]:
    """Seconds, seconds of computing, and peak resident memory in MB of the process and its children."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=timed, args=(work, case, theirs))
    process.start()
    theirs.close()
    peak = 0.0
    family = psutil.Process(process.pid)
    while process.is_alive():
        peak = max(peak, resident_mb(family))
        time.sleep(0.01)
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} failed")
    seconds, computed_s = ours.recv()
    return seconds, computed_s, peak


def timed(work: Callable[[Case], None], case: Case, told: Connection) -> None:
    """Without the start of the process and its imports, but with those of processes that it starts."""
    began_s, began_computed_s = time.perf_counter(), sum(os.times()[:4])
    work(case)
    told.send((time.perf_counter() - began_s, sum(os.times()[:4]) - began_computed_s))


def resident_mb(family: psutil.Process) -> float:
    """Of a process and its children, without the helper that keeps track of shared memory."""
    try:
        members = [family, *family.children(recursive=True)]
        return sum(member.memory_info().rss for member in members) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write imagery and cubes (default: a temporary folder)")
    parser.add_argument("--scenes", type=int, default=4, help="number of scenes (default 4)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_scenes(folder / "dstl", options.scenes)
        names = tuple(sorted(path.stem for path in (folder / "dstl" / "three_band").iterdir()))
        cube_mb = HEIGHT_PX * WIDTH_PX * BANDS * 4 / 1e6
        print(f"{HEIGHT_PX} x {WIDTH_PX} px, {BANDS} bands, {len(CLASSES)} classes: a cube of {cube_mb:.0f} MB")
        print(f"{'per scene':36} {'s':>6} {'computed s':>10} {'peak MB':>8}")
        cases: list[tuple[str, Callable[[Case], None], tuple[str, ...], int]] = [
            ("imports alone", run_nothing, names[:1], 1),
            ("read and write as many bytes", run_plainly, names[:1], 1),
            ("the whole cube at once", run_at_once, names[:1], 1),
            ("prepare, 1 scene, --jobs 1", run_prepare, names[:1], 1),
            (f"prepare, {len(names)} scenes, --jobs 1", run_prepare, names, 1),
            (f"prepare, {len(names)} scenes, --jobs 2", run_prepare, names, 2),
        ]
        for title, work, scenes, jobs in cases:
            case = Case(folder / "dstl", folder / "prepared", scenes, jobs)
            seconds, computed_s, peak = measured(work, case)
            print(f"{title:36} {seconds / len(scenes):6.1f} {computed_s / len(scenes):10.1f} {peak:8.0f}", flush=True)
            shutil.rmtree(folder / "prepared", ignore_errors=True)


if __name__ == "__main__":
    main()

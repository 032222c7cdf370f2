"""Spectral indices of a full-size scene: Mapgrove, the catalogue library spyndex, and plain NumPy, each by itself.

Every contender computes, one after the other, each index that a sensor with the bands of WorldView-3 can give and that
both catalogues have under one name, and throws it away. Seconds, peak memory beyond the bands, and pixels that are not
finite are counted in a process of its own. spyndex is no requirement; name the Python of an environment that has it:

    python3 -m venv /tmp/spyndex && /tmp/spyndex/bin/pip install spyndex numpy
    .venv/bin/python benchmarks/indices.py --spyndex /tmp/spyndex/bin/python
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

SHAPE = (3391, 3349)
LETTERS = {
    **{"A": "coastal", "B": "blue", "G": "green", "Y": "yellow", "R": "red", "RE1": "red_edge", "N": "nir"},
    **{"S1": "swir1", "S2": "swir2"},
}
"""spyndex's names of bands, and ours."""

Planes = dict[str, NDArray[np.float32]]


def peak_mb(since_now: bool = False) -> float:
    """Most memory that this process held, ever or since the last call with `since_now`."""
    if since_now:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1024


def bands(as_cube: bool) -> Planes:
    """Whole numbers as a sensor gives them, a few of them 0: one array per band, or slices of one cube."""
    rng = np.random.default_rng(0)
    cube = rng.integers(0, 2048, (*SHAPE, len(LETTERS)) if as_cube else (len(LETTERS), *SHAPE), np.uint16)
    planes = np.moveaxis(cube, -1, 0) if as_cube else cube
    return dict(zip(LETTERS.values(), planes if as_cube else planes.astype(np.float32), strict=True))


def as_mapgrove(planes: Planes) -> Callable[[str], NDArray[Any]]:
    """Ours."""
    from pipeline.imagery.indices import compute

    return lambda name: compute(name, planes)


def as_numpy(planes: Planes) -> Callable[[str], NDArray[Any]]:
    """What one would write by hand: the formula on whole float32 planes."""
    from pipeline.imagery.indices import INDICES

    compiled = {name: compile(index.formula, name, "eval") for name, index in INDICES.items()}

    def compute(name: str) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            return np.asarray(eval(compiled[name], {"__builtins__": {}}, planes))

    return compute


def as_spyndex(planes: Planes) -> Callable[[str], NDArray[Any]]:
    """Theirs, with the constants that they propose."""
    import spyndex

    theirs = {name.lower(): name for name in spyndex.indices}
    constants = {name: each.default for name, each in spyndex.constants.items()}
    params = {**constants, **{letter: planes[role] for letter, role in LETTERS.items()}}

    def compute(name: str) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            return np.asarray(spyndex.computeIndex(theirs[name], params))

    return compute


def as_spyndex_made_finite(planes: Planes) -> Callable[[str], NDArray[Any]]:
    """Theirs, with 0 where no value comes out."""
    compute = as_spyndex(planes)
    return lambda name: np.nan_to_num(compute(name), copy=False, posinf=0.0, neginf=0.0)


CONTENDERS = {
    "mapgrove": as_mapgrove,
    "mapgrove, slices of a cube": as_mapgrove,
    "numpy": as_numpy,
    "spyndex": as_spyndex,
    "spyndex, then nan_to_num": as_spyndex_made_finite,
}


def measure(contender: str, names: list[str]) -> dict[str, Any]:
    """Run one contender in this process."""
    planes = bands("cube" in contender)
    started = time.perf_counter()
    compute = CONTENDERS[contender](planes)
    import_s = time.perf_counter() - started
    before_mb, num_threads = peak_mb(since_now=True), threading.active_count()
    seconds, broken, num_not_finite = 0.0, 0, 0
    for name in names:
        started = time.perf_counter()
        plane = compute(name)
        seconds += time.perf_counter() - started
        bad = int(np.count_nonzero(~np.isfinite(plane)))
        broken, num_not_finite = broken + (bad > 0), num_not_finite + bad
        del plane
    return {
        "seconds": seconds,
        "per_index_s": seconds / len(names),
        "import_s": import_s,
        "extra_mb": peak_mb() - before_mb,
        "indices_not_finite": broken,
        "pixels_not_finite": num_not_finite,
        "threads": threading.active_count() - num_threads + 1,
    }


def shared_names(python: str) -> list[str]:
    """Indices that both catalogues have and that the bands give."""
    from pipeline.imagery.indices import INDICES, bands_for
    from pipeline.scene import DataError

    listing = "import spyndex; print(*(name.lower() for name in spyndex.indices))"
    theirs = set(INDICES)
    if python:
        theirs = set(subprocess.run([python, "-c", listing], check=True, capture_output=True, text=True).stdout.split())
    names = []
    for name in sorted(theirs & set(INDICES)):
        try:
            bands_for(name, tuple(LETTERS.values()))
        except DataError:
            continue
        names.append(name)
    return names


def main() -> None:
    """Run every contender in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spyndex", default="", metavar="PYTHON", help="an interpreter that can import spyndex")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--names", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(measure(options.contender, options.names.split(","))))
        return
    names = shared_names(options.spyndex)
    print(f"{len(names)} indices, {SHAPE[0]} x {SHAPE[1]} px")
    for contender in CONTENDERS:
        python = options.spyndex if "spyndex" in contender else sys.executable
        if not python:
            print("spyndex: left out; --spyndex PYTHON names an interpreter that has it")
            continue
        command = [python, __file__, "--contender", contender, "--names", ",".join(names)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f"{contender:28}", "  ".join(f"{key} {value:.4g}" for key, value in json.loads(done.stdout).items()))


if __name__ == "__main__":
    main()

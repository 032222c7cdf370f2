"""Check this machine, and, where a study is named, its data and its store; say how to mend what is wrong.

Examples:
  python run_search.py doctor
  python run_search.py doctor --study configs/demo.toml
  python run_search.py doctor --speed
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from search_space.errors import MapgroveError, UsageError
from search_space.study import Study
from verbs.common import (
    add_study,
    load_study,
    open_study_artifacts,
    open_study_store,
    refuse_set_without_study,
    say,
    split_text,
)

LEAST_FREE_GB = 2.0
CLOCK_S = 5.0

Check = tuple[str, Callable[[], str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser, required=False)
    parser.add_argument("--speed", action="store_true", help="measure how fast the device trains, for limits.epoch_s")


def run(options: argparse.Namespace) -> int:
    """Run every check, also after one failed."""
    refuse_set_without_study(options)
    study, missing = _study(options)
    num_threads = study.limits.trial_threads if study else 0
    checks: list[Check] = [("Python", _python), ("backend", lambda: _backend(num_threads))]
    if options.speed:
        checks.append(("speed", lambda: _speed(num_threads)))
    if study:
        checks += [
            ("rights and space", lambda: _disk(study)),
            ("data", lambda: _data(study)),
            ("store", lambda: _store(study)),
        ]
    elif missing:
        checks.append(("study", _failing(missing)))
    else:
        say("Name a study to check its data and its store too: doctor --study FILE")
    num_failed = sum(not _passes(name, check) for name, check in checks)
    return 1 if num_failed else 0


def _study(options: argparse.Namespace) -> tuple[Study | None, MapgroveError | None]:
    """The study that was named, and why it cannot be read: the store that knows it may be what is wrong."""
    try:
        return (load_study(options) if options.study else None), None
    except UsageError:
        raise
    except MapgroveError as error:
        return None, error


def _failing(error: MapgroveError) -> Callable[[], str]:
    def check() -> str:
        raise error

    return check


def _passes(name: str, check: Callable[[], str]) -> bool:
    try:
        say(f"ok      {name}: {check()}")
    except (MapgroveError, OSError) as error:
        say(f"FAILED  {name}: {error}")
        return False
    return True


def _python() -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _backend(num_threads: int) -> str:
    from pipeline.backend import NVIDIA_LIBRARIES, describe_devices, use_backend

    name, devices = use_backend(num_threads), describe_devices()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if shutil.which("nvidia-smi") and not hidden and not any(word in devices.lower() for word in ("gpu", "cuda")):
        raise MapgroveError(
            f"this machine has an NVIDIA GPU, and {name} does not see it",
            received=devices,
            remedy=NVIDIA_LIBRARIES[name],
        )
    return f"{name}, devices: {devices}"


def _speed(num_threads: int) -> str:
    from pipeline.networks.speed import measured_gflops

    of = f", by {num_threads} processor thread(s) as in the study's trials" if num_threads else ""
    return f"limits.device_gflops = {measured_gflops():.3g}{of}"


def _disk(study: Study) -> str:
    there = next(folder for folder in (study.folder, *study.folder.parents) if folder.exists())
    if not there.is_dir():
        raise MapgroveError(f"{study.folder} cannot be made, as {there} is a file", remedy="Name another study.folder")
    with tempfile.NamedTemporaryFile(dir=there):
        free_gb = shutil.disk_usage(there).free / 1e9
    if free_gb < LEAST_FREE_GB:
        raise MapgroveError(
            f"{study.folder} has little space left",
            received=f"{free_gb:.1f} GB",
            remedy="Free some, or set study.folder",
        )
    return f"{study.folder} can be written, {free_gb:.0f} GB free"


def _data(study: Study) -> str:
    from pipeline.datasets.table import open_dataset
    from pipeline.patches.room import split_of
    from pipeline.preparation.prepared import PreparedDataset
    from results.splits import split_line

    if not Path(study.prepared).is_dir():
        num_scenes = len(open_dataset(study.data).scene_ids)
        raise MapgroveError(f"{num_scenes} scenes are not prepared yet", remedy="Run `prepare`")
    dataset = PreparedDataset.open_for(study.data)
    fold = split_of(study, dataset)
    table = split_text(fold.split).replace("\n", "\n        ")
    return f"{len(dataset.scene_ids)} scenes prepared: {split_line(fold.split)}\n        {table}"


def _store(study: Study) -> str:
    from results.phrases import counted
    from trials_db.errors import StoreError

    try:
        with open_study_store(study) as store:
            store.probe()
            with open_study_artifacts(study) as artifacts:
                artifacts.probe()
            apart_s = abs(store.now() - time.time())
            # Only the store's time decides; a clock far off still confuses whoever reads logs.
            clock = f", its clock is {apart_s:.0f} s from this machine's" if apart_s > CLOCK_S else ""
            return f"{counted(len(store.list_studies()), 'study', 'studies')} in it, and it can be written{clock}"
    except StoreError as error:
        if study.folder.joinpath("trials.sqlite").exists() or study.study.store:
            raise
        return f"not made yet; `search` makes it ({error.what})"

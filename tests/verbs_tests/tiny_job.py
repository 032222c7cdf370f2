"""A whole study on tiny imagery, in whose folder verbs are run as a user runs them."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.verbs_tests.warm_verbs import WarmVerbs
from trials_db.opening import open_store
from trials_db.records import WorkerRecord

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240

STUDY = """
[study]
name = "tiny"
seed = 3
[data]
format = "masks"
folder = "imagery"
prepared = "prepared"
classes = ["bright", "dark"]
[data.options]
images = "images/*.png"
masks = "masks/*.png"
values = { bright = 1, dark = 2 }
ignore = [9]
[folds]
validation = ["b"]
test = ["c"]
[budget]
epochs = 2
steps_per_epoch = 4
[retrain]
epochs = 3
steps_per_epoch = 40
[limits]
max_trials = 4
max_parameters = 20000
trial_threads = 1
[search]
startup_trials = 2
lookahead = 2
[prediction]
instances = ["bright"]
[space]
"architecture.*" = { drop = true }
"architecture.depth" = { fix = 1 }
"architecture.base_filters" = { choices = [4, 64] }
"architecture.units_per_stage" = { fix = 1 }
"architecture.block" = { choices = ["plain", "residual"] }
"plan.patch_px" = { fix = 16 }
"plan.learning_rate" = { low = 5e-3 }
"plan.optimizer" = { choices = ["adam", "nadam", "rmsprop"] }
"plan.loss_details.*" = { drop = true }
"plan.clip_norm" = { drop = true }
"plan.warm_up" = { drop = true }
"plan.schedule" = { drop = true }
"plan.averaging" = { drop = true }
"""


def write_imagery(folder: Path) -> None:
    """Four grey scenes with a bright and a dark square, and a corner about which nothing is known."""
    rng = np.random.default_rng(0)
    for name in "abcd":
        image = rng.normal(110, 8, (72, 56, 3))
        mask = np.zeros((72, 56), np.uint8)
        for value, level in ((1, 220), (2, 20)):
            row, column = rng.integers(0, 40), rng.integers(0, 28)
            image[row : row + 24, column : column + 22] = level
            mask[row : row + 24, column : column + 22] = value
        mask[-6:, -6:] = 9
        for kind, array in (("images", np.clip(image, 0, 255).astype(np.uint8)), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / kind / f"{name}.png"), array)


class Job:
    """A folder with imagery and a study file, in which verbs are run.

    Args:
        folder: Gets both, unless they are there.
        warm: Starts what `run` runs; without it, each is started from nothing.
    """

    def __init__(self, folder: Path, warm: WarmVerbs | None = None) -> None:
        self.folder = folder
        self.warm = warm
        if not (folder / "tiny.toml").exists():
            write_imagery(folder / "imagery")
            (folder / "tiny.toml").write_text(STUDY, encoding="utf-8")

    @classmethod
    def copied(cls, source: Path, folder: Path, warm: WarmVerbs | None = None) -> "Job":
        """One that goes on in a copy of another one's folder."""
        shutil.copytree(source, folder, dirs_exist_ok=True)
        return cls(folder, warm)

    def like_this(self, folder: Path) -> "Job":
        """Another one of the same imagery, which is prepared there too."""
        for name in ("imagery", "prepared"):
            shutil.copytree(self.folder / name, folder / name)
        return Job(folder, self.warm)

    def command(self, verb: str, *words: str) -> list[str]:
        return [sys.executable, str(ROOT / "run_search.py"), verb, "--study", "tiny.toml", *words]

    def run(self, verb: str, *words: str, code: int = 0) -> str:
        if self.warm is None:
            return self.run_cold(verb, *words, code=code)
        found, told = self.warm.run([verb, "--study", "tiny.toml", *words], self.folder)
        assert found == code, told
        assert "Traceback" not in told
        return told

    def run_cold(self, verb: str, *words: str, code: int = 0) -> str:
        """Started from nothing."""
        done = subprocess.run(
            self.command(verb, *words), cwd=self.folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def trials(self, study: str = "tiny") -> list[dict[str, Any]]:
        self.run("trials", "--set", f'study.name="{study}"', "--json-lines", "trials.jsonl")
        return [json.loads(line) for line in (self.folder / "trials.jsonl").read_text(encoding="utf-8").splitlines()]


def essence(trials: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What must not depend on who ran a trial and when."""
    return [(t["number"], t["point"], t["seed"], t["state"], (t["outcome"] or {}).get("loss")) for t in trials]


def wait_for_a_running_trial(path: Path, study: str = "tiny") -> WorkerRecord:
    """Return the worker of some trial as soon as one runs."""
    for _ in range(600):
        if path.is_file():
            with open_store(f"sqlite:///{path}", create=False) as store:
                busy = [worker for worker in store.workers(study) if worker.trial is not None]
            if busy:
                return busy[0]
        time.sleep(0.1)
    raise AssertionError("no trial ever ran")


def until_said(process: "subprocess.Popen[str]", part: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if part in line:
            return
    raise AssertionError(f"{part!r} was never said")

"""The main job on tiny imagery, as a user runs it: real processes, a real store, a real network.

Each verb is started from nothing at least once; what is only asked for in between starts from `warm_verbs`.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.models.trial_model import read_about
from pipeline.preparation.normalisation import Normalisation
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.study_file import read_study
from tests.mongod import database_url
from tests.verbs_tests.warm_verbs import WarmVerbs
from trials_db.opening import open_store
from trials_db.records import WorkerRecord
from verbs.exit_codes import EXIT_INTERRUPTED

# The first test of each process waits for the search that they share.
pytestmark = pytest.mark.timeout(900)

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


NEAR = (
    'space."plan.patch_px"={fix=8}',
    'space."architecture.block"={fix="plain"}',
    'space."architecture.block[plain].kernel_px"={fix=3}',
    *(f'space."plan.augmentation.{name}"={{fix=0.0}}' for name in ("zoom", "shear", "elastic")),
)
"""Settings of small patches that look no farther than 5 px, so that blocks of 24 px have room for them."""


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


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmVerbs]:
    with WarmVerbs() as started:
        yield started


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, warm: WarmVerbs) -> Job:
    """A job whose search is complete, run by two workers in one go: a copy of what all processes of the tests share."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    searched = shared / "searched_job"
    with locked(shared / "searched_job.lock"):
        if not searched.exists():
            begun = Job(tmp_path_factory.mktemp("begun"))
            assert "4 scenes of 3 bands, 2 classes: 2 train, 1 validate, 1 test" in begun.run("prepare")
            assert "4 trials have ended" in begun.run("search", "--workers", "2")
            begun.folder.rename(searched)
    folder = tmp_path_factory.mktemp("job")
    shutil.copytree(searched, folder, dirs_exist_ok=True)
    return Job(folder, warm)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time is in the block."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.mark.slow
def test_search_tries_every_trial_once(job: Job) -> None:
    job.run_cold("trials", "--json-lines", "cold.jsonl")
    trials = job.trials()

    assert (job.folder / "cold.jsonl").read_bytes() == (job.folder / "trials.jsonl").read_bytes()
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
    assert {trial["state"] for trial in trials} <= {"done", "infeasible"}
    for trial in trials:
        wide = trial["candidate"]["architecture"]["base_filters"] == 64
        assert trial["attempts"] == 1
        assert (trial["state"] == "infeasible") == wide
        assert not wide or "more than limits.max_parameters = 20,000" in trial["outcome"]["reason"]
    assert any(trial["state"] == "done" for trial in trials)


@pytest.mark.slow
def test_a_finished_study_grows_only_when_its_limit_is_raised(job: Job, tmp_path: Path) -> None:
    before = job.trials()

    assert "4 trials have ended" in job.run("search", "--workers", "2")

    assert job.trials() == before


@pytest.mark.slow
def test_two_goes_on_mongodb_equal_one_go_on_sqlite(job: Job, mongo_url: str, tmp_path: Path) -> None:
    """The first by one worker, the second, after the limit was raised, by two."""
    other = job.like_this(tmp_path)
    store = ("--store", database_url(mongo_url, f"mapgrove_test_{uuid.uuid4().hex}"))

    def trials() -> list[dict[str, Any]]:
        other.run("trials", "--json-lines", "trials.jsonl", *store)
        return [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text(encoding="utf-8").splitlines()]

    other.run("search", "--workers", "1", "--set", "limits.max_trials=2", *store)
    assert len(trials()) == 2

    assert "4 trials have ended" in other.run("search", "--workers", "2", *store)

    assert essence(trials()) == essence(job.trials())
    assert "finished" in other.run("status", *store)
    assert not list(tmp_path.glob("runs/tiny/*.sqlite"))


@pytest.mark.slow
def test_ctrl_c_leaves_a_study_that_goes_on(job: Job, tmp_path: Path) -> None:
    other = job.like_this(tmp_path)
    with subprocess.Popen(
        other.command("search", "--workers", "1"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as search:
        wait_for_a_running_trial(tmp_path / "runs" / "tiny" / "trials.sqlite")
        search.send_signal(signal.SIGINT)
        told, _ = search.communicate(timeout=60)
    assert search.returncode == EXIT_INTERRUPTED, told
    assert "The same command goes on" in told
    assert not [trial for trial in other.trials() if trial["state"] == "running"], "a trial was not handed back"

    other.run("search", "--workers", "1")

    assert essence(other.trials()) == essence(job.trials())
    assert all(trial["lost_workers"] == 0 for trial in other.trials())


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ('space."plan.optimizer"={fix="adam"}', "space"),
        ("study.seed=4", "seed"),
        ("budget.epochs=3", "budget.epochs"),
        ('folds.validation=["a"]', "folds.validation"),
    ],
)
def test_a_study_that_exists_with_other_settings_is_refused(job: Job, assignment: str, told: str) -> None:
    before = job.trials()
    saved = (job.folder / "runs" / "tiny" / "study.json").read_bytes()

    message = job.run("search", "--set", assignment, code=1)

    assert told in message
    assert "another name" in message
    assert job.trials() == before
    assert (job.folder / "runs" / "tiny" / "study.json").read_bytes() == saved


@pytest.mark.slow
def test_the_rest_of_the_job(job: Job) -> None:
    folder = job.folder / "runs" / "tiny"
    assert "finished" in job.run_cold("status")
    assert json.loads(job.run("status", "--json"))["counts"]["running"] == 0
    assert "Architecture" in job.run_cold("show", "best")
    job.run_cold("retrain")
    [model] = (folder / "models" / "bright").glob("*.keras")
    made_ns = model.stat().st_mtime_ns
    assert "2 trainings of 2 done before" in job.run("retrain")
    assert model.stat().st_mtime_ns == made_ns, "trained twice for nothing"
    status = job.run("status", "--study", "tiny@retrain")
    assert "2 of 2 trainings" in status
    assert "bright" in status

    job.run_cold("predict", "test")
    made = {path.name for path in (folder / "predictions" / "c").iterdir()}
    drawn = {"probabilities.tif", "masks.tif", "instances.tif", "overlay.png", "comparison.png"}
    assert made == {*drawn, "polygons.geojson", "map.json"}
    scores = json.loads(job.run_cold("score", "--json"))
    assert scores["fold"] == "test"
    assert scores["jaccard"]["bright"] > 0.6
    things = scores["polygons"]["bright"]
    assert (things["counts"]["tp"] + things["counts"]["fn"], things["truth"]) == (1, "masks")
    assert set(scores["polygons"]) == {"bright"}
    assert (scores["threshold_from"], scores["models_saw"]) == ("validation", "nothing")
    assert "Report:" in job.run_cold("report")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "tiny" in page
    assert "data:image/png;base64," in page

    assert "mapped before" in job.run("predict", "test")

    job.run("retrain", "--set", "retrain.epochs=1", "--set", "retrain.steps_per_epoch=3")
    told = job.run("score", "--set", "retrain.epochs=1", code=1)
    assert "drawn by other models" in told
    assert "Run: python run_search.py predict --study tiny.toml --set retrain.epochs=1 test." in told
    told = job.run("report")
    assert "score is one of earlier models" in told
    assert "map of c was drawn by earlier models" in told
    page = (folder / "report.html").read_text(encoding="utf-8")
    asked = "--set retrain.epochs=1 --set retrain.steps_per_epoch=3"
    assert f"python run_search.py retrain --study tiny.toml {asked}\n" in page


@pytest.mark.slow
def test_a_search_starts_from_known_candidates(job: Job) -> None:
    begun = ("--set", 'study.name="begun"', "--set", "limits.max_trials=1")
    told = job.run("search", "--workers", "1", *begun, "--start-from", "vooban,default,ternaus,unet-2015")

    assert "The first trials start from default, as near as the space allows" in told
    assert "Not in this study's space, and left out: vooban" in told
    assert "More than limits.max_trials, and left out: ternaus, unet-2015" in told
    (trial,) = job.trials("begun")
    tried = decode(Candidate, trial["candidate"], where="trial")
    own = Candidate()
    expected = own.architecture.model_copy(update={"depth": 1, "base_filters": 4, "units_per_stage": 1})
    assert tried.architecture == expected, "what the space leaves free is as the candidate has it"
    assert tried.plan == own.plan.model_copy(
        update={"patch_px": 16, "learning_rate": max(5e-3, own.plan.learning_rate)}
    )
    assert "search.start_from" in job.run("search", *begun, "--start-from", "ternaus", code=1)


@pytest.mark.slow
def test_a_recipe_from_a_file_is_trained_without_a_search(job: Job) -> None:
    (job.folder / "mine.toml").write_text(
        'source = "our own"\n'
        # More weights than a search here may have; but this one is asked for by name.
        "[architecture]\ndepth = 1\nbase_filters = 24\nunits_per_stage = 1\n"
        "[plan]\npatch_px = 16\nlearning_rate = 0.01\n",
        encoding="utf-8",
    )
    words = ("--set", 'study.name="unsearched"', "--set", "retrain.epochs=1")

    told = job.run("retrain", "--recipe", "mine.toml", "--classes", "bright", *words)

    assert "bright: mine.toml, validation Jaccard" in told
    [member] = json.loads((job.folder / "runs/unsearched/models/model_set.json").read_text())["members"]
    assert member["figures"]["num_parameters"] > 20_000
    assert "bright" in job.run("predict", "test", *words)
    told = job.run("retrain", "--recipe", "ternous", *words, code=2)
    assert "Did you mean 'ternaus'?" in told
    strange = job.folder / "strange.toml"
    strange.write_text('source = "x"\n[architecture]\n[plan.loss_details.class_weights]\nbrigth = 2\n')
    told = job.run("retrain", "--recipe", "strange.toml", *words, code=2)
    assert "class that the study does not have. Received 'brigth'. Did you mean 'bright'?" in told
    small = ("--set", "limits.device_memory_mb=500")
    told = job.run("retrain", "--recipe", "unet-2015", *words, *small, code=1)
    assert "MB, more than limits.device_memory_mb = 500" in told


@pytest.mark.slow
def test_a_study_on_blocks_goes_all_the_way(job: Job) -> None:
    """Each scene of 72 x 56 px is cut into 3 x 2 blocks."""

    def words(fold: int) -> list[str]:
        folds = f'folds={{num_folds=3, fold={fold}, test_fold=3, unit="block", block_px=24}}'
        few = (
            *NEAR,
            "limits.max_trials=1",
            'space."architecture.base_filters"={fix=4}',
            "retrain.steps_per_epoch=4",
        )
        return [word for each in ('study.name="cut"', folds, *few) for word in ("--set", each)]

    told = job.run("prepare", *words(1))
    assert "8 blocks train, 8 validate, 8 test, 0 scenes without labelled pixels" in told
    assert "1 validation" in told
    assert "3 test" in job.run("doctor", *words(1))
    job.run("search", "--workers", "1", *words(1))
    assert "folds.fold" in job.run("search", "--workers", "1", *words(2), code=1)
    job.run("retrain", *words(1))
    job.run("predict", "test", *words(1))

    score = json.loads(job.run("score", "--json", *words(1)))

    assert sum(len(each["blocks_px"]) for each in score["ground"]) == 8
    assert all(0 < each["known_share"] < 1 for each in score["ground"])
    assert score["absent"] == []
    corners = [block for each in score["ground"] for block in each["blocks_px"]]
    num_px = sum((bottom - top) * (right - left) for top, left, bottom, right in corners)
    assert num_px >= sum(score["counts"]["bright"].values())
    told = job.run("score", *words(1))
    assert "test blocks" in told
    assert "whose labels had no part in training or in any choice" in told
    job.run("report", *words(1))
    page = (job.folder / "runs" / "cut" / "report.html").read_text(encoding="utf-8")
    assert "fold 1 of 3, dealt in blocks of about 24 px" in page
    assert "<h2>Folds</h2>" in page


@pytest.mark.slow
def test_two_images_of_one_name_are_not_mapped_into_one_folder(job: Job, tmp_path: Path) -> None:
    job.run("retrain")
    image = job.folder / "imagery" / "images" / "a.png"
    (tmp_path / "a.png").write_bytes(image.read_bytes())

    assert "both be mapped" in job.run("predict", str(image), str(tmp_path / "a.png"), code=1)


@pytest.mark.slow
def test_models_that_cannot_be_used_are_made_anew_or_leave_the_set(job: Job) -> None:
    quick = ("--set", "retrain.epochs=1", "--set", "retrain.steps_per_epoch=2")
    home = job.folder / "runs" / "tiny"
    models = home / "models"
    job.run("retrain", *quick)
    [model] = (models / "bright").glob("*.keras")
    model.write_bytes(model.read_bytes()[:1000])
    (models / "model_set.json").write_text("{", encoding="utf-8")
    assert "model_set.json cannot be read" in job.run("predict", "b", code=1)

    # The trainings are done, and their models lie in the store as well.
    assert "2 trainings of 2 done before" in job.run("retrain", *quick)
    assert "dark" in job.run("predict", "b")

    with open_store(f"sqlite:///{home / 'trials.sqlite'}", create=False) as store:
        number = store.trials("tiny@retrain")[-1].number
    [kept] = (home / "artifacts" / "tiny@retrain").glob(f"{number:04d}/*/model.keras")
    kept.write_bytes(kept.read_bytes()[:1000])
    other = ("--classes", "dark", "--set", 'folds.validation=["a"]')
    told = job.run("retrain", *quick)
    assert f"The model of training {number} is damaged, and not used" in told
    assert "1 training of 2 done before" in told
    told = job.run("retrain", *other, *quick)
    assert "bright: not used: trained on other data or folds" in told
    members = json.loads((models / "model_set.json").read_text(encoding="utf-8"))["members"]
    assert [member["class_name"] for member in members] == ["dark"]


@pytest.mark.slow
def test_a_retraining_that_was_interrupted_goes_on_with_the_workers_of_the_study(job: Job) -> None:
    words = ("--classes", "bright", "--folds", "3", "--set", "retrain.epochs=2", "--set", "retrain.steps_per_epoch=2")
    begun = subprocess.Popen(job.command("retrain", *words), cwd=job.folder, stdout=subprocess.PIPE, text=True)
    with begun:
        until_said(begun, "fold 1 of 3: epoch 1/2")
        begun.send_signal(signal.SIGINT)
        assert begun.stdout is not None
        said = begun.stdout.read()
        assert begun.wait(timeout=60) == EXIT_INTERRUPTED, said
    assert "The same command goes on" in said

    with subprocess.Popen(job.command("worker", "--name", "ours"), cwd=job.folder) as worker:
        try:
            told = job.run("retrain", *words, "--workers", "0")
        finally:
            worker.send_signal(signal.SIGINT)
    assert "bright: 3 models of trial" in told
    assert "over folds at threshold" in told
    with open_store(f"sqlite:///{job.folder / 'runs' / 'tiny' / 'trials.sqlite'}", create=False) as store:
        trials = [each for each in store.trials("tiny@retrain") if each.task and each.task["num_folds"]]
    assert [trial.task["fold"] for trial in trials if trial.task] == [1, 2, 3]
    assert {str(trial.state) for trial in trials} == {"done"}
    assert trials[-1].worker == "ours"
    assert all(trial.lost_workers == 0 for trial in trials)
    assert [report.epoch for report in trials[0].reports] == [1, 2], "it went on after its first epoch"


@pytest.mark.slow
def test_a_search_without_any_result_fails(job: Job) -> None:
    told = job.run(
        *("search", "--workers", "1", "--set", "limits.max_parameters=10", "--set", 'study.name="hopeless"'),
        *("--set", "limits.max_trials=2"),
        code=1,
    )

    assert "2 trials of hopeless ended, none with a result" in told
    assert "more than limits.max_parameters = 10" in told
    assert "Next: run_search.py retrain" not in told


@pytest.mark.slow
def test_data_that_go_away_do_not_cost_the_search_its_trials(job: Job) -> None:
    prepared, away = job.folder / "prepared", job.folder / "away"
    words = ("search", "--workers", "1", "--set", 'study.name="robbed"', "--set", "search.lease_s=5")
    words = (*words, "--set", "limits.max_trials=2")
    with subprocess.Popen(
        job.command(*words), cwd=job.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as search:
        wait_for_a_running_trial(job.folder / "runs" / "robbed" / "trials.sqlite", "robbed")
        prepared.rename(away)
        told, _ = search.communicate(timeout=TIMEOUT_S)
    away.rename(prepared)

    assert search.returncode == 1, told
    assert "prepared data cannot be used" in told
    assert "1 failed" not in told

    job.run(*words)
    assert essence(job.trials("robbed")) == essence(job.trials())[:2]


@pytest.mark.slow
def test_an_image_beside_the_data_set_is_mapped_by_a_moved_model_set(job: Job, tmp_path: Path) -> None:
    job.run("retrain")
    moved = tmp_path / "moved"
    (job.folder / "runs" / "tiny" / "models").rename(moved)
    try:
        card = (moved / "MODEL_CARD.md").read_text(encoding="utf-8")
        _, program, *words = next(line for line in card.splitlines() if "--models FOLDER" in line).split()
        places = {"FOLDER": str(moved), "IMAGE": str(job.folder / "imagery" / "images" / "a.png")}
        done = subprocess.run(
            [sys.executable, str(ROOT / program), *(places.get(word, word) for word in words)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "maps" / "a" / "overlay.png").is_file()
    finally:
        moved.rename(job.folder / "runs" / "tiny" / "models")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_is_stopped_by_hand_says_so_by_its_exit_code(job: Job, number: signal.Signals) -> None:
    with subprocess.Popen(
        job.command("worker", "--name", "by_hand"),
        cwd=job.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as worker:
        with open_store(f"sqlite:///{job.folder / 'runs' / 'tiny' / 'trials.sqlite'}", create=False) as store:
            while not any(each.name == "by_hand" for each in store.workers("tiny")):
                assert worker.poll() is None, "it left before it was told to"
                time.sleep(0.1)
        worker.send_signal(number)
        told, _ = worker.communicate(timeout=60)

    assert worker.returncode == EXIT_INTERRUPTED, told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_trial_ends_once(job: Job, tmp_path: Path) -> None:
    other = job.like_this(tmp_path)
    with subprocess.Popen(
        other.command("search", "--workers", "1", "--set", "search.lease_s=2", "--set", "limits.max_trials=2"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as search:
        worker = wait_for_a_running_trial(tmp_path / "runs" / "tiny" / "trials.sqlite")
        os.kill(worker.pid, signal.SIGKILL)
        told, _ = search.communicate(timeout=TIMEOUT_S)

    assert search.returncode == 0, told
    assert "was killed by signal 9; starting another" in told
    trials = other.trials()
    assert [trial["state"] in ("done", "infeasible") for trial in trials] == [True, True]
    assert sum(trial["lost_workers"] for trial in trials) == 1


@pytest.mark.slow
def test_a_study_moves_to_another_store_and_back(job: Job, mongo_url: str) -> None:
    """From SQLite to MongoDB, and its file is the same to the letter when it comes from there."""
    store = database_url(mongo_url, f"mapgrove_test_{uuid.uuid4().hex}")
    assert "study tiny with 4 trials" in job.run("trials", "export", "tiny.jsonl")

    def moved(*more: str, code: int = 0) -> str:
        assert job.warm is not None
        found, told = job.warm.run(["trials", "import", *more], job.folder)
        assert found == code, told
        return told

    assert "Study tiny: 4 trials added" in moved("tiny.jsonl", "--store", store)
    assert "0 trials added, 4 trials were there already" in moved("tiny.jsonl", "--store", store)
    job.run("trials", "export", "back.jsonl", "--store", store)
    assert (job.folder / "back.jsonl").read_text() == (job.folder / "tiny.jsonl").read_text()
    there, back = (
        {path.relative_to(folder): path.read_bytes() for path in folder.glob("**/*") if path.is_file()}
        for folder in (job.folder / "tiny.jsonl.artifacts", job.folder / "back.jsonl.artifacts")
    )
    assert [path.name for path in there] == ["model.keras"]
    assert back == there, "the kept model goes with its study, there and back"
    whole = (job.folder / "tiny.jsonl").read_text()
    (job.folder / "back.jsonl").write_text(whole[: whole.rindex("{")])
    assert "was cut off" in moved("back.jsonl", "--store", store, code=1)
    assert "trials import needs a file" in moved(code=2)


@pytest.mark.slow
def test_one_command_serves_a_machine_and_proposals_follow_its_workers(job: Job) -> None:
    """Without a lookahead; trials that do worse than the others end early; the search ends by its patience."""
    words = [
        *("--set", 'study.name="farm"', "--set", "search.lookahead=0", "--set", "limits.max_trials=40"),
        *("--set", "limits.patience=6", "--set", 'space."architecture.base_filters"={fix=4}'),
        # Long enough that each epoch is validated.
        *("--set", 'pruning={kind="halving", factor=2, least_trials=1}', "--set", "budget.steps_per_epoch=5"),
        *("--set", 'space."plan.batch_size"={fix=16}'),
    ]
    with subprocess.Popen(job.command("search", *words), cwd=job.folder, stdout=subprocess.PIPE, text=True) as master:
        assert master.stdout is not None
        until_said(master, "No worker serves it yet")
        told = job.run_cold("worker", "--workers", "2", "--name", "box", "--idle-exit-s", "8", *words)
        said = master.stdout.read()
        assert master.wait(timeout=TIMEOUT_S) == 0, said
    assert "2 workers: box/0, box/1" in told
    assert "limits.patience is 6" in said
    trials = job.trials("farm")
    assert 7 <= len(trials) < 40
    assert {trial["worker"] for trial in trials} == {"box/0", "box/1"}
    states = [trial["state"] for trial in trials]
    assert set(states) == {"done", "pruned"}
    for trial in trials:
        assert len(trial["reports"]) == (2 if trial["state"] == "done" else 1)
        assert not list((job.folder / "runs/farm/trials" / f"{trial['number']:04d}").glob("checkpoint*"))
    status = job.run("status", *words)
    assert "none proposes now" in status
    assert "limits.patience is 6" in status


def until_said(process: "subprocess.Popen[str]", part: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if part in line:
            return
    raise AssertionError(f"{part!r} was never said")


@pytest.mark.slow
def test_the_best_model_of_a_search_can_be_used(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    told = job.run("trials", "model", "best.keras")
    monkeypatch.chdir(job.folder)
    about = read_about(Path("best.keras"))
    best = next(each for each in job.trials() if each["number"] == about.trial)
    assert f"the model of trial {about.trial}, validation Jaccard bright" in told
    losses = [each["outcome"]["loss"] for each in job.trials() if each["state"] == "done"]
    assert best["outcome"]["loss"] == min(losses)
    assert about.candidate == decode(Candidate, best["candidate"], where="")

    import keras

    import pipeline.networks.keras_layers  # noqa: F401
    from pipeline.study_data import StudyData
    from pipeline.validation.whole_ground import validate

    data = StudyData.open(read_study(Path("tiny.toml")))
    normalisation = Normalisation(about.candidate.plan.scaling, about.numbers)
    scenes = data.scenes(data.fold.validation, about.classes, normalisation)
    model = keras.models.load_model("best.keras")
    plan, net = about.candidate.plan, about.candidate.architecture
    again = validate(model, scenes, about.classes, tile_px=plan.patch_px, margin_px=net.margin_px)
    assert again.jaccard == pytest.approx(best["outcome"]["jaccard"], abs=1e-3)
    assert again.thresholds == pytest.approx(about.thresholds, abs=0.01)
    other = next(each["number"] for each in job.trials() if each["number"] != about.trial)
    message = job.run("trials", "model", "x.keras", "--trial", str(other), code=1)
    assert f"no model of trial {other} was kept" in message
    assert f"Kept are those of: {about.trial};" in message


@pytest.mark.slow
def test_one_against_the_rest(job: Job, tmp_path: Path) -> None:
    shutil.copytree(job.folder, tmp_path, dirs_exist_ok=True)
    few = ("--set", "limits.max_trials=2", "--set", "retrain.epochs=1")
    begun = ("--one-vs-all", "--start-from", "study:tiny", *few)

    own = Job(tmp_path, job.warm)

    told = own.run("search", "--workers", "2", *begun)

    assert "4 trials have ended" in told
    again = own.run("search", *begun)
    assert "4 trials have ended" in again, "the same command goes on"
    assert "worker --study" not in again, "nobody is wanted for what is over"
    with open_store(f"sqlite:///{tmp_path}/runs/tiny/trials.sqlite", create=False) as store:
        assert [name for name in store.list_studies() if "@" not in name] == ["tiny", "tiny/bright", "tiny/dark"]
        whole = [trial for trial in store.trials("tiny") if trial.outcome and trial.outcome.jaccard]
        losses = {}
        for name in ("bright", "dark"):
            first, _ = store.trials(f"tiny/{name}")
            assert first.outcome
            assert set(first.outcome.jaccard) == {name}
            best = max(whole, key=lambda trial: trial.outcome.jaccard[name] if trial.outcome else 0.0)
            assert first.candidate == best.candidate
            assert first.outcome.figures["num_parameters"] == best.outcome.figures["num_parameters"] - 5
            every = {("", each.number): each.outcome.jaccard[name] for each in whole if each.outcome}
            ended = [each for each in store.trials(f"tiny/{name}") if each.outcome and each.outcome.jaccard]
            every |= {(f"tiny/{name}", each.number): each.outcome.jaccard[name] for each in ended if each.outcome}
            losses[name] = every
    own.run("retrain", "--per-class", *few)
    members = json.loads((tmp_path / "runs/tiny/models/model_set.json").read_text())["members"]
    for member in members:
        every = losses[member["class_name"]]
        assert every[member["study"], member["trial"]] == max(every.values())
    # By name, as a study that was moved may be looked for where it went.
    store_words = ("--store", "sqlite:///runs/tiny/trials.sqlite")
    assert job.warm is not None
    _, shown = job.warm.run(["status", "--study", "tiny/*", "--json", *store_words], tmp_path)
    assert [each["study"] for each in json.loads(shown)] == ["tiny/bright", "tiny/dark"]
    assert "Classes: bright, dark" in own.run("search", "--one-vs-all", "--classes", "grey", code=2)

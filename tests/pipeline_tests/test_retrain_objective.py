"""What one training of a retraining leaves: the model of one class, from the ground, the seed and the budget it was
told; and what it refuses."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest

from pipeline.files import sha256_of
from pipeline.models.earlier_models import earlier_models
from pipeline.models.finished_training import FinishedTraining
from pipeline.models.model_set import LoadedModelSet
from pipeline.models.model_set_writing import assemble
from pipeline.models.trial_model import read_about
from pipeline.patches.sampler import PatchSampler
from pipeline.preparation.prepare import prepare
from pipeline.preparation.prepared import PreparedDataset
from pipeline.retrain_objective import RetrainObjective, start_file
from pipeline.study_data import StudyData, ground_of
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.errors import InfeasibleError, MapgroveError, UnableError
from search_space.objective import CHECKPOINT_FILE, MODEL_FILE, START_FILE, EpochReport, Outcome
from search_space.prediction import PredictionSettings
from search_space.records import ModelSet
from search_space.study import Study
from search_space.task import Task
from search_space.training_plan import Scaling

STUDY = {
    "study": {"name": "tiny@retrain"},
    "folds": {"validation": ["b"]},
    "budget": {"epochs": 1, "steps_per_epoch": 1},
    "retrain": {"epochs": 7, "steps_per_epoch": 7},
    "limits": {"max_trials": 1, "trial_threads": 1},
}


def candidate(scaling: Scaling | None = None, **architecture: Any) -> Candidate:
    net = {"depth": 1, "base_filters": 4, "units_per_stage": 1, **architecture}
    plan = {"patch_px": 16, "batch_size": 2, "scaling": (scaling or Scaling()).model_dump()}
    return decode(Candidate, {"architecture": net, "plan": plan}, where="test")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Four prepared scenes with a bright and a dark square, but for the last, which lacks the dark one."""
    folder = tmp_path_factory.mktemp("tiny")
    for seed, name in enumerate("abcd"):
        image = np.random.default_rng(seed).normal(110, 8, (24, 32, 3))
        mask = np.zeros((24, 32), np.uint8)
        for value, level in ((1, 220), (2, 20))[: 1 if name == "d" else 2]:
            image[4:14, 14 * value - 12 : 14 * value] = level
            mask[4:14, 14 * value - 12 : 14 * value] = value
        for kind, array in (("images", np.clip(image, 0, 255).astype(np.uint8)), ("masks", mask)):
            (folder / kind).mkdir(exist_ok=True)
            assert cv2.imwrite(str(folder / kind / f"{name}.png"), array)
    data = {
        "format": "masks",
        "folder": str(folder),
        "prepared": str(folder / "prepared"),
        "classes": ["bright", "dark"],
        "options": {"images": "images/*.png", "masks": "masks/*.png", "values": {"bright": 1, "dark": 2}},
    }
    study = decode(Study, {**STUDY, "data": data}, where="test")
    prepare(study.data)
    return study


@dataclass
class Context:
    """What a worker gives a trial."""

    folder: Path
    task: Task | None
    number: int = 3
    seed: int = 5
    reports: list[EpochReport] = field(default_factory=list)
    told_again: list[int] = field(default_factory=list)

    def report(self, report: EpochReport) -> None:
        self.reports.append(report)

    def restored(self, reports: Sequence[EpochReport]) -> None:
        self.told_again += [report.epoch for report in reports]

    def warn(self, text: str) -> None:
        raise AssertionError(text)


def task(class_name: str = "bright", epochs: int = 1, **values: Any) -> Task:
    return Task(class_name=class_name, epochs=epochs, steps_per_epoch=2, **values)


def trained(
    study: Study, folder: Path, wish: Task, tried: Candidate | None = None, seed: int = 5
) -> tuple[Context, Outcome]:
    folder.mkdir(parents=True, exist_ok=True)
    context = Context(folder, wish, seed=seed)
    return context, RetrainObjective(study)(tried or candidate(), context)


Trained = tuple[Path, Context, Outcome]


@pytest.fixture(autouse=True, scope="module")
def _threads_are_those_of_the_tests() -> Iterator[None]:
    """TensorFlow takes no other number once it has computed anything, as it has for other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.retrain_objective.use_backend", lambda: None)
        yield


@pytest.fixture(scope="module")
def first(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training of the bright class on the study's own split, by a search whose limits it is far beyond."""
    folder = tmp_path_factory.mktemp("first")
    limits = study.limits.model_copy(update={"max_parameters": 10, "epoch_s": 1e-9, "device_gflops": 1e-3})
    wish = task(epochs=2, recipe="vooban", prediction=PredictionSettings(symmetries="none"))
    return folder, *trained(study.model_copy(update={"limits": limits}), folder, wish)


@pytest.mark.slow
def test_a_training_does_as_its_task_says(study: Study, first: Trained) -> None:
    folder, context, outcome = first
    assert [report.epoch for report in context.reports] == [1, 2], "the task's budget, not the study's"
    about = read_about(folder / MODEL_FILE)
    assert (about.study, about.trial, about.classes, about.candidate) == ("tiny@retrain", 3, ("bright",), candidate())
    assert (about.recipe, about.prediction) == ("vooban", PredictionSettings(symmetries="none"))
    assert about.validation_fingerprint == StudyData.open(study).fold.validation_fingerprint
    assert outcome.jaccard == about.jaccard
    assert outcome.loss == pytest.approx(1.0 - outcome.jaccard["bright"])
    assert outcome.figures["num_parameters"] > 10
    assert list(about.counts["bright"]) == ["b"], "the study's own validation ground"
    known = int(np.asarray(PreparedDataset.open_for(study.data).scene("b").known).sum())
    assert int(np.sum(about.counts["bright"]["b"])) == known


@pytest.mark.slow
def test_a_training_that_was_cut_off_goes_on_and_that_of_another_fold_does_not(
    study: Study, first: Trained, tmp_path: Path
) -> None:
    folds = {StudyData.open(study, n, 4).fold.scene_ids("validation"): n for n in (1, 2, 3, 4)}
    shutil.copy(first[0] / CHECKPOINT_FILE, tmp_path)

    context, _ = trained(study, tmp_path, task(epochs=3))
    assert (context.told_again, [report.epoch for report in context.reports]) == ([1, 2], [3])
    context, _ = trained(study, tmp_path, task(fold=folds["c",], num_folds=4))
    assert (context.told_again, [report.epoch for report in context.reports]) == ([], [1])
    assert list(read_about(tmp_path / MODEL_FILE).counts["bright"]) == ["c"]
    without = folds["d",]
    with pytest.raises(InfeasibleError, match=rf"no validation ground of fold {without} of 4 has dark"):
        trained(study, tmp_path / "none", task("dark", fold=without, num_folds=4))


def test_what_a_training_refuses(study: Study, tmp_path: Path) -> None:
    with pytest.raises(MapgroveError, match="a trial of a retraining without a task"):
        RetrainObjective(study)(candidate(), Context(tmp_path, None))
    with pytest.raises(UnableError, match="not those that `retrain` was called with: start the worker again"):
        trained(study, tmp_path, task(ground="0123456789abcdef"))
    limited = study.model_copy(update={"limits": study.limits.model_copy(update={"device_memory_mb": 1})})
    with pytest.raises(InfeasibleError, match=r"MB, more than limits\.device_memory_mb = 1"):
        trained(limited, tmp_path, task())
    gone = study.model_copy(update={"data": study.data.model_copy(update={"prepared": str(tmp_path / "gone")})})
    with pytest.raises(UnableError, match="the prepared data cannot be used"):
        trained(gone, tmp_path, task())
    assert not list(tmp_path.iterdir())


def test_other_weights_than_those_that_were_meant_are_not_begun_with(study: Study, tmp_path: Path) -> None:
    weights = tmp_path / "vgg.h5"
    encoder = {"kind": "vgg16", "weights": str(weights)}
    tried = candidate(encoder=encoder)
    meant = task(weights="0" * 64)
    with pytest.raises(UnableError, match=r"there is no file .*vgg\.h5 here"):
        trained(study, tmp_path / "t", meant, tried)
    weights.write_bytes(b"others")
    with pytest.raises(UnableError, match=r"vgg\.h5 is not here the file that `retrain` was called with"):
        trained(study, tmp_path / "t", meant, tried)


def test_a_training_starts_from_the_model_it_was_told_and_no_other(tmp_path: Path) -> None:
    assert start_file(tmp_path, task()) is None
    (tmp_path / START_FILE).write_bytes(b"a model")
    wish = task(start=sha256_of(tmp_path / START_FILE))
    assert start_file(tmp_path, wish) == tmp_path / START_FILE
    for change in (lambda: (tmp_path / START_FILE).write_bytes(b"another"), (tmp_path / START_FILE).unlink):
        change()
        with pytest.raises(MapgroveError, match="the model that training starts from is not kept"):
            start_file(tmp_path, wish)


@pytest.mark.slow
def test_a_training_begins_with_the_weights_of_the_model_it_was_told(
    study: Study, first: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a step too short to change anything, the network of another class is that of the first but for its head."""
    source = first[0] / MODEL_FILE
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / START_FILE).write_bytes(source.read_bytes())
    still = candidate()
    still = still.model_copy(update={"plan": still.plan.model_copy(update={"learning_rate": 1e-12})})
    with caplog.at_level(logging.INFO):
        trained(study, tmp_path / "next", task("dark", start=sha256_of(source)), still, seed=9)
    assert "layers of bright of study tiny@retrain; bands known: blue, green, red; classes new: dark" in caplog.text
    models = [keras.saving.load_model(path, compile=False) for path in (source, tmp_path / "next" / MODEL_FILE)]
    kernels = [{w.path: np.asarray(w) for w in model.trainable_weights} for model in models]
    assert kernels[0].keys() == kernels[1].keys()
    for name in kernels[0]:
        alike = np.allclose(kernels[0][name], kernels[1][name], atol=1e-6)
        assert alike != name.startswith("head_masks_conv1/kernel") or name.endswith("bias"), name


@pytest.mark.slow
def test_a_training_that_diverges_late_leaves_its_best_epoch(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried again from the same seed it would end in the same place, and hours be lost for ever."""
    told: list[str] = []

    class Poisoned(PatchSampler):
        def batch(self, number: int) -> Any:
            bands, targets = super().batch(number)
            return (bands * np.nan if number >= 45 else bands), targets

    class Warned(Context):
        def warn(self, text: str) -> None:
            told.append(text)

    monkeypatch.setattr("pipeline.training.train.PatchSampler", Poisoned)
    wish = Task(class_name="bright", epochs=4, steps_per_epoch=20)
    context = Warned(tmp_path, wish)
    outcome = RetrainObjective(study)(candidate(), context)

    best = max(context.reports, key=lambda report: report.jaccard.get("bright", 0.0))
    assert [report.epoch for report in context.reports] == [1, 2]
    assert (outcome.state, outcome.jaccard) == ("done", best.jaccard)
    assert (outcome.figures["diverged_in_epoch"], outcome.figures["best_epoch"]) == (3.0, best.epoch)
    assert told == [f"diverged in epoch 3; epoch {best.epoch} is kept"]
    about = read_about(tmp_path / MODEL_FILE)
    assert about.jaccard == best.jaccard
    weights = keras.saving.load_model(tmp_path / MODEL_FILE, compile=False).get_weights()
    assert all(np.isfinite(each).all() for each in weights)


@pytest.mark.slow
def test_classes_that_were_retrained_before_stay_in_the_set_while_they_may(
    study: Study, first: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    searched = study.model_copy(update={"study": study.study.model_copy(update={"name": "tiny"})})
    fingerprint = PreparedDataset.open_for(study.data).fingerprint
    models = tmp_path / "models"

    def retrained(wish: Task, tried: Candidate, folder: Path) -> ModelSet:
        return assemble(searched, [FinishedTraining(wish, tried, folder / MODEL_FILE)], models, keeps_others=True)

    assert earlier_models(searched, models, fingerprint, []).finished == (), "there is no set"
    flips = PredictionSettings(symmetries="flips")
    retrained(task(trial=7, prediction=flips), candidate(), first[0])
    by_scene = candidate(Scaling(kind="bytes", scope="scene"))
    trained(study, tmp_path / "dark", task("dark"), by_scene)
    bright, dark = retrained(task("dark"), by_scene, tmp_path / "dark").members
    assert (bright.class_name, dark.class_name) == ("bright", "dark")
    assert bright.numbers is not None
    assert (len(bright.numbers.mean), bright.trial, bright.prediction) == (3, 7, flips)
    assert dark.numbers is None
    scene = PreparedDataset.open_for(study.data).scene("c")
    maps = LoadedModelSet.open(models).predict(scene, PredictionSettings())
    assert maps.shape == (24, 32, 2)
    assert np.isfinite(maps).all()

    other_folds = searched.model_copy(update={"folds": study.folds.model_copy(update={"validation": ("a",)})})
    for now, data in ((other_folds, fingerprint), (searched, "other data")):
        caplog.clear()
        assert earlier_models(now, models, data, ["dark"]).finished == ()
        assert "bright: not used: trained on other data or folds" in caplog.text
    file = models / bright.file
    file.write_bytes(file.read_bytes()[:100])
    caplog.clear()
    kept = earlier_models(searched, models, fingerprint, [])
    assert [each.task.class_name for each in kept.finished] == ["dark"]
    assert "bright: not used: a model is damaged" in caplog.text
    (models / "model_set.json").write_text("{")
    assert earlier_models(searched, models, fingerprint, []).finished == ()


def test_the_ground_is_known_by_the_data_and_how_they_are_split(study: Study) -> None:
    dataset = PreparedDataset.open_for(study.data)
    here = ground_of(study, dataset)
    assert ground_of(study.model_copy(update={"retrain": study.budget}), dataset) == here
    dealt = study.folds.model_copy(update={"seed": 1})
    assert ground_of(study.model_copy(update={"folds": dealt}), dataset) != here

"""What retraining ends in: a folder that is whole or not there, says all of itself, and can be moved."""

import contextlib
import json
import shlex
import shutil
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pipeline.files import sha256_of, sole_writer
from pipeline.maps.scene_maps import ImageScene
from pipeline.models import model_set_writing
from pipeline.models.earlier_models import earlier_models
from pipeline.models.finished_training import FinishedTraining
from pipeline.models.model_card import model_card
from pipeline.models.model_set import LoadedModelSet, read_model_set, read_model_set_study
from pipeline.models.model_set_writing import assemble
from pipeline.models.trial_model import ABOUT, holds_about, read_about, write_trial_model
from pipeline.networks.builder import build_model
from pipeline.scene import Georeference
from pipeline.validation.thresholds import Counted, class_map
from run_search import VERBS
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.errors import MapgroveError, UnableError
from search_space.objective import EpochReport
from search_space.prediction import PredictionSettings
from search_space.records import ClassMap, ModelMember, ModelSet, TrialModel
from search_space.study import Study
from search_space.task import Task
from search_space.training_plan import Scaling, TrainingPlan

CANDIDATE = Candidate(
    architecture=Architecture(depth=1, base_filters=2, units_per_stage=1),
    plan=TrainingPlan(patch_px=16, scaling=Scaling(scope="scene")),
)
STUDY = decode(
    Study,
    {
        "study": {"name": "tiny"},
        "data": {"format": "masks", "folder": "x", "prepared": "p", "classes": ["road", "pond", "bare"]},
        "folds": {"validation": ["b"], "test": ["c"]},
        "budget": {"epochs": 1, "steps_per_epoch": 1},
        "retrain": {"epochs": 7, "steps_per_epoch": 9},
        "limits": {"max_trials": 1},
    },
    where="test",
)
Finish = Callable[..., FinishedTraining]


def histogram(seed: int, num_labelled: int = 500) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pixels without the class have low levels, those with it high ones."""
    rng = np.random.default_rng(seed)
    without, having = (
        np.bincount(np.clip(rng.normal(middle, 40, size).astype(int), 0, 255), minlength=256).tolist()
        for middle, size in ((90, 1500), (150 + 5 * seed, num_labelled))
    )
    return tuple(without), tuple(having)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return build_model(CANDIDATE.architecture, 2, 1)


@pytest.fixture
def finish(tmp_path: Path, network: keras.Model) -> Finish:
    """Writes a model as a training of a retraining leaves it; each has other weights."""

    def finished(class_name: str = "road", *, about: dict[str, Any] | None = None, **task: Any) -> FinishedTraining:
        number = len(list(tmp_path.glob("trial*")))
        keras.utils.set_random_seed(number)
        for weights in network.trainable_variables:
            weights.assign(np.random.default_rng(number).normal(0, 0.3, weights.shape))
        described = {
            "study": "tiny@retrain",
            "trial": number,
            "classes": (class_name,),
            "bands": ("red", "nir"),
            "candidate": CANDIDATE,
            "thresholds": {class_name: 0.5},
            "jaccard": {class_name: 0.5},
            "counts": {class_name: {f"scene{number}": histogram(number)}},
            "data_fingerprint": "f00d",
            "made_with": {"keras": "3.0", "tensorflow": "2.0"},
        }
        path = tmp_path / f"trial{number}" / "model.keras"
        write_trial_model(path, network, TrialModel(**described | (about or {})))
        return FinishedTraining(
            Task(class_name=class_name, epochs=7, steps_per_epoch=9, **task),
            CANDIDATE,
            path,
            (EpochReport(epoch=1, training_loss=0.5, jaccard={class_name: 0.5}),),
            {"num_parameters": 1234.0},
        )

    return finished


def scene() -> ImageScene:
    cube = np.random.default_rng(0).normal(100, 30, (24, 32, 2)).astype(np.float32)
    return ImageScene("s", ("red", "nir"), "abc", cube, np.ones((24, 32), bool), Georeference())


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}


def test_all_that_prediction_needs_lies_in_one_folder_that_can_be_moved(finish: Finish, tmp_path: Path) -> None:
    finished = [
        finish("road", num_folds=3, fold=fold, seed=seed, trial=4, rank=rank)
        for fold, seed, rank in ((2, 0, 0), (1, 1, 0), (1, 0, 1))
    ]
    pond = finish("pond", trial=2, study="tiny/pond", prediction=PredictionSettings(symmetries="none"))

    models = assemble(STUDY, [*finished, pond], tmp_path / "models", absent_folds={"road": [3]})

    shutil.move(tmp_path / "models", tmp_path / "moved")
    for path in tmp_path.glob("trial*"):
        shutil.rmtree(path)
    folder = tmp_path / "moved"
    assert read_model_set(folder) == models
    assert read_model_set_study(folder) == STUDY
    assert files(folder) == {"model_set.json", "study.json", "MODEL_CARD.md", *(each.file for each in models.members)}
    assert [(each.fold, each.rank, each.seed) for each in models.members_of("road")] == [
        (1, 0, 1),
        (1, 1, 0),
        (2, 0, 0),
    ]
    assert all(sha256_of(folder / each.file) == each.sha256 for each in models.members)
    [member] = models.members_of("pond")
    assert (member.origin, member.epochs, member.prediction) == ("trial 2 of tiny/pond", 7, pond.task.prediction)
    assert models.map_of("bare") is None
    loaded = LoadedModelSet.open(folder)
    assert loaded.classes == ("road", "pond")
    assert loaded.predict(scene(), PredictionSettings(symmetries="none")).shape == (24, 32, 2)


def test_thresholds_and_scores_are_those_of_all_models_together(finish: Finish, tmp_path: Path) -> None:
    finished = [finish("road", num_folds=2, fold=fold, seed=seed) for fold in (1, 2) for seed in (0, 1)]

    models = assemble(STUDY, finished, tmp_path / "models", absent_folds={"road": [3]})

    counted = [Counted(fold, {f"scene{n}": histogram(n)}) for n, fold in enumerate((1, 1, 2, 2))]
    assert models.maps == (class_map("road", counted, absent_folds=[3]),)
    assert models.maps[0].score_from == "other folds"


def test_scenes_that_share_their_ground_are_one_part(finish: Finish, tmp_path: Path) -> None:
    counts = {"road": {name: histogram(n) for n, name in enumerate("abc")}}

    def score_from(*groups: tuple[str, ...]) -> str:
        training = finish("road", about={"counts": counts, "same_ground": groups})
        [found] = assemble(STUDY, [training], tmp_path / "models").maps
        return found.score_from

    assert score_from() == score_from(("a", "b")) == "other scenes"
    assert score_from(("a", "b"), ("b", "c")) == "same ground"


def test_models_that_are_no_longer_wanted_leave_and_other_files_stay(finish: Finish, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    first, second, pond = finish("road", seed=0), finish("road", seed=1), finish("pond")
    before = assemble(STUDY, [first, second, pond], folder)
    (folder / "road" / "notes.txt").write_text("mine")
    kept = folder / before.members[0].file
    inode = kept.stat().st_ino

    after = assemble(STUDY, [first], folder)

    assert files(folder) == {"model_set.json", "study.json", "MODEL_CARD.md", "road/notes.txt", before.members[0].file}
    assert not (folder / "pond").exists()
    assert kept.stat().st_ino == inode, "what is there already is not copied again"
    assert after.fingerprint != before.fingerprint


def test_how_a_model_was_asked_for_is_kept_with_it(finish: Finish, tmp_path: Path) -> None:
    asked = {"start": "0" * 64, "start_from": "runs/old/models", "fine_tuned": True, "trial": 3, "study": "old"}
    [member] = assemble(STUDY, [finish("road", **asked)], tmp_path / "models").members

    assert {name: getattr(member, name) for name in asked} == asked
    kept = earlier_models(STUDY, tmp_path / "models", "f00d", without=("water",))
    assert [(each.task.start_from, each.task.fine_tuned) for each in kept.finished] == [("runs/old/models", True)]


@pytest.mark.parametrize("when", ["copy", "card"])
def test_whatever_fails_leaves_the_earlier_set_as_it_was(
    finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    folder = tmp_path / "models"
    before = assemble(STUDY, [finish("road")], folder)
    there, copy = files(folder), shutil.copyfile

    def full(source: Any, target: Any) -> None:
        if when == "card" or "trial2" in str(source):
            raise OSError(28, "No space left on device")
        copy(source, target)

    if when == "copy":
        monkeypatch.setattr(model_set_writing.shutil, "copyfile", full)
    else:
        monkeypatch.setattr(model_set_writing, "model_card", full)
    with pytest.raises(OSError, match="No space left"):
        assemble(STUDY, [finish("road"), finish("pond")], folder)

    assert files(folder) == there
    assert LoadedModelSet.open(folder).description == before


@pytest.mark.parametrize("file", ["model_set.json", "study.json", "MODEL_CARD.md"])
def test_what_cannot_be_told_of_a_set_leaves_all_of_the_earlier_one(
    finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    folder = tmp_path / "models"
    before = assemble(STUDY, [finish("road")], folder)
    there, write_text = files(folder), Path.write_text

    def full(path: Path, *words: Any, **options: Any) -> int:
        if path.name.endswith(file):
            raise OSError(28, "No space left on device")
        return write_text(path, *words, **options)

    other = STUDY.model_copy(update={"folds": STUDY.folds.model_copy(update={"test": ("d",)})})
    finished = [finish("road"), finish("pond")]
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        assemble(other, finished, folder)

    assert files(folder) == there
    assert read_model_set(folder) == before
    assert read_model_set_study(folder).folds == STUDY.folds


def test_a_copy_that_differs_is_refused(finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:-1])

    monkeypatch.setattr(model_set_writing.shutil, "copyfile", damaged)
    with pytest.raises(MapgroveError, match="changed while it was copied"):
        assemble(STUDY, [finish("road")], tmp_path / "models")
    assert files(tmp_path / "models") == set()


@pytest.mark.parametrize(
    ("about", "match"),
    [
        ({"classes": ("pond",)}, "is not the model that a training of road was to make. Received 'pond'"),
        ({"candidate": Candidate()}, "is not the model that a training of road was to make"),
        ({"counts": {}}, "does not say what was counted in its validation"),
        ({"bands": ("red", "green")}, "on the same data: their bands differ"),
        ({"data_fingerprint": "beef"}, "on the same data: their data_fingerprint differ"),
        ({"counts": {"road": {"s": histogram(1, num_labelled=0)}}}, None),
    ],
)
def test_models_that_do_not_belong_in_the_set_are_told(
    finish: Finish, tmp_path: Path, about: dict[str, Any], match: str | None
) -> None:
    finished = [finish("road"), finish("road", about=about, seed=1)]
    if match is None:
        assert assemble(STUDY, finished, tmp_path / "models").members
        return
    with pytest.raises(MapgroveError, match=match):
        assemble(STUDY, finished, tmp_path / "models")
    assert files(tmp_path / "models") == set()


def test_models_of_other_classes_stay_where_they_are_wanted(finish: Finish, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    trainings = [finish("road", num_folds=3, fold=fold) for fold in (1, 2)]
    before = assemble(STUDY, trainings, folder, absent_folds={"road": [3]})

    # Of road a training was asked for too, which failed: its folds tell nothing of the models that stay.
    after = assemble(STUDY, [finish("pond")], folder, absent_folds={"road": [1, 2]}, keeps_others=True)

    assert after.members_of("road") == before.members_of("road")
    assert after.map_of("road") == before.map_of("road")
    assert after.map_of("pond") is not None
    again = assemble(STUDY, [finish("road")], folder, keeps_others=True)
    assert [each.num_folds for each in again.members_of("road")] == [0], "what is trained anew takes their place"
    assert again.members_of("pond") == after.members_of("pond")


def test_a_damaged_model_of_several_leaves_its_class_to_the_others(
    finish: Finish, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "models"
    before = assemble(STUDY, [finish("road", num_folds=3, fold=fold) for fold in (1, 2, 3)], folder)
    first, lost, last = before.members
    (folder / lost.file).write_bytes(b"damaged")

    after = assemble(STUDY, [finish("pond")], folder, keeps_others=True)

    assert after.members_of("road") == (first, last)
    counted = [Counted(fold, {f"scene{n}": histogram(n)}) for n, fold in ((0, 1), (2, 3))]
    assert after.map_of("road") == class_map("road", counted)
    assert after.map_of("road") != before.map_of("road")
    assert not (folder / lost.file).exists()
    [line] = [record.message for record in caplog.records]
    told = "left out, damaged or of before; the class is mapped by the 2 of its 3 models that are sound"
    assert line == f"road: {lost.file} {told}"
    assert LoadedModelSet.open(folder).classes == ("road", "pond")
    for member in after.members_of("road"):
        (folder / member.file).unlink()
    caplog.clear()
    none = assemble(STUDY, [finish("pond")], folder, keeps_others=True)
    assert none.map_of("road") is None
    assert [record.message for record in caplog.records] == [
        "road: not used: a model is damaged, or of before; retrain it too"
    ]


@pytest.mark.parametrize("damaged", ["model_set.json", "study.json"])
def test_a_set_that_cannot_be_read_is_kept_with_its_models(
    finish: Finish, tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    folder = tmp_path / "models"
    [road] = assemble(STUDY, [finish("road")], folder).members
    kept = (folder / "model_set.json").read_bytes()[:100] if damaged == "model_set.json" else None
    (folder / damaged).write_bytes((folder / damaged).read_bytes()[:100])

    after = assemble(STUDY, [finish("pond")], folder, keeps_others=True)

    assert [each.class_name for each in after.members] == ["pond"]
    assert (folder / road.file).is_file()
    if kept is not None:
        assert (folder / "model_set.damaged.json").read_bytes() == kept
    first, last = (record.message for record in caplog.records)
    assert damaged in first
    assert "come back without training anew by `retrain` as it was called for them" in last
    both = assemble(STUDY, [finish("road")], folder, keeps_others=True)
    assert [each.class_name for each in both.members] == ["road", "pond"]
    (folder / "model_set.damaged.json").unlink()
    assemble(STUDY, [finish("road", seed=1)], folder, keeps_others=True)
    assert not (folder / road.file).exists()


def test_a_set_that_cannot_be_read_is_not_missed_where_all_is_retrained(finish: Finish, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    assemble(STUDY, [finish("road")], folder)
    (folder / "model_set.json").write_text("{")
    assemble(STUDY, [finish(name) for name in STUDY.data.classes], folder, keeps_others=True)
    assert not (folder / "model_set.damaged.json").exists()


@pytest.mark.parametrize("about", [{"counts": {}}, {"counts": {"road": {"s": histogram(1, num_labelled=0)}}}])
def test_what_no_threshold_can_be_chosen_by_any_more_does_not_keep_others_from_the_set(
    finish: Finish, tmp_path: Path, caplog: pytest.LogCaptureFixture, about: dict[str, Any]
) -> None:
    """Such as of an earlier version; or the model that was validated on the class is the one that is damaged."""
    folder = tmp_path / "models"
    sound, other = (
        finish("road"),
        finish("road", about={"counts": {"road": {"s": histogram(1, num_labelled=0)}}}, seed=1),
    )
    before = assemble(STUDY, [sound, other], folder)
    changed = finish("road", about=about, seed=1)
    (folder / before.members[0].file).unlink()
    member = json.loads((folder / "model_set.json").read_text())
    shutil.copy(changed.model_file, folder / before.members[1].file)
    member["members"][1]["sha256"] = sha256_of(changed.model_file)
    (folder / "model_set.json").write_text(json.dumps(member))

    after = assemble(STUDY, [finish("pond")], folder, keeps_others=True)

    assert [each.class_name for each in after.members] == ["pond"]
    assert "road: not used" in caplog.text


def test_of_two_retrainings_that_end_at_once_neither_loses_its_models(
    finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    finished = {name: finish(name) for name in STUDY.data.classes}

    def read(*words: Any) -> Any:
        with pytest.raises(MapgroveError, match="another process is writing"), sole_writer(folder):
            pass
        return earlier_models(*words)

    monkeypatch.setattr(model_set_writing, "earlier_models", read)
    told: list[BaseException] = []

    def gather(name: str) -> None:
        try:
            assemble(STUDY, [finished[name]], folder, keeps_others=True)
        except BaseException as error:  # noqa: BLE001
            told.append(error)

    gathering = [threading.Thread(target=gather, args=(name,)) for name in finished]
    for thread in gathering:
        thread.start()
    for thread in gathering:
        thread.join()
    assert not told
    assert [each.class_name for each in read_model_set(folder).members] == list(STUDY.data.classes)


def test_what_was_left_of_a_copy_that_was_killed_goes_with_the_next_set(finish: Finish, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "road").mkdir(parents=True)
    (folder / "pond").mkdir()
    for name in ("road/.123.rank0_fold0_seed0-0123abcd.keras", "pond/.123.rank0_fold0_seed0-0123abcd.keras"):
        (folder / name).write_bytes(b"half of a mod")
    models = assemble(STUDY, [finish("road")], folder)
    assert [path.name for path in folder.rglob("*.keras")] == [Path(models.members[0].file).name]
    assert not (folder / "pond").exists()


def test_what_cannot_be_a_set_is_told(finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models"
    monkeypatch.setattr(model_set_writing, "WAIT_S", 0.0)
    with pytest.raises(MapgroveError, match="no training has ended with a model"):
        assemble(STUDY, [], folder)
    with pytest.raises(ValueError, match=r"the models of road are of different splits"):
        assemble(STUDY, [finish("road"), finish("road", fold=1, num_folds=2)], folder)
    with pytest.raises(ValueError, match=r"same class from the same training: road, fold 0"):
        assemble(STUDY, [finish("road"), finish("road")], folder)
    with pytest.raises(MapgroveError, match="no model of a trial"):
        assemble(STUDY, [FinishedTraining(finish("road").task, CANDIDATE, tmp_path / "none.keras")], folder)
    with sole_writer(folder), pytest.raises(MapgroveError, match="another process is writing"):
        assemble(STUDY, [finish("road")], folder)


def test_whatever_byte_of_a_model_is_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(ABOUT, json.dumps({"study": "tiny"}), compress_type=zipfile.ZIP_DEFLATED)
    sound = path.read_bytes()
    for place in range(len(sound)):
        for change in (0x01, 0x08, 0xFF):
            damaged = bytearray(sound)
            damaged[place] ^= change
            path.write_bytes(damaged)
            with pytest.raises(MapgroveError):
                read_about(path)
            with contextlib.suppress(UnableError):
                holds_about(path)


def card_of(finish: Finish, folder: Path, *trainings: FinishedTraining, **absent: list[int]) -> str:
    assemble(STUDY, trainings or [finish("road")], folder, absent_folds=absent)
    return (folder / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_the_card_says_what_the_record_shows(finish: Finish, tmp_path: Path) -> None:
    finished = [finish("road", num_folds=4, fold=fold, trial=4) for fold in (1, 2)]

    card = card_of(finish, tmp_path / "models", *finished, finish("pond", recipe="vo|ob.toml"), road=[3])

    models = read_model_set(tmp_path / "models")
    road, pond = models.maps
    [first, _] = models.members_of("road")
    for words in (
        "# Model set of the study tiny",
        "It maps road, pond in imagery with the bands red, nir",
        "The study also has bare, for which there is no model here.",
        f"| road | {road.threshold:.3f} | {road.jaccard:.3f} | {road.spread:.3f} over 2 folds | 1: "
        f"{road.folds[0].jaccard:.3f}, 2: {road.folds[1].jaccard:.3f} | 3 | each fold at the threshold that the other",
        f"| pond | {pond.threshold:.3f} | {pond.jaccard:.3f} | – | the study's own split | none | **on the ground that",
        f"| `{first.file}` | grown encoder, depth 1, 2 filters × 2, plain blocks, concatenate skips | "
        "bce, adam at 0.001, 8 patches of 16 px | trial 4 | 7 epochs of 9 steps | 1 234 | random weights |",
        "| vo\\|ob.toml |",
        "- Scaling of bands: clipped, percentiles 1 to 99, each scene by itself.",
        "- Data set: format masks, fingerprint f00d.",
        "dealt into 4 folds, one of them left out of each training",
        "Trained with keras 3.0, tensorflow 2.0. Put together by Mapgrove 0.1.0.",
        "One part of the ground alone has pond: it chose threshold and score alike.",
        "The mean of several models, which maps road, has no score here",
        "A search chose candidates on the study's validation ground",
        "python run_search.py score --study tiny",
    ):
        assert words in card, words


def test_the_card_claims_nothing_that_is_not_so(finish: Finish, tmp_path: Path) -> None:
    counts = {"road": {name: histogram(n) for n, name in enumerate("ab")}}
    folds = STUDY.folds.model_copy(update={"test": ()})
    study = STUDY.model_copy(update={"folds": folds})

    assemble(study, [finish("road", about={"counts": counts}, recipe="vooban")], tmp_path / "models")

    card = (tmp_path / "models" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "each scene at the threshold that the other scenes chose" in card
    assert "The study holds no ground out for a test" in card
    lacking = ("run_search.py score", "One part of the ground alone", "mean of several", "A search chose", "folds,")
    for words in (*lacking, "diverged"):
        assert words not in card, words


def test_the_card_says_which_training_diverged(finish: Finish, tmp_path: Path) -> None:
    diverged = replace(finish("road"), figures={"best_epoch": 3.0, "diverged_in_epoch": 5.0})
    card = card_of(finish, tmp_path / "models", diverged, finish("pond"))
    assert "- A training of road diverged; its model is the best epoch before." in card.splitlines()


def of_one_model(member: ModelMember) -> ModelSet:
    return ModelSet(
        study="tiny",
        data_fingerprint="f",
        classes=("road",),
        bands=("red",),
        members=(member,),
        maps=(ClassMap(class_name="road", threshold=0.5),),
    )


@pytest.mark.parametrize(
    ("encoder", "start", "told"),
    [
        ({"kind": "grown"}, "", "random weights"),
        ({"kind": "vgg16", "weights": "none"}, "", "random weights"),
        ({"kind": "vgg16", "weights": "imagenet"}, "", "ImageNet weights"),
        ({"kind": "vgg16", "weights": "mine.h5"}, "", "a file of the encoder's weights"),
        ({"kind": "grown"}, "0" * 64, "another model"),
    ],
)
def test_the_card_says_what_a_training_began_from(encoder: dict[str, str], start: str, told: str) -> None:
    candidate = decode(Candidate, {"architecture": {"encoder": encoder}}, where="test")
    member = ModelMember(class_name="road", file="road.keras", candidate=candidate, threshold=0.5, start=start)
    [line] = [line for line in model_card(of_one_model(member), STUDY).splitlines() if "`road.keras`" in line]
    assert line.endswith(f"| {told} |")


@pytest.mark.parametrize(
    ("start", "study", "num_folds", "may_know"),
    [("", "", 3, False), ("0" * 64, "", 0, False), ("0" * 64, "", 3, True), ("0" * 64, "other", 0, True)],
)
def test_the_card_says_where_a_model_began_from_one_that_may_know_the_ground(
    start: str, study: str, num_folds: int, may_know: bool
) -> None:
    """The search trained on what folds are dealt from; what another study trained on, nobody knows."""
    member = ModelMember(class_name="road", file="road.keras", candidate=Candidate(), threshold=0.5, start=start)
    member = member.model_copy(update={"study": study, "num_folds": num_folds, "fold": min(num_folds, 1)})
    card = model_card(of_one_model(member), STUDY)
    assert ("The training of road began from another model: if that was trained on this ground" in card) == may_know
    assert ("whether models that these began from were trained on it is not known" in card) == bool(study)


def test_the_commands_of_the_card_are_understood(finish: Finish, tmp_path: Path) -> None:
    """What they do, `test_main_job` and `test_trained_models` run."""
    import argparse
    import importlib

    card = card_of(finish, tmp_path / "models")
    commands = [shlex.split(line) for line in card.splitlines() if line.startswith("python run_search.py")]
    assert [words[2] for words in commands] == ["predict", "predict", "score"]
    for _, _, verb, *words in commands:
        assert verb in VERBS
        parser = argparse.ArgumentParser(exit_on_error=False)
        importlib.import_module(f"verbs.{verb}").add_arguments(parser)
        parser.parse_args(words)


def test_a_set_says_the_same_in_its_file_as_in_memory(finish: Finish, tmp_path: Path) -> None:
    models = assemble(STUDY, [finish("road")], tmp_path / "models")
    plain = json.loads((tmp_path / "models" / "model_set.json").read_text(encoding="utf-8"))
    assert plain["version"] == "0.1.0"
    assert "counts" not in plain["members"][0], "they are in the model's own file"
    assert read_model_set(tmp_path / "models").fingerprint == models.fingerprint

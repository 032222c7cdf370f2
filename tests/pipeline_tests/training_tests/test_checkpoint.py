"""Training that is cut off goes on to where it would have come; a checkpoint of anything else is left alone."""

import json
import logging
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.networks.prediction import NoNumbersError
from pipeline.patches.scenes import TrainingScene
from pipeline.preparation.normalisation import Normalisation
from pipeline.training.checkpoint import Best, Checkpoint, Snapshot, fits
from pipeline.training.train import DivergedError, Trained, train
from pipeline.validation.whole_ground import Validation
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.network.unet import InputBand
from search_space.objective import EpochReport
from search_space.study import Budget, LimitSettings
from search_space.training_plan import Scaling
from tests.pipeline_tests.fake_scenes import FakeScene

ROOT = Path(__file__).parents[3]

CANDIDATES: dict[str, dict[str, Any]] = {
    # A plateau's rate is a variable of the optimizer, as averages are.
    "plain": {
        "plan": {
            "optimizer": {"kind": "adam"},
            "schedule": {"kind": "plateau", "patience": 1},
            "averaging": {"kind": "ema", "momentum": 0.9},
        }
    },
    # Dropout draws from generators of its own, batch normalisation keeps statistics, losses steer the sampler.
    "much state": {
        "architecture": {"dropout": {"kind": "spatial", "rate": 0.3}, "normalisation": "batch"},
        "plan": {
            "optimizer": {"kind": "nadam"},
            "sampling": {"kind": "loss", "share": 0.8},
            "warm_up": 0.1,
            "schedule": {"kind": "cyclic", "start": 0.0, "cycles": 4},
            "averaging": {"kind": "snapshots", "num": 3},
        },
    },
}


class CutOffError(Exception):
    """The process is killed here."""


def candidate(fields: dict[str, Any]) -> Candidate:
    architecture = {"depth": 2, "base_filters": 4, "units_per_stage": 1, **fields.get("architecture", {})}
    plan = {"patch_px": 16, "batch_size": 4, "learning_rate": 0.01, **fields.get("plan", {})}
    return decode(Candidate, {"architecture": architecture, "plan": plan}, where="test")


def scene(seed: int) -> TrainingScene:
    rng = np.random.default_rng(seed)
    masks = np.zeros((48, 48, 1), np.uint8)
    masks[10:30, 8 + seed : 28 + seed, 0] = 1
    cube = rng.normal(0, 1, (48, 48, 3)).astype(np.float32) + masks
    known = np.ones((48, 48), bool)
    fake = FakeScene(str(seed), cube, masks, known, known.copy())
    return TrainingScene(fake, Normalisation.fit(Scaling(), [fake]).for_scene(fake), (0,))


def run(
    fields: dict[str, Any], checkpoint: Checkpoint | None, cut_after: int = 0, epochs: int = 4, **more: Any
) -> Trained:
    """Train; where `cut_after`, raise when so many epochs are done and kept, as a killed process would end."""
    told: list[int] = []

    def on_epoch(report: EpochReport) -> None:
        # Called before the epoch is kept: what is cut off after N epochs is so in the next one.
        if cut_after and report.epoch == cut_after + 1:
            raise CutOffError
        told.append(report.epoch)

    return train(
        candidate(fields),
        [scene(0), scene(1)],
        [scene(2)],
        ["square"],
        [InputBand(name) for name in ("red", "green", "blue")],
        Budget(epochs=epochs, steps_per_epoch=6),
        limits=LimitSettings(max_trials=1),
        on_epoch=on_epoch,
        checkpoint=checkpoint,
        **{"seed": 3, **more},
    )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cuts"), [("plain", (2,)), ("much state", (1, 3))])
def test_what_was_cut_off_ends_as_if_it_had_not_been(tmp_path: Path, kind: str, cuts: tuple[int, ...]) -> None:
    whole = run(CANDIDATES[kind], None)
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {"data": "d"})
    for cut in cuts:
        with pytest.raises(CutOffError):
            run(CANDIDATES[kind], checkpoint, cut)
        assert checkpoint.path.is_file()
    if kind == "plain":
        # As a disk may leave it; the one before is an epoch back.
        checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:1000])
    told: list[EpochReport] = []
    resumed = run(CANDIDATES[kind], checkpoint, on_restored=told.extend)
    assert len(told) == (1 if kind == "plain" else cuts[-1])
    assert checkpoint.path.is_file(), "a worker that is killed before it told the end loses the training"

    for ours, theirs in zip(resumed.reports, whole.reports, strict=True):
        assert (ours.epoch, ours.training_loss, ours.jaccard) == (theirs.epoch, theirs.training_loss, theirs.jaccard)
        assert (ours.loss_parts, ours.learning_rate) == (theirs.loss_parts, theirs.learning_rate)
    assert resumed.validation == whole.validation
    assert resumed.figures["best_epoch"] == whole.figures["best_epoch"]
    for ours, theirs in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_killed_process_leaves_what_another_ends_with_the_same_weights(tmp_path: Path) -> None:
    def train_in_a_process(dies_in: int) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-W", "ignore", "-m", "tests.pipeline_tests.killed_training", str(tmp_path)]
        return subprocess.run([*words, str(dies_in)], cwd=ROOT, capture_output=True, text=True, check=False)

    killed = train_in_a_process(dies_in=4)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = train_in_a_process(dies_in=0)
    assert done.returncode == 0, done.stderr

    resumed, whole, restored = json.loads(done.stdout.splitlines()[-1])
    assert restored == [1, 2, 3]
    assert resumed == whole
    assert len(set(whole["losses"])) == 4


@pytest.mark.slow
def test_epochs_that_were_kept_are_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {})
    constant = {"plan": {"averaging": {"kind": "ema", "momentum": 0.9}}}
    with pytest.raises(CutOffError):
        run(constant, checkpoint, 2)
    content = checkpoint.path.read_bytes()
    # One that is cut off in the third epoch again tells of the third alone.
    with pytest.raises(CutOffError):
        run(constant, checkpoint, 2)
    assert checkpoint.path.read_bytes() == content
    # A training that had all its epochs, and was cut off before it told so. That the accelerator has more room than
    # then, so that patches would be cut on it, is no reason to begin anew.
    monkeypatch.setattr("pipeline.training.train.fits_on_device", lambda *_: True)
    told: list[EpochReport] = []
    finished = run(constant, checkpoint, epochs=2, on_restored=told.extend)
    assert [report.epoch for report in finished.reports] == [1, 2]
    assert told == list(finished.reports), "whoever was cut off may not have told them"


@pytest.mark.slow
def test_what_ends_without_numbers_where_it_goes_on_keeps_its_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The third epoch is the last of three, but was not validated as one of five."""
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {})
    fields = {"plan": {"averaging": {"kind": "ema", "momentum": 0.9}}}
    with pytest.raises(CutOffError):
        run(fields, checkpoint, 3, epochs=5)

    def no_numbers(*_: Any, **__: Any) -> Validation:
        raise NoNumbersError("planted")

    monkeypatch.setattr("pipeline.training.train.validate", no_numbers)
    with pytest.raises(DivergedError, match="after epoch 3, though its training loss is a number"):
        run(fields, checkpoint, epochs=3)
    told: list[EpochReport] = []
    kept = run(fields, checkpoint, epochs=3, keeps_best=True, on_restored=told.extend)

    assert (kept.figures["best_epoch"], kept.figures["diverged_in_epoch"]) == (2.0, 3.0)
    assert [report.epoch for report in kept.reports] == [1, 2, 3]
    assert told == list(kept.reports)
    assert kept.validation.jaccard == kept.reports[1].jaccard
    assert "Epoch 2 is kept" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("steered", [{"schedule": {"kind": "plateau"}}, {"patience": 9}], ids=["plateau", "patience"])
def test_validations_that_steer_are_those_of_their_own_number_of_epochs(
    tmp_path: Path, steered: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Every second epoch is validated, and of fewer epochs the last: one that four epochs may not have."""
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {})
    with pytest.raises(CutOffError):
        run({"plan": steered}, checkpoint, 1)
    with caplog.at_level(logging.WARNING):
        trained = run({"plan": steered}, checkpoint, epochs=3)
    assert "not used: it is of another training" in caplog.text
    assert len(trained.reports) == 3


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"seed": 4}, {"about": {"data": "other"}}], ids=lambda change: next(iter(change)))
def test_a_checkpoint_of_another_training_is_left_alone(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(CutOffError):
        run(CANDIDATES["plain"], Checkpoint(path, {"data": "d"}), 1)
    about, seed = change.get("about", {"data": "d"}), change.get("seed", 3)
    with caplog.at_level(logging.WARNING):
        anew = run(CANDIDATES["plain"], Checkpoint(path, about), epochs=1, seed=seed)
    assert f"{path}: not used: it is of another training" in caplog.text
    assert anew.reports[0].training_loss == run(CANDIDATES["plain"], None, epochs=1, seed=seed).reports[0].training_loss


COUNTS = {
    "a": {"north": np.arange(512).reshape(2, 256), "south": np.full((2, 256), 3)},
    "b": {"north": np.zeros((2, 256), np.int64)},
}
SNAPSHOT = Snapshot(
    reports=(EpochReport(epoch=1, training_loss=0.5, jaccard={"a": 0.25}, seconds=2.0),),
    best=Best(1, Validation({"a": 0.25}, {"a": 0.5}, COUNTS), [np.arange(3.0)]),
    variables=[np.arange(12.0, dtype=np.float32).reshape(3, 4), np.array(7, np.uint32)] * 6,
    optimizer=[np.zeros(2)],
    optimizer_names=["iteration"],
    patch_losses=np.array([np.nan, 1.5]),
    train_s=12.5,
)


def test_a_snapshot_comes_back(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "new" / "checkpoint.npz", {"data": "d"})
    assert checkpoint.load() is None
    checkpoint.save(SNAPSHOT)
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["checkpoint.npz"]
    found = checkpoint.load()
    assert (found.reports, found.train_s, found.best.epoch) == (SNAPSHOT.reports, 12.5, 1)
    assert found.best.validation == SNAPSHOT.best.validation
    counts = found.best.validation.counts
    assert {name: list(scenes) for name, scenes in counts.items()} == {"a": ["north", "south"], "b": ["north"]}
    assert all(np.array_equal(counts[name][scene], COUNTS[name][scene]) for name in COUNTS for scene in COUNTS[name])
    for name in ("variables", "optimizer"):
        ours, theirs = getattr(found, name), getattr(SNAPSHOT, name)
        assert [each.dtype for each in ours] == [each.dtype for each in theirs]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found.patch_losses, SNAPSHOT.patch_losses)
    assert fits(found, SNAPSHOT.variables, SNAPSHOT.optimizer)
    assert not fits(found, SNAPSHOT.variables[:-1], SNAPSHOT.optimizer)
    checkpoint.remove()
    checkpoint.remove()
    assert checkpoint.load() is None


def test_where_the_newest_is_damaged_the_one_before_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {})
    later = replace(SNAPSHOT, reports=(*SNAPSHOT.reports, EpochReport(epoch=2, training_loss=0.25)), best=None)
    for snapshot in (SNAPSHOT, SNAPSHOT, later):
        checkpoint.save(snapshot)
    assert [len(checkpoint.load().reports), checkpoint.load().best] == [2, None]
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-50])
    with caplog.at_level(logging.WARNING):
        assert len(checkpoint.load().reports) == 1
    assert caplog.text.count("training goes on from the one before, after epoch 1") == 1
    # A process may be killed between the two.
    checkpoint.path.unlink()
    assert len(checkpoint.load().reports) == 1
    assert Checkpoint(checkpoint.path, {"data": "other"}).load() is None
    checkpoint.save(later)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before.checkpoint.npz", "checkpoint.npz"]
    checkpoint.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("offset", [8, 10], ids=["said to be encrypted", "said to be packed"])
def test_a_checkpoint_whose_archive_cannot_be_read_is_damaged(
    tmp_path: Path, offset: int, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {})
    checkpoint.save(replace(SNAPSHOT, reports=()))
    content = bytearray(checkpoint.path.read_bytes())
    # Of the first file in the archive's directory.
    content[content.index(b"PK\x01\x02") + offset] ^= 1
    checkpoint.path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load() is None
    assert "not used, it is damaged" in caplog.text


def test_whatever_bit_of_an_archive_is_damaged_the_one_before_is_taken(tmp_path: Path) -> None:
    """Or nothing has changed: of what an archive says twice one may be wrong, and some nobody asks."""
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {})
    # Longer than what is read, and checked, at a time.
    long = np.arange(3000, dtype=np.float32)
    later = replace(SNAPSHOT, reports=(*SNAPSHOT.reports, EpochReport(epoch=2, training_loss=0.25)), variables=[long])
    checkpoint.save(SNAPSHOT)
    checkpoint.save(later)
    content = checkpoint.path.read_bytes()
    begin = content.index(b"variables_0.npy")
    of_array, of_directory = range(begin, begin + 200), range(content.index(b"PK\x01\x02"), len(content))
    num_before = 0
    for place in (*of_array, *of_directory):
        for change in (0x01, 0x08, 0x40):
            damaged = bytearray(content)
            damaged[place] ^= change
            checkpoint.path.write_bytes(damaged)
            found = checkpoint.load()
            assert found is not None
            num_before += len(found.reports) == 1
            if len(found.reports) == 2:
                np.testing.assert_array_equal(found.variables, [long])
    assert num_before > 300


@pytest.mark.parametrize("damage", ["cut", "junk", "empty", "pickle", "no key", "no report"])
def test_a_damaged_checkpoint_starts_the_training_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", {})
    checkpoint.save(replace(SNAPSHOT, reports=()))
    content = checkpoint.path.read_bytes()
    match damage:
        case "cut":
            checkpoint.path.write_bytes(content[: len(content) // 2])
        case "junk":
            checkpoint.path.write_bytes(b"junk" * 100)
        case "empty":
            checkpoint.path.write_bytes(b"")
        case "pickle":
            np.savez(checkpoint.path, text=np.array([{"a": 1}], dtype=object), allow_pickle=True)
        case "no key":
            np.savez(checkpoint.path, text=np.frombuffer(b"{}", np.uint8))
        case "no report":
            text = bytes(np.load(checkpoint.path)["text"]).replace(b'"reports": []', b'"reports": [{"epoch": "x"}]')
            np.savez(checkpoint.path, text=np.frombuffer(text, np.uint8))
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load() is None
    assert "not used, it is damaged" in caplog.text
    assert "unsafely" not in caplog.text
    if damage in ("cut", "junk", "empty"):
        assert "it is no archive, or only the beginning of one" in caplog.text

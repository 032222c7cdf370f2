"""Epochs are written as TensorBoard reads them."""

import errno
import logging
from pathlib import Path

import pytest

from pipeline.training.event_log import EventLog
from search_space.objective import EpochReport


def report(epoch: int, **more: object) -> EpochReport:
    return EpochReport(epoch=epoch, training_loss=0.5, seconds=3.0, **more)


def read(folder: Path) -> dict[str, dict[int, float]]:
    """By TensorFlow's own reader: name to epoch to number, none of which may be there twice."""
    iterate = pytest.importorskip("tensorflow.python.summary.summary_iterator").summary_iterator
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.iterdir()):
        for event in iterate(str(path)):
            for value in event.summary.value:
                assert event.step not in found.setdefault(value.tag, {})
                found[value.tag][event.step] = value.simple_value
            if event.HasField("session_log"):
                found.setdefault("begun", {})[event.step] = float(event.session_log.status)
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events") as log:
        log.add(report(1, loss_parts={"bce": 0.25, "l2": 0.25}, learning_rate=0.125))
        log.add(report(2, jaccard={"road": 0.75, "water": 0.25}, validation_s=0.5, memory_mb=512.0))
        log.add(report(3, patches_per_s=64.0, data_wait_share=0.0))
    assert read(tmp_path / "events") == {
        "begun": {1: 1.0},
        "loss": {1: 0.5, 2: 0.5, 3: 0.5},
        "seconds": {1: 3.0, 2: 3.0, 3: 3.0},
        "loss/bce": {1: 0.25},
        "loss/l2": {1: 0.25},
        "learning_rate": {1: 0.125},
        "jaccard/road": {2: 0.75},
        "jaccard/water": {2: 0.25},
        "mean_jaccard": {2: 0.5},
        "validation_s": {2: 0.5},
        "memory_mb": {2: 512.0},
        "patches_per_s": {3: 64.0},
        "data_wait_share": {3: 0.0},
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("num_here", [0, 1, 3], ids=["on another machine", "some", "one more than were kept"])
def test_a_training_that_goes_on_has_all_its_epochs_once(tmp_path: Path, num_here: int) -> None:
    with EventLog(tmp_path) as log:
        for epoch in range(1, num_here + 1):
            log.add(report(epoch, memory_mb=1.0))
    with EventLog(tmp_path) as log:
        log.restore([report(1, memory_mb=2.0), report(2, memory_mb=2.0)])
        log.add(report(3, memory_mb=2.0))
    assert read(tmp_path)["memory_mb"] == {1: 2.0, 2: 2.0, 3: 2.0}
    assert read(tmp_path)["begun"] == {1: 1.0}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_training_that_begins_anew_or_goes_back_has_its_epochs_once(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        for epoch in (1, 2, 1):
            log.add(report(epoch))
        assert set(read(tmp_path)["loss"]) == {1}
        log.restore([report(1)])
        log.add(report(2))
        log.restore([report(1)])
        log.add(report(2))
    assert set(read(tmp_path)["loss"]) == {1, 2}
    with EventLog(tmp_path) as log:
        log.add(report(1))
    assert set(read(tmp_path)["loss"]) == {1}


def test_what_cannot_be_written_is_told_once_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.training.event_log.EventsWriter", full)
    with caplog.at_level(logging.WARNING), EventLog(tmp_path) as log:
        log.add(report(1))
        log.add(report(2))
    assert caplog.text.count("epochs are no longer written for TensorBoard") == 1

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
    """By TensorFlow's own reader: name to epoch to number."""
    iterate = pytest.importorskip("tensorflow.python.summary.summary_iterator").summary_iterator
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.iterdir()):
        for event in iterate(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
            if event.HasField("session_log"):
                found.setdefault("begun", {})[event.step] = float(event.session_log.status)
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_written_is_read_back_and_a_resumed_training_adds_to_it(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events") as log:
        log.add(report(1, loss_parts={"bce": 0.25, "l2": 0.25}, learning_rate=0.125))
        log.add(report(2, jaccard={"road": 0.75, "water": 0.25}, validation_s=0.5, memory_mb=512.0))
    with EventLog(tmp_path / "events") as again:
        again.add(report(2, patches_per_s=64.0, data_wait_share=0.0))
    assert len(list((tmp_path / "events").iterdir())) == 2
    assert read(tmp_path / "events") == {
        "begun": {1: 1.0, 2: 1.0},
        "loss": {1: 0.5, 2: 0.5},
        "seconds": {1: 3.0, 2: 3.0},
        "loss/bce": {1: 0.25},
        "loss/l2": {1: 0.25},
        "learning_rate": {1: 0.125},
        "jaccard/road": {2: 0.75},
        "jaccard/water": {2: 0.25},
        "mean_jaccard": {2: 0.5},
        "validation_s": {2: 0.5},
        "memory_mb": {2: 512.0},
        "patches_per_s": {2: 64.0},
        "data_wait_share": {2: 0.0},
    }


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

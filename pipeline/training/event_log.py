"""The epochs of a training as TensorBoard shows them: `tensorboard --logdir runs/NAME`."""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from search_space.objective import EpochReport

_log = logging.getLogger(__name__)

_PREFIX = "events"
"""Of the names of files."""


class EventLog:
    """Writes what is told of each epoch, every epoch once.

    A training that goes on or begins anew writes a file of its own, from the first epoch on; what earlier attempts left
    in the folder goes. What cannot be written is told once, and costs no training.

    Args:
        folder: It is made with the first epoch.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: EventsWriter | None = None
        self._last_epoch = 0
        self._has_failed = False

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; all that was told is in it."""
        self._close()

    def add(self, report: EpochReport) -> None:
        """Write an epoch; one that was written before, or an earlier one, begins the training anew."""
        self._write([report], anew=report.epoch <= self._last_epoch)

    def restore(self, reports: Sequence[EpochReport]) -> None:
        """Write all epochs that an earlier attempt had, of which this folder may hold some, all or none."""
        self._write(reports, anew=True)

    def _write(self, reports: Sequence[EpochReport], *, anew: bool) -> None:
        if self._has_failed:
            return
        try:
            if anew or self._writer is None:
                self._close()
                self._writer = self._begun(reports[0].epoch)
            for report in reports:
                for name, value in numbers_of(report).items():
                    self._writer.write_event(_event(report.epoch, summary=scalar(name, value)))
            self._writer.flush()
            self._last_epoch = reports[-1].epoch
        except OSError as error:
            self._has_failed = True
            _log.warning("%s: epochs are no longer written for TensorBoard: %s", self._folder, error)

    def _close(self) -> None:
        if self._writer is not None:
            with suppress(OSError):
                # It was told when it could not be written.
                self._writer.close()
            self._writer = None

    def _begun(self, epoch: int) -> EventsWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        for earlier in self._folder.glob(f"{_PREFIX}.*"):
            earlier.unlink(missing_ok=True)
        # Names hold the second alone, in which a process may have begun another.
        writer = EventsWriter(str(self._folder / _PREFIX), f".{os.getpid()}.{epoch}")
        # A TensorBoard that runs has read what is gone: from this epoch on it no longer holds.
        writer.write_event(_event(epoch, session_log=SessionLog(status=SessionLog.START)))
        return writer


def numbers_of(report: EpochReport) -> dict[str, float]:
    """What is known of an epoch, by the names that TensorBoard shows."""
    found = {"loss": report.training_loss, "seconds": report.seconds}
    found |= {f"loss/{name}": value for name, value in report.loss_parts.items()}
    found |= {f"jaccard/{name}": value for name, value in report.jaccard.items()}
    single = ("mean_jaccard", "learning_rate", "patches_per_s", "data_wait_share", "validation_s", "memory_mb")
    values = {name: getattr(report, name) for name in single}
    return found | {name: value for name, value in values.items() if value is not None}


def _event(epoch: int, **content: object) -> Event:
    return Event(step=epoch, wall_time=time.time(), **content)

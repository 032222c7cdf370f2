"""The epochs of a training as TensorBoard shows them: `tensorboard --logdir runs/NAME`."""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from search_space.objective import EpochReport

_log = logging.getLogger(__name__)


class EventLog:
    """Writes what is told of each epoch; a training that goes on writes a file of its own, which TensorBoard joins.

    What cannot be written is told once, and costs no training.

    Args:
        folder: It is made with the first epoch.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: EventsWriter | None = None
        self._has_failed = False

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; all that was told is in it."""
        if self._writer is not None:
            with suppress(OSError):
                # It was told when it could not be written.
                self._writer.close()

    def add(self, report: EpochReport) -> None:
        """Write an epoch."""
        if self._has_failed:
            return
        try:
            if self._writer is None:
                self._writer = self._begun(report.epoch)
            for name, value in numbers_of(report).items():
                self._writer.write_event(_event(report.epoch, summary=scalar(name, value)))
            self._writer.flush()
        except OSError as error:
            self._has_failed = True
            _log.warning("%s: epochs are no longer written for TensorBoard: %s", self._folder, error)

    def _begun(self, epoch: int) -> EventsWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Names hold the second alone, in which a process may have begun another.
        writer = EventsWriter(str(self._folder / "events"), f".{os.getpid()}.{epoch}")
        # What an earlier attempt told of this epoch and of later ones no longer holds.
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

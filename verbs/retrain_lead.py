"""Who adds trainings to a retraining: one process at a time, for as long as their large files take."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from verbs.common import say

if TYPE_CHECKING:
    from trials_db.records import Lead
    from trials_db.stopping import Stop
    from trials_db.store import TrialStore

LEASE_S = 30.0

_RENEW_S = 5.0
_POLL_S = 0.3

Result = TypeVar("Result")


class StoppedError(Exception):
    """Somebody asked to stop."""


class Leading:
    """The lead of a study, while this process has it.

    Args:
        store: Where the study is.
        lead: It.
        stop: Asks to stop.
    """

    def __init__(self, store: "TrialStore", lead: "Lead", stop: "Stop") -> None:
        self._store = store
        self._lead = lead
        self._stop = stop
        self._renewed_s = time.monotonic()

    def carry(self, do: Callable[[], Result]) -> Result:
        """Do what may take long, such as sending a large file, while the lead is renewed.

        Args:
            do: Runs in a thread of its own, so it must leave the store alone.

        Returns:
            What it returns.

        Raises:
            StoppedError: Somebody asked to stop; it is no longer waited for.
            LeaseLostError: Another process leads by now, as this one was asleep.
        """
        from trials_db.errors import LeaseLostError

        future: Future[Result] = Future()
        # Whoever asked to stop does not wait for it.
        thread = threading.Thread(target=_run, args=(do, future), daemon=True)
        thread.start()
        lost = None
        while thread.is_alive():
            thread.join(_POLL_S)
            if self._stop.is_set():
                raise StoppedError
            if lost is None and time.monotonic() - self._renewed_s >= _RENEW_S:
                try:
                    self._renew()
                except LeaseLostError as error:
                    # Whoever tries again would else find a thread that writes the same file.
                    lost = error
        if lost is not None:
            raise lost
        result = future.result()
        self._renew()
        return result

    def _renew(self) -> None:
        self._store.renew_lead(self._lead)
        self._renewed_s = time.monotonic()


@contextmanager
def leading(store: "TrialStore", study: str, stop: "Stop") -> Iterator[Leading]:
    """Be the only one who adds trainings, as soon as nobody else does.

    Args:
        store: Where the study is.
        study: The study of the retraining.
        stop: Asks to stop.

    Raises:
        StoppedError: Somebody asked to stop meanwhile.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}"
    is_told = False
    while (lead := store.acquire_lead(study, owner, LEASE_S)) is None:
        if stop.wait(_POLL_S):
            raise StoppedError
        if not is_told:
            say("Another `retrain` adds its trainings; waiting until it has")
            is_told = True
    try:
        yield Leading(store, lead, stop)
    finally:
        store.release_lead(lead)


def _run(do: Callable[[], Result], future: "Future[Result]") -> None:
    try:
        future.set_result(do())
    except BaseException as error:  # noqa: BLE001  (raised in the thread that waits)
        future.set_exception(error)

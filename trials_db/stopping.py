"""How a master or worker is asked to stop, and how it learns that it was asleep."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Stop(Protocol):
    """What asks to stop; a `threading.Event` or `multiprocessing.Event` serves."""

    def is_set(self) -> bool:
        """Whether to stop."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until asked to stop, at most `timeout` seconds; return whether to stop."""


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A polite `kill`, Ctrl-C, and the terminal that was closed."""


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Inside the block, `STOP_SIGNALS` set the event instead of ending the process; only in the main thread.

    A hang-up that is ignored stays so: that is how `nohup` lets a process outlive its terminal.
    """
    stop = threading.Event()
    signals = [each for each in STOP_SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
    before = {each: signal.signal(each, lambda *_: stop.set()) for each in signals}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class AwakeGuard:
    """Tells whether this process has been awake for a whole lease, so that it may judge who is silent.

    After a laptop's sleep or a stopped process, the first to wake would else take trials from workers that slept
    as well and are about to renew.

    Args:
        lease_s: The lease of those who are judged.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._last_s = time.time()
        self._blind_until_s = 0.0

    def may_judge(self) -> bool:
        """Call at least every quarter of a lease; False for a lease after a gap between two calls."""
        now_s = time.time()
        if now_s - self._last_s > self._lease_s / 2:
            self._blind_until_s = now_s + self._lease_s
        self._last_s = now_s
        return now_s >= self._blind_until_s

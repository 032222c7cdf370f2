"""How a master or worker is asked to stop, and how it learns that it was asleep."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol


class Stop(Protocol):
    """What asks to stop; a `threading.Event` or `multiprocessing.Event` serves."""

    def is_set(self) -> bool:
        """Whether to stop."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until asked to stop, at most `timeout` seconds; return whether to stop."""


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A polite `kill`, Ctrl-C, and the terminal that was closed."""


DRAIN_SIGNAL = signal.SIGUSR1
"""Asks a worker to leave after its trial."""


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Inside the block, `STOP_SIGNALS` set the event instead of ending the process; only in the main thread.

    A hang-up that is ignored stays so: that is how `nohup` lets a process outlive its terminal.
    """
    with stop_or_drain(finish=False) as asked:
        yield asked.stop


class Asked(NamedTuple):
    """What a worker was asked by signals.

    Attributes:
        stop: To leave at once, its trial handed back.
        drain: To leave after its trial.
    """

    stop: threading.Event
    drain: threading.Event


@contextmanager
def stop_or_drain(*, finish: bool) -> Iterator[Asked]:
    """Inside the block, signals set events instead of ending the process; only in the main thread.

    Args:
        finish: The first of `STOP_SIGNALS` asks to drain, and the second to stop; else already the first.
    """
    asked = Asked(threading.Event(), threading.Event())

    def heed(*_: object) -> None:
        (asked.drain if finish and not asked.drain.is_set() else asked.stop).set()

    handlers: dict[signal.Signals, Callable[..., None]] = dict.fromkeys(STOP_SIGNALS, heed)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        del handlers[signal.SIGHUP]
    handlers[DRAIN_SIGNAL] = lambda *_: asked.drain.set()
    before = {each: signal.signal(each, handler) for each, handler in handlers.items()}
    try:
        yield asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class AwakeGuard:
    """Tells whether this process has been awake for a whole lease, so that it may judge who is silent.

    After a laptop's sleep, a stopped process, or a time without the store, the first to be back would else take trials
    from workers that are about to renew. A new one knows nothing of the time before it, and begins with that lease.

    Args:
        lease_s: The lease of those who are judged.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._last_s = time.time()
        self._store_ahead_s: float | None = None
        self._blind_until_s = self._last_s + lease_s

    def may_judge(self) -> bool:
        """Call at least every quarter of a lease; False for a lease after a gap between two calls.

        A clock that was set back tells nothing of gaps, and counts as one.
        """
        now_s = time.time()
        if not 0.0 <= now_s - self._last_s <= self._lease_s / 2:
            self._blind_until_s = now_s + self._lease_s
        self._last_s = now_s
        return now_s >= self._blind_until_s

    def compare(self, store_s: float) -> None:
        """Tell the store's time, at least before `may_judge` is believed.

        A clock of the store's that was set has made leases run out, or lie too far ahead, that are renewed in time: it
        counts as a gap, too.
        """
        now_s = time.time()
        before_s, self._store_ahead_s = self._store_ahead_s, store_s - now_s
        if before_s is not None and abs(self._store_ahead_s - before_s) > self._lease_s / 4:
            self._blind_until_s = now_s + self._lease_s

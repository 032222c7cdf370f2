"""Waiting for other processes, for tests that start and end them."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise TimeoutError(what)


def family(pid: int) -> list[int]:
    """The process and all below it."""
    first = psutil.Process(pid)
    return [first.pid, *(each.pid for each in first.children(recursive=True))]


def are_gone(pids: Iterable[int]) -> bool:
    def gone(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return all(gone(pid) for pid in pids)

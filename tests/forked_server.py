"""Servers of trials that start in no time: forked from their worker, whose imports they share, not begun anew."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, util
from pathlib import Path

from trials_db.stopping import DRAIN_SIGNAL, STOP_SIGNALS

_SPAWN = util.spawnv_passfds


def fork_servers() -> None:
    """Let this process, a worker, fork the server that `trials_db.process` asks for; all else starts as ever."""
    util.spawnv_passfds = _start


@contextmanager
def last_words() -> Iterator[None]:
    """What is in the block is the last that this process does, which was forked."""
    code = 0
    try:
        yield
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001  (told as Python does)
        traceback.print_exc()
        code = 1
    finally:
        # Else the folder of a server's socket would stay.
        util._exit_function()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def close_all_but(kept: Collection[int]) -> None:
    """Close every file but these and the three that all processes have."""
    for number in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
        if number > 2 and number not in kept:
            # That by which they were listed is closed by now.
            with suppress(OSError):
                os.close(number)


def _start(program: bytes, words: Sequence[str], passed: Sequence[int]) -> int:
    """In place of `multiprocessing.util.spawnv_passfds`."""
    if "multiprocessing.forkserver" not in words[-1]:
        return int(_SPAWN(program, words, passed))
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        with last_words():
            _forget_the_worker(passed)
            exec(words[-1], {"__name__": "__main__"})
    return pid


def _forget_the_worker(passed: Collection[int]) -> None:
    """Have nothing of the process that this one was forked from but its imports."""
    close_all_but(passed)
    for number in (*STOP_SIGNALS, DRAIN_SIGNAL):
        signal.signal(number, signal.SIG_DFL)
    logging.root.handlers.clear()
    util._finalizer_registry.clear()
    forkserver._forkserver.__init__()  # type: ignore[misc]

"""Workers that a warm verb starts, warm as well: what they and their trials import is there when they are forked.

All else is as ever: `LocalWorkers` tends workers that are processes of their own sessions, and each of these asks a
server of its own, which runs nothing else, for a process per trial.
"""

import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

from tests.forked_server import close_all_but, fork_servers, last_words
from trials_db import local_workers

_MOST_TOLD = 1 << 17


class Spare:
    """A process that waits to become a worker, and ends with the one that made it; to `LocalWorkers` a `Popen`."""

    def __init__(self) -> None:
        self.returncode: int | None = None
        # Each message arrives whole.
        self._line, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self._line.close()
            with last_words():
                _wait_for_work(line)
        line.close()

    def begin(self, command: Sequence[str], environment: Mapping[str, str], lifeline: int) -> None:
        told = json.dumps([list(command), dict(environment)]).encode()
        socket.send_fds(self._line, [told], [lifeline])

    def wait(self) -> int:
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def keep_spares(number: int) -> None:
    """Let so many workers of this process be spares, made before it has opened anything; further ones start cold."""
    spares = [Spare() for _ in range(number)]

    def start(command: Sequence[str], *, env: Mapping[str, str], pass_fds: Sequence[int], **options: Any) -> Any:
        if not spares:
            return subprocess.Popen(command, env=env, pass_fds=pass_fds, **options)
        [lifeline] = pass_fds
        spare = spares.pop()
        spare.begin(command, env, lifeline)
        return spare

    local_workers.subprocess = SimpleNamespace(Popen=start)  # type: ignore[assignment]


def become(words: Sequence[str]) -> NoReturn:
    """Be what `python WORDS` is, to its end."""
    with last_words():
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


def _wait_for_work(line: socket.socket) -> None:
    os.setsid()
    told, received, _, _ = socket.recv_fds(line, _MOST_TOLD, 1)
    if not told:
        # Whoever made it has ended.
        return
    command, environment = json.loads(told)
    os.environ.clear()
    os.environ.update(environment)
    lifeline = int(environment[local_workers.LIFELINE_VARIABLE])
    line.detach()
    os.dup2(received[0], lifeline)
    close_all_but([lifeline])
    fork_servers()
    become(command[1:])

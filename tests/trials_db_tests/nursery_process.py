"""Masters and workers as processes of their own, for tests that kill them: forked, so that dozens start in no time.

nursery_process.py URL STUDY FOLDER LEASE_S. Each line that it reads starts one: `worker` or `master`, the number of
trials of the study, and at which moment of which method of its store it shall be killed, such as `finish:within`;
nothing for never. It answers with the process's id. `wait PID` answers with its exit status.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from search_space.candidate import Candidate
from search_space.objective import EpochReport, Outcome, TrialContext

LEAD_LEASE_S = 0.5
HOLD = "hold"
HELD_FROM = 6
"""While a file of this name is in the study's folder, trials from this number on go on and on."""

SPACE = {
    "architecture.*": {"drop": True},
    "plan.*": {"drop": True},
    "architecture.depth": {"low": 2},
    "architecture.growth": {"choices": [1.0, 1.5, 1.75, 2.0]},
    "architecture.skip": {"choices": ["concatenate", "add", "none"]},
    "architecture.block": {"choices": ["plain", "residual", "dense"]},
    "plan.learning_rate": {"low": 1e-4},
}
"""What the loss depends on, so that a proposal takes little."""

GIVES = ("claim", "acquire_lead")
"""Nothing where there is nothing to be had; only then they have done nothing."""


@dataclass(frozen=True)
class Quick:
    """A loss that the candidate alone decides, after a moment; from the seventh trial on while nothing holds it."""

    seconds: float = 0.02

    def warm_up(self) -> None:
        """Nothing is slow."""

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        from trial_objectives import synthetic_loss

        trial.report(EpochReport(epoch=1, training_loss=0.5))
        time.sleep(self.seconds)
        while trial.number >= HELD_FROM and (trial.folder.parents[1] / HOLD).exists():
            time.sleep(self.seconds)
        return Outcome(state="done", loss=synthetic_loss(candidate))


def search_settings() -> tuple[Any, Any]:
    """The space and how it is searched: with a lookahead, so that proposals rest on nothing but the trials before."""
    from search_space.space import resolve_space
    from search_space.study import SearchSettings

    return resolve_space(SPACE), SearchSettings(startup_trials=10, lookahead=4)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Executioner:
    """Kills this process while a method of its store is at work."""

    def __init__(self, death: str) -> None:
        self.method, _, self.moment = death.partition(":")
        self.is_armed = False

    def guard(self, store: Any) -> None:
        """Make the store deadly."""
        method = getattr(store, self.method)

        def deadly(*arguments: Any) -> Any:
            if self.moment == "before":
                die()
            self.is_armed = self.moment == "within"
            answer = method(*arguments)
            self.is_armed = False
            if self.moment == "after" and not (answer is False or (answer is None and self.method in GIVES)):
                die()
            return answer

        setattr(store, self.method, deadly)
        if hasattr(store, "_db"):
            store._db.set_trace_callback(self.watch_statement)

    def watch_statement(self, statement: str) -> None:
        """In SQLite: all is written, and not yet committed."""
        if self.is_armed and statement == "COMMIT":
            die()

    def watch_commands(self) -> Any:
        """In MongoDB: the server has done it, and the answer is not heard."""
        from pymongo import monitoring

        class Listener(monitoring.CommandListener):
            def started(_self, event: Any) -> None:  # noqa: N805
                pass

            def succeeded(_self, event: Any) -> None:  # noqa: N805
                if self.is_armed and event.command_name in ("findAndModify", "update", "delete"):
                    die()

            def failed(_self, event: Any) -> None:  # noqa: N805
                pass

        monitoring.register(Listener())


def run(role: str, death: str, url: str, study: str, folder: str, lease_s: float, max_trials: int) -> None:
    from trials_db.opening import open_store
    from trials_db.stopping import stop_on_signals

    executioner = Executioner(death)
    if death and url.startswith("mongodb"):
        executioner.watch_commands()
    with open_store(url, create=False) as store, stop_on_signals() as stop:
        if death:
            executioner.guard(store)
        record = store.load_study(study)
        {"worker": _work, "master": _lead, "alone": _lead_and_work}[role](
            store, record, Path(folder), lease_s, max_trials, stop
        )


def _work(store: Any, record: Any, folder: Path, lease_s: float, max_trials: int, stop: Any) -> None:
    from tests.forked_server import fork_servers
    from trials_db.assignment import Assignment, WorkerLimits
    from trials_db.worker import Worker

    fork_servers()
    Worker(store, [Assignment(record, Quick(), folder, WorkerLimits(lease_s=lease_s))], f"w{os.getpid()}").run(stop)


def _lead(
    store: Any, record: Any, folder: Path, lease_s: float, max_trials: int, stop: Any, work: Any = lambda _: None
) -> None:
    from search_space.study import LimitSettings
    from trials_db import master

    master.LEAD_LEASE_S = LEAD_LEASE_S
    space, settings = search_settings()
    settings = settings.model_copy(update={"lease_s": lease_s})
    master.Master(store, record, space, settings, LimitSettings(max_trials=max_trials)).run(stop, work)


def _lead_and_work(store: Any, record: Any, folder: Path, lease_s: float, max_trials: int, stop: Any) -> None:
    """A master that tries each trial itself, in no time."""
    from trial_objectives import synthetic_loss

    def work(_: object) -> None:
        while (claim := store.claim(record.name, "here", lease_s)) is not None:
            trial = next(trial for trial in store.trials(record.name) if trial.number == claim.number)
            store.finish(claim, Outcome(state="done", loss=synthetic_loss(trial.decoded())))

    _lead(store, record, folder, lease_s, max_trials, stop, work)


def _fork(task: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        # The nursery's own input and answers are not the child's.
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)
        task()
        status = 0
    except BaseException:  # noqa: BLE001  (told, and then the process ends)
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def main(url: str, study: str, folder: str, lease_s: str) -> None:
    import pymongo  # noqa: F401
    import trial_objectives  # noqa: F401

    import tests.forked_server  # noqa: F401
    import trials_db.child
    import trials_db.master
    import trials_db.worker  # noqa: F401

    for line in sys.stdin:
        word, *rest = line.split()
        if word == "wait":
            _, status = os.waitpid(int(rest[0]), 0)
            sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        else:
            arguments = (word, "".join(rest[1:]), url, study, folder, float(lease_s), int(rest[0]))
            sys.stdout.write(f"{_fork(partial(run, *arguments))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

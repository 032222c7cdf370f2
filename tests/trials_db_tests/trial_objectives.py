"""Tiny objectives that trial processes import, each ending in its own way."""

import errno
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.errors import InfeasibleError, UnableError
from search_space.objective import CHECKPOINT_FILE, MODEL_FILE, START_FILE, EpochReport, Outcome, TrialContext


class ResourceExhaustedError(Exception):
    """Named as the frameworks name it."""


def synthetic_loss(candidate: Candidate) -> float:
    """A smooth bowl over the real space, with its bottom at residual blocks, depth 4 and learning rate 1e-3."""
    architecture, plan = candidate.architecture, candidate.plan
    return (
        0.1 * abs(architecture.depth - 4)
        + 0.3 * abs(math.log10(plan.learning_rate) + 3)
        + 0.2 * (architecture.skip != "add")
        + 0.2 * (architecture.block.kind != "residual")
        + 0.2 * (architecture.growth - 1.0)
    )


@dataclass(frozen=True)
class Synthetic:
    """Ends at once, or does as `trouble` says in the trials of these numbers."""

    trouble: str = ""
    numbers: tuple[int, ...] = ()

    def warm_up(self) -> None:
        if self.trouble == "import":
            import a_framework_that_is_not_there  # noqa: F401
        if self.trouble == "dies warming up":
            os.kill(os.getpid(), signal.SIGILL)

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        trial.report(EpochReport(epoch=1, training_loss=0.5, jaccard={"water": 0.25}))
        sys.stdout.write("hello from the objective\n")
        if self.trouble and (not self.numbers or trial.number in self.numbers):
            return self._trouble(trial)
        return Outcome(state="done", loss=synthetic_loss(candidate), figures={"seed": float(trial.seed)})

    def _trouble(self, trial: TrialContext) -> Outcome:
        match self.trouble:
            case "raises":
                raise ValueError("no such\nthing")
            case "nan":
                return Outcome(state="done", loss=math.nan)
            case "smuggled nan":
                return Outcome.model_construct(state="done", loss=math.nan)
            case "nan report":
                trial.report(EpochReport(epoch=2, training_loss=math.inf))
            case "no outcome":
                return 0.5  # type: ignore[return-value]
            case "infeasible":
                raise InfeasibleError("too large", received=5, remedy="Use 4")
            case "unable":
                raise UnableError("the data are gone", remedy="Mount the disk")
            case "disk full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full")
            case "disk full twice":
                met = trial.folder / "met"
                times = int(met.read_text()) if met.exists() else 0
                met.write_text(str(times + 1))
                if times < 2:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full")
                return Outcome(state="done", loss=0.25)
            case "disk full, told in other words":
                try:
                    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
                except OSError as error:
                    raise RuntimeError("cannot save") from error
            case "no file":
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/missing")
            case "warns":
                trial.warn("it rains")
                return Outcome(state="done", loss=0.5)
            case "full log":
                sys.stdout = Path("/dev/full").open("w")  # noqa: SIM115
                sys.stdout.write("still in the buffer")
                return Outcome(state="done", loss=0.5)
            case "malformed":
                decode(Candidate, {"depth": 3}, where="here")
            case "memory error":
                raise MemoryError
            case "gpu memory":
                raise ResourceExhaustedError("no room for (512, 512)")
            case "memory hog":
                hog = bytearray(600_000_000)
                hog[::4096] = b"x" * len(hog[::4096])
                time.sleep(60)
            case "memory hog's child":
                code = "x = bytearray(600_000_000); x[::4096] = b'x' * len(x[::4096]); input()"
                subprocess.run([sys.executable, "-c", code], check=True)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exits":
                os._exit(3)
            case "sys.exit":
                sys.exit(4)
        raise NotImplementedError(self.trouble)


@dataclass(frozen=True)
class Waits:
    """Writes its process id beside `gate`, then waits for that file; with a process of its own where `with_child`."""

    gate: Path
    with_child: bool = False

    def warm_up(self) -> None:
        """Nothing is slow here."""

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        trial.report(EpochReport(epoch=1, training_loss=0.5))
        pids = [os.getpid()]
        if self.with_child:
            pids.append(subprocess.Popen(["sleep", "600"]).pid)
        beside = self.gate.with_suffix(".tmp")
        beside.write_text(" ".join(map(str, pids)))
        beside.rename(self.gate.with_suffix(".pid"))
        while not self.gate.exists():
            time.sleep(0.02)
        return Outcome(state="done", loss=0.5)


@dataclass(frozen=True)
class Curve:
    """Learns towards a mean Jaccard of its own in so many epochs; leaves a file for each that it began."""

    reached: tuple[float, ...]
    epochs: int = 9

    def warm_up(self) -> None:
        """Nothing is slow."""

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        for epoch in range(1, self.epochs + 1):
            (trial.folder / f"epoch{epoch}").touch()
            value = self.reached[trial.number] * epoch / self.epochs
            trial.report(EpochReport(epoch=epoch, training_loss=1.0, jaccard={"water": value}))
            time.sleep(0.3)
        return Outcome(state="done", loss=1.0 - value)


@dataclass(frozen=True)
class Slow:
    """Takes so many seconds for each epoch, by the trial's number."""

    epoch_s: tuple[float, ...]
    epochs: int

    def warm_up(self) -> None:
        """Nothing is slow."""

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        for epoch in range(1, self.epochs + 1):
            time.sleep(self.epoch_s[trial.number])
            trial.report(EpochReport(epoch=epoch, training_loss=1.0))
        return Outcome(state="done", loss=0.5)


@dataclass(frozen=True)
class Trained:
    """Leaves a model that holds the trial's number, and ends with a loss by that number; None fails."""

    losses: tuple[float | None, ...]

    def warm_up(self) -> None:
        """Nothing is slow."""

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        (trial.folder / CHECKPOINT_FILE).write_text("half")
        (trial.folder / MODEL_FILE).write_text(f"model {trial.number}")
        loss = self.losses[trial.number]
        return Outcome(state="failed", reason="planted") if loss is None else Outcome(state="done", loss=loss)


@dataclass(frozen=True)
class GoesOn:
    """Keeps its epochs in the trial's folder; waits after the second until a file says go."""

    def warm_up(self) -> None:
        """Nothing is slow."""

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        kept = trial.folder / CHECKPOINT_FILE
        done = int(kept.read_text()) if kept.exists() else 0
        if done:
            trial.restored([_scored(epoch, 1.0) for epoch in range(1, done + 1)])
        for epoch in range(done + 1, 5):
            while epoch == 3 and not (trial.folder.parents[1] / "go").exists():
                time.sleep(0.05)
            kept.write_text(str(epoch))
            trial.report(_scored(epoch, 1.0 if done == 0 else 2.0))
        return Outcome(state="done", loss=0.5, figures={"began_at": float(done + 1)})


def _scored(epoch: int, seconds: float) -> EpochReport:
    return EpochReport(epoch=epoch, training_loss=1.0, jaccard={"road": 0.5}, seconds=seconds)


@dataclass(frozen=True)
class DoesTasks:
    """Leaves a model that holds the task's class, fold, and what training starts from."""

    def warm_up(self) -> None:
        """Nothing is slow."""

    def __call__(self, candidate: Candidate, trial: TrialContext) -> Outcome:
        task = trial.task
        if task is None:
            raise ValueError("no task")
        start = trial.folder / START_FILE
        begun = start.read_text() if start.exists() else "scratch"
        (trial.folder / MODEL_FILE).write_text(f"{task.class_name} {task.fold} from {begun}")
        return Outcome(state="done", loss=0.1 * trial.number)

"""What a worker is to do: which study, what to run for its trials, within which limits, and what to keep."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from search_space.decode import Frozen, Whole
from search_space.objective import Objective
from trials_db.artifacts import FolderArtifacts
from trials_db.keeping import Keeping
from trials_db.pruning import Pruning
from trials_db.records import StudyRecord


class WorkerLimits(Frozen):
    """What a worker grants a trial, and how often it must be heard of.

    Attributes:
        lease_s: A worker that is silent for longer loses its trial; it tells of itself three times as often.
        trial_s: A trial that takes longer has failed; 0 for no limit.
        stuck_s: A trial that tells nothing for so long has failed; 0 for no limit.
        trial_memory_mb: A trial whose processes hold more, in 10**6 bytes, is infeasible; 0 for no limit.
    """

    lease_s: Annotated[float, Field(gt=0.0)] = 60.0
    trial_s: Annotated[float, Field(ge=0.0)] = 0.0
    stuck_s: Annotated[float, Field(ge=0.0)] = 0.0
    trial_memory_mb: Annotated[Whole, Field(ge=0)] = 0


@dataclass(frozen=True)
class Assignment:
    """One study that a worker serves.

    Attributes:
        study: The study as this process knows it; space, data and seed must be those of the stored one.
        objective: What is run for each trial; it must be picklable.
        folder: The study's folder; each trial gets `trials/0007/` in it, with `candidate.json` and `log.txt`, and
            `traceback.txt` where it failed.
        limits: Time, memory and lease.
        pruning: Which trials end early; None for none.
        keeping: What is kept of trials; None for nothing.
        only: Numbers of trials; no other one is tried. None for all.
    """

    study: StudyRecord
    objective: Objective
    folder: Path
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    pruning: Pruning | None = None
    keeping: Keeping | None = None
    only: frozenset[int] | None = None

    @property
    def kept(self) -> Keeping:
        """What is kept of trials."""
        here = FolderArtifacts(self.folder / "artifacts", carries_checkpoints=False)
        return self.keeping or Keeping(here, num_models=0)

    def trial_folder(self, number: int) -> Path:
        """Where a trial's files go."""
        return self.folder.resolve() / "trials" / f"{number:04d}"

"""Early stopping: whether a trial goes on is decided from what all trials reported, by whoever runs it."""

import statistics
from collections.abc import Collection
from dataclasses import dataclass

from search_space.objective import EpochReport
from search_space.study import PruningSettings
from trials_db.records import Claim
from trials_db.store import TrialStore


@dataclass
class Judging:
    """When one attempt at a trial is judged: not before its first validation, which may come after some epochs.

    Attributes:
        pruning: The study's rule.
        is_scored: Whether any of its epochs so far was validated.
        is_waiting: Whether an epoch after which trials are judged has passed without that.
    """

    pruning: "Pruning"
    is_scored: bool = False
    is_waiting: bool = False

    def is_due(self, report: EpochReport) -> bool:
        """Whether the trial is judged after this epoch, the next one it had."""
        self.is_scored |= report.mean_jaccard is not None
        self.is_waiting |= self.pruning.is_due(report.epoch)
        is_due = self.is_waiting and self.is_scored and report.epoch < self.pruning.epochs
        self.is_waiting &= not is_due
        return is_due


@dataclass(frozen=True)
class Pruning:
    """The rule of a study. It needs no master: each worker asks the store about its own trial after each epoch.

    Attributes:
        settings: The study's.
        epochs: Of a whole training; a trial that had them all is not judged.
    """

    settings: PruningSettings
    epochs: int

    def judge(self, store: TrialStore, claim: Claim, epoch: int) -> str:
        """Why the trial shall end after this epoch, in a line; empty where it goes on."""
        scores = store.scores(claim.study, epoch)
        own = scores.pop(claim.number, None)
        return "" if own is None else self.verdict(epoch, own, scores.values())

    def is_due(self, epoch: int) -> bool:
        """Whether trials are judged after this epoch."""
        settings = self.settings
        if settings.kind == "none" or not settings.from_epoch <= epoch < self.epochs:
            return False
        return settings.kind == "median" or epoch in self.rungs

    @property
    def rungs(self) -> list[int]:
        """After which epochs successive halving judges."""
        found, epoch = [], self.settings.from_epoch
        while epoch < self.epochs:
            found.append(epoch)
            epoch *= self.settings.factor
        return found

    def verdict(self, epoch: int, own: float, others: Collection[float]) -> str:
        """As `judge`, from the best mean Jaccard up to this epoch of the trial and of all others that came so far."""
        if len(others) < self.settings.least_trials:
            return ""
        if self.settings.kind == "median":
            bar, which = statistics.median(others), f"the median of {len(others)} trials"
        else:
            # As asynchronous successive halving has it: nobody waits for the others of a rung.
            num_on = max(1, (len(others) + 1) // self.settings.factor)
            bar = sorted([*others, own], reverse=True)[num_on - 1]
            best = "the best" if num_on == 1 else f"the last of the best {num_on}"
            which = f"{best} of {len(others) + 1} trials"
        if own >= bar:
            return ""
        epochs = f"{epoch} epoch" + ("s" if epoch > 1 else "")
        return f"reached {own:.4f} after {epochs}, {which} {bar:.4f}"

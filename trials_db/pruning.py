"""Early stopping: whether a trial goes on is decided from what all trials reported, by whoever runs it."""

import statistics
from collections.abc import Collection
from dataclasses import dataclass

from search_space.study import PruningSettings
from trials_db.records import Claim
from trials_db.store import TrialStore


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
        if not self.is_due(epoch):
            return ""
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

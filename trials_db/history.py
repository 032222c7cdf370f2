"""What is known of a study's trials, kept up to date at the cost of what changed alone."""

from collections.abc import Iterable

from trials_db.records import Trial, TrialState


class History:
    """The trials of one study.

    Attributes:
        trials: By number.
        counts: Number of trials in each state.
        best: The trial with the lowest loss, the oldest of equals; None while none has a loss.
        next_number: The lowest number without a trial.
        first_open: The lowest number whose trial has not ended; all before it have.
        num_since_best: Trials that have ended and are numbered after the best; all that ended while there is none.
    """

    def __init__(self) -> None:
        self.trials: dict[int, Trial] = {}
        self.counts = dict.fromkeys(TrialState, 0)
        self.best: Trial | None = None
        self.next_number = 0
        self.first_open = 0
        self.num_since_best = 0
        self._last_ended = -1

    @property
    def num_ended(self) -> int:
        """Number of trials that have ended."""
        return sum(count for state, count in self.counts.items() if state.is_final)

    def update(self, changed: Iterable[Trial]) -> None:
        """Take trials as they are now, in any order; what was told before may be told again."""
        for trial in changed:
            before = self.trials.get(trial.number)
            self.trials[trial.number] = trial
            if before is not None:
                self.counts[before.state] -= 1
            self.counts[trial.state] += 1
            if trial.state.is_final and not (before is not None and before.state.is_final):
                self._take_end(trial)
        while self.next_number in self.trials:
            self.next_number += 1
        while self.first_open in self.trials and self.trials[self.first_open].state.is_final:
            self.first_open += 1

    def _take_end(self, trial: Trial) -> None:
        if trial.loss is not None and (self.best is None or _rank(trial) < _rank(self.best)):
            self.best = trial
            self.num_since_best = self._num_ended_after(trial.number)
        elif self.best is None or trial.number > self.best.number:
            self.num_since_best += 1
        self._last_ended = max(self._last_ended, trial.number)

    def _num_ended_after(self, number: int) -> int:
        # Told by number, as a study is that is gone on with, each of ten thousand trials may be the best so far.
        if number > self._last_ended:
            return 0
        return sum(trial.state.is_final for at, trial in self.trials.items() if at > number)


def _rank(trial: Trial) -> tuple[float, int]:
    return (float("inf") if trial.loss is None else trial.loss), trial.number

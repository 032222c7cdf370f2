"""Who was told what by the store, and whether all of it can be true."""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

from search_space.objective import Outcome
from tests.trials_db_tests.farm.world import Violation, World
from trials_db.records import MAX_LIVES, Claim, NewTrial, Trial, TrialState

WRITES = ("renew", "report", "finish", "release")
REQUEUE_DOUBT = 20
"""How many trials one call that nobody heard the answer of may have taken."""


class Call:
    """One call of a store: when it began, and whether it may have been carried out without an answer."""

    def __init__(self, order: int, began_s: float, method: str, arguments: tuple[Any, ...], link: Any) -> None:
        self.order = order
        self.began_s = began_s
        self.method = method
        self.arguments = arguments
        self.link = link
        self.is_doubtful = False


class Life:
    """One trial by what the store answered: its state "none", "new", "running" or "final"."""

    __slots__ = (
        "attempts", "claimed_at", "doubted_at", "link", "losses", "num_epochs", "outcome", "priority", "releases",
        "renewed_s", "state",
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = "none"
        self.priority = 0
        self.attempts = self.losses = self.releases = self.num_epochs = 0
        self.outcome: Outcome | None = None
        self.link: Any = None
        self.claimed_at = self.doubted_at = -1
        self.renewed_s = 0.0


class Audit:
    """Follows every trial by the store's answers alone.

    Where answers are lost on their way (MongoDB), what was done is in doubt until the end, and the checks leave it
    open; where none is (SQLite), they are exact.

    Attributes:
        lives: By number.
        states: How many trials are in each state.
        counts: How many of what there was.
    """

    def __init__(self, world: World, *, lease_s: float, is_atomic: bool) -> None:
        self.lives: dict[int, Life] = {}
        self.states: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._world = world
        self._lease_s = lease_s
        self._is_atomic = is_atomic
        self._order = itertools.count()
        self._requeues: set[Call] = set()
        self._requeue_doubted_at = -1
        self._num_doubts = self._claim_doubts = 0
        self._waiting: list[tuple[int, int]] = []

    def life(self, number: int) -> Life:
        return self.lives.setdefault(number, Life())

    def begin(self, method: str, arguments: tuple[Any, ...], link: Any) -> Call:
        call = Call(next(self._order), self._world.now_s, method, arguments, link)
        if method == "requeue_expired":
            self._requeues.add(call)
        return call

    def doubt(self, call: Call) -> None:
        """Its answer was lost: it will be repeated, or its caller is dead."""
        call.is_doubtful = True
        self._num_doubts += 1
        if call.method in WRITES:
            self.life(call.arguments[0].number).doubted_at = next(self._order)
        elif call.method == "requeue_expired":
            self._num_doubts += REQUEUE_DOUBT
            self._requeue_doubted_at = next(self._order)
        elif call.method == "claim":
            self._claim_doubts += 1

    def abandoned(self, call: Call) -> None:
        """Its caller died in the middle of it."""
        self.doubt(call)
        self._requeues.discard(call)

    def answered(self, call: Call, answer: Any) -> None:
        """Take what the store answered.

        Raises:
            Violation: It cannot be, after all it answered before.
        """
        self._requeues.discard(call)
        if call.method in WRITES:
            self._take_write(call, *call.arguments)
        elif call.method == "claim" and answer is not None:
            self._take_claim(call, answer)
        elif call.method == "add_trial":
            self._take_new(call.arguments[1], is_added=answer, is_doubtful=call.is_doubtful)
        elif call.method == "requeue_expired":
            for number in answer:
                self._take_loss(call, number)

    def refused(self, call: Call) -> None:
        """The store said that the trial is no longer the claim's."""
        if call.method not in WRITES:
            return
        claim: Claim = call.arguments[0]
        life = self.life(claim.number)
        if life.attempts == claim.attempt and life.state == "running" and not self._may_have_ended(life):
            raise Violation(f"{claim.worker} holds trial {claim.number}, and may not {call.method}")
        self.counts["writes refused"] += 1

    def _turn(self, life: Life, state: str) -> None:
        self.states[life.state] -= 1
        self.states[state] += 1
        life.state = state

    def _may_have_ended(self, life: Life) -> bool:
        """Whether somebody may have taken the trial away or handed it back without hearing of it."""
        if life.doubted_at > life.claimed_at:
            return True
        is_requeue_in_doubt = bool(self._requeues) or self._requeue_doubted_at > life.claimed_at
        return is_requeue_in_doubt and self._is_over(life)

    def _is_over(self, life: Life) -> bool:
        return life.renewed_s + self._lease_s < self._world.now_s

    def _take_new(self, trial: NewTrial, *, is_added: bool, is_doubtful: bool) -> None:
        life = self.life(trial.number)
        if is_added and life.state != "none":
            raise Violation(f"trial {trial.number} was added twice")
        if not is_added and life.state == "none" and not is_doubtful and not self._num_doubts:
            raise Violation(f"trial {trial.number} is said to be there, and nobody added it")
        if life.state == "none":
            self._turn(life, "new")
            life.priority = trial.priority
            self._wait(trial.number, life)

    def _wait(self, number: int, life: Life) -> None:
        if self._is_atomic:
            heapq.heappush(self._waiting, (-life.priority, number))

    def _take_claim(self, call: Call, claim: Claim) -> None:
        life = self.life(claim.number)
        if life.state == "final":
            raise Violation(f"trial {claim.number} had ended, and {claim.worker} was given it")
        if life.state == "running" and not self._may_have_ended(life):
            raise Violation(f"trial {claim.number} is held by {life.link.name}, and {claim.worker} was given it")
        if self._is_atomic:
            self._check_turn(claim.number)
        unheard = claim.attempt - life.attempts - 1
        self._claim_doubts -= unheard
        if unheard < 0 or self._claim_doubts < 0:
            raise Violation(f"trial {claim.number} is tried for time {claim.attempt}, not {life.attempts + 1}")
        self._turn(life, "running")
        life.attempts, life.link = claim.attempt, call.link
        life.renewed_s, life.claimed_at = call.began_s, next(self._order)
        self.counts["claims"] += 1

    def _check_turn(self, number: int) -> None:
        while self._waiting and self.lives[self._waiting[0][1]].state != "new":
            heapq.heappop(self._waiting)
        first = self._waiting[0][1] if self._waiting else None
        if first != number:
            raise Violation(f"trial {number} was given away, and it was the turn of trial {first}")

    def _take_write(self, call: Call, claim: Claim, what: Any = None) -> None:
        life = self.life(claim.number)
        is_last = life.attempts == claim.attempt
        is_again = call.method == "finish" and is_last and life.outcome is not None
        if (not is_last and life.claimed_at < call.order) or (is_last and life.state != "running" and not is_again):
            raise Violation(f"{claim.worker} no longer holds trial {claim.number}, and could {call.method}")
        if not is_last or is_again:
            return
        if call.method == "renew":
            life.renewed_s = call.began_s
        elif call.method == "report":
            life.num_epochs = what.epoch
        elif call.method == "release":
            self._turn(life, "new")
            life.releases += 1
            self._wait(claim.number, life)
            self.counts["handed back"] += 1
        else:
            self._turn(life, "final")
            life.outcome = what

    def _take_loss(self, call: Call, number: int) -> None:
        life = self.life(number)
        life.losses += 1
        self.counts["lives lost"] += 1
        if life.claimed_at > call.order:
            # It was taken, and given to another one, before the answer was complete.
            return
        if life.state != "running" and not (life.state == "new" and self._claim_doubts):
            raise Violation(f"trial {number} was taken from a worker, and it was {life.state}")
        if life.state == "running" and not self._is_over(life):
            raise Violation(f"trial {number} was taken from {life.link.name} before its lease ran out")
        if life.state == "running" and not life.link.was_silent_since(life.claimed_at):
            self._take_unjust_loss(number, life)
        self._turn(life, "final" if life.losses >= MAX_LIVES else "new")
        if life.state == "new":
            self._wait(number, life)

    def _take_unjust_loss(self, number: int, life: Life) -> None:
        """A worker lost its trial that was silent only while nobody reached the store."""
        if not self._is_atomic:
            raise Violation(f"trial {number} was taken from {life.link.name}, which only the store kept waiting")
        # A file is never away. Where all stand still with the machine, whoever was about to judge may do so.
        self.counts["lives lost by workers that only the file kept waiting"] += 1

    def check_seen(self, trial: Trial) -> None:
        """Compare a trial, as the store tells of it at this moment, with what was answered about it.

        Raises:
            Violation: It is another one.
        """
        life = self.life(trial.number)
        seen = (_kind(trial.state), trial.attempts, trial.lost_workers, len(trial.reports))
        there = (life.state, life.attempts, life.losses, life.num_epochs)
        if self._is_atomic and seen != there:
            names = "state, attempts, lost workers and epochs"
            raise Violation(f"trial {trial.number} is told with the {names} {seen}, and has {there}")

    def check_picture(self, states: Counter[TrialState]) -> None:
        """Compare how many trials of each state somebody has seen who was told of all changes at this moment.

        Raises:
            Violation: There are others.
        """
        seen: Counter[str] = Counter()
        for state, count in states.items():
            seen[_kind(state)] += count
        there = {kind: self.states[kind] for kind in ("new", "running", "final")}
        if self._is_atomic and there != {kind: seen[kind] for kind in there}:
            raise Violation(f"who follows the changes sees {dict(seen)}, and there are {there}")

    @property
    def order(self) -> int:
        """A number that is later than all before it."""
        return next(self._order)

    def check_end(self, trials: Iterable[Trial], num_trials: int) -> None:
        """Compare what the store holds in the end with what it answered.

        Raises:
            Violation: A trial is lost, was counted wrongly, or ended in another way than was told.
        """
        trials = list(trials)
        numbers = [trial.number for trial in trials]
        if numbers != list(range(num_trials)):
            wrong = sorted(set(range(num_trials)).symmetric_difference(numbers))[:5]
            raise Violation(f"{len(numbers)} trials in the end, and not {num_trials}; wrong are {wrong}")
        unheard = sum(self._check_trial(trial, self.life(trial.number)) for trial in trials)
        if unheard > self._num_doubts:
            raise Violation(f"{unheard} claims, losses and ends that nobody was told of, of {self._num_doubts} at most")
        self.counts["claims, losses and ends nobody was told of"] = unheard

    def _check_trial(self, trial: Trial, life: Life) -> int:
        """Check one trial; return how much of its life nobody was told of."""
        where = f"trial {trial.number}"
        if not trial.state.is_final or trial.outcome is None:
            raise Violation(f"{where} has not ended: {trial.state}")
        is_lost = trial.outcome.reason == f"lost {MAX_LIVES} workers"
        if is_lost != (trial.lost_workers == MAX_LIVES) or trial.lost_workers > MAX_LIVES:
            raise Violation(f"{where} lost {trial.lost_workers} workers, and ended: {trial.outcome.reason}")
        if life.outcome is not None and life.outcome != trial.outcome:
            raise Violation(f"{where} ended twice: {life.outcome}, then {trial.outcome}")
        if trial.outcome.figures.get("attempt", trial.attempts) != trial.attempts:
            raise Violation(f"{where} ended by attempt {trial.outcome.figures['attempt']} of {trial.attempts}")
        epochs = [report.epoch for report in trial.reports]
        if epochs != list(range(1, len(epochs) + 1)):
            raise Violation(f"{where} has reports of the epochs {epochs}")
        ends = trial.lost_workers + life.releases + (not is_lost)
        self.counts["ended lost" if is_lost else f"ended {trial.state}"] += 1
        self.counts[f"lost {trial.lost_workers} of its lives"] += 1
        unheard_end = life.outcome is None and not is_lost
        return (
            abs(trial.attempts - life.attempts)
            + abs(trial.lost_workers - life.losses)
            + abs(trial.attempts - ends)
            + unheard_end
        )


def _kind(state: TrialState) -> str:
    """The state of a life."""
    return "final" if state.is_final else str(state)

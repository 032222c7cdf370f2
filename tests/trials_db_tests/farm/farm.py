"""A farm of workers with their masters, on one simulated clock: real masters, real workers, a real store.

Only what takes time is simulated: the clocks, the line to the store, and the process that would train. Everything
that goes wrong is drawn from the seed.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

from search_space.decode import encode
from search_space.default_space import Space
from search_space.objective import EpochReport, Outcome
from search_space.space import resolve_space, space_fingerprint
from search_space.study import LimitSettings, PruningSettings, SearchSettings
from tests.trials_db_tests.farm.audit import Audit
from tests.trials_db_tests.farm.link import Faults, Killed, Link, Weather
from tests.trials_db_tests.farm.world import BEGIN_S, HOUR_S, Actor, AskedAt, Violation, World, WorldTime
from trials_db.assignment import Assignment, WorkerLimits
from trials_db.bridge import derived_seed
from trials_db.child import Message
from trials_db.errors import StoreError, WorkerError
from trials_db.master import Master, Progress
from trials_db.pruning import Pruning
from trials_db.records import Claim, NewTrial, StudyRecord, Trial, TrialState
from trials_db.store import TrialStore
from trials_db.worker import Worker

SPACE = resolve_space({})
STUDY = "farm"
EPOCHS = 3
LEASE_S = 90.0
STUCK_S = 250.0
NUM_HANDLES = 8
FOLLOW_S = 15.0
KILLED_MASTERS = 10
"""How many masters are killed about, however many trials there are: each reads them all when it begins."""

PACE = {
    "trials_db.worker.POLL_S": 8.0,
    "trials_db.watch.POLL_S": 8.0,
    "trials_db.master.COUNT_WORKERS_S": 20.0,
    "trials_db.mongo_server.PAUSE_S": 2.5,
}
"""Real pauses would be most of what happens."""


@dataclass(frozen=True)
class Plan:
    """What is simulated.

    Attributes:
        seed: Everything random derives from it.
        num_workers: Workers, each on a machine of its own.
        num_trials: Trials of the study.
        num_masters: Masters, of which one leads.
        judged_every: Of so many trials one is judged by the real rule of early stopping, whose cost grows with the
            trials there are; others are stopped by chance.
        faults: How often things go wrong.
    """

    seed: int
    num_workers: int
    num_trials: int
    num_masters: int = 2
    judged_every: int = 1
    faults: Faults = field(default_factory=Faults)


@dataclass(frozen=True)
class Result:
    """What happened.

    Attributes:
        digest: Of all events.
        num_events: How many there were.
        hours: Simulated.
        counts: How many of what.
    """

    digest: str
    num_events: int
    hours: float
    counts: dict[str, int]


class FarmError(Exception):
    """The store broke a promise; the words say which, when, and how to see it again.

    Attributes:
        seed: Finds it again.
        event: Number of the event.
        digest: Of all events up to it.
    """

    def __init__(self, plan: Plan, world: World, error: BaseException) -> None:
        self.seed = plan.seed
        self.event, self.digest, self.what = world.num_events, world.digest, str(error)
        recent = "\n  ".join(world.recent)
        super().__init__(
            f"seed {plan.seed}, {plan.num_workers} workers, {plan.num_trials} trials, event {self.event}, after"
            f" {(world.now_s - BEGIN_S) / HOUR_S:.2f} h: {type(error).__name__}: {error}\n  {recent}"
        )


Opener = Callable[[World, Callable[[], Link | None]], TrialStore]


class Farm:
    """See the module.

    Args:
        plan: What is simulated.
        open_store: Makes one more handle of one store. Several actors share one, as a thousand would be many.
        is_atomic: See `Link`.
    """

    def __init__(self, plan: Plan, open_store: Opener, *, is_atomic: bool) -> None:
        self.plan = plan
        self.world = World(plan.seed, limit_s=6 * HOUR_S + 600.0 * plan.num_trials / plan.num_workers)
        self.audit = Audit(self.world, lease_s=LEASE_S, is_atomic=is_atomic)
        self._is_atomic = is_atomic
        self._weather = Weather(self.world, plan.faults)
        self._links: dict[str, Link] = {}
        self._stores = [open_store(self.world, self._link) for _ in range(NUM_HANDLES)]
        self._record = StudyRecord(
            name=STUDY,
            settings={},
            space_fingerprint=space_fingerprint(SPACE),
            data_fingerprint="",
            seed=plan.seed,
        )
        self._seen: dict[int, tuple[Any, ...]] = {}
        self._seen_states: Counter[TrialState] = Counter()
        self._cursor = ""
        self._progress: Progress | None = None

    def run(self) -> Result:
        """Let the whole search happen.

        Raises:
            FarmError: Something happened that must not.
        """
        world, plan = self.world, self.plan
        self._stores[0].create_study(self._record)
        world.spawn("weather", self._weather.play)
        world.spawn("follower", self._follow)
        for number in range(plan.num_masters):
            world.spawn(f"master-{number}", self._lead)
        for number in range(plan.num_workers):
            world.spawn(f"worker-{number}", self._work)
        try:
            with self._simulated():
                world.run()
                self._check_end()
        except Exception as error:
            raise FarmError(plan, world, error) from error
        finally:
            for store in self._stores:
                store.close()
        self.audit.counts["outages"] = self._weather.num_outages
        hours = (world.now_s - BEGIN_S) / HOUR_S
        return Result(world.digest, world.num_events, hours, dict(sorted(self.audit.counts.items())))

    def _link(self) -> Link | None:
        return self._links.get(self.world.current.name) if self.world.current else None

    def _new_link(self, actor: Actor, faults: Faults) -> Link:
        # By its name: the same one in every run.
        store = self._stores[sum(actor.name.encode()) % NUM_HANDLES]
        link = Link(self.world, actor, store, self.audit, self._weather, faults, is_atomic=self._is_atomic)
        self._links[actor.name] = link
        return link

    def _asked_after(self, actor: Actor, mean_s: float, grain_s: float = 2.5) -> AskedAt:
        return AskedAt(self.world, self.world.now_s + actor.chance.expovariate(1.0 / mean_s), grain_s)

    def _work(self, actor: Actor) -> None:
        """One worker after another on one machine."""
        world, every = self.world, self.plan.judged_every
        pruning = _SomePruning(PruningSettings(kind="halving", least_trials=4), EPOCHS, every, actor)
        limits = WorkerLimits(lease_s=LEASE_S, stuck_s=STUCK_S)
        assignment = Assignment(self._record, _never_run, Path("/nowhere"), limits, pruning)
        while not world.is_closing:
            link = self._new_link(actor, self.plan.faults)
            actor.stop = self._asked_after(actor, 3000.0)
            worker = Worker(link, [assignment], name=actor.name)
            try:
                worker.run(actor.stop, drain=self._asked_after(actor, 6000.0))
                self.audit.counts["workers left"] += 1
            except Killed:
                pass
            except WorkerError:
                self.audit.counts["workers unable"] += 1
            except StoreError:
                # Out of reach for longer than anybody waits; a file never is.
                if self._is_atomic:
                    raise
                self.audit.counts["workers gave up"] += 1
            link.end()
            world.sleep(actor.chance.uniform(1.0, 60.0))

    def _lead(self, actor: Actor) -> None:
        """One master after another on one machine."""
        world = self.world
        crash = min(0.002, KILLED_MASTERS / (5 * self.plan.num_trials))
        faults = replace(self.plan.faults, crash=crash, stall=crash, cut=crash)
        limits = LimitSettings(max_trials=self.plan.num_trials)
        settings = SearchSettings(lease_s=LEASE_S)
        while not world.is_closing:
            actor.stop = self._asked_after(actor, 20_000.0, grain_s=1.0)
            link = self._new_link(actor, faults)
            master = Master(link, self._record, SPACE, settings, limits, name=actor.name)
            try:
                self._progress = master.run(actor.stop)
                if self._progress.is_complete:
                    world.is_closing = True
            except Killed:
                self.audit.counts["masters killed"] += 1
            except StoreError:
                if self._is_atomic:
                    raise
            world.sleep(actor.chance.uniform(1.0, 120.0))

    def _follow(self, actor: Actor) -> None:
        """Somebody who reads nothing but what changed."""
        link = self._new_link(actor, replace(self.plan.faults, crash=0.0))
        while not self.world.is_closing:
            self._see(*link.changed_since(STUDY, self._cursor))
            self.world.sleep(FOLLOW_S)

    def _see(self, changed: Sequence[Trial], cursor: str) -> None:
        self._cursor = cursor
        for trial in changed:
            self.audit.check_seen(trial)
            seen, before = _seen(trial), self._seen.get(trial.number)
            if before is not None and before[0].is_final and before != seen:
                raise Violation(f"trial {trial.number} had ended as {before}, and is now {seen}")
            if before is not None and before[1:3] > seen[1:3]:
                raise Violation(f"trial {trial.number} had so many attempts and losses {before}, and now {seen}")
            if before is not None:
                self._seen_states[before[0]] -= 1
            self._seen_states[trial.state] += 1
            self._seen[trial.number] = seen
        self.audit.check_picture(self._seen_states)

    def _check_end(self) -> None:
        store = self._stores[0]
        trials = store.trials(STUDY)
        self.audit.check_end(trials, self.plan.num_trials)
        self._see(*store.changed_since(STUDY, self._cursor))
        whole = {trial.number: _seen(trial) for trial in trials}
        if self._seen != whole:
            missed = [number for number, seen in whole.items() if self._seen.get(number) != seen]
            raise Violation(f"who follows the changes has missed those of the trials {missed[:5]}")
        counts = dict(Counter(trial.state for trial in trials))
        told = {state: count for state, count in (self._progress.counts if self._progress else {}).items() if count}
        if not counts == told == {state: count for state, count in store.counts(STUDY).items() if count}:
            raise Violation(f"the master counts {told}, and there are {counts}")

    @contextmanager
    def _simulated(self) -> Iterator[None]:
        """Masters and workers that live on the world's time, and train nothing."""
        time = WorldTime(self.world)
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        with ExitStack() as stack:
            for module in ("worker", "watch", "master", "reaping", "stopping", "mongo_server", "keeping"):
                stack.enter_context(patch(f"trials_db.{module}.time", time))
            for name, value in PACE.items():
                stack.enter_context(patch(name, value))
            stack.enter_context(patch("trials_db.master.new_trial", self._new_trial))
            stack.enter_context(patch("trials_db.worker.process_context", lambda *_: None))
            stack.enter_context(patch("trials_db.watch.oom_kills", lambda: 0))
            stack.enter_context(patch("trials_db.worker._job", lambda _, claim, *__: claim))
            stack.enter_context(patch("trials_db.worker.TrialProcess", self._process))
            try:
                yield
            finally:
                logging.disable(before)

    def _new_trial(self, _space: Space, _history: object, number: int, seed: int, _settings: object) -> NewTrial:
        drawn = derived_seed(seed, number, "farm")
        return NewTrial(number=number, point={}, candidate={}, seed=drawn, priority=int(drawn % 10 == 0))

    def _process(self, _context: object, claim: Claim) -> "SimulatedProcess":
        actor = self.world.current
        assert actor is not None
        return SimulatedProcess(self.world, actor, claim, self.audit.life(claim.number).num_epochs)


class SimulatedProcess:
    """What stands for a trial's process; see `trials_db.process.TrialProcess`.

    Args:
        world: Its clock.
        actor: Whose chance decides how it ends.
        claim: The trial.
        num_told: How many epochs were told of the trial; it goes on after one of them.
    """

    was_killed = False

    def __init__(self, world: World, actor: Actor, claim: Claim, num_told: int) -> None:
        self._world = world
        chance = actor.chance
        at_s = world.now_s + chance.uniform(2.0, 10.0)
        kind = chance.choices(("done", "failed", "infeasible", "unable", "dies", "hangs"), (88, 4, 3, 1, 2, 2))[0]
        self._messages: list[tuple[float, Message]] = []
        if kind != "unable":
            self._messages.append((at_s, Message("ready")))
        first = num_told + 1 if chance.random() < 0.8 else chance.randint(1, num_told + 1)
        last = EPOCHS if kind == "done" else chance.randint(0, EPOCHS)
        for epoch in range(first, last + 1):
            at_s += chance.uniform(10.0, 40.0)
            jaccard = {"water": derived_seed(claim.seed, epoch, "jaccard") / 2**31}
            report = EpochReport(epoch=epoch, training_loss=0.5, jaccard=jaccard)
            self._messages.append((at_s, Message("report", encode(report))))
        self._ends_s = at_s if kind != "hangs" else float("inf")
        if kind == "unable":
            self._messages.append((at_s, Message("unable", "no")))
        elif kind in ("done", "failed", "infeasible"):
            self._messages.append((at_s, Message("outcome", encode(_outcome(kind, claim)))))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Its worker ends it, or takes it along."""

    @property
    def has_ended(self) -> bool:
        return self._world.now_s >= self._ends_s

    def receive(self, timeout_s: float) -> list[Message]:
        until_s = min(self._world.now_s + timeout_s, self._messages[0][0] if self._messages else self._ends_s)
        self._world.sleep(until_s - self._world.now_s)
        due = [message for at_s, message in self._messages if at_s <= self._world.now_s]
        del self._messages[: len(due)]
        return due

    def memory_mb(self) -> float:
        return 100.0

    def death(self) -> str:
        return "the training process fell silent"


def _outcome(kind: Any, claim: Claim) -> Outcome:
    """An end that tells which attempt it is of."""
    figures = {"attempt": float(claim.attempt)}
    if kind == "done":
        return Outcome(state="done", loss=derived_seed(claim.seed, claim.attempt, "loss") / 2**31, figures=figures)
    return Outcome(state=kind, reason=f"attempt {claim.attempt}", figures=figures)


@dataclass(frozen=True)
class _SomePruning(Pruning):
    """The real rule for some trials, and chance for the others."""

    every: int
    actor: Actor

    def judge(self, store: TrialStore, claim: Claim, epoch: int) -> str:
        if claim.number % self.every:
            return "" if self.actor.chance.random() < 0.95 else "by chance"
        return super().judge(store, claim, epoch)


def _seen(trial: Trial) -> tuple[Any, ...]:
    epochs = len(trial.reports)
    state: TrialState = trial.state
    return state, trial.attempts, trial.lost_workers, epochs, trial.outcome.loss if trial.outcome else None


def _never_run(*_: object) -> None:
    raise NotImplementedError

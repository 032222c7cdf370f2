"""Between an actor and the store: where processes die, sleep and are cut off."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.trials_db_tests.farm.audit import Audit, Call
from tests.trials_db_tests.farm.world import Actor, Violation, World
from trials_db.errors import LeaseLostError
from trials_db.store import TrialStore

REPEATED = ("renew", "report", "finish", "release", "add_trial", "heartbeat", "requeue_expired")
"""What a caller may ask for again where it heard no answer. A claim is not among them: see `mongo.py`."""


class Killed(BaseException):
    """The process is dead: nothing it would do on its way out is done."""


@dataclass(frozen=True)
class Faults:
    """How often things go wrong, per call where nothing else is said, and for how long.

    Attributes:
        crash: The process is killed, as often before the call is carried out as after.
        stall: The process stands still, as a stopped one does, and goes on as if nothing had been.
        cut: The process alone does not reach the store.
        lost_answer: The call is carried out, the answer lost, and the call repeated.
        not_carried_out: The call is lost, and repeated.
        outage_every_s: Seconds between two times at which nobody reaches the store.
    """

    crash: float = 0.012
    stall: float = 0.006
    cut: float = 0.004
    lost_answer: float = 0.02
    not_carried_out: float = 0.02
    outage_every_s: float = 900.0
    stall_s: tuple[float, float] = (5.0, 400.0)
    cut_s: tuple[float, float] = (1.0, 250.0)
    outage_s: tuple[float, float] = (5.0, 250.0)
    latency_s: tuple[float, float] = (0.001, 0.01)
    pause_s: float = 2.5


class Weather:
    """When nobody reaches the store."""

    def __init__(self, world: World, faults: Faults) -> None:
        self.away_until_s = 0.0
        self.num_outages = 0
        self._world = world
        self._faults = faults

    def play(self, actor: Actor) -> None:
        while not self._world.is_closing:
            self._world.sleep(actor.chance.expovariate(1.0 / self._faults.outage_every_s))
            seconds = actor.chance.uniform(*self._faults.outage_s)
            self.away_until_s = self._world.now_s + seconds
            self.num_outages += 1
            self._world.tell(f"nobody reaches the store for {seconds:.0f} s")
            self._world.sleep(seconds)


class Link:
    """A store as one life of one process reaches it; whatever `TrialStore` has can be called.

    Args:
        world: The clock.
        actor: Whose link it is.
        store: Carries out what arrives.
        audit: Is told all of it.
        weather: When nobody gets through.
        faults: What happens to this process.
        is_atomic: A call is one moment, and its answer always comes, as with a file; else what is lost on the way is
            lost within the store's methods.
    """

    def __init__(
        self,
        world: World,
        actor: Actor,
        store: TrialStore,
        audit: Audit,
        weather: Weather,
        faults: Faults,
        *,
        is_atomic: bool,
    ) -> None:
        self.name = actor.name
        self.call: Call | None = None
        self._world = world
        self._actor = actor
        self._store = store
        self._audit = audit
        self._weather = weather
        self.faults = faults
        self._is_atomic = is_atomic
        self._is_dead = False
        self._silent_at = -1
        self._cut_until_s = 0.0

    def __getattr__(self, method: str) -> Callable[..., Any]:
        # Refuses what the store has not.
        getattr(TrialStore, method)
        return partial(self._ask, method)

    def heed(self, stop: object) -> None:
        """Each actor has its own; see `mongo.py`."""

    def was_silent_since(self, order: int) -> bool:
        """Whether the process is gone, stood still or was cut off by itself after this moment of the audit."""
        return self._is_dead or self._silent_at > order

    @property
    def away_until_s(self) -> float:
        """When a call gets through again."""
        return max(self._weather.away_until_s, self._cut_until_s)

    def is_lucky(self, chance: float) -> bool:
        return self._actor.chance.random() >= chance

    def pause(self) -> None:
        self._world.sleep(self._actor.chance.uniform(*self.faults.latency_s))

    def end(self) -> None:
        """The process is gone, however it ended."""
        self._is_dead = True

    def die(self) -> None:
        """Raises: Killed: Always."""
        self._audit.counts["killed"] += 1
        self._world.tell("is killed")
        self._is_dead = True
        raise Killed

    def lose_answer(self) -> None:
        """What the running call asked for was done, and nobody knows."""
        self._audit.counts["answers lost"] += 1
        if self.call is not None:
            self._audit.doubt(self.call)

    def _ask(self, method: str, *arguments: Any) -> Any:
        if self._is_dead:
            raise Killed
        self.pause()
        self._suffer()
        answer = self._carry(method, arguments)
        while self._is_atomic and method in REPEATED and not self.is_lucky(self.faults.lost_answer):
            self._audit.counts["answers lost"] += 1
            self._world.sleep(self.faults.pause_s)
            answer = self._carry(method, arguments)
        if not self.is_lucky(self.faults.crash / 2):
            self.die()
        return answer

    def _suffer(self) -> None:
        faults, chance = self.faults, self._actor.chance
        if not self.is_lucky(faults.crash / 2):
            self.die()
        if not self.is_lucky(faults.stall):
            self._audit.counts["stalled"] += 1
            self._silent_at = self._audit.order
            self._world.sleep(chance.uniform(*faults.stall_s))
        if not self.is_lucky(faults.cut):
            self._audit.counts["cut off"] += 1
            self._silent_at = self._audit.order
            self._cut_until_s = self._world.now_s + chance.uniform(*faults.cut_s)

    def _carry(self, method: str, arguments: tuple[Any, ...]) -> Any:
        while self._is_atomic and self.away_until_s > self._world.now_s:
            self._world.sleep(self.away_until_s - self._world.now_s)
        self.call = call = self._audit.begin(method, arguments, self)
        try:
            answer = getattr(self._store, method)(*arguments)
        except LeaseLostError:
            self._world.tell(f"{method} {_told(arguments)}: refused")
            self._check(lambda: self._audit.refused(call))
            raise
        except BaseException:
            self._audit.abandoned(call)
            raise
        finally:
            self.call = None
        self._world.tell(f"{method} {_told(arguments)}: {_told((answer,))}")
        self._check(lambda: self._audit.answered(call, answer))
        return answer

    def _check(self, check: Callable[[], None]) -> None:
        try:
            check()
        except Violation as error:
            self._world.fail(error)


def _told(values: tuple[Any, ...]) -> str:
    """Values in a few words, without what is drawn by the system: tokens."""
    words = []
    for value in values:
        if hasattr(value, "number"):
            words.append(f"{value.number}/{getattr(value, 'attempt', '')}")
        elif hasattr(value, "epoch"):
            words.append(f"epoch {value.epoch}")
        elif isinstance(value, tuple):
            words.append(f"{len(value[0])} changes")
        elif isinstance(value, list | dict):
            words.append(f"{len(value)}:{list(value)[:3] if value and isinstance(next(iter(value)), int) else ''}")
        elif isinstance(value, bool | int | float) or value is None:
            words.append(str(value))
    return " ".join(words)

"""A simulated world: threads that take turns, so that real code may wait without any time going by.

Only one thread runs at a time, from one wait to the next, and which one is decided by the simulated clock alone. So
what happens depends on the seed and on nothing else, and a seed that found a fault finds it again.
"""

import hashlib
import heapq
import itertools
import math
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import NoReturn

HOUR_S = 3600.0
BEGIN_S = 1_700_000_000.0
STACK_BYTES = 1 << 20
CLOCK_SET = 0.0005
"""How often a machine's clock is found to be set anew."""


class Over(BaseException):
    """The world has ended: whoever still runs leaves."""


class Violation(Exception):  # noqa: N818
    """Something happened that must not."""


class Actor:
    """One process on a machine of its own, whose clocks tell other times than the store's."""

    def __init__(self, seed: int, name: str, play: Callable[["Actor"], None]) -> None:
        self.name = name
        self.play = play
        self.chance = random.Random(f"{seed}/{name}")
        self.since_boot_s = self.chance.uniform(0.0, 1e6)
        self.skew_s = self.chance.uniform(-5.0, 5.0) * HOUR_S
        self.turn = threading.Semaphore(0)
        self.stop = AskedAt()
        self.thread: threading.Thread | None = None


class World:
    """Its clock, its actors, and a log of all that happened.

    Attributes:
        now_s: Seconds since the epoch.
        current: Whose turn it is; None outside of `run`.
        num_events: How many events were told.
        recent: The last of them.
        failure: Why the world ended before its time.
    """

    def __init__(self, seed: int, limit_s: float = math.inf) -> None:
        self.seed = seed
        self.now_s = BEGIN_S
        self.current: Actor | None = None
        self.num_events = 0
        self.recent: deque[str] = deque(maxlen=25)
        self.failure: BaseException | None = None
        self.is_closing = False
        self._until_s = BEGIN_S + limit_s
        self._actors: list[Actor] = []
        self._queue: list[tuple[float, int, Actor]] = []
        self._order = itertools.count()
        self._digest = hashlib.sha256()
        self._ended = threading.Event()

    @property
    def digest(self) -> str:
        """Of all events so far: equal where, and only where, the same things happened at the same times."""
        return self._digest.hexdigest()

    def tell(self, what: str) -> None:
        """Log an event of the actor whose turn it is."""
        name = self.current.name if self.current else "-"
        line = f"{self.now_s - BEGIN_S:.3f} {name} {what}"
        self.num_events += 1
        self.recent.append(line)
        self._digest.update(line.encode())

    def spawn(self, name: str, play: Callable[[Actor], None]) -> None:
        actor = Actor(self.seed, name, play)
        self._actors.append(actor)
        heapq.heappush(self._queue, (self.now_s, next(self._order), actor))

    def run(self) -> None:
        """Let all actors play to their end.

        Raises:
            BaseException: What ended the world before, as it was raised in an actor.
        """
        before = threading.stack_size(STACK_BYTES)
        for actor in self._actors:
            actor.thread = threading.Thread(target=self._play, args=(actor,), daemon=True)
            actor.thread.start()
        threading.stack_size(before)
        self._pass_on()
        self._ended.wait()
        self._clear_away()
        if self.failure is not None:
            raise self.failure

    def fail(self, error: Violation) -> NoReturn:
        """End the world at once: what the code under test would do on its way out is no longer of interest."""
        self.failure = self.failure or error
        raise Over

    def sleep(self, seconds: float) -> None:
        """Let the others play for so long; who is no actor does not wait."""
        actor = self.current
        if actor is None:
            return
        if self.failure is not None:
            raise Over
        at_s = self.now_s + max(0.0, seconds)
        if at_s > self._until_s:
            self.fail(Violation(f"the search has not ended after {(at_s - BEGIN_S) / HOUR_S:.1f} h"))
        heapq.heappush(self._queue, (at_s, next(self._order), actor))
        if self._pass_on() is not actor:
            actor.turn.acquire()
        if self.failure is not None:
            raise Over

    def _pass_on(self) -> Actor:
        """Give the turn to whoever is next."""
        at_s, _, following = heapq.heappop(self._queue)
        self.now_s = max(self.now_s, at_s)
        before, self.current = self.current, following
        if following is not before:
            following.turn.release()
        return following

    def _play(self, actor: Actor) -> None:
        actor.turn.acquire()
        try:
            if self.failure is None:
                actor.play(actor)
        except Over:
            pass
        except BaseException as error:  # noqa: BLE001  (raised again by `run`)
            if self.failure is None:
                self.failure = error
        if self.failure is None and self._queue:
            self._pass_on()
        else:
            self._ended.set()

    def _clear_away(self) -> None:
        for actor in self._actors:
            if actor.thread is not None:
                self.current = actor
                actor.turn.release()
                actor.thread.join()
        self.current = None


class WorldTime:
    """What stands for the module `time`: the clocks of the machine whose turn it is."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        actor = self._world.current
        return self._world.now_s + (actor.since_boot_s if actor else 0.0)

    def time(self) -> float:
        actor = self._world.current
        if actor is None:
            return self._world.now_s
        if actor.chance.random() < CLOCK_SET:
            actor.skew_s = actor.chance.uniform(-5.0, 5.0) * HOUR_S
        return self._world.now_s + actor.skew_s

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)


class AskedAt:
    """A `Stop` that is set from a moment on, and when the world closes.

    Args:
        world: Its clock; without one, never set.
        at_s: The moment.
        grain_s: Who waits, waits for so long at least: real polls would be most of what happens.
    """

    def __init__(self, world: World | None = None, at_s: float = math.inf, grain_s: float = 2.5) -> None:
        self._world = world
        self._at_s = at_s
        self._grain_s = grain_s

    def is_set(self) -> bool:
        return self._world is not None and (self._world.is_closing or self._world.now_s >= self._at_s)

    def wait(self, timeout: float | None = None) -> bool:
        if self._world is not None and not self.is_set():
            self._world.sleep(max(timeout or 0.0, self._grain_s))
        return self.is_set()

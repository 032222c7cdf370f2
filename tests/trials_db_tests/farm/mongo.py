"""The MongoDB store in a simulated world: the server's clock is the world's, and the line to it is bad."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from tests.trials_db_tests.farm.link import Link
from tests.trials_db_tests.farm.world import World
from trials_db.mongo_store import MongoStore


class _Dated:
    """A database or collection whose server has the world's time where it is asked to write its own."""

    def __init__(self, real: Any, now: Callable[[], datetime]) -> None:
        self._real = real
        self._now = now

    def __getitem__(self, name: str) -> "_Dated":
        return _Dated(self._real[name], self._now)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if isinstance(found, Collection):
            return _Dated(found, self._now)
        return lambda *words, **options: found(*_with_date(words, self._now()), **options)

    def command(self, name: str) -> dict[str, Any]:
        return {**self._real.command(name), "localTime": self._now()}


def _with_date(value: Any, now: datetime) -> Any:
    if isinstance(value, dict):
        if "$currentDate" in value:
            dates = dict.fromkeys(value["$currentDate"], now)
            value = {**value, "$set": {**value.get("$set", {}), **dates}}
            del value["$currentDate"]
        return {key: _with_date(each, now) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_date(each, now) for each in value)
    return now if value == "$$NOW" else value


def open_mongo(
    url: str, world: World, link_of: Callable[[], Link | None], kind: type[MongoStore] = MongoStore
) -> MongoStore:
    """A store of which every single question to the server may get lost, or its answer.

    It repeats them by itself, between two of which the world goes on.

    Args:
        url: Of the database.
        world: Its clock.
        link_of: The link that is asking; None outside of the world, where nothing goes wrong.
        kind: The store, or one with a fault.
    """
    store = kind(url)
    server = store._server
    call = server.call

    def now() -> datetime:
        return datetime.fromtimestamp(world.now_s, UTC)

    def ask_badly(ask: Callable[[Any], Any], db: Any) -> Any:
        link = link_of()
        dated = _Dated(db, now)
        if link is None or link.call is None:
            return ask(dated)
        link.pause()
        if not link.is_lucky(link.faults.crash / 10):
            link.die()
        if link.away_until_s > world.now_s or not link.is_lucky(link.faults.not_carried_out / 5):
            raise AutoReconnect("not carried out")
        answer = ask(dated)
        if not link.is_lucky(link.faults.lost_answer / 5):
            link.lose_answer()
            raise AutoReconnect("answer lost")
        return answer

    server.call = lambda ask: call(lambda db: ask_badly(ask, db))  # type: ignore[method-assign]
    server.stop = _StopOfCurrent(world)
    return store


class _StopOfCurrent:
    """What the actor whose turn it is was asked."""

    def __init__(self, world: World) -> None:
        self._world = world

    def is_set(self) -> bool:
        return self._world.current is not None and self._world.current.stop.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._world.current is not None and self._world.current.stop.wait(timeout)

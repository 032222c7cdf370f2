"""What a MongoDB store stands on: one server, its time, and atomic writes of one document."""

# The methods' docstrings are those of `TrialStore`.
# ruff: noqa: D102

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from trials_db.mongo_documents import Plain, moment_of, seconds_of
from trials_db.mongo_server import Server
from trials_db.records import FURTHEST_LEASE_S
from trials_db.stopping import Stop
from trials_db.store import TrialStore


class MongoConnection(TrialStore):
    """One database, reached.

    Args:
        url: Any URI that PyMongo takes; the database is the one that it names, else `mapgrove`.
        create: Make the collections where they are missing; else that is an error.
        clock: Tells seconds since the epoch in place of the server: for tests.
    """

    def __init__(self, url: str, *, create: bool = True, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._server = Server(url, create=create)
        self.place = self._server.place

    def close(self) -> None:
        self._server.close()

    def heed(self, stop: Stop) -> None:
        self._server.stop = stop

    def now(self) -> float:
        if self._clock is not None:
            return self._clock()
        return float(seconds_of(self._server.call(lambda db: db.command("hello")["localTime"])))

    def probe(self) -> None:
        key = {"_id": uuid.uuid4().hex}
        self._server.call(lambda db: db.probes.update_one(key, {"$set": {"written": True}}, upsert=True))
        self._server.call(lambda db: db.probes.delete_one(key))

    @property
    def _now(self) -> Any:
        """The time at which the server writes, for pipelines."""
        return "$$NOW" if self._clock is None else moment_of(self._clock())

    def _later(self, seconds: float) -> Plain:
        return {"$add": [self._now, 1000.0 * seconds]}

    @property
    def _is_over(self) -> dict[str, Any]:
        """A query for leases that ran out."""
        return self._is_over_at(self._now)

    def _is_over_at(self, moment: Any) -> dict[str, Any]:
        """A query for leases that had run out at a moment; what is no time would never have passed."""
        is_no_time = {"$ne": [{"$type": "$lease_until"}, "date"]}
        has_passed = {"$lt": ["$lease_until", moment]}
        # However long ago the moment is, what was renewed since lies ahead of now by a lease at most.
        is_too_far = {"$gt": ["$lease_until", self._later(FURTHEST_LEASE_S)]}
        return {"$expr": {"$or": [is_no_time, has_passed, is_too_far]}}

    def _upsert(self, collection: str, query: Plain, values: Plain) -> None:
        """Change the document that the query finds, or insert one.

        Raises:
            DuplicateKeyError: There is one of this key that the query does not find.
        """
        self._server.call(lambda db: db[collection].update_one(query, [{"$set": values}], upsert=True))

    def _update(self, collection: str, query: Plain, values: Plain) -> bool:
        """Change the document that the query finds; return whether there is one."""
        return bool(self._server.call(lambda db: db[collection].update_one(query, [{"$set": values}])).matched_count)

    def _dated(self, values: Plain, times: Mapping[str, float | None]) -> dict[str, Any]:
        """A change by plain operators, through which the server is twice as fast as through a pipeline.

        Args:
            values: What is set.
            times: In seconds since the epoch; None for now.
        """
        now_s = None if self._clock is None else self._clock()
        moments = {name: now_s if at_s is None else at_s for name, at_s in times.items()}
        given = {name: moment_of(at_s) for name, at_s in moments.items() if at_s is not None}
        change: dict[str, Any] = {"$set": {**values, **given}}
        if len(given) < len(times):
            change["$currentDate"] = {name: True for name in times if name not in given}
        return change

"""The studies of a MongoDB store, and who serves them: the master that leads, the workers that live."""

# The methods' docstrings are those of `TrialStore`.
# ruff: noqa: D102

import uuid
from collections.abc import Callable, Collection
from typing import Any

from pymongo.errors import DuplicateKeyError

from search_space.study import LONGEST_LEASE_S
from trials_db.errors import LeaseLostError
from trials_db.mongo_connection import MongoConnection
from trials_db.mongo_documents import as_text, seconds_of
from trials_db.mongo_server import SCHEMA_VERSION
from trials_db.reading import Reader
from trials_db.records import Lead, StudyRecord, WorkerRecord
from trials_db.store import check_same_study, no_such_study


class MongoStudies(MongoConnection):
    """All that a store holds but trials.

    Its arguments are those of `MongoConnection`.
    """

    def __init__(self, url: str, *, create: bool = True, clock: Callable[[], float] | None = None) -> None:
        super().__init__(url, create=create, clock=clock)
        self._reader = Reader(self.place, self.now)
        # Studies that were found once; no method takes one away.
        self._known: set[str] = set()

    def create_study(self, record: StudyRecord) -> None:
        try:
            self._upsert(
                "studies",
                {"_id": record.name, "document": {"$exists": False}},
                {"document": as_text(record), "schema": SCHEMA_VERSION, "created": self._now},
            )
        except DuplicateKeyError:
            check_same_study(self.load_study(record.name), record)

    def load_study(self, name: str) -> StudyRecord:
        return self._reader.study(name, self._study_text(name))

    def list_studies(self) -> list[str]:
        order = [("created", 1), ("_id", 1)]
        found = self._server.call(lambda db: list(db.studies.find({}, {"_id": 1}).sort(order)))
        return [each["_id"] for each in found if isinstance(each["_id"], str)]

    def update_study_settings(self, record: StudyRecord, may_change: Collection[str]) -> StudyRecord:
        while True:
            text = self._study_text(record.name)
            check_same_study(self._reader.study(record.name, text), record, may_change)
            # The text as it is: an earlier version may have written the same study in other words.
            unchanged = {"_id": record.name, "document": {"$eq": text}}
            if self._update("studies", unchanged, {"document": as_text(record)}):
                return record

    def acquire_lead(self, study: str, owner: str, lease_s: float) -> Lead | None:
        lead = Lead(study=study, owner=owner, token=uuid.uuid4().hex, lease_s=min(lease_s, LONGEST_LEASE_S))
        new = {"owner": {"$literal": owner}, "token": lead.token, "lease_until": self._later(lead.lease_s)}
        if self._update("leads", {"_id": study, **self._is_over}, new):
            return lead
        try:
            self._upsert("leads", {"_id": study, "owner": {"$exists": False}}, new)
        except DuplicateKeyError:
            held = self._server.call(lambda db: db.leads.find_one({"_id": study}))
            return lead if held is not None and held.get("token") == lead.token else None
        return lead

    def renew_lead(self, lead: Lead) -> None:
        held = {"_id": lead.study, "token": lead.token}
        if not self._update("leads", held, {"lease_until": self._later(lead.lease_s)}):
            raise LeaseLostError(f"Another master leads the study {lead.study!r}")

    def release_lead(self, lead: Lead) -> None:
        self._server.call(lambda db: db.leads.delete_one({"_id": lead.study, "token": lead.token}))

    def leader(self, study: str) -> str | None:
        over = self._is_over["$expr"]
        query = {"_id": study, "$expr": {"$not": over}}
        found = self._server.call(lambda db: db.leads.find_one(query))
        return str(found.get("owner")) if found else None

    def heartbeat(self, worker: WorkerRecord) -> None:
        key = {"_id": {"study": worker.study, "name": worker.name}}
        self._upsert("workers", key, {"document": as_text(worker), "last_seen": self._now})

    def forget_worker(self, study: str, name: str) -> None:
        self._server.call(lambda db: db.workers.delete_one({"_id": {"study": study, "name": name}}))

    def workers(self, study: str) -> list[WorkerRecord]:
        query = {"_id.study": study}
        found = self._server.call(lambda db: list(db.workers.find(query).sort("_id.name", 1)))
        told = [
            self._reader.worker(study, each.get("document"), last_seen_s=seconds_of(each.get("last_seen")))
            for each in found
        ]
        return [worker for worker in told if worker is not None]

    def _study_text(self, name: str) -> Any:
        """What is stored as the study of this name; refuse one that is not there."""
        found = self._server.call(lambda db: db.studies.find_one({"_id": name}))
        if found is None:
            raise no_such_study(name, self.list_studies())
        return found.get("document")

    def _refuse_unknown(self, study: str) -> None:
        """Refuse a study that the store does not hold; one that was found is not looked for again."""
        if study not in self._known:
            self._refuse_missing(study)
            self._known.add(study)

    def _refuse_missing(self, study: str) -> None:
        if self._server.call(lambda db: db.studies.find_one({"_id": study}, {"_id": 1})) is None:
            raise no_such_study(study, self.list_studies())

"""The studies of a SQLite store, and who serves them: the master that leads, the workers that live."""

# The methods' docstrings are those of `TrialStore`.
# ruff: noqa: D102

import time
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

from search_space.decode import canonical_json
from search_space.study import LONGEST_LEASE_S
from trials_db.errors import LeaseLostError
from trials_db.reading import Reader
from trials_db.records import FURTHEST_LEASE_S, Lead, StudyRecord, WorkerRecord
from trials_db.sqlite_connection import LEASE_HOLDS, SqliteConnection, patient
from trials_db.store import check_same_study, no_such_study


class SqliteStudies(SqliteConnection):
    """All that a store holds but trials.

    Its arguments are those of `SqliteConnection`.
    """

    def __init__(self, path: Path, *, create: bool = True, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path, create=create, clock=clock)
        self._reader = Reader(str(path), self.now)

    def create_study(self, record: StudyRecord) -> None:
        with self.writing() as db:
            stored = self._find_study(record.name)
            if stored is None:
                db.execute(
                    "INSERT INTO studies (name, document, created_s) VALUES (?, ?, ?)",
                    (record.name, canonical_json(record), self.now()),
                )
            else:
                check_same_study(stored, record)

    def load_study(self, name: str) -> StudyRecord:
        with self.reading():
            stored = self._find_study(name)
        if stored is None:
            raise no_such_study(name, self.list_studies())
        return stored

    def list_studies(self) -> list[str]:
        with self.reading() as db:
            return [row["name"] for row in db.execute("SELECT name FROM studies ORDER BY created_s, name")]

    def update_study_settings(self, record: StudyRecord, may_change: Collection[str]) -> StudyRecord:
        with self.writing() as db:
            check_same_study(self.load_study(record.name), record, may_change)
            db.execute("UPDATE studies SET document = ? WHERE name = ?", (canonical_json(record), record.name))
        return record

    @patient
    def acquire_lead(self, study: str, owner: str, lease_s: float) -> Lead | None:
        lead = Lead(study=study, owner=owner, token=uuid.uuid4().hex, lease_s=min(lease_s, LONGEST_LEASE_S))
        with self.writing() as db:
            if self.leader(study) is not None:
                return None
            db.execute(
                "INSERT OR REPLACE INTO leads (study, owner, token, lease_until_s) VALUES (?, ?, ?, ?)",
                (study, owner, lead.token, self.now() + lead.lease_s),
            )
        return lead

    @patient
    def renew_lead(self, lead: Lead) -> None:
        with self.writing() as db:
            changed = db.execute(
                "UPDATE leads SET lease_until_s = ? WHERE study = ? AND token = ?",
                (self.now() + lead.lease_s, lead.study, lead.token),
            ).rowcount
        if not changed:
            raise LeaseLostError(f"Another master leads the study {lead.study!r}")

    @patient
    def release_lead(self, lead: Lead) -> None:
        with self.writing() as db:
            db.execute("DELETE FROM leads WHERE study = ? AND token = ?", (lead.study, lead.token))

    def leader(self, study: str) -> str | None:
        with self.reading() as db:
            now_s = self.now()
            row = db.execute(
                f"SELECT owner FROM leads WHERE study = ? AND {LEASE_HOLDS}", (study, now_s, now_s + FURTHEST_LEASE_S)
            ).fetchone()
        return row["owner"] if row else None

    @patient
    def heartbeat(self, worker: WorkerRecord) -> None:
        seen = worker.model_copy(update={"last_seen_s": self.now()})
        with self.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO workers (study, name, document) VALUES (?, ?, ?)",
                (worker.study, worker.name, canonical_json(seen)),
            )

    @patient
    def forget_worker(self, study: str, name: str) -> None:
        with self.writing() as db:
            db.execute("DELETE FROM workers WHERE study = ? AND name = ?", (study, name))

    def workers(self, study: str) -> list[WorkerRecord]:
        with self.reading() as db:
            rows = db.execute("SELECT document FROM workers WHERE study = ? ORDER BY name", (study,)).fetchall()
        found = [self._reader.worker(study, row["document"]) for row in rows]
        return [worker for worker in found if worker is not None]

    def _find_study(self, name: str) -> StudyRecord | None:
        row = self._db.execute("SELECT document FROM studies WHERE name = ?", (name,)).fetchone()
        return self._reader.study(name, row["document"]) if row else None

    def _refuse_missing(self, study: str) -> None:
        if not self._db.execute("SELECT 1 FROM studies WHERE name = ?", (study,)).fetchone():
            raise no_such_study(study, self.list_studies())

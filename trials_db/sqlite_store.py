"""The trial store in one SQLite file: nothing to install, many processes on one machine."""

# The methods' docstrings are those of `TrialStore`.
# ruff: noqa: D102

import json
import logging
import sqlite3
import uuid
from collections.abc import Collection
from typing import Any

from search_space.decode import canonical_json
from search_space.objective import EpochReport, Outcome
from search_space.study import LONGEST_LEASE_S
from trials_db import store
from trials_db.errors import DamagedError
from trials_db.reading import (
    FINAL_STATES,
    StoredTrial,
    all_counts,
    damaged_outcome,
    is_score,
    lives_lost,
)
from trials_db.records import (
    FURTHEST_LEASE_S,
    MAX_LIVES,
    Claim,
    NewTrial,
    Trial,
    TrialState,
)
from trials_db.sqlite_connection import LEASE_HOLDS, patient
from trials_db.sqlite_studies import SqliteStudies
from trials_db.store import lost_lease, no_such_study

_log = logging.getLogger(__name__)

_TRIAL_FIELDS = ("state", "attempts", "lost_workers", "worker", "created_s", "started_s", "finished_s")
_TRIAL_COLUMNS = f"number, document, outcome, {', '.join(_TRIAL_FIELDS)}"


class SqliteStore(SqliteStudies):
    """See `TrialStore` for what it promises.

    Writers take turns: each method is one `BEGIN IMMEDIATE` transaction. Readers never wait (write-ahead log).

    Its arguments are those of `SqliteConnection`.
    """

    @patient
    def add_trial(self, study: str, trial: NewTrial) -> bool:
        with self.writing():
            if self._has(study, trial.number):
                return False
            self._insert(study, trial.number, trial.priority, TrialState.NEW, canonical_json(trial), self.now())
        return True

    def restore_trial(self, study: str, trial: Trial) -> bool:
        trial = trial.as_new()
        with self.writing() as db:
            if self._has(study, trial.number):
                return False
            self._insert(
                study, trial.number, trial.priority, trial.state, canonical_json(trial.proposal), trial.created_s
            )
            db.execute(
                "UPDATE trials SET attempts = ?, lost_workers = ?, worker = ?, outcome = ?, loss = ?, started_s = ?,"
                " finished_s = ? WHERE study = ? AND number = ?",
                (
                    *(trial.attempts, trial.lost_workers, trial.worker),
                    canonical_json(trial.outcome) if trial.outcome else None,
                    *(trial.loss, trial.started_s, trial.finished_s, study, trial.number),
                ),
            )
            for report in trial.reports:
                self._insert_report(study, trial.number, report)
        return True

    @patient
    def claim(self, study: str, worker: str, lease_s: float, only: Collection[int] | None = None) -> Claim | None:
        if self._lowest_new(study, only) is None:
            return None
        with self.writing() as db:
            new = self._readable_new(study, only)
            if new is None:
                return None
            claim = Claim(
                study=study,
                number=new.number,
                token=uuid.uuid4().hex,
                worker=worker,
                candidate=new.candidate,
                seed=new.seed,
                attempt=new.attempts + 1,
                lease_s=min(lease_s, LONGEST_LEASE_S),
                task=new.task,
            )
            now = self.now()
            db.execute(
                "UPDATE trials SET state = ?, token = ?, worker = ?, attempts = ?, started_s = ?, lease_until_s = ?,"
                " changed = ? WHERE study = ? AND number = ?",
                (
                    *(TrialState.RUNNING, claim.token, worker, claim.attempt, now, now + claim.lease_s),
                    *(self._next_change(study), study, new.number),
                ),
            )
        return claim

    @patient
    def renew(self, claim: Claim) -> None:
        with self.writing():
            self._update_claimed(claim, "lease_until_s = ?", self.now() + claim.lease_s)

    @patient
    def report(self, claim: Claim, report: EpochReport) -> None:
        with self.writing() as db:
            self._update_claimed(claim, "changed = ?", self._next_change(claim.study))
            db.execute(
                "DELETE FROM reports WHERE study = ? AND number = ? AND epoch >= ?",
                (claim.study, claim.number, report.epoch),
            )
            self._insert_report(claim.study, claim.number, report)

    @patient
    def finish(self, claim: Claim, outcome: Outcome) -> None:
        with self.writing():
            if self._finished_by(claim):
                return
            self._update_claimed(
                claim,
                "state = ?, outcome = ?, loss = ?, finished_s = ?, lease_until_s = NULL, changed = ?",
                *(TrialState(outcome.state), canonical_json(outcome), outcome.loss),
                *(self.now(), self._next_change(claim.study)),
            )

    @patient
    def release(self, claim: Claim) -> None:
        with self.writing():
            self._update_claimed(
                claim,
                "state = ?, token = NULL, lease_until_s = NULL, changed = ?",
                *(TrialState.NEW, self._next_change(claim.study)),
            )

    @patient
    def withdraw(self, study: str, number: int, reason: str) -> bool:
        with self.writing() as db:
            ours = db.execute(
                "UPDATE trials SET token = NULL, lease_until_s = NULL WHERE study = ? AND number = ?"
                " AND state IN (?, ?)",
                (study, number, TrialState.NEW, TrialState.RUNNING),
            ).rowcount
            if ours:
                self._end(study, number, Outcome(state="failed", reason=reason))
        return bool(ours)

    @patient
    def requeue_expired(self, study: str, at_s: float | None = None) -> list[int]:
        at_s = self.now() if at_s is None else at_s
        if not self._expired(study, at_s):
            return []
        with self.writing():
            expired = self._expired(study, at_s)
            for row in expired:
                self._take_away(study, row["number"], lives_lost(row["lost_workers"]))
        for row in expired:
            _log.warning("trial %s of %s lost its worker %s", row["number"], study, row["worker"])
        return [row["number"] for row in expired]

    def trials(self, study: str) -> list[Trial]:
        return self.changed_since(study)[0]

    def changed_since(self, study: str, cursor: str = "") -> tuple[list[Trial], str]:
        since = int(cursor or -1)
        with self.reading() as db:
            rows = db.execute(
                f"SELECT {_TRIAL_COLUMNS} FROM trials WHERE study = ? AND changed > ? ORDER BY number",
                (study, since),
            ).fetchall()
            newest = self._num_changes(study)
            reports = self._reports(study, since) if rows else {}
        stored = [_stored(row, reports.get(row["number"], [])) for row in rows]
        return self._reader.told(study, stored), str(newest)

    def scores(self, study: str, epoch: int) -> dict[int, float]:
        with self.reading() as db:
            rows = db.execute(
                "SELECT number, (SELECT MAX(jaccard) FROM reports"
                " WHERE study = told.study AND number = told.number AND epoch <= told.epoch) AS best"
                " FROM reports told WHERE study = ? AND epoch = ? ORDER BY number DESC LIMIT ?",
                (study, epoch, store.MOST_SCORES),
            ).fetchall()
        return {row["number"]: row["best"] for row in rows if is_score(row["best"])}

    def best(self, study: str, count: int) -> list[tuple[int, float]]:
        with self.reading() as db:
            rows = db.execute(
                "SELECT number, loss FROM trials WHERE study = ? AND loss IS NOT NULL ORDER BY loss, number LIMIT ?",
                (study, count),
            ).fetchall()
        return [(row["number"], row["loss"]) for row in rows if is_score(row["loss"])]

    def counts(self, study: str) -> dict[TrialState, int]:
        with self.reading() as db:
            rows = db.execute("SELECT state, COUNT(*) AS n FROM trials WHERE study = ? GROUP BY state", (study,))
            found = {row["state"]: row["n"] for row in rows}
            if not found:
                self._refuse_missing(study)
        return all_counts(found)

    def _has(self, study: str, number: int) -> bool:
        row = self._db.execute("SELECT 1 FROM trials WHERE study = ? AND number = ?", (study, number)).fetchone()
        return row is not None

    def _insert(self, study: str, number: int, priority: int, state: TrialState, document: str, at_s: float) -> None:
        self._db.execute(
            "INSERT INTO trials (study, number, priority, state, document, created_s, changed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (study, number, priority, state, document, at_s, self._next_change(study)),
        )

    def _insert_report(self, study: str, number: int, report: EpochReport) -> None:
        self._db.execute(
            "INSERT INTO reports (study, number, epoch, jaccard, document) VALUES (?, ?, ?, ?, ?)",
            (study, number, report.epoch, report.mean_jaccard, canonical_json(report)),
        )

    def _next_change(self, study: str) -> int:
        """Number the change that the current transaction makes; refuse one of a study that does not exist."""
        if not self._db.execute("UPDATE studies SET changes = changes + 1 WHERE name = ?", (study,)).rowcount:
            raise no_such_study(study, self.list_studies())
        return self._num_changes(study)

    def _num_changes(self, study: str) -> int:
        """Number of the study's newest change."""
        row = self._db.execute("SELECT changes FROM studies WHERE name = ?", (study,)).fetchone()
        if row is None:
            raise no_such_study(study, self.list_studies())
        return int(row["changes"])

    def _lowest_new(self, study: str, only: Collection[int] | None) -> sqlite3.Row | None:
        named = "" if only is None else " AND number IN (SELECT value FROM json_each(?))"
        with self.reading() as db:
            row: sqlite3.Row | None = db.execute(
                f"SELECT {_TRIAL_COLUMNS} FROM trials WHERE study = ? AND state = ?{named}"
                " ORDER BY priority DESC, number LIMIT 1",
                (study, TrialState.NEW, *([] if only is None else [json.dumps(sorted(only))])),
            ).fetchone()
        return row

    def _readable_new(self, study: str, only: Collection[int] | None) -> Trial | None:
        """The new trial that is next; those before it that cannot be read are ended."""
        while (row := self._lowest_new(study, only)) is not None:
            try:
                reports = self._reports_of(study, row["number"]) if row["attempts"] else []
                return self._reader.trial(study, _stored(row, reports))
            except DamagedError as error:
                self._reader.warn(error)
                self._end(study, row["number"], damaged_outcome(error))
        return None

    def _expired(self, study: str, at_s: float) -> list[sqlite3.Row]:
        with self.reading() as db:
            # Ordered by a sum, as SQLite would else go through the whole study in the order of its numbers.
            return db.execute(
                "SELECT number, lost_workers, worker FROM trials WHERE study = ? AND state = ?"
                f" AND NOT {LEASE_HOLDS} ORDER BY number + 0",
                # However long ago `at_s` is, what was renewed since lies ahead of now by a lease at most.
                (study, TrialState.RUNNING, at_s, self.now() + FURTHEST_LEASE_S),
            ).fetchall()

    def _take_away(self, study: str, number: int, lost: int) -> None:
        """Take a running trial from its worker: a life less, or the end."""
        self._db.execute(
            "UPDATE trials SET state = ?, lost_workers = ?, token = NULL, lease_until_s = NULL, changed = ?"
            " WHERE study = ? AND number = ?",
            (TrialState.NEW, lost, self._next_change(study), study, number),
        )
        if lost >= MAX_LIVES:
            self._end(study, number, Outcome(state="failed", reason=f"lost {lost} workers"))

    def _end(self, study: str, number: int, outcome: Outcome) -> None:
        """End a trial that nobody runs."""
        self._db.execute(
            "UPDATE trials SET state = ?, outcome = ?, finished_s = ?, changed = ? WHERE study = ? AND number = ?",
            (
                *(TrialState(outcome.state), canonical_json(outcome), self.now()),
                *(self._next_change(study), study, number),
            ),
        )

    def _finished_by(self, claim: Claim) -> bool:
        row = self._db.execute(
            "SELECT state, token FROM trials WHERE study = ? AND number = ?", (claim.study, claim.number)
        ).fetchone()
        return row is not None and row["token"] == claim.token and row["state"] in FINAL_STATES

    def _update_claimed(self, claim: Claim, assignments: str, *values: Any) -> None:
        """Change a trial if, and only if, it still is the claim's."""
        changed = self._db.execute(
            f"UPDATE trials SET {assignments} WHERE study = ? AND number = ? AND token = ? AND state = ?",
            (*values, claim.study, claim.number, claim.token, TrialState.RUNNING),
        ).rowcount
        if not changed:
            raise lost_lease(claim)

    def _reports(self, study: str, since: int) -> dict[int, list[str]]:
        """The reports of the trials that changed, by number and epoch, as they are stored."""
        rows = self._db.execute(
            "SELECT number, document FROM reports WHERE study = ?"
            " AND number IN (SELECT number FROM trials WHERE study = ? AND changed > ?) ORDER BY number, epoch",
            (study, study, since),
        )
        found: dict[int, list[str]] = {}
        for row in rows:
            found.setdefault(row["number"], []).append(row["document"])
        return found

    def _reports_of(self, study: str, number: int) -> list[str]:
        rows = self._db.execute(
            "SELECT document FROM reports WHERE study = ? AND number = ? ORDER BY epoch", (study, number)
        )
        return [row["document"] for row in rows]


def _stored(row: sqlite3.Row, reports: list[str]) -> StoredTrial:
    fields = {name: row[name] for name in _TRIAL_FIELDS}
    return StoredTrial(row["number"], row["document"], row["outcome"], reports, fields)

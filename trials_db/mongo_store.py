"""The trial store in a MongoDB database: workers on many machines."""

# The methods' docstrings are those of `TrialStore`.
# ruff: noqa: D102

import json
import logging
import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from search_space.decode import canonical_json
from search_space.objective import EpochReport, Outcome
from search_space.study import LONGEST_LEASE_S
from trials_db import store
from trials_db.errors import DamagedError, LeaseLostError
from trials_db.mongo_documents import (
    IS_COUNT,
    Plain,
    as_text,
    best_score,
    is_dated,
    is_whole,
    key_of,
    moment_of,
    seconds_of,
    stored_trial,
    version_of,
    with_epoch,
)
from trials_db.mongo_server import SCHEMA_VERSION
from trials_db.mongo_studies import MongoStudies
from trials_db.reading import FINAL_STATES, all_counts, damaged_outcome, is_score, lives_lost
from trials_db.records import MAX_LIVES, Claim, NewTrial, Trial, TrialState
from trials_db.store import lost_lease

_log = logging.getLogger(__name__)

_NEVER = datetime.min.replace(tzinfo=UTC)

OVERLAP = timedelta(seconds=10)
"""How far behind the newest change `changed_since` looks again: writes may become visible in another order than their
times, and a server that takes over after another may be behind it."""


class MongoStore(MongoStudies):
    """See `TrialStore` for what it promises.

    A trial is one document, its reports within, and every method one atomic write of one document: so a standalone
    server does as well as a replica set. What Mapgrove knows is kept as canonical JSON, as in SQLite, and never
    evaluated by the server. Times are the server's, read where it writes (`$$NOW`). What cannot reach the server is
    repeated for minutes; each method may be.

    Its arguments are those of `MongoConnection`.
    """

    def add_trial(self, study: str, trial: NewTrial) -> bool:
        new = {
            "state": TrialState.NEW.value,
            "attempts": 0,
            "lost_workers": 0,
            "reports": {},
            "last_epoch": 0,
            "scores": {},
        }
        return self._insert(study, trial, new)

    def restore_trial(self, study: str, trial: Trial) -> bool:
        trial = trial.as_new()
        restored = {
            "state": trial.state.value,
            "attempts": trial.attempts,
            "lost_workers": trial.lost_workers,
            "worker": trial.worker,
            "outcome": canonical_json(trial.outcome) if trial.outcome else None,
            "loss": trial.loss,
            "started": None if trial.started_s is None else moment_of(trial.started_s),
            "finished": None if trial.finished_s is None else moment_of(trial.finished_s),
            "reports": {str(each.epoch): canonical_json(each) for each in trial.reports},
            "last_epoch": max((each.epoch for each in trial.reports), default=0),
            "scores": {str(each.epoch): each.mean_jaccard for each in trial.reports if each.mean_jaccard is not None},
        }
        return self._insert(study, trial.proposal, restored, trial.created_s)

    def claim(self, study: str, worker: str, lease_s: float, only: Collection[int] | None = None) -> Claim | None:
        lease_s = min(lease_s, LONGEST_LEASE_S)
        while (found := self._claim_next(study, worker, lease_s, only)) is not None:
            try:
                trial = self._reader.trial(study, stored_trial(found))
            except DamagedError as error:
                self._reader.warn(error)
                self._end_damaged(found, error)
                continue
            return Claim(
                study=study,
                number=trial.number,
                token=found["token"],
                worker=worker,
                candidate=trial.candidate,
                seed=trial.seed,
                attempt=trial.attempts,
                lease_s=lease_s,
                task=trial.task,
            )
        return None

    def renew(self, claim: Claim) -> None:
        self._update_claimed(claim, {"lease_until": self._later(claim.lease_s)})

    def report(self, claim: Claim, report: EpochReport) -> None:
        epoch, text, score = report.epoch, canonical_json(report), report.mean_jaccard
        values = {f"reports.{epoch}": text, f"scores.{epoch}": score, "last_epoch": epoch}
        is_next = {"last_epoch": {"$lte": epoch}, "reports": {"$type": "object"}, "scores": {"$type": "object"}}
        if self._update_plainly(claim, values, {}, is_next):
            return
        anew = {"reports": with_epoch("$reports", epoch, text), "scores": with_epoch("$scores", epoch, score)}
        self._update_claimed(claim, {**anew, "last_epoch": epoch, **self._change()})

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        values = {"state": outcome.state, "outcome": canonical_json(outcome), "loss": outcome.loss, "lease_until": None}
        if self._update_plainly(claim, values, {"finished": None}):
            return
        ended = {**self._ended(outcome), "lease_until": None, **self._change()}
        try:
            self._update_claimed(claim, ended)
        except LeaseLostError:
            if not self._finished_by(claim):
                raise

    def release(self, claim: Claim) -> None:
        self._update_claimed(claim, self._anew())

    def withdraw(self, study: str, number: int, reason: str) -> bool:
        open_ = {"study": study, "number": number, "state": {"$in": [TrialState.NEW.value, TrialState.RUNNING.value]}}
        return bool(
            self._update("trials", open_, {**self._anew(), **self._ended(Outcome(state="failed", reason=reason))})
        )

    def requeue_expired(self, study: str, at_s: float | None = None) -> list[int]:
        is_over = self._is_over if at_s is None else self._is_over_at(moment_of(at_s))
        expired = {"study": study, "state": TrialState.RUNNING.value, **is_over}
        fields = {"number": 1, "token": 1, "worker": 1, "lost_workers": 1}
        found = self._server.call(lambda db: list(db.trials.find(expired, fields).sort("number", 1)))
        taken = [each for each in found if self._take_away(expired, each)]
        for each in taken:
            _log.warning("trial %s of %s lost its worker %s", each.get("number"), study, each.get("worker"))
        return [each["number"] for each in taken if is_whole(each)]

    def trials(self, study: str) -> list[Trial]:
        return self.changed_since(study)[0]

    def changed_since(self, study: str, cursor: str = "") -> tuple[list[Trial], str]:
        """See `TrialStore`; the cursor tells the newest change and which versions of what is near it were told."""
        since = json.loads(cursor) if cursor else {"at": None, "told": {}}
        query: dict[str, Any] = {"study": study}
        if since["at"] is not None:
            query["changed"] = {"$gte": moment_of(since["at"]) - OVERLAP}
        found = self._server.call(lambda db: list(db.trials.find(query).sort("number", 1)))
        if not found:
            self._refuse_missing(study)
        new = [each for each in found if since["told"].get(str(each["_id"])) != version_of(each)]
        if not new:
            return [], cursor
        # A time to come, which only a damaged document can have, would hide every change before it.
        newest = min(max((each["changed"] for each in found if is_dated(each)), default=_NEVER), moment_of(self.now()))
        told = {
            str(each["_id"]): version_of(each)
            for each in found
            if not is_dated(each) or each["changed"] >= newest - OVERLAP
        }
        trials = self._reader.told(study, [stored_trial(each) for each in new])
        return trials, json.dumps({"at": seconds_of(newest), "told": told})

    def scores(self, study: str, epoch: int) -> dict[int, float]:
        query = {"study": study, f"reports.{epoch}": {"$exists": True}}
        newest = [("number", -1)]
        found = self._server.call(
            lambda db: list(db.trials.find(query, {"number": 1, "scores": 1}).sort(newest).limit(store.MOST_SCORES))
        )
        best = {each["number"]: best_score(each.get("scores"), epoch) for each in found if is_whole(each)}
        return {number: score for number, score in best.items() if score is not None}

    def best(self, study: str, count: int) -> list[tuple[int, float]]:
        if not count:
            # To the server, no limit.
            return []
        query = {"study": study, "loss": {"$type": "number"}}
        order = [("loss", 1), ("number", 1)]
        found = self._server.call(
            lambda db: list(db.trials.find(query, {"number": 1, "loss": 1}).sort(order).limit(count))
        )
        return [(each["number"], each["loss"]) for each in found if is_whole(each) and is_score(each["loss"])]

    def counts(self, study: str) -> dict[TrialState, int]:
        stages = [{"$match": {"study": study}}, {"$group": {"_id": "$state", "n": {"$sum": 1}}}]
        found: Counter[str] = Counter()
        for each in self._server.call(lambda db: list(db.trials.aggregate(stages))):
            found[str(each["_id"])] += each["n"]
        if not found:
            self._refuse_missing(study)
        return all_counts(found)

    def _change(self) -> Plain:
        version = {"$cond": [{"$isNumber": "$version"}, "$version", 0]}
        return {"changed": self._now, "version": {"$add": [version, 1]}}

    def _anew(self) -> Plain:
        """What makes a trial new again."""
        return {
            "state": TrialState.NEW.value,
            "token": None,
            "lease_until": None,
            **self._change(),
        }

    def _ended(self, outcome: Outcome) -> dict[str, Any]:
        """What ends a trial."""
        return {"state": outcome.state, "outcome": as_text(outcome), "loss": outcome.loss, "finished": self._now}

    def _claim_next(self, study: str, worker: str, lease_s: float, only: Collection[int] | None) -> Plain | None:
        """The next new trial as it is stored, now under a token of this worker's."""
        token = uuid.uuid4().hex
        named = {} if only is None else {"number": {"$in": sorted(only)}}
        taken = {
            "state": TrialState.RUNNING.value,
            "token": token,
            "worker": {"$literal": worker},
            "attempts": {"$cond": [IS_COUNT, {"$add": ["$attempts", 1]}, "$attempts"]},
            "started": self._now,
            "lease_until": self._later(lease_s),
            **self._change(),
        }

        def take(db: Any) -> Plain | None:
            # An answer that was lost on its way leaves a trial under this token.
            ours = db.trials.find_one({"study": study, "token": token}) if self._server.is_repeating else None
            taken_now: Plain | None = ours or db.trials.find_one_and_update(
                {"study": study, "state": TrialState.NEW.value, **named},
                [{"$set": taken}],
                sort=[("priority", -1), ("number", 1)],
                return_document=ReturnDocument.AFTER,
            )
            return taken_now

        return self._server.call(take)

    def _insert(self, study: str, proposal: NewTrial, values: Plain, created_s: float | None = None) -> bool:
        """Add a trial; return False where there is one of its number."""
        self._refuse_unknown(study)
        key = {"study": study, "number": proposal.number, "proposal": {"$exists": False}}
        about = {"proposal": canonical_json(proposal), "priority": proposal.priority, "schema": SCHEMA_VERSION}
        change = self._dated({**about, **values, "version": 1}, {"changed": None, "created": created_s})
        try:
            self._server.call(lambda db: db.trials.update_one(key, change, upsert=True))
        except DuplicateKeyError:
            return False
        return True

    def _update_claimed(self, claim: Claim, values: Plain) -> None:
        """Change a trial if, and only if, it still is the claim's."""
        if not self._update("trials", _held(claim), values):
            raise lost_lease(claim)

    def _update_plainly(
        self, claim: Claim, values: Plain, times: Mapping[str, float | None], only_if: Plain | None = None
    ) -> bool:
        """Change a trial of the claim's that is as this version writes it; return whether it is."""
        held = {**_held(claim), "version": {"$type": "number"}, **(only_if or {})}
        change = {**self._dated(values, {"changed": None, **times}), "$inc": {"version": 1}}
        return bool(self._server.call(lambda db: db.trials.update_one(held, change)).matched_count)

    def _finished_by(self, claim: Claim) -> bool:
        found = self._server.call(lambda db: db.trials.find_one({**key_of(claim), "token": claim.token}, {"state": 1}))
        return found is not None and found.get("state") in FINAL_STATES

    def _take_away(self, expired: Plain, found: Plain) -> bool:
        """Take a running trial from its worker, a life less or the end, unless it has been renewed meanwhile."""
        lost = lives_lost(found.get("lost_workers"))
        values = {"lost_workers": lost, **self._anew()}
        if lost >= MAX_LIVES:
            values |= self._ended(Outcome(state="failed", reason=f"lost {lost} workers"))
        # What was read may hold operators of queries.
        same = {name: {"$eq": found.get(name)} for name in ("_id", "token")}
        return self._update("trials", {**expired, **same}, values)

    def _end_damaged(self, found: Plain, error: DamagedError) -> None:
        """End a trial that was claimed and cannot be read."""
        held = {"_id": {"$eq": found["_id"]}, "token": found["token"]}
        self._update("trials", held, {**self._anew(), **self._ended(damaged_outcome(error))})


def _held(claim: Claim) -> dict[str, Any]:
    """A query for a trial, if it still is the claim's."""
    return {**key_of(claim), "token": claim.token, "state": TrialState.RUNNING.value}

"""The trial store in a MongoDB database: workers on many machines."""

# The methods' docstrings are those of `TrialStore`.
# ruff: noqa: D102

import json
import logging
import uuid
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from search_space.decode import canonical_json
from search_space.objective import EpochReport, Outcome
from trials_db.documents import damaged, decode_document, parse_document
from trials_db.errors import LeaseLostError
from trials_db.mongo_server import SCHEMA_VERSION, Server
from trials_db.records import MAX_LIVES, Claim, Lead, NewTrial, StudyRecord, Trial, TrialState, WorkerRecord
from trials_db.stopping import Stop
from trials_db.store import TrialStore, check_same_study, no_such_study

_log = logging.getLogger(__name__)

Plain = Mapping[str, Any]

OVERLAP = timedelta(seconds=10)
"""How far behind the newest change `changed_since` looks again: writes may become visible in another order than their
times, and a server that takes over after another may be behind it."""


class MongoStore(TrialStore):
    """See `TrialStore` for what it promises.

    A trial is one document, its reports within, and every method one atomic write of one document: so a standalone
    server does as well as a replica set. What Mapgrove knows is kept as canonical JSON, as in SQLite, and never
    evaluated by the server. Times are the server's, read where it writes (`$$NOW`). What cannot reach the server is
    repeated for minutes; each method may be.

    Args:
        url: Any URI that PyMongo takes; the database is the one that it names, else `mapgrove`.
        create: Make the collections where they are missing; else that is an error.
        clock: Tells seconds since the epoch in place of the server: for tests.
    """

    def __init__(self, url: str, *, create: bool = True, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._server = Server(url, create=create)
        # Studies that were found once; no method takes one away.
        self._known: set[str] = set()
        self.place = self._server.place

    def close(self) -> None:
        self._server.close()

    def heed(self, stop: Stop) -> None:
        self._server.stop = stop

    def now(self) -> float:
        if self._clock is not None:
            return self._clock()
        return float(_seconds(self._server.call(lambda db: db.command("hello")["localTime"])))

    def probe(self) -> None:
        key = {"_id": uuid.uuid4().hex}
        self._server.call(lambda db: db.probes.update_one(key, {"$set": {"written": True}}, upsert=True))
        self._server.call(lambda db: db.probes.delete_one(key))

    def create_study(self, record: StudyRecord) -> None:
        try:
            self._upsert(
                "studies",
                {"_id": record.name, "document": {"$exists": False}},
                {"document": _json(record), "schema": SCHEMA_VERSION, "created": self._now},
            )
        except DuplicateKeyError:
            check_same_study(self.load_study(record.name), record)

    def load_study(self, name: str) -> StudyRecord:
        found = self._server.call(lambda db: db.studies.find_one({"_id": name}))
        if found is None:
            raise no_such_study(name, self.list_studies())
        return self._study(found)

    def list_studies(self) -> list[str]:
        order = [("created", 1), ("_id", 1)]
        return [each["_id"] for each in self._server.call(lambda db: list(db.studies.find({}, {"_id": 1}).sort(order)))]

    def update_study_settings(self, record: StudyRecord, may_change: Collection[str]) -> StudyRecord:
        while True:
            stored = self.load_study(record.name)
            check_same_study(stored, record, may_change)
            unchanged = {"_id": record.name, "document": canonical_json(stored)}
            if self._update("studies", unchanged, {"document": _json(record)}):
                return record

    def add_trial(self, study: str, trial: NewTrial) -> bool:
        new = {"state": TrialState.NEW.value, "attempts": 0, "lost_workers": 0, "reports": {}, "scores": {}}
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
            "started": None if trial.started_s is None else _moment(trial.started_s),
            "finished": None if trial.finished_s is None else _moment(trial.finished_s),
            "reports": {str(each.epoch): canonical_json(each) for each in trial.reports},
            "scores": {str(each.epoch): each.mean_jaccard for each in trial.reports if each.mean_jaccard is not None},
        }
        return self._insert(study, trial.proposal, restored, trial.created_s)

    def claim(self, study: str, worker: str, lease_s: float) -> Claim | None:
        token = uuid.uuid4().hex
        taken = {
            "state": TrialState.RUNNING.value,
            "token": token,
            "worker": {"$literal": worker},
            "attempts": {"$add": ["$attempts", 1]},
            "started": self._now,
            "lease_until": self._later(lease_s),
            **self._change(),
        }

        def take(db: Any) -> Plain | None:
            # An answer that was lost on its way leaves a trial under this token.
            ours = db.trials.find_one({"study": study, "token": token}) if self._server.is_repeating else None
            taken_now: Plain | None = ours or db.trials.find_one_and_update(
                {"study": study, "state": TrialState.NEW.value},
                [{"$set": taken}],
                {"number": 1, "proposal": 1, "attempts": 1},
                sort=[("priority", -1), ("number", 1)],
                return_document=ReturnDocument.AFTER,
            )
            return taken_now

        found = self._server.call(take)
        if found is None:
            return None
        new = self._proposal(study, found)
        return Claim(
            study=study,
            number=new.number,
            token=token,
            worker=worker,
            candidate=new.candidate,
            seed=new.seed,
            attempt=found["attempts"],
            lease_s=lease_s,
        )

    def renew(self, claim: Claim) -> None:
        self._update_claimed(claim, {"lease_until": self._later(claim.lease_s)})

    def report(self, claim: Claim, report: EpochReport) -> None:
        score = report.mean_jaccard
        values = {
            "reports": _with_epoch("$reports", report.epoch, canonical_json(report)),
            "scores": _with_epoch("$scores", report.epoch, score),
        }
        self._update_claimed(claim, {**values, **self._change()})

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        ended = {
            "state": TrialState(outcome.state).value,
            "outcome": _json(outcome),
            "loss": outcome.loss,
            "finished": self._now,
            "lease_until": None,
            **self._change(),
        }
        try:
            self._update_claimed(claim, ended)
        except LeaseLostError:
            if not self._finished_by(claim):
                raise

    def release(self, claim: Claim) -> None:
        self._update_claimed(claim, self._anew())

    def requeue_expired(self, study: str) -> list[int]:
        expired = {"study": study, "state": TrialState.RUNNING.value, **self._is_over}
        fields = {"number": 1, "token": 1, "worker": 1, "lost_workers": 1}

        def look(db: Any) -> list[Plain]:
            # A server that was away was so for the workers too: they are perhaps about to renew.
            return [] if self._server.is_repeating else list(db.trials.find(expired, fields).sort("number", 1))

        found = self._server.call(look)
        taken = [each for each in found if self._take_away(expired, each)]
        for each in taken:
            _log.warning("trial %d lost its worker %s", each["number"], each["worker"])
        return [each["number"] for each in taken]

    def trials(self, study: str) -> list[Trial]:
        return self.changed_since(study)[0]

    def changed_since(self, study: str, cursor: str = "") -> tuple[list[Trial], str]:
        """See `TrialStore`; the cursor tells the newest change and which versions of what is near it were told."""
        since = json.loads(cursor) if cursor else {"at": None, "told": {}}
        query: dict[str, Any] = {"study": study}
        if since["at"] is not None:
            query["changed"] = {"$gte": _moment(since["at"]) - OVERLAP}
        found = self._server.call(lambda db: list(db.trials.find(query).sort("number", 1)))
        if not found:
            self._refuse_missing(study)
            return [], cursor
        new = [each for each in found if since["told"].get(str(each.get("number"))) != each.get("version")]
        trials = [self._trial(study, each) for each in new]
        newest = max(each["changed"] for each in found)
        told = {str(each["number"]): each["version"] for each in found if each["changed"] >= newest - OVERLAP}
        return trials, json.dumps({"at": _seconds(newest), "told": told})

    def scores(self, study: str, epoch: int) -> dict[int, float]:
        query = {"study": study, f"reports.{epoch}": {"$exists": True}}
        found = self._server.call(lambda db: list(db.trials.find(query, {"number": 1, "scores": 1})))
        best = {
            each["number"]: max(
                (score for at, score in each["scores"].items() if int(at) <= epoch and score is not None), default=None
            )
            for each in found
        }
        return {number: score for number, score in best.items() if score is not None}

    def best(self, study: str, count: int) -> list[tuple[int, float]]:
        query = {"study": study, "loss": {"$type": "number"}}
        order = [("loss", 1), ("number", 1)]
        found = self._server.call(
            lambda db: list(db.trials.find(query, {"number": 1, "loss": 1}).sort(order).limit(count))
        )
        return [(each["number"], each["loss"]) for each in found]

    def counts(self, study: str) -> dict[TrialState, int]:
        stages = [{"$match": {"study": study}}, {"$group": {"_id": "$state", "n": {"$sum": 1}}}]
        found = {each["_id"]: each["n"] for each in self._server.call(lambda db: list(db.trials.aggregate(stages)))}
        if not found:
            self._refuse_missing(study)
        return {state: found.get(state.value, 0) for state in TrialState}

    def acquire_lead(self, study: str, owner: str, lease_s: float) -> Lead | None:
        lead = Lead(study=study, owner=owner, token=uuid.uuid4().hex, lease_s=lease_s)
        new = {"owner": {"$literal": owner}, "token": lead.token, "lease_until": self._later(lease_s)}
        if self._update("leads", {"_id": study, **self._is_over}, new):
            return lead
        try:
            self._upsert("leads", {"_id": study, "owner": {"$exists": False}}, new)
        except DuplicateKeyError:
            held = self._server.call(lambda db: db.leads.find_one({"_id": study}))
            return lead if held is not None and held["token"] == lead.token else None
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
        return str(found["owner"]) if found else None

    def heartbeat(self, worker: WorkerRecord) -> None:
        key = {"_id": {"study": worker.study, "name": worker.name}}
        self._upsert("workers", key, {"document": _json(worker), "last_seen": self._now})

    def forget_worker(self, study: str, name: str) -> None:
        self._server.call(lambda db: db.workers.delete_one({"_id": {"study": study, "name": name}}))

    def workers(self, study: str) -> list[WorkerRecord]:
        query = {"_id.study": study}
        found = self._server.call(lambda db: list(db.workers.find(query).sort("_id.name", 1)))
        return [self._worker(study, each) for each in found]

    @property
    def _now(self) -> Any:
        """The time at which the server writes, for pipelines."""
        return "$$NOW" if self._clock is None else _moment(self._clock())

    def _later(self, seconds: float) -> Plain:
        return {"$add": [self._now, 1000.0 * seconds]}

    @property
    def _is_over(self) -> dict[str, Any]:
        """A query for leases that ran out."""
        return {"$expr": {"$lt": ["$lease_until", self._now]}}

    def _change(self) -> Plain:
        return {"changed": self._now, "version": {"$add": [{"$ifNull": ["$version", 0]}, 1]}}

    def _anew(self) -> Plain:
        """What makes a trial new again."""
        return {
            "state": TrialState.NEW.value,
            "token": None,
            "lease_until": None,
            **self._change(),
        }

    def _insert(self, study: str, proposal: NewTrial, values: Plain, created_s: float | None = None) -> bool:
        """Add a trial; return False where there is one of its number."""
        if study not in self._known:
            self._refuse_missing(study)
            self._known.add(study)
        key = {"study": study, "number": proposal.number, "proposal": {"$exists": False}}
        about = {"proposal": canonical_json(proposal), "priority": proposal.priority, "schema": SCHEMA_VERSION}
        now_s = None if self._clock is None else self._clock()
        times = {"changed": now_s, "created": now_s if created_s is None else created_s}
        given = {name: _moment(at_s) for name, at_s in times.items() if at_s is not None}
        change: dict[str, Any] = {"$set": {**about, **values, **given, "version": 1}}
        if len(given) < len(times):
            change["$currentDate"] = {name: True for name in times if name not in given}
        # Plain operators: the server takes twice as long to insert through a pipeline.
        try:
            self._server.call(lambda db: db.trials.update_one(key, change, upsert=True))
        except DuplicateKeyError:
            return False
        return True

    def _upsert(self, collection: str, query: Plain, values: Plain) -> None:
        """Change the document that the query finds, or insert one.

        Raises:
            DuplicateKeyError: There is one of this key that the query does not find.
        """
        self._server.call(lambda db: db[collection].update_one(query, [{"$set": values}], upsert=True))

    def _update(self, collection: str, query: Plain, values: Plain) -> bool:
        """Change the document that the query finds; return whether there is one."""
        return bool(self._server.call(lambda db: db[collection].update_one(query, [{"$set": values}])).matched_count)

    def _update_claimed(self, claim: Claim, values: Plain) -> None:
        """Change a trial if, and only if, it still is the claim's."""
        held = {**_key(claim), "token": claim.token, "state": TrialState.RUNNING.value}
        if not self._update("trials", held, values):
            raise LeaseLostError(
                f"Trial {claim.number} of {claim.study!r} is no longer held by {claim.worker}",
                remedy="It was silent for longer than its lease; raise search.lease_s if that was not its death",
            )

    def _finished_by(self, claim: Claim) -> bool:
        found = self._server.call(lambda db: db.trials.find_one({**_key(claim), "token": claim.token}, {"state": 1}))
        return found is not None and TrialState(found["state"]).is_final

    def _take_away(self, expired: Plain, found: Plain) -> bool:
        """Take a running trial from its worker, a life less or the end, unless it has been renewed meanwhile."""
        lost = found["lost_workers"] + 1
        values = {"lost_workers": lost, **self._anew()}
        if lost >= MAX_LIVES:
            outcome = Outcome(state="failed", reason=f"lost {lost} workers")
            values |= {"state": TrialState.FAILED.value, "outcome": _json(outcome), "finished": self._now}
        return self._update("trials", {**expired, "number": found["number"], "token": found["token"]}, values)

    def _refuse_missing(self, study: str) -> None:
        if self._server.call(lambda db: db.studies.find_one({"_id": study}, {"_id": 1})) is None:
            raise no_such_study(study, self.list_studies())

    def _study(self, found: Plain) -> StudyRecord:
        where = f"study {found['_id']!r}"
        return decode_document(StudyRecord, parse_document(found.get("document"), self.place, where), self.place, where)

    def _proposal(self, study: str, found: Plain) -> NewTrial:
        where = f"trial {found['number']} of study {study!r}"
        return decode_document(NewTrial, parse_document(found.get("proposal"), self.place, where), self.place, where)

    def _trial(self, study: str, found: Plain) -> Trial:
        where = f"trial {found.get('number')} of study {study!r}"
        outcome, reports = found.get("outcome"), found.get("reports")
        if not isinstance(found.get("changed"), datetime) or not isinstance(found.get("version"), int):
            raise damaged(self.place, where, "when it changed is not told")
        if not isinstance(reports, dict) or not all(epoch.isdecimal() for epoch in reports):
            raise damaged(self.place, where, "its reports are not told by epoch")
        plain = {
            **parse_document(found.get("proposal"), self.place, where),
            "state": found.get("state"),
            "attempts": found.get("attempts"),
            "lost_workers": found.get("lost_workers"),
            "worker": found.get("worker"),
            "reports": [self._report(study, found["number"], reports[epoch]) for epoch in sorted(reports, key=int)],
            "outcome": None if outcome is None else parse_document(outcome, self.place, where),
            "created_s": _seconds(found.get("created")),
            "started_s": _seconds(found.get("started")),
            "finished_s": _seconds(found.get("finished")),
        }
        return decode_document(Trial, plain, self.place, where)

    def _report(self, study: str, number: int, text: Any) -> EpochReport:
        where = f"a report of trial {number} of study {study!r}"
        return decode_document(EpochReport, parse_document(text, self.place, where), self.place, where)

    def _worker(self, study: str, found: Plain) -> WorkerRecord:
        where = f"a worker of study {study!r}"
        plain = {
            **parse_document(found.get("document"), self.place, where),
            "last_seen_s": _seconds(found.get("last_seen")),
        }
        return decode_document(WorkerRecord, plain, self.place, where)


def _json(record: Any) -> Plain:
    """A record as text, which no pipeline takes for an expression."""
    return {"$literal": canonical_json(record)}


def _with_epoch(field: str, epoch: int, value: Any) -> Plain:
    """What was told of the epochs before, and of this one."""
    earlier = {"$filter": {"input": {"$objectToArray": field}, "cond": {"$lt": [{"$toInt": "$$this.k"}, epoch]}}}
    return {"$mergeObjects": [{"$arrayToObject": earlier}, {"$literal": {str(epoch): value}}]}


def _key(claim: Claim) -> dict[str, Any]:
    return {"study": claim.study, "number": claim.number}


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _seconds(moment: Any) -> Any:
    """Seconds since the epoch; what is no moment stays as it is, and is refused where it is read."""
    return moment.timestamp() if isinstance(moment, datetime) else moment

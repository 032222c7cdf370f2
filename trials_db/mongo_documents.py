"""A trial as MongoDB keeps it: one document, taken apart and put together."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from search_space.decode import canonical_json
from trials_db.mongo_server import SCHEMA_VERSION
from trials_db.reading import StoredTrial, is_score
from trials_db.records import Claim

Plain = Mapping[str, Any]

_ABOUT = {"_id", "study", "number", "proposal", "priority", "schema", "created", "changed", "version"}
_LIFE = {"state", "attempts", "lost_workers", "worker", "token", "lease_until", "started", "finished", "outcome"}
TRIAL_FIELDS = _ABOUT | _LIFE | {"reports", "last_epoch", "scores", "loss"}
"""All that a trial's document holds."""


IS_COUNT = {"$and": [{"$isNumber": "$attempts"}, {"$gte": ["$attempts", 0]}]}
"""What is none stays as it is, and is refused by whoever reads it."""


def stored_trial(found: Plain) -> StoredTrial:
    """A trial's document, taken apart."""
    reports = found.get("reports")
    epochs = sorted(map(int, reports)) if isinstance(reports, dict) and all(map(_is_epoch, reports)) else None
    unknown = sorted(found.keys() - TRIAL_FIELDS)
    damage = ""
    if unknown:
        damage = f"unknown key {unknown[0][:60]!r}"
    elif found.get("schema") != SCHEMA_VERSION:
        damage = f"its version is {str(found.get('schema'))[:20]}, and this Mapgrove reads {SCHEMA_VERSION}"
    elif not is_dated(found) or not isinstance(found.get("version"), int):
        damage = "when it changed is not told"
    elif epochs is None:
        damage = "its reports are not told by epoch"
    fields = {name: found.get(name) for name in ("state", "attempts", "lost_workers", "worker")}
    fields |= {f"{name}_s": seconds_of(found.get(name)) for name in ("created", "started", "finished")}
    texts = [reports[str(epoch)] for epoch in epochs] if isinstance(reports, dict) and epochs else []
    return StoredTrial(found.get("number"), found.get("proposal"), found.get("outcome"), texts, fields, damage)


def _is_epoch(key: str) -> bool:
    return key.isascii() and key.isdecimal() and len(key) < 10 and str(int(key)) == key


def is_whole(found: Plain) -> bool:
    """Whether a document has a trial's number."""
    return isinstance(found.get("number"), int)


def is_dated(found: Plain) -> bool:
    """Whether a document tells when it changed."""
    return isinstance(found.get("changed"), datetime)


def version_of(found: Plain) -> Any:
    """What changes with every change, as JSON has it."""
    version = found.get("version")
    return version if isinstance(version, int) else str(version)[:60]


def best_score(scores: Any, epoch: int) -> float | None:
    """The best of a trial's scores up to an epoch; those that are none are left out."""
    known = scores.items() if isinstance(scores, dict) else ()
    return max((score for at, score in known if is_score(score) and _is_epoch(at) and int(at) <= epoch), default=None)


def as_text(record: Any) -> Plain:
    """A record as text, which no pipeline takes for an expression."""
    return {"$literal": canonical_json(record)}


def with_epoch(field: str, epoch: int, value: Any) -> Plain:
    """What was told of the epochs before, and of this one; what is told of none is left out."""
    told = {"$cond": [{"$eq": [{"$type": field}, "object"]}, {"$objectToArray": field}, []]}
    at = {"$convert": {"input": "$$this.k", "to": "int", "onError": epoch}}
    earlier = {"$filter": {"input": told, "cond": {"$lt": [at, epoch]}}}
    return {"$mergeObjects": [{"$arrayToObject": earlier}, {"$literal": {str(epoch): value}}]}


def key_of(claim: Claim) -> dict[str, Any]:
    """A query for the trial of a claim."""
    return {"study": claim.study, "number": claim.number}


def moment_of(seconds: float) -> datetime:
    """A time in seconds since the epoch, as MongoDB has it."""
    return datetime.fromtimestamp(seconds, UTC)


def seconds_of(moment: Any) -> Any:
    """Seconds since the epoch; what is no moment stays as it is, and is refused where it is read."""
    return moment.timestamp() if isinstance(moment, datetime) else moment

"""How stores read what they hold; what is damaged is one failed trial, never the end of the study."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_space.objective import EpochReport, Outcome
from trials_db.documents import Document, damaged, decode_document, parse_document
from trials_db.errors import DamagedError
from trials_db.records import MAX_LIVES, NewTrial, StudyRecord, Trial, TrialState, WorkerRecord

_log = logging.getLogger(__name__)

FINAL_STATES = [state.value for state in TrialState if state.is_final]


@dataclass(frozen=True)
class StoredTrial:
    """A trial as a store holds it; nothing of it is checked yet.

    Attributes:
        number: Under which it is kept.
        proposal: The text of a `NewTrial`.
        outcome: The text of an `Outcome`, None before the end.
        reports: The texts of the `EpochReport`s, by epoch.
        fields: The other fields of `Trial`.
        damage: What the store itself sees to be wrong; empty where nothing is.
    """

    number: Any
    proposal: Any
    outcome: Any
    reports: Sequence[Any]
    fields: Mapping[str, Any]
    damage: str = ""


class Reader:
    """Reads one store's documents.

    Args:
        place: The store, for errors.
        now: The store's time.
    """

    def __init__(self, place: str, now: Callable[[], float]) -> None:
        self._place = place
        self._now = now
        self._told: set[str] = set()

    def study(self, name: str, text: Any) -> StudyRecord:
        """A study's record.

        Raises:
            DamagedError: It is none.
        """
        return self._read(StudyRecord, text, f"study {name!r}")

    def worker(self, study: str, text: Any, **fields: Any) -> WorkerRecord | None:
        """A worker's record, some fields of which are kept apart; None, with a warning, where it is damaged."""
        where = f"a worker of study {study!r}"
        try:
            return decode_document(
                WorkerRecord, {**parse_document(text, self._place, where), **fields}, self._place, where
            )
        except DamagedError as error:
            self.warn(error)
            return None

    def trial(self, study: str, stored: StoredTrial) -> Trial:
        """A trial.

        Raises:
            DamagedError: It is none, another one than that of its number, or its end is not that of its state.
        """
        where, place = _name(study, stored.number), self._place
        if stored.damage or not _is_number(stored.number):
            raise damaged(place, where, stored.damage or "that is no number of a trial")
        plain = {
            **parse_document(stored.proposal, place, where),
            **stored.fields,
            "outcome": None if stored.outcome is None else parse_document(stored.outcome, place, where),
            "reports": [self._read(EpochReport, text, f"a report of {where}") for text in stored.reports],
        }
        trial = decode_document(Trial, plain, place, where)
        if trial.number != stored.number:
            raise damaged(place, where, "what it holds is another trial", received=trial.number)
        told = trial.outcome.state if trial.outcome else None
        if told != (trial.state.value if trial.state.is_final else None):
            raise damaged(place, where, f"its state is {trial.state.value!r}, and its outcome tells {told!r}")
        return trial

    def told(self, study: str, stored: Sequence[StoredTrial]) -> list[Trial]:
        """Trials for everybody to see: the damaged as failed ones, with a warning.

        Of these the proposal is told as far as it can be read. What has no readable number is left out.
        """
        found = (self._one(study, each) for each in stored)
        return [trial for trial in found if trial is not None]

    def warn(self, error: DamagedError) -> None:
        """Tell of a damage, once however often it is met."""
        text = str(error)
        if text not in self._told:
            self._told.add(text)
            _log.warning("%s", text)

    def _one(self, study: str, stored: StoredTrial) -> Trial | None:
        try:
            return self.trial(study, stored)
        except DamagedError as error:
            self.warn(error)
            return self._failed(study, stored, error) if _is_number(stored.number) else None

    def _failed(self, study: str, stored: StoredTrial, error: DamagedError) -> Trial:
        created_s = stored.fields.get("created_s")
        known: dict[str, Any] = {"point": {}, "candidate": {}, "seed": 0}
        try:
            known |= dict(self._read(NewTrial, stored.proposal, _name(study, stored.number)))
        except DamagedError as further:
            _log.debug("%s", further)
        return Trial(
            **{**known, "number": stored.number},
            state=TrialState.FAILED,
            outcome=damaged_outcome(error),
            created_s=created_s if isinstance(created_s, float) and math.isfinite(created_s) else self._now(),
        )

    def _read(self, model: type[Document], text: Any, where: str) -> Document:
        return decode_document(model, parse_document(text, self._place, where), self._place, where)


def damaged_outcome(error: DamagedError) -> Outcome:
    """How a trial ends whose document is damaged."""
    return Outcome(state="failed", reason=" ".join(error.what.split())[:300])


def lives_lost(before: Any) -> int:
    """How many lives a trial has lost with this one; all of them where that is not known."""
    return before + 1 if isinstance(before, int) else MAX_LIVES


def all_counts(found: Mapping[Any, int]) -> dict[TrialState, int]:
    """Numbers of trials in each state; those in none that is known are told as failed ones."""
    counts = {state: found.get(state.value, 0) for state in TrialState}
    counts[TrialState.FAILED] += sum(found.values()) - sum(counts.values())
    return counts


def is_score(value: Any) -> bool:
    """Whether a trial can be judged by this."""
    return isinstance(value, float) and math.isfinite(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _name(study: str, number: Any) -> str:
    text = str(number) if isinstance(number, int) else repr(number)[:60]
    return f"trial {text} of study {study!r}"

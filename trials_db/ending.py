"""When a search ends: after so many trials, so long a time, a good enough result, or no better one for long."""

from collections.abc import Iterable

from search_space.study import LimitSettings, Study
from trials_db.history import History
from trials_db.records import Trial

HOUR_S = 3600.0


def ending(limits: LimitSettings, history: History, now_s: float) -> str:
    """Why no further trial is proposed, in words for the user; empty while the search goes on.

    Args:
        limits: The study's.
        history: Trials that may be known of: where proposals rest on some alone, on the same.
        now_s: The store's time.
    """
    first = history.trials.get(0)
    if limits.hours and first is not None and now_s - first.created_s >= limits.hours * HOUR_S:
        return f"limits.hours = {limits.hours:g} have passed since its first trial"
    best = history.best
    if limits.target_jaccard and best is not None and best.loss is not None:
        reached = 1.0 - best.loss
        if reached >= limits.target_jaccard:
            return f"trial {best.number} reached {reached:.4f}, and limits.target_jaccard is {limits.target_jaccard:g}"
    if limits.patience and best is not None and history.num_since_best >= limits.patience:
        return f"no trial after trial {best.number} was better, and limits.patience is {limits.patience}"
    return ""


def study_ending(study: Study, trials: Iterable[Trial], now_s: float) -> str:
    """See `ending`, for whoever has the trials at hand."""
    history = History()
    history.update(trials)
    return ending(study.limits, told_history(history, study.search.lookahead), now_s)


def told_history(whole: History, lookahead: int, told: History | None = None) -> History:
    """What proposals rest on now; see `SearchSettings.lookahead`.

    Args:
        whole: All trials.
        lookahead: 0 where proposals rest on all of them.
        told: What this returned before, to be gone on with.
    """
    if not lookahead:
        return whole
    told = told or History()
    rests_on = range(told.next_number, min(whole.first_open, whole.next_number - lookahead))
    told.update(whole.trials[number] for number in rests_on)
    return told

"""Show how far studies are: trials by state, the best so far, pace, expected end, workers, epochs under way.

Examples:
  python run_search.py status --study demo
  python run_search.py status --study 'demo/*'
  python run_search.py status --study demo@retrain
"""

import argparse
from typing import TYPE_CHECKING

from search_space.decode import decode
from search_space.errors import MapgroveError
from search_space.names import is_retraining, retraining_name
from search_space.study import Study
from verbs.common import add_json, add_studies, is_pattern, load_studies, matching, note, open_named, say, say_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from results.status import StudyStatus
    from trials_db.store import TrialStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_studies(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Read the store once and show it."""
    from results.epochs import shown_epochs
    from results.status import plain_status, shown_workers, status_details
    from results.text import render_details, render_table
    from results.trainings import training_table

    named = load_studies(options)
    names = named.names
    with open_named(named) as store:
        known = store.list_studies()
        found = [_begun(name, known) for name in matching(names, known)]
        now_s = store.now()
        several = [_status(store, name, now_s) for name in found]
        trainings = {name: store.trials(name) for name in found if is_retraining(name)}
    if not several:
        raise MapgroveError(
            "no study of the store matches", received=", ".join(names), remedy=f"It holds: {', '.join(known) or 'none'}"
        )
    if options.json:
        plain = [plain_status(status) for status in several]
        say_json(plain if len(names) > 1 or any(map(is_pattern, names)) else plain[0])
        return
    for place, status in enumerate(several):
        say(("\n" if place else "") + render_details(status_details(status, now_s=now_s)))
        if trainings.get(status.study):
            say("\n" + render_table(training_table(trainings[status.study])))
        if len(status.workers):
            say("\n" + render_table(shown_workers(status.workers)))
        if len(status.epochs):
            say("\n" + render_table(shown_epochs(status.epochs)))


def _begun(name: str, known: "Sequence[str]") -> str:
    """The study of this name, or, where it was never searched, its retraining."""
    retraining = retraining_name(name)
    if name in known or retraining not in known:
        return name
    note(f"{name} was not searched here; this is its retraining")
    return retraining


def _status(store: "TrialStore", name: str, now_s: float) -> "StudyStatus":
    from results.status import study_status
    from results.trainings import current_trainings
    from trials_db.ending import HOUR_S, study_ending

    settings = decode(Study, store.load_study(name).settings, where=f"study {name}")
    trials, limits = store.trials(name), settings.limits
    if is_retraining(name):
        trials = current_trainings(trials)
        return study_status(name, trials, store.workers(name), max_trials=len(trials), now_s=now_s)
    return study_status(
        name,
        trials,
        store.workers(name),
        max_trials=limits.max_trials,
        now_s=now_s,
        master=store.leader(name),
        ending=study_ending(settings, trials, now_s),
        ends_s=trials[0].created_s + limits.hours * HOUR_S if limits.hours and trials else None,
    )

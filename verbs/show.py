"""Show one trial: how it ended, what it reached, and the candidate it tried.

Examples:
  python run_search.py show --study demo best
  python run_search.py show --study demo 3 --json
"""

import argparse

from search_space.decode import encode
from search_space.errors import MapgroveError
from verbs.common import add_json, add_study, load_study, open_study_store, say, say_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    add_json(parser)
    parser.add_argument("trial", metavar="TRIAL", help='number of a trial, or "best"')


def run(options: argparse.Namespace) -> None:
    """Read the store once and show the trial."""
    from results.facts import ranked
    from results.tables import trial_details
    from results.text import render_details

    study = load_study(options)
    with open_study_store(study) as store:
        trials = store.trials(study.name)
    chosen = ranked(trials)[:1] if options.trial == "best" else [t for t in trials if str(t.number) == options.trial]
    if not chosen and options.trial == "best":
        raise MapgroveError("no trial has a result yet", received=study.name, remedy="`status` shows how far it is")
    if not chosen:
        raise MapgroveError(
            f"study {study.name} has no such trial", received=options.trial, remedy="`trials` lists them"
        )
    if options.json:
        say_json(encode(chosen[0]))
    else:
        say(render_details(trial_details(chosen[0])))

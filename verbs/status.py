"""Show how far a study is: trials by state, the best so far, pace, expected end, workers.

Example:
  python run_search.py status --study demo
"""

import argparse

from verbs.common import add_json, add_study, load_study, open_study_store, say, say_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Read the store once and show it."""
    from results.status import plain_status, shown_workers, status_details, study_status
    from results.text import render_details, render_table
    from search_space.decode import decode
    from search_space.study import Study
    from trials_db.ending import HOUR_S, study_ending

    study = load_study(options)
    with open_study_store(study) as store:
        settings = decode(Study, store.load_study(study.name).settings, where=f"study {study.name}")
        now_s, trials = store.now(), store.trials(study.name)
        limits = settings.limits
        status = study_status(
            study.name,
            trials,
            store.workers(study.name),
            max_trials=limits.max_trials,
            now_s=now_s,
            master=store.leader(study.name),
            ending=study_ending(settings, trials, now_s),
            ends_s=trials[0].created_s + limits.hours * HOUR_S if limits.hours and trials else None,
        )
    if options.json:
        say_json(plain_status(status))
        return
    say(render_details(status_details(status, now_s=now_s)))
    if len(status.workers):
        say("\n" + render_table(shown_workers(status.workers)))

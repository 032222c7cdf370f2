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
    from results.status import plain_status, status_details, study_status
    from results.text import render_details, render_table
    from search_space.decode import decode
    from search_space.study import Study

    study = load_study(options)
    with open_study_store(study) as store:
        settings = decode(Study, store.load_study(study.name).settings, where=f"study {study.name}")
        now_s = store.now()
        status = study_status(
            study.name,
            store.trials(study.name),
            store.workers(study.name),
            max_trials=settings.limits.max_trials,
            now_s=now_s,
        )
    if options.json:
        say_json(plain_status(status))
        return
    say(render_details(status_details(status, now_s=now_s)))
    if len(status.workers):
        say("\n" + render_table(status.workers))

"""List the trials of a study, best first, then those without a result and why; or export them.

Examples:
  python run_search.py trials --study demo
  python run_search.py trials --study demo --csv trials.csv
"""

import argparse
from pathlib import Path

from verbs.common import add_json, add_study, at_least, load_study, open_study_store, say, say_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    add_json(parser)
    parser.add_argument("--top", type=at_least(1), metavar="N", help="only the N best")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every trial with every dimension as CSV")
    parser.add_argument("--json-lines", type=Path, metavar="FILE", help="write every trial as stored, one per line")


def run(options: argparse.Namespace) -> None:
    """Read the store once; print or write."""
    from results.export import write_csv, write_json_lines
    from results.phrases import failures_line
    from results.tables import all_trials, leader_board, trial_table
    from results.text import plain_rows, render_table

    study = load_study(options)
    with open_study_store(study) as store:
        trials = store.trials(study.name)
    classes = study.data.classes
    if options.csv:
        say(str(write_csv(options.csv, trials, classes)))
    if options.json_lines:
        say(str(write_json_lines(options.json_lines, trials)))
    if options.csv or options.json_lines:
        return
    if options.json:
        say_json(plain_rows(trial_table(trials, classes, top=options.top)))
        return
    say(render_table(leader_board(trials, classes, top=options.top)))
    rest = [trial for trial in trials if trial.loss is None]
    if rest and not options.top:
        say("\n" + render_table(all_trials(rest)))
    elif failures := failures_line(trials):
        say(failures)

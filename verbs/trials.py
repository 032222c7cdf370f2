"""List the trials of a study, best first, then those without a result and why; fetch a model, or move the study.

`export` writes the whole study, as its store knows it, into a file, and the models that were kept into a folder beside
it; `import` adds what these hold to a store. Nothing is lost between them; a trial that was running is new where it
arrives. An import that was interrupted may be repeated. `model` writes the model of the best trial, or of `--trial N`
if kept: a `.keras` file that also holds the candidate, the scaling of the bands, the classes and their thresholds.

Examples:
  python run_search.py trials --study demo
  python run_search.py trials --study demo --csv trials.csv
  python run_search.py trials model best.keras --study demo
  python run_search.py trials export demo.jsonl --study demo
  python run_search.py trials import demo.jsonl --store mongodb://host/mapgrove
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from search_space.decode import decode
from search_space.errors import MapgroveError, UsageError
from search_space.study import Study
from verbs.common import (
    add_json,
    add_study,
    at_least,
    load_study,
    note,
    open_study_artifacts,
    open_study_store,
    save_study,
    say,
    say_json,
    store_option,
)

if TYPE_CHECKING:
    from trials_db.records import StudyRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser, required=False)
    add_json(parser)
    parser.add_argument(
        "action", nargs="?", choices=("model", "export", "import"), help="fetch a model, or move a study"
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="which file")
    parser.add_argument("--trial", type=at_least(0), metavar="N", help="with `model`: of this trial (default the best)")
    parser.add_argument("--top", type=at_least(1), metavar="N", help="only the N best")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every trial with every dimension as CSV")
    parser.add_argument("--json-lines", type=Path, metavar="FILE", help="write every trial as stored, one per line")


def run(options: argparse.Namespace) -> None:
    """Read the store once; print, write, or move."""
    if options.action and not options.file:
        raise UsageError(f"trials {options.action} needs a file", remedy=f"trials {options.action} FILE")
    if options.action == "import":
        _import(options)
        return
    if not options.study:
        raise UsageError("trials belong to a study", remedy="Give --study NAME")
    if options.trial is not None and options.action != "model":
        raise UsageError(
            "--trial goes with `trials model`", received=str(options.trial), remedy="`show N` tells of a trial"
        )
    if options.action == "export":
        _export(options)
    elif options.action == "model":
        _model(options)
    else:
        _list(options)


def _export(options: argparse.Namespace) -> None:
    from results.phrases import counted
    from trials_db.moving import copy_files, files_beside, write_study
    from trials_db.records import TrialState

    study = load_study(options)
    with open_study_store(study) as store:
        record, trials = store.load_study(study.name), store.trials(study.name)
    write_study(options.file, record, trials)
    say(f"{options.file}: study {study.name} with {counted(len(trials), 'trial')}")
    beside = files_beside(options.file)
    with open_study_artifacts(_with_its_artifacts(study, record)) as artifacts:
        num_files = copy_files(study.name, artifacts, beside)
    if num_files:
        say(f"{beside.folder}: {counted(num_files, 'file')} of its trials, to be moved with it")
    if running := sum(trial.state is TrialState.RUNNING for trial in trials):
        note(f"{counted(running, 'trial')} running now will be new where the study arrives")


def _import(options: argparse.Namespace) -> None:
    from results.phrases import counted
    from trials_db.moving import copy_files, files_beside, read_study

    if options.study or options.assignments:
        raise UsageError("a study that is imported has its own name and settings", remedy="Leave --study and --set out")
    record, trials = read_study(options.file)
    study = decode(Study, record.settings, where=f"study {record.name}").with_store(store_option(options) or "")
    with open_study_store(study, create=True) as store:
        added = store.restore_study(record, trials)
    save_study(study)
    with open_study_artifacts(study) as artifacts:
        num_files = copy_files(study.name, files_beside(options.file), artifacts)
    known = f", {counted(len(trials) - added, 'trial')} were there already" if added < len(trials) else ""
    files = f", with {counted(num_files, 'file')}" if num_files else ""
    say(f"Study {study.name}: {counted(added, 'trial')} added{known}{files}")


def _model(options: argparse.Namespace) -> None:
    from results.facts import ranked
    from results.phrases import jaccard_text
    from search_space.objective import MODEL_FILE

    if options.file.is_dir():
        raise UsageError(
            "the model goes into a file, and this is a folder",
            received=str(options.file),
            remedy=f"trials model {options.file / MODEL_FILE}",
        )
    study = load_study(options)
    with open_study_store(study) as store:
        record, trials = store.load_study(study.name), store.trials(study.name)
    with open_study_artifacts(_with_its_artifacts(study, record)) as artifacts:
        kept = sorted({each.number for each in artifacts.held(study.name) if each.file == MODEL_FILE})
        best = [trial for trial in ranked(trials) if options.trial in (None, trial.number)][:1]
        newest = artifacts.newest(study.name, best[0].number, MODEL_FILE) if best else None
        if newest is None or not artifacts.fetch(study.name, newest, options.file):
            which = "the best trial" if options.trial is None else f"trial {options.trial}"
            raise MapgroveError(
                f"no model of {which} was kept",
                remedy=f"Kept are those of: {', '.join(map(str, kept)) or 'none'}; search.keep_models says how many",
            )
    reached = best[0].outcome.jaccard if best[0].outcome else {}
    scores = ", ".join(f"{name} {jaccard_text(reached[name])}" for name in study.classes if name in reached)
    say(f"{options.file}: the model of trial {newest.number}, validation Jaccard {scores}")


def _with_its_artifacts(study: Study, record: "StudyRecord") -> Study:
    """The study with its large files where they are: where it was named here, else where it was begun."""
    begun = decode(Study, record.settings, where=f"study {study.name}")
    return study.with_artifacts(study.study.artifacts or begun.study.artifacts)


def _list(options: argparse.Namespace) -> None:
    from results.export import write_csv, write_json_lines
    from results.phrases import failures_line
    from results.tables import all_trials, leader_board, trial_table
    from results.text import plain_rows, render_table

    study = load_study(options)
    with open_study_store(study) as store:
        trials = store.trials(study.name)
    classes = study.classes
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

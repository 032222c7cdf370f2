"""Show a candidate: a trial of a study, a recipe, or a file, as tables, and as a picture if asked.

Of a trial it tells how it ended and what it reached too. The network is counted, not built: so it answers at once.

Examples:
  python run_search.py show --study demo best
  python run_search.py show --study demo 3 --json
  python run_search.py show vooban --picture vooban.png
  python run_search.py show my_candidate.toml --bands 24 --classes 10
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.errors import MapgroveError, UsageError
from search_space.network.cost import training_cost
from search_space.network.unet import InputBand, draw_up
from search_space.recipes import is_recipe, read_recipe, recipe_names
from verbs.common import add_json, add_study, at_least, load_study, open_study_store, say, say_json

if TYPE_CHECKING:
    from trials_db.records import Trial

NUM_BANDS = 24
"""Of DSTL with four indices: where nobody says how many there are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser, required=False)
    add_json(parser)
    parser.add_argument(
        "candidate", metavar="CANDIDATE", help='number of a trial, or "best", both with --study; a recipe; a TOML file'
    )
    parser.add_argument(
        "--bands", type=at_least(1), metavar="N", help=f"of the imagery (default as the study, or {NUM_BANDS})"
    )
    parser.add_argument("--classes", type=at_least(1), metavar="N", help="of the map (default as the study, or 1)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the network into a PNG file")


def run(options: argparse.Namespace) -> None:
    """Find the candidate, count, print, draw."""
    from results.network_figure import network_figure
    from results.network_table import network_table
    from results.phrases import architecture_phrase, counted
    from results.style import save_png
    from results.tables import candidate_details, trial_details
    from results.text import render_details, render_table

    trial = None if is_recipe(options.candidate) else _trial(options)
    candidate = read_recipe(options.candidate).candidate if trial is None else trial.decoded()
    if options.json:
        say_json(encode(trial if trial is not None else candidate))
    else:
        say(render_details(candidate_details(candidate) if trial is None else trial_details(trial)))
    bands, num_classes = _bands_and_classes(candidate, options)
    graph = draw_up(candidate.architecture, bands, num_classes)
    plan, margin_px = candidate.plan, candidate.architecture.margin_px
    if not options.json:
        say()
        say(f"The network for {counted(len(bands), 'band')} and {counted(num_classes, 'class', 'classes')}:")
        say(render_table(network_table(graph, plan.patch_px, margin_px)))
        cost = training_cost(graph, plan.patch_px, plan.batch_size, plan.optimizer)
        patches = f"{counted(plan.batch_size, 'patch', 'patches')} of {plan.patch_px} px"
        say(
            f"A step of {patches} takes about {cost.flops / 1e9:,.0f} GFLOP, and "
            f"{cost.device_bytes / 1e6:,.0f} MB of an accelerator's memory or {cost.host_bytes / 1e6:,.0f} MB of a "
            "processor's"
        )
    if options.picture:
        heading = f"{options.candidate}: {architecture_phrase(candidate.architecture)}"
        say(f"Picture: {save_png(network_figure(graph, plan.patch_px, heading, margin_px), options.picture)}")


def _bands_and_classes(candidate: Candidate, options: argparse.Namespace) -> tuple[Sequence[InputBand], int]:
    """What was asked for; else those of the study, if there is one whose data lie here."""
    from pipeline.prepared import PreparedDataset
    from pipeline.scene import DataError

    study = load_study(options) if options.study else None
    num_classes = options.classes or (len(study.data.classes) if study else 1)
    if study and not options.bands:
        try:
            return PreparedDataset.open_for(study.data).input_bands, num_classes
        except DataError as error:
            say(f"\nThe study's bands are not known here: {error}")
    named = [InputBand(name) for name in candidate.architecture.bands]
    num_bands = options.bands or NUM_BANDS
    return [*named, *(InputBand(f"band{number + 1}") for number in range(len(named), num_bands))], num_classes


def _trial(options: argparse.Namespace) -> "Trial":
    from results.facts import ranked

    if not options.study:
        raise UsageError(
            "trials belong to a study",
            received=options.candidate,
            remedy=f"Give --study NAME, or one of the recipes {', '.join(recipe_names())}",
        )
    study = load_study(options)
    with open_study_store(study) as store:
        trials = store.trials(study.name)
    word = options.candidate
    chosen = ranked(trials)[:1] if word == "best" else [trial for trial in trials if str(trial.number) == word]
    if not chosen and word == "best":
        raise MapgroveError("no trial has a result yet", received=study.name, remedy="`status` shows how far it is")
    if not chosen:
        raise MapgroveError(f"study {study.name} has no such trial", received=word, remedy="`trials` lists them")
    return chosen[0]

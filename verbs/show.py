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
from search_space.errors import InfeasibleError, MapgroveError, UsageError, nearest
from search_space.network.cost import training_cost
from search_space.network.graph import Graph
from search_space.network.unet import InputBand, draw_up
from search_space.recipes import is_recipe, read_recipe, recipe_names
from trials_db.records import Trial
from verbs.common import (
    add_json,
    add_study,
    at_least,
    load_study,
    note,
    open_study_store,
    refuse_set_without_study,
    say,
    say_json,
)

if TYPE_CHECKING:
    import pandas as pd

BEST = "best"

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
    from results.phrases import architecture_phrase, counted, network_notes
    from results.style import save_png
    from results.text import render_details, render_table

    _check_options(options)
    shown, details = _recipe(options.candidate) if is_recipe(options.candidate) else _tried(options)
    candidate = shown.decoded() if isinstance(shown, Trial) else shown
    graph = _network(candidate, options, may_fail=isinstance(shown, Trial) and not options.picture)
    if options.json:
        say_json(encode(shown))
    else:
        say(render_details(details))
    if graph is None:
        return
    weights = candidate.architecture.weights_file
    if weights is not None and not weights.is_file():
        note(f"There is no file of weights {weights} here, which architecture.encoder.weights names")
    plan, margin_px = candidate.plan, candidate.architecture.margin_px
    if not options.json:
        bands, num_classes = graph.nodes[0].signal.channels, graph.nodes[graph.outputs["masks"]].signal.channels
        say()
        named = candidate.architecture.bands
        reads = f", of which it reads {len(named)}," if 0 < len(named) < bands else ""
        say(f"The network for {counted(bands, 'band')}{reads} and {counted(num_classes, 'class', 'classes')}:")
        say(render_table(network_table(graph, plan.patch_px, margin_px)))
        cost = training_cost(graph, plan.patch_px, plan.batch_size, plan.optimizer.kind, plan.averaging)
        patches = f"{counted(plan.batch_size, 'patch', 'patches')} of {plan.patch_px} px"
        say(
            f"A step of {patches} takes about {cost.flops / 1e9:,.0f} GFLOP, and {cost.device_bytes / 1e6:,.0f} MB of "
            f"an accelerator's memory or {cost.host_bytes / 1e6:,.0f} MB of a processor's"
        )
    if options.picture:
        heading = f"{_name(options)}: {architecture_phrase(candidate.architecture)}"
        notes = network_notes(candidate.architecture)
        figure = network_figure(graph, plan.patch_px, heading, margin_px=margin_px, notes=notes)
        note(f"Picture: {save_png(figure, options.picture)}")


def _name(options: argparse.Namespace) -> str:
    """What the picture shows, in words."""
    word = str(options.candidate)
    return word if is_recipe(word) else f"trial {word} of {options.study}"


def _recipe(word: str) -> "tuple[Candidate, pd.DataFrame]":
    import pandas as pd

    from results.tables import candidate_details, prediction_details

    recipe = read_recipe(word)
    parts = [candidate_details(recipe.candidate)]
    if recipe.prediction is not None:
        parts.append(prediction_details(recipe.prediction))
    return recipe.candidate, pd.concat(parts)


def _tried(options: argparse.Namespace) -> "tuple[Trial, pd.DataFrame]":
    from results.tables import trial_details

    trial = _trial(options)
    return trial, trial_details(trial)


def _network(candidate: Candidate, options: argparse.Namespace, *, may_fail: bool) -> Graph | None:
    """The network for the bands and classes that are asked for; None where it cannot be built and that is told."""
    bands, num_classes = _bands_and_classes(candidate, options)
    try:
        candidate.check_feasible()
        return draw_up(candidate.architecture, bands, num_classes)
    except InfeasibleError as error:
        if not may_fail:
            raise InfeasibleError(
                f"{_name(options)}: {error.what}", received=error.received, remedy=error.remedy
            ) from None
        note(f"Its network cannot be built: {error}")
        return None


def _bands_and_classes(candidate: Candidate, options: argparse.Namespace) -> tuple[Sequence[InputBand], int]:
    """What was asked for; else those of the study, if there is one whose data lie here."""
    from pipeline.preparation.prepared import PreparedDataset
    from pipeline.scene import DataError

    study = load_study(options) if options.study else None
    num_classes = options.classes or (len(study.classes) if study else 1)
    if study and not options.bands:
        try:
            return PreparedDataset.open_for(study.data).input_bands, num_classes
        except DataError as error:
            note(f"The study's bands are not known here: {error}")
    named = [InputBand(name) for name in candidate.architecture.bands]
    num_bands = options.bands or NUM_BANDS
    if options.bands and options.bands < len(named):
        raise UsageError(f"the network reads {len(named)} bands by name", received=f"--bands {options.bands}")
    return [*named, *(InputBand(f"band{number + 1}") for number in range(len(named), num_bands))], num_classes


def _check_options(options: argparse.Namespace) -> None:
    refuse_set_without_study(options)
    if options.picture and options.picture.suffix != ".png":
        raise UsageError("a picture is a PNG file", received=str(options.picture), remedy="Let its name end in .png")
    word = options.candidate
    if not (is_recipe(word) or word.isdigit() or word == BEST):
        near = nearest(word, [BEST, *recipe_names()])
        meant = f"Did you mean {near!r}? " if near else ""
        raise UsageError(
            "no such candidate",
            received=word,
            remedy=f"{meant}Name a trial's number, {BEST!r}, a TOML file, or one of {', '.join(recipe_names())}",
        )
    if not is_recipe(word) and not options.study:
        raise UsageError("trials belong to a study", received=word, remedy="Give --study NAME")


def _trial(options: argparse.Namespace) -> "Trial":
    from results.facts import ranked

    study = load_study(options)
    with open_study_store(study) as store:
        trials = store.trials(study.name)
    word = options.candidate
    chosen = ranked(trials)[:1] if word == BEST else [trial for trial in trials if trial.number == int(word)]
    if not chosen and word == BEST:
        raise MapgroveError("no trial has a result yet", received=study.name, remedy="`status` shows how far it is")
    if not chosen:
        raise MapgroveError(f"study {study.name} has no such trial", received=word, remedy="`trials` lists them")
    return chosen[0]

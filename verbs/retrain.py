"""Train the best architecture of a study once per class, one against the rest, with the study's longer budget.

By default the candidate that was best over all classes serves every class; `--per-class` takes for each class the
one that was best at it. `--recipe` takes a published system, or a candidate's file, and needs no search. What is
already trained from the same input is kept.

Examples:
  python run_search.py retrain --study demo --classes buildings trees
  python run_search.py retrain --study configs/demo.toml --recipe vooban
"""

import argparse
from typing import TYPE_CHECKING

from search_space.errors import MapgroveError, UsageError
from search_space.objective import EpochReport
from search_space.recipes import read_recipe
from search_space.records import Chosen
from search_space.study import Study
from verbs.common import MODELS, add_study, load_study, open_study_store, say, study_commands

if TYPE_CHECKING:
    from trials_db.records import Trial


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_study(parser)
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="only these (default all of the study)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--trial", type=int, metavar="N", help="the candidate of this trial, instead of the best")
    which.add_argument("--per-class", action="store_true", help="for each class the candidate that was best at it")
    which.add_argument("--recipe", metavar="NAME|FILE", help="a published system, or a candidate's TOML file")


def run(options: argparse.Namespace) -> None:
    """Choose candidates, train, write the model set."""
    from pipeline.backend import use_backend

    study = load_study(options)
    classes = options.classes or list(study.data.classes)
    for name in classes:
        if name not in study.data.classes:
            raise UsageError(
                "no such class in the study", received=name, remedy=f"Classes: {', '.join(study.data.classes)}"
            )
    chosen = _chosen(study, classes, options)
    use_backend()
    from pipeline.retraining import retrain

    def tell(class_name: str, report: EpochReport) -> None:
        jaccard = report.jaccard.get(class_name)
        shown = "-" if jaccard is None else f"{jaccard:.3f}"
        say(
            f"  {class_name}: epoch {report.epoch}/{study.retrain.epochs}, loss {report.training_loss:.4f}, "
            f"validation Jaccard {shown}, {report.seconds:.0f} s"
        )

    model_set = retrain(study, chosen, study.folder / MODELS, on_epoch=tell)
    for member in model_set.members:
        say(
            f"{member.class_name}: {member.origin}, validation Jaccard {member.validation_jaccard or 0:.3f} "
            f"at threshold {member.threshold:.2f}"
        )
    say(f"Model set: {study.folder / MODELS}. Next: {study_commands(study, options).map_and_score()[0]}")


def _chosen(study: Study, classes: list[str], options: argparse.Namespace) -> dict[str, Chosen]:
    """Class to what it is trained from."""
    if options.recipe is not None:
        recipe = read_recipe(options.recipe)
        made = Chosen(candidate=recipe.candidate, recipe=options.recipe, prediction=recipe.prediction)
        return dict.fromkeys(classes, made)
    with open_study_store(study) as store:
        trials = store.trials(study.name)
    best = {name: _choose(trials, name, options) for name in classes}
    return {name: Chosen(candidate=trial.decoded(), trial=trial.number) for name, trial in best.items()}


def _choose(trials: "list[Trial]", class_name: str, options: argparse.Namespace) -> "Trial":
    from results.facts import ranked

    done = ranked(trials)
    if options.trial is not None:
        done = [trial for trial in done if trial.number == options.trial]
    elif options.per_class:
        done.sort(key=lambda trial: -(trial.outcome.jaccard.get(class_name, 0.0) if trial.outcome else 0.0))
    if not done:
        raise MapgroveError("no trial to retrain has a result", received=options.trial, remedy="`trials` lists them")
    return done[0]

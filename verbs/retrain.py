"""Train the best architecture of a study once per class, one against the rest, with the study's longer budget.

By default the candidate that was best over all classes serves every class; `--per-class` takes for each class the one
that was best at it, in this study or in those that `search --one-vs-all` made. `--recipe` takes a published system, or
a candidate's file, and needs no search. What is already trained from the same input is kept.

Examples:
  python run_search.py retrain --study demo --classes buildings trees
  python run_search.py retrain --study configs/demo.toml --recipe vooban
"""

import argparse
from typing import TYPE_CHECKING

from search_space.errors import MapgroveError
from search_space.losses import check_weighted_classes
from search_space.objective import EpochReport
from search_space.recipes import read_recipe
from search_space.records import Chosen
from search_space.study import Study
from verbs.common import MODELS, add_study, checked_classes, load_study, open_study_store, say, study_commands

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    classes = checked_classes(study, options.classes)
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
    from results.facts import ranked

    if options.recipe is not None:
        recipe = read_recipe(options.recipe)
        check_weighted_classes(
            recipe.plan.loss_details.class_weights, study.data.classes, where=f"{options.recipe}: class_weights"
        )
        made = Chosen(candidate=recipe.candidate, recipe=options.recipe, prediction=recipe.prediction)
        return dict.fromkeys(classes, made)
    with open_study_store(study) as store:
        known = store.list_studies()
        if study.name not in known and not options.per_class:
            store.load_study(study.name)
        several = [study.name, *(study.of_class(name).name for name in classes if "/" not in study.name)]
        trials = {name: store.trials(name) for name in several if name in known}
    if options.per_class:
        return {name: _best_at(name, study, trials) for name in classes}
    best = ranked(trials[study.name])
    if options.trial is not None:
        best = [trial for trial in best if trial.number == options.trial]
    if not best:
        raise MapgroveError("no trial to retrain has a result", received=options.trial, remedy="`trials` lists them")
    return dict.fromkeys(classes, Chosen(candidate=best[0].decoded(), trial=best[0].number))


def _best_at(class_name: str, study: Study, trials: "Mapping[str, list[Trial]]") -> Chosen:
    """The candidate that was best at a class, in the study of all classes or in that of this one."""
    from results.facts import jaccard_for, ranked_for

    best = {name: ranked_for(trials[name], [class_name])[:1] for name in trials}
    found = [(jaccard_for(trial, [class_name]) or 0.0, name, trial) for name in best for trial in best[name]]
    if not found:
        raise MapgroveError(
            "no trial ranks a class that is to be retrained",
            received=class_name,
            remedy="`trials` lists them; leave the class out with --classes",
        )
    _, name, trial = max(found, key=lambda each: each[0])
    return Chosen(candidate=trial.decoded(), trial=trial.number, study="" if name == study.name else name)

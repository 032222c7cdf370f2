"""What a retraining is asked for: which candidates train which classes, on which ground, from which seeds."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from search_space.candidate import Candidate
from search_space.chosen import ORIGIN, Chosen
from search_space.decode import encode
from search_space.errors import MalformedError, MalformedFileError, MapgroveError, UsageError
from search_space.losses import check_weighted_classes
from search_space.network.cost import check_cost
from search_space.recipes import read_recipe
from search_space.study import Budget, Study
from search_space.task import Task
from verbs.common import open_study_store, say
from verbs.starting_models import check_start

if TYPE_CHECKING:
    from pipeline.folds.folds import Fold
    from pipeline.preparation.prepared import PreparedDataset
    from trials_db.records import Trial

ALL = "all"

MOST_TRAININGS = 10_000
"""A call asks for no more: each is a trial of the store, and a model of its own."""

FEW_FOLDS = 8
"""Of no more folds each is named."""


class Wish(NamedTuple):
    """One training that is asked for.

    Attributes:
        candidate: What to build and how to train it.
        task: What it is trained for.
        seed: Of everything random in it.
    """

    candidate: Candidate
    task: Task
    seed: int

    @property
    def key(self) -> str:
        """See `Task.key`."""
        return self.task.key(encode(self.candidate), self.seed)


def key_of(trial: "Trial") -> str:
    """The key of the wish that a trial answers; empty for a trial that is no training of a retraining."""
    task = trial.decoded_task()
    return "" if task is None else task.key(trial.candidate, trial.seed)


def chosen_candidates(study: Study, classes: Sequence[str], options: argparse.Namespace) -> dict[str, list[Chosen]]:
    """For every class what it is retrained from, the best first.

    Raises:
        MapgroveError: There is no such recipe, or no trial has a result.
    """
    if options.recipe is not None:
        recipe = read_recipe(options.recipe)
        weights, where = recipe.plan.loss_details.class_weights, f"{options.recipe}: class_weights"
        try:
            check_weighted_classes(weights, study.data.classes, where=where)
        except MalformedError as error:
            raise MalformedFileError(error.what, received=error.received, remedy=error.remedy) from None
        made = Chosen(candidate=recipe.candidate, recipe=options.recipe, prediction=recipe.prediction)
        return {name: [made] for name in classes}
    with open_study_store(study) as store:
        known = store.list_studies()
        if study.name not in known and not options.per_class:
            store.load_study(study.name)
        several = [study.name, *(study.of_class(name).name for name in classes if "/" not in study.name)]
        trials = {name: store.trials(name) for name in several if name in known}
    if options.per_class:
        found = {name: _best_at(name, study, trials, options.top) for name in classes}
    else:
        found = dict.fromkeys(classes, _best_of(trials[study.name], options))
    least = min(map(len, found.values()))
    if least < options.top and options.trial is None:
        say(f"Of {options.top} candidates that were asked for there are {least}, no two of them alike")
    return found


def _best_of(trials: "Sequence[Trial]", options: argparse.Namespace) -> list[Chosen]:
    """The candidates that were best over all classes, or that of the trial that was named."""
    from results.facts import ranked

    best = [trial for trial in ranked(trials) if options.trial in (None, trial.number)]
    if not best:
        raise MapgroveError("no trial to retrain has a result", received=options.trial, remedy="`trials` lists them")
    return _different([Chosen(candidate=trial.decoded(), trial=trial.number) for trial in best])[: options.top]


def _best_at(class_name: str, study: Study, trials: "Mapping[str, Sequence[Trial]]", top: int) -> list[Chosen]:
    """The candidates that were best at a class, in the study of all classes or in that of this one."""
    from results.facts import jaccard_for, ranked_for

    found = [
        (jaccard_for(trial, [class_name]) or 0.0, "" if name == study.name else name, trial)
        for name in trials
        for trial in ranked_for(trials[name], [class_name])
    ]
    if not found:
        raise MapgroveError(
            "no trial ranks a class that is to be retrained",
            received=class_name,
            remedy="`trials` lists them; leave the class out with --classes",
        )
    # Of equals that of the whole study, as before.
    found.sort(key=lambda each: -each[0])
    return _different([Chosen(candidate=t.decoded(), trial=t.number, study=name) for _, name, t in found])[:top]


def _different(chosen: Sequence[Chosen]) -> list[Chosen]:
    """Without candidates that were there before: an ensemble has nothing of a second one."""
    first: dict[str, Chosen] = {}
    for each in chosen:
        first.setdefault(each.candidate.fingerprint, each)
    return list(first.values())


def wishes_for(
    study: Study,
    dataset: "PreparedDataset",
    chosen: Mapping[str, Sequence[Chosen]],
    num_folds: int,
    num_seeds: int,
    *,
    budget: Budget | None = None,
    starts: Mapping[str, str] | None = None,
) -> tuple[list[Wish], dict[str, list[int]]]:
    """One training for each class, fold, candidate and seed, but where the fold lacks the class, which is told.

    Args:
        study: What is retrained.
        dataset: Its data.
        chosen: Per class what is trained, the best first.
        num_folds: 0 for the study's own split.
        num_seeds: Seeds of each training.
        budget: Of each training, instead of the study's.
        starts: Per class the SHA-256 of the model that its trainings start from, where they start from one.

    Returns:
        The trainings, and per class the folds that lack it.

    Raises:
        InfeasibleError: A network takes more memory than there may be.
        MapgroveError: The folds cannot be made, or a class is in none of them.
    """
    from pipeline.retrain_objective import weights_sha256
    from pipeline.study_data import ground_of

    candidates = {each.candidate.fingerprint: each.candidate for several in chosen.values() for each in several}
    budget = budget or study.retrain
    for candidate in candidates.values():
        candidate.check_feasible()
        check_cost(candidate, dataset.input_bands, 1, study.limits.of_one_network, budget)
    weights = {key: weights_sha256(candidate) for key, candidate in candidates.items()}
    folds = _folds(study, dataset, num_folds)
    ground = ground_of(study, dataset)
    absent = {name: [number for number, fold in folds.items() if name in _lacking(fold)] for name in chosen}
    _tell_absent(absent, len(folds), num_folds)
    _check_number(sum(len(chosen[name]) * (len(folds) - len(absent[name])) for name in chosen), num_seeds)
    tasks = [
        (
            each.candidate,
            Task(
                class_name=class_name,
                fold=number,
                num_folds=num_folds,
                seed=seed,
                rank=rank,
                epochs=budget.epochs,
                steps_per_epoch=budget.steps_per_epoch,
                precision=study.limits.precision,
                ground=ground,
                start=(starts or {}).get(class_name, ""),
                weights=weights[each.candidate.fingerprint],
                **{name: getattr(each, name) for name in ORIGIN},
            ),
        )
        for seed in range(num_seeds)
        for rank in range(max(map(len, chosen.values())))
        for class_name, several in chosen.items()
        for each in several[rank : rank + 1]
        for number in folds
        if number not in absent[class_name]
    ]
    return [Wish(candidate, task, task.seed_from(study.study.seed)) for candidate, task in tasks], absent


def _folds(study: Study, dataset: "PreparedDataset", num_folds: int) -> "dict[int, Fold]":
    """By number; 0 for the study's own split."""
    from pipeline.folds.cross_folds import cross_folds
    from pipeline.folds.folds import make_fold

    if not num_folds:
        return {0: make_fold(study.folds, dataset)}
    return dict(enumerate(cross_folds(study.folds, dataset, num_folds), start=1))


def _lacking(fold: "Fold") -> set[str]:
    return {*fold.absent_in_training, *fold.absent_in_validation}


def _check_number(of_one_seed: int, num_seeds: int) -> None:
    """Refuse more trainings than anybody can want: they would all be added before the first begins.

    Raises:
        UsageError: There are so many.
    """
    if of_one_seed * num_seeds > MOST_TRAININGS:
        most = MOST_TRAININGS // of_one_seed
        raise UsageError(
            f"a call asks for at most {MOST_TRAININGS:,} trainings, one for each class, fold, candidate and seed",
            received=of_one_seed * num_seeds,
            remedy=f"Take --seeds {most} or less" if most else "Take fewer folds, classes or candidates",
        )


def _tell_absent(absent: Mapping[str, Sequence[int]], num_there: int, num_folds: int) -> None:
    """Refuse classes that no fold can train and validate; tell of folds that lack some."""
    if hopeless := [name for name, numbers in absent.items() if len(numbers) == num_there]:
        names = ", ".join(hopeless)
        raise MapgroveError(
            f"no fold has ground both to train and to validate {names}"
            if num_folds
            else f"no validation ground has {names}, so no threshold can be chosen",
            remedy="Hold out other ground in [folds], or leave the class out with --classes",
        )
    for name, numbers in absent.items():
        if numbers:
            few = len(numbers) <= FEW_FOLDS
            told = f"fold {', '.join(map(str, numbers))} of {num_folds}, which"
            told = told if few else f"{len(numbers)} of {num_folds} folds, which"
            say(f"{name}: left out of {told} cannot validate it")


def checked_options(options: argparse.Namespace) -> None:
    """Refuse options that have no meaning together.

    Raises:
        UsageError: Several candidates are asked for where there is one, or a model is tuned that is not named.
    """
    check_start(options)
    for name, value in (("--recipe", options.recipe), ("--trial", options.trial), ("--from", options.start)):
        if options.top > 1 and value is not None:
            raise UsageError(f"{name} names one candidate, and --top several", received=f"--top {options.top}")

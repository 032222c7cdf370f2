"""What a search is told of where it begins, before anything is tried."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search_space.architecture import WEIGHT_FILES
from search_space.candidate import Candidate
from search_space.decode import decode, to_plain
from search_space.default_space import Space
from search_space.errors import InfeasibleError, MapgroveError
from search_space.network.cost import check_cost
from search_space.network.unet import InputBand
from search_space.space import hyperopt_space, values_of
from search_space.starting_points import OF_STUDY, FoundStart, named_points
from search_space.study import Study

if TYPE_CHECKING:
    from trials_db.store import TrialStore

NUM_FOUND = 3
"""So many of the best candidates of another study are tried first."""


def check_weights(space: Space) -> None:
    """Refuse encoders whose file of weights is not there: every trial of theirs would stop its worker."""
    for path, dimension in space.items():
        values = values_of(dimension) if path.startswith("architecture.encoder") else ()
        names = [each["weights"] if isinstance(each, Mapping) and "weights" in each else each for each in values]
        for name in names:
            if str(name).endswith(WEIGHT_FILES) and not Path(name).is_file():
                raise MapgroveError(
                    f"space.{path}: there is no such file here",
                    received=name,
                    remedy="Name it as every worker finds it; docs/recipes.md tells where weights are",
                )


def with_found_starts(study: Study, store: "TrialStore") -> Study:
    """The study with the candidates that the studies it starts from have found, as they were when it began.

    Raises:
        StudyNotFoundError: The store has no such study.
        MapgroveError: None of its trials has a result.
    """
    names = [name.removeprefix(OF_STUDY) for name in study.search.start_from if name.startswith(OF_STUDY)]
    if not names:
        return study
    if study.name in store.list_studies():
        begun = decode(Study, store.load_study(study.name).settings, where=f"study {study.name}")
        found = begun.search.found
    else:
        found = tuple(each for name in names for each in _best_of(name, study.classes, store))
    return study.model_copy(update={"search": study.search.model_copy(update={"found": found})})


def _best_of(name: str, classes: Sequence[str], store: "TrialStore") -> list[FoundStart]:
    """The best trials of a study, by the classes that are asked for."""
    from results.facts import ranked_for

    best = ranked_for(store.trials(name), classes)[:NUM_FOUND]
    if not best:
        raise MapgroveError(f"no trial of study {name} has a result for {', '.join(classes)}", remedy="Search it first")
    return [FoundStart(study=name, trial=trial.number, candidate=trial.decoded()) for trial in best]


def start_lines(study: Study, space: Space, bands: Sequence[InputBand]) -> list[str]:
    """What the first trials try, and why some of what was asked for is not tried, or will not fit."""
    if not study.search.start_from:
        return []
    points = named_points(space, study.search.start_from, study.search.found)
    inside = {name: point for name, point in points.items() if point is not None}
    first = {name: next(each for each in inside if inside[each] == point) for name, point in inside.items()}
    tried = [name for name in inside if first[name] == name][: study.limits.max_trials]
    late = [name for name in inside if first[name] == name][study.limits.max_trials :]
    reasons = {name: _infeasible(study, space, inside[name], bands) for name in tried}
    lines = [f"The first trials start from {', '.join(tried)}, as near as the space allows"] if tried else []
    lines += [f"{name} will be infeasible: {reason}" for name, reason in reasons.items() if reason]
    if same := [f"{name} (as {first[name]})" for name in inside if first[name] != name]:
        lines.append(f"The same as another in this space: {', '.join(same)}")
    if late:
        lines.append(f"More than limits.max_trials, and left out: {', '.join(late)}")
    if outside := [name for name in points if name not in inside]:
        lines.append(f"Not in this study's space, and left out: {', '.join(outside)}")
    return lines


def _infeasible(study: Study, space: Space, point: Mapping[str, float], bands: Sequence[InputBand]) -> str:
    """Why a point is beyond the study's limits; empty where it is not."""
    from hyperopt import space_eval

    candidate = decode(Candidate, to_plain(space_eval(hyperopt_space(space), point)), where="a starting point")
    # How much memory a worker's device has is not known here.
    limits = study.limits.model_copy(update={"device_memory_mb": 0})
    try:
        candidate.check_feasible()
        check_cost(candidate, bands, len(study.classes), limits, study.budget)
    except InfeasibleError as error:
        return error.what
    return ""

"""Where a search begins: known candidates as points of a study's space."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from search_space.candidate import Candidate
from search_space.decode import Frozen, Whole, decode, encode
from search_space.default_space import Space
from search_space.dimensions import Choice, Fixed
from search_space.errors import did_you_mean
from search_space.names import Names, study_name
from search_space.recipes import read_recipe, recipe_names

DEFAULT, RECIPES = "default", "recipes"
"""Names that stand for the candidate with every default, and for all recipes."""

OF_STUDY = "study:"
"""Before the name of a study whose best candidates are meant."""

ESSENTIAL = ("architecture.encoder", "architecture.block")
"""What a candidate cannot do without."""

Point = dict[str, float]
"""Label to number; for a choice, the index of its option."""


class FoundStart(Frozen):
    """One of the best candidates of another study.

    Attributes:
        study: Its name.
        trial: Number of the trial there.
        candidate: What was tried.
    """

    study: str
    trial: Annotated[Whole, Field(ge=0)]
    candidate: Candidate

    @property
    def name(self) -> str:
        """What it is called in lines for the user."""
        return f"trial {self.trial} of {self.study}"


def _check_starts(names: tuple[str, ...]) -> tuple[str, ...]:
    known = (DEFAULT, RECIPES, *recipe_names())
    for name in names:
        if name.startswith(OF_STUDY):
            try:
                study_name(name.removeprefix(OF_STUDY))
            except ValueError as error:
                raise ValueError(f"has {name!r}, and the name of a study {error}") from None
        elif name not in known:
            raise ValueError(f"has no recipe {name!r}. {did_you_mean(name, known)}")
    return names


Starts = Annotated[Names, AfterValidator(_check_starts)]
"""Names of recipes, "default", "recipes" for all of them, or "study:NAME"."""


def starting_points(space: Space, names: Sequence[str], found: Sequence[FoundStart] = ()) -> list[Point]:
    """Points of the space at which a search begins: one for each name that has one, in order, none twice."""
    points: list[Point] = []
    for point in named_points(space, names, found).values():
        if point is not None and point not in points:
            points.append(point)
    return points


def named_points(space: Space, names: Sequence[str], found: Sequence[FoundStart] = ()) -> dict[str, Point | None]:
    """Where known candidates lie in a space.

    Args:
        space: The study's.
        names: Of recipes, "default", "recipes" for all of them, or "study:NAME" for those of `found`.
        found: Candidates of other studies.

    Returns:
        Name to point, as `nearest_point`; of the candidate with every default there is always one.

    Raises:
        MapgroveError: No such recipe.
    """
    candidates: dict[str, Candidate] = {}
    for name in names:
        if name == DEFAULT:
            candidates[name] = Candidate()
        elif name.startswith(OF_STUDY):
            theirs = [each for each in found if each.study == name.removeprefix(OF_STUDY)]
            candidates |= {each.name: each.candidate for each in theirs}
        else:
            recipes = recipe_names() if name == RECIPES else (name,)
            candidates |= {each: read_recipe(each).candidate for each in recipes}
    return {
        name: _point(encode(candidate), space) if name == DEFAULT else nearest_point(candidate, space)
        for name, candidate in candidates.items()
    }


def nearest_point(candidate: Candidate, space: Space) -> Point | None:
    """The point of a space that is nearest to a candidate.

    What makes a network the one it is, its encoder and its kind of block, must be in the space. Otherwise the space has
    the last word: numbers beyond their range, or between the options of a choice, are moved to the nearest; a mix of
    losses to the one that is most like it; a word that a choice does not have to the word that a candidate has by
    itself, else to the first.

    Returns:
        None where the candidate has an encoder or a kind of block that the space does not.
    """
    plain = encode(candidate)
    is_there = all(_word(_node(path, plain)) in _kinds(path, space) for path in ESSENTIAL)
    return _point(plain, space) if is_there else None


def _point(plain: Mapping[str, Any], space: Space) -> Point:
    own, point, chosen = encode(Candidate()), Point(), dict[str, Any]()
    for path, dimension in space.items():
        parent, _, rest = path.partition("[")
        option, _, name = rest.partition("].")
        if rest and chosen.get(parent) != option:
            continue
        if rest:
            part = _node(parent, plain)
            value = by_itself = (part if part["kind"] == option else _kind_by_itself(parent, option))[name]
        else:
            value, by_itself = _word(_node(path, plain)), _word(_node(path, own))
        if isinstance(dimension, Fixed):
            chosen[path] = dimension.value
        elif isinstance(dimension, Choice):
            number = _nearest_option(value, by_itself, dimension.options)
            chosen[path] = dimension.options[number]
            if len(dimension.options) > 1:
                point[path] = number
        elif dimension.low < dimension.high:
            point[path] = float(min(max(value, dimension.low), dimension.high))
    return point


def _kinds(path: str, space: Space) -> set[str]:
    """The kinds of a part that a space has: of what was dropped, that of a candidate by itself."""
    match space.get(path):
        case Choice(options):
            return {_word(each) for each in options}
        case Fixed(value):
            return {_word(value)}
        case _:
            return {_word(_node(path, encode(Candidate())))}


def _node(path: str, plain: Mapping[str, Any]) -> Any:
    node: Any = plain
    for name in path.split("."):
        node = node[name]
    return node


def _word(value: Any) -> Any:
    """The kind of what has one."""
    return value["kind"] if isinstance(value, Mapping) and "kind" in value else value


def _kind_by_itself(path: str, kind: str) -> Mapping[str, Any]:
    """A part of a candidate, of a kind, with what that has by itself."""
    plain: dict[str, Any] = {"kind": kind}
    for name in reversed(path.split(".")):
        plain = {name: plain}
    whole = encode(decode(Candidate, {"architecture": {}, "plan": {}} | plain, where=path))
    part: Mapping[str, Any] = _node(path, whole)
    return part


def _nearest_option(value: Any, by_itself: Any, options: Sequence[Any]) -> int:
    plain: list[Any] = [list(option) if isinstance(option, tuple) else _word(option) for option in options]
    for wanted in (value, by_itself):
        if wanted in plain:
            return plain.index(wanted)
        if isinstance(wanted, Mapping):
            return max(range(len(plain)), key=lambda number: _likeness(wanted, plain[number]))
        if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
            return min(range(len(plain)), key=lambda number: abs(float(plain[number]) - wanted))
    return 0


def _likeness(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Of named weights, from 0 to 1; nothing is like what names none."""
    product = sum(weight * other.get(name, 0.0) for name, weight in one.items())
    return product and product / (math.hypot(*one.values()) * math.hypot(*other.values()))

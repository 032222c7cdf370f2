"""Where a search begins: known candidates as points of a study's space."""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator

from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.dimensions import Choice, Dimension, Fixed
from search_space.names import Names
from search_space.recipes import read_recipe, recipe_names
from search_space.space import Space

DEFAULT, RECIPES = "default", "recipes"
"""Names that stand for the candidate with every default, and for all recipes."""

Point = dict[str, float]
"""Label to number; for a choice, the index of its option."""


def _check_starts(names: tuple[str, ...]) -> tuple[str, ...]:
    known = (DEFAULT, RECIPES, *recipe_names())
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ValueError(f"has no recipe {name!r}; {hint}")
    return names


Starts = Annotated[Names, AfterValidator(_check_starts)]
"""Names of recipes, "default", or "recipes" for all of them."""


def starting_points(space: Space, names: Sequence[str]) -> list[Point]:
    """Points of the space at which a search begins: one for each name that has one, in order, none twice."""
    points: list[Point] = []
    for point in named_points(space, names).values():
        if point is not None and point not in points:
            points.append(point)
    return points


def named_points(space: Space, names: Sequence[str]) -> dict[str, Point | None]:
    """Where known candidates lie in a space.

    Args:
        space: The study's.
        names: Of recipes, "default", or "recipes" for all of them.

    Returns:
        Name to point; None where the candidate has a kind that the space does not offer.

    Raises:
        MapgroveError: No such recipe.
    """
    known = [each for name in names for each in (recipe_names() if name == RECIPES else (name,))]
    candidates = {name: Candidate() if name == DEFAULT else read_recipe(name).candidate for name in known}
    return {name: nearest_point(candidate, space) for name, candidate in candidates.items()}


def nearest_point(candidate: Candidate, space: Space) -> Point | None:
    """The point of a space that is nearest to a candidate.

    Numbers beyond their range, or between the options of a choice, are moved to the nearest; a mix of losses to the
    one that is most like it.

    Returns:
        None where the candidate has a kind, or another word, that the space does not.
    """
    plain = encode(candidate)
    point: Point = {}
    for path, dimension in space.items():
        found = _value_at(path, plain)
        if found is _ABSENT or isinstance(dimension, Fixed):
            if isinstance(dimension, Fixed) and found is not _ABSENT and _is_word(found) and found != dimension.value:
                return None
            continue
        number = _number(found, dimension)
        if number is None:
            return None
        if _is_searched(dimension):
            point[path] = number
    return point


_ABSENT = object()


def _value_at(path: str, plain: Mapping[str, Any]) -> Any:
    """What a candidate has at a path; the kind of a part; `_ABSENT` where it is on another branch."""
    node: Any = plain
    for part in path.split("."):
        name, _, branch = part.rstrip("]").partition("[")
        node = node[name]
        if branch and node["kind"] != branch:
            return _ABSENT
    return node["kind"] if isinstance(node, Mapping) and "kind" in node else node


def _number(value: Any, dimension: Dimension) -> float | None:
    match dimension:
        case Choice(options):
            return _nearest_option(value, options)
        case Fixed():
            return None
        case _:
            return float(min(max(value, dimension.low), dimension.high))


def _nearest_option(value: Any, options: Sequence[Any]) -> int | None:
    plain: list[Any] = [list(option) if isinstance(option, tuple) else option for option in options]
    if value in plain:
        return plain.index(value)
    if isinstance(value, Mapping):
        return max(range(len(plain)), key=lambda n: _likeness(value, plain[n]))
    if isinstance(value, list):
        # Bands that the study does not offer: those that it does.
        return 0
    if _is_word(value):
        return None
    return min(range(len(plain)), key=lambda n: abs(float(plain[n]) - value))


def _likeness(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    product = sum(weight * other.get(name, 0.0) for name, weight in one.items())
    return product / (math.hypot(*one.values()) * math.hypot(*other.values()))


def _is_word(value: Any) -> bool:
    return isinstance(value, (str, bool))


def _is_searched(dimension: Dimension) -> bool:
    """Whether Hyperopt knows it: what has one value is none of its dimensions."""
    if isinstance(dimension, Choice):
        return len(dimension.options) > 1
    return not isinstance(dimension, Fixed) and dimension.low < dimension.high

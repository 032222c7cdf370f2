"""One line in the user's words for data that a model refused: where it is, what may stand there, what to do."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from search_space.errors import MalformedError, nearest

KeyPath = tuple[int | str, ...]

LIMITS = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} item(s)",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} character(s)",
    "string_pattern_mismatch": "must match the pattern {pattern}",
}
"""What pydantic says of values of the right kind, in plain words. What it says of the wrong kind (`int_type`,
`literal_error`, `dict_type` and many more) needs no words: the model knows what may stand there."""

KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
KEY_LIKENESS = 0.6
TABLE, LIST, OTHER = "a table of keys", "a list", "a value of another kind"


def malformed(
    model: type[BaseModel], data: object, error: ValidationError, *, where: str, remedy: str = ""
) -> MalformedError:
    """Tell the first problem, an unknown key before any other: it often causes the rest.

    Args:
        model: The class that refused.
        data: The plain data that it refused.
        error: What it raised.
        where: What the data is: a file name or "trial 7".
        remedy: What to do, in place of what fits the problem.
    """
    problem = _first_problem(error.errors(include_url=False), data)
    key = _spelled(problem.path)
    subject = f"{where}: {key}" if key else where
    received = problem.received
    match problem.kind:
        case "unknown":
            what, advice = f"{where}: unknown key {key}", _nearest(model, problem.path, data)
            received = None if isinstance(received, (dict, list)) else received
        case "missing":
            what, received, advice = f"{where}: the key {key} is missing", None, "Add it"
        case "rule":
            what, advice = f"{subject}{' ' if problem.rule.startswith('must ') else ': '}{problem.rule}", ""
            # A rule of many keys names those that matter; the whole table would bury them.
            received = received if _is_short(received) else None
        case "limit":
            what = f"{subject} {_range(model, problem.path, data) or problem.rule}"
            advice = _conversion(_in_words(_expected(model, problem.path, data)), received)
        case _:
            expected = _expected(model, problem.path, data)
            words, keys = _in_words(expected), _keys(expected)
            what = f"{subject} must be {_either(words)}"
            advice = (
                f"Its keys: {', '.join(keys)}"
                if keys
                else _conversion(words, received) or _nearest_word(words, received)
            )
            received = received if key else None
    return MalformedError(what, received=received, remedy=remedy or advice)


@dataclass(frozen=True)
class _Problem:
    """What pydantic found: `path` holds only keys and places that the user wrote, `rule` what must be."""

    kind: Literal["unknown", "missing", "rule", "limit", "type"]
    path: KeyPath
    received: Any
    rule: str = ""


def _first_problem(found: Sequence[ErrorDetails], data: object) -> _Problem:
    if unknown := [each for each in found if each["type"] == "extra_forbidden"]:
        return _problem(unknown[0], data)
    first, *others = [_problem(each, data) for each in found]
    # Of what may stand in one place each kind complains. The one that got furthest, or took the value for one of its
    # own and found it against a rule, is the one that was meant.
    related = [each for each in others if _is_above(first.path, each.path) or _is_above(each.path, first.path)]
    return max([first, *related], key=lambda each: (len(each.path), each.kind != "type"))


def _is_above(path: KeyPath, other: KeyPath) -> bool:
    return other[: len(path)] == path


def _problem(error: ErrorDetails, data: object) -> _Problem:
    context = error.get("ctx", {})
    location = error["loc"]
    if error["type"].startswith("union_tag"):
        # The key that tells a union's alternatives apart; pydantic quotes it.
        location = (*location, context["discriminator"].strip("'"))
    path, received = _written(location, data)
    match error["type"]:
        case "extra_forbidden":
            return _Problem("unknown", path, received)
        case "missing" | "union_tag_not_found" if isinstance(location[-1], str):
            return _Problem("missing", (*path, location[-1]), received)
        case "value_error":
            return _Problem("rule", path, received, str(context["error"]))
        case limit if limit in LIMITS:
            return _Problem("limit", path, received, LIMITS[limit].format(**context))
        case _:
            return _Problem("type", path, received)


def _written(location: KeyPath, data: Any) -> tuple[KeyPath, Any]:
    """The keys and places of `location` that are in `data`, and what is there.

    Pydantic puts the names of a union's alternatives between them.
    """
    path: list[int | str] = []
    for part in location:
        parts = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
        if part in parts:
            path.append(part)
            data = data[part]
    return tuple(path), data


def _spelled(path: KeyPath) -> str:
    """`('members', 0, 'candidate', 'plan')` as `'members', item 1, 'candidate.plan'`."""
    parts: list[str] = []
    for is_place, group in groupby(path, key=lambda part: isinstance(part, int)):
        run = list(group)
        parts += [f"item {int(part) + 1}" for part in run] if is_place else [repr(".".join(map(str, run)))]
    return ", ".join(parts)


def _expected(model: type[BaseModel], path: KeyPath, data: Any) -> list[Any]:
    """The types of what may stand at `path`, unions resolved, as far as by what stands around it."""
    found: list[Any] = [model]
    for part in path:
        holders = _meant(found, data)
        found = [each for holder in holders for inner in _within(holder, part) for each in _alternatives(inner)]
        parts = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
        data = data[part] if part in parts else None
    return _meant(found, data)


def _meant(alternatives: list[Any], data: Any) -> list[Any]:
    """Those of a union that the words in the data speak for, such as its `kind`; all where none does."""
    if not isinstance(data, dict):
        return alternatives
    return [each for each in alternatives if _is_model(each) and _agrees(each, data)] or alternatives


def _agrees(model: type[BaseModel], data: dict[str, Any]) -> bool:
    fields = [(data[name], field.annotation) for name, field in model.model_fields.items() if name in data]
    return all(value in get_args(kind) for value, kind in fields if get_origin(kind) is Literal)


def _within(holder: Any, part: int | str) -> list[Any]:
    """What a model, a table or a list holds under a key or at a place."""
    if _is_model(holder):
        return [holder.model_fields[part].annotation] if part in holder.model_fields else []
    # Every item of a list is of one type: (X, ...) or (X, X, X).
    position = {dict: 1, tuple: 0}.get(get_origin(holder))
    return [] if position is None else [get_args(holder)[position]]


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, `None` left out: it stands for a key that is not given."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _alternatives(arguments[0])
    if origin in (Union, UnionType):
        return [each for argument in arguments for each in _alternatives(argument)]
    return [] if annotation is NoneType else [annotation]


def _range(model: type[BaseModel], path: KeyPath, data: object) -> str:
    """What a number may be where it has two ends and all that may stand there agree on them; else nothing."""
    holders = _expected(model, path[:-1], data) if path and isinstance(path[-1], str) else []
    fields = [each.model_fields[path[-1]] for each in holders if _is_model(each) and path[-1] in each.model_fields]
    ends = {_ends(field) for field in fields}
    return ends.pop() if len(ends) == 1 else ""


def _ends(field: FieldInfo) -> str:
    """Both ends of what a number may be, in words; nothing where one is open."""
    metadata = [*field.metadata, *_inner_metadata(field.annotation)]
    low: list[tuple[Any, str, str]] = [(each.ge, "from", "at least") for each in metadata if isinstance(each, Ge)]
    low += [(each.gt, "above", "above") for each in metadata if isinstance(each, Gt)]
    high: list[tuple[Any, str, str]] = [(each.le, "to", "at most") for each in metadata if isinstance(each, Le)]
    high += [(each.lt, "below", "below") for each in metadata if isinstance(each, Lt)]
    if not low or not high:
        return ""
    (least, after, alone), (most, until, at_most) = low[0], high[0]
    if (after, until) == ("from", "to"):
        return f"must be from {_shown(least)} to {_shown(most)}"
    return f"must be {alone} {_shown(least)} and {at_most} {_shown(most)}"


def _shown(limit: float) -> str:
    """A limit in full where it is whole: `1000000`, not `1e+06`."""
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def _inner_metadata(annotation: Any) -> list[Any]:
    """What is said of the members of a union, such as of a number that need not be given."""
    if get_origin(annotation) in (Union, UnionType):
        return [each for argument in get_args(annotation) for each in _inner_metadata(argument)]
    if get_origin(annotation) is Annotated:
        said = get_args(annotation)[1:]
        return [inner for each in said for inner in (each.metadata if isinstance(each, FieldInfo) else [each])]
    return []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _keys(alternatives: Sequence[Any]) -> list[str]:
    """The keys of every model among `alternatives`."""
    return list(dict.fromkeys(name for each in alternatives if _is_model(each) for name in each.model_fields))


def _in_words(alternatives: Sequence[Any]) -> list[str]:
    """What may stand there, once each."""
    words: list[str] = []
    for each in alternatives:
        origin, arguments = get_origin(each), get_args(each)
        if origin is Literal:
            words += [json.dumps(option) for option in arguments]
        elif origin is tuple:
            words.append(LIST if Ellipsis in arguments else f"{LIST} of {len(arguments)} {_plural(arguments[0])}")
        elif origin is dict or _is_model(each):
            words.append(TABLE)
        else:
            words.append(KINDS.get(each, OTHER))
    return list(dict.fromkeys(words)) or [OTHER]


def _plural(annotation: Any) -> str:
    [word] = _in_words(_alternatives(annotation))
    return f"{word.removeprefix('a ')}s"


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _nearest(model: type[BaseModel], path: KeyPath, data: object) -> str:
    known = _keys(_expected(model, path[:-1], data))
    near = nearest(str(path[-1]), known, KEY_LIKENESS)
    return f"Did you mean {near!r}?" if near else f"Known keys: {', '.join(sorted(known))}"


def _nearest_word(words: Sequence[str], received: Any) -> str:
    """The option, of those in quotes, that was probably meant."""
    options = [json.loads(word) for word in words if word.startswith('"')]
    near = nearest(received, options) if isinstance(received, str) else ""
    return f"Did you mean {near!r}?" if near else ""


def _conversion(words: Sequence[str], received: Any) -> str:
    """How to write what was probably meant."""
    if not isinstance(received, (str, int, float)):
        return ""
    if words == [LIST]:
        return f"Write [{json.dumps(received, ensure_ascii=False)}]"
    if isinstance(received, str):
        return "Write it without quotes" if _is_bare(received) and set(words) & set(KINDS.values()) else ""
    quoted = json.dumps(str(received).lower())
    return f"Write {quoted}, with quotes" if {quoted, KINDS[str]} & set(words) else ""


def _is_short(received: Any) -> bool:
    """Whether a value is told in a line: no table, nor a list of such or of lists."""
    parts = received if isinstance(received, list) else [received]
    return not any(isinstance(each, (dict, list)) for each in parts)


def _is_bare(text: str) -> bool:
    """Whether `text` is a number, true or false without the quotes."""
    try:
        return isinstance(json.loads(text), (int, float))
    except ValueError:
        return False

"""The one door from plain data (a Hyperopt sample, TOML, a stored document) to typed objects."""

import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from search_space.errors import MalformedError


class Frozen(BaseModel):
    """Base of every typed object: immutable, strict about types, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def _whole(value: Any) -> Any:
    """Hyperopt's `quniform` samples `56.0` where an integer is meant; 56.5 stays and is refused."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Whole = Annotated[int, BeforeValidator(_whole)]
"""An integer that may arrive as an integral float."""

ListAsTuple = BeforeValidator(_as_tuple)
"""Lets a tuple field accept a list, as TOML and JSON have only lists."""

Model = TypeVar("Model", bound=BaseModel)


def decode(model: type[Model], data: Mapping[str, Any], *, where: str) -> Model:
    """Turn plain data into a frozen object.

    Args:
        model: The class to make.
        data: A plain mapping; NumPy scalars and tuples are taken as numbers and lists.
        where: What the data is, for the error: a file name or "trial 7".

    Returns:
        An instance of `model`.

    Raises:
        MalformedError: An unknown key (the nearest known one is named), a missing key, a wrong type or a value
            out of range; the first problem is told with its path.
    """
    try:
        return model.model_validate(to_plain(data))
    except ValidationError as error:
        raise _malformed(model, error, where) from None


def encode(value: BaseModel) -> dict[str, Any]:
    """Turn a frozen object into plain JSON data; `decode` is its inverse."""
    return value.model_dump(mode="json")


def to_plain(value: Any) -> Any:
    """Replace NumPy scalars by Python numbers and tuples by lists, through nested mappings."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if hasattr(value, "item") and hasattr(value, "dtype"):
        return value.item()
    return value


def canonical_json(value: Any) -> str:
    """Serialise plain data or a frozen object so that equal values give equal text."""
    plain = encode(value) if isinstance(value, BaseModel) else to_plain(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def _malformed(model: type[BaseModel], error: ValidationError, where: str) -> MalformedError:
    """Tell the first problem, an unknown key before any other: it often causes the rest."""
    problems = error.errors(include_url=False)
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        name = str(problem["loc"][-1])
        known = _known_keys(model, problem["loc"][:-1])
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        remedy = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(known))}"
        return MalformedError(f"{where}: unknown key {path!r}", remedy=remedy)
    if problem["type"] == "missing":
        return MalformedError(f"{where}: the key {path!r} is missing", remedy="Add it")
    rule = problem["msg"].removeprefix("Value error, ")
    subject = f"{where}: {path!r}" if path else where
    received = problem["input"] if path else None
    return MalformedError(f"{subject}: {rule[0].lower()}{rule[1:]}", received=received)


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Field names of every model that `path` may lead to (unions and tuples are searched through)."""
    models = [model]
    for part in path:
        inner = [
            m
            for each in models
            if part in each.model_fields
            for m in _models_in(each.model_fields[str(part)].annotation)
        ]
        # A part that is no field is a union's tag or a list index: it stays where it is.
        models = inner or models
    return [name for each in models for name in each.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]

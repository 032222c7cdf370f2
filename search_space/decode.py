"""The one door from plain data (a Hyperopt sample, TOML, a stored document) to typed objects."""

import hashlib
import json
from collections.abc import Mapping
from datetime import date, time
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from search_space.decode_errors import malformed
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

Count = Annotated[Whole, Field(ge=1)]

ListAsTuple = BeforeValidator(_as_tuple)
"""Lets a tuple field accept a list, as TOML and JSON have only lists."""

Model = TypeVar("Model", bound=BaseModel)

_PLAIN = frozenset({str, int, float, bool, type(None)})


def decode(model: type[Model], data: Mapping[str, Any], *, where: str, remedy: str = "") -> Model:
    """Turn plain data into a frozen object.

    Args:
        model: The class to make.
        data: A plain mapping; NumPy scalars, dates and tuples are taken as numbers, text and lists.
        where: What the data is, for the error: a file name or "trial 7".
        remedy: What the user can do about any problem, such as "Run `score` again"; by default what mends the
            data itself, fit for what a user wrote.

    Returns:
        An instance of `model`.

    Raises:
        MalformedError: An unknown key (the nearest known one is named), a missing key, a wrong type or a value
            out of range; the first problem is told with its path.
    """
    plain = to_plain(data)
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise malformed(model, plain, error, where=where, remedy=remedy) from None
    except MalformedError as error:
        # A validator that decoded a part of the data.
        raise MalformedError(f"{where}: {error.what}", received=error.received, remedy=remedy or error.remedy) from None


def encode(value: BaseModel) -> dict[str, Any]:
    """Turn a frozen object into plain JSON data; `decode` is its inverse."""
    return value.model_dump(mode="json")


def to_plain(value: Any) -> Any:
    """Replace NumPy scalars by Python numbers, dates by text and tuples by lists, through nested mappings."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if hasattr(value, "item") and hasattr(value, "dtype"):
        return value.item()
    if isinstance(value, (date, time)):
        # TOML reads `2024-05-01` without quotes as a date, where only a name can be meant.
        return value.isoformat()
    return value


def canonical_json(value: Any) -> str:
    """Serialise plain data or a frozen object so that equal values give equal text."""
    plain = encode(value) if isinstance(value, BaseModel) else to_plain(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]

"""Documents of a store: canonical JSON on the way in, checked objects on the way out; nothing is ever evaluated."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from search_space.decode import Frozen, decode
from search_space.errors import MalformedError
from trials_db.errors import DamagedError

Document = TypeVar("Document", bound=Frozen)

RESTORE = "Restore the store from a copy, or name another one and search anew"

MAX_LENGTH = 1_000_000
"""In characters. What Mapgrove writes has some thousands: large things are no part of a document."""

MAX_DEPTH = 64
"""What Mapgrove writes is nested far less; much deeper, and whoever walks through it runs out of stack."""


def parse_document(text: object, place: str, where: str) -> dict[str, Any]:
    """Read a document.

    Args:
        text: What the store holds.
        place: The store, for the error.
        where: What it is the document of, for the error: "trial 7 of study 'x'".

    Raises:
        DamagedError: It is no JSON mapping of finite numbers, too long, or nested too deeply.
    """
    if isinstance(text, str) and len(text) > MAX_LENGTH:
        raise damaged(place, where, f"it has {len(text)} characters, and the longest {MAX_LENGTH}")
    try:
        plain = json.loads(text, parse_constant=_refuse, parse_float=_finite) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict):
        raise damaged(place, where, "it is no JSON mapping", received=text)
    if _is_deep(plain):
        raise damaged(place, where, f"it is nested deeper than {MAX_DEPTH} levels")
    return plain


def decode_document(model: type[Document], plain: Mapping[str, Any], place: str, where: str) -> Document:
    """Make an object of what the store holds; see `parse_document`.

    Raises:
        DamagedError: It describes no `model`.
    """
    try:
        return decode(model, plain, where=_damaged(place, where), remedy=RESTORE)
    except MalformedError as error:
        raise DamagedError(error.what, received=error.received, remedy=error.remedy) from None


def damaged(place: str, where: str, how: str, *, received: object = None) -> DamagedError:
    """The error for a document that is not as this version writes it; see `parse_document`."""
    return DamagedError(f"{_damaged(place, where)}: {how}", received=received, remedy=RESTORE)


def _damaged(place: str, where: str) -> str:
    return f"The study store {place} holds a damaged document, {where}"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def _is_deep(plain: dict[str, Any]) -> bool:
    level: list[Any] = [plain]
    for _ in range(MAX_DEPTH):
        within = (each.values() if isinstance(each, dict) else each for each in level)
        level = [child for children in within for child in children if isinstance(child, (dict, list))]
        if not level:
            return False
    return True

"""Documents of a store: canonical JSON on the way in, checked objects on the way out; nothing is ever evaluated."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from search_space.decode import Frozen, decode
from search_space.errors import MalformedError
from trials_db.errors import StoreError

Document = TypeVar("Document", bound=Frozen)

RESTORE = "Restore the store from a copy, or name another one and search anew"


def parse_document(text: object, place: str, where: str) -> dict[str, Any]:
    """Read a document.

    Args:
        text: What the store holds.
        place: The store, for the error.
        where: What it is the document of, for the error: "trial 7 of study 'x'".

    Raises:
        StoreError: It is no JSON mapping.
    """
    try:
        plain = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        plain = None
    if not isinstance(plain, dict):
        raise damaged(place, where, "it is no JSON mapping", received=text)
    return plain


def decode_document(model: type[Document], plain: Mapping[str, Any], place: str, where: str) -> Document:
    """Make an object of what the store holds; see `parse_document`.

    Raises:
        StoreError: It describes no `model`.
    """
    try:
        return decode(model, plain, where=_damaged(place, where), remedy=RESTORE)
    except MalformedError as error:
        raise StoreError(error.what, received=error.received, remedy=error.remedy) from None


def damaged(place: str, where: str, how: str, *, received: object = None) -> StoreError:
    """The error for a document that is not as this version writes it; see `parse_document`."""
    return StoreError(f"{_damaged(place, where)}: {how}", received=received, remedy=RESTORE)


def _damaged(place: str, where: str) -> str:
    return f"The study store {place} holds a damaged document, {where}"

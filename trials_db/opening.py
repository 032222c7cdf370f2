"""How a URL becomes a store."""

from pathlib import Path

from trials_db.errors import StoreError, mask_url
from trials_db.sqlite_store import SqliteStore
from trials_db.store import TrialStore

_EXAMPLES = "Use sqlite:///runs/x/trials.sqlite or mongodb://host/database"


def open_store(url: str, *, create: bool = True) -> TrialStore:
    """Open the store that a URL names.

    Args:
        url: `sqlite:///` with a path, relative (`sqlite:///runs/x/trials.sqlite`) or absolute (`sqlite:////data/t.sqlite`);
            or any `mongodb://` or `mongodb+srv://` URI that PyMongo takes.
        create: Make the file with its folder, or the collections, where they are missing; else that is an error.

    Returns:
        An open store; close it, or use it in a `with` statement.

    Raises:
        StoreError: The URL names no store this version knows, the store is missing, damaged or of a later
            version, or cannot be read or written.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in ("mongodb", "mongodb+srv"):
        # PyMongo takes a while to import, and most studies do without.
        from trials_db.mongo_store import MongoStore

        return MongoStore(url, create=create)
    if not separator or scheme != "sqlite":
        raise StoreError("The study store is named by a URL", received=mask_url(url), remedy=_EXAMPLES)
    path = rest.removeprefix("/")
    if not rest.startswith("/") or not path or path.endswith("/") or path == ":memory:":
        raise StoreError(
            "A SQLite store is a file, named after sqlite:/// (four slashes for an absolute path)",
            received=url,
            remedy="Use sqlite:///runs/x/trials.sqlite",
        )
    return SqliteStore(Path(path).expanduser(), create=create)

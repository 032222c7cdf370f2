"""How a URL becomes a store."""

from pathlib import Path

from trials_db.artifacts import Artifacts, FolderArtifacts
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
    if is_on_a_server(url):
        # PyMongo takes a while to import, and most studies do without.
        from trials_db.mongo_store import MongoStore

        return MongoStore(url, create=create)
    return SqliteStore(_file(url), create=create)


def open_artifacts(place: str, store_url: str) -> Artifacts:
    """Open where the large files of trials are kept.

    Args:
        place: A folder; where it is empty, they are beside the store: in its database, or in `artifacts/` beside its
            file.
        store_url: URL of the store.

    Returns:
        Open artifacts; close them, or use them in a `with` statement.

    Raises:
        StoreError: The URL names no store, or its server is out of reach.
    """
    on_a_server = is_on_a_server(store_url)
    if on_a_server and not place:
        from trials_db.mongo_artifacts import MongoArtifacts

        return MongoArtifacts(store_url)
    where = Path(place).expanduser() if place else _file(store_url).parent / "artifacts"
    # The workers of a SQLite file are on one machine, and share the folders of the trials.
    return FolderArtifacts(where, carries_checkpoints=on_a_server)


def is_on_a_server(url: str) -> bool:
    """Whether a store is one that many machines reach."""
    return url.startswith(("mongodb://", "mongodb+srv://"))


def _file(url: str) -> Path:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme != "sqlite":
        raise StoreError("The study store is named by a URL", received=mask_url(url), remedy=_EXAMPLES)
    path = rest.removeprefix("/")
    if not rest.startswith("/") or not path or path.endswith("/") or path == ":memory:":
        raise StoreError(
            "A SQLite store is a file, named after sqlite:/// (four slashes for an absolute path)",
            received=url,
            remedy="Use sqlite:///runs/x/trials.sqlite",
        )
    return Path(path).expanduser()

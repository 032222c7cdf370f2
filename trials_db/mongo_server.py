"""A MongoDB server as the store sees it: found, asked again while out of reach, its errors in plain words."""

import logging
import re
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from pymongo import ASCENDING, DESCENDING, MongoClient, ReadPreference
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    DuplicateKeyError,
    InvalidName,
    InvalidURI,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from trials_db.errors import StoreError, mask_url
from trials_db.stopping import Stop

_log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
DATABASE = "mapgrove"
"""Where the URI names none."""

REACH_S = 10.0
"""How long a server that was never reached is looked for."""

PATIENCE_S = 600.0
"""How long one that was reached before may be away."""

LEAVING_S = 10.0
"""How long who was asked to stop still waits for it: to hand back what it has."""

PAUSE_S = 0.5
CALL_MS = 20_000
"""How long one call may take; a connection that was cut without a word is given up after that."""

INDEXES: dict[str, tuple[tuple[list[tuple[str, int]], dict[str, Any]], ...]] = {
    "trials": (
        ([("study", ASCENDING), ("number", ASCENDING)], {"unique": True}),
        ([("study", ASCENDING), ("state", ASCENDING), ("priority", DESCENDING), ("number", ASCENDING)], {}),
        ([("study", ASCENDING), ("changed", ASCENDING)], {}),
        (
            [("study", ASCENDING), ("loss", ASCENDING), ("number", ASCENDING)],
            {"partialFilterExpression": {"loss": {"$type": "number"}}},
        ),
        ([("study", ASCENDING), ("token", ASCENDING)], {}),
    ),
}
"""One for every query: of a number, of the next new one and of those that run, of what changed, of the best, of a
claim."""

REFUSED = {
    13: "it does not let this user in",
    18: "the user name or the password is wrong",
    8000: "it does not let this user in",
}

_AGAIN = (AutoReconnect, NotPrimaryError)
_ABOUT_URL = "Use mongodb://USER:PASSWORD@host/database, with special characters written as %40"

Answer = TypeVar("Answer")


def _client(url: str) -> MongoClient[dict[str, Any]]:
    """Raises also for what PyMongo would leave out with a warning: a `UserWarning`."""
    ours: dict[str, Any] = {
        "appname": "mapgrove",
        "connectTimeoutMS": CALL_MS,
        "socketTimeoutMS": CALL_MS,
        "serverSelectionTimeoutMS": int(1000 * REACH_S),
    }
    # Arguments go before what the URI says.
    said = {option.partition("=")[0].lower() for option in url.partition("?")[2].split("&")}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return MongoClient(
            url,
            tz_aware=True,
            w="majority",
            journal=True,
            # Standalone servers know none; every call of ours may be repeated.
            retryWrites=False,
            # What others wrote and Python has no value for is refused where it is read.
            datetime_conversion="DATETIME_AUTO",
            unicode_decode_error_handler="replace",
            **{name: value for name, value in ours.items() if name.lower() not in said},
        )


def _fault_without_user(url: str) -> str:
    """What is wrong with a URI beside its user and password, in brackets; empty where nothing is."""
    try:
        _client(re.sub("://.*@", "://", url)).close()
    except (PyMongoError, ValueError, TypeError, UserWarning) as error:
        return f" ({mask_url(str(error))})"
    return ""


class Server:
    """One database.

    Args:
        url: Any URI that PyMongo takes.
        create: Make collections and indexes; else they must be there.

    Attributes:
        stop: Once it is set, a server that is away is waited for no longer than `LEAVING_S`.

    Raises:
        StoreError: The URI is none, the server is not reached within `REACH_S`, refuses the user, or holds no store.
    """

    def __init__(self, url: str, *, create: bool) -> None:
        self.place = mask_url(url)
        # Of a URI that cannot be read nobody knows what is secret.
        self._secret = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
        self._thread = threading.local()
        if url.partition("?")[0].count("@") > 1:
            # Of a password with @ and / the part between them would be taken for the server, and be told as such.
            raise StoreError("The store's URL cannot be read", received=self.place, remedy=_ABOUT_URL)
        try:
            self._client = _client(url)
            # Whatever the URI prefers: what was just written is not yet everywhere, and is asked for.
            self._db = self._client.get_default_database(DATABASE, read_preference=ReadPreference.PRIMARY)
        except (InvalidURI, InvalidName, ConfigurationError, ValueError, TypeError, UserWarning) as error:
            # Of a password that was written as it is, PyMongo's words may show a part.
            why = _fault_without_user(url) if "@" in url else f" ({self._plain(error)})"
            raise StoreError(f"The store's URL cannot be read{why}", received=self.place, remedy=_ABOUT_URL) from None
        self._was_reached = False
        self.stop: Stop = threading.Event()
        try:
            self.call(lambda db: self._prepare(db, create=create))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of all connections."""
        self._client.close()

    @property
    def is_repeating(self) -> bool:
        """Whether what is called was called before, and its answer lost."""
        return bool(getattr(self._thread, "repeating", False))

    def call(self, ask: Callable[[Any], Answer]) -> Answer:
        """Ask the database; again and again while the server is out of reach.

        Args:
            ask: Given the database; it may be called several times, even after one whose answer was lost.

        Raises:
            DuplicateKeyError: As `ask` does.
            StoreError: The server refused, or was out of reach for too long.
        """
        begun = time.monotonic()
        deadline = begun + (PATIENCE_S if self._was_reached else 0.0)
        is_away = False
        self._thread.repeating = False
        while True:
            try:
                answer = ask(self._db)
            except DuplicateKeyError:
                raise
            except _AGAIN as error:
                if time.monotonic() > deadline:
                    raise self._out_of_reach(error, time.monotonic() - begun) from None
                if not is_away:
                    _log.warning("the store %s is out of reach; trying again for %.0f s", self.place, PATIENCE_S)
                is_away = self._thread.repeating = True
                if self.stop.is_set():
                    deadline = min(deadline, time.monotonic() + LEAVING_S)
                    time.sleep(PAUSE_S)
                else:
                    self.stop.wait(PAUSE_S)
            except PyMongoError as error:
                raise self._refused(error) from None
            else:
                if is_away:
                    _log.warning("the store %s is back", self.place)
                self._was_reached = True
                return answer

    def _prepare(self, db: Any, *, create: bool) -> None:
        found = db.schema.find_one({"_id": "mapgrove"})
        if found is None and not create:
            raise StoreError(f"The store {self.place} holds no study", remedy="Run `run_search.py search` first")
        if found is not None and found["version"] != SCHEMA_VERSION:
            raise StoreError(
                f"The store {self.place} has version {found['version']}, this Mapgrove reads {SCHEMA_VERSION}",
                remedy="Use the Mapgrove that wrote it",
            )
        if create:
            db.schema.update_one({"_id": "mapgrove"}, {"$setOnInsert": {"version": SCHEMA_VERSION}}, upsert=True)
            for collection, indexes in INDEXES.items():
                for keys, options in indexes:
                    db[collection].create_index(keys, **options)

    def _out_of_reach(self, error: PyMongoError, seconds: float) -> StoreError:
        kind = "is not reached" if isinstance(error, ServerSelectionTimeoutError) else "breaks connections off"
        return StoreError(
            f"The store {self.place} {kind}, tried for {seconds:.0f} s",
            received=self._plain(error),
            remedy="Check that the server runs, its address, and the network between",
        )

    def _refused(self, error: PyMongoError) -> StoreError:
        code = error.code if isinstance(error, OperationFailure) else None
        if code in REFUSED:
            return StoreError(
                f"The store {self.place} refuses: {REFUSED[code]}", remedy="Check the user's rights: readWrite on it"
            )
        return StoreError(
            f"The store {self.place} failed", received=self._plain(error), remedy="Its own log may tell more"
        )

    def _plain(self, error: BaseException) -> str:
        """An error's first words, without secrets."""
        text = mask_url(str(error)).partition(", Timeout:")[0].partition("\n")[0][:200]
        return text.replace(self._secret, "***") if self._secret else text

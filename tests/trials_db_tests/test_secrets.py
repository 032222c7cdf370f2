"""A store's password shows nowhere: in no output or traceback, no file, and no command line that others can read."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import psutil
import pymongo
import pytest

from search_space.errors import MapgroveError
from tests.mongod import MongoServer
from tests.verbs_tests.tiny_job import Job
from trials_db.errors import mask_url
from trials_db.opening import open_store
from verbs.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED

pytestmark = pytest.mark.timeout(900)

PASSWORD = "hunter2/p@ss w:rd?&"
WRONG = "swordfish/p@ss w:rd?&"
SECRETS = ("hunter2", "swordfish")
"""Of each password the part that nobody would write otherwise: escaped or not, whole or cut, it would show."""

QUICK = "?serverSelectionTimeoutMS=500&connectTimeoutMS=500"


class Guarded:
    """A job whose store asks for a password; it keeps all that its verbs say, and looks at all that they start."""

    def __init__(self, folder: Path, port: int) -> None:
        self.job = Job(folder)
        self.place = f"127.0.0.1:{port}/trials"
        self.said: dict[str, str] = {}
        self.seen: dict[int, str] = {}

    def url(self, password: str = PASSWORD, place: str = "", options: str = "") -> str:
        return f"mongodb://worker:{quote_plus(password)}@{place or self.place}{options}"

    def run(
        self,
        verb: str,
        *words: str,
        store: str,
        code: int = 0,
        by_option: bool = False,
        until: Callable[[], bool] = lambda: False,
    ) -> str:
        """Run a verb with its store in the environment, or on the command line as a careless user has it.

        Args:
            verb: The verb.
            words: Those of its command.
            store: Its URL.
            code: With which it ends.
            by_option: Whether the URL is on the command line.
            until: When it is stopped, as by Ctrl-C.
        """
        command = self.job.command(verb, "--debug", *words, *(["--store", store] if by_option else []))
        name = f"{verb} {' '.join(words)} {len(self.said)}"
        variables = {} if by_option else {"MAPGROVE_STORE": store}
        said = self.job.folder.parent / f"said{len(self.said)}.txt"
        with said.open("w") as file:
            process = subprocess.Popen(
                command, cwd=self.job.folder, env={**os.environ, **variables}, stdout=file, stderr=subprocess.STDOUT
            )
            while process.poll() is None:
                self.look(process.pid, children_only=by_option)
                if until():
                    process.send_signal(signal.SIGINT)
                    process.wait()
                time.sleep(0.1)
        self.said[name] = said.read_text()
        assert process.returncode == code, self.said[name]
        return self.said[name]

    def num_servers(self) -> int:
        """How many workers have opened the store, and started what forks their trials."""
        return sum("forkserver" in line for line in self.seen.values())

    def look(self, pid: int, *, children_only: bool) -> None:
        """Read the command lines of a process and of all below it."""
        try:
            parent = psutil.Process(pid)
            for each in parent.children(recursive=True) + ([] if children_only else [parent]):
                self.seen[each.pid] = " ".join(each.cmdline())
        except psutil.NoSuchProcess:
            return


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Every verb that opens a store has run, in peace and in trouble."""
    folder = tmp_path_factory.mktemp("guarded")
    with MongoServer(folder / "mongod", replica_set="") as server:
        with pymongo.MongoClient[dict[str, Any]](server.url) as client:
            roles = [{"role": "readWrite", "db": "trials"}]
            client["trials"].command("createUser", "worker", pwd=PASSWORD, roles=roles)
        found = Guarded(folder / "job", server.port)
        found.job.run("prepare")
        right = found.url()
        one = ("--set", "limits.max_trials=1", "--set", "budget.epochs=1", "--set", "budget.steps_per_epoch=1")
        assert "1 trial has ended" in found.run("search", "--workers", "1", *one, store=right)
        # Nothing is left to try: what the framework says, which their servers import, the search's worker has shown.
        words = ("worker", "--workers", "2", "--idle-exit-s", "600", *one)
        found.run(*words, store=right, by_option=True, until=lambda: found.num_servers() == 3, code=EXIT_INTERRUPTED)
        found.run("status", *one, store=right)
        found.run("trials", "export", "moved.jsonl", *one, store=right, by_option=True)
        found.run("doctor", *one, store=right)
        for trouble in (found.url(WRONG), found.url(place="127.0.0.1:1/trials", options=QUICK)):
            assert "Traceback" in found.run("status", store=trouble, code=EXIT_FAILED)
        # As it is written by who forgets to escape it.
        unescaped = f"mongodb://worker:{WRONG}@{found.place}"
        assert "Traceback" in found.run("worker", store=unescaped, code=EXIT_FAILED)
        yield found


@pytest.mark.slow
def test_no_output_and_no_traceback_shows_the_password(guarded: Guarded) -> None:
    assert len(guarded.said) == 8
    assert "mongodb://worker:***@" in "".join(guarded.said.values())
    assert [name for name, text in guarded.said.items() if any(secret in text for secret in SECRETS)] == []


@pytest.mark.slow
def test_no_file_holds_the_password(guarded: Guarded) -> None:
    files = [path for path in guarded.job.folder.rglob("*") if path.is_file()]
    assert {"study.json", "log.txt", "moved.jsonl", "candidate.json"} <= {path.name for path in files}
    assert [str(path) for path in files if any(secret.encode() in path.read_bytes() for secret in SECRETS)] == []


@pytest.mark.slow
def test_no_command_line_repeats_the_password(guarded: Guarded) -> None:
    workers = [line for line in guarded.seen.values() if "run_search.py worker" in line]
    assert len(workers) >= 3, guarded.seen
    assert guarded.num_servers() == 3
    assert [line for line in guarded.seen.values() if any(secret in line for secret in SECRETS)] == []


def test_the_database_holds_no_password(guarded: Guarded) -> None:
    with open_store(guarded.url()) as store:
        (name,) = store.list_studies()
        told = [repr(store.load_study(name)), repr(store.trials(name)), repr(store.workers(name)), repr(store)]
    assert not any(secret in text for secret in SECRETS for text in told)


@pytest.mark.parametrize("password", ["hunter2", "hunter2@x:y/z", "a:hunter2@", "hunter2?x=1&y#z", "%68unter2", ""])
def test_every_error_about_a_url_masks_it(password: str, caplog: pytest.LogCaptureFixture) -> None:
    for scheme in ("mongodb", "mongodb+srv", "postgres"):
        for rest in ("", "127.0.0.1:1/x?serverSelectionTimeoutMS=100", "127.0.0.1:x/", "[::1/x", "h/a b$c"):
            url = f"{scheme}://worker:{password}@{rest}"
            assert "unter2" not in mask_url(url)
            if scheme == "mongodb+srv":
                # Opening it would ask the network for a name.
                continue
            with pytest.raises(MapgroveError) as caught:
                open_store(url)
            assert "unter2" not in str(caught.value)
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "unter2" not in caplog.text

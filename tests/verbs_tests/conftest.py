"""What the tests of the main job share: verbs that start warm, and a study that was searched and retrained."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.verbs_tests.tiny_job import Job
from tests.verbs_tests.warm_verbs import WarmVerbs

Begin = Callable[[], Job]


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmVerbs]:
    with WarmVerbs() as started:
        yield started


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a search was completed, by two workers in one go."""

    def begin() -> Job:
        begun = Job(tmp_path_factory.mktemp("begun"))
        assert "4 scenes of 3 bands, 2 classes: 2 train, 1 validate, 1 test" in begun.run("prepare")
        assert "4 trials have ended" in begun.run("search", "--workers", "2")
        return begun

    return made_once(tmp_path_factory, "searched", begin)


@pytest.fixture(scope="session")
def searched_and_retrained(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, retrained as its study has it."""

    def begin() -> Job:
        begun = Job.copied(searched, tmp_path_factory.mktemp("begun"))
        begun.run("retrain")
        return begun

    return made_once(tmp_path_factory, "retrained", begin)


@pytest.fixture
def job(searched: Path, warm: WarmVerbs, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The test's own copy of a job whose search is complete."""
    return Job.copied(searched, tmp_path_factory.mktemp("job"), warm)


@pytest.fixture
def retrained(searched_and_retrained: Path, warm: WarmVerbs, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The test's own copy of a job whose best candidate was retrained for each class."""
    return Job.copied(searched_and_retrained, tmp_path_factory.mktemp("retrained"), warm)


def made_once(factory: pytest.TempPathFactory, name: str, begin: Begin) -> Path:
    """The folder of a job that the first process of the tests begins, for all; its verbs are started from nothing."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            begin().folder.rename(folder)
    return folder

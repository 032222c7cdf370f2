"""Files that are whole or not there, and folders with one writer."""

import contextlib
import multiprocessing
import threading
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from pipeline.files import LOCK_FILE, passing_folder, sole_writer, written_beside
from search_space.errors import MapgroveError


def test_a_block_that_raises_leaves_the_older_file(tmp_path):
    path = tmp_path / "a" / "file.txt"
    with written_beside(path) as beside:
        beside.write_text("older")

    with contextlib.suppress(KeyError), written_beside(path) as beside:
        beside.write_text("newer")
        raise KeyError

    assert path.read_text() == "older"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


def hold(folder: Path, held: Event, release: Event) -> None:
    with sole_writer(folder):
        held.set()
        release.wait(60)


def test_a_folder_has_one_writer_and_a_killed_one_leaves_it_free(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / "new", held, release))
    other.start()
    assert held.wait(60)
    with pytest.raises(MapgroveError, match="another process"), sole_writer(tmp_path / "new"):
        pass

    other.kill()
    other.join(60)

    with sole_writer(tmp_path / "new"):
        pass


def test_who_waits_for_a_folder_writes_when_the_other_has_ended(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / "new", held, release))
    other.start()
    assert held.wait(60)
    with pytest.raises(MapgroveError, match="another process"), sole_writer(tmp_path / "new", 0.3):
        pass
    threading.Timer(0.5, release.set).start()

    with sole_writer(tmp_path / "new", 60.0):
        assert release.is_set()

    other.join(60)


def test_a_passing_folder_goes_with_its_block_and_one_of_a_killed_process_with_the_next(tmp_path):
    killed, other = tmp_path / ".models-killed", tmp_path / "theirs"
    for folder in (killed, other):
        folder.mkdir()
        (folder / LOCK_FILE).touch()
        (folder / "0001.keras").touch()

    with passing_folder(tmp_path, ".models-") as first:
        assert not killed.exists()
        (first / "0002.keras").touch()
        with passing_folder(tmp_path, ".models-") as second:
            assert second != first
            assert (first / "0002.keras").is_file(), "somebody works in it"

    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]

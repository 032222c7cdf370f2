import os

import pytest

from results.export import write_csv, write_json_lines
from results.figure_files import write_figures
from results.files import PlaceError, write_bytes, write_text
from results.report import write_report
from results.report_input import ReportInput


def test_text_is_written_as_utf_8_with_plain_line_ends(tmp_path):
    path = write_text(tmp_path / "new" / "a.txt", "道\n")
    assert path.read_bytes() == "道\n".encode()
    assert [each.name for each in path.parent.iterdir()] == ["a.txt"]


def test_an_older_file_is_replaced_and_a_neighbour_of_a_like_name_is_not(tmp_path):
    neighbour = tmp_path / "a.txt.tmp"
    neighbour.write_text("mine")
    (tmp_path / "a.txt").write_text("older")
    assert write_text(tmp_path / "a.txt", "newer").read_text() == "newer"
    assert neighbour.read_text() == "mine"


@pytest.mark.parametrize("writer", [write_csv, write_json_lines])
def test_a_folder_in_the_place_of_the_file_is_refused_in_one_line(tmp_path, trial, writer):
    place = tmp_path / "data"
    place.mkdir()
    with pytest.raises(PlaceError, match=r"place of a folder.*data.*Name a file in it\.") as refused:
        writer(place, [trial(0, {"a": 0.5})])
    assert "\n" not in str(refused.value)
    assert list(tmp_path.rglob("*")) == [place]


def test_a_file_on_the_way_to_the_place_is_refused_by_name(tmp_path, study):
    (tmp_path / "notes").write_text("mine")
    given = ReportInput(study, [])
    with pytest.raises(PlaceError, match=r"notes is a file.*Name another folder\."):
        write_report(tmp_path / "notes" / "deep" / "report.html", given)
    assert (tmp_path / "notes").read_text() == "mine"


def test_figures_cannot_go_into_a_file(tmp_path, study, trials):
    (tmp_path / "figures").write_text("mine")
    with pytest.raises(PlaceError, match="figures is a file"):
        write_figures(tmp_path / "figures", ReportInput(study, trials[:3]))


def test_nothing_is_left_of_a_file_that_could_not_be_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("older")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fails)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"newer")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "older"


def test_links_and_devices_are_not_replaced(tmp_path):
    (tmp_path / "target.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("link.csv", "pipe.csv"):
        with pytest.raises(PlaceError, match="link or device"):
            write_text(tmp_path / name, "new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "pipe.csv").is_fifo()

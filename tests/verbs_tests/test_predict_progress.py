"""How far a map is, in lines and as a bar."""

import sys
from collections.abc import Iterator

import pytest

from verbs.predict_progress import MapProgress


def test_lines_tell_the_share_and_the_time_that_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    times: Iterator[float] = iter([0.0, 10.0, 20.0, 31.0, 40.0, 110.0])
    with MapProgress("bay", clock=lambda: next(times)) as shown:
        # A fifth was there from before.
        for share in (0.2, 0.25, 0.3, 0.35, 0.7):
            shown.show(share)

    assert capsys.readouterr().out.splitlines() == ["  bay: 30%, 2 min 27 s left", "  bay: 70%, 1 min 00 s left"]


def test_what_takes_less_than_half_a_minute_has_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with MapProgress("bay") as shown:
        for share in (0.1, 0.5, 1.0):
            shown.show(share)
    assert capsys.readouterr().out == ""


def test_a_terminal_has_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with MapProgress("bay") as shown:
        shown.show(0.25)
        shown._bar.refresh()
    assert "bay  25% |" in capsys.readouterr().out

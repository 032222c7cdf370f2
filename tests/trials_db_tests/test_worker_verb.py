"""The verb `worker`: what it refuses before it looks at a study."""

import subprocess
import sys
from pathlib import Path

import pytest

import run_search

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "words",
    [
        ["--max-trials", "0"],
        ["--max-trials", "-1"],
        ["--max-trials", "1.5"],
        ["--idle-exit-s", "-5"],
        ["--idle-exit-s", "nan"],
        ["--idle-exit-s", "inf"],
        ["--idle-exit-s", "soon"],
    ],
    ids=" ".join,
)
def test_an_impossible_number_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run_search.main(["worker", "--study", "absent", *words])
    assert left.value.code == run_search.EXIT_USAGE
    told = capsys.readouterr().err
    assert words[0] in told
    assert repr(words[1]) in told


def test_an_unknown_backend_is_wrong_usage_before_anything_else_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAPGROVE_BACKEND", "nonsense")
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_search.py"), "worker", "--study", "absent"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == run_search.EXIT_USAGE
    assert done.stderr.startswith("worker: MAPGROVE_BACKEND must be one of")
    assert "Received 'nonsense'" in done.stderr
    assert len(done.stderr.splitlines()) == 1

"""The command line itself: help without weight, usage errors, one line for what is wrong."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import run_search

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "keras", "tensorflow", "hyperopt", "pandas", "rasterio", "matplotlib", "scipy", "cv2")


def modules_after(words: list[str]) -> set[str]:
    """Names of the modules that a fresh process has loaded after running the words."""
    code = (
        "import sys, run_search\n"
        "try: run_search.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


Told = Callable[[list[str]], tuple[int, str]]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs words in an empty folder, `{demo}` standing for the demo's study file; gives the exit code and the one line.

    Whatever is refused leaves nothing behind.
    """
    monkeypatch.chdir(tmp_path)
    demo = str(ROOT / "configs" / "demo.toml")

    def run(words: list[str]) -> tuple[int, str]:
        code = run_search.main([demo if word == "{demo}" else word for word in words])
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert not list(tmp_path.iterdir()), "a refused command leaves nothing behind"
        return code, error

    return run


@pytest.mark.parametrize("words", [["--help"], *[[verb, "--help"] for verb in run_search.VERBS]], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    loaded = modules_after(words)

    assert "argparse" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("verb", run_search.VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run_search.main([verb, "--help"])

    assert left.value.code == 0
    assert f"python run_search.py {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "run_search.py: a verb is missing. `python run_search.py --help` lists what there is."),
        (["serch"], "run_search.py: there is no such verb. Received 'serch'. Did you mean 'search'?"),
        (["search"], "search: --study is missing. Add --study FILE|NAME."),
        (["search", "--study"], "search: --study needs a value. Write --study FILE|NAME."),
        (
            ["search", "--study", "x", "--wrokers", "2"],
            "search: there is no such option. Received '--wrokers'. Did you mean --workers?",
        ),
        (
            ["search", "--study", "x", "at", "once"],
            "search: there is no use for what follows. Received 'at once'. "
            "`python run_search.py search --help` lists what there is.",
        ),
        (
            ["search", "--study", "x.toml", "--worker", "2"],
            "search: there is no such option. Received '--worker'. Did you mean --workers?",
        ),
        (
            ["search", "--study", "x.toml", "--workers", "two"],
            "search: --workers must be a whole number from 0. Received 'two'. Write --workers N.",
        ),
        (
            ["trials", "--study", "x", "--top", "0"],
            "trials: --top must be a whole number from 1. Received '0'. Write --top N.",
        ),
        (["demo", "--seed", "-1"], "demo: --seed must be a whole number from 0. Received '-1'. Write --seed N."),
        (
            ["retrain", "--study", "x", "--trial", "it's"],
            'retrain: --trial must be a whole number. Received "it\'s". Write --trial N.',
        ),
        (
            ["retrain", "--study", "x", "--recipe", "vooban", "--from", "m"],
            "retrain: --recipe and --from cannot be meant together. Leave one of them out.",
        ),
        (
            ["score", "--study", "x", "--fold", "tests"],
            "score: --fold must be one of test, validation. Received 'tests'. Did you mean 'test'?",
        ),
        (
            ["score", "--study", "x", "--fold", "o'clock"],
            'score: --fold must be one of test, validation. Received "o\'clock". '
            "`python run_search.py score --help` lists what there is.",
        ),
        (["score", "--study", "x", "--json=3"], "score: --json takes no value. Received '3'. Write --json."),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_wrong_usage_is_told_in_one_line_and_exits_with_2(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        run_search.main(words)

    assert left.value.code == run_search.EXIT_USAGE
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("text", ["-1", "--5", "-", "", "two", "1.5", "²", "nan"])
def test_what_is_no_whole_number_is_told_in_plain_words(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_search.main(["search", "--study", "x.toml", f"--workers={text}"])

    error = capsys.readouterr().err
    assert error == f"search: --workers must be a whole number from 0. Received {text!r}. Write --workers N.\n"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["search", "--study", "{demo}", "--workers", "9"], "search.lookahead = 4"),
        (["search", "--study", "absent.toml"], "search: no study file absent.toml"),
        (["predict", "test"], "predict needs models"),
        (["predict", "--models", "m", "--set", "prediction.overlap=0.5", "a.tif"], "Name it: --study FILE"),
        (["prepare", "--study", "{demo}", "--set", "limits.max_trial=3"], "'max_trials'"),
        (["show-space", "--study", "{demo}", "--set", 'space."plan.patch"={fix=1}'], "'plan.patch_px'"),
        (["status", "--study", "demo", "--set", "study.seed=1"], "Name its .toml file"),
    ],
)
def test_words_that_cannot_be_meant_exit_with_2(words: list[str], part: str, told: Told) -> None:
    code, error = told(words)

    assert code == run_search.EXIT_USAGE
    assert part in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_at_any_moment_ends_in_one_line(number: signal.Signals, tmp_path: Path) -> None:
    hooked = "import os, run_search; run_search._stop_on_hang_up(); run_search._run = lambda _: "
    code = f"{hooked}os.kill(os.getpid(), {int(number)}); import sys; sys.exit(run_search.main(['prepare']))"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == run_search.EXIT_INTERRUPTED, done.stderr
    assert done.stderr.strip() == "prepare: stopped. The same command goes on where it left off."


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["status", "--study", "absent"], ["status: no study 'absent' under runs/", "--store"]),
        (["search", "--study", "{demo}"], ["search: The data set is not prepared yet", "prepare"]),
        (["status", "--study", "{demo}"], ["status: ", "search"]),
        (["status", "--study", "x", "--store", "mysql://h/d"], ["mysql://h/d", "sqlite:///"]),
        (["status", "--study", "x", "--store", "mongodb://me:secret@h/d?nosuch=1"], ["cannot be read", "***"]),
        (["predict", "--models", "nowhere", "a.tif"], ["no model set in nowhere", "retrain"]),
    ],
)
def test_what_is_wrong_is_told_in_one_line(words: list[str], parts: list[str], told: Told) -> None:
    code, error = told(words)

    assert code == run_search.EXIT_FAILED
    assert "secret" not in error
    for part in parts:
        assert part in error


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(Exception, match="no study file"):
        run_search.main(["--debug", "search", "--study", "absent.toml"])

"""`show` and `show-space`: candidates and spaces, told without a framework."""

import json
from pathlib import Path

import cv2
import pytest

import run_search
from search_space.recipes import read_recipe, recipe_names
from verbs.exit_codes import EXIT_OK, EXIT_USAGE

DEMO = str(Path(__file__).parents[2] / "configs" / "demo.toml")


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_told_stage_by_stage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_search.main(["show", name]) == EXIT_OK

    told = capsys.readouterr().out
    named = len(read_recipe(name).architecture.bands)
    reads = f", of which it reads {named}," if named else ""
    assert f"The network for 24 bands{reads} and 1 class:" in told
    assert "bottom" in told
    assert "up0" in told
    assert "GFLOP" in told


def test_bands_and_classes_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    run_search.main(["show", "unet-2015", "--bands", "1", "--classes", "2"])

    told = capsys.readouterr().out
    assert "The network for 1 band and 2 classes:" in told
    # Ronneberger's network of 31 million weights; thousands are set apart by spaces that do not break.
    assert "31\u00a0030\u00a0658" in told.split("\nall ")[1].splitlines()[0]


def test_a_candidate_from_a_file_is_shown_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, picture = tmp_path / "mine.toml", tmp_path / "mine.png"
    file.write_text('source = "ours"\n[architecture]\ndepth = 2\n[plan]\n', encoding="utf-8")

    assert run_search.main(["show", str(file), "--picture", str(picture)]) == EXIT_OK

    assert f"Picture: {picture}" in capsys.readouterr().err
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn.std() > 5, "a blank picture"


def test_json_is_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_search.main(["show", "vooban", "--json", "--picture", str(tmp_path / "v.png")])

    shown = json.loads(capsys.readouterr().out)
    assert shown["architecture"]["block"]["kind"] == "inception"


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ("[architecture]\ndepht = 3", ["architecture.depht", "depth"]),
        ("[architecture]\ndepth = 9", ["architecture.depth", "9", "6"]),
        ('[architecture]\nskip = "concat"', ["architecture.skip", "concat", "'concatenate'"]),
        ('[architecture.block]\nkind = "inceptoin"', ["architecture.block", "inceptoin", "inception"]),
        ('[architecture.block]\nkind = "plain"\nnarrowing = 2', ["architecture.block", "narrowing"]),
        ("[architecture\n", ["TOML"]),
    ],
)
def test_a_wrong_candidate_is_told_with_path_value_range_and_nearest(
    lines: str, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'source = "ours"\n[plan]\n{lines}\n', encoding="utf-8")

    assert run_search.main(["show", str(file)]) == EXIT_USAGE

    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in parts:
        assert part in error


def test_a_candidate_that_cannot_be_built_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('source = "ours"\n[architecture]\nmargin_px = 30\n[plan]\npatch_px = 64\n', encoding="utf-8")

    assert run_search.main(["show", str(file)]) == 1

    told = capsys.readouterr()
    assert told.out == ""
    assert "margin" in told.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["vooban", "--picture", "x.pdf"], "Let its name end in .png"),
        (["cresi", "--bands", "2"], "reads 3 bands by name"),
        (["cresi", "--set", "limits.max_trials=3"], "Name it: --study FILE"),
        (["7"], "Give --study NAME"),
        (["bset"], "Did you mean 'best'?"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_search.main(["show", *words]) == EXIT_USAGE

    assert part in capsys.readouterr().err


def test_a_trial_needs_a_study_and_a_recipe_its_right_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_search.main(["show", "voban"]) == EXIT_USAGE

    assert "vooban" in capsys.readouterr().err


def test_a_space_is_drawn_as_a_tree_with_what_the_study_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_search.main(["show-space", "--study", DEMO]) == EXIT_OK

    lines = capsys.readouterr().out.splitlines()
    depth = next(line for line in lines if "depth" in line)
    assert depth.startswith("*")
    assert "2" in depth
    assert "3" in depth
    assert any("Fingerprint" in line for line in lines)


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ('space."architecture.dept"={fix=3}', ["architecture.dept", "architecture.depth"]),
        ('space."architecture.depth"={low=2, high=9}', ["architecture.depth", "9"]),
        ('space."architecture.block"={choices=["plain", "resdual"]}', ["architecture.block", "resdual", "residual"]),
        ('space."architecture.depth"={fix=2.5}', ["architecture.depth", "2.5"]),
        ('space."architektur.*"={drop=true}', ["architektur.*"]),
        ('search.start_from=["terns"]', ["search.start_from", "terns", "ternaus"]),
    ],
)
def test_a_wrong_override_is_told_with_path_and_value(
    setting: str, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_search.main(["show-space", "--study", DEMO, "--set", setting]) == EXIT_USAGE

    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in parts:
        assert part in error

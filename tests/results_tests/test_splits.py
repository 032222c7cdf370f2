"""How a split is told: as a table, and in sentences."""

import pytest

from results.splits import held_out_phrase, share_text, split_line, split_notes, split_table
from results.text import render_table
from search_space.fold_settings import FoldSettings
from search_space.records import FoldShares, Split


def shares(name: str, used_for: str, water: float, num_blocks: int | None = None) -> FoldShares:
    return FoldShares(
        name=name,
        used_for=used_for,
        num_scenes=2,
        num_blocks=num_blocks,
        known_share=0.25,
        class_shares={"road": 0.25, "water": water},
    )


@pytest.fixture
def dealt() -> Split:
    folds = [shares("1", "validation", 0.9996, 8), shares("2", "training", 0.0004, 7), shares("3", "test", 0, 6)]
    return Split(folds=tuple(folds), same_ground=(("a", "b"), ("c", "d", "e")), unlabelled=("f",))


def test_the_table_shows_what_each_fold_holds(dealt: Split) -> None:
    lines = [line.split("  ") for line in render_table(split_table(dealt), 100).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]

    assert cells[0] == ["fold", "1 validation", "2", "3 test"]
    assert cells[2:] == [
        ["scenes", "2", "2", "2"],
        ["blocks", "8", "7", "6"],
        ["ground", "25.0 %", "25.0 %", "25.0 %"],
        ["road", "25.0 %", "25.0 %", "25.0 %"],
        ["water", "100.0 %", "<0.1 %", "–"],
    ]


def test_folds_of_whole_scenes_have_no_blocks() -> None:
    split = Split(folds=(shares("training", "training", 0.5), shares("validation", "validation", 0)))

    assert list(split_table(split)["fold"]) == ["scenes", "ground", "road", "water"]
    assert list(split_table(split).columns) == ["fold", "fold[training]", "fold[validation]"]
    assert split_line(split) == "2 train, 2 validate, 0 test, 0 without labelled pixels"
    assert split_notes(split) == ["Absent from validation: water, which is not ranked, and gets no threshold."]


def test_notes_name_absent_classes_and_scenes_kept_together(dealt: Split) -> None:
    assert split_line(dealt) == "7 blocks train, 8 validate, 6 test, 1 scene without labelled pixels"
    assert split_notes(dealt) == [
        "Absent from fold 3, test: water, which has no score.",
        "Same ground, kept in one fold: a and b; c and d and e.",
    ]


@pytest.mark.parametrize(
    ("settings", "validation", "test"),
    [
        (FoldSettings(validation=("a", "b"), test=("c",)), "a, b", "c"),
        (FoldSettings(validation=("a",)), "a", "none"),
        (FoldSettings(num_folds=5, fold=2), "fold 2 of 5, dealt in scenes", "none"),
        (FoldSettings(num_folds=3, test=("c",)), "fold 1 of 3, dealt in scenes", "c"),
        (
            FoldSettings(num_folds=3, test_fold=3, unit="block", block_px=256),
            "fold 1 of 3, dealt in blocks of about 256 px",
            "fold 3 of 3, dealt in blocks of about 256 px",
        ),
    ],
)
def test_what_is_held_out_is_said_as_it_was_asked_for(settings: FoldSettings, validation: str, test: str) -> None:
    assert held_out_phrase(settings, "validation") == validation
    assert held_out_phrase(settings, "test") == test


@pytest.mark.parametrize(("share", "text"), [(0, "–"), (1e-9, "<0.1 %"), (0.001, "0.1 %"), (0.256, "25.6 %")])
def test_a_little_is_not_nothing(share: float, text: str) -> None:
    assert share_text(share) == text

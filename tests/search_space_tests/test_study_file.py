"""Study files: complete examples, values set on the command line, one line for every mistake."""

from pathlib import Path

import pytest

from search_space.decode import decode, encode
from search_space.errors import MapgroveError
from search_space.study import Study
from search_space.study_file import read_study

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))

MINIMAL = """
[study]
name = "tiny"
[data]
format = "masks"
folder = "images"
prepared = "prepared"
classes = ["road", "water"]
[folds]
validation = ["b"]
[budget]
epochs = 1
steps_per_epoch = 1
[retrain]
epochs = 1
steps_per_epoch = 1
[limits]
max_trials = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(MINIMAL, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_is_valid_and_makes_the_round_trip(path: Path) -> None:
    study = read_study(path)

    assert decode(Study, encode(study), where="resolved") == study


def test_the_demo_file_names_every_key() -> None:
    text = (CONFIGS[0].parent / "demo.toml").read_text(encoding="utf-8")
    keys = {line.split("=")[0].strip() for line in text.splitlines() if "=" in line}

    for section, model in Study.model_fields.items():
        fields = getattr(model.annotation, "model_fields", {})
        missing = set(fields) - keys - {"options"}
        assert not missing, f"[{section}] lacks {missing}"


def test_defaults_are_filled_in(file: Path) -> None:
    study = read_study(file)

    assert study.folder == Path("runs/tiny")
    assert study.store_url == "sqlite:///runs/tiny/trials.sqlite"
    assert study.prediction.symmetries == "d4"


def test_values_set_on_the_command_line_win(file: Path) -> None:
    study = read_study(
        file,
        ["limits.max_trials=40", "study.name=other", 'space."plan.patch_px"={fix=64}', 'folds.validation=["c"]'],
    )

    assert study.limits.max_trials == 40
    assert study.name == "other"
    assert study.space == {"plan.patch_px": {"fix": 64}}
    assert study.folds.validation == ("c",)


@pytest.mark.parametrize(
    ("assignment", "match"),
    [
        ("limits.max_trial=3", "Did you mean 'max_trials'"),
        ("limits.max_trials=three", "limits.max_trials.*Received 'three'"),
        ("limits.max_trials", "KEY=VALUE"),
        ("data.classes=[]", "data.classes"),
        ('data.classes=["road", "road"]', "twice"),
        ('folds.test=["b"]', "both in `validation` and `test`: b"),
        ("study.name=../up", "study.name"),
        ("study.name.first=x", "'name' is a value, not a table"),
        ("[study]=x", "key cannot be read as TOML"),
        ('space."plan.patch"={fix=64}', "Did you mean 'plan.patch_px'"),
    ],
)
def test_mistakes_are_told_in_one_line(file: Path, assignment: str, match: str) -> None:
    with pytest.raises(MapgroveError, match=match) as caught:
        read_study(file, [assignment])

    assert "\n" not in str(caught.value)


def test_a_table_set_on_the_command_line_replaces_the_files(file: Path) -> None:
    file.write_text(MINIMAL + '[space]\n"plan.patch_px" = { choices = [64, 96] }\n', encoding="utf-8")

    assert read_study(file, ['space."plan.patch_px"={fix=64}']).space == {"plan.patch_px": {"fix": 64}}
    assert read_study(file, ["data.options={ignore=[0]}"]).data.options == {"ignore": [0]}


def test_a_missing_file_and_broken_toml_are_told(tmp_path: Path) -> None:
    with pytest.raises(MapgroveError, match="no study file"):
        read_study(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[study\n", encoding="utf-8")
    with pytest.raises(MapgroveError, match="cannot be read as TOML"):
        read_study(broken)

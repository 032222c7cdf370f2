"""Study files: complete examples, values set on the command line, one line for every mistake."""

import json
import re
from pathlib import Path

import pytest

from search_space.decode import decode, encode
from search_space.dimensions import Fixed
from search_space.errors import MalformedError, MapgroveError, UsageError
from search_space.fold_settings import FoldSettings
from search_space.space import resolve_space
from search_space.study import MAY_CHANGE, Study
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


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_is_valid_and_makes_the_round_trip(path: Path) -> None:
    study = read_study(path)

    assert decode(Study, encode(study), where="resolved") == study


def test_the_demo_file_names_every_key() -> None:
    text = (CONFIGS[0].parent / "demo.toml").read_text(encoding="utf-8")
    # What goes with something else than the demo has stands behind a "#".
    keys = {line.split("=")[0].strip("# ") for line in text.splitlines() if "=" in line}

    for section, model in Study.model_fields.items():
        fields = getattr(model.annotation, "model_fields", {})
        # `search` fills in what was found.
        missing = set(fields) - keys - {"options", "found"}
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


def test_classes_of_the_data_may_weigh_whether_they_are_searched_or_not(file: Path) -> None:
    weights = 'space."plan.loss_details.class_weights"={fix={road=2.0,water=0.5}}'

    study = read_study(file, [weights, 'study.classes=["road"]'])

    assert resolve_space(study.space)["plan.loss_details.class_weights"] == Fixed({"road": 2.0, "water": 0.5})
    assert decode(Study, encode(study.of_class("water")), where="resolved").classes == ("water",)


@pytest.mark.parametrize(
    ("assignment", "match"),
    [
        ("limits.max_trial=3", "with --set: unknown key 'limits.max_trial'. Received 3. Did you mean 'max_trials'"),
        ("limits.max_trials=three", "limits.max_trials.*Received 'three'"),
        ("data.classes=[]", "data.classes"),
        ("data.classes=road", r'must be a list\. Received \'road\'\. Write \["road"\]'),
        ('data.classes=["road", "road"]', "twice"),
        ('folds.test=["b"]', "both in `validation` and `test`: b"),
        ("study.name=../up", "study.name"),
        ("study=x", "'study' must be a table of keys"),
        ("study.name.first=x", "'name' is a value, not a table"),
        ('space."plan.patch"={fix=64}', "Did you mean 'plan.patch_px'"),
        ("space.plan.patch_px={fix=64}", r"""--set 'space\."plan\.patch_px"=\{ fix = 64 \}'"""),
        ('space."architecture.margin_px"={fix=90}', "no network can be built"),
        (
            'space."plan.loss_details.class_weights"={choices=[{road=2},{watr=2}]}',
            r"class_weights names a class that the study does not have. Received 'watr'. Did you mean 'water'\?",
        ),
    ],
)
def test_values_that_spoil_a_valid_file_are_wrong_usage(file: Path, assignment: str, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        read_study(file, [assignment])

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "assignment",
    ["", "=", "=3", "nonsense", "limits.max_trials", "#x=1", "a..b=1", ".a=1", "[study]=x", '"=1', "[a]\n[b]\nc=1"],
)
def test_assignments_without_a_key_or_value_are_wrong_usage(file: Path, assignment: str) -> None:
    with pytest.raises(UsageError, match=r"--set takes KEY=VALUE.*For example: --set limits.max_trials=40") as caught:
        read_study(file, [assignment])

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["[road]", '["road"', "{fix=}", '"road', "'road"])
def test_quotes_lost_to_the_shell_are_told(file: Path, value: str) -> None:
    with pytest.raises(UsageError, match=r"the value is no TOML.*Keep its quotes from the shell"):
        read_study(file, [f"data.classes={value}"])


def test_what_is_wrong_in_the_file_itself_is_wrong_usage_and_malformed(file: Path) -> None:
    file.write_text(MINIMAL.replace("max_trials", "max_trial"), encoding="utf-8")

    for assignments in ([], ["study.seed=3"]):
        with pytest.raises(MalformedError, match=r"unknown key 'limits\.max_trial'") as told:
            read_study(file, assignments)
        assert isinstance(told.value, UsageError)


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("retrain.epochs=99999999999999999999999", "'retrain.epochs' must be from 1 to 1000000"),
        ("budget.steps_per_epoch=1000001", "'budget.steps_per_epoch' must be from 1 to 1000000"),
        ("limits.max_trials=1000000001", "'limits.max_trials' must be from 1 to 1000000000"),
        ("search.keep_models=99999999999999999999999", "'search.keep_models' must be from 0 to 1000000000"),
        ("study.seed=9223372036854775808", "'study.seed' must be from 0 to 9223372036854775807"),
        ("search.lease_s=86401", "'search.lease_s' must be from 1 to 86400"),
    ],
)
def test_numbers_that_nobody_can_mean_are_refused(file: Path, assignment: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        read_study(file, [assignment])


@pytest.mark.parametrize(("value", "scope"), [('"scene"', "scene"), ('"dataset"', "dataset"), ("true", "dataset")])
def test_the_normalise_of_before_is_told_where_it_went(file: Path, value: str, scope: str) -> None:
    file.write_text(MINIMAL.replace("[folds]", f"normalise = {value}\n[folds]"), encoding="utf-8")

    with pytest.raises(MalformedError, match=r"tiny.toml: data.normalise is a choice of the training plan now") as old:
        read_study(file)
    with pytest.raises(UsageError, match=r"--set: data.normalise is a choice of the training plan now"):
        read_study(write(file, MINIMAL), [f"data.normalise={value}"])

    assert "\n" not in str(old.value)
    override = old.value.remedy.partition("write ")[2].partition(" under [space]")[0]
    study = read_study(write(file, f"{MINIMAL}[space]\n{override}\n"))
    assert resolve_space(study.space)["plan.scaling.scope"] == Fixed(scope)


def test_a_file_may_lack_what_is_set(file: Path) -> None:
    file.write_text(MINIMAL.replace('prepared = "prepared"', ""), encoding="utf-8")

    assert read_study(file, ["data.prepared=elsewhere"]).prepared == Path("elsewhere")


ESCAPES = ["../../../escaped", "..", ".", "a/b", "a\\b", "/a", "a\0"]
MARKUP = ["<b>x</b>", "a'b", 'a"b', "a:b", "a\tb", "a\n"]
EDGES = ["", " ", " a", "a ", "a.", ".hidden", "-a", "x" * 101, "語" * 70]


@pytest.mark.parametrize("name", ESCAPES + MARKUP + EDGES)
def test_class_names_that_are_no_plain_names_are_refused(file: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"'data.classes', item 2 must start with a letter") as caught:
        read_study(file, [f"data.classes={json.dumps(['road', name])}"])

    assert caught.value.received == name
    assert "\n" not in str(caught.value)


def test_a_class_is_not_named_like_a_file_beside_its_models(file: Path) -> None:
    with pytest.raises(UsageError, match=r"must not end in \.json"):
        read_study(file, ['data.classes=["model_set.json"]'])


@pytest.mark.parametrize("name", ["road", "Straße", "सड़क", "道路", "_1", "2nd crop", "a+b & (c)-d_e.f", "x" * 100])
def test_class_names_may_be_of_any_script(file: Path, name: str) -> None:
    assert read_study(file, [f"data.classes={json.dumps([name])}"]).data.classes == (name,)


@pytest.mark.parametrize("name", ["../up", "a b", "Straße", ".hidden", "-a", "a\n", "x" * 101, ""])
def test_study_names_say_which_characters_they_take(file: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"'study.name' must start with a letter or digit \(A-Z, a-z, 0-9\)"):
        read_study(file, [f"study.name={json.dumps(name)}"])


@pytest.mark.parametrize("key", ["data.folder", "data.prepared"])
@pytest.mark.parametrize("value", ["", " "])
def test_folders_of_the_data_must_be_named(file: Path, key: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"'{key}' must not be empty"):
        read_study(file, [f'{key}="{value}"'])


@pytest.mark.parametrize("key", ["folds.validation", "folds.test", "data.classes", "data.bands", "data.indices"])
def test_lists_of_names_have_no_repeats_and_no_blanks(file: Path, key: str) -> None:
    with pytest.raises(UsageError, match=f"'{key}': 'east' is named twice"):
        read_study(file, [f'{key}=["east", "west", "east"]'])
    with pytest.raises(UsageError, match=f"'{key}', item 2 must"):
        read_study(file, [f'{key}=["east", ""]'])


def test_a_table_set_on_the_command_line_replaces_the_files(file: Path) -> None:
    file.write_text(MINIMAL + '[space]\n"plan.patch_px" = { choices = [64, 96] }\n', encoding="utf-8")

    assert read_study(file, ['space."plan.patch_px"={fix=64}']).space == {"plan.patch_px": {"fix": 64}}
    assert read_study(file, ["data.options={ignore=[0]}"]).data.options == {"ignore": [0]}


def test_a_missing_file_and_broken_toml_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no study file") as told:
        read_study(tmp_path / "absent.toml")
    assert (Path(told.value.remedy.rpartition(" ")[2]) / "demo.toml").is_file()
    broken = tmp_path / "broken.toml"
    broken.write_text("[study\n", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be read as TOML"):
        read_study(broken)


@pytest.mark.parametrize(
    ("folds", "match"),
    [
        ("", "'folds' must have `validation` with at least one scene, or `num_folds`"),
        ("validation = []", "must have `validation` with at least one scene, or `num_folds`"),
        ('validation = ["a"]\nnum_folds = 3', "either `validation` names scenes or `num_folds` deals them"),
        ('validation = ["a"]\nfold = 2', "only `num_folds` gives `fold` a meaning"),
        ('validation = ["a"]\ntest_fold = 2', "only `num_folds` gives `test_fold` a meaning"),
        ('validation = ["a"]\nunit = "block"\nblock_px = 64', "only `num_folds` gives `unit` a meaning"),
        ("num_folds = 1", "'folds.num_folds' must be at least 2"),
        ("num_folds = 3\nfold = 0", "'folds.fold' must be at least 1"),
        ("num_folds = 3\nfold = 4", "`fold` = 4 is no fold: with `num_folds` = 3 they are 1 to 3"),
        ("num_folds = 3\ntest_fold = 4", "`test_fold` = 4 is no fold"),
        ("num_folds = 3\ntest_fold = 1", "`fold` and `test_fold` are both 1"),
        ("num_folds = 2\ntest_fold = 2", "nothing is left to train on"),
        ('num_folds = 3\ntest_fold = 2\ntest = ["a"]', "either `test` names scenes or `test_fold` chooses a fold"),
        ('num_folds = 3\nunit = "block"', '`unit` = "block" and `block_px` go together'),
        ("num_folds = 3\nblock_px = 64", '`unit` = "block" and `block_px` go together'),
        ('num_folds = 3\nunit = "blocks"', '\'folds.unit\' must be "scene" or "block"'),
        ('num_folds = 3\ngroups = [["a"]]', "'folds.groups', item 1 must have at least 2"),
        ('num_folds = 3\ngroups = [["a", "a"]]', "'a' is named twice"),
        ('num_folds = 3\ngroups = ["a"]', "'folds.groups', item 1 must be a list"),
        ("num_fold = 3", "unknown key 'folds.num_fold'. Received 3. Did you mean 'num_folds'"),
    ],
)
def test_folds_that_cannot_be_meant_are_told_in_one_line(file: Path, folds: str, match: str) -> None:
    file.write_text(MINIMAL.replace('validation = ["b"]', folds), encoding="utf-8")

    with pytest.raises(MalformedError, match=re.escape(match)) as caught:
        read_study(file)

    assert "\n" not in str(caught.value)


def test_folds_are_named_or_numbered(file: Path) -> None:
    dealt = 'num_folds = 5\nfold = 2\ntest_fold = 5\nunit = "block"\nblock_px = 256\ngroups = [["a", "b"]]\nseed = 3'
    file.write_text(MINIMAL.replace('validation = ["b"]', dealt), encoding="utf-8")

    folds = read_study(file).folds

    assert folds.groups == (("a", "b"),)
    assert folds.has_test
    assert read_study(file, ["folds.fold=4"]).folds.fold == 4
    assert decode(FoldSettings, encode(folds), where="again") == folds


def test_no_setting_of_folds_may_change_while_a_study_is_searched() -> None:
    assert not [path for path in MAY_CHANGE if path.startswith("folds")]


def test_the_study_of_a_class_is_the_whole_one_but_for_its_classes(file: Path) -> None:
    whole = read_study(file)
    name = whole.data.classes[-1]

    one = whole.of_class(name)

    assert (one.name, one.classes, one.folder) == (f"tiny/{name}", (name,), Path("runs/tiny/classes") / name)
    assert one.store_url == whole.store_url, "so that one worker can serve all"
    assert one.data == whole.data, "so that their data are the same"
    assert decode(Study, encode(one), where="") == one
    elsewhere = read_study(file, ['study.folder="out"']).of_class(name)
    assert (elsewhere.folder, elsewhere.store_url) == (Path("out/classes") / name, "sqlite:///out/trials.sqlite")
    assert read_study(file, ['study.store="mongodb://h/d"']).of_class(name).store_url == "mongodb://h/d"


@pytest.mark.parametrize("name", ["tiny/", "tiny/a/b", "tiny/../x", "/a", "..", "tiny/.."])
def test_a_name_cannot_lead_elsewhere(file: Path, name: str) -> None:
    with pytest.raises(MapgroveError, match="must start with a letter"):
        read_study(file, [f'study.name="{name}"'])


def test_only_known_classes_are_searched_for(file: Path) -> None:
    with pytest.raises(MapgroveError, match=r"`study\.classes` names a class that `data\.classes` lacks, 'roads'"):
        read_study(file, ['study.classes=["roads"]'])

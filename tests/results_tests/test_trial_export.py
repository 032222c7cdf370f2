import json

import pandas as pd

from results.dimensions import dimension_title, dimension_value, is_logarithmic
from results.export import trials_frame, write_csv, write_json_lines
from search_space.candidate import Candidate
from search_space.decode import decode
from trials_db.records import Trial


def test_csv_round_trip_keeps_every_number_and_text(tmp_path, trials):
    path = write_csv(tmp_path / "deep" / "trials.csv", trials)
    back = pd.read_csv(path)
    given = trials_frame(trials)
    assert list(back.columns) == list(given.columns)
    assert len(back) == len(trials) == 49
    for column in ("mean_jaccard", "plan.learning_rate", "jaccard[Water]", "architecture.depth", "created_s"):
        pd.testing.assert_series_equal(back[column], given[column].astype(float), check_exact=True)
    assert list(back["architecture.block"]) == list(given["architecture.block"])
    assert back.loc[5, "reason"] == "the loss became NaN in epoch 3"
    assert list(path.parent.iterdir()) == [path]


def test_choices_are_named_and_other_branches_stay_empty(trials):
    frame = trials_frame(trials)
    assert set(frame["architecture.block"]) <= {"plain", "residual", "inception"}
    on_branch = frame["architecture.block[inception].wide_kernel_px"].notna()
    assert list(on_branch) == list(frame["architecture.block"] == "inception")
    assert set(frame["plan.loss"]) <= {"bce", "bce + dice", "0.75 focal + 0.25 dice"}


def test_texts_with_commas_quotes_and_line_breaks_survive(tmp_path, trial):
    reason = 'a, "b"\nc; =1+1'
    path = write_csv(tmp_path / "t.csv", [trial(0, state="failed", reason=reason)])
    assert pd.read_csv(path).loc[0, "reason"] == reason


def test_a_figure_named_like_a_column_does_not_replace_it(trial):
    changed = trial(3, {"a": 0.5})
    outcome = changed.outcome.model_copy(update={"figures": {"seed": 99.0, "epochs": 7.0, "num_parameters": 5.0}})
    frame = trials_frame([changed.model_copy(update={"outcome": outcome})])
    assert frame.loc[0, "seed"] == 3
    assert frame.loc[0, "num_parameters"] == 5.0
    assert frame.columns.is_unique


def test_json_lines_decode_into_the_same_trials(tmp_path, trials):
    path = write_json_lines(tmp_path / "trials.jsonl", reversed(trials))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [decode(Trial, json.loads(line), where="line") for line in lines] == trials


def test_an_empty_study_exports_a_header(tmp_path):
    assert list(pd.read_csv(write_csv(tmp_path / "t.csv", [])).columns)[:2] == ["trial", "state"]
    assert write_json_lines(tmp_path / "t.jsonl", []).read_text() == ""


def test_dimension_values_follow_the_path():
    candidate = Candidate()
    assert dimension_value(candidate, "architecture.depth") == 3.0
    assert dimension_value(candidate, "architecture.block") == "plain"
    assert dimension_value(candidate, "architecture.block[plain].kernel_px") == 3.0
    assert dimension_value(candidate, "architecture.block[inception].wide_kernel_px") is None
    assert dimension_value(candidate, "plan.augmentation.turns") == "d4"
    assert dimension_value(candidate, "plan.unknown") is None
    assert dimension_value(candidate, "plan.scaling.kind") == "clipped"
    assert dimension_value(candidate, "plan.scaling.low_percentile") == 1.0
    assert dimension_title("architecture.block[inception].wide_kernel_px") == "inception block: wide kernel px"
    assert dimension_title("plan.scaling.kind") == "scaling kind"
    assert dimension_title("plan.learning_rate") == "learning rate"
    assert is_logarithmic("plan.learning_rate")
    assert not is_logarithmic("architecture.dropout[spatial].rate")

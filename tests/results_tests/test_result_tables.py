import json
import math

import pandas as pd
import pytest

from results.facts import ranked, training_s
from results.phrases import (
    architecture_phrase,
    count_text,
    counted,
    duration_text,
    failures_line,
    loss_details_phrase,
    loss_phrase,
    shortened,
)
from results.status import plain_status, shown_workers, status_details, study_status, trials_per_h, worker_table
from results.tables import all_trials, candidate_details, leader_board, trial_details, trial_table
from results.text import plain_rows, render_details, render_table, text_cells
from search_space.architecture import Architecture, GrownEncoder, InceptionBlock
from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.losses import LossDetails, LossMix
from search_space.objective import EpochReport
from search_space.training_plan import Augmentation, Scaling, TrainingPlan
from trials_db.records import TrialState, WorkerRecord


@pytest.fixture
def few(trial):
    """Two equals ahead of a worse one, and one of each other end."""
    return [
        trial(4, {"water": 0.5, "roads": 0.5}),
        trial(1, {"water": 0.75, "roads": 0.25}),
        trial(0, {"water": 0.25, "roads": 0.125}),
        trial(2, state="failed", reason="the loss became NaN\nin epoch 3"),
        trial(3, state="infeasible", reason="x" * 300),
        trial(5, state="pruned", reports=(EpochReport(epoch=2, training_loss=1.0, jaccard={"water": 0.25}),)),
        trial(6, state="running"),
        trial(7, state="new", started_s=None),
    ]


def test_the_leader_board_ranks_by_mean_and_lets_equals_share_a_rank(few):
    board = leader_board(few)
    assert list(board["trial"]) == [1, 4, 0]
    assert list(board["rank"]) == [1, 1, 3]
    assert list(board["mean_jaccard"]) == [0.5, 0.5, 0.1875]
    assert list(board["jaccard[water]"]) == [0.75, 0.5, 0.25]
    assert list(board["num_parameters"]) == [2000.0, 5000.0, 1000.0]
    assert list(board["train_s"]) == [61.0, 64.0, 60.0]


def test_the_leader_board_takes_the_order_of_classes_and_the_number_of_rows_it_is_given(few):
    board = leader_board(few, ["roads", "water"], top=1)
    assert list(board.columns)[3:5] == ["jaccard[roads]", "jaccard[water]"]
    assert list(board["trial"]) == [1]
    assert len(leader_board(few, top=None)) == 3


def test_a_class_absent_from_the_validation_scenes_is_missing_not_zero(trial):
    board = leader_board([trial(0, {"water": 0.5}), trial(1, {"water": 0.25, "roads": 0.5})], ["water", "roads"])
    assert math.isnan(board["jaccard[roads]"][0])
    assert board["mean_jaccard"][0] == 0.5
    assert [row["jaccard"]["roads"] for row in plain_rows(board)] == [None, 0.5]


def test_all_trials_are_listed_by_number_with_their_reasons(few):
    table = all_trials(few).set_index("trial")
    assert list(table.index) == list(range(8))
    assert table.loc[2, "note"] == "the loss became NaN in epoch 3"
    assert len(table.loc[3, "note"]) == 100
    assert table.loc[3, "note"].endswith("…")
    assert table.loc[5, "note"] == "epoch 2, 0.250 so far"
    assert table["mean_jaccard"].notna().sum() == 3


def test_tables_without_trials_have_their_columns_and_say_so_as_text():
    board = leader_board([], ["water"])
    assert list(board.columns) == [
        "rank",
        "trial",
        "mean_jaccard",
        "jaccard[water]",
        "num_parameters",
        "train_s",
        "architecture",
    ]
    assert render_table(board) == "nothing yet"
    assert plain_rows(board) == []


def test_ranking_leaves_out_what_is_not_done(few):
    assert [each.number for each in ranked(few)] == [1, 4, 0]


def test_duration_falls_back_to_the_clock(trial):
    assert training_s(trial(0, state="failed", started_s=5.0, finished_s=12.5)) == 7.5
    assert training_s(trial(0, state="running")) is None


def test_architecture_and_loss_in_short_words():
    architecture = Architecture(
        depth=3, block=InceptionBlock(), encoder=GrownEncoder(pooling="strided"), activation="elu"
    )
    assert architecture_phrase(architecture) == "depth 3, 16 filters ×2, inception, strided, ELU"
    assert architecture_phrase(Architecture()).endswith("plain, max pooling, ReLU")
    assert loss_phrase(LossMix(bce=1.0, dice=1.0)) == "bce + dice"
    assert loss_phrase(LossMix(focal=0.75, dice=0.25)) == "0.75 focal + 0.25 dice"


def test_details_of_losses_are_told_where_they_matter():
    details = LossDetails(positive_weight=2.5, miss_share=0.7, class_weights={"road": 3.0})
    plan = TrainingPlan(loss=LossMix(bce=1.0, dice=1.0), loss_details=details)
    assert loss_details_phrase(plan, Architecture()) == "positive weight 2.5, road × 3"
    other = TrainingPlan(loss=LossMix(focal=1.0, tversky=1.0))
    assert loss_details_phrase(other, Architecture(energy=True)) == (
        "positive weight 1, focal gamma 2, miss share 0.5, energy 1"
    )
    assert loss_details_phrase(TrainingPlan(loss=LossMix(lovasz=1.0)), Architecture()) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.24, "4.2 s"),
        (59.4, "59 s"),
        (59.97, "1 min 00 s"),
        (200.0, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500.0, "2 h 05 min"),
        (200000.0, "2 d 7 h"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_durations_show_their_two_leading_units(seconds, text):
    assert duration_text(seconds) == text


def test_counts_and_shortening():
    assert count_text(1234567.0) == "1\xa0234\xa0567"
    assert count_text(None) == "–"
    assert shortened(" a\n b ", 5) == "a b"
    assert shortened("abcdef", 4) == "abc…"


def test_one_is_told_in_the_singular():
    assert [counted(number, "trial") for number in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]
    assert counted(1, "patch", "patches") == "1 patch"
    assert counted(8, "patch", "patches") == "8 patches"
    assert counted(103_244.6, "trial") == "103\xa0245 trials"


def test_failures_are_told_in_one_line_with_their_most_frequent_reason(trial):
    slow = [trial(n, state="failed", reason=f"over its time limit of\n{n}0 s") for n in (5, 2)]
    large = trial(1, state="infeasible", reason="too large")
    assert failures_line([]) == ""
    assert failures_line([trial(0, {"a": 0.5}), trial(3, state="running"), trial(4, state="pruned")]) == ""
    assert failures_line([large, trial(0, {"a": 0.5})]) == "1 infeasible; trial 1: too large"
    assert failures_line([slow[0], large]) == "1 failed, 1 infeasible; trial 1: too large"
    assert failures_line([*slow, large]) == (
        "2 failed, 1 infeasible; most frequent reason, as in trial 2: over its time limit of 20 s"
    )


def test_no_reason_can_steer_the_terminal_or_fill_it(trial):
    line = failures_line([trial(0, state="failed", reason="bad \x1b[2J " + "x" * 1000)], limit=80)
    assert "\x1b" not in line
    assert len(line) < 120


def test_candidate_details_show_the_widths_that_the_architecture_computes():
    candidate = Candidate(architecture=Architecture(depth=2, base_filters=10, growth=1.5), plan=TrainingPlan())
    details = candidate_details(candidate).set_index("name")["value"]
    assert details["filters"] == "10 · 16 · 22 (growth 1.5)"
    assert details["depth"] == "2 (halves 4 px to one, sees 23 px around)"
    assert details["patch"] == "128 × 128 px"
    assert details["scaling of bands"] == "clipped, percentiles 1 … 99, all training scenes"


def test_a_scaling_that_clips_nothing_is_told_without_percentiles():
    plan = TrainingPlan(scaling=Scaling(kind="standard", scope="scene"))
    details = candidate_details(Candidate(plan=plan)).set_index("name")["value"]
    assert details["scaling of bands"] == "standard, each scene by itself"


def test_trial_details_name_every_field_of_the_candidate(trial):
    groups = trial_details(trial(3, {"water": 0.5}, worker="gpu-1")).groupby("group", sort=False)
    assert [name for name, _ in groups] == ["trial", "result", "architecture", "training plan"]
    result = groups.get_group("result").set_index("name")["value"]
    assert result["Jaccard of water"] == "0.500 at threshold 0.4"
    plain = encode(Candidate())
    # What is off is left out; filters and growth are told together.
    told = {
        "base_filters": "filters",
        "max_filters": "filters",
        "growth": "filters",
        "units_per_stage": "blocks per stage",
    }
    off = {"bands", "squeeze_excitation", "deep_supervision", "energy", "margin_px"}
    expected = {told.get(name, name.replace("_", " ")) for name in plain["architecture"] if name not in off}
    assert set(groups.get_group("architecture")["name"]) == expected
    named = list(groups.get_group("training plan")["name"])
    # The augmentation is many lines; warm-up and schedule are told with the learning rate; no patience is left out.
    together = {"augmentation", "warm_up", "schedule", "patience"}
    assert len([name for name in named if not name.startswith("augmentation")]) == len(set(plain["plan"]) - together)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "0.001"),
        ({"warm_up": 0.05}, "0.001, after a warm-up of 5%"),
        ({"schedule": {"kind": "steps", "at": [0.5, 0.75], "factor": 0.2}}, "0.001, ×0.2 at 50%, 75%"),
        ({"schedule": {"kind": "plateau", "patience": 10}}, "0.001, ×0.5 after 10 epochs without a better one"),
        ({"schedule": {"kind": "cosine", "floor": 0.1}}, "0.001, half a cosine to 10%"),
        ({"schedule": {"kind": "polynomial"}}, "0.001, falling with power 0.9"),
        ({"schedule": {"kind": "one_cycle"}}, "0.001, from 4% up to it at 30%, down to 0%"),
        ({"schedule": {"kind": "cyclic"}}, "0.001, 4 falls to 0% from 50% on"),
    ],
)
def test_the_course_of_the_learning_rate_is_told_in_a_line(fields, told):
    plan = decode(TrainingPlan, fields, where="test")
    assert candidate_details(Candidate(plan=plan)).set_index("name")["value"]["learning rate"] == told


def test_optimizers_clipping_averages_and_patience_are_told():
    fields = {"optimizer": {"kind": "sgd"}, "clip_norm": 0.0, "averaging": {"kind": "snapshots"}, "patience": 8}
    details = candidate_details(Candidate(plan=decode(TrainingPlan, fields, where="test"))).set_index("name")["value"]
    told = [details[name] for name in ("optimizer", "clipping", "averaging", "patience")]
    assert told == ["SGD, momentum 0.9, nesterov", "none", "weights of 3 snapshots", "8 epochs"]
    averaging = decode(TrainingPlan, {"averaging": {"kind": "ema"}}, where="test")
    details = candidate_details(Candidate(plan=averaging)).set_index("name")["value"]
    assert (details["clipping"], details["averaging"]) == ("gradients longer than 1", "weights, momentum 0.99")


def test_candidate_details_tell_every_variation_that_is_on():
    strengths = {name: 0.3 for name, value in encode(Augmentation()).items() if isinstance(value, float)}
    everything = Candidate(plan=TrainingPlan(augmentation=Augmentation(turns="d8", soft_labels=True, **strengths)))
    details = candidate_details(everything).set_index("name")["value"]
    assert details["augmentation: turns"] == "d8"
    assert details["augmentation: band dropout"] == "0.3"
    assert sum(name.startswith("augmentation") for name in details.index) == len(encode(Augmentation()))
    assert details["sampling"] == "balanced (50%), else uniform"
    assert "augmentation: zoom" not in candidate_details(Candidate()).set_index("name").index


@pytest.mark.parametrize("cells", [40, 60, 80, 100, 160])
def test_text_tables_keep_to_the_width_and_say_what_they_leave_out(few, cells):
    table = all_trials(few)
    lines = render_table(table, cells).splitlines()
    body = lines[2 : 2 + len(table)]
    assert all(text_cells(line) <= cells for line in lines[: 2 + len(table)])
    assert len(body) == 8
    assert ("left out" in lines[-1]) == (cells < 120)


def test_text_tables_align_wide_characters(trial):
    text = render_table(leader_board([trial(0, {"道路": 0.5}), trial(1, {"道路": 0.25})]), 120)
    assert {text_cells(line.split("depth")[0]) for line in text.splitlines()[2:]} == {
        text_cells(text.splitlines()[0].split("architecture")[0])
    }


def test_no_name_can_steer_the_terminal(trial):
    hostile = trial(0, state="failed", reason="bad \x1b[2J \u202e end")
    assert "\x1b" not in render_table(all_trials([hostile]), 200)
    assert "\x1b" not in render_details(trial_details(hostile), 200)
    assert "\u202e" not in render_details(trial_details(hostile), 200)


def test_plain_rows_are_json_with_null_for_what_is_missing(few):
    rows = json.loads(json.dumps(plain_rows(all_trials(few)), allow_nan=False))
    assert rows[2]["mean_jaccard"] is None
    assert rows[2]["jaccard"] == {"water": None, "roads": None}
    assert rows[1]["num_parameters"] == 2000
    assert isinstance(rows[1]["num_parameters"], int)


def test_a_trial_has_one_form_of_record_whether_all_or_the_best_are_asked_for(few):
    everything = {row["trial"]: row for row in plain_rows(trial_table(few))}
    best = plain_rows(trial_table(few, top=2))
    assert list(everything) == list(range(8))
    assert [row["trial"] for row in best] == [1, 4]
    assert [row["rank"] for row in best] == [1, 1]
    assert all(isinstance(row["rank"], int) for row in best)
    assert all(row == everything[row["trial"]] for row in best)
    assert everything[0]["rank"] == 3
    assert everything[2]["rank"] is None
    assert everything[2]["note"] == "the loss became NaN in epoch 3"
    json.dumps(list(everything.values()), allow_nan=False)


def test_status_counts_every_state(few):
    status = study_status("s", few, max_trials=10, now_s=100.0)
    assert status.counts == {"new": 1, "running": 1, "done": 3, "pruned": 1, "infeasible": 1, "failed": 1}
    assert status.num_finished == 6
    assert status.best.number == 1


def test_pace_counts_only_the_time_in_which_something_ran(trial):
    # Two at once over 100 s, a night, then one of 100 s: three trials in 200 busy seconds.
    spans = [(0.0, 100.0), (0.0, 90.0), (50_000.0, 50_100.0)]
    trials = [trial(n, {"a": 0.5}, started_s=start, finished_s=end) for n, (start, end) in enumerate(spans)]
    assert trials_per_h(trials) == pytest.approx(3 * 3600 / 200)
    assert trials_per_h([]) is None


def test_estimated_end_is_the_rest_at_the_pace_while_something_runs(trial):
    done = [trial(n, {"a": 0.5}, started_s=n * 60.0, finished_s=n * 60.0 + 60.0) for n in range(4)]
    running = trial(4, state="running", started_s=240.0)
    status = study_status("s", [*done, running], max_trials=10, now_s=1000.0)
    assert status.trials_per_h == pytest.approx(60.0)
    assert status.end_s == pytest.approx(1000.0 + 6 * 60.0)
    assert study_status("s", done, max_trials=10, now_s=1000.0).end_s is None
    details = status_details(status, now_s=1000.0).set_index("name")["value"]
    assert details["finished"] == "4 of 10 trials"
    assert details["estimated end"].endswith("in 6 min 00 s")


@pytest.mark.parametrize(
    ("each_s", "pace"),
    [
        (7500.0, "one trial in 2 h 05 min"),
        (900.0, "one trial in 15 min 00 s"),
        (360.0, "10 trials per hour"),
        (3600.0 / 103_245, "103\xa0245 trials per hour"),
    ],
)
def test_pace_reads_well_from_slow_to_fast(trial, each_s, pace):
    status = study_status("s", [trial(0, {"a": 0.5}, started_s=0.0, finished_s=each_s)], max_trials=9, now_s=9e9)
    assert status_details(status, now_s=9e9).set_index("name").loc["pace", "value"] == pace


@pytest.mark.parametrize(
    ("max_trials", "finished"),
    [(1, "3 trials, more than limits.max_trials = 1"), (3, "3 of 3 trials"), (1200, "3 of 1\xa0200 trials")],
)
def test_finished_trials_are_never_more_than_those_they_are_part_of(trial, max_trials, finished):
    status = study_status("s", [trial(n, {"a": 0.5}) for n in range(3)], max_trials=max_trials, now_s=100.0)
    assert status_details(status, now_s=100.0).set_index("name").loc["finished", "value"] == finished


def test_a_study_of_one_trial_is_told_in_the_singular(trial):
    status = study_status("s", [trial(0, {"a": 0.5})], max_trials=1, now_s=100.0)
    assert status_details(status, now_s=100.0).set_index("name").loc["finished", "value"] == "1 of 1 trial"


def test_workers_are_listed_with_their_trial_and_silence(trial):
    workers = [
        WorkerRecord(name="b", host="h", pid=1, study="s", trial=None, last_seen_s=98.0),
        WorkerRecord(name="a", host="h", pid=2, study="s", trial=7, last_seen_s=40.0),
    ]
    running = [trial(7, state=TrialState.RUNNING, worker="a")]
    table = worker_table(workers, 100.0, running)
    assert list(table["worker"]) == ["a", "b"]
    assert list(table["last_seen_s"]) == [60.0, 2.0]
    assert "1 min 00 s ago" in render_table(table, 100)
    status = plain_status(study_status("s", running, workers, max_trials=3, now_s=100.0))
    assert [worker["current_trial"] for worker in status["workers"]] == [7, None]
    json.dumps(status, allow_nan=False)
    # A worker that was killed has told of a trial that another one runs, or that is new again.
    for taken in ([], [running[0].model_copy(update={"worker": "b"})], [trial(7, state=TrialState.NEW, worker="a")]):
        assert worker_table(workers, 100.0, taken)["current_trial"].isna().all()
    # Nobody tells of a device, of another study, or of memory.
    assert list(shown_workers(table).columns) == ["worker", "host", "current_trial", "last_seen_s"]
    # Of a trial that runs its last epoch is told.
    last = {"learning_rate": 0.00125, "patches_per_s": 41.7, "data_wait_share": 0.013}
    epochs = (EpochReport(epoch=1, training_loss=1.0), EpochReport(epoch=2, training_loss=0.5, **last))
    table = worker_table(workers, 100.0, [running[0].model_copy(update={"reports": epochs})])
    text = render_table(shown_workers(table), 100)
    assert text.splitlines()[2].split()[:7] == ["a", "h", "7", "2", "0.0013", "41.7", "1%"]
    assert text.splitlines()[0].split()[2:7] == ["trial", "epoch", "rate", "patches/s", "waits"]
    assert plain_status(study_status("s", running, workers, max_trials=3, now_s=0.0))["workers"][0]["epoch"] is None
    told = [
        workers[0].model_copy(update={"device": "GPU 3", "elsewhere": "other"}),
        workers[1].model_copy(update={"memory_mb": 5210.0}),
    ]
    text = render_table(shown_workers(worker_table(told, 100.0, [])), 120)
    assert "device" in text
    assert "GPU 3" in text
    assert "works on" in text
    assert "5\xa0210 MB" in text


def test_a_status_tells_who_proposes_and_why_the_search_ends(trial):
    done = [trial(n, {"a": 0.5}, started_s=n * 60.0, finished_s=n * 60.0 + 60.0) for n in range(4)]
    running = trial(4, state="running", started_s=240.0)
    told = {"max_trials": 100, "now_s": 1000.0}
    status = study_status("s", [*done, running], master="box:7", **told)
    details = status_details(status, now_s=1000.0).set_index("name")["value"]
    assert details["master"] == "box:7"
    assert "ended" not in details
    assert status.end_s == pytest.approx(1000.0 + 96 * 60.0)
    # By its hours it ends before, a trial after nothing more is proposed.
    assert study_status("s", [*done, running], ends_s=1600.0, **told).end_s == pytest.approx(1600.0 + 60.0)
    over = study_status("s", [*done, running], ending="enough", **told)
    assert over.end_s == pytest.approx(1000.0 + 60.0)
    details = status_details(over, now_s=1000.0).set_index("name")["value"]
    assert (details["master"], details["ended"]) == ("none proposes now", "enough")


def test_a_status_without_trials_can_be_read():
    status = study_status("s", [], max_trials=3, now_s=100.0)
    text = render_details(status_details(status, now_s=100.0), 80)
    assert "no trial yet" in text
    assert isinstance(status.workers, pd.DataFrame)

"""What `status` shows of epochs under way: all that each of them reports."""

import json

import pytest

from results.epochs import epoch_table, shown_epochs
from results.status import plain_status, study_status
from results.text import render_table
from search_space.objective import EpochReport
from trials_db.records import TrialState

FIRST = EpochReport(epoch=1, training_loss=2.0, jaccard={"road": 0.125, "water": 0.25}, loss_parts={"dice": 2.0})
SECOND = EpochReport(
    epoch=2,
    training_loss=0.75,
    loss_parts={"dice": 0.5, "energy": 0.25},
    learning_rate=0.001,
    patches_per_s=40.0,
    data_wait_share=0.01,
    memory_mb=512.0,
)
OTHER = EpochReport(epoch=7, training_loss=0.0625, loss_parts={"bce": 0.0625}, jaccard={"water": 0.5})


@pytest.fixture
def trials(trial):
    running = {"state": TrialState.RUNNING}
    return [
        trial(5, reports=(OTHER,), **running),
        trial(2, reports=(FIRST, SECOND), **running),
        trial(3, **running),
        trial(1, {"road": 0.9}, reports=(FIRST,)),
    ]


def test_the_last_epoch_of_each_that_runs_is_shown_with_its_parts_and_the_last_scores(trials):
    lines = render_table(shown_epochs(epoch_table(trials)), 100).splitlines()

    assert lines[0].split() == ["trial", "epoch", "loss", "dice", "energy", "bce", "road", "water"]
    assert lines[2].split() == ["2", "2", "0.7500", "0.5000", "0.2500", "–", "0.125", "0.250"]
    assert lines[3].split() == ["5", "7", "0.0625", "–", "–", "0.0625", "–", "0.500"]
    assert len(lines) == 4


def test_what_a_narrow_terminal_leaves_out_first_are_the_parts_of_losses(trials):
    lines = render_table(shown_epochs(epoch_table(trials)), 45).splitlines()

    assert lines[0].split()[:3] == ["trial", "epoch", "loss"]
    assert lines[0].split()[-2:] == ["road", "water"]
    assert "left out for want of width: bce" in lines[-1]


def test_as_data_it_is_all_that_was_reported(trials):
    status = study_status("s", trials, max_trials=9, now_s=100.0)

    second, other = json.loads(json.dumps(plain_status(status), allow_nan=False))["epochs"]

    assert second == {
        "current_trial": 2,
        "epoch": 2,
        "training_loss": 0.75,
        "loss_parts": {"dice": 0.5, "energy": 0.25, "bce": None},
        "learning_rate": 0.001,
        "patches_per_s": 40.0,
        "data_wait_share": 0.01,
        "memory_mb": 512.0,
        "jaccard": {"road": 0.125, "water": 0.25},
    }
    assert (other["learning_rate"], other["jaccard"]) == (None, {"road": None, "water": 0.5})
    assert plain_status(study_status("s", [], max_trials=9, now_s=100.0))["epochs"] == []

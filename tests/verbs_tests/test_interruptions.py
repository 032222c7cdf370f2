"""What is stopped, killed or robbed of its data goes on, on tiny imagery; so do masters and workers apart."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.verbs_tests.tiny_job import TIMEOUT_S, Job, essence, until_said, wait_for_a_running_trial
from trials_db.opening import open_store
from verbs.exit_codes import EXIT_INTERRUPTED

# The first test of each process waits for the search that they share.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.slow
def test_ctrl_c_leaves_a_study_that_goes_on(job: Job, tmp_path: Path) -> None:
    other = job.like_this(tmp_path)
    with subprocess.Popen(
        other.command("search", "--workers", "1"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as search:
        wait_for_a_running_trial(tmp_path / "runs" / "tiny" / "trials.sqlite")
        search.send_signal(signal.SIGINT)
        told, _ = search.communicate(timeout=60)
    assert search.returncode == EXIT_INTERRUPTED, told
    assert "The same command goes on" in told
    assert not [trial for trial in other.trials() if trial["state"] == "running"], "a trial was not handed back"

    other.run("search", "--workers", "1")

    assert essence(other.trials()) == essence(job.trials())
    assert all(trial["lost_workers"] == 0 for trial in other.trials())


@pytest.mark.slow
def test_a_retraining_that_was_interrupted_goes_on_with_the_workers_of_the_study(job: Job) -> None:
    words = ("--classes", "bright", "--folds", "3", "--set", "retrain.epochs=2", "--set", "retrain.steps_per_epoch=2")
    begun = subprocess.Popen(job.command("retrain", *words), cwd=job.folder, stdout=subprocess.PIPE, text=True)
    with begun:
        until_said(begun, "fold 1 of 3: epoch 1/2")
        begun.send_signal(signal.SIGINT)
        assert begun.stdout is not None
        said = begun.stdout.read()
        assert begun.wait(timeout=60) == EXIT_INTERRUPTED, said
    assert "The same command goes on" in said

    with begun_worker(job, "ours") as worker:
        try:
            told = job.run("retrain", *words, "--workers", "0")
        finally:
            worker.send_signal(signal.SIGINT)
        said, _ = worker.communicate(timeout=60)
    assert worker.returncode == EXIT_INTERRUPTED, said
    assert "Traceback" not in said
    assert "bright: 3 models of trial" in told
    assert "over folds at threshold" in told
    with open_store(f"sqlite:///{job.folder / 'runs' / 'tiny' / 'trials.sqlite'}", create=False) as store:
        trials = [each for each in store.trials("tiny@retrain") if each.task and each.task["num_folds"]]
    assert [trial.task["fold"] for trial in trials if trial.task] == [1, 2, 3]
    assert {str(trial.state) for trial in trials} == {"done"}
    assert trials[-1].worker == "ours"
    assert all(trial.lost_workers == 0 for trial in trials)
    assert [report.epoch for report in trials[0].reports] == [1, 2], "it went on after its first epoch"


@pytest.mark.slow
def test_data_that_go_away_do_not_cost_the_search_its_trials(job: Job) -> None:
    prepared, away = job.folder / "prepared", job.folder / "away"
    words = ("search", "--workers", "1", "--set", 'study.name="robbed"', "--set", "search.lease_s=5")
    words = (*words, "--set", "limits.max_trials=2")
    with subprocess.Popen(
        job.command(*words), cwd=job.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as search:
        wait_for_a_running_trial(job.folder / "runs" / "robbed" / "trials.sqlite", "robbed")
        prepared.rename(away)
        told, _ = search.communicate(timeout=TIMEOUT_S)
    away.rename(prepared)

    assert search.returncode == 1, told
    assert "prepared data cannot be used" in told
    assert "1 failed" not in told

    job.run(*words)
    assert essence(job.trials("robbed")) == essence(job.trials())[:2]


def begun_worker(job: Job, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        job.command("worker", "--name", name),
        cwd=job.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_worker_that_is_stopped_by_hand_says_so_by_its_exit_code(job: Job) -> None:
    """By SIGTERM; the one that went on with a retraining is stopped by Ctrl-C."""
    with begun_worker(job, "by_hand") as worker:
        with open_store(f"sqlite:///{job.folder / 'runs' / 'tiny' / 'trials.sqlite'}", create=False) as store:
            while not any(each.name == "by_hand" for each in store.workers("tiny")):
                assert worker.poll() is None, "it left before it was told to"
                time.sleep(0.1)
        worker.send_signal(signal.SIGTERM)
        told, _ = worker.communicate(timeout=60)

    assert worker.returncode == EXIT_INTERRUPTED, told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_trial_ends_once(job: Job, tmp_path: Path) -> None:
    other = job.like_this(tmp_path)
    with subprocess.Popen(
        other.command("search", "--workers", "1", "--set", "search.lease_s=2", "--set", "limits.max_trials=2"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as search:
        worker = wait_for_a_running_trial(tmp_path / "runs" / "tiny" / "trials.sqlite")
        os.kill(worker.pid, signal.SIGKILL)
        told, _ = search.communicate(timeout=TIMEOUT_S)

    assert search.returncode == 0, told
    assert "was killed by signal 9; starting another" in told
    trials = other.trials()
    assert [trial["state"] in ("done", "infeasible") for trial in trials] == [True, True]
    assert sum(trial["lost_workers"] for trial in trials) == 1


@pytest.mark.slow
def test_one_command_serves_a_machine_and_proposals_follow_its_workers(job: Job) -> None:
    """Without a lookahead; trials that do worse than the others end early; the search ends by its patience."""
    words = [
        *("--set", 'study.name="farm"', "--set", "search.lookahead=0", "--set", "limits.max_trials=40"),
        *("--set", "limits.patience=6", "--set", 'space."architecture.base_filters"={fix=4}'),
        # Long enough that each epoch is validated.
        *("--set", 'pruning={kind="halving", factor=2, least_trials=1}', "--set", "budget.steps_per_epoch=5"),
        *("--set", 'space."plan.batch_size"={fix=16}'),
    ]
    with subprocess.Popen(job.command("search", *words), cwd=job.folder, stdout=subprocess.PIPE, text=True) as master:
        assert master.stdout is not None
        until_said(master, "No worker serves it yet")
        told = job.run_cold("worker", "--workers", "2", "--name", "box", "--idle-exit-s", "8", *words)
        said = master.stdout.read()
        assert master.wait(timeout=TIMEOUT_S) == 0, said
    assert "2 workers: box/0, box/1" in told
    assert "limits.patience is 6" in said
    trials = job.trials("farm")
    assert 7 <= len(trials) < 40
    assert {trial["worker"] for trial in trials} == {"box/0", "box/1"}
    states = [trial["state"] for trial in trials]
    assert set(states) == {"done", "pruned"}
    for trial in trials:
        assert len(trial["reports"]) == (2 if trial["state"] == "done" else 1)
        assert not list((job.folder / "runs/farm/trials" / f"{trial['number']:04d}").glob("checkpoint*"))
    status = job.run("status", *words)
    assert "none proposes now" in status
    assert "limits.patience is 6" in status

"""Trainings that nobody wants any more: how many there are, and how they are withdrawn."""

import argparse
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from search_space.errors import UsageError
from search_space.objective import MODEL_FILE
from search_space.study import Study
from verbs.common import open_study_artifacts, open_study_store, say
from verbs.exit_codes import EXIT_INTERRUPTED, EXIT_OK
from verbs.retrain_lead import StoppedError, leading
from verbs.retrain_wishes import key_of

if TYPE_CHECKING:
    from trials_db.artifacts import Artifacts
    from trials_db.records import Trial
    from trials_db.stopping import Stop
    from trials_db.store import TrialStore

WITHDRAWN = "withdrawn: nobody wanted it any more"

_NEEDLESS = {
    "--trial": ("trial", None),
    "--per-class": ("per_class", False),
    "--recipe": ("recipe", None),
    "--from": ("start", None),
    "--fine-tune": ("fine_tune", None),
    "--top": ("top", 1),
    "--folds": ("folds", 0),
    "--seeds": ("seeds", 1),
    "--workers": ("workers", None),
}
"""Options that say what is trained, and how: the name of each, and its value where it was not given."""


def check_withdrawal(options: argparse.Namespace) -> None:
    """Refuse options that say what is to be trained where trainings are withdrawn.

    Raises:
        UsageError: One was given.
    """
    for spelled, (name, default) in _NEEDLESS.items():
        if getattr(options, name) != default:
            raise UsageError("--withdraw trains nothing", received=spelled, remedy="Leave it out; --classes may stay")


def run_withdrawal(study: Study, classes: Sequence[str] | None) -> int:
    """Withdraw the trainings of a study that have not ended, and say how many these were.

    Args:
        study: What is retrained.
        classes: Only those of these; None for all.
    """
    from results.phrases import counted
    from trials_db.stopping import stop_on_signals

    name = study.retraining.name
    with open_study_store(study) as store, open_study_artifacts(study) as artifacts, stop_on_signals() as stop:
        store.heed(stop)
        artifacts.heed(stop)
        try:
            withdrawn = withdraw(store, artifacts, name, classes, stop) if name in store.list_studies() else []
        except StoppedError:
            say("\nStopped before anything was withdrawn. The same command goes on.")
            return EXIT_INTERRUPTED
    if not withdrawn:
        say(f"No training of {study.name} waits or runs" + (f" for {', '.join(classes)}" if classes else ""))
        return EXIT_OK
    num_running = sum(trial.state == "running" for trial in withdrawn)
    ran = f" {num_running} of them ran: their workers are about to drop them." if num_running else ""
    say(f"{counted(len(withdrawn), 'training')} of {study.name} withdrawn; what is done stays.{ran}")
    return EXIT_OK


def withdraw(
    store: "TrialStore", artifacts: "Artifacts", study: str, classes: Collection[str] | None, stop: "Stop"
) -> "list[Trial]":
    """End the trainings that wait or run; what is asked for again later is added anew.

    Args:
        store: Where the study is.
        artifacts: Where the files are that its trainings start from.
        study: The study of the retraining.
        classes: Only those of these; None for all.
        stop: Asks to stop.

    Returns:
        Those that were ended, as they were before.

    Raises:
        StoppedError: Somebody asked to stop before.
    """
    # Another call may be adding some: these are told, or are all there.
    with leading(store, study, stop):
        ended = [
            trial
            for trial in store.trials(study)
            if not trial.state.is_final
            and (classes is None or _class_of(trial) in classes)
            and store.withdraw(study, trial.number, WITHDRAWN)
        ]
        tidy(store, artifacts, study)
    return ended


def tidy(store: "TrialStore", artifacts: "Artifacts", study: str) -> None:
    """Drop the files that trainings which have ended left in the store, other than models."""
    held = artifacts.held(study)
    ended = {trial.number for trial in store.trials(study) if trial.state.is_final}
    artifacts.drop(study, [each for each in held if each.file != MODEL_FILE and each.number in ended])


def tell_waiting(trials: "Iterable[Trial]", wanted: Collection[str], withdrawal: str) -> None:
    """Say how many trainings that are not asked for now still wait, and what withdraws them.

    Args:
        trials: All of the retraining.
        wanted: Keys of those that are asked for now.
        withdrawal: The command.
    """
    from results.phrases import counted

    waiting = sum(trial.state == "new" and key_of(trial) not in wanted for trial in trials)
    if waiting:
        verb = "waits" if waiting == 1 else "wait"
        say(f"{counted(waiting, 'training')} of other calls still {verb}; `{withdrawal}` withdraws what waits")


def _class_of(trial: "Trial") -> str | None:
    task = trial.decoded_task()
    return None if task is None else task.class_name

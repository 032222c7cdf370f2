"""How far a study is: counts per state, pace, estimated end, workers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from results.epochs import epoch_table
from results.facts import FINISHED, STATES, mean_jaccard, ranked
from results.phrases import NOTHING, architecture_phrase, count_text, counted, duration_text, jaccard_text
from results.tables import DETAIL_COLUMNS
from results.text import plain_rows
from search_space.names import is_retraining
from trials_db.records import Trial, TrialState, WorkerRecord

PACE_TRIALS = 20

TRAINING_COLUMNS = ("epoch", "learning_rate", "patches_per_s", "data_wait_share")
"""What the last report of a running trial tells of its training."""

WORKER_COLUMNS = (
    *("worker", "host", "device", "current_trial"),
    *TRAINING_COLUMNS,
    *("elsewhere", "memory_mb", "last_seen_s"),
)


@dataclass(frozen=True)
class StudyStatus:
    """A study at one moment.

    Attributes:
        study: Its name.
        counts: Number of trials in each state, all states named.
        max_trials: The study ends with this many trials.
        best: The best trial that is done, None where none is.
        trials_per_h: Pace of the last trials, pauses left out; None where none has ended.
        end_s: When the study will have ended at that pace, in seconds since the epoch; None where nothing is
            running or the pace is unknown.
        workers: See `worker_table`.
        epochs: See `epoch_table`.
        master: Who proposes now, None where nobody does.
        ending: Why no further trial is proposed before there are `max_trials`; empty while the search goes on.
    """

    study: str
    counts: dict[str, int]
    max_trials: int
    best: Trial | None
    trials_per_h: float | None
    end_s: float | None
    workers: pd.DataFrame
    epochs: pd.DataFrame
    master: str | None = None
    ending: str = ""

    @property
    def num_finished(self) -> int:
        """Trials that have ended, however."""
        return sum(self.counts[state] for state in FINISHED)


def study_status(
    study: str,
    trials: Iterable[Trial],
    workers: Iterable[WorkerRecord] = (),
    *,
    max_trials: int,
    now_s: float,
    master: str | None = None,
    ending: str = "",
    ends_s: float | None = None,
) -> StudyStatus:
    """Sum up a study.

    Args:
        study: Its name.
        trials: All its trials.
        workers: Its workers, as they last told of themselves.
        max_trials: The study ends with this many trials.
        now_s: The present, in seconds since the epoch, by the store's clock.
        master: Who proposes now.
        ending: Why no further trial is proposed.
        ends_s: When none will be proposed any more, in seconds since the epoch; None where that is open.
    """
    trials = list(trials)
    counts = Counter(str(trial.state) for trial in trials)
    pace = trials_per_h(trials)
    num_left = max_trials - sum(counts[state] for state in FINISHED)
    if ending:
        num_left = counts["new"] + counts["running"]
    running = counts["running"] > 0
    end_s = now_s + max(0, num_left) / pace * 3600.0 if pace and running else None
    if end_s is not None and ends_s is not None and not ending:
        # What is under way then still ends.
        end_s = min(end_s, max(now_s, ends_s) + 3600.0 / pace if pace else end_s)
    best = ranked(trials)[:1]
    return StudyStatus(
        study=study,
        counts={state: counts[state] for state in STATES},
        max_trials=max_trials,
        best=best[0] if best else None,
        trials_per_h=pace,
        end_s=end_s,
        workers=worker_table(workers, now_s, trials),
        epochs=epoch_table(trials),
        master=master,
        ending=ending,
    )


def trials_per_h(trials: Iterable[Trial]) -> float | None:
    """Pace of the last trials that ended, over the time in which at least one of them ran.

    Time in which nothing ran, such as a night between two searches, does not count.

    Returns:
        Trials per hour over the last 20 trials that ended, None where none did.
    """
    spans = [
        (trial.finished_s, trial.started_s)
        for trial in trials
        if trial.started_s is not None and trial.finished_s is not None
    ]
    recent = sorted(spans)[-PACE_TRIALS:]
    busy_s, end_s = 0.0, float("-inf")
    for start, finish in sorted((start, finish) for finish, start in recent):
        busy_s += max(0.0, finish - max(start, end_s))
        end_s = max(end_s, finish)
    return len(recent) / busy_s * 3600.0 if busy_s > 0 else None


def worker_table(workers: Iterable[WorkerRecord], now_s: float, trials: Iterable[Trial]) -> pd.DataFrame:
    """Who works on a study.

    Args:
        workers: As they last told of themselves.
        now_s: The present, in seconds since the epoch, by the store's clock.
        trials: Those of the study: a trial that a worker told of may have been taken from it.

    Returns:
        Columns `worker`, `host`, `device` (empty where it did not tell), `current_trial` (NaN while it runs none of
        this study), of that trial's last epoch `epoch`, `learning_rate`, `patches_per_s` and `data_wait_share` (share
        of the time in which it stood still for want of a batch; NaN where none is known), `elsewhere` (the study whose
        trial it runs instead), `memory_mb` (of its trial's processes) and `last_seen_s` (seconds ago).
    """
    running: dict[tuple[int | None, str | None], Trial] = {
        (trial.number, trial.worker): trial for trial in trials if trial.state is TrialState.RUNNING
    }
    rows = [
        {
            "worker": worker.name,
            "host": worker.host,
            "device": worker.device,
            "current_trial": worker.trial if (worker.trial, worker.name) in running else None,
            **_training(running.get((worker.trial, worker.name))),
            "elsewhere": worker.elsewhere,
            "memory_mb": worker.memory_mb,
            "last_seen_s": max(0.0, now_s - worker.last_seen_s),
        }
        for worker in sorted(workers, key=lambda worker: worker.name)
    ]
    return pd.DataFrame(rows, columns=list(WORKER_COLUMNS))


def _training(trial: Trial | None) -> dict[str, float | None]:
    last = trial.reports[-1] if trial is not None and trial.reports else None
    return {name: None if last is None else getattr(last, name) for name in TRAINING_COLUMNS}


def shown_workers(table: pd.DataFrame) -> pd.DataFrame:
    """A worker table to read: without columns in which no worker tells anything."""
    silent = [name for name in ("device", "elsewhere", "memory_mb") if not table[name].astype(bool).any()]
    silent += [name for name in TRAINING_COLUMNS if table[name].isna().all()]
    return table.drop(columns=silent)


def status_details(status: StudyStatus, *, now_s: float) -> pd.DataFrame:
    """A status to read: columns `group`, `name` and `value`, all text, without the workers."""
    left_s = None if status.end_s is None else status.end_s - now_s
    end = f"about {_clock(status.end_s, now_s)}, in {duration_text(left_s)}" if status.end_s is not None else NOTHING
    states = ", ".join(f"{count_text(number)} {state}" for state, number in status.counts.items() if number)
    noun = "training" if is_retraining(status.study) else "trial"
    rows = [
        ("finished", _finished(status, noun)),
        ("states", states or f"no {noun} yet"),
        ("master", status.master or "none proposes now"),
        ("pace", _pace(status.trials_per_h, noun)),
        ("estimated end", end),
    ]
    if is_retraining(status.study):
        # Nobody proposes, and none is the best of several classes.
        return _details(status, [row for row in rows if row[0] != "master"])
    if status.ending:
        rows.append(("ended", status.ending))
    if status.best is not None:
        rows += [
            ("best so far", f"trial {status.best.number}, mean Jaccard {jaccard_text(mean_jaccard(status.best))}"),
            ("", architecture_phrase(status.best.decoded().architecture)),
        ]
    return _details(status, rows)


def _details(status: StudyStatus, rows: Sequence[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame([(f"study {status.study}", *row) for row in rows], columns=DETAIL_COLUMNS)


def _finished(status: StudyStatus, noun: str) -> str:
    if status.num_finished > status.max_trials:
        return f"{counted(status.num_finished, 'trial')}, more than limits.max_trials = {status.max_trials}"
    return f"{count_text(status.num_finished)} of {counted(status.max_trials, noun)}"


def _pace(trials_per_h: float | None, noun: str) -> str:
    """How fast trials end: of slow ones the time that one takes, which says more than "0 trials per hour"."""
    if trials_per_h is None:
        return NOTHING
    if trials_per_h < 10.0:
        return f"one {noun} in {duration_text(3600.0 / trials_per_h)}"
    return f"{counted(trials_per_h, noun)} per hour"


def _clock(moment_s: float | None, now_s: float) -> str:
    if moment_s is None:
        return NOTHING
    moment, now = datetime.fromtimestamp(moment_s).astimezone(), datetime.fromtimestamp(now_s).astimezone()
    return f"{moment:%H:%M}" if moment.date() == now.date() else f"{moment:%a %d %b %H:%M}"


def plain_status(status: StudyStatus) -> dict[str, Any]:
    """A status as JSON data."""
    best = status.best
    return {
        "study": status.study,
        "counts": dict(status.counts),
        "num_finished": status.num_finished,
        "max_trials": status.max_trials,
        "best": None if best is None else {"trial": best.number, "mean_jaccard": mean_jaccard(best)},
        "trials_per_h": status.trials_per_h,
        "end_s": status.end_s,
        "master": status.master,
        "ending": status.ending,
        "workers": plain_rows(status.workers),
        "epochs": plain_rows(status.epochs),
    }

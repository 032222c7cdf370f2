"""How a retraining is told: per class and fold, each training once."""

import math

from results.status import status_details, study_status
from results.text import render_table
from results.trainings import current_trainings, training_table
from search_space.decode import encode
from search_space.task import Task


def task(class_name="water", **values):
    return encode(Task(class_name=class_name, epochs=1, steps_per_epoch=1, **values))


def trainings(trial):
    folds = [task(fold=fold, num_folds=2, seed=seed) for seed in (0, 1) for fold in (1, 2)]
    made = [
        trial(0, {"water": 0.5}, task=folds[0]),
        trial(1, state="failed", reason="planted", task=folds[1]),
        trial(2, {"water": 0.75}, task=folds[2]),
        trial(3, state="running", task=folds[3]),
        # The failed one, tried again.
        trial(4, state="new", task=folds[1]),
        trial(5, state="infeasible", reason="planted", task=task("trees")),
    ]
    return [each.model_copy(update={"seed": 7}) for each in made]


def test_trainings_are_counted_by_class_and_fold(trial):
    table = training_table(trainings(trial))
    rows = [tuple(row)[:-1] for row in table.itertuples(index=False)]
    assert rows == [
        ("trees", "–", 0, 0, 0, 1),
        ("water", "1 of 2", 2, 0, 0, 0),
        ("water", "2 of 2", 0, 1, 1, 0),
    ]
    best = list(table["mean_jaccard"])
    assert best[1] == 0.625
    assert math.isnan(best[0])
    assert math.isnan(best[2])
    lines = render_table(table, 100).splitlines()
    assert lines[0].split() == ["class", "fold", "done", "running", "waiting", "no", "model", "Jaccard"]
    assert training_table([]).empty


def test_a_retraining_has_no_master_and_no_best_trial(trial):
    shown = current_trainings(trainings(trial))
    assert [each.number for each in shown] == [0, 4, 2, 3, 5]
    status = study_status("demo@retrain", shown, max_trials=len(shown), now_s=100.0)
    details = status_details(status, now_s=100.0).set_index("name")["value"]
    assert details["finished"] == "3 of 5 trainings"
    assert list(details.index) == ["finished", "states", "pace", "estimated end"]

"""Hand-made and synthetic trials, made without any store."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.objective import EpochReport, Outcome
from search_space.study import Study
from trials_db.records import Trial

BLOCKS = ("plain", "residual", "inception")
SKIPS = ("concatenate", "add", "gate", "none")
LOSSES = ({"bce": 1.0}, {"bce": 1.0, "dice": 1.0}, {"dice": 0.25, "focal": 0.75})


def make_trial(
    number: int,
    jaccard: dict[str, float] | None = None,
    *,
    state: str = "done",
    reason: str | None = None,
    candidate: dict[str, Any] | None = None,
    point: dict[str, float] | None = None,
    reports: tuple[EpochReport, ...] = (),
    **changes: Any,
) -> Trial:
    """A trial; `jaccard` alone makes it done, with the loss that belongs to it."""
    outcome = None
    if state == "done" and jaccard is not None:
        loss = 1.0 - sum(jaccard.values()) / len(jaccard) if jaccard else 1.0
        outcome = Outcome(
            state="done",
            loss=loss,
            jaccard=jaccard,
            thresholds=dict.fromkeys(jaccard, 0.4),
            figures={"num_parameters": 1000.0 * (number + 1), "train_s": 60.0 + number},
        )
    elif state in ("infeasible", "failed"):
        outcome = Outcome(state=state, reason=reason or "out of memory")
    times = {"created_s": 0.0, "started_s": 10.0 * number, "finished_s": 10.0 * number + 10.0}
    if state in ("new", "running"):
        times["finished_s"] = None
    return Trial(
        number=number,
        state=state,
        point=point or {},
        candidate=candidate or encode(Candidate()),
        seed=number,
        outcome=outcome,
        reports=reports,
        **{**times, **changes},
    )


def synthetic_trials(num_trials: int = 48, classes: tuple[str, ...] = ("Water", "Buildings", "Roads")) -> list[Trial]:
    """A study in which the learning rate and the block decide, and nothing else does."""
    rng = random.Random(3)
    trials = []
    for number in range(num_trials):
        good = min(1.0, number / num_trials + 0.25)
        block = rng.randrange(3) if rng.random() > good else 2
        rate = 10 ** (rng.uniform(-4, -2) if rng.random() > good else rng.uniform(-3.2, -2.7))
        skip, depth, loss = rng.randrange(4), rng.randint(2, 5), rng.randrange(3)
        growth = rng.uniform(1.0, 2.0)
        point = {
            "architecture.block": block,
            "architecture.skip": skip,
            "architecture.depth": float(depth),
            "architecture.growth": growth,
            "plan.loss": loss,
            "plan.learning_rate": rate,
        }
        if block == 2:
            point["architecture.block[inception].wide_kernel_px"] = rng.randrange(2)
        candidate = {
            "architecture": {
                "block": {"kind": BLOCKS[block]},
                "skip": SKIPS[skip],
                "depth": depth,
                "growth": growth,
                "activation": rng.choice(("relu", "elu", "leaky_relu")),
                "base_filters": rng.choice((8, 16, 32)),
            },
            "plan": {"loss": LOSSES[loss], "learning_rate": rate},
        }
        plain = encode(decode(Candidate, candidate, where="test"))
        score = 0.62 - 0.25 * abs(math.log10(rate) + 2.95) + 0.06 * block + rng.gauss(0, 0.03)
        jaccard = {
            name: max(0.0, min(1.0, score + 0.12 - 0.1 * k + rng.gauss(0, 0.02))) for k, name in enumerate(classes)
        }
        reports = tuple(
            EpochReport(
                epoch=epoch,
                training_loss=0.2 + 0.8 * math.exp(-epoch / 4) + rng.gauss(0, 0.01),
                jaccard={name: value * (1 - math.exp(-epoch / 3)) for name, value in jaccard.items()},
                seconds=4.0,
            )
            for epoch in range(1, 13)
        )
        state = "done"
        reason = None
        if number % 17 == 5:
            state, reason, reports = "failed", "the loss became NaN in epoch 3", reports[:2]
        elif number % 13 == 7:
            state, reason, reports = (
                "infeasible",
                "needs 61 000 000 parameters, more than max_parameters = 50 000 000",
                (),
            )
        elif number % 11 == 9:
            state, reports = "pruned", reports[:4]
        trials.append(
            make_trial(
                number,
                jaccard,
                state=state,
                reason=reason,
                candidate=plain,
                point=point,
                reports=reports,
                worker=f"gpu-{number % 2}",
                attempts=1,
            )
        )
    trials.append(make_trial(num_trials, state="running", reports=trials[0].reports[:3], worker="gpu-0", attempts=1))
    return trials


def make_study(**changes: Any) -> Study:
    """A complete study with every default."""
    return decode(
        Study,
        {
            "study": {"name": "india", "seed": 11},
            "data": {
                "format": "geotiff_folder",
                "folder": "data/sentinel2_india",
                "prepared": "prepared/india",
                "classes": ["Water", "Buildings", "Roads"],
            },
            "folds": {"validation": ["scene_03"], "test": ["scene_04", "scene_05"]},
            "budget": {"epochs": 12, "steps_per_epoch": 40},
            "retrain": {"epochs": 40, "steps_per_epoch": 80},
            "limits": {"max_trials": 60},
            **changes,
        },
        where="test",
    )


@pytest.fixture
def trial() -> Callable[..., Trial]:
    return make_trial


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.fixture
def study_with() -> Callable[..., Study]:
    """Make the study with other sections, such as `limits={"max_trials": 1}`."""
    return make_study


@pytest.fixture(scope="session")
def trials() -> list[Trial]:
    return synthetic_trials()

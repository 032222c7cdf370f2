"""Samples of the whole search space, as in `benchmarks/samples.py`, which draws a thousand of them."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import count
from typing import Any

import keras
import numpy as np
import pytest

from benchmarks import samples as benchmark
from benchmarks.samples import build_and_run, covering, samples, train_and_reload
from pipeline.training.trainee import Trainee
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.network.cost import Cost, training_cost
from search_space.space import resolve_space

SPACE = resolve_space({})
SEEDS, BUILT, TRAINED = {"tensorflow": (4, 2, None), "torch": (1, 10, 8), "jax": (1, 3, 4)}[keras.backend.backend()]
"""Draws, samples of each that are built, and how many are trained: elsewhere fewer are enough, as what they consist of
is the same, and JAX compiles every operation for every shape. Those that are trained are built as estimated, too;
`benchmarks/samples.py` builds a thousand."""


@pytest.mark.parametrize("seed", range(SEEDS))
def test_samples_come_back_to_their_points_and_build_as_estimated(seed: int) -> None:
    """What differs raises, as `TestTheChecksCanFail` shows; here every sample is seen to be checked."""
    checked = [build_and_run(candidate) for candidate, _ in samples(SPACE, BUILT, seed)]
    assert len(checked) == BUILT


@cache
def telling() -> list[Candidate]:
    """Samples that together show every option of every choice and every whole number."""
    return covering(SPACE, seed=0)


def test_the_telling_samples_show_every_kind_of_encoder_and_every_batch() -> None:
    assert {each.architecture.encoder.kind for each in telling()} == {
        "grown",
        "vgg16",
        "resnet34",
        "resnet50",
        "se_resnext50",
        "efficientnet_b0",
    }
    assert {each.plan.batch_size for each in telling()} == {4, 8, 16}
    assert {each.plan.optimizer.kind for each in telling()} == {"adam", "adamw", "nadam", "rmsprop", "sgd"}


@pytest.mark.parametrize("part", range(4))
def test_telling_samples_train_a_step_and_come_back_equal(part: int) -> None:
    """What differs raises, as `TestTheChecksCanFail` shows; here each part has something to check."""
    chosen = telling()[part:TRAINED:4]
    assert chosen
    for candidate in chosen:
        train_and_reload(candidate)


class TestTheChecksCanFail:
    """What the two tests above rely on: that each thing checked is refused when it is wrong."""

    @pytest.fixture
    def candidate(self) -> Candidate:
        fields = {"architecture": {"depth": 2, "base_filters": 4}, "plan": {"batch_size": 4}}
        return decode(Candidate, fields, where="test")

    @pytest.mark.parametrize("check", [build_and_run, train_and_reload])
    @pytest.mark.parametrize("name", ["num_parameters", "num_variables"])
    def test_a_wrong_count_is_refused(
        self, candidate: Candidate, name: str, check: Callable[[Candidate], object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lying(*given: Any) -> Cost:
            cost = training_cost(*given)
            return replace(cost, **{name: getattr(cost, name) + 1})

        monkeypatch.setattr(benchmark, "training_cost", lying)
        with pytest.raises(ValueError, match=r"\d+ (weights|variables), \d+ (estimated|counted)"):
            check(candidate)

    def test_maps_that_are_no_numbers_are_refused(self, candidate: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(benchmark, "_maps", lambda *_: {"masks": np.array([np.nan])})
        with pytest.raises(ValueError, match="not numbers"):
            build_and_run(candidate)

    def test_weights_that_do_not_move_are_refused(self, candidate: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Trainee, "train_on_batch", lambda *_: 0.5)
        with pytest.raises(ValueError, match="no weight has moved"):
            train_and_reload(candidate)

    def test_a_loss_that_is_no_number_is_refused(self, candidate: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Trainee, "train_on_batch", lambda *_: float("nan"))
        with pytest.raises(ValueError, match="a loss of nan"):
            train_and_reload(candidate)

    def test_a_model_that_comes_back_different_is_refused(
        self, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = count()
        monkeypatch.setattr(benchmark, "_maps", lambda *_: {"masks": np.array([next(calls)])})
        with pytest.raises(ValueError, match="differs after loading"):
            train_and_reload(candidate)

    def test_a_point_that_is_another_candidate_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        [(_, point)] = samples(SPACE, 1, seed=1)
        monkeypatch.setattr(benchmark, "nearest_point", lambda *_: point)
        with pytest.raises(ValueError, match="does not come back"):
            list(samples(SPACE, 1, seed=2))

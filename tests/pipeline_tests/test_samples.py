"""Samples of the whole search space, as in `benchmarks/samples.py`, which draws a thousand of them."""

from functools import cache

import keras
import pytest

from benchmarks.samples import build_and_run, covering, samples, train_and_reload
from search_space.candidate import Candidate
from search_space.space import resolve_space

SPACE = resolve_space({})
SEEDS, BUILT, TRAINED = {"tensorflow": (4, 25, None), "torch": (1, 10, 8), "jax": (1, 3, 4)}[keras.backend.backend()]
"""Draws, samples of each that are built, and how many are trained: elsewhere fewer are enough, as what they consist of
is the same, and JAX compiles every operation for every shape."""


@pytest.mark.parametrize("seed", range(SEEDS))
def test_samples_come_back_to_their_points_and_build_as_estimated(seed: int) -> None:
    for candidate, _ in samples(SPACE, BUILT, seed):
        build_and_run(candidate)


@cache
def telling() -> list[Candidate]:
    """Samples that together show every option of every choice."""
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


@pytest.mark.parametrize("part", range(4))
def test_telling_samples_train_a_step_and_come_back_equal(part: int) -> None:
    for candidate in telling()[part:TRAINED:4]:
        train_and_reload(candidate)

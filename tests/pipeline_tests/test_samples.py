"""Samples of the whole search space, as in `benchmarks/samples.py`, which draws a thousand of them."""

import pytest

from benchmarks.samples import build_and_run, covering, samples, train_and_reload
from search_space.candidate import Candidate
from search_space.errors import InfeasibleError
from search_space.space import resolve_space

SPACE = resolve_space({})


def test_a_hundred_samples_come_back_to_their_points_and_build_as_estimated() -> None:
    drawn = [candidate for candidate, _ in samples(SPACE, 100, seed=0)]
    # Known encoders halve five times; a deeper one is told so.
    too_deep = [each for each in drawn if each.architecture.encoder.kind != "grown" and each.architecture.depth > 5]
    assert len(too_deep) < 10
    for candidate in drawn:
        if candidate in too_deep:
            with pytest.raises(InfeasibleError, match="has 5 levels"):
                build_and_run(candidate)
        else:
            build_and_run(candidate)


@pytest.fixture(scope="module")
def telling() -> list[Candidate]:
    return covering(SPACE, seed=0)


def test_samples_that_show_every_option_train_and_come_back_equal(telling: list[Candidate]) -> None:
    assert {each.architecture.encoder.kind for each in telling} >= {"grown", "vgg16", "efficientnet_b0"}
    assert {each.plan.batch_size for each in telling} == {4, 8, 16}
    for candidate in telling:
        train_and_reload(candidate)

"""Batches come in order and as their numbers say, however far ahead they are made; whatever goes wrong is told."""

import threading
from itertools import islice
from typing import Any

import numpy as np
import pytest

from pipeline.training.batches import AHEAD, Batches, joined, part_of


def numbered(number: int) -> tuple[dict[str, Any]]:
    return ({"patch": np.arange(5) + 10 * number},)


def taken(batches: Batches, count: int) -> list[list[int]]:
    return [list(batch["patch"]) for (batch,) in islice(batches, count)]


def test_they_come_in_order_through_all_epochs() -> None:
    with Batches(numbered, steps_per_epoch=3, epochs=4, begin=1) as batches:
        batches.open(1)
        assert [first for first, *_ in taken(batches, 100)] == [30, 40, 50, 60, 70, 80, 90, 100, 110]
    assert batches.failure is None


def test_before_training_has_begun_the_first_is_shown_and_none_is_lost() -> None:
    with Batches(numbered, steps_per_epoch=2, epochs=1) as batches:
        assert [first for first, *_ in taken(batches, 3)] == [0, 0, 0]
        stream = iter(batches)
        assert next(stream)[0]["patch"][0] == 0
        batches.open(0)
        assert [batch["patch"][0] for (batch,) in stream] == [0, 10]


def test_nothing_of_an_epoch_is_made_before_it_is_opened() -> None:
    made: list[int] = []

    def make(number: int) -> tuple[Any, ...]:
        made.append(number)
        return numbered(number)

    with Batches(make, steps_per_epoch=2, epochs=3, by_epoch=True) as batches:
        stream = iter(batches)
        for epoch in range(3):
            assert made == list(range(2 * epoch))
            batches.open(epoch)
            assert [next(stream)[0]["patch"][0] for _ in range(2)] == [20 * epoch, 20 * epoch + 10]


def test_no_more_than_a_few_wait() -> None:
    made, enough = [], threading.Event()

    def make(number: int) -> tuple[Any, ...]:
        made.append(number)
        if number == AHEAD - 1:
            enough.set()
        return numbered(number)

    with Batches(make, steps_per_epoch=100, epochs=100):
        assert enough.wait(60)
    # Whoever leaves early waits for none of the others.
    assert made == list(range(AHEAD))


def test_waits_are_counted_and_only_those() -> None:
    may_go = threading.Event()

    def make(number: int) -> tuple[Any, ...]:
        if number == 1:
            assert may_go.wait(60)
        return numbered(number)

    with Batches(make, steps_per_epoch=2, epochs=1) as batches:
        batches.open(0)
        stream = iter(batches)
        next(stream)
        before_s = batches.waited_s
        threading.Timer(0.2, may_go.set).start()
        next(stream)
        assert batches.waited_s - before_s > 0.1


def test_what_making_raises_reaches_who_iterates() -> None:
    class OfItsOwnError(Exception):
        pass

    def make(number: int) -> tuple[Any, ...]:
        if number == 2:
            raise OfItsOwnError
        return numbered(number)

    with Batches(make, steps_per_epoch=9, epochs=9) as batches:
        batches.open(0)
        stream = iter(batches)
        assert [next(stream)[0]["patch"][0] for _ in range(2)] == [0, 10]
        with pytest.raises(OfItsOwnError):
            next(stream)
    assert isinstance(batches.failure, OfItsOwnError)


def test_closed_ones_end() -> None:
    with Batches(numbered, steps_per_epoch=1, epochs=9, by_epoch=True) as batches:
        batches.open(0)
        stream = iter(batches)
        next(stream)
        batches.close()
        assert list(stream) == []


@pytest.mark.parametrize("size", range(2, 9))
def test_two_parts_of_a_batch_are_alike_and_miss_nothing(size: int) -> None:
    whole = np.arange(float(size), dtype=np.float32)
    parts = [whole[part_of(size, part, 2)] for part in range(2)]
    assert {len(part) for part in parts} == {-(-size // 2)}
    np.testing.assert_array_equal(joined(parts, size), whole)
    assert part_of(size, 0, 1) == slice(0, size)


def test_parts_come_one_after_the_other() -> None:
    with Batches(numbered, steps_per_epoch=1, epochs=2, num_parts=2) as batches:
        batches.open(0)
        assert batches.steps_per_epoch == 2
        assert taken(batches, 9) == [[0, 1, 2], [2, 3, 4], [10, 11, 12], [12, 13, 14]]

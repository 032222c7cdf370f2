"""Dealing units into folds: nothing lost, every class everywhere where that can be, even, and always the same."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.folds.stratification import stratify

Areas = list[list[int]]


def names(areas: Areas) -> list[str]:
    return [f"unit {number}" for number in range(len(areas))]


def present(areas: Areas, folds: list[int] | tuple[int, ...]) -> int:
    """Pairs of class and fold in which the fold has the class; the ground itself counts as one."""
    return len({(k, fold) for unit, fold in zip(areas, folds, strict=True) for k, area in enumerate(unit) if area})


@st.composite
def deals(draw: st.DrawFn, most_units: int, most_folds: int) -> tuple[Areas, int]:
    num_folds = draw(st.integers(2, most_folds))
    num_units = draw(st.integers(num_folds, most_units))
    num_classes = draw(st.integers(1, 4))
    area = st.sampled_from([0, 0, 1, 7, 1000])
    areas = draw(
        st.lists(st.lists(area, min_size=num_classes, max_size=num_classes), min_size=num_units, max_size=num_units)
    )
    return [[*unit, 1000 + sum(unit)] for unit in areas], num_folds


@settings(deadline=None)
@given(deals(most_units=40, most_folds=8), st.integers(0, 3))
def test_every_unit_is_dealt_and_no_fold_is_empty(deal: tuple[Areas, int], seed: int) -> None:
    areas, num_folds = deal

    folds = stratify(areas, names(areas), num_folds, seed)

    assert len(folds) == len(areas)
    assert set(folds) == set(range(num_folds))


@settings(deadline=None)
@given(deals(most_units=7, most_folds=3))
def test_no_deal_has_more_classes_in_more_folds(deal: tuple[Areas, int]) -> None:
    areas, num_folds = deal

    folds = stratify(areas, names(areas), num_folds)

    every = product(range(num_folds), repeat=len(areas))
    assert present(areas, folds) == max(present(areas, each) for each in every)


def test_a_deal_that_rarest_first_alone_would_miss_is_found() -> None:
    """Three classes of three units each in three folds: only one way, up to names, gives every fold all of them."""
    areas = [[1, 1, 0, 9], [1, 0, 1, 9], [1, 0, 0, 9], [0, 1, 0, 9], [0, 1, 1, 9], [0, 0, 1, 9]]

    folds = stratify(areas, names(areas), 3)

    assert present(areas, folds) == 12


@settings(deadline=None)
@given(deals(most_units=12, most_folds=4), st.randoms(use_true_random=False))
def test_the_order_of_units_does_not_matter(deal: tuple[Areas, int], random: object) -> None:
    areas, num_folds = deal
    called = names(areas)
    order = list(range(len(areas)))
    random.shuffle(order)  # type: ignore[attr-defined]

    folds = stratify(areas, called, num_folds)
    shuffled = stratify([areas[unit] for unit in order], [called[unit] for unit in order], num_folds)

    assert shuffled == [folds[unit] for unit in order]


def test_equal_units_of_several_kinds_go_evenly_into_all_folds() -> None:
    kinds = [[90, 0, 0, 100], [0, 40, 5, 100], [0, 0, 0, 100]]
    areas = [kind for kind in kinds for _ in range(4)]

    folds = stratify(areas, names(areas), 4)

    for first in (0, 4, 8):
        assert sorted(folds[first : first + 4]) == [0, 1, 2, 3]


@pytest.mark.parametrize("num_units", [60, 600])
def test_areas_are_more_even_than_by_chance(num_units: int) -> None:
    rng = np.random.default_rng(1)
    areas = np.rint(rng.exponential(1000, (num_units, 5)) * (rng.random((num_units, 5)) < 0.4)).astype(int)
    areas[:, 4] = 10_000

    def unevenness(folds: list[int]) -> float:
        held = np.array([areas[np.array(folds) == fold].sum(axis=0) for fold in range(5)]) / areas.sum(axis=0)
        return float(np.abs(held - 0.2).max())

    found = unevenness(stratify(areas.tolist(), names(areas.tolist()), 5))

    by_chance = [unevenness(rng.permutation(np.arange(num_units) % 5).tolist()) for _ in range(200)]
    assert found < min(by_chance)
    assert found < 0.05


def test_a_class_of_fewer_units_than_folds_is_in_as_many_folds_as_it_has_units() -> None:
    areas = [[500, 10, 1000] for _ in range(2)] + [[0, 10, 1000] for _ in range(8)]

    folds = stratify(areas, names(areas), 5)

    assert folds[0] != folds[1]


def test_another_seed_deals_another_way_and_the_same_seed_the_same() -> None:
    areas = [[10 + number, 1000] for number in range(12)]

    found = {tuple(stratify(areas, names(areas), 3, seed)) for seed in range(10)}

    assert len(found) > 5
    assert stratify(areas, names(areas), 3, 4) == stratify(areas, names(areas), 3, 4)


def test_the_deal_of_today_is_that_of_tomorrow() -> None:
    """A study goes on for weeks, on several machines: a deal that changes would mix folds without a word."""
    areas = [[(number * 37) % 11 * 10, (number * 53) % 7 * (number % 3 == 0), 1000] for number in range(14)]

    assert stratify(areas, names(areas), 4) == [1, 1, 2, 2, 3, 1, 3, 0, 3, 0, 0, 0, 1, 2]

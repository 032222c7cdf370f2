"""Dealing units of ground into folds, so that every class is in every fold where possible, and areas are even.

Iterative stratification for data with several labels (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of
Multi-Label Data", 2011), with areas in place of counts: the class of the fewest units is dealt first, each unit to the
fold that lacks the most of it. Single moves and swaps then make areas more even. Where a fold still lacks a class that
it could have, an exhaustive search looks for a better deal. All numbers are whole, so every machine deals alike.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

SCALE = 1_000_000
"""A class's whole area, in the units that folds are compared by."""

MAX_STEPS = 50_000
"""Of the exhaustive search; enough for every deal of ten units into three folds."""

MAX_SEARCHED = 60
"""More units than that are neither searched nor swapped, as pairs are too many; nor do they need it."""

MAX_ROUNDS = 5


def stratify(areas_px: Sequence[Sequence[int]], names: Sequence[str], num_folds: int, seed: int = 0) -> list[int]:
    """Deal units into folds.

    Args:
        areas_px: Per unit the area of each class, and last that of all its known ground, which is above 0.
        names: Per unit a name; with the seed they decide between equals, whatever the order of the units.
        num_folds: Number of folds, at most the number of units.
        seed: Deals another way.

    Returns:
        Per unit the number of its fold, from 0. No fold is empty. The number of pairs of class and fold in which the
        fold has the class is the greatest there is, unless the search for it was cut short.
    """
    order = sorted(range(len(names)), key=lambda unit: hashlib.sha256(f"{seed}/{names[unit]}".encode()).digest())
    deal = _Deal.of([areas_px[unit] for unit in order], num_folds)
    folds = deal.evened(deal.greedy())
    if deal.num_present(folds) < deal.most_present and len(folds) <= MAX_SEARCHED:
        folds = max(folds, deal.evened(deal.exhaustive()), key=deal.num_present)
    found = dict(zip(order, folds, strict=True))
    return [found[unit] for unit in range(len(names))]


@dataclass(frozen=True)
class _Deal:
    """Units and what each weighs in every class: its share of the class's area, in parts of `SCALE`."""

    weights: tuple[dict[int, int], ...]
    num_folds: int

    @classmethod
    def of(cls, areas_px: Sequence[Sequence[int]], num_folds: int) -> "_Deal":
        totals = [sum(column) for column in zip(*areas_px, strict=True)]
        weights = [
            # However small a class is in a unit, it is there.
            {k: max(1, SCALE * area // totals[k]) for k, area in enumerate(unit) if area > 0}
            for unit in areas_px
        ]
        return cls(tuple(weights), num_folds)

    @property
    def classes(self) -> tuple[int, ...]:
        """Every class that some unit has, that of the fewest units first."""
        holders = [k for unit in self.weights for k in unit]
        return tuple(sorted(set(holders), key=lambda k: (holders.count(k), k)))

    @property
    def most_present(self) -> int:
        """More pairs of class and fold there cannot be: a class is in no more folds than it has units."""
        return sum(min(self.num_folds, sum(k in unit for unit in self.weights)) for k in self.classes)

    def num_present(self, folds: Sequence[int]) -> int:
        """In how many pairs of class and fold the fold has the class."""
        return len({(k, fold) for unit, fold in zip(self.weights, folds, strict=True) for k in unit})

    def greedy(self) -> list[int]:
        """Rarest class first, each unit to the fold that lacks most of the class, then of ground."""
        wanted = [dict.fromkeys(self.classes, SCALE) for _ in range(self.num_folds)]
        ground = self.classes[-1]
        folds = [-1] * len(self.weights)
        while left := [unit for unit, fold in enumerate(folds) if fold < 0]:
            rarest = min(self.classes, key=lambda k: sum(k in self.weights[unit] for unit in left) or len(folds) + 1)
            for unit in left:
                if rarest not in self.weights[unit]:
                    continue
                fold = max(range(self.num_folds), key=lambda f: (wanted[f][rarest], wanted[f][ground], -f))
                folds[unit] = fold
                for k, weight in self.weights[unit].items():
                    wanted[fold][k] -= self.num_folds * weight
        return folds

    def exhaustive(self) -> list[int]:
        """The deal with the most pairs of class and fold; the best found where the steps run out."""
        rank = {k: place for place, k in enumerate(self.classes)}
        order = sorted(range(len(self.weights)), key=lambda unit: min(rank[k] for k in self.weights[unit]))
        search = _Search([frozenset(self.weights[unit]) for unit in order], self.num_folds, self.most_present)
        found = dict(zip(order, search.best(), strict=True))
        return [found[unit] for unit in range(len(order))]

    def evened(self, folds: Sequence[int]) -> list[int]:
        """Move and swap units as long as that makes areas more even and takes no class from a fold."""
        table = _Table(self, list(folds))
        for _ in range(MAX_ROUNDS):
            if not sum(table.improve(changes) for changes in self._changes(table.folds)):
                break
        return table.folds

    def _changes(self, folds: list[int]) -> Iterator[list[tuple[int, int]]]:
        """Every move of a unit to another fold, then every swap of two units: units with their new folds."""
        for unit in range(len(folds)):
            for fold in range(self.num_folds):
                if fold != folds[unit]:
                    yield [(unit, fold)]
        if len(folds) <= MAX_SEARCHED:
            for one, other in combinations(range(len(folds)), 2):
                if folds[one] != folds[other]:
                    yield [(one, folds[other]), (other, folds[one])]


class _Table:
    """What each fold holds, kept up to date while units change places."""

    def __init__(self, deal: _Deal, folds: list[int]) -> None:
        self.folds = folds
        self._weights = deal.weights
        self._num_folds = deal.num_folds
        self._holders = [dict.fromkeys(deal.classes, 0) for _ in range(deal.num_folds)]
        self._held = [dict.fromkeys(deal.classes, 0) for _ in range(deal.num_folds)]
        for unit, fold in enumerate(folds):
            self._put(unit, fold, 1)

    def improve(self, change: list[tuple[int, int]]) -> bool:
        """Make the change if it is one for the better: more classes in folds, or as many and more even areas."""
        touched = {self.folds[unit] for unit, _ in change} | {fold for _, fold in change}
        before = self._badness(touched)
        back = [(unit, self.folds[unit]) for unit, _ in change]
        self._move(change)
        if self._badness(touched) < before:
            return True
        self._move(back)
        return False

    def _badness(self, folds: set[int]) -> tuple[int, int]:
        absent = sum(not holders for fold in folds for holders in self._holders[fold].values())
        uneven = sum((self._num_folds * held - SCALE) ** 2 for fold in folds for held in self._held[fold].values())
        return absent, uneven

    def _move(self, change: list[tuple[int, int]]) -> None:
        for unit, fold in change:
            self._put(unit, self.folds[unit], -1)
            self._put(unit, fold, 1)
            self.folds[unit] = fold

    def _put(self, unit: int, fold: int, sign: int) -> None:
        for k, weight in self._weights[unit].items():
            self._holders[fold][k] += sign
            self._held[fold][k] += sign * weight


class _Search:
    """Depth first through all deals, without those that cannot beat the best one, and those that only rename folds."""

    def __init__(self, units: Sequence[frozenset[int]], num_folds: int, most: int) -> None:
        self._units = units
        self._num_folds = num_folds
        self._most = most
        # after[n][k]: how many of the units from n on have class k.
        self._after: list[dict[int, int]] = [{}]
        for unit in reversed(units):
            self._after.insert(0, {k: self._after[0].get(k, 0) + (k in unit) for k in self._after[0].keys() | unit})
        self._present: list[set[int]] = [set() for _ in range(num_folds)]
        self._folds: list[int] = []
        self._best: tuple[int, list[int]] = (-1, [0] * len(units))
        self._steps = 0

    def best(self) -> list[int]:
        self._go_on()
        return self._best[1]

    def _go_on(self) -> None:
        number = len(self._folds)
        if number == len(self._units):
            self._best = max(self._best, (sum(map(len, self._present)), list(self._folds)), key=lambda pair: pair[0])
            return
        num_used = max(self._folds, default=-1) + 1
        for fold in range(min(num_used + 1, self._num_folds)):
            self._steps += 1
            if self._steps > MAX_STEPS or self._best[0] == self._most:
                return
            new = self._units[number] - self._present[fold]
            self._present[fold] |= new
            self._folds.append(fold)
            if self._reachable(number + 1) > self._best[0]:
                self._go_on()
            self._folds.pop()
            self._present[fold] -= new

    def _reachable(self, number: int) -> int:
        """How many pairs of class and fold there can still be with the units before `number` dealt."""
        classes = self._after[0]
        present = {k: sum(k in fold for fold in self._present) for k in classes}
        return sum(min(self._num_folds, present[k] + self._after[number].get(k, 0)) for k in classes)

"""Which dimensions of the space mattered, as far as the trials of a study can tell."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.dimensions import Value, dimension_value, searched_dimensions
from results.facts import mean_jaccard
from results.phrases import counted
from trials_db.records import Trial

MIN_TRIALS = 8
"""With fewer trials nothing is said about a dimension."""

NUM_SHUFFLES = 999
MAX_LEVELS = 6
CHANCE_LIMIT = 0.05


@dataclass(frozen=True)
class DimensionEffect:
    """What the trials say about one dimension, looked at by itself.

    Attributes:
        path: The dimension's path in the search space.
        values: Its value in each trial that has the dimension: numbers, or names of options.
        jaccard: Mean validation Jaccard of the same trials.
        explained: Share of the variance of the trials' ranks that goes with the dimension, in [0, 1], corrected for
            the number of groups; about 0 for a dimension without effect.
        chance: How often shuffled results reach that share, in (0, 1]: a permutation test.
    """

    path: str
    values: tuple[str | float, ...]
    jaccard: tuple[float, ...]
    explained: float
    chance: float

    @property
    def is_number(self) -> bool:
        """Whether the dimension is a number rather than a choice of options."""
        return all(isinstance(value, float) for value in self.values)

    @property
    def may_be_chance(self) -> bool:
        """Whether chance alone reaches the share in more than one of twenty studies."""
        return self.chance > CHANCE_LIMIT


def dimension_effects(trials: Iterable[Trial]) -> list[DimensionEffect]:
    """Measure every searched dimension by itself, the most telling first.

    Trials are ranked by Jaccard and grouped by the dimension's value (numbers with many values are cut into three
    groups of equal size, so that a best value in the middle is seen too). The share explained is the adjusted
    correlation ratio of the ranks, epsilon squared [1]. Interplay of dimensions is not seen, and since the search
    favours what went well, values are not tried equally often.

    Args:
        trials: All trials of a study; those that are not done are left out.

    Returns:
        One effect per dimension with at least `MIN_TRIALS` trials and two values; empty where trials are too few.

    References:
        [1] T. L. Kelley, "An unbiased correlation ratio measure", PNAS 21 (1935).
    """
    scored = [(trial.decoded(), value, trial.point) for trial in trials if (value := mean_jaccard(trial)) is not None]
    effects = []
    for path in searched_dimensions(point for _, _, point in scored):
        pairs = [(at, value) for candidate, value, _ in scored if (at := dimension_value(candidate, path)) is not None]
        effect = _effect(path, pairs)
        if effect is not None:
            effects.append(effect)
    return sorted(effects, key=lambda effect: (-effect.explained, effect.path))


def effects_missing(trials: Iterable[Trial]) -> str:
    """Why `dimension_effects` says nothing, in a few words; empty where it says something."""
    trials = list(trials)
    num_done = sum(mean_jaccard(trial) is not None for trial in trials)
    if num_done < MIN_TRIALS:
        return f"{counted(num_done, 'trial')} of the {MIN_TRIALS} that it takes {'is' if num_done == 1 else 'are'} done"
    return "" if dimension_effects(trials) else "what was tried, or what came of it, differs too little"


def _effect(path: str, pairs: Sequence[tuple[str | float, float]]) -> DimensionEffect | None:
    values = tuple(value for value, _ in pairs)
    jaccard = tuple(each for _, each in pairs)
    if len(pairs) < MIN_TRIALS or len(set(values)) < 2 or len(set(jaccard)) < 2:
        return None
    groups = group_numbers(values)
    ranks = _ranks(np.asarray(jaccard))
    explained = _epsilon_squared(groups, ranks[None, :])[0]
    rng = np.random.default_rng(0)
    shuffled = _epsilon_squared(groups, rng.permuted(np.tile(ranks, (NUM_SHUFFLES, 1)), axis=1))
    chance = (1 + int(np.sum(shuffled >= explained - 1e-12))) / (NUM_SHUFFLES + 1)
    return DimensionEffect(path, values, jaccard, explained=max(0.0, float(explained)), chance=chance)


def group_numbers(values: Sequence[Value]) -> NDArray[np.intp]:
    """Number of the group that each value falls in: one per distinct value, or three parts of equal size."""
    levels = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    if len(levels) <= MAX_LEVELS or any(isinstance(value, str) for value in values):
        place = {level: index for index, level in enumerate(levels)}
        return np.array([place[value] for value in values], dtype=np.intp)
    numbers = np.asarray(values, dtype=float)
    cuts = np.quantile(numbers, (1 / 3, 2 / 3))
    return np.searchsorted(cuts, numbers, side="left").astype(np.intp)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=float)


def _epsilon_squared(groups: NDArray[np.intp], ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted correlation ratio for each row of `ranks` `(R, N)`."""
    num_values = ranks.shape[1]
    present, indices = np.unique(groups, return_inverse=True)
    if len(present) >= num_values:
        return np.zeros(len(ranks))
    member = np.eye(len(present))[indices]
    sizes = member.sum(axis=0)
    means = ranks @ member / sizes
    total = ((ranks - ranks.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    between = (sizes * (means - ranks.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    within = total - between
    return np.asarray(1.0 - (within / (num_values - len(present))) / (total / (num_values - 1)))

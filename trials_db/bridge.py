"""Hyperopt proposes: from the trials so far to the next candidate, by the seed and the losses alone."""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from hyperopt import STATUS_FAIL, STATUS_OK, anneal, mix, rand, space_eval, tpe
from hyperopt.base import JOB_STATE_DONE, Domain, Trials

from search_space.candidate import Candidate
from search_space.decode import decode, encode, to_plain
from search_space.default_space import Space
from search_space.dimensions import Choice, Dimension, Integer, Real
from search_space.space import hyperopt_space
from search_space.starting_points import starting_points
from search_space.study import SearchSettings
from trials_db.records import NewTrial, Point, Trial, TrialState

MOST_GOOD = 25
"""Of more good trials TPE makes no use."""

MOST_OTHERS = 400
"""So many of the other trials an algorithm is told of, the newest: TPE gives old ones little weight, and the time it
takes grows with all it is told."""

MIXED = ((0.5, "tpe"), (0.4, "anneal"), (0.1, "rand"))
"""Shares of the algorithms in `mix`."""


class Proposal(NamedTuple):
    """What to try next.

    Attributes:
        point: Label to number; for a choice, the index of its option. Only the active labels.
        sample: The plain mapping that decodes into a `Candidate`.
    """

    point: Point
    sample: dict[str, Any]


def propose(space: Space, history: Sequence[Trial], number: int, seed: int, settings: SearchSettings) -> Proposal:
    """Propose trial `number`.

    The algorithm is told of the trials before it: how those ended that it may know of, and that the others are under
    way. With a `lookahead` these are the trials before `number - lookahead`, even where others have ended by
    now: so the proposal is the same whenever and by however many workers the trials are run. Without, they are all that
    have ended. The first trials are the study's starting points; those up to `startup_trials` are drawn from the prior.

    Args:
        space: What can be tried.
        history: Trials of the study, all before `number`; with a lookahead those before `number - lookahead` ended.
        number: Number of the trial to propose, from 0.
        seed: The study's seed.
        settings: Algorithm, start-up trials, gamma and lookahead.

    Returns:
        The point and its sample. A point may be proposed twice.

    Raises:
        ValueError: A trial is missing or has not ended.
    """
    expression, domain = _made_of(space)
    if not domain.params:
        return Proposal({}, to_plain(space_eval(expression, {})))
    told = _told(history, number, settings.lookahead)
    starts = starting_points(space, settings.start_from, settings.found)
    if number < len(starts):
        return Proposal(starts[number], to_plain(space_eval(expression, starts[number])))
    num_good = _num_good(told, settings.gamma)
    heard = _heard(told, num_good)
    suggest = _suggest("rand" if number < settings.startup_trials else settings.algorithm, num_good, len(heard))
    trials = _as_hyperopt_trials(heard, list(domain.params))
    docs = suggest([number], domain, trials, derived_seed(seed, number, "proposal"))
    point = {label: to_plain(values[0]) for label, values in docs[0]["misc"]["vals"].items() if len(values)}
    return Proposal(point, to_plain(space_eval(expression, point)))


def new_trial(space: Space, history: Sequence[Trial], number: int, seed: int, settings: SearchSettings) -> NewTrial:
    """Propose trial `number` as `propose` does, decoded once and ready for the store.

    Raises:
        MalformedError: The space proposes what is no `Candidate`.
        ValueError: See `propose`.
    """
    proposal = propose(space, history, number, seed, settings)
    candidate = decode(Candidate, proposal.sample, where=f"proposal {number}")
    return NewTrial(
        number=number,
        point=proposal.point,
        candidate=encode(candidate),
        seed=derived_seed(seed, number, "trial"),
    )


def fits(space: Space, point: Point) -> bool:
    """Whether the space could have proposed this point; the algorithms ask, and break on one it could not."""
    return all(path in space and _fits(space[path], value) for path, value in point.items())


def derived_seed(seed: int, number: int, purpose: str) -> int:
    """A seed in [0, 2**31) that depends on the study's seed, the trial's number and the purpose alone."""
    digest = hashlib.sha256(f"{seed}/{number}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def _fits(dimension: Dimension, value: float) -> bool:
    match dimension:
        case Choice(options=options):
            return value in range(len(options))
        case Real(low=low, high=high) | Integer(low=low, high=high):
            # Logarithms are not turned back to the last digit.
            return low - 1e-6 * abs(low) <= value <= high + 1e-6 * abs(high)
        case _:
            return False


_MADE: dict[str, tuple[dict[str, Any], Domain]] = {}
"""What Hyperopt makes of the spaces in use, which takes it about as long as to propose."""

MOST_MADE = 4


def _made_of(space: Space) -> tuple[dict[str, Any], Domain]:
    """The space's expression and its domain, made once; the algorithms change neither."""
    key = repr(list(space.items()))
    made = _MADE.get(key)
    if made is None:
        expression = hyperopt_space(space)
        made = expression, Domain(_never_called, expression)
        for oldest in list(_MADE)[: 1 - MOST_MADE]:
            _MADE.pop(oldest, None)
        _MADE[key] = made
    return made


class _Told(NamedTuple):
    """A trial as an algorithm shall see it.

    Attributes:
        number: Number in the study.
        point: What was tried.
        loss: What it ended with; None where it failed, was pruned, or is under way.
        ended: Whether it ended.
        pruned: Of a pruned trial, minus the epochs it had, and the loss it had reached; None of others.
    """

    number: int
    point: Point
    loss: float | None
    ended: bool
    pruned: tuple[int, float] | None

    @property
    def has_failed(self) -> bool:
        """Whether nothing is known of it but that it is bad."""
        return self.ended and self.loss is None and self.pruned is None

    @property
    def rank(self) -> tuple[int, float, float, int]:
        """Sort key: by loss, then pruned ones, those that came further first, then those under way."""
        if self.loss is not None:
            return 0, self.loss, 0.0, self.number
        if self.pruned is not None:
            return 1, *self.pruned, self.number
        return 2, 0.0, 0.0, self.number


def _told(history: Sequence[Trial], number: int, lookahead: int) -> list[_Told]:
    by_number = {trial.number: trial for trial in history}
    told = []
    for each in range(number):
        if each not in by_number:
            raise ValueError(f"trial {number} is proposed before trial {each}")
        trial = by_number[each]
        ended = each < number - lookahead if lookahead else trial.state.is_final
        if ended and not trial.state.is_final:
            raise ValueError(f"trial {number} is proposed before trial {each} has ended")
        # Without a point, as of a damaged trial, nothing is known of where its loss was reached.
        knows = ended and bool(trial.point)
        pruned = _pruned(trial) if knows else None
        told.append(_Told(each, trial.point, trial.loss if knows else None, ended, pruned))
    return told


def _pruned(trial: Trial) -> tuple[int, float] | None:
    best = trial.best_reported
    if trial.state is not TrialState.PRUNED or best is None:
        return None
    return -trial.reports[-1].epoch, 1.0 - best


def _num_good(told: Sequence[_Told], gamma: float) -> int:
    """How many trials are good ones: those TPE takes by itself, but none without a loss.

    TPE takes ceil(gamma * sqrt(N)), whatever their losses; while most trials fail, that would draw it to the failures.
    """
    num_losses = sum(trial.loss is not None for trial in told)
    return min(MOST_GOOD, math.ceil(gamma * math.sqrt(len(told))), num_losses)


def _heard(told: Sequence[_Told], num_good: int) -> list[_Told]:
    """The good trials and the newest of the others, by number."""
    if len(told) <= MOST_GOOD + MOST_OTHERS:
        return list(told)
    good = {trial.number for trial in sorted(told, key=lambda trial: trial.rank)[: max(num_good, MOST_GOOD)]}
    others = [trial for trial in told if trial.number not in good][-MOST_OTHERS:]
    return sorted([trial for trial in told if trial.number in good] + others)


Suggest = Callable[..., list[dict[str, Any]]]


def _suggest(algorithm: str, num_good: int, num_heard: int) -> Suggest:
    """One of Hyperopt's algorithms, by its name there."""
    # What makes TPE take exactly the good ones of those it hears of.
    gamma = max(0.0, num_good - 0.5) / math.sqrt(max(1, num_heard))
    known: dict[str, Suggest] = {
        "tpe": partial(tpe.suggest, n_startup_jobs=0, gamma=gamma, verbose=False),
        "anneal": anneal.suggest,
        "rand": rand.suggest,
    }
    known["mix"] = partial(mix.suggest, p_suggest=[(share, known[name]) for share, name in MIXED])
    return known[algorithm]


def _as_hyperopt_trials(told: Sequence[_Told], labels: Sequence[str]) -> Trials:
    """Make what Hyperopt's algorithms read.

    They use the order of the losses alone. They are told their ranks, so that equal losses have an order too: that
    of their numbers, not that of a sorting routine. What is under way is a little worse than the worst: so what many
    workers try at the same time lies apart. A failure is told without a loss, which is taken as the worst.
    """
    ranks = {trial.number: rank for rank, trial in enumerate(sorted(told, key=lambda trial: trial.rank))}
    trials = Trials()
    for trial in told:
        result = (
            {"status": STATUS_FAIL} if trial.has_failed else {"status": STATUS_OK, "loss": float(ranks[trial.number])}
        )
        misc = {
            "tid": trial.number,
            "cmd": None,
            "workdir": None,
            "idxs": {label: [trial.number] if label in trial.point else [] for label in labels},
            "vals": {label: [trial.point[label]] if label in trial.point else [] for label in labels},
        }
        (doc,) = trials.new_trial_docs([trial.number], [None], [result], [misc])
        doc["state"] = JOB_STATE_DONE
        # Past `insert_trial_docs`, which copies and checks each document through BSON.
        trials._insert_trial_docs([doc])
    trials.refresh()
    return trials


def _never_called(_sample: Any) -> float:
    raise NotImplementedError("candidates are tried by workers")

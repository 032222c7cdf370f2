"""Hyperopt proposes: from the trials so far to the next candidate, by the seed and the losses alone."""

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from hyperopt import STATUS_FAIL, STATUS_OK, space_eval, tpe
from hyperopt.base import JOB_STATE_DONE, Domain, Trials

from search_space.candidate import Candidate
from search_space.decode import decode, encode, to_plain
from search_space.space import Space, hyperopt_space
from search_space.starting_points import starting_points
from search_space.study import SearchSettings
from trials_db.records import NewTrial, Point, Trial


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

    TPE is told of every trial before it: how the trials before `number - lookahead` ended, and that the others
    are under way, even where they have ended by now. So the proposal is the same whenever and by however many
    workers the trials are run. The first ones are the study's starting points; those up to `startup_trials` are drawn
    from the prior.

    Args:
        space: What can be tried.
        history: Trials of the study, at least all before `number - lookahead` ended.
        number: Number of the trial to propose, from 0.
        seed: The study's seed.
        settings: Start-up trials, gamma and lookahead.

    Returns:
        The point and its sample. A point may be proposed twice.

    Raises:
        ValueError: A trial before `number - lookahead` is missing or has not ended.
    """
    expression = hyperopt_space(space)
    domain = Domain(_never_called, expression)
    if not domain.params:
        return Proposal({}, to_plain(space_eval(expression, {})))
    told = _told(history, number, settings.lookahead)
    starts = starting_points(space, settings.start_from)
    if number < len(starts):
        return Proposal(starts[number], to_plain(space_eval(expression, starts[number])))
    docs = tpe.suggest(
        [number],
        domain,
        _as_hyperopt_trials(told, list(domain.params)),
        derived_seed(seed, number, "proposal"),
        n_startup_jobs=settings.startup_trials,
        gamma=_gamma(told, settings.gamma),
        verbose=False,
    )
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


def derived_seed(seed: int, number: int, purpose: str) -> int:
    """A seed in [0, 2**31) that depends on the study's seed, the trial's number and the purpose alone."""
    digest = hashlib.sha256(f"{seed}/{number}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


class _Told(NamedTuple):
    """A trial as TPE shall see it."""

    number: int
    point: Point
    loss: float | None
    ended: bool


def _told(history: Sequence[Trial], number: int, lookahead: int) -> list[_Told]:
    by_number = {trial.number: trial for trial in history}
    told = []
    for each in range(number):
        if each not in by_number:
            raise ValueError(f"trial {number} is proposed before trial {each}")
        trial = by_number[each]
        ended = each < number - lookahead
        if ended and not trial.state.is_final:
            raise ValueError(f"trial {number} is proposed before trial {each} has ended")
        told.append(_Told(each, trial.point, trial.loss if ended else None, ended))
    return told


def _rank(trial: _Told) -> tuple[bool, float, int]:
    """Sort key: by loss, then all without one; so what is under way is a little worse than the worst loss."""
    return trial.loss is None, trial.loss or 0.0, trial.number


def _as_hyperopt_trials(told: Sequence[_Told], labels: Sequence[str]) -> Trials:
    """Make what `tpe.suggest` reads.

    TPE uses the order of the losses alone. It is told their ranks, so that equal losses have an order too: that
    of their numbers, not that of a sorting routine. A failure is told without a loss, which TPE takes as the worst.
    """
    ranks = {trial.number: rank for rank, trial in enumerate(sorted(told, key=_rank))}
    trials = Trials()
    for trial in told:
        failed = trial.ended and trial.loss is None
        result = {"status": STATUS_FAIL} if failed else {"status": STATUS_OK, "loss": float(ranks[trial.number])}
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


def _gamma(told: Sequence[_Told], gamma: float) -> float:
    """Lower gamma where TPE would otherwise count a trial without a loss among its good ones.

    TPE takes ceil(gamma * sqrt(N)) trials as good, whatever their losses; while most trials fail, that would
    draw it to the failures.
    """
    num_losses = sum(trial.loss is not None for trial in told)
    most = max(0.0, num_losses - 0.5) / math.sqrt(max(1, len(told)))
    return min(gamma, most)


def _never_called(_sample: Any) -> float:
    raise NotImplementedError("candidates are tried by workers")

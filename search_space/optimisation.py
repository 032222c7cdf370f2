"""How weights are optimised: the optimizer, the course of its learning rate, and what is averaged of the weights.

Times are shares of the whole training, as one plan serves short and long budgets. Only patience is told in epochs: it
waits for a score, and there is one after each epoch.
"""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from search_space.decode import Frozen, ListAsTuple, Whole

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Inside = Annotated[float, Field(gt=0.0, lt=1.0)]
Factor = Annotated[float, Field(gt=0.0, lt=1.0)]
Floor = Annotated[float, Field(ge=0.0, lt=1.0)]


class Adam(Frozen):
    """Steps along the mean gradient, by the root of its mean square (Kingma and Ba 2015, arXiv:1412.6980)."""

    kind: Literal["adam"] = "adam"


class AdamW(Frozen):
    """Adam with weights that shrink by themselves (Loshchilov and Hutter 2019, arXiv:1711.05101).

    Attributes:
        weight_decay: In each step, kernels lose this share of themselves times the learning rate. Biases and what
            normalisation learns lose nothing.
    """

    kind: Literal["adamw"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01


class Nadam(Frozen):
    """Adam with Nesterov's momentum (Dozat 2016)."""

    kind: Literal["nadam"] = "nadam"


class RMSprop(Frozen):
    """Steps along the gradient, by the root of its mean square (Hinton 2012, lecture 6e)."""

    kind: Literal["rmsprop"] = "rmsprop"


class SGD(Frozen):
    """Gradient descent with momentum (Sutskever et al. 2013).

    Attributes:
        momentum: What stays of the last step; in the long run steps grow by 1 / (1 - momentum).
        nesterov: Whether the gradient counts as if that step had been taken.
    """

    kind: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    nesterov: bool = True


Optimizer = Annotated[Adam | AdamW | Nadam | RMSprop | SGD, Field(discriminator="kind")]


class ConstantRate(Frozen):
    """The learning rate stays."""

    kind: Literal["constant"] = "constant"


def _ascending(shares: tuple[float, ...]) -> tuple[float, ...]:
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise ValueError("must rise, such as [0.5, 0.75]")
    return shares


class StepRate(Frozen):
    """The learning rate falls at given times.

    Attributes:
        at: When, as shares of the training, rising.
        factor: What is left of it each time.
    """

    kind: Literal["steps"] = "steps"
    at: Annotated[tuple[Inside, ...], ListAsTuple, Field(min_length=1, max_length=20), AfterValidator(_ascending)] = (
        0.5,
        0.75,
    )
    factor: Factor = 0.1


class PlateauRate(Frozen):
    """The learning rate falls whenever the validation stays without a better epoch.

    Attributes:
        patience: Epochs without a better one, after the best or after the last fall, before it falls; where not every
            epoch is validated, with the next validation.
        factor: What is left of it each time.
    """

    kind: Literal["plateau"] = "plateau"
    patience: Annotated[Whole, Field(ge=1, le=1000)] = 5
    factor: Factor = 0.5


class CosineRate(Frozen):
    """The learning rate falls along half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983).

    Attributes:
        floor: What is left of it at the end.
    """

    kind: Literal["cosine"] = "cosine"
    floor: Floor = 0.0


class PolynomialRate(Frozen):
    """The learning rate is (1 - share of the training) ** power (Chen et al. 2018, arXiv:1606.00915).

    Attributes:
        power: 1 falls evenly; nnU-Net has 0.9.
    """

    kind: Literal["polynomial"] = "polynomial"
    power: Annotated[float, Field(gt=0.0, le=5.0)] = 0.9


class OneCycleRate(Frozen):
    """The learning rate rises and falls once, each along half a cosine (Smith and Topin 2019, arXiv:1708.07120).

    Attributes:
        peak_at: When it is the plan's learning rate, as a share of the training.
        start: What it begins at, as a share of that.
        floor: What it ends at, as a share of that.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    peak_at: Inside = 0.3
    start: Factor = 0.04
    floor: Floor = 0.0


class CyclicRate(Frozen):
    """The learning rate stays, then falls time and again along half a cosine (Huang et al. 2017, arXiv:1704.00109).

    Cycles end with epochs, as weights are looked at then. A training with fewer epochs than cycles has a cycle per
    epoch.

    Attributes:
        start: When the first fall begins, as a share of the training.
        cycles: How often it falls.
        floor: What is left of it at its lows.
    """

    kind: Literal["cyclic"] = "cyclic"
    start: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    cycles: Annotated[Whole, Field(ge=1, le=100)] = 4
    floor: Floor = 0.0

    def begins_after(self, epochs: int) -> int:
        """How many epochs of a training pass before the first fall; one is always left."""
        return min(round(epochs * self.start), epochs - 1)

    def lows_after(self, epochs: int) -> tuple[int, ...]:
        """After which epochs of a training, counted from 1, the rate is at a low; the last is always one of them."""
        begin = self.begins_after(epochs)
        return _evenly(begin, epochs, self.cycles)


Schedule = Annotated[
    ConstantRate | StepRate | PlateauRate | CosineRate | PolynomialRate | OneCycleRate | CyclicRate,
    Field(discriminator="kind"),
]


class NoAveraging(Frozen):
    """The weights of the best epoch count."""

    kind: Literal["none"] = "none"


class MovingAverage(Frozen):
    """Validated and kept are averages of the weights (Polyak and Juditsky 1992), which each step moves a little.

    Early steps move them more, by no less than 9 / (8 + number of the step): else a short training would mostly average
    the random start. So they never reach farther back than about a tenth of the training so far. Statistics of batch
    normalisation are those of the weights in training.

    Attributes:
        momentum: What stays of the averages in a step; they reach 1 / (1 - momentum) steps back.
    """

    kind: Literal["ema"] = "ema"
    momentum: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.99


class SnapshotAverage(Frozen):
    """The mean of several epochs, at the lows of the learning rate.

    Of weights it is stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407), of predictions a snapshot
    ensemble (Huang et al. 2017, arXiv:1704.00109), which maps as many times slower. Only a cyclic rate has several
    lows: with any other, snapshots are spread evenly over the last third of the training.

    Attributes:
        num: How many, the last ones; fewer where there are fewer lows, or epochs.
        of: Whether the weights, with the statistics of batch normalisation, or the maps are averaged.
    """

    kind: Literal["snapshots"] = "snapshots"
    num: Annotated[Whole, Field(ge=2, le=20)] = 3
    of: Literal["weights", "predictions"] = "weights"

    def taken_after(self, schedule: Schedule, epochs: int) -> tuple[int, ...]:
        """After which epochs of a training, counted from 1, rising; the last is always one of them."""
        if isinstance(schedule, CyclicRate):
            return schedule.lows_after(epochs)[-self.num :]
        return _evenly(min(round(epochs * 2 / 3), epochs - 1), epochs, self.num)


Averaging = Annotated[NoAveraging | MovingAverage | SnapshotAverage, Field(discriminator="kind")]


def _evenly(begin: int, end: int, num: int) -> tuple[int, ...]:
    """Up to `num` whole numbers, evenly spread over those above `begin` up to `end`, which is the last."""
    spread = (begin + round((end - begin) * number / num) for number in range(1, num + 1))
    return tuple(sorted({each for each in spread if each > begin}))

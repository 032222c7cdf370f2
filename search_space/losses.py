"""What a training lowers: the weights of a sum of losses, and how these weigh misses, classes and depths."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from search_space.decode import Frozen
from search_space.errors import MalformedError, did_you_mean
from search_space.names import ClassName

Weight = Annotated[float, Field(ge=0.0, le=100.0)]
Factor = Annotated[float, Field(gt=0.0, le=1000.0)]


class LossMix(Frozen):
    """A weighted sum of losses; the weights need not add up to one.

    Each loss is taken per class over the known pixels of a batch, then averaged over the classes.

    Attributes:
        bce: Weight of binary cross-entropy.
        focal: Weight of focal loss.
        dice: Weight of soft Dice loss.
        jaccard: Weight of soft Jaccard loss.
        log_jaccard: Weight of the negative logarithm of the soft Jaccard index.
        tversky: Weight of Tversky loss.
        lovasz: Weight of the Lovasz hinge.
    """

    bce: Weight = 0.0
    focal: Weight = 0.0
    dice: Weight = 0.0
    jaccard: Weight = 0.0
    log_jaccard: Weight = 0.0
    tversky: Weight = 0.0
    lovasz: Weight = 0.0

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError("at least one loss must have a positive weight, such as bce = 1.0")
        return self


class LossDetails(Frozen):
    """What losses take more seriously; each number matters to the losses that `HEEDED_BY` names.

    Attributes:
        positive_weight: How many pixels without its class a pixel of the class counts for in cross-entropy and focal
            loss.
        focal_gamma: How fast focal loss fades where the network is right; 0 makes it cross-entropy.
        miss_share: Of Tversky loss: how much a missed pixel counts, a false alarm counting the rest of 1. A half
            makes it Dice; more finds more, with more false alarms.
        energy: Weight of the squared error of energies, for networks that tell them (`architecture.energy`).
        class_weights: Class to what its losses weigh in the mean over classes; those that are not named weigh 1.
            Trainings of some classes alone ignore the others.
    """

    positive_weight: Factor = 1.0
    focal_gamma: Annotated[float, Field(ge=0.0, le=10.0)] = 2.0
    miss_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    energy: Weight = 1.0
    class_weights: dict[ClassName, Factor] = {}

    def shares_of(self, class_names: Iterable[str]) -> tuple[float, ...]:
        """What each class counts for in the mean over these; they sum to 1."""
        weights = [self.class_weights.get(name, 1.0) for name in class_names]
        return tuple(weight / sum(weights) for weight in weights)


HEEDED_BY: Mapping[str, frozenset[str]] = {
    "positive_weight": frozenset({"bce", "focal"}),
    "focal_gamma": frozenset({"focal"}),
    "miss_share": frozenset({"tversky"}),
}
"""Details to the losses that they make a difference to."""


def check_weighted_classes(class_weights: Mapping[str, float], class_names: Iterable[str], *, where: str) -> None:
    """Refuse weights of classes that there are not.

    Args:
        class_weights: Class to weight.
        class_names: The classes there are.
        where: What the weights are, for the error.

    Raises:
        MalformedError: There is no such class; the nearest is named.
    """
    known = tuple(class_names)
    for name in class_weights:
        if name not in known:
            raise MalformedError(
                f"{where} names a class that the study does not have",
                received=name,
                remedy=did_you_mean(name, known),
            )

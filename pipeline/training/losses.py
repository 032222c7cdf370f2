"""Training losses that leave unknown pixels out.

Targets carry the masks and, as their last channel, which pixels are known: `(N, H, W, K + 1)`. Each loss is taken for
every class by itself, over the known pixels of the whole batch: one number per class, `(K,)`. All are computed in
float32, whatever the network computes in; one without a known pixel is 0, and so is its gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from pipeline.training.energy import energy_errors
from search_space.decode import decode, encode
from search_space.losses import LossDetails, LossMix

Tensor = Any


@keras.saving.register_keras_serializable("mapgrove")
class MixedLoss(keras.losses.Loss):  # type: ignore[misc]
    """The weighted sum of losses that a training plan asks for; a scalar per batch.

    Args:
        mix: Weights of the losses.
        details: What they take more seriously.
        class_names: The classes `(K,)` in the order of the maps.
        name: For Keras.

    Attributes:
        weights: Name to weight, of the losses that have one.
    """

    def __init__(
        self, mix: LossMix, details: LossDetails, class_names: Sequence[str], name: str = "mixed_loss"
    ) -> None:
        super().__init__(name=name)
        self.mix = mix
        self.details = details
        self.class_names = tuple(class_names)
        self.weights: dict[str, float] = {name: weight for name, weight in encode(mix).items() if weight}
        self._shares = details.shares_of(class_names)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Weighted sum over the batch; `y_true` is `(N, H, W, K + 1)`, `y_pred` is `(N, H, W, K)`."""
        return self.total(self.parts(y_true[..., :-1], y_pred, y_true[..., -1:]))

    def parts(self, masks: Tensor, probabilities: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Each loss by itself, before it is weighted.

        Args:
            masks: `(N, H, W, K)`.
            probabilities: `(N, H, W, K)`.
            known: Which pixels count, 1 or 0, `(N, H, W, 1)`.

        Returns:
            Name to scalar, the weighted mean over the classes; in the order of `LossMix`.
        """
        masks, probabilities, known = (ops.cast(each, "float32") for each in (masks, probabilities, known))
        return {
            name: self._over_classes(LOSSES[name](masks, probabilities, known, self.details)) for name in self.weights
        }

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of what `parts` returned."""
        terms = [weight * parts[name] for name, weight in self.weights.items()]
        return sum(terms[1:], start=terms[0])

    def energy(self, depths: Tensor, predicted: Tensor, known: Tensor) -> Tensor:
        """Mean squared error of energies, a scalar before it is weighted by `details.energy`; see `energy_errors`."""
        return self._over_classes(energy_errors(depths, predicted, known))

    def _over_classes(self, losses: Tensor) -> Tensor:
        if losses.shape[0] != len(self._shares):
            raise ValueError(f"{losses.shape[0]} maps for {len(self._shares)} classes")
        return ops.sum(losses * ops.convert_to_tensor(self._shares, "float32"))

    def get_config(self) -> dict[str, Any]:
        """Plain description for Keras."""
        return {
            "mix": encode(self.mix),
            "details": encode(self.details),
            "class_names": list(self.class_names),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MixedLoss":
        """Inverse of `get_config`."""
        where = "a saved loss"
        mix = decode(LossMix, config["mix"], where=where)
        return cls(mix, decode(LossDetails, config["details"], where=where), config["class_names"], config["name"])


def binary_crossentropy(masks: Tensor, probabilities: Tensor, known: Tensor, details: LossDetails) -> Tensor:
    """Mean over known pixels; those of the class count `positive_weight` times, in the sum but not in their number."""
    return _mean_over_known(_pixel_crossentropy(masks, probabilities, details.positive_weight), known)


def focal(masks: Tensor, probabilities: Tensor, known: Tensor, details: LossDetails) -> Tensor:
    """Cross-entropy times (1 - probability of the truth) to the power of `focal_gamma`, mean over known pixels.

    Source:
        Lin et al., "Focal Loss for Dense Object Detection", 2017; their balancing factor is `positive_weight`.
    """
    inside = _inside(probabilities)
    of_truth = masks * inside + (1.0 - masks) * (1.0 - inside)
    crossentropy = _pixel_crossentropy(masks, probabilities, details.positive_weight)
    return _mean_over_known((1.0 - of_truth) ** details.focal_gamma * crossentropy, known)


def dice(masks: Tensor, probabilities: Tensor, known: Tensor, _: LossDetails) -> Tensor:
    """1 - soft Dice coefficient, smoothed by 1."""
    both, misses, alarms = _overlaps(masks, probabilities, known)
    return 1.0 - (2.0 * both + 1.0) / (2.0 * both + misses + alarms + 1.0)


def jaccard(masks: Tensor, probabilities: Tensor, known: Tensor, _: LossDetails) -> Tensor:
    """1 - soft Jaccard index, smoothed by 1."""
    return 1.0 - _soft_jaccard(masks, probabilities, known)


def log_jaccard(masks: Tensor, probabilities: Tensor, known: Tensor, _: LossDetails) -> Tensor:
    """- log of the soft Jaccard index, smoothed by 1."""
    return -ops.log(_soft_jaccard(masks, probabilities, known))


def tversky(masks: Tensor, probabilities: Tensor, known: Tensor, details: LossDetails) -> Tensor:
    """1 - soft Tversky index: misses count `miss_share`, false alarms the rest of 1; smoothed by a half.

    With a share of a half it is `dice`.

    Source:
        Salehi, Erdogmus and Gholipour, "Tversky loss function for image segmentation using 3D fully convolutional deep
        networks", 2017; misses are their beta.
    """
    both, misses, alarms = _overlaps(masks, probabilities, known)
    wrong = details.miss_share * misses + (1.0 - details.miss_share) * alarms
    return 1.0 - (both + 0.5) / (both + wrong + 0.5)


def lovasz(masks: Tensor, probabilities: Tensor, known: Tensor, _: LossDetails) -> Tensor:
    """Lovasz hinge: the Jaccard loss of what is decided, made convex in the scores that decide.

    A pixel's score is the logarithm of its odds, log(p / (1 - p)). With a sigmoid that is the number before it, within
    +/-16 where float32 tells probabilities from 0 and 1; with a hard sigmoid it rises with that number and has its
    sign. A pixel costs by how far its score is from 1 on the side of the truth. The costs, largest first, are weighed
    by how much the Jaccard loss rises when their pixels turn wrong one after the other: only so many pixels count as
    would matter. Of masks with shares, half a pixel and more is the class. Where a class has no pixel, the worst false
    alarm is the loss.

    Source:
        Berman, Triki and Blaschko, "The Lovasz-Softmax loss: A tractable surrogate for the optimization of the
        intersection-over-union measure in neural networks", 2018.
    """
    num_classes = masks.shape[-1]

    def rows(maps: Tensor) -> Tensor:
        return ops.transpose(ops.reshape(maps, (-1, num_classes)))

    inside, is_known = _inside(probabilities), ops.cast(known > 0.0, "float32")
    truth = ops.cast(masks >= 0.5, "float32")
    scores = ops.log(inside) - ops.log(1.0 - inside)
    # Unknown pixels cost nothing, and are of neither kind.
    costs = rows(ops.relu(1.0 - scores * (2.0 * truth - 1.0)) * is_known)
    order = ops.argsort(-ops.stop_gradient(costs), axis=-1)
    positive, negative = (ops.take_along_axis(rows(kind * is_known), order, axis=-1) for kind in (truth, 1.0 - truth))
    return ops.sum(ops.take_along_axis(costs, order, axis=-1) * _jaccard_rises(positive, negative), axis=-1)


def _jaccard_rises(positive: Tensor, negative: Tensor) -> Tensor:
    """How much 1 - the Jaccard index rises with each pixel that turns wrong, in order.

    Differences of the index itself would drown in float32 from a million pixels on, where each is a millionth of it.

    Args:
        positive: Which pixels are of the class, 1 or 0, `(K, P)`; those that are in neither are not counted.
        negative: Which are not.

    Returns:
        `(K, P)`, at least 0, the sum of each row at most 1.
    """
    all_positive = ops.sum(positive, axis=-1, keepdims=True)
    left = all_positive - ops.cumsum(positive, axis=-1)
    union = all_positive + ops.cumsum(negative, axis=-1)
    before = ops.maximum(union - negative, 1.0)
    missed = positive / ops.maximum(union, 1.0)
    # With no pixel of the class the first false alarm takes the index from 1 to 0.
    alarmed = ops.where(union - negative < 0.5, negative, negative * left / before / ops.maximum(union, 1.0))
    return missed + alarmed


def patch_crossentropy(targets: Tensor, probabilities: Tensor) -> Tensor:
    """Cross-entropy of each patch `(N,)`, mean over its known pixels and the classes; 0 where nothing is known."""
    targets, probabilities = ops.cast(targets, "float32"), ops.cast(probabilities, "float32")
    masks, known = targets[..., :-1], targets[..., -1:]
    num_known = ops.maximum(ops.sum(known, axis=(1, 2)), 1.0)
    return ops.mean(ops.sum(_pixel_crossentropy(masks, probabilities) * known, axis=(1, 2)) / num_known, axis=-1)


def _inside(probabilities: Tensor) -> Tensor:
    """Probabilities off 0 and 1, where logarithms end."""
    epsilon = keras.config.epsilon()
    return ops.clip(probabilities, epsilon, 1.0 - epsilon)


def _pixel_crossentropy(masks: Tensor, probabilities: Tensor, positive_weight: float = 1.0) -> Tensor:
    inside = _inside(probabilities)
    return -(positive_weight * masks * ops.log(inside) + (1.0 - masks) * ops.log(1.0 - inside))


def _mean_over_known(values: Tensor, known: Tensor) -> Tensor:
    """A batch without a known pixel gives 0, not NaN."""
    return ops.sum(values * known, axis=(0, 1, 2)) / ops.maximum(ops.sum(known), 1.0)


def _soft_jaccard(masks: Tensor, probabilities: Tensor, known: Tensor) -> Tensor:
    both, misses, alarms = _overlaps(masks, probabilities, known)
    return (both + 1.0) / (both + misses + alarms + 1.0)


def _overlaps(masks: Tensor, probabilities: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What is found, missed and falsely alarmed, in pixels, `(K,)` each."""
    axes = (0, 1, 2)
    both = ops.sum(masks * probabilities * known, axis=axes)
    truth, predicted = ops.sum(masks * known, axis=axes), ops.sum(probabilities * known, axis=axes)
    return both, truth - both, predicted - both


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, LossDetails], Tensor]] = {
    "bce": binary_crossentropy,
    "focal": focal,
    "dice": dice,
    "jaccard": jaccard,
    "log_jaccard": log_jaccard,
    "tversky": tversky,
    "lovasz": lovasz,
}
"""Name in `LossMix` to `(masks, probabilities, known, details) -> (K,)`."""

"""Training losses that leave unknown pixels out.

Targets carry the masks and, as their last channel, which pixels are known: `(N, H, W, K + 1)`.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from search_space.decode import decode, encode
from search_space.training_plan import LossMix

Tensor = Any

FOCAL_GAMMA = 2.0


@keras.saving.register_keras_serializable("mapgrove")
class MixedLoss(keras.losses.Loss):  # type: ignore[misc]
    """The weighted sum of losses that a training plan asks for; a scalar per batch."""

    def __init__(self, mix: LossMix, name: str = "mixed_loss") -> None:
        super().__init__(name=name)
        self.mix = mix

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Weighted sum over the batch; `y_true` is `(N, H, W, K + 1)`, `y_pred` is `(N, H, W, K)`."""
        masks, known = y_true[..., :-1], y_true[..., -1:]
        terms = [weight * LOSSES[name](masks, y_pred, known) for name, weight in encode(self.mix).items() if weight > 0]
        return sum(terms[1:], start=terms[0])

    def get_config(self) -> dict[str, Any]:
        """Plain description for Keras."""
        return {"mix": encode(self.mix), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MixedLoss":
        """Inverse of `get_config`."""
        return cls(decode(LossMix, config["mix"], where="a saved loss"), config["name"])


def binary_crossentropy(masks: Tensor, probabilities: Tensor, known: Tensor) -> Tensor:
    """Mean over known pixels and classes."""
    return _mean_over_known(_pixel_crossentropy(masks, probabilities), known)


def focal(masks: Tensor, probabilities: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy times (1 - probability of the truth) squared, mean over known pixels and classes.

    Source:
        Lin et al., "Focal Loss for Dense Object Detection", 2017, without the balancing factor.
    """
    of_truth = masks * probabilities + (1.0 - masks) * (1.0 - probabilities)
    return _mean_over_known((1.0 - of_truth) ** FOCAL_GAMMA * _pixel_crossentropy(masks, probabilities), known)


def dice(masks: Tensor, probabilities: Tensor, known: Tensor) -> Tensor:
    """1 - soft Dice coefficient per class over the known pixels of the batch, mean over classes; smoothed by 1."""
    both, truth, predicted = _overlaps(masks, probabilities, known)
    return 1.0 - ops.mean((2.0 * both + 1.0) / (truth + predicted + 1.0))


def jaccard(masks: Tensor, probabilities: Tensor, known: Tensor) -> Tensor:
    """1 - soft Jaccard index per class over the known pixels of the batch, mean over classes; smoothed by 1."""
    both, truth, predicted = _overlaps(masks, probabilities, known)
    return 1.0 - ops.mean((both + 1.0) / (truth + predicted - both + 1.0))


def log_jaccard(masks: Tensor, probabilities: Tensor, known: Tensor) -> Tensor:
    """- log of the soft Jaccard index per class over the known pixels of a batch, mean over classes; smoothed by 1."""
    both, truth, predicted = _overlaps(masks, probabilities, known)
    return -ops.mean(ops.log((both + 1.0) / (truth + predicted - both + 1.0)))


ENERGY_PX = 16
"""Distances to the border of a class are told apart up to so many pixels."""


def energies(targets: Tensor) -> tuple[Tensor, Tensor]:
    """How deep within its class each pixel lies: 0 outside, up to 1 from `ENERGY_PX` pixels on.

    Distances are counted as a king walks: each step takes the outermost pixels off. Beyond the patch all goes on.

    Args:
        targets: Masks, and last which pixels are known, `(N, H, W, K + 1)`.

    Returns:
        The energies, and where they are known, `(N, H, W, K)` each: 0 as well where unknown ground is so near that
        the energy depends on what it shows.
    """
    targets = ops.convert_to_tensor(targets)
    masks, known = targets[..., :-1], targets[..., -1:]
    least, most = _depths(masks * known), _depths(masks * known + 1.0 - known)
    is_sure = ops.cast(most - least < 0.5 / ENERGY_PX, masks.dtype)
    return least, known * is_sure


def _depths(masks: Tensor) -> Tensor:
    left, total = masks, masks
    for _ in range(ENERGY_PX - 1):
        left = -ops.max_pool(-left, 3, strides=1, padding="same")
        total = total + left
    return total / ENERGY_PX


def energy_error(depths: Tensor, predicted: Tensor, known: Tensor) -> Tensor:
    """Mean squared error of energies over the pixels where they are known, mean over classes; see `energies`."""
    num_known = ops.maximum(ops.sum(known, axis=(0, 1, 2)), 1.0)
    return ops.mean(ops.sum((predicted - depths) ** 2 * known, axis=(0, 1, 2)) / num_known)


def patch_crossentropy(targets: Tensor, probabilities: Tensor) -> Tensor:
    """Cross-entropy of each patch `(N,)`, mean over its known pixels and the classes; 0 where nothing is known."""
    masks, known = targets[..., :-1], targets[..., -1:]
    num_known = ops.maximum(ops.sum(known, axis=(1, 2)), 1.0)
    return ops.mean(ops.sum(_pixel_crossentropy(masks, probabilities) * known, axis=(1, 2)) / num_known, axis=-1)


def _pixel_crossentropy(masks: Tensor, probabilities: Tensor) -> Tensor:
    epsilon = keras.config.epsilon()
    probabilities = ops.clip(probabilities, epsilon, 1.0 - epsilon)
    return -(masks * ops.log(probabilities) + (1.0 - masks) * ops.log(1.0 - probabilities))


def _mean_over_known(values: Tensor, known: Tensor) -> Tensor:
    """A batch without a known pixel gives 0, not NaN."""
    num_known = ops.maximum(ops.sum(known), 1.0)
    return ops.mean(ops.sum(values * known, axis=(0, 1, 2)) / num_known)


def _overlaps(masks: Tensor, probabilities: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    axes = (0, 1, 2)
    both = ops.sum(masks * probabilities * known, axis=axes)
    return both, ops.sum(masks * known, axis=axes), ops.sum(probabilities * known, axis=axes)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "bce": binary_crossentropy,
    "focal": focal,
    "dice": dice,
    "jaccard": jaccard,
    "log_jaccard": log_jaccard,
}

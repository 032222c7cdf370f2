"""Energies: how deep within its class each pixel lies, for a network's second head and for telling things apart."""

from typing import Any

from keras import ops

from search_space.prediction import ENERGY_PX

Tensor = Any


def energies(targets: Tensor) -> tuple[Tensor, Tensor]:
    """How deep within its class each pixel lies: 0 outside, up to 1 from `ENERGY_PX` pixels on.

    Distances are counted as a king walks: each step takes the outermost pixels off. Beyond the patch all goes on.

    Args:
        targets: Masks, and last which pixels are known, `(N, H, W, K + 1)`.

    Returns:
        The energies, and where they are known, float32 `(N, H, W, K)` each: 0 as well where unknown ground is so near
        that the energy depends on what it shows.
    """
    targets = ops.cast(targets, "float32")
    masks, known = targets[..., :-1], targets[..., -1:]
    least, most = _depths(masks * known), _depths(masks * known + 1.0 - known)
    is_sure = ops.cast(most - least < 0.5 / ENERGY_PX, "float32")
    return least, known * is_sure


def energy_errors(depths: Tensor, predicted: Tensor, known: Tensor) -> Tensor:
    """Mean squared error of the energies of each class over the pixels where they are known; 0 where none is.

    Args:
        depths: The energies `(N, H, W, K)`.
        predicted: What the network tells `(N, H, W, K)`.
        known: Where they are known `(N, H, W, K)`; see `energies`.

    Returns:
        float32 `(K,)`.
    """
    depths, predicted, known = (ops.cast(each, "float32") for each in (depths, predicted, known))
    num_known = ops.maximum(ops.sum(known, axis=(0, 1, 2)), 1.0)
    return ops.sum((predicted - depths) ** 2 * known, axis=(0, 1, 2)) / num_known


def _depths(masks: Tensor) -> Tensor:
    left, total = masks, masks
    for _ in range(ENERGY_PX - 1):
        left = -ops.max_pool(-left, 3, strides=1, padding="same")
        total = total + left
    return total / ENERGY_PX

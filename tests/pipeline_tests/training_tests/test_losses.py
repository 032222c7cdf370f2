"""Losses and their gradients against NumPy, and what they make of unknown pixels."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from numpy.typing import NDArray

from pipeline.training.losses import LOSSES, MixedLoss, patch_crossentropy
from search_space.losses import LossDetails, LossMix

Array = NDArray[np.float64]
Batch = tuple[Array, Array, Array]

CLASSES = ("road", "water", "never")
NAMES = (*LOSSES, "energy")
SHAPE = (2, 6, 6, len(CLASSES))
DETAILS = {
    "plain": LossDetails(),
    "weighted": LossDetails(
        positive_weight=3.0,
        focal_gamma=1.3,
        miss_share=0.7,
        class_weights={"road": 2.5, "never": 0.5, "a class of others": 9.0},
    ),
}


def lovasz_of(truth: Array, prob: Array) -> float:
    """The extension of M -> |M| / |truth or M|, M the pixels that are wrong, as its definition has it."""
    is_class = truth >= 0.5
    cost = np.maximum(1 - np.log(prob / (1 - prob)) * np.where(is_class, 1, -1), 0)
    order = np.argsort(-cost)
    num_wrong = np.arange(len(order) + 1)
    of_others = np.concatenate([[0], np.cumsum(~is_class[order])])
    jaccard_loss = num_wrong / np.maximum(is_class.sum() + of_others, 1)
    return float((cost[order] * np.diff(jaccard_loss)).sum())


def loss_of_class(name: str, truth: Array, prob: Array, details: LossDetails) -> float:
    """Straight from the definitions, over known pixels."""
    if name == "lovasz":
        return lovasz_of(truth, prob)
    entropy = -(details.positive_weight * truth * np.log(prob) + (1 - truth) * np.log(1 - prob))
    wrong = truth * (1 - prob) + (1 - truth) * prob
    found, missed, alarmed = (truth * prob).sum(), (truth * (1 - prob)).sum(), ((1 - truth) * prob).sum()
    mixed = details.miss_share * missed + (1 - details.miss_share) * alarmed
    return float(
        {
            "bce": entropy.mean(),
            "focal": (wrong**details.focal_gamma * entropy).mean(),
            "dice": 1 - (2 * found + 1) / (truth.sum() + prob.sum() + 1),
            "jaccard": 1 - (found + 1) / (truth.sum() + prob.sum() - found + 1),
            "log_jaccard": -np.log((found + 1) / (truth.sum() + prob.sum() - found + 1)),
            "tversky": 1 - (found + 0.5) / (found + mixed + 0.5),
            "energy": ((truth - prob) ** 2).mean(),
        }[name]
    )


def oracle(name: str, batch: Batch, details: LossDetails) -> tuple[float, Array]:
    """The loss, and its gradient by central differences."""
    truth, prob, known = batch
    weights = np.array([details.class_weights.get(each, 1.0) for each in CLASSES])
    loss, gradient, step = 0.0, np.zeros_like(prob), 1e-6
    for k, share in enumerate(weights / weights.sum()):
        counts = known[..., 0] > 0
        of_class, given = truth[..., k][counts], prob[..., k][counts]
        loss += share * loss_of_class(name, of_class, given, details)
        slopes = np.zeros(len(given))
        for i in range(len(given)):
            higher, lower = given.copy(), given.copy()
            higher[i] += step
            lower[i] -= step
            rise = loss_of_class(name, of_class, higher, details) - loss_of_class(name, of_class, lower, details)
            slopes[i] = share * rise / (2 * step)
        gradient[..., k][counts] = slopes
    return loss, gradient


def make_batch(seed: int = 0, *, soft: bool = False, known_share: float = 0.7) -> Batch:
    """Two classes, and one that no pixel is of."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(SHAPE) < [0.5, 0.15, 0.0]).astype(float)
    truth = truth * rng.uniform(0.1, 1.0, SHAPE) if soft else truth
    return truth, rng.uniform(0.02, 0.98, SHAPE), (rng.random((*SHAPE[:3], 1)) < known_share).astype(float)


class Probe(keras.Model):  # type: ignore[misc]
    """Has what is added to probabilities as its weights, for each loss by itself: a step of training tells gradients.

    So losses run as in training, in a graph where the backend has one.
    """

    def __init__(self, losses: list[Callable[[Any, Any, Any], Any]], shape: tuple[int, ...]) -> None:
        super().__init__()
        self._functions = losses
        self.added = self.add_weight(shape=(len(losses), *shape), initializer="zeros", name="added")
        self.values = self.add_weight(shape=(len(losses),), initializer="zeros", trainable=False, name="values")
        self.compile(optimizer=keras.optimizers.SGD(1.0))

    def call(self, inputs: Any) -> Any:
        return inputs[None] + self.added

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:
        masks, known = y[..., :-1], y[..., -1:]
        found = [function(masks, y_pred[number], known) for number, function in enumerate(self._functions)]
        self.values.assign(ops.stop_gradient(ops.stack(found)))
        return sum(found[1:], start=found[0])

    def compute_metrics(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {}

    def look(self, batch: Batch) -> tuple[Array, Array]:
        """Losses `(L,)` and their gradients `(L, N, H, W, K)`."""
        truth, prob, known = batch
        self.added.assign(np.zeros(self.added.shape, np.float32))
        targets = np.concatenate([truth, known], axis=-1).astype(np.float32)
        self.train_on_batch(prob.astype(np.float32), targets)
        return ops.convert_to_numpy(self.values), -ops.convert_to_numpy(self.added)


def probe_of(details: LossDetails) -> Probe:
    losses = [MixedLoss(LossMix(**{name: 1.0}), details, CLASSES) for name in LOSSES]
    functions = [lambda t, p, w, loss=loss, name=name: loss.parts(t, p, w)[name]
                 for loss, name in zip(losses, LOSSES, strict=True)]  # fmt: skip
    functions.append(lambda t, p, w: losses[0].energy(t, p, ops.broadcast_to(w, SHAPE)))
    return Probe(functions, SHAPE)


@pytest.fixture(scope="module")
def probes() -> dict[str, Probe]:
    return {name: probe_of(details) for name, details in DETAILS.items()}


def loss_of(mix: LossMix, batch: Batch, details: LossDetails = DETAILS["plain"]) -> float:
    truth, prob, known = batch
    y_true = ops.convert_to_tensor(np.concatenate([truth, known], axis=-1).astype("float32"))
    return float(MixedLoss(mix, details, CLASSES)(y_true, ops.convert_to_tensor(prob.astype("float32"))))


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("details", DETAILS)
def test_each_loss_and_its_gradient_are_those_of_its_definition(
    probes: dict[str, Probe], details: str, soft: bool
) -> None:
    batch = make_batch(1, soft=soft)

    values, gradients = probes[details].look(batch)

    for name, value, gradient in zip(NAMES, values, gradients, strict=True):
        expected, slopes = oracle(name, batch, DETAILS[details])
        assert value == pytest.approx(expected, rel=1e-5), name
        np.testing.assert_allclose(gradient, slopes, rtol=1e-3, atol=2e-5 * np.abs(slopes).max(), err_msg=name)


@pytest.mark.parametrize("details", DETAILS)
def test_a_batch_of_unknown_pixels_gives_zero_and_moves_nothing(probes: dict[str, Probe], details: str) -> None:
    values, gradients = probes[details].look(make_batch(known_share=0.0))

    assert (values == 0.0).all()
    assert (gradients == 0.0).all()


@pytest.mark.parametrize("certain", ["right", "wrong"])
@pytest.mark.parametrize("present", [True, False], ids=["", "no pixel of any class"])
def test_certain_probabilities_and_absent_classes_stay_finite(
    probes: dict[str, Probe], certain: str, present: bool
) -> None:
    truth, _, known = make_batch()
    truth = truth if present else 0 * truth

    values, gradients = probes["weighted"].look((truth, truth if certain == "right" else 1 - truth, known))

    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all()
    assert (values < 1e-5).all() if certain == "right" else (values > 0.1).all()


def test_unknown_pixels_do_not_count(probes: dict[str, Probe]) -> None:
    truth, prob, known = make_batch()
    rng = np.random.default_rng(5)
    others = (np.where(known > 0, truth, rng.random(SHAPE) < 0.5), np.where(known > 0, prob, rng.random(SHAPE)), known)

    values, gradients = probes["plain"].look((truth, prob, known))
    again, same = probes["plain"].look(others)

    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(same, gradients)
    assert (gradients[:, known[..., 0] == 0] == 0).all()
    # Even the Lovasz hinge, which leaves what is right by far alone, moves some.
    assert (gradients[:, known[..., 0] > 0] != 0).any(axis=(1, 2)).all()


def test_the_hinge_of_a_million_pixels_weighs_each() -> None:
    """Differences of an index that is told to seven digits would be off by a tenth."""
    shape, rng = (1, 1024, 1024, 1), np.random.default_rng(3)
    truth = (rng.random(shape) < 0.3).astype(float)
    prob, known = rng.uniform(0.02, 0.98, shape).astype(np.float32).astype(float), (rng.random(shape) < 0.9) * 1.0
    loss = MixedLoss(LossMix(lovasz=1.0), LossDetails(), ["road"])

    [value], [gradient] = Probe([lambda *given: loss.parts(*given)["lovasz"]], shape).look((truth, prob, known))

    counts = known > 0
    t, p = truth[counts], prob[counts]
    cost, sign = 1 - np.log(p / (1 - p)) * (2 * t - 1), 2 * t - 1
    order = np.argsort(-cost, kind="stable")
    rises = np.empty(len(t))
    rises[order] = np.diff(np.arange(len(t) + 1) / (t.sum() + np.concatenate([[0], np.cumsum(1 - t[order])])))
    expected = -sign * (cost > 0) * rises / (p * (1 - p))
    assert value == pytest.approx((np.maximum(cost, 0) * rises).sum(), rel=1e-4)
    assert np.quantile(np.abs(gradient[counts] - expected) / np.abs(expected).mean(), 0.999) < 1e-3


def test_a_mix_is_the_weighted_sum_of_its_parts() -> None:
    batch = make_batch()
    for mix in ({"dice": 0.25, "focal": 0.75}, {"bce": 1.0, "lovasz": 1.0}, {"bce": 10.0, "jaccard": 2.5}):
        weights = LossMix(**mix)
        expected = {name: oracle(name, batch, DETAILS["weighted"])[0] for name in mix}
        given = (ops.convert_to_tensor(each.astype("float32")) for each in batch)

        parts = MixedLoss(weights, DETAILS["weighted"], CLASSES).parts(*given)

        assert set(parts) == set(mix)
        assert {name: float(part) for name, part in parts.items()} == pytest.approx(expected, rel=1e-5)
        assert loss_of(weights, batch, DETAILS["weighted"]) == pytest.approx(
            sum(mix[name] * expected[name] for name in mix), rel=1e-5
        )


def test_tversky_of_equal_shares_is_dice() -> None:
    batch = make_batch(7)

    assert loss_of(LossMix(tversky=1.0), batch) == pytest.approx(loss_of(LossMix(dice=1.0), batch), rel=1e-5)


def test_the_greater_share_of_misses_makes_a_miss_worse_than_a_false_alarm() -> None:
    truth, _, known = make_batch()
    truth[..., 1:] = 0
    found, missed, alarmed = np.zeros_like(truth), truth.copy(), truth.copy()
    places = np.argwhere((truth[..., 0] > 0) & (known[..., 0] > 0))[:3]
    empty = np.argwhere((truth[..., 0] == 0) & (known[..., 0] > 0))[:3]
    found[:] = truth
    missed[(*places.T, 0)], alarmed[(*empty.T, 0)] = 0, 1
    losses = {
        share: [loss_of(LossMix(tversky=1.0), (truth, each, known), LossDetails(miss_share=share))
                for each in (found, missed, alarmed)]
        for share in (0.2, 0.8)
    }  # fmt: skip

    assert losses[0.8][0] == pytest.approx(0.0, abs=1e-6)
    assert losses[0.8][1] > losses[0.8][2]
    assert losses[0.2][1] < losses[0.2][2]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_losses_are_computed_in_single_precision(dtype: str) -> None:
    """Of what a network of half precision says: a sum of some thousand pixels would be lost in it."""
    rng = np.random.default_rng(0)
    shape = (1, 96, 96, 3)
    halves = [ops.cast(each, dtype) for each in ((rng.random(shape) < 0.4) * 1.0, rng.uniform(0.1, 0.9, shape))]
    truth, prob = (np.asarray(ops.convert_to_numpy(ops.cast(each, "float32")), float) for each in halves)
    known = np.ones((*shape[:3], 1))
    loss = MixedLoss(LossMix(**dict.fromkeys(LOSSES, 1.0)), LossDetails(), CLASSES)

    parts = loss.parts(*halves, ops.cast(known, dtype))

    for name, part in parts.items():
        expected = np.mean([loss_of_class(name, truth[..., k].ravel(), prob[..., k].ravel(), LossDetails())
                            for k in range(3)])  # fmt: skip
        assert keras.backend.standardize_dtype(part.dtype) == "float32"
        assert float(part) == pytest.approx(expected, rel=1e-4), name


def test_losses_of_other_classes_than_it_knows_are_refused() -> None:
    with pytest.raises(ValueError, match="3 maps for 2 classes"):
        MixedLoss(LossMix(bce=1.0), LossDetails(), ["road", "water"]).parts(*map(ops.convert_to_tensor, make_batch()))


def test_loss_survives_saving() -> None:
    loss = MixedLoss(LossMix(bce=1.0, lovasz=0.5), DETAILS["weighted"], CLASSES)

    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))

    assert (copy.mix, copy.details, copy.class_names) == (loss.mix, loss.details, loss.class_names)


def test_the_loss_of_each_patch_is_its_own_cross_entropy() -> None:
    rng = np.random.default_rng(4)
    masks, probabilities = rng.integers(2, size=(3, 5, 6, 2)), rng.uniform(0.05, 0.95, (3, 5, 6, 2))
    known = rng.random((3, 5, 6, 1)) < 0.6
    known[2] = False
    targets = np.concatenate([masks, known], axis=-1).astype(np.float32)

    given = (ops.convert_to_tensor(each.astype(np.float32)) for each in (targets, probabilities))
    found = ops.convert_to_numpy(patch_crossentropy(*given))

    for n in range(2):
        of_truth = np.where(masks[n] == 1, probabilities[n], 1 - probabilities[n])
        assert found[n] == pytest.approx(-np.log(of_truth[known[n, ..., 0]]).mean(), rel=1e-5)
    assert found[2] == 0

"""How far a network looks: the arithmetic of `context_px`, held against the networks that are built."""

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import DrawFn, composite, integers, sampled_from
from numpy.typing import NDArray

from pipeline.builder import build_model
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.training_plan import TrainingPlan


def positive_model(architecture: Architecture) -> keras.Model:
    """The network with positive weights, zero biases and an open end: whatever can reach an output does, and shows."""
    model = build_model(architecture, 1, 1)
    for weights in model.trainable_variables:
        weights.assign(np.full(weights.shape, 0.0 if "bias" in weights.path else 1.0))
    model.get_layer("masks").activation = keras.activations.linear
    return model


def reached(model: keras.Model, side_px: int, place: int) -> NDArray[np.bool_]:
    """Outputs of a black image that change when the one pixel at (`place`, `place`) lights up, bool `(H, W)`."""
    image = np.zeros((1, side_px, side_px, 1), np.float32)
    image[0, place, place] = 1.0
    return np.asarray(model.predict_on_batch(image)[0, ..., 0] != 0)


def farthest(model: keras.Model, architecture: Architecture) -> int:
    """How far from any input pixel an output depends on it, over every place relative to the poolings."""
    divisor = architecture.divisor_px
    side_px = -(-(2 * architecture.context_px + 3 * divisor) // divisor) * divisor
    middle = side_px // 2 // divisor * divisor
    distances = []
    for place in range(middle, middle + divisor):
        rows, columns = np.nonzero(reached(model, side_px, place))
        assert rows.min() > 0
        assert rows.max() < side_px - 1, "the image is too small to tell"
        distances.append(max(np.abs(rows - place).max(), np.abs(columns - place).max()))
    return int(max(distances))


@composite
def architectures(draw: DrawFn) -> Architecture:
    kind = draw(sampled_from(["plain", "residual", "inception"]))
    width = draw(integers(3 if kind == "inception" else 1, 7))
    block = {"kind": kind, "wide_kernel_px" if kind == "inception" else "kernel_px": width}
    fields: dict[str, Any] = {
        "depth": draw(integers(1, 3 if width <= 4 else 2)),
        "convs_per_stage": draw(integers(1, 2)),
        "pooling": draw(sampled_from(["max", "average", "strided", "inception"])),
    }
    return decode(Architecture, fields | {"base_filters": 2, "normalisation": "none", "block": block}, where="test")


@settings(max_examples=25, deadline=None)
@given(architectures())
def test_outputs_depend_on_pixels_up_to_the_context_and_none_beyond(architecture: Architecture) -> None:
    assert farthest(positive_model(architecture), architecture) == architecture.context_px


@pytest.mark.parametrize("normalisation", ["batch", "layer"])
def test_normalisation_of_single_pixels_looks_no_further(normalisation: str) -> None:
    fields = {"depth": 2, "base_filters": 4, "normalisation": normalisation}
    architecture = decode(Architecture, fields, where="test")
    model = build_model(architecture, 1, 1)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 96, 96, 1)).astype(np.float32)
    lit = image.copy()
    lit[0, 48, 48] += 10

    rows, columns = np.nonzero(model.predict_on_batch(image)[0, ..., 0] != model.predict_on_batch(lit)[0, ..., 0])

    assert 0 < np.abs(rows - 48).max() <= architecture.context_px
    assert 0 < np.abs(columns - 48).max() <= architecture.context_px


def test_a_network_looks_no_farther_than_its_tile() -> None:
    candidate = Candidate(plan=TrainingPlan(patch_px=32))
    far = candidate.architecture.context_px
    assert far > 32
    assert [candidate.context_px(tile) for tile in (0, 40, 9999)] == [32, 40, far]


def test_a_known_network_looks_as_far_as_counted_by_hand() -> None:
    """One halving, one 3x3 convolution per stage: 1 up at full size, 2 at half size, the pair, 1 down at full size."""
    architecture = decode(Architecture, {"depth": 1, "convs_per_stage": 1}, where="test")

    assert architecture.context_px == 1 + 2 + 1 + 1
    assert architecture.model_copy(update={"depth": 4}).context_px > 4 * architecture.context_px

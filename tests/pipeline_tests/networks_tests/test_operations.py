"""Operations of a network: counted from its graph, beside other people's counts."""

from typing import Any

import keras
import pytest

from pipeline.networks.builder import build_model
from search_space.architecture import KNOWN_LEVELS, Architecture, EfficientnetB0, Resnet34, Resnet50, SeResnext50, Vgg16
from search_space.decode import decode
from search_space.network.encoders import ENCODERS
from search_space.network.graph import Draft
from search_space.network.unet import InputBand, draw_up

BANDS = [InputBand(f"band{number}") for number in range(5)]
SIDE_PX = 64


@pytest.mark.parametrize(
    ("encoder", "published"),
    [
        # Multiplications with an addition, for 224 x 224 px; without the classifier, which is at most 2 % of them.
        (Vgg16, 15.3e9),
        (Resnet34, 3.6e9),
        (Resnet50, 3.8e9),
        (SeResnext50, 4.25e9),
        (EfficientnetB0, 0.39e9),
    ],
)
def test_known_encoders_cost_what_was_published(encoder: Any, published: float) -> None:
    draft = Draft(3)
    features = ENCODERS[encoder](draft, draft.image, KNOWN_LEVELS)
    graph = draft.finished({"masks": features[KNOWN_LEVELS]})
    assert graph.flops(224, 224) / 2 == pytest.approx(published, rel=0.045)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow's profiler counts")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        *({"block": {"kind": kind}} for kind in ("residual", "bottleneck", "inception", "asymmetric", "dense")),
        {"block": {"kind": "separable"}, "encoder": {"kind": "grown", "pooling": "inception", "residual_units": 1}},
        {"encoder": {"kind": "resnet34"}, "squeeze_excitation": True},
        *({"bottom": {"kind": kind}} for kind in ("aspp", "pyramid", "attention")),
        *({"up": {"kind": kind}, "skip": "gate"} for kind in ("nearest", "bilinear", "subpixel")),
    ],
    ids=str,
)
def test_operations_are_those_that_tensorflow_counts(fields: dict[str, Any]) -> None:
    """Within a twentieth: dilated kernels are counted with the padding that a processor's code adds."""
    chosen = decode(Architecture, {"base_filters": 8, "depth": 3, **fields}, where="test")
    graph, model = draw_up(chosen, BANDS, 2), build_model(chosen, BANDS, 2)
    assert graph.flops(SIDE_PX, SIDE_PX) == pytest.approx(_counted_by_tensorflow(model), rel=0.06)


def _counted_by_tensorflow(model: keras.Model) -> float:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    shape = tf.TensorSpec((1, SIDE_PX, SIDE_PX, len(BANDS)), tf.float32)
    function = tf.function(lambda image: model(image, training=False)).get_concrete_function(shape)
    graph = convert_variables_to_constants_v2(function).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    with graph.as_default():
        return float(tf.compat.v1.profiler.profile(graph, cmd="op", options=options).total_float_ops)

"""Layers of our own, held against NumPy and SciPy."""

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from pipeline.networks.keras_layers import (
    CropToImage,
    DepthToSpace,
    DoubleLinearly,
    PadToMultiple,
    SelectChannels,
    SelfAttention,
    SpreadMeans,
    TileMeans,
)

RNG = np.random.default_rng(0)


def images(height: int = 7, width: int = 10, channels: int = 8) -> Any:
    return RNG.normal(size=(2, height, width, channels)).astype(np.float32)


def test_padding_mirrors_at_the_lower_and_right_border() -> None:
    x = images()
    padded = np.asarray(PadToMultiple(8)(x))
    np.testing.assert_array_equal(padded, np.pad(x, ((0, 0), (0, 1), (0, 6), (0, 0)), mode="reflect"))
    single = images(1, 2)
    folded = np.asarray(PadToMultiple(4)(single))
    np.testing.assert_array_equal(folded[0, :, :, 0], np.tile(single[0, 0, [0, 1, 0, 1], 0], (4, 1)))


def test_cropping_takes_the_margin_off_the_image_not_off_the_padding() -> None:
    maps, image = images(16, 16, 3), images(11, 9)
    np.testing.assert_array_equal(np.asarray(CropToImage(2)([maps, image])), maps[:, 2:9, 2:7])


def test_channels_are_selected_in_order() -> None:
    x = images()
    np.testing.assert_array_equal(np.asarray(SelectChannels([5, 0])(x)), x[..., [5, 0]])


@pytest.mark.parametrize("cells", [1, 2, 3, 6])
def test_means_over_parts_weigh_pixels_by_their_share(cells: int) -> None:
    """Repeating each pixel as often as there are cells makes every part whole."""
    x = images()
    fine = x.repeat(cells, axis=1).repeat(cells, axis=2)
    expected = fine.reshape(2, cells, 7, cells, 10, 8).mean(axis=(2, 4))
    np.testing.assert_allclose(np.asarray(TileMeans(cells)(x)), expected, atol=1e-5)


@pytest.mark.parametrize("cells", [1, 2, 3])
def test_means_are_spread_linearly_between_the_middles_of_parts(cells: int) -> None:
    means, reference = images(cells, cells, 3), images(12, 9)
    rows, columns = ((np.arange(size) + 0.5) / size * cells - 0.5 for size in (12, 9))
    places = np.meshgrid(rows, columns, indexing="ij")
    expected = [
        [ndimage.map_coordinates(each[..., c], places, order=1, mode="nearest") for c in range(3)] for each in means
    ]
    np.testing.assert_allclose(np.asarray(SpreadMeans()([means, reference])), np.moveaxis(expected, 1, -1), atol=1e-5)


def test_four_channels_become_a_square() -> None:
    x = images()
    found = np.asarray(DepthToSpace()(x))
    assert found.shape == (2, 14, 20, 2)
    for part, (down, right) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        np.testing.assert_array_equal(found[:, down::2, right::2], x[..., 2 * part : 2 * part + 2])


def test_doubling_is_linear_between_the_middles_of_pixels() -> None:
    x = images()
    rows, columns = ((np.arange(2 * size) + 0.5) / 2 - 0.5 for size in (7, 10))
    places = np.meshgrid(rows, columns, indexing="ij")
    expected = [
        [ndimage.map_coordinates(each[..., c], places, order=1, mode="nearest") for c in range(8)] for each in x
    ]
    np.testing.assert_allclose(np.asarray(DoubleLinearly()(x)), np.moveaxis(expected, 1, -1), atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_the_softmax_of_products(heads: int) -> None:
    queries, keys, values = (images(3, 4) for _ in range(3))
    found = np.asarray(SelfAttention(heads)([queries, keys, values]))
    q, k, v = (each.reshape(2, 12, heads, 8 // heads) for each in (queries, keys, values))
    scores = np.einsum("nqhc,nkhc->nhqk", q, k) / np.sqrt(8 / heads)
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found.reshape(2, 12, heads, -1), np.einsum("nhqk,nkhc->nqhc", weights, v), atol=1e-5)

"""Layers that Keras does not have, of `keras.ops` alone; models that hold them can be saved and loaded."""

from typing import Any

import keras
from keras import layers, ops

Tensor = Any
Shape = tuple[int | None, ...]

registered = keras.saving.register_keras_serializable("mapgrove")


@registered
class PadToMultiple(layers.Layer):  # type: ignore[misc]
    """Mirrors an image at its lower and right border until its sides are multiples of a number.

    Args:
        multiple: The number.
    """

    def __init__(self, multiple: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, images: Tensor) -> Tensor:
        """`(N, H, W, C)` to `(N, H', W', C)`."""
        for axis in (1, 2):
            size = ops.shape(images)[axis]
            wanted = -(-size // self.multiple) * self.multiple
            # Known sizes, as in training, need no look at the pixels.
            if not (isinstance(size, int) and size == wanted):
                images = ops.take(images, _mirrored(wanted, size), axis=axis)
        return images

    def compute_output_shape(self, shape: Shape) -> Shape:
        """Sides rounded up."""
        sides = (None if side is None else -(-side // self.multiple) * self.multiple for side in shape[1:3])
        return (shape[0], *sides, shape[3])

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "multiple": self.multiple}


@registered
class CropToImage(layers.Layer):  # type: ignore[misc]
    """Cuts a map to the size of the image that it belongs to, less a margin on each side.

    Args:
        margin_px: The margin.
    """

    def __init__(self, margin_px: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin_px = margin_px

    def call(self, inputs: list[Tensor]) -> Tensor:
        """A map `(N, H', W', K)` and the image `(N, H, W, C)`."""
        maps, image = inputs
        height, width = ops.shape(image)[1], ops.shape(image)[2]
        return maps[:, self.margin_px : height - self.margin_px, self.margin_px : width - self.margin_px]

    def compute_output_shape(self, shapes: list[Shape]) -> Shape:
        """The image's sides less both margins."""
        maps, image = shapes
        sides = (None if side is None else side - 2 * self.margin_px for side in image[1:3])
        return (maps[0], *sides, maps[3])

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "margin_px": self.margin_px}


@registered
class SelectChannels(layers.Layer):  # type: ignore[misc]
    """Some channels of an image.

    Args:
        channels: Their positions.
    """

    def __init__(self, channels: list[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = list(channels)

    def call(self, images: Tensor) -> Tensor:
        """`(N, H, W, C)` to as many channels as are chosen."""
        return ops.take(images, self.channels, axis=-1)

    def compute_output_shape(self, shape: Shape) -> Shape:
        """Other channels."""
        return (*shape[:-1], len(self.channels))

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "channels": self.channels}


@registered
class TileMeans(layers.Layer):  # type: ignore[misc]
    """Means over equal parts of a tile; a pixel that two parts share counts for each by the share that it has.

    Args:
        cells: Parts along each side.
    """

    def __init__(self, cells: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cells = cells

    def call(self, images: Tensor) -> Tensor:
        """`(N, H, W, C)` to `(N, cells, cells, C)`."""
        if self.cells == 1:
            return ops.mean(images, axis=(1, 2), keepdims=True)
        down, across = (_part_weights(ops.shape(images)[axis], self.cells, self.compute_dtype) for axis in (1, 2))
        return ops.einsum("ah,bw,nhwc->nabc", down, across, images)

    def compute_output_shape(self, shape: Shape) -> Shape:
        """A position per part."""
        return (shape[0], self.cells, self.cells, shape[3])

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "cells": self.cells}


@registered
class SpreadMeans(layers.Layer):  # type: ignore[misc]
    """Brings means over parts of a tile to the positions of a reference: linear between the parts' middles."""

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Means `(N, cells, cells, C)` and the reference `(N, H, W, D)`, to `(N, H, W, C)`."""
        means, reference = inputs
        height, width = ops.shape(reference)[1], ops.shape(reference)[2]
        cells = means.shape[1]
        down, across = (_between_weights(size, cells, self.compute_dtype) for size in (height, width))
        return ops.einsum("ha,wb,nabc->nhwc", down, across, means)

    def compute_output_shape(self, shapes: list[Shape]) -> Shape:
        """The reference's sides."""
        means, reference = shapes
        return (*reference[:3], means[3])


@registered
class DepthToSpace(layers.Layer):  # type: ignore[misc]
    """Four channels become one of twice the resolution: the upper left, upper right, lower left and lower right."""

    def call(self, images: Tensor) -> Tensor:
        """`(N, H, W, 4 C)` to `(N, 2 H, 2 W, C)`."""
        height, width, channels = ops.shape(images)[1], ops.shape(images)[2], images.shape[3] // 4
        split = ops.reshape(images, (-1, height, width, 2, 2, channels))
        return ops.reshape(ops.transpose(split, (0, 1, 3, 2, 4, 5)), (-1, 2 * height, 2 * width, channels))

    def compute_output_shape(self, shape: Shape) -> Shape:
        """Twice the sides, a quarter of the channels."""
        sides = (None if side is None else 2 * side for side in shape[1:3])
        return (shape[0], *sides, (shape[3] or 0) // 4)


@registered
class DoubleLinearly(layers.Layer):  # type: ignore[misc]
    """Twice the resolution, linear between the middles of pixels, and constant beyond the outermost ones.

    Keras's own takes no image whose size it does not know beforehand.
    """

    def call(self, images: Tensor) -> Tensor:
        """`(N, H, W, C)` to `(N, 2 H, 2 W, C)`."""
        height, width, channels = ops.shape(images)[1], ops.shape(images)[2], images.shape[3]
        above = ops.concatenate([images[:, :1], images[:, :-1]], axis=1)
        below = ops.concatenate([images[:, 1:], images[:, -1:]], axis=1)
        rows = ops.stack([0.75 * images + 0.25 * above, 0.75 * images + 0.25 * below], axis=2)
        rows = ops.reshape(rows, (-1, 2 * height, width, channels))
        left = ops.concatenate([rows[:, :, :1], rows[:, :, :-1]], axis=2)
        right = ops.concatenate([rows[:, :, 1:], rows[:, :, -1:]], axis=2)
        both = ops.stack([0.75 * rows + 0.25 * left, 0.75 * rows + 0.25 * right], axis=3)
        return ops.reshape(both, (-1, 2 * height, 2 * width, channels))

    def compute_output_shape(self, shape: Shape) -> Shape:
        """Twice the sides."""
        sides = (None if side is None else 2 * side for side in shape[1:3])
        return (shape[0], *sides, shape[3])


@registered
class SelfAttention(layers.Layer):  # type: ignore[misc]
    """Attention of every position to all others, from queries, keys and values.

    Args:
        heads: Into how many parts the channels are split.
    """

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Three of `(N, H, W, C)` to one."""
        height, width, channels = ops.shape(inputs[0])[1], ops.shape(inputs[0])[2], inputs[0].shape[3]
        shape = (-1, height * width, self.heads, channels // self.heads)
        queries, keys, values = (ops.reshape(each, shape) for each in inputs)
        return ops.reshape(ops.dot_product_attention(queries, keys, values), (-1, height, width, channels))

    def compute_output_shape(self, shapes: list[Shape]) -> Shape:
        """As the values."""
        return shapes[2]

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "heads": self.heads}


def _mirrored(wanted: Tensor, size: Tensor) -> Tensor:
    """Positions `0 … wanted - 1` folded back into `0 … size - 1`; the border is not repeated."""
    period = ops.maximum(2 * (size - 1), 1)
    folded = ops.mod(ops.arange(wanted, dtype="int32"), period)
    return ops.minimum(folded, period - folded)


def _part_weights(size: Tensor, cells: int, dtype: str) -> Tensor:
    """`(cells, size)`: how much each position counts for the mean of each part; rows sum to 1."""
    length = ops.cast(size, dtype) / cells
    first = ops.arange(cells, dtype=dtype)[:, None] * length
    position = ops.arange(size, dtype=dtype)[None, :]
    shared = ops.minimum(position + 1.0, first + length) - ops.maximum(position, first)
    return ops.maximum(shared, 0.0) / length


def _between_weights(size: Tensor, cells: int, dtype: str) -> Tensor:
    """`(size, cells)`: how much of each part a position gets; rows sum to 1."""
    middle = (ops.arange(size, dtype=dtype)[:, None] + 0.5) / ops.cast(size, dtype) * cells - 0.5
    middle = ops.clip(middle, 0.0, cells - 1.0)
    return ops.maximum(1.0 - ops.abs(middle - ops.arange(cells, dtype=dtype)[None, :]), 0.0)

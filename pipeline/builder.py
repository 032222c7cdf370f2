"""From an architecture to a Keras model."""

import keras
from keras import layers

from pipeline.blocks import POOLINGS, conv, stage
from search_space.architecture import Architecture


def build_model(architecture: Architecture, num_bands: int, num_classes: int) -> keras.Model:
    """Build an untrained U-Net.

    Args:
        architecture: What to build.
        num_bands: Channels of the input.
        num_classes: Channels of the output; classes may overlap.

    Returns:
        A model from float32 `(N, H, W, num_bands)` to float32 `(N, H, W, num_classes)` in [0, 1]; H and W must be
        multiples of `architecture.divisor_px`.

    Source:
        Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015.
    """
    image = keras.Input((None, None, num_bands), name="image")
    x, skips = image, []
    for level in range(architecture.depth):
        x = stage(x, architecture.filters(level), architecture, f"down{level}")
        skips.append(x)
        x = POOLINGS[architecture.pooling](x, architecture, f"pool{level}")
    x = stage(x, architecture.filters(architecture.depth), architecture, "bottom")
    for level in reversed(range(architecture.depth)):
        x = _up(x, architecture, level)
        x = layers.Concatenate(name=f"skip{level}")([skips[level], x])
        x = stage(x, architecture.filters(level), architecture, f"up{level}")
    # Half-precision training must not round probabilities.
    masks = layers.Conv2D(num_classes, 1, activation="sigmoid", dtype="float32", name="masks")(x)
    return keras.Model(image, masks, name="unet")


def _up(x: keras.KerasTensor, architecture: Architecture, level: int) -> keras.KerasTensor:
    filters = architecture.filters(level)
    x = layers.Conv2DTranspose(
        filters, 2, strides=2, kernel_initializer=architecture.kernel_initialisation, name=f"rise{level}"
    )(x)
    return conv(x, filters, 1, architecture, f"rise{level}_mix")

"""Which band each channel within a network is, and kernels that were learned for some bands, made ones for others."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from pipeline.networks.keras_layers import SelectChannels


class Made(NamedTuple):
    """A channel that a layer has made.

    Attributes:
        layer: Its name.
        number: Which of its channels, from 0.
    """

    layer: str
    number: int


Channel = str | Made
"""The name of a band that was passed on, be it pooled or filtered by itself; or what a layer has made."""

Kernel = NDArray[np.float32]


def one_network(model: keras.Model) -> keras.Model:
    """A model as it is, or, of one that gives the mean of several networks' maps, the last that was taken."""
    networks = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return networks[-1] if networks else model


def channels_read(model: keras.Model, bands: Sequence[str]) -> dict[str, tuple[Channel, ...]]:
    """What each layer reads that has weights, or that adds or multiplies signals channel by channel.

    Args:
        model: As `pipeline.networks.builder` made it, or loaded from a file.
        bands: Names of its image's channels, in order.

    Returns:
        Name of a layer to the channels of its input; of several inputs, one after the other.
    """
    made: dict[int, tuple[Channel, ...]] = {}
    read: dict[str, tuple[Channel, ...]] = {}
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            made[id(layer.output)] = tuple(bands)
            continue
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        seen = [made[id(tensor)] for tensor in inputs]
        made[id(layer.output)] = _passed_on(layer, seen)
        if layer.weights or isinstance(layer, (layers.Add, layers.Multiply)):
            read[layer.name] = tuple(channel for each in seen for channel in each)
    return read


def _passed_on(layer: keras.layers.Layer, seen: Sequence[tuple[Channel, ...]]) -> tuple[Channel, ...]:
    if isinstance(layer, SelectChannels):
        return tuple(seen[0][place] for place in layer.channels)
    if isinstance(layer, layers.Concatenate):
        return tuple(channel for each in seen for channel in each)
    num_channels = layer.output.shape[-1]
    keeps_apart = not layer.weights or isinstance(layer, layers.DepthwiseConv2D)
    if len(seen) == 1 and len(seen[0]) == num_channels and keeps_apart:
        return seen[0]
    return tuple(Made(layer.name, number) for number in range(num_channels))


def bands_among(channels: Sequence[Channel]) -> tuple[str, ...]:
    """The bands among channels, in order."""
    return tuple(channel for channel in channels if isinstance(channel, str))


def for_channels(kernel: Kernel, old: Sequence[Channel], new: Sequence[Channel]) -> Kernel:
    """A kernel `(h, w, C, F)` for some channels, made one for others `(h, w, C', F)`.

    A known channel keeps its part. What bands had that are no longer there is shared evenly by the new bands, or by all
    where none is new; a new band where none has gone has no say at first. So every filter makes of a grey image, equal
    in all bands, what it made before; and, where no band has gone, of any image, whatever the new bands show. What a
    layer has made that is not in `old` has no say at first either.

    Args:
        kernel: Its third axis is `old`.
        old: No channel twice.
        new: As many as there shall be; at least one band where `old` has any.
    """
    places = {channel: place for place, channel in enumerate(old)}
    found = np.zeros((*kernel.shape[:2], len(new), kernel.shape[3]), np.float32)
    for place, channel in enumerate(new):
        if channel in places:
            found[:, :, place] = kernel[:, :, places[channel]]
    if gone := _gone(old, new):
        share = kernel[:, :, [places[band] for band in gone]].sum(axis=2)
        heirs = [place for place, each in enumerate(new) if isinstance(each, str) and each not in places]
        heirs = heirs or [place for place, each in enumerate(new) if isinstance(each, str)]
        found[:, :, heirs] += share[:, :, np.newaxis] / len(heirs)
    return found


def filters_for_channels(kernel: Kernel, old: Sequence[Channel], new: Sequence[Channel]) -> Kernel:
    """A kernel `(h, w, C, 1)` that filters each channel by itself, made one for others.

    A known channel keeps its filter; a new one takes the mean of those that have gone, or of all where none has.
    """
    places = {channel: place for place, channel in enumerate(old)}
    gone = [places[band] for band in _gone(old, new)]
    usual = kernel[:, :, gone or list(range(len(old)))].mean(axis=2)
    parts = [kernel[:, :, places[channel]] if channel in places else usual for channel in new]
    return np.stack(parts, axis=2).astype(np.float32)


def _gone(old: Sequence[Channel], new: Sequence[Channel]) -> list[str]:
    return [band for band in bands_among(old) if band not in new]

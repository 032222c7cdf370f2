"""Gives a new network the weights of one that was trained before, on other bands and for other classes."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from pipeline.models.start_source import Source, read_source
from pipeline.networks.channels import (
    Channel,
    Made,
    bands_among,
    channels_read,
    filters_for_channels,
    for_channels,
    one_network,
)
from search_space.errors import InfeasibleError, UnableError
from search_space.network.unet import InputBand

Weights = list[NDArray[np.float32]]

_HEAD = re.compile(r"head\d*_\w+_conv1")
"""The last convolution of each output: a channel for each class."""

_BRANCH = re.compile(r"branch\d+_")
"""Layers through which the bands of a coarser resolution enter."""

_OWN_WAY = "retrain --from takes the architecture of the model itself; or leave --from out"


@dataclass(frozen=True)
class StartReport:
    """What a network has taken from another.

    Attributes:
        source: The file.
        origin: Whose model it is, in words.
        num_layers: Layers that took weights.
        bands: Bands that both read; their parts of the first layers are as they were.
        new_bands: Bands that the source did not read.
        dropped_bands: Bands that only the source read.
        classes: Classes that the source mapped too; their channels of the heads are as they were.
        new_classes: Classes whose channels of the heads begin as those of any new network.
        new_layers: Layers with weights that the source does not have, and that begin as those of any new network.
    """

    source: Path
    origin: str
    num_layers: int
    bands: tuple[str, ...]
    new_bands: tuple[str, ...]
    dropped_bands: tuple[str, ...]
    classes: tuple[str, ...]
    new_classes: tuple[str, ...]
    new_layers: tuple[str, ...]

    @property
    def text(self) -> str:
        """One line."""
        parts = [f"{self.num_layers} layers of {self.origin}"]
        for what, names in (
            ("bands known", self.bands),
            ("bands new", self.new_bands),
            ("bands no longer read", self.dropped_bands),
            ("classes known", self.classes),
            ("classes new", self.new_classes),
            ("layers new", self.new_layers),
        ):
            if names:
                parts.append(f"{what}: {', '.join(names)}")
        return "; ".join(parts)


def start_from(model: keras.Model, source: Path, bands: Sequence[InputBand], class_names: Sequence[str]) -> StartReport:
    """Give a network the weights of a trained one of the same architecture; all of it can be trained on.

    Layers are known by their names. Those that read bands, be it after a selection, in a block of any kind, or in
    branches by resolution, are matched to the new bands by name, see `pipeline.networks.channels.for_channels`: where
    no band has gone, the network maps at first what the source maps, whatever new bands show; otherwise it does so of
    grey images. (Only nearly, where bands that have gone were filtered by themselves, as in separable blocks.) Heads,
    those of coarser stages and of energies too, are matched by classes: of a model of many classes, a network of one
    takes the channel of that class. Branches and heads that the source does not have begin as in any new network, and
    new branches are not heard at first; those that only the source has are left out.

    Of a model that gives the mean of several networks' maps, the last of these is taken.

    Weights alone are taken: each data set is scaled by its own numbers, as a new sensor's grey values mean something
    else. So what is standardised looks alike to the network.

    Args:
        model: As `pipeline.networks.builder.build_model` made it; left as it is where anything does not fit.
        source: A trial's `model.keras`, or a member of a model set.
        bands: The channels of the model's image.
        class_names: What the model maps, in order.

    Returns:
        What was taken.

    Raises:
        InfeasibleError: The source is of another architecture: which layer, and how it differs.
        UnableError: It cannot be read, see `read_source`.
        MapgroveError: As `read_source`.
    """
    about = read_source(source)
    trained = _load(source)
    start = _Start(model, trained, about, [band.name for band in bands], class_names)
    taken = {layer.name: start.weights_for(layer) for layer in start.shared}
    for layer in start.shared:
        layer.set_weights(taken[layer.name])
    return start.report()


def _load(path: Path) -> keras.Model:
    try:
        return one_network(keras.saving.load_model(path, compile=False))
    except (OSError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UnableError(
            f"{path} is damaged: no model can be read from it",
            received=str(error).partition("\n")[0][:120],
            remedy="Name another, or make it again",
        ) from error


class _Start:
    """Both networks side by side, layer by layer."""

    def __init__(
        self, model: keras.Model, trained: keras.Model, about: Source, bands: Sequence[str], class_names: Sequence[str]
    ) -> None:
        self._about = about
        self._class_names = tuple(class_names)
        ours = [layer for layer in model.layers if layer.weights]
        self._theirs = {layer.name: layer for layer in trained.layers if layer.weights}
        self._check_layers([layer.name for layer in ours])
        self.shared = [layer for layer in ours if layer.name in self._theirs]
        self._new_layers = tuple(layer.name for layer in ours if layer.name not in self._theirs)
        self._old, self._new = channels_read(trained, about.bands), channels_read(model, bands)
        self._check_sums()

    def weights_for(self, layer: keras.layers.Layer) -> Weights:
        """What a layer of the model takes."""
        name = layer.name
        weights: Weights = self._theirs[name].get_weights()
        old, new = self._old[name], self._new[name]
        if old != new:
            self._check_channels(layer, old, new)
            fit = filters_for_channels if isinstance(layer, layers.DepthwiseConv2D) else for_channels
            weights[0] = fit(weights[0], old, new)
        if _HEAD.fullmatch(name):
            weights = self._for_classes(weights, layer.get_weights())
        if [each.shape for each in weights] != [tuple(each.shape) for each in layer.weights]:
            theirs = [each.shape for each in self._theirs[name].get_weights()]
            raise self._other(
                f"its layer {name} has weights of {theirs}, not {[tuple(w.shape) for w in layer.weights]}"
            )
        return weights

    def report(self) -> StartReport:
        """What was taken, in words and numbers."""
        was, now = ({b for each in read.values() for b in bands_among(each)} for read in (self._old, self._new))
        known = self._about.classes
        return StartReport(
            source=self._about.path,
            origin=self._about.origin,
            num_layers=len(self.shared),
            bands=tuple(sorted(now & was)),
            new_bands=tuple(sorted(now - was)),
            dropped_bands=tuple(sorted(was - now)),
            classes=tuple(name for name in self._class_names if name in known),
            new_classes=tuple(name for name in self._class_names if name not in known),
            new_layers=self._new_layers,
        )

    def _for_classes(self, theirs: Weights, ours: Weights) -> Weights:
        """Kernel `(1, 1, C, K)` and bias `(K,)`: known classes are taken, others are those of the new network."""
        if theirs[0].shape[:-1] != ours[0].shape[:-1]:
            return theirs
        for place, name in enumerate(self._class_names):
            if name in self._about.classes:
                for one, other in zip(ours, theirs, strict=True):
                    one[..., place] = other[..., self._about.classes.index(name)]
        return ours

    def _check_layers(self, ours: Sequence[str]) -> None:
        for name in ours:
            if name not in self._theirs and not _may_be_new(name):
                raise self._other(f"it has no layer {name}")
        for name in self._theirs:
            if name not in ours and not _may_be_new(name):
                raise self._other(f"its layer {name} has no counterpart here")

    def _check_channels(self, layer: keras.layers.Layer, old: Sequence[Channel], new: Sequence[Channel]) -> None:
        """Refuse where other signals come in; other bands may, and other branches."""
        fixed = [[each for each in both if not _may_change(each)] for both in (old, new)]
        is_plain = isinstance(layer, layers.DepthwiseConv2D) or (isinstance(layer, layers.Conv2D) and layer.groups == 1)
        if fixed[0] != fixed[1] or not is_plain or bool(bands_among(old)) != bool(bands_among(new)):
            raise self._other(f"its layer {layer.name} reads other signals")

    def _check_sums(self) -> None:
        """Where bands themselves are added to as many filters, none can take another's place."""
        weighted = {*self._theirs, *self._new_layers}
        for name, new in self._new.items():
            old = self._old.get(name, ())
            if name not in weighted and old != new and (bands_among(old) or bands_among(new)):
                raise self._other(
                    f"in {name} the bands themselves are added to as many filters, so they must be the same in the "
                    f"same order: it reads {', '.join(self._about.bands)}",
                    "Name these in architecture.bands, or give architecture.base_filters another number",
                )

    def _other(self, how: str, remedy: str = _OWN_WAY) -> InfeasibleError:
        return InfeasibleError(
            f"the model to start from is of another architecture: {how}", received=str(self._about.path), remedy=remedy
        )


def _may_be_new(layer: str) -> bool:
    return bool(_HEAD.fullmatch(layer) or _BRANCH.match(layer))


def _may_change(channel: Channel) -> bool:
    return not isinstance(channel, Made) or bool(_BRANCH.match(channel.layer))

"""Published encoders with the weights that others have trained on ImageNet."""

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

import pipeline.networks.keras_layers  # noqa: F401  (Keras finds our layers by their names)
from pipeline.models.trial_model import holds_about, read_about
from pipeline.networks.channels import for_channels, one_network
from search_space.architecture import IMAGENET, NO_WEIGHTS, Architecture, GrownEncoder, Published
from search_space.errors import UnableError
from search_space.network.encoders import weighted_layers

Weights = Mapping[str, Sequence[NDArray[np.float32]]]
"""Name of a layer, as its source calls it, to its weights as Keras orders them."""

IN_KERAS = {"vgg16": "VGG16", "resnet50": "ResNet50", "efficientnet_b0": "EfficientNetB0"}
"""Encoders that Keras has, with weights that it fetches."""

COLOURS = ("red", "green", "blue")

DEVIATIONS = {"vgg16": (58.395, 57.12, 57.375), "resnet50": (58.395, 57.12, 57.375)}
"""Of ImageNet's red, green and blue, 0 to 255, for networks that were fed differences from the mean, blue first; the
others were fed bands of deviation 1, red first, as Mapgrove scales them."""

_TORCH_PARTS = ("weight", "bias", "running_mean", "running_var")


def load_pretrained(model: keras.Model, architecture: Architecture, bands: Sequence[str]) -> None:
    """Give the encoder of a model the weights that its architecture asks for; all others stay as they are.

    The first layer, made for red, green and blue, is widened to the model's bands, see `widened`. Of a model that was
    trained here, that layer is matched to them by name, see `for_channels`.

    Args:
        model: As `build_model` made it.
        architecture: What from.
        bands: Names of the bands that the network reads.

    Raises:
        UnableError: The weights cannot be fetched or read, or are those of another network.
    """
    encoder = architecture.encoder
    if isinstance(encoder, GrownEncoder) or encoder.weights == NO_WEIGHTS:
        return
    path = architecture.weights_file
    weights = _from_keras(encoder) if path is None else read_weights(path, encoder)
    wanted = weighted_layers(encoder, architecture.depth)
    if absent := [name for name in wanted if name not in weights]:
        raise UnableError(
            f"{encoder.weights} lacks {len(absent)} of {len(wanted)} layers of the encoder {encoder.kind}: {absent[0]}",
            received=sorted(weights)[:3],
            remedy=_how_to_get(encoder),
        )
    layers = {_source_name(layer.name): layer for layer in model.layers}
    for place, name in enumerate(wanted):
        layer, new = layers[name], list(weights[name])
        if place == 0 and new[0].ndim == 4:
            new[0] = _for_bands(new[0], encoder.kind, bands, None if path is None else bands_of_model(path))
        if [each.shape for each in new] != [tuple(each.shape) for each in layer.weights]:
            raise UnableError(
                f"the weights of {name} do not fit the encoder {encoder.kind}",
                received=[each.shape for each in new],
                remedy=_how_to_get(encoder),
            )
        layer.set_weights(new)


def _for_bands(
    kernel: NDArray[np.float32], kind: str, bands: Sequence[str], trained_on: Sequence[str] | None
) -> NDArray[np.float32]:
    """The first kernel, made one for these bands: of a model of ours by their names, of others by colours."""
    if trained_on is not None and len(trained_on) == kernel.shape[2]:
        return for_channels(kernel, trained_on, bands)
    return widened(as_standardised(kernel, kind), bands) if kernel.shape[2] == len(COLOURS) else kernel


def bands_of_model(path: Path) -> tuple[str, ...] | None:
    """The bands that a model which was trained here reads, in order; None for any other file.

    Raises:
        MapgroveError: What it says of itself is damaged.
    """
    if path.suffix != ".keras" or not holds_about(path):
        return None
    about = read_about(path)
    return about.candidate.architecture.bands or (*about.bands, *about.indices)


def read_weights(path: Path, encoder: Published) -> Weights:
    """Read weights from a file.

    Args:
        path: The file: a whole model of Keras (`.keras`, `.h5`), or one that was trained here with this encoder; for
            one that Keras has, also weights alone (`.weights.h5`, or as Keras publishes them); or PyTorch's names in
            `.safetensors`.
        encoder: Whose they are.

    Raises:
        UnableError: It is missing or damaged.
    """
    if not path.is_file():
        raise UnableError(
            "architecture.encoder.weights: there is no such file", received=str(path), remedy=_how_to_get(encoder)
        )
    try:
        if path.suffix == ".safetensors":
            return _from_torch(path)
        if path.suffix == ".h5" and encoder.kind in IN_KERAS and not _holds_model(path):
            model = _in_keras(encoder, None)
            with warnings.catch_warnings():
                # Of what does not fit Keras says no more than that.
                warnings.simplefilter("error", UserWarning)
                model.load_weights(path)
            return _by_layer(model)
        weights = _by_layer(one_network(keras.saving.load_model(path, compile=False)))
        is_ours = bands_of_model(path) is not None
        return {_source_name(name) if is_ours else name: each for name, each in weights.items()}
    except (
        *(OSError, ValueError, ImportError, KeyError, TypeError, UserWarning, SafetensorError),
        zipfile.BadZipFile,
    ) as error:
        raise UnableError(
            f"architecture.encoder.weights: {path} is damaged, or no file of weights",
            received=str(error).partition("\n")[0][:120],
            remedy=_how_to_get(encoder),
        ) from error


def as_standardised(kernel: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """The first kernel `(h, w, 3, F)` of a published encoder for red, green and blue of mean 0 and deviation 1."""
    if kind not in DEVIATIONS:
        return kernel
    return kernel[:, :, ::-1] * np.array(DEVIATIONS[kind], np.float32)[:, np.newaxis]


def widened(kernel: NDArray[np.float32], bands: Sequence[str]) -> NDArray[np.float32]:
    """A kernel `(h, w, 3, F)` for red, green and blue, made one for other bands `(h, w, B, F)`.

    A band called by a colour takes that colour's part, any other the mean of the three, weaker in proportion to how
    many bands there are. What is missing of a colour that no band shows is spread over all: so every filter makes of a
    grey image, equal in all bands, what it made before.
    """
    mean = kernel.mean(axis=2)
    parts = [kernel[:, :, COLOURS.index(name)] if name in COLOURS else mean for name in bands]
    wide = np.stack(parts, axis=2) * (len(COLOURS) / len(bands))
    missing = kernel.sum(axis=2) - wide.sum(axis=2)
    return np.asarray(wide + missing[:, :, np.newaxis] / len(bands), np.float32)


def _source_name(name: str) -> str:
    """A layer's name without that of its stage."""
    return name.partition("_")[2]


def _from_keras(encoder: Published) -> Weights:
    try:
        return _by_layer(_in_keras(encoder, IMAGENET))
    except Exception as error:
        # What fetching raises depends on how the network fails.
        raise UnableError(
            f"the ImageNet weights of {encoder.kind} cannot be fetched: {error}", remedy=_how_to_get(encoder)
        ) from error


def _in_keras(encoder: Published, weights: str | None) -> keras.Model:
    make: Any = getattr(keras.applications, IN_KERAS[encoder.kind])
    return make(include_top=False, weights=weights)


def _holds_model(path: Path) -> bool:
    with h5py.File(path) as file:
        return "model_config" in file.attrs


def _by_layer(model: keras.Model) -> Weights:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def _from_torch(path: Path) -> Weights:
    """PyTorch's layout `(out, in, h, w)` becomes Keras's `(h, w, in, out)`; `layer1.0.bn1` becomes `layer1_0_bn1`."""
    parts: dict[str, dict[str, NDArray[np.float32]]] = {}
    for key, values in load_file(path).items():
        layer, _, part = key.rpartition(".")
        turned = np.transpose(values, (2, 3, 1, 0)) if values.ndim == 4 else values
        parts.setdefault(layer.replace(".", "_"), {})[part] = np.asarray(turned, np.float32)
    return {layer: [found[part] for part in _TORCH_PARTS if part in found] for layer, found in parts.items()}


def _how_to_get(encoder: Published) -> str:
    if encoder.published:
        return f"Fetch {encoder.published} and name the file in architecture.encoder.weights"
    kind = encoder.kind
    made = f"keras.applications.{IN_KERAS[kind]}(include_top=False).save('{kind}.keras')"
    return f"Where there is a network run {made}, and name that file in architecture.encoder.weights"

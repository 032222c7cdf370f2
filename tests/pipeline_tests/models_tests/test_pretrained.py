"""Known encoders: the features that their source computes, and first layers that are widened to other bands."""

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from safetensors.numpy import save_file

from pipeline.models.pretrained import IN_KERAS, load_pretrained, widened
from pipeline.networks.builder import build_model
from search_space.architecture import Architecture
from search_space.decode import decode
from search_space.errors import MalformedError, UnableError
from search_space.network.unet import InputBand
from tests.pipeline_tests.trial_models import architecture_of, write_source

COLOURS = ("red", "green", "blue")


def network(kind: str, weights: str, bands: tuple[str, ...] = COLOURS, depth: int = 5) -> keras.Model:
    fields = {"depth": depth, "base_filters": 4, "units_per_stage": 1, "encoder": {"kind": kind, "weights": weights}}
    architecture = decode(Architecture, fields, where="test")
    model = build_model(architecture, [InputBand(band) for band in bands], 1)
    load_pretrained(model, architecture, bands)
    return model


def published(kind: str, folder: Path) -> tuple[keras.Model, Path]:
    """Keras's own network, with weights that nobody trained but that tell layers apart."""
    rng = np.random.default_rng(0)
    model = getattr(keras.applications, IN_KERAS[kind])(include_top=False, weights=None, input_shape=(64, 96, 3))
    for weights in model.weights:
        around = 1.0 if weights.path.rpartition("/")[2] in ("gamma", "moving_variance") else 0.0
        weights.assign(rng.normal(around, 0.05, weights.shape))
    model.save(folder / f"{kind}.keras")
    return model, folder / f"{kind}.keras"


def features(model: keras.Model, layer: Any, image: Any) -> Any:
    return keras.Model(model.inputs[0], layer.output).predict_on_batch(image)


def features_of_all(start: Any, layers: list[Any], image: Any) -> list[Any]:
    return keras.Model(start, [layer.output for layer in layers]).predict_on_batch(image)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "first", "lasts"),
    [
        ("vgg16", None, ("block3_pool", "block5_pool")),
        ("resnet50", None, ("conv1_relu", "conv3_block4_out", "conv5_block3_out")),
        # Before its stem it standardises by itself.
        ("efficientnet_b0", "stem_conv_pad", ("block1a_project_bn", "block4c_add", "block7a_project_bn")),
    ],
)
def test_encoders_find_in_standardised_images_the_features_that_kerass_own_find(
    kind: str, first: str | None, lasts: tuple[str, ...], tmp_path: Path
) -> None:
    theirs, path = published(kind, tmp_path)
    ours = network(kind, str(path))
    image = np.random.default_rng(1).normal(size=(1, 64, 96, 3)).astype(np.float32)
    deviation, mean = np.array([58.395, 57.12, 57.375]), np.array([123.68, 116.779, 103.939])
    photograph = image * deviation + mean
    preprocess = {"vgg16": keras.applications.vgg16, "resnet50": keras.applications.resnet50}
    fed = preprocess[kind].preprocess_input(photograph.copy()).astype(np.float32) if kind in preprocess else image
    start = theirs.inputs[0] if first is None else theirs.get_layer(first).input
    every = features_of_all(start, [theirs.get_layer(last) for last in lasts], fed)
    layers = [each for last in lasts for each in ours.layers if each.name.partition("_")[2] == last]
    for found, expected in zip(features_of_all(ours.inputs[0], layers, image), every, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.max())
        assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize(
    "bands",
    [
        ("nir",),
        ("red",),
        ("red", "nir"),
        ("nir", "red", "green"),
        ("green", "nir1", "nir2", "swir"),
        (*COLOURS, "nir", "swir"),
        COLOURS[::-1],
        tuple(f"band{number}" for number in range(20)),
    ],
    ids=lambda bands: f"{len(bands)} bands from {bands[0]}",
)
def test_a_widened_layer_makes_of_a_grey_image_what_it_made_before(bands: tuple[str, ...]) -> None:
    """By Keras: every filter, everywhere."""
    kernel = np.random.default_rng(0).normal(size=(7, 7, 3, 64)).astype(np.float32)
    grey = np.random.default_rng(1).normal(size=(1, 20, 30, 1)).astype(np.float32)

    def made(weights: np.ndarray) -> np.ndarray:
        layer = keras.layers.Conv2D(64, 7, use_bias=False)
        layer.build((None, None, None, weights.shape[2]))
        layer.set_weights([weights])
        return np.asarray(keras.ops.convert_to_numpy(layer(np.repeat(grey, weights.shape[2], axis=-1))))

    expected = made(kernel)
    np.testing.assert_allclose(made(widened(kernel, bands)), expected, atol=2e-5 * np.abs(expected).max())


def test_bands_called_by_colours_keep_their_own_weights() -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)
    np.testing.assert_allclose(widened(kernel, COLOURS), kernel, atol=1e-6)
    np.testing.assert_allclose(widened(kernel, COLOURS[::-1]), kernel[:, :, ::-1], atol=1e-6)
    mixed = widened(kernel, ("nir", *COLOURS))
    np.testing.assert_allclose(mixed[:, :, 1:], kernel * 3 / 4, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mixed[:, :, 0], kernel.mean(axis=2) * 3 / 4, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["weights alone", "as Keras publishes them"])
def test_weights_without_a_model_are_read_too(form: str, tmp_path: Path) -> None:
    theirs, _path = published("vgg16", tmp_path)
    alone = tmp_path / "vgg16_notop.weights.h5"
    if form == "weights alone":
        theirs.save_weights(alone)
    else:
        alone = tmp_path / "vgg16_notop.h5"
        with h5py.File(alone, "w") as file:
            save_weights_to_hdf5_group(file, theirs)
    ours = network("vgg16", str(alone))
    for name in ("block1_conv2", "block3_conv1", "block5_conv3"):
        [layer] = [each for each in ours.layers if each.name.endswith(name)]
        for found, expected in zip(layer.get_weights(), theirs.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(UnableError, match="is damaged, or no file of weights"):
        network("resnet50", str(alone))


def test_weights_in_pytorchs_layout_find_their_layers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = ("weight", "bias", "running_mean", "running_var")
    stored = {
        "conv1.weight": rng.normal(size=(64, 3, 7, 7)).astype(np.float32),
        **{
            f"bn1.{part}": rng.random(64).astype(np.float32)
            for part in ("weight", "bias", "running_mean", "running_var")
        },
        "bn1.num_batches_tracked": np.array(3),
        "fc.weight": np.zeros((10, 512), np.float32),
    }
    save_file(stored, tmp_path / "resnet34.safetensors")
    model = network("resnet34", str(tmp_path / "resnet34.safetensors"), depth=1)
    kernel = np.asarray(model.get_layer("bottom_conv1").weights[0])
    np.testing.assert_array_equal(kernel, np.transpose(stored["conv1.weight"], (2, 3, 1, 0)))
    for weights, part in zip(model.get_layer("bottom_bn1").weights, parts, strict=True):
        np.testing.assert_array_equal(np.asarray(weights), stored[f"bn1.{part}"])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "model"), [("resnet34", "resnet34"), ("se_resnext50", "seresnext50_32x4d")])
def test_encoders_find_the_features_that_pytorchs_find(kind: str, model: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch timm")
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install timm")
    torch.manual_seed(0)
    theirs = timm.create_model(model, features_only=True).eval()
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.8, 1.2)
    save_file({key: each.numpy() for key, each in theirs.state_dict().items()}, tmp_path / "weights.safetensors")
    ours = network(kind, str(tmp_path / "weights.safetensors"))
    image = np.random.default_rng(1).normal(size=(1, 64, 96, 3)).astype(np.float32)
    with torch.no_grad():
        expected = [each.numpy().transpose(0, 2, 3, 1) for each in theirs(torch.tensor(image.transpose(0, 3, 1, 2)))]
    lasts = ("down1_relu", "down2_layer1_2_relu", "down3_layer2_3_relu", "down4_layer3_5_relu", "bottom_layer4_2_relu")
    for name, one in zip(lasts, expected, strict=True):
        found = features(ours, ours.get_layer(name), image)
        np.testing.assert_allclose(found, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())


def test_a_model_that_was_trained_here_gives_its_encoder_to_others(tmp_path: Path) -> None:
    """With another decoder, at another depth, and for other bands."""
    fields: dict[str, Any] = {"encoder": {"kind": "resnet34"}, "depth": 1, "bands": ["red", "nir"]}
    theirs = write_source(tmp_path / "ours.keras", architecture_of(**fields), "blue nir red", ["road"])
    ours = network("resnet34", str(tmp_path / "ours.keras"), ("nir", "green", "red"), depth=1)
    last = "bottom_relu"
    image = np.random.default_rng(1).normal(size=(1, 32, 32, 3)).astype(np.float32)
    found = features(ours, ours.get_layer(last), image)
    as_they_read = np.stack([np.zeros_like(image[..., 0]), image[..., 0], image[..., 2]], axis=-1)
    np.testing.assert_allclose(found, features(theirs, theirs.get_layer(last), as_they_read), atol=1e-5)
    assert found.std() > 0.01
    with pytest.raises(
        UnableError, match=r"ours.keras lacks \d+ of \d+ layers of the encoder resnet34: layer1_0_conv1"
    ):
        network("resnet34", str(tmp_path / "ours.keras"), depth=2)


def test_weights_that_are_not_there_tell_how_to_get_them(tmp_path: Path) -> None:
    told = r"'encoder\.weights' must be a file, as Keras has no weights of this encoder: fetch https://hugg.*'imagenet'"
    with pytest.raises(MalformedError, match=told):
        network("resnet34", "imagenet", depth=1)
    with pytest.raises(UnableError, match=r"encoder\.weights: there is no such file. .*gone\.keras'\. Where there"):
        network("vgg16", str(tmp_path / "gone.keras"), depth=1)
    for name in ("junk.safetensors", "junk.keras", "junk.h5"):
        (tmp_path / name).write_bytes(b"junk that is no file of weights")
        with pytest.raises(UnableError, match=rf"{name} is damaged, or no file of weights"):
            network("vgg16", str(tmp_path / name), depth=1)
    write_source(tmp_path / "changed.keras", architecture_of(encoder={"kind": "resnet34"}, depth=1), "red", ["road"])
    whole = (tmp_path / "changed.keras").read_bytes()
    middle = whole.index(b"model.weights.h5") + 2000
    (tmp_path / "changed.keras").write_bytes(whole[:middle] + bytes(3000) + whole[middle + 3000 :])
    with pytest.raises(UnableError, match=r"changed\.keras is damaged, or no file of weights"):
        network("resnet34", str(tmp_path / "changed.keras"), depth=1)
    norm = {f"bn1.{part}": np.zeros(64, np.float32) for part in ("weight", "bias", "running_mean", "running_var")}
    save_file({"conv1.weight": np.zeros((64, 3, 5, 5), np.float32), **norm}, tmp_path / "other.safetensors")
    with pytest.raises(UnableError, match=r"the weights of conv1 do not fit the encoder resnet34.*\(5, 5, 3, 64\)"):
        network("resnet34", str(tmp_path / "other.safetensors"), depth=1)
    save_file({"head.weight": np.zeros((1, 1), np.float32)}, tmp_path / "none.safetensors")
    with pytest.raises(UnableError, match=r"lacks 2 of 2 layers of the encoder resnet34: conv1\. Received \['head'"):
        network("resnet34", str(tmp_path / "none.safetensors"), depth=1)
    assert network("resnet34", "none", depth=1).count_params() > 0

"""A network that starts from another maps what that maps: by name of band, by name of class, or not at all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.models.model_set import MODEL_SET_FILE
from pipeline.models.pretrained import widened
from pipeline.models.start_source import read_source, self_describing, source_candidate
from pipeline.models.starting_weights import StartReport, start_from
from pipeline.models.trial_model import write_trial_model
from pipeline.networks.builder import build_model
from pipeline.networks.channels import filters_for_channels, for_channels
from pipeline.training.averaging import Snapshots
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.errors import InfeasibleError, UnableError
from search_space.optimisation import CyclicRate, SnapshotAverage
from search_space.records import ClassMap, ModelMember, ModelSet
from search_space.study import Budget
from search_space.training_plan import TrainingPlan
from tests.pipeline_tests.trial_models import about, architecture_of, bands_of, maps_of, random_network, write_source

RNG = np.random.default_rng(5)
CLASSES = ("road", "water", "tree")


def started(
    folder: Path, bands: str, classes: Sequence[str] = CLASSES, architecture: Architecture | None = None
) -> tuple[keras.Model, StartReport]:
    architecture = architecture or source_candidate(folder / "model.keras").architecture
    model = build_model(architecture, bands_of(bands), len(classes))
    return model, start_from(model, folder / "model.keras", bands_of(bands), classes)


def picture(bands: str, values: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Each band its own values, `(1, 20, 24)`."""
    return np.stack([values[band.name] for band in bands_of(bands)], axis=-1)


def noise(bands: str) -> dict[str, NDArray[Any]]:
    return {band.name: RNG.normal(size=(1, 20, 24)) for band in bands_of(bands)}


ARCHITECTURES: dict[str, tuple[dict[str, Any], str, str]] = {
    # What to build; the source's bands; those of the new data: none has gone.
    "plain": ({}, "red green nir", "swir nir red coastal green"),
    "inception": ({"block": {"kind": "inception"}}, "red green", "nir green red"),
    "dense": ({"block": {"kind": "dense", "layers": 2}}, "red green", "nir green red"),
    "separable": ({"block": {"kind": "separable"}, "squeeze_excitation": True}, "red green", "green nir red"),
    "residual": ({"block": {"kind": "residual"}, "normalisation": "none"}, "red green", "nir green red"),
    "first": ({"encoder": {"kind": "grown", "first_kernel_px": 5, "residual_units": 1}}, "red green", "green x red"),
    "selected": ({"bands": ["nir", "red"]}, "red green nir", "nir blue red green"),
    "branches": ({"encoder": {"kind": "grown", "branches": True}}, "red nir/1 swir/1", "swir/1 blue red nir/1 x/1"),
    "a new branch": ({"encoder": {"kind": "grown", "branches": True}}, "red green", "swir/1 green red"),
    "a bottom": ({"bottom": {"kind": "attention"}, "up": {"kind": "subpixel"}}, "red", "nir red"),
    "resnet34": ({"encoder": {"kind": "resnet34"}}, "red green blue", "blue nir red green"),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_where_no_band_has_gone_it_maps_what_its_source_maps_whatever_new_bands_show(name: str, tmp_path: Path) -> None:
    fields, old, new = ARCHITECTURES[name]
    source = write_source(tmp_path / "model.keras", architecture_of(**fields), old, CLASSES)
    model, report = started(tmp_path, new)
    values = noise(new)

    expected = maps_of(source, picture(old, values))["masks"]
    np.testing.assert_allclose(maps_of(model, picture(new, values))["masks"], expected, atol=2e-5)

    assert expected.std() > 1e-3
    names = {band.name for band in bands_of(new)} & set(fields.get("bands", values))
    assert set(report.bands) | set(report.new_bands) == names
    assert not set(report.new_bands) & {band.name for band in bands_of(old)}
    assert (report.dropped_bands, report.new_classes) == ((), ())
    assert report.classes == CLASSES
    assert bool(report.new_layers) == (name == "a new branch")


@pytest.mark.parametrize(
    ("fields", "old", "new"),
    [
        ({}, "red green nir", "red green"),
        ({}, "red green nir", "blue swir1 red swir2"),
        ({"block": {"kind": "inception"}, "bands": ["nir", "red"]}, "red green nir", "red green"),
        ({"encoder": {"kind": "grown", "branches": True}}, "red green nir/1 swir/1", "red nir/1 x/1"),
        ({"encoder": {"kind": "efficientnet_b0"}}, "red green blue", "nir"),
    ],
    ids=["dropped", "dropped and new", "dropped from a selection", "of branches", "none known"],
)
def test_where_bands_have_gone_it_maps_grey_images_as_its_source_does(
    fields: dict[str, Any], old: str, new: str, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "model.keras", architecture_of(**fields), old, CLASSES)
    kept = [name for name in fields.get("bands", ()) if name in new.split()]
    model, report = started(tmp_path, new, architecture=architecture_of(**{**fields, "bands": kept}))
    grey = RNG.normal(size=(1, 20, 24, 1))

    expected = maps_of(source, np.repeat(grey, len(old.split()), axis=-1))["masks"]
    found = maps_of(model, np.repeat(grey, len(new.split()), axis=-1))["masks"]
    np.testing.assert_allclose(found, expected, atol=2e-5)

    assert expected.std() > 1e-3
    assert report.dropped_bands


def test_of_a_joint_model_a_network_of_one_class_takes_that_classs_channel(tmp_path: Path) -> None:
    architecture = architecture_of(depth=2, deep_supervision=True, energy=True)
    source = write_source(tmp_path / "model.keras", architecture, "red green", CLASSES)
    image = RNG.normal(size=(2, 20, 24, 2))
    theirs = maps_of(source, image)
    assert set(theirs) == {"masks", "masks1", "energy"}

    one, report = started(tmp_path, "red green", ["water"])
    for name, maps in maps_of(one, image).items():
        np.testing.assert_allclose(maps, theirs[name][..., 1:2], atol=1e-6)
    assert (report.classes, report.new_classes) == (("water",), ())

    keras.utils.set_random_seed(3)
    fresh = build_model(architecture, bands_of("red green"), 3)
    keras.utils.set_random_seed(3)
    several, report = started(tmp_path, "red green", ["tree", "rail", "road"])
    assert (report.classes, report.new_classes) == (("tree", "road"), ("rail",))
    for name, maps in maps_of(several, image).items():
        np.testing.assert_allclose(maps[..., [0, 2]], theirs[name][..., [2, 0]], atol=1e-6)
    for head in ("head_masks_conv1", "head1_masks_conv1", "head_energy_conv1"):
        for ours, usual in zip(several.get_layer(head).get_weights(), fresh.get_layer(head).get_weights(), strict=True):
            np.testing.assert_array_equal(ours[..., 1], usual[..., 1])
    assert "classes known: tree, road; classes new: rail" in report.text


def test_heads_that_only_one_of_both_has_are_no_hindrance(tmp_path: Path) -> None:
    plain, many = architecture_of(depth=2), architecture_of(depth=2, deep_supervision=True, energy=True)
    for theirs, ours, new in (
        (many, plain, ()),
        (plain, many, ("head1_masks_conv1", "head_energy_conv1")),
    ):
        source = write_source(tmp_path / "model.keras", theirs, "red", CLASSES)
        model, report = started(tmp_path, "red", CLASSES, ours)
        image = RNG.normal(size=(1, 20, 24, 1))
        np.testing.assert_allclose(maps_of(model, image)["masks"], maps_of(source, image)["masks"], atol=1e-6)
        assert sorted(report.new_layers) == sorted(new)


def test_all_of_it_can_be_trained_on(tmp_path: Path) -> None:
    write_source(tmp_path / "model.keras", architecture_of(), "red", CLASSES)
    model, _ = started(tmp_path, "red nir", ["road"])
    usual = build_model(architecture_of(), 2, 1)
    assert [w.shape for w in model.trainable_weights] == [w.shape for w in usual.trainable_weights]


def test_of_networks_whose_maps_are_averaged_the_last_is_taken(tmp_path: Path) -> None:
    architecture = architecture_of()
    plan = TrainingPlan(schedule=CyclicRate(start=0.0, cycles=2), averaging=SnapshotAverage(num=2, of="predictions"))
    networks = [random_network(architecture, "red nir", 3, seed) for seed in (1, 2)]
    snapshots = Snapshots(plan, Budget(epochs=2, steps_per_epoch=1))
    assert [snapshots.look(epoch, network) for epoch, network in enumerate(networks, start=1)] == [True, True]
    write_trial_model(tmp_path / "model.keras", snapshots.model(networks[0]), about(architecture, "red nir", CLASSES))
    model, _ = started(tmp_path, "nir red")
    image = RNG.normal(size=(1, 20, 24, 2))
    expected = maps_of(networks[1], image)["masks"]
    np.testing.assert_allclose(maps_of(model, image[..., ::-1])["masks"], expected, atol=2e-5)


def test_a_member_of_a_model_set_is_known_by_the_set(tmp_path: Path) -> None:
    architecture = architecture_of(base_filters=6)
    source = random_network(architecture, "red ndvi", 1)
    (tmp_path / "road").mkdir()
    source.save(tmp_path / "road" / "model.keras")
    member = ModelMember(
        class_name="road", file="road/model.keras", candidate=Candidate(architecture=architecture), threshold=0.5
    )
    models = ModelSet(
        study="whole",
        data_fingerprint="d",
        classes=CLASSES,
        bands=("red",),
        indices=("ndvi",),
        members=(member,),
        maps=(ClassMap(class_name="road", threshold=0.5),),
    )
    (tmp_path / MODEL_SET_FILE).write_text(json.dumps(encode(models)), encoding="utf-8")
    source_told = read_source(tmp_path / "road" / "model.keras")
    assert (source_told.bands, source_told.classes, source_told.origin) == (
        ("red", "ndvi"),
        ("road",),
        "road of study whole",
    )
    model, report = started(tmp_path / "road", "ndvi red", ["road"])
    image = RNG.normal(size=(1, 20, 24, 2))
    np.testing.assert_allclose(maps_of(model, image[..., ::-1])["masks"], maps_of(source, image)["masks"], atol=2e-5)
    assert report.text.startswith("9 layers of road of study whole; bands known: ndvi, red; classes known: road")
    copies = [self_describing(source_told, tmp_path / name) for name in ("one.keras", "two.keras")]
    assert copies[0].read_bytes() == copies[1].read_bytes(), "known by its contents when it is named again"
    again = read_source(copies[0])
    assert again.about == source_told.about
    assert self_describing(again, tmp_path / "three.keras") == copies[0], "it says so already"
    fresh = build_model(architecture, bands_of("red ndvi"), 1)
    start_from(fresh, copies[0], bands_of("red ndvi"), ["road"])
    np.testing.assert_array_equal(maps_of(fresh, image)["masks"], maps_of(source, image)["masks"])
    source.save(tmp_path / "road" / "other.keras")
    with pytest.raises(UnableError, match=r'does not know this model.*Name one of its own: \["road/model.keras"\]'):
        read_source(tmp_path / "road" / "other.keras")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"base_filters": 6}, r"layer down0_unit1_conv3 has weights of \[\(3, 3, 1, 4\)\], not \[\(3, 3, 1, 6\)\]"),
        ({"depth": 2}, "it has no layer down1_unit1_conv3"),
        ({"units_per_stage": 2}, "it has no layer down0_unit2_conv3"),
        ({"normalisation": "group"}, "it has no layer down0_unit1_groupnorm"),
        ({"encoder": {"kind": "resnet34"}}, "it has no layer bottom_conv1"),
        ({"skip": "add"}, "layer up0_unit1_conv3 has weights|layer up0_unit1_conv3 reads other signals"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, dict) else "",
)
def test_another_architecture_is_refused_by_layer_and_nothing_is_changed(
    fields: dict[str, Any], told: str, tmp_path: Path
) -> None:
    write_source(tmp_path / "model.keras", architecture_of(), "red", CLASSES)
    model = build_model(architecture_of(**fields), bands_of("red"), 3)
    before = model.get_weights()
    with pytest.raises(InfeasibleError, match=rf"of another architecture: .*({told}).*retrain --from takes the arch"):
        start_from(model, tmp_path / "model.keras", bands_of("red"), CLASSES)
    for ours, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, was)


def test_bands_that_are_added_to_filters_cannot_be_exchanged(tmp_path: Path) -> None:
    """Four bands and four filters: the first unit's shortcut is the image itself."""
    architecture = architecture_of(block={"kind": "residual"})
    source = write_source(tmp_path / "model.keras", architecture, "red green blue nir", CLASSES)
    model, _ = started(tmp_path, "red green blue nir")
    image = RNG.normal(size=(1, 20, 24, 4))
    np.testing.assert_allclose(maps_of(model, image)["masks"], maps_of(source, image)["masks"], atol=1e-6)
    with pytest.raises(InfeasibleError, match=r"in down0_unit1_add the bands .* red, green, blue, nir\."):
        started(tmp_path, "nir red green blue")
    with pytest.raises(InfeasibleError, match="it has no layer down0_unit1_shortcut_conv1"):
        started(tmp_path, "red green blue")


def test_what_is_no_model_to_start_from_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    model = build_model(architecture_of(), 1, 3)
    for content, told in (
        (None, "there is no such model to start from"),
        (b"text that is no model", "is damaged, or no model of Keras"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UnableError, match=told):
            start_from(model, path, bands_of("red"), CLASSES)
    write_source(path, architecture_of(), "red", CLASSES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnableError, match="is damaged, or no model of Keras"):
        start_from(model, path, bands_of("red"), CLASSES)
    middle = whole.index(b"model.weights.h5") + 2000
    path.write_bytes(whole[:middle] + bytes(3000) + whole[middle + 3000 :])
    with pytest.raises(UnableError, match="is damaged"):
        start_from(model, path, bands_of("red"), CLASSES)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(UnableError, match=r"nothing is known of this model.*architecture\.encoder\.weights"):
        start_from(model, path, bands_of("red"), CLASSES)


def test_kernels_of_other_bands_answer_to_grey_as_before() -> None:
    """By hand, and beside the widening of published encoders where nothing is known."""
    kernel = RNG.normal(size=(3, 3, 3, 8)).astype(np.float32)
    colours = ("red", "green", "blue")
    np.testing.assert_array_equal(for_channels(kernel, colours, colours[::-1]), kernel[:, :, ::-1])
    wide = for_channels(kernel, colours, ("nir", *colours))
    np.testing.assert_array_equal(wide[:, :, 1:], kernel)
    assert not wide[:, :, 0].any()
    moved = for_channels(kernel, colours, ("red", "nir", "swir"))
    np.testing.assert_array_equal(moved[:, :, 0], kernel[:, :, 0])
    for place in (1, 2):
        np.testing.assert_allclose(moved[:, :, place], (kernel[:, :, 1] + kernel[:, :, 2]) / 2, atol=1e-6)
    narrow = for_channels(kernel, colours, ("blue", "red"))
    np.testing.assert_allclose(narrow[:, :, 0], kernel[:, :, 2] + kernel[:, :, 1] / 2, atol=1e-6)
    np.testing.assert_allclose(narrow.sum(axis=2), kernel.sum(axis=2), atol=1e-5)
    strange = ("nir", "swir", "coastal", "thermal")
    np.testing.assert_allclose(for_channels(kernel, colours, strange), widened(kernel, strange), atol=1e-6)

    filters = kernel[..., :1]
    found = filters_for_channels(filters, colours, ("nir", "blue", "green"))
    np.testing.assert_array_equal(found, filters[:, :, [0, 2, 1]])
    found = filters_for_channels(filters, colours, ("nir", *colours))
    np.testing.assert_allclose(found[:, :, 0], filters.mean(axis=2), atol=1e-6)

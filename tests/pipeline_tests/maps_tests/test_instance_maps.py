"""Single things on maps: predicted with their energy in one pass, written, scored against labels of both kinds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import shapely
from geo_files import write_tiff
from numpy.typing import NDArray
from shapely.geometry import box

from pipeline.files import write_json
from pipeline.folds.ground import BlockGrid, Part
from pipeline.imagery.outlines import OUTLINES
from pipeline.imagery.rasters import read_instances, read_masks
from pipeline.maps.map_writing import write_map
from pipeline.maps.scene_maps import read_map_record, score_maps
from pipeline.models.model_set import LoadedModelSet
from pipeline.networks.builder import build_model
from pipeline.networks.prediction import Predictor, has_energy, model_predictor
from pipeline.preparation.prepare import prepare
from pipeline.preparation.prepared import PreparedDataset
from pipeline.scene import DataError
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.errors import MapgroveError
from search_space.polygon_score import PolygonCounts
from search_space.prediction import PredictionSettings
from search_space.records import ClassMap, ModelMember, ModelSet
from search_space.study import DataSettings
from search_space.training_plan import Scaling, TrainingPlan

TERRACE = [box(4, 4, 14, 16), box(14, 4, 26, 16)]
"""Two houses that share a wall, in pixels (x, y)."""

SHED = box(32, 20, 36, 24)
HOUSES = [*TERRACE, SHED]
PLAIN = PredictionSettings(tile_px=16, symmetries="none", batch_size=16)
APART = PLAIN.model_copy(update={"instances": ("house",), "marker_energy": 0.5})

Tiles = NDArray[np.float32]


def bright_and_high(tiles: Tiles) -> Tiles:
    """A model that needs no training: what is bright in the first band is a house, the second is the energy."""
    return np.stack([tiles[..., 0] > 0, tiles[..., 1] > 0], axis=-1).astype(np.float32)


def bright(tiles: Tiles) -> Tiles:
    return (tiles[..., :1] > 0).astype(np.float32)


def member(rank: int = 0, **architecture: Any) -> ModelMember:
    plan = TrainingPlan(patch_px=16, scaling=Scaling(kind="standard", scope="scene"))
    candidate = Candidate(architecture=Architecture(depth=1, **architecture), plan=plan)
    return ModelMember(class_name="house", file=f"house/{rank}.keras", candidate=candidate, threshold=0.5, rank=rank)


def models(*predictors: Predictor) -> LoadedModelSet:
    description = ModelSet(
        study="s",
        data_fingerprint="f",
        classes=("house",),
        bands=("band1", "band2"),
        members=tuple(member(rank, energy=each is not bright) for rank, each in enumerate(predictors)),
        maps=(ClassMap(class_name="house", threshold=0.5),),
    )
    return LoadedModelSet(description, lambda each: predictors[each.rank])


@pytest.fixture
def by_polygons(tmp_path: Path) -> PreparedDataset:
    """Bright houses, and a second band that is high within each but not at the wall between two."""
    bands = np.zeros((2, 30, 40), np.uint8)
    for house in HOUSES:
        left, top, right, bottom = (int(each) for each in house.bounds)
        bands[0, top:bottom, left:right] = 200
        bands[1, top + 2 : bottom - 2, left + 2 : right - 2] = 200
    path = write_tiff(tmp_path / "images" / "a.tif", bands)
    assert path.is_file()
    features = [
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(on_the_ground(path, house))}
        for house in HOUSES
    ]
    labels = tmp_path / "labels" / "a.geojson"
    labels.parent.mkdir()
    labels.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    options = {"labels": {"house": "labels/*.geojson"}, "labels_crs": "image"}
    return prepare(settings(tmp_path, "geotiff", options))


def settings(folder: Path, form: str, options: dict[str, Any]) -> DataSettings:
    return DataSettings(
        format=form, folder=str(folder), prepared=str(folder / "prepared"), classes=("house",), options=options
    )


def on_the_ground(image: Path, polygon: shapely.Polygon) -> shapely.Polygon:
    import rasterio

    with rasterio.open(image) as source:
        return shapely.transform(
            polygon, lambda points: np.column_stack(source.transform @ (points[:, 0], points[:, 1]))
        )


def test_houses_that_share_a_wall_are_mapped_and_scored_one_by_one(
    by_polygons: PreparedDataset, tmp_path: Path
) -> None:
    scene = by_polygons.scene("a")
    folder = write_map(models(bright_and_high), scene, APART, tmp_path / "maps").folder

    labels, classes = read_instances(folder / "instances.tif")
    assert classes == ("house",)
    masks, _ = read_masks(folder / "masks.tif")
    np.testing.assert_array_equal(labels > 0, masks > 0)
    for number, house in enumerate(HOUSES, start=1):
        left, top, right, bottom = (int(each) for each in house.bounds)
        assert (labels[top:bottom, left:right] == number).all()
    features = json.loads((folder / "polygons.geojson").read_text(encoding="utf-8"))["features"]
    assert [each["properties"]["instance"] for each in features] == [1, 2, 3]
    assert {each["properties"]["probability"] for each in features} == {1.0}
    assert "instances.tif" in read_map_record(folder).sizes_bytes

    score = score_maps(by_polygons, [Part.whole(scene)], tmp_path / "maps").polygons["house"]
    assert (score.f1, score.precision, score.recall, score.truth) == (1.0, 1.0, 1.0, "polygons")
    assert score.scenes == {"a": PolygonCounts(tp=3, fp=0, fn=0)}


def test_without_an_energy_the_terrace_is_one_and_scored_as_wrong(by_polygons: PreparedDataset, tmp_path: Path) -> None:
    """Connected as they are, its houses have one core: the larger is more than half of it, the smaller is missed."""
    scene = by_polygons.scene("a")
    write_map(models(bright), scene, APART, tmp_path / "maps")
    score = score_maps(by_polygons, [Part.whole(scene)], tmp_path / "maps").polygons["house"]
    assert score.counts == PolygonCounts(tp=2, fp=0, fn=1)


def test_things_are_told_apart_where_a_study_asks(by_polygons: PreparedDataset, tmp_path: Path) -> None:
    scene, maps = by_polygons.scene("a"), tmp_path / "maps"
    folder = write_map(models(bright_and_high), scene, APART, maps).folder
    assert write_map(models(bright_and_high), scene, APART, maps).class_shares is None
    other = APART.model_copy(update={"marker_energy": 0.4})
    assert write_map(models(bright_and_high), scene, other, maps).class_shares is not None

    assert write_map(models(bright_and_high), scene, PLAIN, maps).class_shares is not None
    assert not (folder / "instances.tif").exists()
    features = json.loads((folder / "polygons.geojson").read_text(encoding="utf-8"))["features"]
    assert [set(each["properties"]) for each in features] == [{"class", "threshold"}] * 2
    assert score_maps(by_polygons, [Part.whole(scene)], maps).polygons == {}


def test_a_scene_without_data_has_no_things(by_polygons: PreparedDataset, tmp_path: Path) -> None:
    scene = by_polygons.scene("a")
    scene.__dict__["valid"] = np.zeros(scene.shape_px, bool)
    folder = write_map(models(bright_and_high), scene, APART, tmp_path / "maps").folder
    assert not read_instances(folder / "instances.tif")[0].any()
    assert json.loads((folder / "polygons.geojson").read_text(encoding="utf-8"))["features"] == []


def test_only_the_ground_of_the_fold_is_scored(by_polygons: PreparedDataset, tmp_path: Path) -> None:
    """The left half has the terrace but for a strip of its second house."""
    scene = by_polygons.scene("a")
    write_map(models(bright_and_high), scene, APART, tmp_path / "maps")
    left, right = (Part(scene, BlockGrid((0, 30), (0, 20, 40)), blocks=(block,)) for block in (0, 1))
    assert score_maps(by_polygons, [left], tmp_path / "maps").polygons["house"].counts.tp == 2
    assert score_maps(by_polygons, [right], tmp_path / "maps").polygons["house"].counts.tp == 2


def test_the_energy_is_the_mean_of_the_members_that_map_it(by_polygons: PreparedDataset) -> None:
    def low(tiles: Tiles) -> Tiles:
        return bright_and_high(tiles) * np.float32([1.0, 0.5])

    mapped = models(bright, bright_and_high, low).map_scene(by_polygons.scene("a"), APART)
    energy = mapped.energies["house"]
    assert (energy.dtype, energy.shape) == (np.float32, (30, 40))
    np.testing.assert_allclose(energy[6:14, 6:12], 0.75)
    np.testing.assert_allclose(mapped.probabilities[6:14, 6:12, 0], 1.0)
    assert models(bright).map_scene(by_polygons.scene("a"), APART).energies == {}
    assert models(low).map_scene(by_polygons.scene("a"), PLAIN).energies == {}


def test_a_depth_below_nothing_is_none(by_polygons: PreparedDataset) -> None:
    def deep(tiles: Tiles) -> Tiles:
        return np.stack([tiles[..., 0] > 0, -1.0 - np.abs(tiles[..., 1])], axis=-1).astype(np.float32)

    for average in ("mean", "geometric"):
        settings = APART.model_copy(update={"average": average})
        energy = models(deep).map_scene(by_polygons.scene("a"), settings).energies["house"]
        np.testing.assert_array_equal(energy, np.zeros((30, 40), np.float32))


def test_labels_as_pixels_have_their_connected_places(tmp_path: Path) -> None:
    """A terrace drawn into a mask is one thing, and so is what was found of it where nothing parts it."""
    values = np.zeros((30, 40), np.uint8)
    for house in HOUSES:
        left, top, right, bottom = (int(each) for each in house.bounds)
        values[top:bottom, left:right] = 1
    for kind, array in (("images", values * 200), ("masks", values)):
        (tmp_path / kind).mkdir()
        assert cv2.imwrite(str(tmp_path / kind / "a.png"), array)
    options = {"images": "images/*.png", "masks": "masks/*.png", "values": {"house": 1}}
    dataset = prepare(settings(tmp_path, "masks", options))
    scene = dataset.scene("a")
    assert scene.outlines("house") is None
    assert not (scene.folder / OUTLINES).exists()

    found = models(bright)
    alike = found.description.model_copy(update={"bands": dataset.bands})
    write_map(LoadedModelSet(alike, found.predictor_of), scene, APART, tmp_path / "maps")
    score = score_maps(dataset, [Part.whole(scene)], tmp_path / "maps").polygons["house"]
    assert (score.f1, score.counts.tp, score.truth) == (1.0, 2, "masks")


def test_prepare_keeps_the_polygons_of_labels(by_polygons: PreparedDataset) -> None:
    scene = by_polygons.scene("a")
    kept = scene.outlines("house")
    assert kept is not None
    assert len(kept) == 3
    for polygon, house in zip(sorted(kept, key=lambda each: each.bounds), HOUSES, strict=True):
        assert polygon.symmetric_difference(house).area < 1e-6
    assert scene.outlines("road") == []
    (scene.folder / OUTLINES).write_bytes(b"PK")
    with pytest.raises(DataError, match="damaged"):
        scene.outlines("house")
    (scene.folder / OUTLINES).unlink()
    with pytest.raises(DataError, match="missing"):
        scene.check()


@pytest.fixture(scope="module")
def network() -> Any:
    architecture = Architecture(depth=1, base_filters=4, units_per_stage=1, energy=True, deep_supervision=True)
    return build_model(architecture, 2, 1)


def test_masks_and_energy_come_in_one_pass(network: Any) -> None:
    tiles = np.random.default_rng(0).normal(size=(2, 16, 16, 2)).astype(np.float32)
    outputs = network.predict_on_batch(tiles)
    both = model_predictor(network, with_energy=True)(tiles)
    np.testing.assert_allclose(both, np.concatenate([outputs["masks"], outputs["energy"]], axis=-1), atol=1e-6)
    np.testing.assert_allclose(model_predictor(network)(tiles), outputs["masks"], atol=1e-6)
    plain = build_model(Architecture(depth=1, base_filters=4, units_per_stage=1), 2, 1)
    assert (has_energy(network), has_energy(plain)) == (True, False)
    with pytest.raises(MapgroveError, match="energy = true"):
        model_predictor(plain, with_energy=True)


def test_a_set_of_files_maps_its_energy(network: Any, by_polygons: PreparedDataset, tmp_path: Path) -> None:
    (tmp_path / "set" / "house").mkdir(parents=True)
    network.save(tmp_path / "set" / "house" / "0.keras")
    write_json(tmp_path / "set" / "model_set.json", encode(models(bright_and_high).description))
    scene = by_polygons.scene("a")
    loaded = LoadedModelSet.open(tmp_path / "set")
    mapped = loaded.map_scene(scene, APART)
    assert np.isfinite(mapped.energies["house"]).all()
    assert np.abs(mapped.energies["house"] - mapped.probabilities[..., 0]).max() > 1e-3
    np.testing.assert_array_equal(loaded.predict(scene, APART), mapped.probabilities)


def test_a_study_names_classes_that_it_has(study: Callable[..., Any]) -> None:
    assert study(prediction={"instances": ["road"]}).prediction.instances == ("road",)
    with pytest.raises(MapgroveError, match=r"`prediction\.instances` names a class.*'raod'.*road"):
        study(prediction={"instances": ["raod"]})


@pytest.fixture
def study() -> Callable[..., Any]:
    from search_space.study import Study

    def made(**sections: Any) -> Study:
        plain = {
            "study": {"name": "s"},
            "data": {"format": "masks", "folder": "f", "prepared": "p", "classes": ["road", "water"]},
            "folds": {"validation": ["a"]},
            "budget": {"epochs": 1, "steps_per_epoch": 1},
            "retrain": {"epochs": 1, "steps_per_epoch": 1},
            "limits": {"max_trials": 1},
            **sections,
        }
        return decode(Study, plain, where="a study")

    return made

"""Maps on disk: what they remember of where they come from."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from geo_files import write_tiff
from numpy.typing import NDArray

from pipeline.folds.ground import BlockGrid, Part
from pipeline.imagery.rasters import read_masks
from pipeline.maps.map_writing import write_map
from pipeline.maps.scene_maps import ImageScene, MapRecord, open_image, read_map_record, score_maps
from pipeline.models.model_set import LoadedModelSet
from pipeline.preparation.prepare import prepare
from pipeline.preparation.prepared import PreparedDataset, PreparedScene
from pipeline.scene import Georeference
from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.errors import MapgroveError
from search_space.prediction import PredictionSettings
from search_space.records import ClassMap, ModelMember, ModelSet, ScoredGround
from search_space.study import DataSettings
from search_space.training_plan import Scaling, TrainingPlan

SETTINGS = PredictionSettings(tile_px=16, symmetries="none", batch_size=16)


def brightness(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """A model that needs no training: the first band, which is scaled to mean 0, through a logistic curve."""
    return 1.0 / (1.0 + np.exp(-tiles[..., :1]))


def models(*bands: str, threshold: float = 0.5) -> LoadedModelSet:
    candidate = Candidate(
        architecture=Architecture(depth=1), plan=TrainingPlan(patch_px=16, scaling=Scaling(scope="scene"))
    )
    member = ModelMember(class_name="road", file="road/model.keras", candidate=candidate, threshold=threshold)
    description = ModelSet(
        study="s",
        data_fingerprint="f",
        classes=("road",),
        bands=bands,
        members=(member,),
        maps=(ClassMap(class_name="road", threshold=threshold),),
    )
    return LoadedModelSet(description, lambda _: brightness)


def image(source: str = "abc") -> ImageScene:
    """Dark on the left, bright on the right, without data in a corner."""
    cube = np.zeros((24, 40, 2), np.float32)
    cube[:, 20:] = 100.0
    valid = np.ones((24, 40), bool)
    valid[:4, :4] = False
    cube[~valid] = np.nan
    return ImageScene("field", ("red", "nir"), source, cube, valid, Georeference())


def test_a_map_shows_the_scene_and_its_holes(tmp_path: Path) -> None:
    written = write_map(models("red", "nir"), image(), SETTINGS, tmp_path)

    masks, classes = read_masks(written.folder / "masks.tif")
    assert classes == ("road",)
    assert not masks[:, :19].any()
    assert masks[:, 21:].all()
    assert written.class_shares == {"road": pytest.approx(480 / (24 * 40 - 16), abs=0.03)}
    record = read_map_record(tmp_path / "field")
    assert set(record.sizes_bytes) == {"probabilities.tif", "masks.tif", "polygons.geojson", "overlay.png"}
    assert record == MapRecord(
        scene="field",
        source="abc",
        models=models("red", "nir").description.fingerprint,
        prediction=SETTINGS.model_copy(update={"batch_size": 0}),
        sizes_bytes=record.sizes_bytes,
    )


def test_models_refuse_imagery_with_other_bands(tmp_path: Path) -> None:
    with pytest.raises(MapgroveError, match=r"read the bands nir, red.*'red', 'nir'"):
        write_map(models("nir", "red"), image(), SETTINGS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told_before_the_scene_is_mapped(tmp_path: Path) -> None:
    (tmp_path / "maps").write_text("a file")
    loaded = LoadedModelSet(models("red", "nir").description, lambda _: pytest.fail("mapped in vain"))

    with pytest.raises(MapgroveError, match=r"the map's folder cannot be written: Not a directory. Received '.*field'"):
        write_map(loaded, image(), SETTINGS, tmp_path / "maps")


def test_a_map_is_drawn_again_only_where_something_changed(tmp_path: Path) -> None:
    assert write_map(models("red", "nir"), image(), SETTINGS, tmp_path).class_shares is not None
    assert write_map(models("red", "nir"), image(), SETTINGS, tmp_path).class_shares is None

    other = SETTINGS.model_copy(update={"overlap": 0.25})
    assert write_map(models("red", "nir"), image(), other, tmp_path).class_shares is not None
    assert write_map(models("red", "nir"), image("def"), other, tmp_path).class_shares is not None
    assert write_map(models("red", "nir", threshold=0.25), image("def"), other, tmp_path).class_shares is not None


def test_a_map_whose_files_are_gone_or_cut_is_drawn_again(tmp_path: Path) -> None:
    folder = write_map(models("red", "nir"), image(), SETTINGS, tmp_path).folder
    (folder / "masks.tif").write_bytes((folder / "masks.tif").read_bytes()[:100])
    assert write_map(models("red", "nir"), image(), SETTINGS, tmp_path).class_shares is not None
    (folder / "polygons.geojson").unlink()
    assert write_map(models("red", "nir"), image(), SETTINGS, tmp_path).class_shares is not None
    assert write_map(models("red", "nir"), image(), SETTINGS, tmp_path).class_shares is None


def test_a_scene_without_data_becomes_an_empty_map(tmp_path: Path) -> None:
    scene = image()
    scene.valid[:] = False
    written = write_map(models("red", "nir"), scene, SETTINGS, tmp_path)
    assert written.class_shares == {"road": 0.0}


def prepared(folder: Path, level: int) -> PreparedDataset:
    """One scene of which the right half is bright, and a road."""

    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:, 20:] = level
    for kind, array in (("images", pixels), ("masks", (pixels[..., 0] > 0).astype(np.uint8))):
        (folder / kind).mkdir(exist_ok=True)
        assert cv2.imwrite(str(folder / kind / "a.png"), array)
    options = {"images": "images/*.png", "masks": "masks/*.png", "values": {"road": 1}}
    return prepare(
        DataSettings(
            format="masks", folder=str(folder), prepared=str(folder / "prepared"), classes=("road",), options=options
        )
    )


def test_only_maps_of_the_scene_as_it_is_are_scored(tmp_path: Path) -> None:
    found, dataset = models("red", "green", "blue"), prepared(tmp_path, 200)
    write_map(found, dataset.scene("a"), SETTINGS, tmp_path / "maps")

    whole = [Part.whole(dataset.scene("a"))]
    scored = score_maps(dataset, whole, tmp_path / "maps")
    assert scored.ground == (ScoredGround(scene="a"),)
    assert scored.models == found.description.fingerprint
    assert scored.score.classes["road"].jaccard == pytest.approx(1.0, abs=0.06)

    with pytest.raises(MapgroveError, match="before it was prepared again"):
        score_maps(prepared(tmp_path, 150), whole, tmp_path / "maps")
    with pytest.raises(MapgroveError, match="scene a has no map"):
        score_maps(dataset, whole, tmp_path / "elsewhere")


def test_maps_of_different_models_are_not_scored_together(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, 200)
    write_map(models("red", "green", "blue"), dataset.scene("a"), SETTINGS, tmp_path / "maps")
    record = tmp_path / "maps" / "b" / "map.json"
    record.parent.mkdir()
    other = models("red", "green", "blue", threshold=0.25).description.fingerprint
    text = (tmp_path / "maps" / "a" / "map.json").read_text(encoding="utf-8")
    record.write_text(text.replace(models("red", "green", "blue").description.fingerprint, other), encoding="utf-8")

    scene = dataset.scene("a")
    twin = PreparedScene(scene.folder, scene.record.model_copy(update={"id": "b"}))
    with pytest.raises(MapgroveError, match="different models"):
        score_maps(dataset, [Part.whole(scene), Part.whole(twin)], tmp_path / "maps")


def test_a_map_is_scored_on_the_ground_of_the_fold_alone(tmp_path: Path) -> None:
    """The labels say road where the map has none, but for one block in the bright half."""
    dataset = prepared(tmp_path, 200)
    masks = np.load(tmp_path / "prepared" / "a" / "masks.npy")
    masks[:, :26] = 1 - masks[:, :26]
    np.save(tmp_path / "prepared" / "a" / "masks.npy", masks)
    scene = dataset.scene("a")
    write_map(models("red", "green", "blue"), scene, SETTINGS, tmp_path / "maps")
    part = Part(scene, BlockGrid.over(scene.shape_px, 12), blocks=(2,))

    scored = score_maps(dataset, [part], tmp_path / "maps")

    assert scored.score.classes["road"].tp == 12 * 14
    assert scored.score.mean_jaccard == 1.0
    assert scored.ground == (ScoredGround(scene="a", blocks_px=((0, 26, 12, 40),), known_share=0.175),)
    whole = score_maps(dataset, [Part.whole(scene)], tmp_path / "maps")
    assert whole.score.classes["road"].jaccard == pytest.approx(0.3, abs=0.05)


def test_a_class_that_the_ground_lacks_has_no_score(tmp_path: Path) -> None:
    """Neither a free 1 where the map is empty, nor a 0 for a single pixel too much."""
    dataset = prepared(tmp_path, 200)
    scene = dataset.scene("a")
    write_map(models("red", "green", "blue"), scene, SETTINGS, tmp_path / "maps")
    dark, bright = (Part(scene, BlockGrid.over(scene.shape_px, 20), blocks=(block,)) for block in (0, 1))

    assert score_maps(dataset, [bright], tmp_path / "maps").score.absent == ()
    score = score_maps(dataset, [dark], tmp_path / "maps").score
    assert score.absent == ("road",)
    assert score.classes["road"].jaccard is None
    assert score.mean_jaccard is None


def opened(
    path: Path, form: str, bands: tuple[str, ...] = (), indices: tuple[str, ...] = (), **options: object
) -> ImageScene:
    """An image from elsewhere, for a study whose own imagery is not there."""
    settings = DataSettings(
        format=form, folder="gone", prepared="gone", classes=("x",), bands=bands, indices=indices, options=options
    )
    return open_image(path, settings)


TWO = {"images": {"ms": "*_ms.tif", "pan": "*_pan.tif"}, "labels": {"x": "labels/*.geojson"}}
NAMES = {"band_names": {"ms": ["green", "nir"], "pan": ["pan"]}}


def test_images_from_elsewhere_are_read_in_every_format(tmp_path: Path) -> None:
    planes = np.arange(2 * 6 * 8).reshape(2, 6, 8).astype(np.uint16)
    ms = write_tiff(tmp_path / "a_ms.tif", planes)
    write_tiff(tmp_path / "a_pan.tif", planes[:1] + 500)
    rgb = np.stack([np.full((6, 8), level, np.uint16) for level in (10, 20, 30)])
    dstl = tmp_path / "three_band" / "6010_1_2.tif"
    dstl.parent.mkdir()
    tifffile.imwrite(dstl, rgb, photometric="minisblack")
    plain = write_tiff(tmp_path / "plain.tif", rgb)

    scene = opened(ms, "geotiff", ("pan", "green"), ("ndwi",), **TWO, **NAMES)
    assert (scene.id, scene.bands) == ("a_ms", ("pan", "green", "ndwi"))
    np.testing.assert_allclose(scene.cube[1, 1], [509, 9, (9 - 57) / (9 + 57)], rtol=1e-6)
    assert scene.georeference.transform is not None

    assert opened(plain, "masks", values={"x": 1}).cube[0, 0].tolist() == [10, 20, 30]
    assert opened(plain, "spacenet", ("blue", "red")).cube[0, 0].tolist() == [30, 10]
    assert opened(dstl, "dstl", ("green",)).cube[0, 0].tolist() == [20]


def test_an_index_needs_files_that_no_band_does(tmp_path: Path) -> None:
    green = write_tiff(tmp_path / "a_ms.tif", np.full((1, 6, 8), 30, np.uint16))
    names = {"band_names": {"ms": ["green"], "pan": ["nir"]}}
    with pytest.raises(MapgroveError, match=r"one file does not hold all bands.*that of pan is missing"):
        opened(green, "geotiff", ("green",), ("ndwi",), **TWO, **names)
    write_tiff(tmp_path / "a_pan.tif", np.full((1, 6, 8), 90, np.uint16))
    assert opened(green, "geotiff", ("green",), ("ndwi",), **TWO, **names).cube[0, 0].tolist() == [30, -0.5]


def test_the_source_of_an_image_is_all_of_its_files(tmp_path: Path) -> None:
    planes = np.ones((2, 6, 8), np.uint16)
    ms, pan = write_tiff(tmp_path / "a_ms.tif", planes), write_tiff(tmp_path / "a_pan.tif", planes[:1])
    before = opened(ms, "geotiff", **TWO, **NAMES).source
    assert opened(ms, "geotiff", **TWO, **NAMES).source == before
    write_tiff(pan, planes[:1] + 1)
    assert opened(ms, "geotiff", **TWO, **NAMES).source != before
    assert (
        opened(ms, "geotiff", ("green",), **TWO, **NAMES).source
        == opened(ms, "geotiff", ("nir",), **TWO, **NAMES).source
    )


def test_the_source_of_an_image_tells_how_its_pixels_are_made(tmp_path: Path) -> None:
    """Else a map that was drawn, or begun, with another no-data value or on another grid would be kept."""
    path = write_tiff(tmp_path / "a.tif", np.ones((3, 6, 8), np.uint8))
    settings = DataSettings(
        format="masks", folder="gone", prepared="gone", classes=("x",), options={"values": {"x": 1}, "nodata": 1}
    )
    first = open_image(path, settings)
    assert not first.valid.any()
    finer = settings.model_copy(update={"grid": abs(first.georeference.transform[0]) / 2.0})
    other = settings.model_copy(update={"options": {"values": {"x": 1}, "nodata": 2}})
    assert len({open_image(path, each).source for each in (settings, settings, finer, other)}) == 3


def test_a_band_that_the_image_cannot_have_is_named(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", np.ones((3, 6, 8), np.uint8))
    with pytest.raises(
        MapgroveError, match=r"a\.tif: the image lacks bands that the study needs.*'red', 'green', 'blue'"
    ):
        opened(path, "masks", ("rde",), values={"x": 1})
    with pytest.raises(MapgroveError, match=r"a\.tif: the image lacks bands that the study needs: .*ndwi") as caught:
        opened(path, "spacenet", ("red",), ("ndwi",))
    assert "Leave" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_from_elsewhere_comes_to_the_grid_of_the_study(tmp_path: Path) -> None:
    planes = np.arange(3 * 6 * 8).reshape(3, 6, 8).astype(np.uint16)
    path = write_tiff(tmp_path / "a.tif", planes)
    own = open_image(path, image_settings("native"))
    assert own.georeference.transform is not None

    coarse = open_image(path, image_settings(2 * abs(own.georeference.transform[0])))

    assert coarse.cube.shape == (3, 4, 3)
    np.testing.assert_allclose(coarse.cube[..., 0], planes[0].reshape(3, 2, 4, 2).mean(axis=(1, 3)), rtol=1e-5)
    assert coarse.georeference.transform is not None
    assert coarse.georeference.transform[0] == pytest.approx(2 * own.georeference.transform[0])


def image_settings(grid: str | float) -> DataSettings:
    options = {"values": {"x": 1}}
    return DataSettings(format="masks", folder="gone", prepared="gone", classes=("x",), grid=grid, options=options)

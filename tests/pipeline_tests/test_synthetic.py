"""The synthetic data set: the exact format, labels that agree with pixels, spectra that tell classes apart."""

import csv
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile

from pipeline.datasets.dstl import CLASSES, SAME_GROUND
from pipeline.folds import make_fold
from pipeline.prepare import prepare
from pipeline.prepared import PreparedDataset
from pipeline.scene import DataError
from pipeline.synthetic import synthetic_scene_ids, write_synthetic_dstl
from search_space.study import DataSettings, FoldSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "dstl"
    write_synthetic_dstl(folder, num_scenes=4, size_px=220, seed=5)
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path) -> PreparedDataset:
    settings = DataSettings(
        format="dstl",
        folder=str(folder),
        prepared=str(folder.parent / "prepared"),
        classes=CLASSES,
        indices=("evi", "ndwi", "savi", "ccci"),
    )
    return prepare(settings)


def rows_of(path: Path) -> list[list[str]]:
    csv.field_size_limit(2**31 - 1)
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_files_are_as_the_competitions(folder: Path) -> None:
    scene_id = synthetic_scene_ids(1)[0]
    rgb = tifffile.imread(folder / "three_band" / f"{scene_id}.tif")
    pan, m, a = (tifffile.imread(folder / "sixteen_band" / f"{scene_id}_{kind}.tif") for kind in "PMA")
    height, width = pan.shape
    assert rgb.shape == (3, height, width)
    assert m.shape == (8, round(height / 4), round(width / 4))
    assert a.shape == (8, round(height / 25), round(width / 25))
    assert {image.dtype for image in (rgb, pan, m, a)} == {np.dtype(np.uint16)}
    assert max(image.max() for image in (rgb, pan, m)) < 2**11
    assert 2**11 < a.max() < 2**14


def test_tables_are_as_the_competitions(folder: Path) -> None:
    ids = synthetic_scene_ids(4)
    sizes = rows_of(folder / "grid_sizes.csv")
    assert sizes[0] == ["", "Xmax", "Ymin"]
    assert len(sizes) == 1 + 5
    assert all(float(xmax) > 0 > float(ymin) for _, xmax, ymin in sizes[1:])
    labels = rows_of(folder / "train_wkt_v4.csv")
    assert labels[0] == ["ImageId", "ClassType", "MultipolygonWKT"]
    assert [row[:2] for row in labels[1:]] == [[name, str(n)] for name in ids for n in range(1, 11)]
    assert any(row[2] == "MULTIPOLYGON EMPTY" for row in labels[1:])
    shapes = [shapely.from_wkt(row[2]) for row in labels[1:]]
    assert {shape.geom_type for shape in shapes} == {"MultiPolygon"}
    submission = rows_of(folder / "sample_submission.csv")
    assert [row[:2] for row in submission[1:]] == [["6180_0_3", str(n)] for n in range(1, 11)]


def test_polygons_lie_within_the_grid(folder: Path) -> None:
    sizes = {row[0]: (float(row[1]), float(row[2])) for row in rows_of(folder / "grid_sizes.csv")[1:]}
    for scene_id, _, wkt in rows_of(folder / "train_wkt_v4.csv")[1:]:
        xmax, ymin = sizes[scene_id]
        if wkt != "MULTIPOLYGON EMPTY":
            left, bottom, right, top = shapely.from_wkt(wkt).bounds
            assert left >= 0
            assert right <= xmax * 1.01
            assert bottom >= ymin * 1.01
            assert top <= 0


def test_every_scene_can_be_learnt_from_and_rare_things_are_rare(prepared: PreparedDataset) -> None:
    shares = {name: prepared.scene(name).record.class_shares for name in synthetic_scene_ids(4)}
    for name in ("buildings", "trees", "crops", "track"):
        assert all(share[name] > 0.002 for share in shares.values()), name
    for name in ("road", "waterway", "vehicle_large"):
        present = [share[name] > 0 for share in shares.values()]
        assert any(present), name
        assert not all(present), name
    assert not prepared.scene("6180_0_3").labelled


def test_classes_overlap(prepared: PreparedDataset) -> None:
    assert any((prepared.scene(name).masks.sum(axis=2) > 1).any() for name in prepared.scene_ids)


def test_water_is_dark_and_plants_are_bright_in_near_infrared(prepared: PreparedDataset) -> None:
    scene = prepared.scene(synthetic_scene_ids(1)[0])
    nir, ndwi = (scene.cube[..., prepared.bands.index(name)] for name in ("m_nir2", "ndwi"))
    mean = {name: nir[scene.masks[..., CLASSES.index(name)] > 0].mean() for name in ("standing_water", "crops", "road")}
    assert mean["standing_water"] < 0.75 * mean["road"] < 0.75 * mean["crops"]
    water = scene.masks[..., CLASSES.index("standing_water")] > 0
    assert ndwi[water].mean() > ndwi[~water].mean() + 0.1
    assert np.isfinite(scene.cube).all()


def test_labels_lie_where_the_pixels_are(prepared: PreparedDataset) -> None:
    """Shifting the labels by some pixels in any direction makes ponds less alike in pan."""
    scene = prepared.scene(synthetic_scene_ids(1)[0])
    red = np.asarray(scene.cube[..., prepared.bands.index("red")])
    pond = scene.masks[..., CLASSES.index("standing_water")] > 0

    def spread(rows: int, columns: int) -> float:
        return float(red[np.roll(pond, (rows, columns), axis=(0, 1))].std())

    assert spread(0, 0) < min(spread(*shift) for shift in ((2, 0), (-2, 0), (0, 2), (0, -2)))


def test_means_are_near_the_published_ones(prepared: PreparedDataset) -> None:
    published = (414, 460, 326, 503, 295, 326, 460, 482, 414, 528, 678, 530, 4243, 4473, 4179, 3708, 2887, 2590)
    for position, mean in enumerate(published):
        means = [prepared.scene(name).record.bands[position].mean for name in prepared.scene_ids]
        assert np.mean(means) == pytest.approx(mean, rel=0.12), prepared.bands[position]


def test_makes_a_fold(prepared: PreparedDataset) -> None:
    fold = make_fold(FoldSettings(validation=(synthetic_scene_ids(3)[2],)), prepared)
    assert len(fold.training) == 3
    assert fold.unlabelled == ("6180_0_3",)


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_synthetic_dstl(tmp_path / name, num_scenes=1, size_px=80, seed=seed)
    contents = [(tmp_path / name / "three_band" / "6010_1_2.tif").read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]
    tables = [(tmp_path / name / "train_wkt_v4.csv").read_bytes() for name in "ab"]
    assert tables[0] == tables[1]


def test_written_once_and_never_over_something_else(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_synthetic_dstl(folder, num_scenes=1, size_px=80)
    before = (folder / "grid_sizes.csv").stat().st_mtime_ns
    assert write_synthetic_dstl(folder, num_scenes=1, size_px=80) == ("6010_1_2", "6180_0_3")
    assert (folder / "grid_sizes.csv").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="holds something else"):
        write_synthetic_dstl(folder, num_scenes=2, size_px=80)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("arguments", [{"num_scenes": 0}, {"size_px": 10}])
def test_arguments_out_of_range(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(DataError, match="at least 1 scene of at least 64 px"):
        write_synthetic_dstl(tmp_path / "x", **arguments)


def test_ids_are_unique_and_no_two_show_the_same_ground() -> None:
    ids = synthetic_scene_ids(400)
    assert len(set(ids)) == 400
    assert not set(ids) & {name for group in SAME_GROUND for name in group}

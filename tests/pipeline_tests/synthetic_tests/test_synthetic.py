"""The synthetic data set: the exact format, known shifts, labels that agree with pixels, and what real data have."""

import csv
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import shapely
import tifffile
from numpy.typing import NDArray
from scipy import ndimage
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from pipeline.datasets.dstl import CLASSES, SAME_GROUND
from pipeline.datasets.table import open_dataset
from pipeline.folds.folds import make_fold
from pipeline.imagery.rasterise import rasterise
from pipeline.imagery.registration import measure_shift
from pipeline.preparation.prepare import prepare
from pipeline.preparation.prepared import PreparedDataset
from pipeline.scene import DataError, PolygonLabels, Scene
from pipeline.synthetic.scenes import (
    FULL_SIZE,
    read_synthetic_truth,
    synthetic_scene_ids,
    write_full_size_dstl,
    write_synthetic_dstl,
)
from search_space.fold_settings import FoldSettings
from search_space.study import DataSettings
from search_space.study_file import read_study

Array = NDArray[Any]

PUBLISHED_MEANS = (
    *(414, 460, 326, 503, 295, 326, 460, 482, 414, 528, 678, 530),
    *(4243, 4473, 4179, 3708, 2887, 2590, 2526, 2417),
)
PUBLISHED_DEVIATIONS = (62, 47, 25, 55, 14, 25, 47, 62, 61, 59, 86, 69, 448, 635, 567, 523, 530, 462, 487, 479)

FIRST_DATE, SECOND_DATE = SAME_GROUND[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "dstl"
    write_synthetic_dstl(folder, num_scenes=6, size_px=300, seed=5)
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path) -> PreparedDataset:
    settings = DataSettings(
        format="dstl",
        folder=str(folder),
        prepared=str(folder.parent / "prepared"),
        classes=CLASSES,
        indices=("evi", "ndwi", "savi", "ccci", "(nir1 - red_edge) / (nir1 + red_edge)"),
    )
    return prepare(settings)


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full") / "dstl"
    write_full_size_dstl(folder, num_scenes=1, seed=3)
    return folder


def rows_of(path: Path) -> list[list[str]]:
    csv.field_size_limit(2**31 - 1)
    with path.open(newline="") as file:
        return list(csv.reader(file))


def paths_of(folder: Path, scene_id: str) -> dict[str, Path]:
    sixteen = {kind: folder / "sixteen_band" / f"{scene_id}_{kind}.tif" for kind in "PMA"}
    return {"RGB": folder / "three_band" / f"{scene_id}.tif", **sixteen}


def images_of(folder: Path, scene_id: str) -> dict[str, Array]:
    return {kind: tifffile.imread(path) for kind, path in paths_of(folder, scene_id).items()}


def read_scene(folder: Path, scene_id: str) -> Scene:
    settings = DataSettings(format="dstl", folder=str(folder), prepared="unused", classes=CLASSES)
    return open_dataset(settings).read(scene_id, [band.name for band in open_dataset(settings).bands])


def labels_of(scene: Scene) -> Mapping[str, tuple[BaseGeometry, ...]]:
    assert isinstance(scene.labels, PolygonLabels)
    return scene.labels.by_class


def masks_of(scene: Scene) -> dict[str, Array]:
    return {name: rasterise(shapes, scene.height_px, scene.width_px) for name, shapes in labels_of(scene).items()}


def test_files_are_as_the_competitions(folder: Path) -> None:
    for scene_id in synthetic_scene_ids(6):
        image = images_of(folder, scene_id)
        height, width = image["P"].shape
        assert image["RGB"].shape == (3, height, width)
        for kind, divisor in (("M", 4), ("A", 25)):
            bands, rows, columns = image[kind].shape
            assert bands == 8
            assert abs(rows - height / divisor) < 1
            assert abs(columns - width / divisor) < 1
        assert {each.dtype for each in image.values()} == {np.dtype(np.uint16)}
        assert max(image[kind].max() for kind in ("RGB", "P", "M")) < 2**11
        assert 2**11 < image["A"].max() < 2**14
        for kind, path in paths_of(folder, scene_id).items():
            with tifffile.TiffFile(path) as tiff:
                page = tiff.pages[0]
                assert page.compression == tifffile.COMPRESSION.NONE
                assert page.planarconfig == (
                    tifffile.PLANARCONFIG.CONTIG if kind == "P" else tifffile.PLANARCONFIG.SEPARATE
                )
                assert page.bitspersample == 16


def test_sizes_of_scenes_and_roundings_differ(folder: Path) -> None:
    shapes = [{k: v.shape[-2:] for k, v in images_of(folder, name).items()} for name in synthetic_scene_ids(6)]
    assert len({each["RGB"] for each in shapes}) > 3
    roundings = {
        coarse > fine / divisor
        for each in shapes
        for kind, divisor in (("M", 4), ("A", 25))
        for coarse, fine in zip(each[kind], each["RGB"], strict=True)
    }
    assert roundings == {True, False}, "some are rounded up and some down"


def test_tables_are_as_the_competitions(folder: Path) -> None:
    ids = synthetic_scene_ids(6)
    sizes = rows_of(folder / "grid_sizes.csv")
    assert (folder / "grid_sizes.csv").read_bytes().startswith(b",Xmax,Ymin\n6010_1_2,0.0")
    assert len(sizes) == 1 + 7
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
    shares = {name: prepared.scene(name).record.class_shares for name in synthetic_scene_ids(6)}
    for name in ("buildings", "trees", "crops", "track"):
        assert all(share[name] > 0.002 for share in shares.values()), name
    for name in ("road", "waterway", "vehicle_large", "standing_water", "misc_structures"):
        present = [share[name] > 0 for share in shares.values()]
        assert any(present), name
        assert not all(present), name
    assert np.mean([share["vehicle_small"] for share in shares.values()]) < 0.005
    assert not prepared.scene("6180_0_3").labelled


def test_classes_overlap(prepared: PreparedDataset) -> None:
    pairs = set()
    for name in synthetic_scene_ids(6):
        masks = np.asarray(prepared.scene(name).masks).reshape(-1, len(CLASSES)).astype(np.int64)
        both = masks.T @ masks
        pairs |= {
            (CLASSES[a], CLASSES[b]) for a, b in itertools.combinations(range(len(CLASSES)), 2) if both[a, b] > 20
        }
    assert {("road", "vehicle_small"), ("trees", "crops"), ("road", "track")} <= pairs


def test_water_is_dark_and_plants_are_bright_in_near_infrared(folder: Path) -> None:
    """On the grid of M, where labels moved by the true shift cover whole pixels."""
    seen: dict[str, list[float]] = {"standing_water": [], "crops": [], "road": []}
    for scene_id in synthetic_scene_ids(4):
        scene = read_scene(folder, scene_id)
        red_edge, nir = images_of(folder, scene_id)["M"][[5, 7]].astype(float)
        x_px, y_px = read_synthetic_truth(folder)[scene_id].shifts_px["m"]
        for name in seen:
            moved = ndimage.shift(masks_of(scene)[name].astype(np.float32), (y_px, x_px), order=1)
            coarse = cv2.resize(moved, nir.shape[::-1], interpolation=cv2.INTER_AREA) > 0.95
            if coarse.any():
                seen[name].append(float(nir[coarse].mean() / red_edge.mean()))
    water, road, crops = (np.mean(seen[name]) for name in ("standing_water", "road", "crops"))
    assert water < 0.75 * road < 0.75 * crops


@pytest.mark.parametrize("scene_id", synthetic_scene_ids(6))
def test_labels_lie_where_the_pixels_are(folder: Path, scene_id: str) -> None:
    """Tracks and roofs are unlike grass: labels moved by a pixel fit worse in every direction."""
    scene = read_scene(folder, scene_id)
    red, green, blue = scene.groups[0].planes.astype(float)
    masks = masks_of(scene)
    edges = sum(ndimage.gaussian_gradient_magnitude(band / band.std(), 0.7) for band in (red, green, blue))
    for name in ("buildings", "track"):
        mask = masks[name].astype(float)
        outline = ndimage.gaussian_gradient_magnitude(mask, 0.7)

        def fit(rows: int, columns: int, outline: Array = outline) -> float:
            moved = np.roll(outline, (rows, columns), axis=(0, 1))
            return float((moved * edges)[4:-4, 4:-4].sum())

        shifts = [shift for shift in itertools.product((-1, 0, 1), repeat=2) if any(shift)]
        assert fit(0, 0) > max(fit(*shift) for shift in shifts), name


def test_bands_have_the_published_means_and_deviations(folder: Path) -> None:
    """Within 5 % and half a deviation; deviations within a factor of 1.7."""
    means, squares = [], []
    for scene_id in (*synthetic_scene_ids(6), "6180_0_3"):
        bands = [
            band.astype(float) for image in images_of(folder, scene_id).values() for band in np.atleast_3d(image.T).T
        ]
        means.append([band.mean() for band in bands])
        squares.append([(band**2).mean() for band in bands])
    mean = np.mean(means, axis=0)
    deviation = np.sqrt(np.mean(squares, axis=0) - mean**2)
    assert mean == pytest.approx(np.array(PUBLISHED_MEANS), rel=0.05)
    assert (np.abs(mean - PUBLISHED_MEANS) < 0.5 * np.array(PUBLISHED_DEVIATIONS)).all()
    ratio = deviation / PUBLISHED_DEVIATIONS
    assert ((ratio > 1 / 1.7) & (ratio < 1.7)).all(), ratio


def standardised(plane: Array, sigma: float) -> Array:
    smooth = ndimage.gaussian_filter(plane.astype(float), sigma)
    return (smooth - smooth.mean()) / smooth.std()


def shift_between(fixed: Array, moving: Array) -> Array:
    """How far right and down `moving` lies: Gauss and Newton on intensities, outliers left out."""
    found = np.zeros(2)
    inner = (slice(8, -8), slice(8, -8))
    for _ in range(30):
        moved = ndimage.shift(fixed, found[::-1], order=5, mode="nearest")
        down, right = np.gradient(moved)
        rest = (moving - moved)[inner].ravel()
        slopes = -np.stack([right[inner].ravel(), down[inner].ravel()], axis=1)
        typical = np.abs(rest) < 3 * np.median(np.abs(rest)) + 1e-6
        found += (step := np.linalg.lstsq(slopes[typical], rest[typical], rcond=None)[0])
        if np.abs(step).max() < 1e-4:
            break
    return found


@pytest.mark.parametrize("scene_id", synthetic_scene_ids(6))
def test_true_shifts_are_recovered(folder: Path, scene_id: str) -> None:
    """From intensities here, and from edges by what `prepare` registers with: the truth lies within 0.1 px of both."""
    truth = read_synthetic_truth(folder)[scene_id].shifts_px
    image = images_of(folder, scene_id)
    gray, red = image["RGB"].mean(axis=0), image["RGB"][0].astype(np.float32)
    rows, columns = image["M"].shape[1:]
    scale = np.array([red.shape[1] / columns, red.shape[0] / rows])

    pan = shift_between(standardised(gray, 2.0), standardised(image["P"], 2.0))
    coarse = cv2.resize(red, (columns, rows), interpolation=cv2.INTER_AREA)
    m = shift_between(standardised(coarse, 1.2), standardised(image["M"][4], 1.2)) * scale

    everywhere = np.ones(red.shape, bool)
    edges = {
        name: measure_shift(name, gray.astype(np.float32), moving.astype(np.float32), everywhere)
        for name, moving in (("pan", image["P"]), ("m", image["M"][[4, 2, 1]].mean(axis=0)))
    }
    for name, found in (("pan", pan), ("m", m)):
        assert np.hypot(*(found - truth[name])) < 0.1, name
        assert np.hypot(edges[name].x_px - truth[name][0], edges[name].y_px - truth[name][1]) < 0.1, name
    assert truth["rgb"] == (0.0, 0.0)


def test_shifts_differ_are_sub_pixel_and_reach_several_pixels(folder: Path) -> None:
    truths = read_synthetic_truth(folder)
    assert set(truths) == {*synthetic_scene_ids(6), "6180_0_3"}
    for group, least, most in (("pan", 1.0, 2.5), ("m", 3.0, 5.5), ("a", 3.0, 5.5)):
        shifts = np.array([truth.shifts_px[group] for truth in truths.values()])
        assert len(np.unique(shifts.round(2), axis=0)) == len(shifts)
        assert least < np.abs(shifts).max() <= most
        assert (shifts % 1 != 0).mean() > 0.8


def test_two_dates_show_one_ground(folder: Path) -> None:
    """Labels of the second date are those of the first, moved; imagery is alike in structure and unlike in counts."""
    truth = read_synthetic_truth(folder)
    second = truth[SECOND_DATE]
    assert second.ground == FIRST_DATE
    assert truth[FIRST_DATE].ground == FIRST_DATE
    x_px, y_px = second.ground_offset_px
    assert 3 < np.hypot(x_px, y_px) < 13
    scenes = [read_scene(folder, name) for name in (FIRST_DATE, SECOND_DATE)]
    inner = shapely.box(15, 15, scenes[0].width_px - 15, scenes[0].height_px - 15)
    for name in ("buildings", "track", "crops", "waterway", "road", "trees"):
        first, there = (shapely.union_all(labels_of(scene)[name]).buffer(0) for scene in scenes)
        moved = translate(first, x_px, y_px).intersection(inner)
        assert moved.area > 0, name
        assert moved.symmetric_difference(there.intersection(inner)).area < 0.002 * moved.area, name
    gray = [scene.groups[0].planes.mean(axis=0) for scene in scenes]
    found = measure_shift("rgb", *(plane.astype(np.float32) for plane in gray), np.ones(gray[0].shape, bool))
    # Shadows fall another way, and draw the shift with them.
    assert np.hypot(found.x_px - x_px, found.y_px - y_px) < 0.6
    assert abs(gray[1].mean() / gray[0].mean() - 1) > 0.03
    other = read_scene(folder, "6010_1_2")
    alone = measure_shift(
        "rgb",
        gray[0][:260, :260].astype(np.float32),
        other.groups[0].planes.mean(axis=0)[:260, :260].astype(np.float32),
        np.ones((260, 260), bool),
    )
    assert not alone.accepted


def test_the_demos_folds_hold(tmp_path: Path) -> None:
    """The two dates are both training scenes of the demo, or its folds would leak."""
    study = read_study(Path(__file__).parents[3] / "configs" / "demo.toml")
    ids = synthetic_scene_ids(8)
    held_out = {*study.folds.validation, *study.folds.test}
    assert held_out <= set(ids)
    assert {FIRST_DATE, SECOND_DATE} <= set(ids) - held_out


def test_makes_a_fold(prepared: PreparedDataset) -> None:
    fold = make_fold(FoldSettings(validation=("6060_2_3",)), prepared)
    assert len(fold.training) == 5
    assert fold.unlabelled == ("6180_0_3",)
    with pytest.raises(DataError, match="Scenes of the same ground must be in one fold"):
        make_fold(FoldSettings(validation=(SECOND_DATE,)), prepared)


def test_a_formula_of_the_study_becomes_a_band(prepared: PreparedDataset) -> None:
    scene = prepared.scene("6010_1_2")
    formula = scene.cube[..., prepared.bands.index("(nir1 - red_edge) / (nir1 + red_edge)")]
    nir, edge = (scene.cube[..., prepared.bands.index(name)].astype(float) for name in ("m_nir1", "m_red_edge"))
    assert formula == pytest.approx((nir - edge) / (nir + edge), abs=1e-6)
    assert np.isfinite(scene.cube).all()


def test_a_full_size_scene_is_as_large_and_as_rich_as_real_ones(full_size: Path) -> None:
    image = images_of(full_size, "6010_1_2")
    assert image["RGB"].shape == (3, *FULL_SIZE)
    assert image["M"].shape[1:] in itertools.product((847, 848), (837, 838))
    assert image["A"].shape[1:] in itertools.product((135, 136), (133, 134))
    cells = {row[1]: row[2] for row in rows_of(full_size / "train_wkt_v4.csv")[1:]}
    assert max(map(len, cells.values())) > 4 * 128 * 1024, "longer than Python's csv module reads unasked"
    number = {name: len(shapely.from_wkt(cells[str(n)]).geoms) for n, name in enumerate(CLASSES, start=1)}
    assert number["trees"] > 1000
    assert 100 < number["buildings"] < 2000
    assert number["vehicle_small"] > 20
    scene = read_scene(full_size, "6010_1_2")
    shares = {name: mask.mean() for name, mask in masks_of(scene).items()}
    assert 0 < shares["vehicle_small"] < 0.001
    assert shares["waterway"] == 0
    assert 0.03 < shares["trees"] < 0.2
    truth = read_synthetic_truth(full_size)["6010_1_2"].shifts_px["m"]
    found = measure_shift(
        "m",
        image["RGB"].mean(axis=0, dtype=np.float32),
        image["M"][[4, 2, 1]].mean(axis=0, dtype=np.float32),
        np.ones(FULL_SIZE, bool),
    )
    assert np.hypot(found.x_px - truth[0], found.y_px - truth[1]) < 0.1


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_synthetic_dstl(tmp_path / name, num_scenes=2, size_px=80, seed=seed)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 3 * 4 + 5
    for path in files:
        a, b, c = ((tmp_path / name / path).read_bytes() for name in "abc")
        assert a == b, path
        assert path.suffix != ".tif" or a != c, path


def test_a_scene_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    for name, number in (("few", 1), ("many", 3)):
        write_synthetic_dstl(tmp_path / name, num_scenes=number, size_px=80, seed=1)
    few, many = (paths_of(tmp_path / name, "6010_1_2") for name in ("few", "many"))
    assert [path.read_bytes() for path in few.values()] == [path.read_bytes() for path in many.values()]


def test_written_once_and_never_over_something_else(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_synthetic_dstl(folder, num_scenes=1, size_px=80)
    before = (folder / "grid_sizes.csv").stat().st_mtime_ns
    assert write_synthetic_dstl(folder, num_scenes=1, size_px=80) == ("6010_1_2", "6180_0_3")
    assert (folder / "grid_sizes.csv").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="holds something else"):
        write_synthetic_dstl(folder, num_scenes=2, size_px=80)
    with pytest.raises(DataError, match="holds something else"):
        write_full_size_dstl(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_set_of_an_older_version_is_not_taken_for_this_one(tmp_path: Path) -> None:
    write_synthetic_dstl(tmp_path / "data", num_scenes=1, size_px=80)
    mark = tmp_path / "data" / "synthetic.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "version": 1}))
    with pytest.raises(DataError, match="holds something else"):
        write_synthetic_dstl(tmp_path / "data", num_scenes=1, size_px=80)


@pytest.mark.parametrize("text", [None, "", "[]", '{"6010_1_2": {"shifts_px": 3}}'])
def test_truth_that_cannot_be_read_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "synthetic_truth.json").write_text(text)
    with pytest.raises(DataError, match="cannot be read"):
        read_synthetic_truth(tmp_path)


@pytest.mark.parametrize("arguments", [{"num_scenes": 0}, {"size_px": 10}])
def test_arguments_out_of_range(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(DataError, match="at least 1 scene of at least 64 px"):
        write_synthetic_dstl(tmp_path / "x", **arguments)
    with pytest.raises(DataError, match="at least 1 scene"):
        write_full_size_dstl(tmp_path / "x", num_scenes=0)


def test_ids_are_unique() -> None:
    ids = synthetic_scene_ids(400)
    assert len(set(ids)) == 400
    assert "6180_0_3" not in ids

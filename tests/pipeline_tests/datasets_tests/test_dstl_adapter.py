"""Tiny imagery in the competition's true layout: band-first TIFF, blank CSV header, WKT cells of any size."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from pipeline.datasets.dstl import CLASSES, FILES, DstlAdapter
from pipeline.imagery.rasterise import rasterise
from pipeline.scene import DataError, PolygonLabels

ALL = tuple(band.name for bands in FILES.values() for band in bands)
HEIGHT, WIDTH, XMAX, YMIN = 50, 100, 0.009, -0.0045


def write_scene(folder: Path, scene_id: str, *, last: bool = False) -> None:
    for name, shape in (
        (f"three_band/{scene_id}.tif", (3, HEIGHT, WIDTH)),
        (f"sixteen_band/{scene_id}_P.tif", (HEIGHT, WIDTH)),
        (f"sixteen_band/{scene_id}_M.tif", (8, 13, 25)),
        (f"sixteen_band/{scene_id}_A.tif", (8, 2, 4)),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.arange(np.prod(shape)).reshape(shape).astype(np.uint16)
        if last and len(shape) == 3:
            pixels = np.moveaxis(pixels, 0, -1)
        tifffile.imwrite(path, pixels, photometric="minisblack")


def write_labels(folder: Path, scenes: dict[str, dict[int, str]]) -> None:
    lines = ["ImageId,ClassType,MultipolygonWKT"]
    for scene_id, polygons in scenes.items():
        lines += [f'{scene_id},{n},"{polygons.get(n, "MULTIPOLYGON EMPTY")}"' for n in range(1, 11)]
    (folder / "train_wkt_v4.csv").write_text("\n".join(lines) + "\n")


def write_grid_sizes(folder: Path, *scene_ids: str) -> None:
    rows = "".join(f"{scene_id},{XMAX},{YMIN}\n" for scene_id in scene_ids)
    (folder / "grid_sizes.csv").write_text(f",Xmax,Ymin\n{rows}")


def rectangle(left: float, top: float, right: float, bottom: float) -> str:
    """WKT in grid units of a rectangle in pixels, by the competition's formula turned round."""
    x = XMAX * (WIDTH + 1) / WIDTH**2
    y = YMIN * (HEIGHT + 1) / HEIGHT**2
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return f"MULTIPOLYGON ((({', '.join(f'{u * x:.12f} {v * y:.12f}' for u, v in corners)})))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_scene(tmp_path, "6010_1_2")
    write_scene(tmp_path, "6020_0_0")
    write_labels(tmp_path, {"6010_1_2": {1: rectangle(10, 20, 40, 30)}})
    write_grid_sizes(tmp_path, "6010_1_2", "6020_0_0")
    return tmp_path


def test_twenty_bands_in_a_fixed_order(folder: Path) -> None:
    adapter = DstlAdapter(folder, {})
    adapter.check()
    assert len(ALL) == 20
    scene = adapter.read("6010_1_2", ALL)
    assert (scene.height_px, scene.width_px) == (HEIGHT, WIDTH)
    assert tuple(name for group in scene.groups for name in group.names) == ALL
    assert [group.planes.shape for group in scene.groups] == [(3, 50, 100), (1, 50, 100), (8, 13, 25), (8, 2, 4)]
    assert scene.groups[2].planes[3, 5, 7] == 3 * 13 * 25 + 5 * 25 + 7


def test_bands_may_come_last(tmp_path: Path, folder: Path) -> None:
    first = DstlAdapter(folder, {}).read("6010_1_2", ALL)
    write_scene(folder, "6010_1_2", last=True)
    again = DstlAdapter(folder, {}).read("6010_1_2", ALL)
    for a, b in zip(first.groups, again.groups, strict=True):
        assert np.array_equal(a.planes, b.planes)


def test_only_the_files_of_wanted_bands_are_touched(folder: Path) -> None:
    for path in (folder / "sixteen_band").glob("*_A.tif"):
        path.unlink()
    adapter = DstlAdapter(folder, {})
    assert len(adapter.read("6010_1_2", ("red", "m_nir2")).groups) == 2
    names = [path.name for path in adapter.sources("6010_1_2", ("pan",))]
    assert names == ["6010_1_2.tif", "6010_1_2_P.tif", "train_wkt_v4.csv", "grid_sizes.csv"]
    with pytest.raises(DataError, match=r"does not exist.*6010_1_2_A\.tif.*leave its bands out"):
        adapter.read("6010_1_2", ("a_swir3",))


def test_polygons_land_on_their_pixels(folder: Path) -> None:
    labels = DstlAdapter(folder, {}).read("6010_1_2", ("red",)).labels
    assert isinstance(labels, PolygonLabels)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[20:30, 10:40] = 1
    assert np.array_equal(rasterise(labels.by_class["buildings"], HEIGHT, WIDTH), expected)
    assert not rasterise(labels.by_class["trees"], HEIGHT, WIDTH).any()


def test_a_cell_of_a_megabyte_is_read(folder: Path) -> None:
    one = rectangle(10, 20, 12, 22).removeprefix("MULTIPOLYGON (").removesuffix(")")
    write_labels(folder, {"6010_1_2": {5: f"MULTIPOLYGON ({', '.join([one] * 12_000)})"}})
    assert (folder / "train_wkt_v4.csv").stat().st_size > 1_000_000
    labels = DstlAdapter(folder, {}).read("6010_1_2", ("red",)).labels
    assert isinstance(labels, PolygonLabels)
    assert len(labels.by_class["trees"][0].geoms) == 12_000


def test_images_without_labels_are_scenes_too(folder: Path) -> None:
    assert DstlAdapter(folder, {}).scene_ids == ("6010_1_2", "6020_0_0")
    assert DstlAdapter(folder, {}).read("6020_0_0", ("red",)).labels is None
    assert DstlAdapter(folder, {"labelled_only": True}).scene_ids == ("6010_1_2",)
    assert DstlAdapter(folder, {"scenes": ["6020_0_0"]}).scene_ids == ("6020_0_0",)


def test_classes_are_numbered_as_in_the_facts() -> None:
    assert CLASSES[0] == "buildings"
    assert CLASSES[5] == "crops"
    assert len(CLASSES) == 10


def test_unknown_scene_names_the_nearest(folder: Path) -> None:
    with pytest.raises(DataError, match=r"Received '6010_1_3'\. Did you mean '6010_1_2'"):
        _ = DstlAdapter(folder, {"scenes": ["6010_1_3"]}).scene_ids


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.95])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_file_cut_short_is_one_line(folder: Path, share: float, compression: str | None) -> None:
    path = folder / "three_band" / "6010_1_2.tif"
    pixels = np.random.default_rng(0).integers(0, 2000, (3, HEIGHT, WIDTH)).astype(np.uint16)
    tifffile.imwrite(path, pixels, photometric="minisblack", compression=compression)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"6010_1_2\.tif.*Fetch it again") as caught:
        DstlAdapter(folder, {}).read("6010_1_2", ("red",))
    assert "\n" not in str(caught.value)


def test_another_number_of_bands_is_refused(folder: Path) -> None:
    tifffile.imwrite(folder / "three_band" / "6010_1_2.tif", np.zeros((5, 9, 9), np.uint16), photometric="minisblack")
    with pytest.raises(DataError, match=r"must have 3 bands\. Received \(5, 9, 9\)"):
        DstlAdapter(folder, {}).read("6010_1_2", ("red",))


@pytest.mark.parametrize("name", ["three_band", "train_wkt_v4.csv", "grid_sizes.csv"])
def test_a_missing_part_is_named_at_once(folder: Path, name: str) -> None:
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(DataError, match=rf"does not exist.*{name}.*Point data\.folder"):
        DstlAdapter(folder, {}).check()


def test_a_folder_without_images_is_refused(folder: Path) -> None:
    for path in (folder / "three_band").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="No scene was found"):
        DstlAdapter(folder, {}).check()


@pytest.mark.parametrize(
    ("file", "row", "told"),
    [
        ("train_wkt_v4.csv", "6010_1_2,eleven,MULTIPOLYGON EMPTY", "eleven"),
        ("train_wkt_v4.csv", "6010_1_2,11,MULTIPOLYGON EMPTY", "ClassType must be 1 to 10"),
        ("train_wkt_v4.csv", "6010_1_2", "cannot be read"),
        ("grid_sizes.csv", "6010_1_2,0.009,0.009", "Ymin below 0"),
        ("grid_sizes.csv", "6010_1_2,wide,-0.009", "wide"),
    ],
)
def test_a_bad_row_is_named_with_its_line(folder: Path, file: str, row: str, told: str) -> None:
    (folder / file).write_text(f"a,b,c\n{row}\n")
    with pytest.raises(DataError, match=rf"{file}, line 2.*{told}"):
        DstlAdapter(folder, {}).read("6010_1_2", ("red",))


def test_broken_wkt_is_named(folder: Path) -> None:
    write_labels(folder, {"6010_1_2": {4: "MULTIPOLYGON (((0 0, 1"}})
    with pytest.raises(DataError, match="the polygons of 6010_1_2, class 4"):
        DstlAdapter(folder, {}).read("6010_1_2", ("red",))


def test_a_scene_without_a_grid_size_is_refused(folder: Path) -> None:
    write_grid_sizes(folder, "6020_0_0")
    with pytest.raises(DataError, match=r"grid_sizes\.csv.*no row.*6010_1_2"):
        DstlAdapter(folder, {}).read("6010_1_2", ("red",))


def test_labels_without_an_image_are_reported(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_labels(folder, {"6010_1_2": {}, "6170_0_4": {}})
    DstlAdapter(folder, {}).check()
    assert "6170_0_4" in caplog.text


def test_an_image_from_elsewhere_finds_its_other_files_beside_it(folder: Path, tmp_path: Path) -> None:
    image = folder / "three_band" / "6020_0_0.tif"
    alone = DstlAdapter(tmp_path / "gone", {}).of_image(image)
    assert alone.scene_ids == ("6020_0_0",)
    scene = alone.read("6020_0_0", ALL)
    assert (scene.labels, len(scene.groups), scene.georeference.xmax) == (None, 4, XMAX)
    assert {path.name for path in alone.sources("6020_0_0", ALL)} >= {
        "6020_0_0.tif",
        "6020_0_0_M.tif",
        "grid_sizes.csv",
    }
    (folder / "grid_sizes.csv").unlink()
    assert DstlAdapter(tmp_path, {}).of_image(image).read("6020_0_0", ALL).georeference.xmax is None


def test_one_file_serves_where_it_holds_all_bands_that_are_needed(folder: Path, tmp_path: Path) -> None:
    image = (folder / "three_band" / "6020_0_0.tif").rename(tmp_path / "anything.tif")
    alone = DstlAdapter(tmp_path / "gone", {}).of_image(image)
    assert [group.name for group in alone.read("anything", ["red", "blue"]).groups] == ["rgb"]
    with pytest.raises(DataError, match=r"anything\.tif: one file does not hold all bands.*three_band/") as caught:
        alone.read("anything", ["red", "pan"])
    assert "\n" not in str(caught.value)

"""Real scenes beside the project; `make test` passes without them, and says that it did."""

import csv
from pathlib import Path

import numpy as np
import pytest
import shapely

from pipeline.datasets.geotiff import GeotiffAdapter
from pipeline.datasets.spacenet import SpacenetAdapter
from pipeline.datasets.worldview import MULTISPECTRAL
from pipeline.imagery.rasterise import rasterise
from pipeline.maps.polygon_scoring import count_polygons, total
from pipeline.maps.polygons import vectorise
from pipeline.preparation.prepare import prepare
from pipeline.scene import DataError, PolygonLabels
from search_space.study import DataSettings

DATA = Path(__file__).parents[3].parent / "shared" / "data"

pytestmark = pytest.mark.real_data


def folder(name: str) -> str:
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f"REAL IMAGERY IS ABSENT: {path}")
    return str(path)


def test_sentinel_2_of_india(tmp_path: Path) -> None:
    settings = DataSettings(
        format="masks",
        folder=folder("sentinel2_india"),
        prepared=str(tmp_path),
        classes=("built_up", "vegetation", "water"),
        indices=("ndwi", "savi"),
        options={
            "images": "images/*.tif",
            "masks": "masks/*.png",
            "band_names": ["red", "green", "blue", "nir"],
            "values": {"built_up": 1, "vegetation": 2, "water": 3},
            "ignore": [0],
        },
    )
    dataset = prepare(settings)
    assert dataset.scene_ids == ("33", "37", "46", "48", "49", "50", "59")
    assert dataset.bands == ("red", "green", "blue", "nir", "ndwi", "savi")
    scene = dataset.scene("48")
    assert scene.cube.shape == (610, 1073, 6)
    counts = {"built_up": 55664, "vegetation": 164700, "water": 9558}
    assert dict(zip(dataset.classes, scene.masks.sum(axis=(0, 1)).tolist(), strict=True)) == counts
    assert int(scene.known.sum()) == sum(counts.values())
    # Water absorbs near infrared, so the labels lie on the right pixels of the right band.
    nir, water = scene.cube[..., 3], scene.masks[..., 2] > 0
    assert nir[water].mean() < 0.7 * nir[scene.masks[..., 1] > 0].mean()


def test_aerial_roads_of_japan(tmp_path: Path) -> None:
    settings = DataSettings(
        format="masks",
        folder=folder("gsi_japan_roads"),
        prepared=str(tmp_path),
        classes=("road",),
        options={"images": "images/*.png", "masks": "masks/*.png", "values": {"road": [255, 120, 80]}},
    )
    dataset = prepare(settings)
    assert len(dataset.scene_ids) == 12
    assert int(dataset.scene("806").masks.sum()) == 64361
    assert np.mean([dataset.scene(n).record.class_shares["road"] for n in dataset.scene_ids]) == pytest.approx(
        0.08, abs=0.01
    )
    assert all(dataset.scene(name).known.all() for name in dataset.scene_ids)


def test_spacenet_buildings_of_rio(tmp_path: Path) -> None:
    settings = DataSettings(
        format="spacenet",
        folder=folder("spacenet1_rio") + "/AOI_0_TEST",
        prepared=str(tmp_path),
        classes=("building",),
        indices=("ndwi",),
    )
    dataset = prepare(settings)
    assert len(dataset.scene_ids) == 10
    assert dataset.bands == ("red", "green", "blue", *(band.name for band in MULTISPECTRAL), "ndwi")
    scenes = [dataset.scene(name) for name in dataset.scene_ids]
    assert all(scene.cube.shape == (406, 439, 12) for scene in scenes)
    # Only 11 to 32 % of a chip is valid, and nothing outside of that is known.
    shares = [float(np.mean(scene.valid)) for scene in scenes]
    assert (min(shares), max(shares)) == (pytest.approx(0.11, abs=0.01), pytest.approx(0.315, abs=0.01))
    assert all(np.array_equal(scene.known, scene.valid) for scene in scenes)
    assert not any(np.asarray(scene.masks)[~np.asarray(scene.valid)].any() for scene in scenes)
    # As polygons the labels agree with themselves; drawn into a mask, a third of the houses touch another.
    drawn, kept = [], []
    for scene in scenes:
        houses = scene.outlines("building") or []
        kept.append(count_polygons(houses, houses, scene.known))
        drawn.append(count_polygons(list(vectorise(scene.masks[..., 0]).geoms), houses, scene.known))
    assert total(kept).f1 == 1.0
    assert (total(drawn).tp, total(drawn).fn) == (81, 36)


def test_spacenet_has_as_many_buildings_as_its_files(tmp_path: Path) -> None:
    adapter = SpacenetAdapter(Path(folder("spacenet1_rio")) / "AOI_0_TEST", {})
    adapter.check()
    labels = [adapter.read(chip, ["red"]).labels for chip in adapter.scene_ids]
    polygons = [polygon for each in labels if each is not None for polygon in each.by_class["building"]]
    assert [each is None for each in labels] == [False] * 10
    # 119 features, one of which has two parts.
    assert len(polygons) == 120
    # The challenge's own table gives their sizes in pixels of the RGB chip, holes and all.
    table = Path(folder("spacenet1_rio")) / "AOI_0_TEST/vectorData/summaryData/public_polygons_solution_3Band_short.csv"
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["BuildingId"] != "-1"]
    theirs = sum(shapely.from_wkt(row["PolygonWKT_Pix"]).area for row in rows)
    assert sum(polygon.area for polygon in polygons) == pytest.approx(theirs, rel=0.01)


def test_rio_reads_the_same_as_plain_geotiffs(tmp_path: Path) -> None:
    """The general format, told where the files are, gives the same scene as the one that knows SpaceNet."""
    root = Path(folder("spacenet1_rio")) / "AOI_0_TEST"
    options = {
        "images": {"rgb": "3band/3band_*.tif", "ms": "8band/8band_*.tif"},
        "labels": {"building": "vectorData/geoJson/*_Geo.geojson"},
        "nodata": 0,
    }
    general, special = GeotiffAdapter(root, options), SpacenetAdapter(root, {})
    general.check()
    assert general.scene_ids == special.scene_ids
    for chip in general.scene_ids:
        one = general.read(chip, [band.name for band in general.bands])
        other = special.read(chip, [band.name for band in special.bands])
        assert one.pixel_m == other.pixel_m == pytest.approx(0.478, abs=0.001)
        for mine, yours in zip(one.groups, other.groups, strict=True):
            assert np.array_equal(mine.planes, yours.planes)
            assert np.array_equal(mine.valid, yours.valid)
            assert mine.placement is yours.placement is None
        assert isinstance(one.labels, PolygonLabels)
        assert isinstance(other.labels, PolygonLabels)
        drawn = [
            rasterise(each.by_class.get("building", ()), one.height_px, one.width_px)
            for each in (one.labels, other.labels)
        ]
        assert np.array_equal(*drawn)


def test_a_wrong_colour_is_told_with_the_right_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = DataSettings(
        format="masks",
        folder=folder("gsi_japan_roads"),
        prepared=str(tmp_path),
        classes=("road",),
        options={"images": "images/*.png", "masks": "masks/*.png", "values": {"road": [255, 255, 255]}},
    )
    with pytest.raises(DataError, match="12 of 12 scenes"):
        prepare(settings)
    assert "34267 of them [255, 120, 80]" in caplog.text

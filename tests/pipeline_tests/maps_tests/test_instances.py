"""Things told apart: where markers are, where basins meet, and what is left out."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import watershed

from pipeline.imagery.raster_rows import RasterError
from pipeline.imagery.rasterise import rasterise
from pipeline.imagery.rasters import read_instances, read_masks, write_instances, write_masks
from pipeline.maps.instances import InstanceError, depths, described, instances
from pipeline.maps.polygons import PolygonError, vectorise, vectorise_instances, write_geojson
from pipeline.scene import Georeference
from pipeline.training.energy import energies

Floats = NDArray[np.float32]
UTM = Georeference(crs="EPSG:32643", transform=(0.5, 0.0, 400_000.0, 0.0, -0.5, 2_000_000.0))


def drawn(*rows: str) -> Floats:
    """`#` is certain, `.` is not, a space has no data."""
    values = {"#": 1.0, ".": 0.0, " ": np.nan}
    return np.array([[values[each] for each in row] for row in rows], np.float32)


def split(probabilities: Floats, energy: Floats | None = None, **changes: float) -> NDArray[np.int32]:
    told = {"threshold": 0.5, "marker_energy": 0.5, **changes}
    return instances(probabilities, energy, **told)  # type: ignore[arg-type]


def ridges(width: int, *columns: int) -> Floats:
    """An energy that is 1 in the columns and falls by a quarter per pixel."""
    distance = np.min([np.abs(np.arange(width) - column) for column in columns], axis=0)
    row = np.maximum(1 - 0.25 * distance, 0).astype(np.float32)
    return np.tile(row, (6, 1))


def test_touching_houses_with_two_ridges_are_two_instances() -> None:
    mask = np.zeros((6, 14), np.float32)
    mask[1:5, 1:13] = 0.9
    found = split(mask, ridges(14, 3, 10))
    # The valley lies between columns 6 and 7.
    expected = np.zeros((6, 14), int)
    expected[1:5, 1:7], expected[1:5, 7:13] = 1, 2
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int32


def test_markers_that_go_on_over_corners_into_other_places_count_in_each() -> None:
    probabilities = drawn("...........", ".#########.", "#.........#")
    energy = np.where(probabilities > 0, np.float32(0.9), np.float32(0.0))
    energy[1, 4:7] = 0.1
    found = split(probabilities, energy)
    assert found.max() == 4
    assert len({found[1, 1], found[1, 9], found[2, 0], found[2, 10]}) == 4


def test_one_ridge_or_a_high_saddle_is_one_instance() -> None:
    mask = np.ones((6, 14), np.float32)
    assert split(mask, ridges(14, 7)).max() == 1
    assert split(mask, ridges(14, 5, 9), marker_energy=0.4).max() == 1
    assert split(mask, ridges(14, 5, 9), marker_energy=0.6).max() == 2


def test_what_is_nowhere_deep_is_an_instance_of_its_own() -> None:
    """Thin things and single pixels have no marker; those that touch at a corner are two."""
    shapes = drawn("##..#", "..#..", "....#", "###..")
    found = split(shapes, np.zeros_like(shapes))
    np.testing.assert_array_equal(found, [[1, 1, 0, 0, 2], [0, 0, 3, 0, 0], [0, 0, 0, 0, 4], [5, 5, 5, 0, 0]])
    np.testing.assert_array_equal(
        split(shapes, np.zeros_like(shapes), min_area_px=2)[[0, 3]], [[1, 1, 0, 0, 0], [2, 2, 2, 0, 0]]
    )


def test_no_data_is_no_part_of_anything() -> None:
    shapes = drawn("## ##", "##  #", "## ##")
    np.testing.assert_array_equal(split(shapes, shapes), [[1, 1, 0, 2, 2], [1, 1, 0, 0, 2], [1, 1, 0, 2, 2]])
    assert not split(np.full((3, 4), np.nan, np.float32)).any()


def test_an_empty_and_a_full_mask() -> None:
    empty = np.zeros((3, 4), np.float32)
    assert not split(empty, empty).any()
    assert described(split(empty), empty) == []
    for energy in (None, empty, empty + 1):
        assert (split(empty + 1, energy) == 1).all()


def test_a_ring_is_one_instance_with_a_hole_that_holds_another() -> None:
    shapes = drawn(".......", ".#####.", ".#...#.", ".#.#.#.", ".#...#.", ".#####.")
    found = split(shapes, shapes)
    ring, inner = described(found, shapes)
    assert (ring.number, ring.outline.area, len(ring.outline.interiors)) == (1, 16, 1)
    assert inner.outline.equals(shapely.box(3, 3, 4, 4))
    assert ring.outline.is_valid


def test_basins_that_are_too_small_go_to_their_neighbours() -> None:
    """A speck of high energy near the border of a house would bite a piece out of it."""
    mask, energy = np.ones((8, 12), np.float32), np.full((8, 12), 0.1, np.float32)
    energy[3:5, 2:8] = 0.9
    energy[0, 11] = 0.7
    assert split(mask, energy).max() == 2
    assert (split(mask, energy, min_area_px=30) == 1).all()
    # Two halves that are both too small are one that is not.
    halves = split(mask, ridges(12, 2, 9)[:2].repeat(4, axis=0), min_area_px=60)
    assert (halves == 1).all()
    assert not split(mask, energy, min_area_px=97).any()


def test_a_marker_that_reaches_over_a_corner_is_counted_in_both_places() -> None:
    """Two houses that touch at a corner, where the markers do too; the second has one more."""
    shapes = drawn("##......", "##......", "..######", "..######")
    energy = drawn("##......", "##......", "..##..##", "..##..##")
    np.testing.assert_array_equal(
        split(shapes, energy),
        [[1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 2, 2, 2, 3, 3, 3], [0, 0, 2, 2, 2, 3, 3, 3]],
    )


def smooth(seed: int, sigma: float, shape: tuple[int, int] = (90, 110)) -> Floats:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    ranks = noise.ravel().argsort().argsort().reshape(shape)
    return (ranks / noise.size).astype(np.float32)


def of_the_whole(probabilities: Floats, energy: Floats, marker_energy: float) -> NDArray[np.integer]:
    """One flood over the whole map, places without a marker added, numbered anew."""
    mask = probabilities >= 0.5
    seeds, _ = ndimage.label(mask & (energy > marker_energy), np.ones((3, 3)))
    basins = label(watershed(-energy, seeds, mask=mask, connectivity=1), connectivity=1)
    rest, _ = ndimage.label(mask & (basins == 0))
    merged = np.where(rest > 0, rest + basins.max(), basins)
    renumbered: NDArray[np.integer] = label(merged, connectivity=1)
    return renumbered


@pytest.mark.parametrize("seed", range(5))
def test_flooding_place_by_place_is_flooding_all_at_once(seed: int) -> None:
    probabilities, energy = smooth(seed, 4.0), smooth(seed + 100, 2.5)
    found = split(probabilities, energy, marker_energy=0.8)
    np.testing.assert_array_equal(found, of_the_whole(probabilities, energy, 0.8))
    assert found.max() > ndimage.label(probabilities >= 0.5)[1]


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, (9, 13), elements=st.sampled_from([0.0, 1.0, np.nan])),
    arrays(np.float32, (9, 13), elements=st.sampled_from([0.0, 0.4, 0.8])),
    st.integers(0, 4),
)
def test_instances_share_out_the_mask_in_connected_pieces(probabilities: Floats, energy: Floats, least: int) -> None:
    found = split(probabilities, energy, min_area_px=least)
    mask = probabilities >= 0.5
    assert not found[~mask].any()
    for number in range(1, found.max() + 1):
        assert ndimage.label(found == number)[1] == 1
        assert np.count_nonzero(found == number) >= max(1, least)
    _, first = np.unique(found[found > 0], return_index=True)
    assert (np.diff(first) > 0).all()
    if least <= 1:
        assert (found[mask] > 0).all()


def test_without_an_energy_necks_part() -> None:
    """Two squares of 15 px that share 5 px of a side; the depth stands in for the energy."""
    mask = np.zeros((30, 40), np.float32)
    mask[2:17, 3:18] = mask[12:27, 18:33] = 1.0
    found = split(mask, marker_energy=0.25)
    expected = np.zeros((30, 40), int)
    expected[2:17, 3:18], expected[12:27, 18:33] = 1, 2
    assert found.max() == 2
    assert np.count_nonzero(found != expected) <= 10


def test_the_depth_is_that_which_the_energy_is_trained_to_be() -> None:
    mask = smooth(3, 3.0, (40, 50)) > 0.4
    targets = np.stack([mask, np.ones_like(mask)], axis=-1)[None].astype(np.float32)
    trained, _ = energies(targets)
    np.testing.assert_allclose(np.minimum(depths(mask), 1.0), np.asarray(trained)[0, ..., 0], atol=1e-6)


def test_maps_of_other_shapes_are_refused() -> None:
    with pytest.raises(InstanceError, match=r"\(3, 4\), \(4, 3\)"):
        split(np.ones((3, 4), np.float32), np.ones((4, 3), np.float32))
    with pytest.raises(InstanceError):
        split(np.ones((3, 4, 1), np.float32))


def terrace() -> tuple[NDArray[np.int32], Floats]:
    """Two houses that touch, and one of a single pixel; and their probabilities."""
    labels = np.zeros((20, 30), np.int32)
    labels[2:10, 2:9], labels[2:10, 9:20], labels[15, 25] = 1, 2, 3
    return labels, (labels / 4).astype(np.float32)


def test_touching_instances_have_outlines_of_their_own() -> None:
    labels, probabilities = terrace()
    found = described(labels, probabilities)
    assert [(each.number, each.probability) for each in found] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert [each.outline.bounds for each in found] == [(2, 2, 9, 10), (9, 2, 20, 10), (25, 15, 26, 16)]
    assert vectorise(labels > 0).geoms[0].area == 18 * 8


@pytest.mark.parametrize("seed", range(3))
def test_outlines_drawn_again_are_the_instances(seed: int) -> None:
    labels = split(smooth(seed, 4.0), smooth(seed + 9, 2.5), marker_energy=0.7)
    outlines = vectorise_instances(labels)
    assert all(outline.is_valid for outline in outlines)
    for number, outline in enumerate(outlines, start=1):
        np.testing.assert_array_equal(rasterise([outline], *labels.shape) > 0, labels == number)


@pytest.mark.parametrize("labels", [[[1, 0, 1]], [[2, 2, 2]], [[1, 0, 3]]])
def test_numbers_that_are_no_instances_are_not_traced(labels: list[list[int]]) -> None:
    with pytest.raises(PolygonError, match="numbered from 1 on"):
        vectorise_instances(np.array(labels, np.int32))


def test_a_file_of_polygons_tells_houses_that_touch_apart(tmp_path: Path) -> None:
    labels, probabilities = terrace()
    path = tmp_path / "p.geojson"
    shapes = {"house": described(labels, probabilities), "road": vectorise(labels == 3)}
    write_geojson(path, shapes, UTM, labels.shape, {"house": 0.5})

    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    assert [each["properties"] for each in features] == [
        {"class": "house", "threshold": 0.5, "instance": 1, "probability": 0.25},
        {"class": "house", "threshold": 0.5, "instance": 2, "probability": 0.5},
        {"class": "house", "threshold": 0.5, "instance": 3, "probability": 0.75},
        {"class": "road"},
    ]
    areas_m2 = [shapely.geometry.shape(each["geometry"]).area for each in features]
    np.testing.assert_allclose(areas_m2, [14, 22, 0.25, 0.25])


def test_instances_come_back_from_their_file(tmp_path: Path) -> None:
    labels = np.stack([terrace()[0], terrace()[0][::-1] * 70_000], axis=-1)
    write_instances(tmp_path / "i.tif", labels, UTM, ("house", "hut"))
    found, classes = read_instances(tmp_path / "i.tif")
    np.testing.assert_array_equal(found, labels)
    assert (found.dtype, classes) == (np.int32, ("house", "hut"))
    with rasterio.open(tmp_path / "i.tif") as source:
        assert source.crs == CRS.from_epsg(32643)
        assert tuple(source.transform)[:6] == UTM.transform
        assert (source.nodata, source.descriptions) == (0, ("house", "hut"))
        assert (source.profile["tiled"], source.profile["compress"]) == (True, "deflate")
    with pytest.raises(RasterError, match="no map of this kind"):
        read_masks(tmp_path / "i.tif")
    write_masks(tmp_path / "m.tif", labels > 0, np.ones((20, 30), bool), UTM, classes)
    with pytest.raises(RasterError, match="no map of this kind"):
        read_instances(tmp_path / "m.tif")

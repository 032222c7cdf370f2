"""Scenes of the same ground: found by footprint and by correlation, and only those."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
from numpy.typing import NDArray
from rasterio.crs import CRS

from pipeline.preparation.prepare import prepare
from pipeline.preparation.prepared import PreparedDataset
from pipeline.preparation.same_ground import joined_groups
from pipeline.synthetic.landscape import Features, imagine
from pipeline.synthetic.spectra import paint
from search_space.study import DataSettings

SIDE_PX = 560


@cache
def seen(place: int, date: int) -> NDArray[np.float32]:
    """A place on a date: what stands there is the same, what it is made of and how the grass grows is not."""
    rng = np.random.default_rng([40, place])
    land = imagine(SIDE_PX, SIDE_PX, Features(road=place % 2 == 0, river=place == 1), rng)
    return paint(land, np.random.default_rng([41, place, date]))[:3]


def write(path: Path, planes: NDArray[np.generic], **profile: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = planes.shape
    shape = {"count": count, "height": height, "width": width, "dtype": planes.dtype}
    place = {"transform": rasterio.Affine(1, 0, 9, 0, 1, 9)} | profile
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as target:
        target.write(planes)


def settings(tmp_path: Path, **changes: Any) -> DataSettings:
    options = {"values": {"road": 1}, "images": "images/*.tif", "masks": ""}
    known = {"folder": str(tmp_path / "raw"), "prepared": str(tmp_path / "prepared"), "options": options}
    return DataSettings(format="masks", classes=("road",), **(known | changes))


def prepared(tmp_path: Path, scenes: dict[str, NDArray[np.generic]], **changes: Any) -> PreparedDataset:
    for name, planes in scenes.items():
        write(tmp_path / "raw" / "images" / f"{name}.tif", planes)
    return prepare(settings(tmp_path, **changes))


def in_winter(planes: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Darker, flatter, and noisy."""
    noise = np.random.default_rng(9).normal(0, 6, planes.shape)
    return np.clip(0.4 * planes + 90 + noise, 1, 4000).astype(np.uint16)


def found(dataset: PreparedDataset) -> dict[tuple[str, str], str]:
    return {link.scenes: link.found for link in dataset.manifest.same_ground_links}


def test_another_date_is_found_and_other_ground_is_not(tmp_path: Path) -> None:
    dataset = prepared(
        tmp_path,
        {
            "north": seen(0, 0),
            "north_later": in_winter(seen(0, 1)[:, 37:, 11:]),
            "south": seen(1, 0),
            "east": seen(2, 0),
            "west": seen(3, 0),
        },
    )
    assert dataset.manifest.same_ground == (("north", "north_later"),)
    (link,) = dataset.manifest.same_ground_links
    assert link.found == "correlation"
    assert 0.3 < link.score <= 1.0


def test_scenes_that_overlap_by_half_are_found(tmp_path: Path) -> None:
    whole = seen(2, 0)
    dataset = prepared(
        tmp_path, {"left": whole[:, :, :400], "right": in_winter(seen(2, 1))[:, :, 200:], "far": seen(3, 0)}
    )
    assert dataset.manifest.same_ground == (("left", "right"),)


def test_a_part_is_found_in_the_whole(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, {"here": seen(0, 0), "part": in_winter(seen(0, 1))[:, 60:360, 100:400]})
    assert dataset.manifest.same_ground == (("here", "part"),)


def test_holes_do_not_pass_for_ground(tmp_path: Path) -> None:
    """All scenes have the same outline of data, and the same ground has different ones."""
    frame = np.zeros((SIDE_PX, SIDE_PX), bool)
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    frame[(rows + columns > 250) & (rows - columns < 300)] = True
    scenes = {name: np.where(frame, seen(place, 0), 0) for place, name in enumerate(("a", "b", "c"))}
    scenes["a_later"] = np.where(frame[::-1], in_winter(seen(0, 1)), 0)
    dataset = prepared(tmp_path, scenes, options=settings(tmp_path).options | {"nodata": 0})
    assert dataset.manifest.same_ground == (("a", "a_later"),)


def test_regular_patterns_flat_and_tiny_scenes_are_left_alone(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    rng = np.random.default_rng(1)
    blocks = (((rows // 40) + (columns // 40)) % 2 * 300 + 100)[None].repeat(3, 0)
    dataset = prepared(
        tmp_path,
        {
            "town": (blocks + rng.normal(0, 20, blocks.shape)).astype(np.float32),
            "other_town": (blocks[:, 7:, 3:] + rng.normal(0, 20, blocks[:, 7:, 3:].shape)).astype(np.float32),
            "sea": np.full((3, SIDE_PX, SIDE_PX), 7, np.float32),
            "ocean": np.full((3, SIDE_PX, SIDE_PX), 9, np.float32),
            "noise": rng.normal(500, 50, (3, SIDE_PX, SIDE_PX)).astype(np.float32),
            "noise_too": rng.normal(500, 50, (3, SIDE_PX, SIDE_PX)).astype(np.float32),
            "dot": seen(0, 0)[:, :3, :3],
            "dot_too": seen(0, 0)[:, :3, :3],
        },
    )
    assert dataset.manifest.same_ground == ()


def test_given_turns_the_search_off(tmp_path: Path) -> None:
    scenes = {"a": seen(0, 0), "a_later": in_winter(seen(0, 1))}
    assert prepared(tmp_path, scenes, same_ground="given").manifest.same_ground == ()
    assert prepared(tmp_path, scenes).manifest.same_ground == (("a", "a_later"),)
    assert prepared(tmp_path, scenes, same_ground="given").manifest.same_ground == ()


def test_what_was_compared_is_not_compared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = {"a": seen(0, 0), "a_later": in_winter(seen(0, 1))}
    first = prepared(tmp_path, scenes)
    monkeypatch.setattr("pipeline.preparation.prepare.find_same_ground", lambda _: pytest.fail("compared again"))
    assert prepared(tmp_path, scenes).manifest == first.manifest


def place(tmp_path: Path, name: str, epsg: int, x: float, y: float) -> None:
    """A scene of 100 by 100 pixels of 10 m."""
    pixel = 10.0 if epsg != 4326 else 9.4e-5
    planes = np.random.default_rng(len(name)).integers(1, 200, (3, 100, 100)).astype(np.uint8)
    write(
        tmp_path / "raw" / "images" / f"{name}.tif",
        planes,
        transform=rasterio.Affine(pixel, 0, x, 0, -pixel, y),
        crs=CRS.from_epsg(epsg),
    )


def test_footprints_that_overlap_are_found(tmp_path: Path) -> None:
    place(tmp_path, "here", 32643, 500_000, 2_000_000)
    place(tmp_path, "beside", 32643, 501_000, 2_000_000)
    place(tmp_path, "sharing_a_row", 32643, 500_000, 2_000_990)
    place(tmp_path, "overlapping", 32643, 499_200, 1_999_600)
    # The same ground in longitude and latitude; 75 degrees east is in the middle of this zone.
    place(tmp_path, "in_degrees", 4326, 75.0, 18.0885)
    place(tmp_path, "elsewhere", 32643, 600_000, 2_000_000)
    dataset = prepare(settings(tmp_path))
    links = dataset.manifest.same_ground_links
    assert {link.found for link in links} == {"footprint"}
    assert {link.scenes for link in links} == {
        ("here", "in_degrees"),
        ("here", "overlapping"),
        ("in_degrees", "overlapping"),
    }
    scores = {link.scenes: link.score for link in links}
    assert scores["here", "overlapping"] == pytest.approx(0.2 * 0.6, rel=0.02)
    assert scores["here", "in_degrees"] > 0.9
    assert dataset.manifest.same_ground == (("here", "in_degrees", "overlapping"),)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_scenes_whose_files_tell_no_place_do_not_lie_on_one_another(tmp_path: Path) -> None:
    """A CRS without a transform, and a transform without a CRS."""
    noise = np.random.default_rng(0).integers(1, 200, (4, 3, 100, 100)).astype(np.uint8)
    for number, profile in enumerate(2 * [{"crs": "EPSG:32643", "transform": None}, {}]):
        write(tmp_path / "raw" / "images" / f"{number}.tif", noise[number], **profile)
    assert prepare(settings(tmp_path)).manifest.same_ground == ()


def test_what_the_data_set_tells_is_joined_with_what_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.datasets.masks.MasksAdapter.same_ground", (("b", "c", "gone"), ("gone", "away")))
    dataset = prepared(tmp_path, {"a": seen(0, 0), "b": in_winter(seen(0, 1)), "c": seen(1, 0), "d": seen(2, 0)})
    assert dataset.manifest.same_ground == (("a", "b", "c"),)
    assert found(dataset) == {("b", "c"): "given", ("a", "b"): "correlation"}


@pytest.mark.parametrize(
    ("pairs", "groups"),
    [
        ([], ()),
        (["ab"], (("a", "b"),)),
        (["bc", "ab"], (("a", "b", "c"),)),
        (["ab", "cd", "bc"], (("a", "b", "c", "d"),)),
        (["cd", "ab"], (("a", "b"), ("c", "d"))),
        (["ab", "ab"], (("a", "b"),)),
        (["abc", "de", "ce"], (("a", "b", "c", "d", "e"),)),
    ],
)
def test_links_join_over_any_number_of_steps(pairs: list[str], groups: tuple[tuple[str, ...], ...]) -> None:
    assert joined_groups(pairs) == groups


def test_footprints_across_the_antimeridian_are_found(tmp_path: Path) -> None:
    """180 degrees east is 677 km from the middle of zone 60, and as far from that of zone 1 on the other side."""
    [x60], [y60] = rasterio.warp.transform(CRS.from_epsg(4326), CRS.from_epsg(32660), [179.996], [-17.0])
    [x1], [y1] = rasterio.warp.transform(CRS.from_epsg(4326), CRS.from_epsg(32601), [179.996 - 360], [-17.0])
    place(tmp_path, "zone_60", 32660, x60, y60)
    place(tmp_path, "zone_1", 32601, x1, y1)
    place(tmp_path, "east", 4326, 179.996, -17.0)
    place(tmp_path, "west", 4326, -180.004, -17.0)
    place(tmp_path, "other_side_of_the_globe", 4326, 0.0, -17.0)
    dataset = prepare(settings(tmp_path))
    assert dataset.manifest.same_ground == (("east", "west", "zone_1", "zone_60"),)

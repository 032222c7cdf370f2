"""Blocks cover scenes exactly, and a part of a scene shows what its own ground alone may show."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.folds.ground import BlockGrid, OwnImagery, Part
from pipeline.preparation.prepared import PreparedDataset

SIDES = st.integers(1, 130) | st.sampled_from([97, 101, 127, 211, 499])


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(8, 150))
def test_every_pixel_is_in_exactly_one_block(height_px: int, width_px: int, block_px: int) -> None:
    grid = BlockGrid.over((height_px, width_px), block_px)

    seen = np.zeros((height_px, width_px), int)
    for block in range(grid.num_blocks):
        seen[grid.window(block)] += 1

    assert (seen == 1).all()


@settings(deadline=None)
@given(SIDES, st.integers(8, 150))
def test_blocks_are_alike_and_as_near_to_the_wish_as_can_be(side_px: int, block_px: int) -> None:
    grid = BlockGrid.over((side_px, 50), block_px)
    sizes = np.diff(grid.row_edges_px)

    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) == max(1, int(side_px / block_px + 0.5))


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(8, 60), st.integers(0, 2**32 - 1))
def test_sums_are_those_of_each_block(height_px: int, width_px: int, block_px: int, seed: int) -> None:
    layers = np.random.default_rng(seed).integers(0, 2, (height_px, width_px, 3)).astype(np.uint8)
    grid = BlockGrid.over(layers.shape[:2], block_px)

    sums = grid.sums(layers)

    assert sums.tolist() == [layers[grid.window(block)].sum(axis=(0, 1)).tolist() for block in range(grid.num_blocks)]


def test_without_a_size_the_scene_is_one_block() -> None:
    grid = BlockGrid.over((13, 7))

    assert grid.num_blocks == 1
    assert grid.mask([0]).all()
    assert not grid.mask([]).any()


@pytest.fixture
def dataset(make_dataset: Callable[..., PreparedDataset]) -> PreparedDataset:
    known = np.random.default_rng(0).random((40, 30)) < 0.8
    masks = (known & (np.arange(30) % 2 > 0))[..., None].astype(np.uint8)
    return make_dataset({"a": (masks, known)}, ["road"])


def test_a_part_narrows_down_what_is_known_and_nothing_else(dataset: PreparedDataset) -> None:
    scene = dataset.scene("a")
    part = Part(scene, BlockGrid.over(scene.shape_px, 10), blocks=(0, 5), held_out_blocks=(1, 2))
    own = np.zeros((40, 30), bool)
    own[:10, :10] = own[10:20, 20:] = True

    assert part.id == "a"
    np.testing.assert_array_equal(part.known, scene.known & own)
    for name in ("cube", "valid", "masks"):
        assert getattr(part, name) is getattr(scene, name)
    assert part.held_out is not None
    held_out = np.zeros((40, 30), bool)
    held_out[:10, 10:] = True
    np.testing.assert_array_equal(part.held_out, held_out)
    assert part.windows == ((slice(0, 10), slice(0, 10)), (slice(10, 20), slice(20, 30)))


def test_statistics_see_the_ground_of_the_part_alone(dataset: PreparedDataset) -> None:
    scene = dataset.scene("a")
    part = Part(scene, BlockGrid.over(scene.shape_px, 10), blocks=(11,))

    imagery = part.imagery

    assert isinstance(imagery, OwnImagery)
    assert np.argwhere(imagery.valid).min(axis=0).tolist() == [30, 20]
    assert np.count_nonzero(imagery.valid) == 100
    assert (imagery.folder, imagery.source) == (scene.folder, scene.source)


def test_a_whole_scene_is_handed_on_as_it_is(dataset: PreparedDataset) -> None:
    scene = dataset.scene("a")
    part = Part.whole(scene)

    assert part.known is scene.known
    assert part.imagery is scene
    assert part.held_out is None
    assert part.windows == ()

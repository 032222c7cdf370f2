"""Validation counts the known pixels of a part, and sees all that lies around them."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.folds.ground import BlockGrid, Part
from pipeline.networks.prediction import predict_scene
from pipeline.patches.scenes import TrainingScene
from pipeline.preparation.normalisation import BandScaling
from pipeline.preparation.prepared import PreparedDataset
from pipeline.validation.confusion import ThresholdCounts
from pipeline.validation.whole_ground import OVERLAP, TILES_PER_BATCH, validate
from search_space.prediction import Tiling

NO_SCALING = BandScaling(*(np.full(2, value, np.float32) for value in (-1e9, 1e9, 0, 1)))


class Blurring:
    """Stands for a network: a pixel's answer is the mean of its row in the tile, so it depends on its surroundings."""

    output = "masks alone"

    def __init__(self) -> None:
        self.num_tiles = 0

    def predict_on_batch(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        self.num_tiles += len(np.unique(tiles.reshape(len(tiles), -1), axis=0))
        mean = tiles[..., :1].mean(axis=2, keepdims=True)
        return np.broadcast_to(1 / (1 + np.exp(-9 * mean)), (*tiles.shape[:3], 1)).astype(np.float32)


@pytest.fixture
def dataset(make_dataset: Callable[..., PreparedDataset]) -> PreparedDataset:
    rng = np.random.default_rng(3)
    known = rng.random((96, 128)) < 0.7
    return make_dataset({"a": ((known & (rng.random(known.shape) < 0.5))[..., None].astype(np.uint8), known)}, ["road"])


def test_a_part_is_mapped_as_in_its_whole_scene_and_counted_by_itself(dataset: PreparedDataset) -> None:
    scene, model = dataset.scene("a"), Blurring()
    part = Part(scene, BlockGrid.over(scene.shape_px, 32), blocks=(5, 6))
    tiling = Tiling(16, 0, OVERLAP, "none", TILES_PER_BATCH)
    everywhere = predict_scene(model.predict_on_batch, scene, NO_SCALING, tiling)
    num_everywhere, model.num_tiles = model.num_tiles, 0

    validation = validate(model, [TrainingScene(part, NO_SCALING, (0,))], ["road"], tile_px=16)

    counts = ThresholdCounts(1)
    own = np.s_[32:64, 32:96]
    counts.add(everywhere[own], scene.masks[own], scene.known[own])
    [best] = counts.best()
    assert best is not None
    assert (validation.jaccard["road"], validation.thresholds["road"]) == (best.jaccard, best.threshold)
    np.testing.assert_array_equal(validation.counts["road"]["a"], counts.histogram[0])
    assert model.num_tiles < num_everywhere / 2, "tiles were predicted that no counted pixel lies in"


def test_what_was_counted_is_kept_by_scene(make_dataset: Callable[..., PreparedDataset]) -> None:
    rng = np.random.default_rng(4)
    known = np.ones((32, 32), bool)
    masks = {name: (rng.random((32, 32, 2)) < (0.5, share)).astype(np.uint8) for name, share in (("a", 0.3), ("b", 0))}
    dataset = make_dataset({name: (each, known) for name, each in masks.items()}, ["road", "pond"])
    scenes = [TrainingScene(Part.whole(dataset.scene(name)), NO_SCALING, (1,)) for name in "ab"]

    validation = validate(Blurring(), scenes, ["pond"], tile_px=16)

    counts = validation.counts["pond"]
    for name in "ab":
        without, having = counts[name].sum(axis=1)
        assert (without, having) == (1024 - masks[name][..., 1].sum(), masks[name][..., 1].sum())
    both = ThresholdCounts.of(counts["a"][None]) + ThresholdCounts.of(counts["b"][None])
    [best] = both.best()
    assert best is not None
    assert validation.jaccard["pond"] == best.jaccard

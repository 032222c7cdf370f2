"""Folds of a retraining: every pixel that is not the test's validates once, and what cannot be dealt is told."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.folds.cross_folds import cross_folds
from pipeline.folds.folds import Fold, make_fold
from pipeline.preparation.prepared import PreparedDataset
from pipeline.scene import DataError
from search_space.fold_settings import FoldSettings

Make = Callable[..., PreparedDataset]
CLASSES = ("road", "water")


@pytest.fixture(scope="session")
def scenes(make_dataset: Callable[..., PreparedDataset]) -> Make:
    """Scenes of 48 x 32 pixels, half of them road; water in the named ones alone."""

    def make(names: str, wet: str = "", **more: Any) -> PreparedDataset:
        truths = {}
        for name in names:
            rng = np.random.default_rng(ord(name))
            road = rng.random((48, 32)) < 0.5
            water = (rng.random((48, 32)) < 0.2) & (name in wet)
            truths[name] = (np.stack([road, water], axis=-1).astype(np.uint8), rng.random((48, 32)) < 0.9)
        return make_dataset(truths, CLASSES, **more)

    return make


def uses(fold: Fold, dataset: PreparedDataset) -> dict[str, dict[str, Any]]:
    """Per scene, which of its pixels train, validate and test."""
    nothing = {name: np.zeros(dataset.scene(name).known.shape, bool) for name in dataset.scene_ids}
    return {
        use: nothing | {part.id: np.asarray(part.known) for part in getattr(fold, use)}
        for use in ("training", "validation", "test")
    }


@pytest.mark.parametrize(
    "settings",
    [
        FoldSettings(validation=("a",)),
        FoldSettings(validation=("a", "c"), test=("b",)),
        FoldSettings(num_folds=3, fold=2, test=("e",)),
        FoldSettings(num_folds=4, fold=2, test_fold=4),
        FoldSettings(num_folds=4, fold=1, test_fold=3, unit="block", block_px=16),
        FoldSettings(num_folds=2, fold=1, test=("a",), unit="block", block_px=24),
    ],
    ids=["named", "named test", "numbered", "numbered test", "blocks", "blocks, named test"],
)
@pytest.mark.parametrize("num_folds", [3, 7])
def test_every_pixel_but_the_tests_validates_once(scenes: Make, settings: FoldSettings, num_folds: int) -> None:
    dataset = scenes("abcde", wet="abcde")
    test = uses(make_fold(settings, dataset), dataset)["test"]

    folds = cross_folds(settings, dataset, num_folds)

    assert len(folds) == num_folds
    found = [uses(fold, dataset) for fold in folds]
    for name in dataset.scene_ids:
        everything = np.asarray(dataset.scene(name).known)
        validated = sum(each["validation"][name].astype(int) for each in found)
        np.testing.assert_array_equal(validated, everything & ~test[name])
        for each in found:
            np.testing.assert_array_equal(each["test"][name], test[name])
            np.testing.assert_array_equal(
                each["training"][name].astype(int) + each["validation"][name] + each["test"][name], everything
            )
    # Training keeps its distance to what is held out, as in any other study.
    for fold in folds:
        for part in fold.training:
            held_out = uses(fold, dataset)
            if part.held_out is not None:
                others = held_out["validation"][part.id] | held_out["test"][part.id]
                np.testing.assert_array_equal(part.held_out & part.scene.known, others)
            else:
                assert not (held_out["validation"][part.id] | held_out["test"][part.id]).any()


def test_scenes_are_dealt_whole_where_there_are_enough(scenes: Make) -> None:
    dataset = scenes("abcde")
    named = FoldSettings(validation=("a",), test=("b",))

    whole, cut = cross_folds(named, dataset, 4), cross_folds(named, dataset, 5)

    assert sorted(fold.scene_ids("validation") for fold in whole) == [("a",), ("c",), ("d",), ("e",)]
    assert all(part.held_out is None for fold in whole for part in fold.training)
    assert [share.name for share in whole[0].split.folds] == ["1", "2", "3", "4", "test"]
    blocks = {part.scene.record.id: part.blocks for fold in cut for part in fold.validation}
    assert any(each is not None for each in blocks.values())
    # With 2 x 1 blocks a scene there would be eight: not two for each of five folds.
    num_blocks = [share.num_blocks for share in cut[0].split.folds if share.name != "test"]
    assert sum(filter(None, num_blocks)) == 4 * 3 * 2


def test_the_deal_is_the_same_every_time_and_another_by_another_seed(scenes: Make) -> None:
    dataset = scenes("abcdef")

    def validated(seed: int) -> list[tuple[str, ...]]:
        folds = cross_folds(FoldSettings(validation=("a",), seed=seed), dataset, 3)
        return [fold.scene_ids("validation") for fold in folds]

    assert validated(0) == validated(0)
    assert len({str(validated(seed)) for seed in range(6)}) > 1


def test_a_class_that_a_fold_lacks_is_named_and_no_reason_to_refuse(scenes: Make) -> None:
    """All water is in one scene: it can validate there, and then nothing trains it."""
    folds = cross_folds(FoldSettings(validation=("a",)), scenes("abc", wet="c"), 3)

    lacking = {fold.scene_ids("validation"): (fold.absent_in_training, fold.absent_in_validation) for fold in folds}
    assert lacking == {
        ("a",): ((), ("water",)),
        ("b",): ((), ("water",)),
        ("c",): (("water",), ()),
    }


def test_scenes_of_the_same_ground_stay_together(scenes: Make) -> None:
    dataset = scenes("abcd", same_ground=(("a", "d"),))
    for num_folds in (3, 4):
        for fold in cross_folds(FoldSettings(validation=("b",)), dataset, num_folds):
            assert ("a" in fold.scene_ids("validation")) == ("d" in fold.scene_ids("validation"))


def test_more_folds_than_there_is_ground_are_refused_in_one_line(scenes: Make) -> None:
    same = (("a", "b"), ("c", "d"))
    with pytest.raises(DataError, match=r"too little labelled ground.*'folds': 3.* to deal': 2.*Take at most 2 folds"):
        cross_folds(FoldSettings(validation=("a", "b")), scenes("abcd", same_ground=same), 3)
    cut = FoldSettings(num_folds=2, test=("a",), unit="block", block_px=24)
    with pytest.raises(DataError, match=r"'folds': 5, 'blocks to deal': 4.*Take at most 4"):
        cross_folds(cut, scenes("abc"), 5)

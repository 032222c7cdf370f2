"""Folds of blocks: scenes are cut, no two folds share a pixel, and training keeps its distance."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.folds.folds import Fold, make_fold
from pipeline.preparation.prepared import PreparedDataset
from pipeline.scene import DataError
from search_space.errors import MapgroveError
from search_space.fold_settings import FoldSettings

Make = Callable[..., PreparedDataset]


def blocks(num_folds: int = 3, fold: int = 1, block_px: int = 16, **more: Any) -> FoldSettings:
    return FoldSettings(num_folds=num_folds, fold=fold, unit="block", block_px=block_px, **more)


@pytest.fixture(scope="session")
def scenes(make_dataset: Callable[..., PreparedDataset]) -> Make:
    """Scenes of the named sizes, half of the pixels road, some water, some unknown."""

    def make(sizes: dict[str, tuple[int, int]], **more: Any) -> PreparedDataset:
        truths = {}
        for name, shape in sizes.items():
            rng = np.random.default_rng([ord(letter) for letter in name])
            known = rng.random(shape) < 0.9
            masks = np.stack([rng.random(shape) < 0.5, rng.random(shape) < 0.1], axis=-1) & known[..., None]
            truths[name] = (masks.astype(np.uint8), known)
        return make_dataset(truths, ("road", "water"), **more)

    return make


def known(fold: Fold, name: str, scene_id: str, shape: tuple[int, int]) -> np.ndarray:
    found = [part.known for part in getattr(fold, name) if part.id == scene_id]
    return np.asarray(found[0]) if found else np.zeros(shape, bool)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(40, 90), st.integers(40, 90)), min_size=1),
    st.integers(10, 20),
    st.integers(0, 2),
)
def test_folds_share_out_the_known_pixels(
    scenes: Make, sizes: dict[str, tuple[int, int]], block_px: int, seed: int
) -> None:
    dataset = scenes(sizes)
    folds = [make_fold(blocks(3, number, block_px, seed=seed), dataset) for number in (1, 2, 3)]

    for name, shape in sizes.items():
        everything = np.asarray(dataset.scene(name).known)
        validated = sum(known(fold, "validation", name, shape).astype(int) for fold in folds)
        np.testing.assert_array_equal(validated, everything)
        for fold in folds:
            np.testing.assert_array_equal(
                known(fold, "training", name, shape) ^ known(fold, "validation", name, shape), everything
            )


def test_ground_that_validates_is_known_by_its_blocks(scenes: Make) -> None:
    dataset = scenes({"a": (80, 64)})
    first, again, with_test, other = (
        make_fold(settings, dataset)
        for settings in (blocks(4, 2), blocks(4, 2), blocks(4, 2, test_fold=3), blocks(4, 1))
    )
    assert first.validation_fingerprint == again.validation_fingerprint == with_test.validation_fingerprint
    assert first.scene_ids("validation") == other.scene_ids("validation")
    assert first.validation_fingerprint != other.validation_fingerprint


def test_what_is_held_out_of_a_training_scene_is_that_of_all_other_uses(scenes: Make) -> None:
    dataset = scenes({"a": (80, 64)})
    fold = make_fold(blocks(4, 2, test_fold=3), dataset)

    [training], [validation], [test] = fold.training, fold.validation, fold.test
    assert training.held_out is not None
    np.testing.assert_array_equal(training.held_out & training.scene.known, validation.known | test.known)
    assert not (training.held_out & training.known).any()
    assert validation.held_out is None
    assert [share.num_blocks for share in fold.split.folds] == [5, 5, 5, 5]


def test_ground_without_a_known_pixel_belongs_to_no_fold(make_dataset: Callable[..., PreparedDataset]) -> None:
    """Nothing is scored there, so patches may lie there."""
    known = np.ones((64, 64), bool)
    known[:32] = False
    dataset = make_dataset({"a": ((known[..., None]).astype(np.uint8), known)}, ("road",))

    fold = make_fold(blocks(2), dataset)

    [part] = fold.training
    assert part.held_out is not None
    assert not part.held_out[:32].any()
    assert sum(share.num_blocks or 0 for share in fold.split.folds) == 8


def test_scenes_of_the_same_ground_are_not_cut(scenes: Make) -> None:
    """Their pixels need not lie on one another, so all of both goes into one fold."""
    dataset = scenes({"a": (64, 64), "b": (60, 64), "c": (96, 96)}, same_ground=(("a", "b"),))

    for number in (1, 2, 3):
        fold = make_fold(blocks(3, number), dataset)
        uses = {part.id: name for name in ("training", "validation") for part in getattr(fold, name) if part.id in "ab"}
        assert len(set(uses.values())) == 1
        assert all(part.blocks is None for name in uses.values() for part in getattr(fold, name) if part.id in "ab")


def test_blocks_that_cut_nothing_are_refused(scenes: Make) -> None:
    with pytest.raises(DataError, match=r"folds\.block_px.*'block_px': 70.*90.*Take at most 60, or folds\.unit"):
        make_fold(blocks(block_px=70), scenes({"a": (40, 90), "b": (80, 60)}))
    make_fold(blocks(2, block_px=60), scenes({"a": (40, 90), "b": (80, 60)}))


def test_more_folds_than_blocks_are_refused(scenes: Make) -> None:
    with pytest.raises(DataError, match=r"more folds than there are blocks.*'there are': 4.*Take at most 4\.$"):
        make_fold(blocks(5, block_px=32), scenes({"a": (64, 64)}))


def test_a_study_that_deals_blocks_names_the_test_scenes_whole(scenes: Make) -> None:
    fold = make_fold(blocks(2, test=("b",)), scenes({"a": (64, 64), "b": (64, 64)}))

    assert [part.blocks for part in fold.test] == [None]
    assert {part.id for part in (*fold.training, *fold.validation)} == {"a"}


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(-20, 90), st.integers(-20, 90), st.integers(1, 30))
def test_a_patch_nearer_than_the_context_is_refused(
    scenes: Make, context_px: int, top: int, left: int, size_px: int
) -> None:
    """Held against the distance to every held-out pixel."""
    fold = make_fold(blocks(2, block_px=32), scenes({"a": (90, 90)}))
    rows, columns = (slice(max(0, start), min(90, start + size_px)) for start in (top, left))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    [part] = fold.training
    assert part.held_out is not None
    held_out = np.argwhere(part.held_out)
    first, last = np.array([rows.start, columns.start]), np.array([rows.stop - 1, columns.stop - 1])
    distances = np.maximum(np.maximum(first - held_out, held_out - last), 0).max(axis=1)
    num_between = distances.min() - 1

    if num_between < context_px:
        with pytest.raises(MapgroveError, match=f"must keep {context_px} px.*of a"):
            fold.check_distance([("a", rows, columns)], context_px)
    else:
        fold.check_distance([("a", rows, columns)], context_px)


def test_a_patch_in_a_scene_that_does_not_train_is_refused(scenes: Make) -> None:
    fold = make_fold(FoldSettings(validation=("b",)), scenes({"a": (30, 30), "b": (30, 30)}))

    fold.check_distance([("a", slice(0, 30), slice(0, 30))], 100)
    with pytest.raises(MapgroveError, match="does not train"):
        fold.check_distance([("b", slice(0, 5), slice(0, 5))], 0)


def test_blocks_of_scenes_that_all_share_ground_are_refused_with_the_reason(scenes: Make) -> None:
    dataset = scenes({"a": (64, 64), "b": (60, 64)}, same_ground=(("a", "b"),))
    with pytest.raises(DataError, match="each shares its ground with another"):
        make_fold(blocks(num_folds=2, block_px=16), dataset)

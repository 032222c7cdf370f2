"""Folds by name and by number: what trains, what is held out, and what is refused."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.folds.folds import Fold, make_fold
from pipeline.preparation.prepared import PreparedDataset
from pipeline.scene import DataError
from search_space.fold_settings import FoldSettings

CLASSES = ("road", "water")
BOTH, DRY, BARE = {"road": 2, "water": 3}, {"road": 2, "water": 0}, {"road": 0, "water": 0}

Scenes = dict[str, dict[str, int] | None]
Make = Callable[..., PreparedDataset]


@pytest.fixture(scope="session")
def scenes(make_dataset: Callable[..., PreparedDataset]) -> Make:
    """Scenes of 4 x 4 known pixels of which so many are of each class; None stands for no labels."""

    def make(areas: Scenes, same_ground: tuple[tuple[str, ...], ...] = ()) -> PreparedDataset:
        truths = {}
        for name, area in areas.items():
            masks = np.zeros((4, 4, 2), np.uint8)
            for k, class_name in enumerate(CLASSES):
                masks.reshape(16, 2)[: (area or {}).get(class_name, 0), k] = 1
            truths[name] = None if area is None else (masks, np.ones((4, 4), bool))
        return make_dataset(truths, CLASSES, same_ground=same_ground)

    return make


def ids(fold: Fold) -> dict[str, tuple[str, ...]]:
    return {name: fold.scene_ids(name) for name in ("training", "validation", "test", "unlabelled")}


def numbered(num_folds: int, fold: int = 1, **more: Any) -> FoldSettings:
    return FoldSettings(num_folds=num_folds, fold=fold, **more)


def test_what_is_not_held_out_trains(scenes: Make) -> None:
    fold = make_fold(FoldSettings(validation=("b",), test=("d",)), scenes(dict.fromkeys("abcd", BOTH) | {"e": None}))

    assert ids(fold) == {"training": ("a", "c"), "validation": ("b",), "test": ("d",), "unlabelled": ("e",)}
    assert fold.absent_in_validation == ()
    assert all(part.held_out is None for part in fold.training)


def test_a_class_that_the_held_out_scenes_lack_is_reported(scenes: Make, caplog: pytest.LogCaptureFixture) -> None:
    fold = make_fold(FoldSettings(validation=("b",), test=("c",)), scenes({"a": BOTH, "b": DRY, "c": DRY}))

    assert fold.absent_in_validation == ("water",)
    assert fold.absent_in_test == ("water",)
    assert "No validation ground has water" in caplog.text
    assert [share.absent for share in fold.split.folds] == [(), ("water",), ("water",)]


def test_the_split_is_told_in_numbers(scenes: Make) -> None:
    fold = make_fold(FoldSettings(validation=("b",)), scenes({"a": BOTH, "b": DRY, "c": BOTH, "d": None}))

    training, validation = fold.split.folds
    assert (training.name, training.num_scenes, training.num_blocks) == ("training", 2, None)
    assert validation.class_shares == {"road": pytest.approx(1 / 3), "water": 0}
    assert training.known_share == pytest.approx(2 / 3)
    assert fold.split.unlabelled == ("d",)


def test_unknown_scenes_name_the_nearest(scenes: Make) -> None:
    dataset = scenes({"6010_1_2": BOTH, "6040_1_0": BOTH})
    with pytest.raises(DataError, match=r"folds\.validation.*Received '6010_1_3'\. Did you mean '6010_1_2'"):
        make_fold(FoldSettings(validation=("6010_1_3",)), dataset)
    with pytest.raises(DataError, match=r"folds\.test.*'6040_1_0'"):
        make_fold(FoldSettings(validation=("6010_1_2",), test=("6040_1_1",)), dataset)
    with pytest.raises(DataError, match=r"folds\.groups.*'6040_1_0'"):
        make_fold(numbered(2, groups=(("6010_1_2", "6040_1_1"),)), dataset)


def test_an_empty_training_fold_is_refused(scenes: Make) -> None:
    with pytest.raises(DataError, match=r"training fold is empty.*'held out': \['a'\]"):
        make_fold(FoldSettings(validation=("a",)), scenes({"a": BOTH, "b": None}))


@pytest.mark.parametrize(
    "settings",
    [FoldSettings(validation=("c",)), FoldSettings(validation=("a",), test=("c",)), numbered(2, test=("c",))],
)
def test_held_out_scenes_need_labels(settings: FoldSettings, scenes: Make) -> None:
    with pytest.raises(DataError, match=r"a scene without labels cannot be scored\. Received \['c'\]"):
        make_fold(settings, scenes({"a": BOTH, "b": BOTH, "c": None}))


def test_a_class_without_training_ground_is_refused(scenes: Make) -> None:
    with pytest.raises(DataError, match=r"No training ground has water.*Let one of b train"):
        make_fold(FoldSettings(validation=("b",)), scenes({"a": DRY, "b": BOTH}))
    with pytest.raises(DataError, match=r"Leave it out of data\.classes"):
        make_fold(FoldSettings(validation=("b",)), scenes({"a": DRY, "b": DRY}))


def test_validation_without_any_class_is_refused(scenes: Make) -> None:
    with pytest.raises(DataError, match="No validation ground has any of the classes"):
        make_fold(FoldSettings(validation=("b",)), scenes({"a": BOTH, "b": BARE}))


def test_scenes_of_the_same_ground_stay_together(scenes: Make) -> None:
    dataset = scenes(dict.fromkeys("abcd", BOTH), same_ground=(("a", "b"),))
    with pytest.raises(DataError, match=r"same ground.*'a': 'training', 'b': 'validation'.*Put a and b together"):
        make_fold(FoldSettings(validation=("b",)), dataset)
    with pytest.raises(DataError, match="same ground"):
        make_fold(FoldSettings(validation=("a",), test=("b",)), dataset)
    assert ids(make_fold(FoldSettings(validation=("a", "b")), dataset))["training"] == ("c", "d")
    assert ids(make_fold(FoldSettings(validation=("c",)), dataset))["training"] == ("a", "b", "d")


def test_groups_that_share_a_scene_are_one(scenes: Make) -> None:
    dataset = scenes(dict.fromkeys("abcde", BOTH), same_ground=(("a", "b"),))
    settings = FoldSettings(validation=("a",), groups=(("b", "c"),))

    with pytest.raises(DataError, match="Put a and b and c together"):
        make_fold(settings, dataset)
    assert make_fold(numbered(2, groups=(("b", "c"),)), dataset).split.same_ground == (("a", "b", "c"),)


@st.composite
def ground(draw: st.DrawFn) -> tuple[Scenes, tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    names = "abcdefghij"[: draw(st.integers(5, 10))]
    area = st.fixed_dictionaries({"road": st.integers(1, 16), "water": st.integers(1, 16)})
    areas: Scenes = {name: draw(area if name in "abcde" else area | st.none()) for name in names}
    pair = st.sampled_from(list(combinations(names, 2)))
    groups = st.lists(pair, max_size=1).map(tuple)
    return areas, draw(groups), draw(groups)


@settings(deadline=None)
@given(ground(), st.integers(0, 3), st.booleans())
def test_numbered_folds_share_out_the_ground(
    scenes: Make,
    drawn: tuple[Scenes, tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]],
    seed: int,
    with_test: bool,
) -> None:
    """Whichever fold validates: together they are all ground, no two share any, and groups stay whole."""
    areas, same_ground, groups = drawn
    dataset = scenes(areas, same_ground)
    labelled = {name for name, area in areas.items() if area}
    num_folds = 2 + with_test
    settings = {"seed": seed, "groups": groups, "test_fold": num_folds if with_test else None}
    folds = [make_fold(numbered(num_folds, number, **settings), dataset) for number in (1, 2)]

    tests = {ids(fold)["test"] for fold in folds}
    assert len(tests) == 1
    validated = [set(ids(fold)["validation"]) for fold in folds]
    assert validated[0].isdisjoint(validated[1])
    assert validated[0] | validated[1] | set(*tests) == labelled
    for fold, held_out in zip(folds, validated, strict=True):
        parts = [set(ids(fold)[name]) for name in ("training", "validation", "test")]
        assert sum(map(len, parts)) == len(labelled)
        assert set.union(*parts) == labelled
        assert parts[1] == held_out
        for group in (*same_ground, *groups):
            assert sum(not part.isdisjoint(group) for part in parts) <= 1
    again = make_fold(numbered(num_folds, 1, **settings), scenes(areas, same_ground))
    assert again.fingerprint == folds[0].fingerprint != folds[1].fingerprint


def test_every_class_is_in_every_numbered_fold_where_that_can_be(scenes: Make) -> None:
    dataset = scenes({"a": BOTH, "b": DRY, "c": DRY, "d": BOTH, "e": DRY, "f": BOTH, "g": DRY})

    for number in (1, 2, 3):
        fold = make_fold(numbered(3, number), dataset)
        assert fold.absent_in_validation == ()
        assert [share.used_for for share in fold.split.folds].index("validation") == number - 1


def test_named_test_scenes_go_beside_numbered_folds(scenes: Make) -> None:
    dataset = scenes(dict.fromkeys("abcdef", BOTH), same_ground=(("e", "f"),))

    folds = [make_fold(numbered(2, number, test=("f", "e")), dataset) for number in (1, 2)]

    assert [ids(fold)["test"] for fold in folds] == [("f", "e")] * 2
    assert {name for fold in folds for name in ids(fold)["validation"]} == set("abcd")
    assert [share.name for share in folds[0].split.folds] == ["1", "2", "test"]
    with pytest.raises(DataError, match=r"same ground.*'e': 'dealt', 'f': 'test'"):
        make_fold(numbered(2, test=("f",)), dataset)


def test_more_folds_than_scenes_are_refused(scenes: Make) -> None:
    dataset = scenes(dict.fromkeys("abc", BOTH) | {"d": None}, same_ground=(("a", "b"),))

    with pytest.raises(DataError, match=r"more folds than.*'num_folds': 3, 'there are': 2.*Take at most 2, or.*block"):
        make_fold(numbered(3), dataset)


def test_a_class_in_one_scene_alone_cannot_be_in_training_and_validation(scenes: Make) -> None:
    """The fold that has it is refused, with those that would do; the others say that they lack it."""
    dataset = scenes({"a": BOTH, "b": DRY, "c": DRY, "d": DRY})
    holder = next(n for n in (1, 2, 3) if "a" in _validated(dataset, n))
    others = [number for number in (1, 2, 3) if number != holder]

    with pytest.raises(
        DataError, match=rf"No training ground has water.*Set folds\.fold to {others[0]} or {others[1]}"
    ):
        make_fold(numbered(3, holder), dataset)
    assert make_fold(numbered(3, others[0]), dataset).absent_in_validation == ("water",)


def _validated(dataset: PreparedDataset, number: int) -> tuple[str, ...]:
    try:
        return make_fold(numbered(3, number), dataset).scene_ids("validation")
    except DataError:
        return ("a",)


def test_a_numbered_fold_without_any_class_is_refused(scenes: Make) -> None:
    dataset = scenes({"a": BOTH, "b": BOTH, "c": BARE})
    told = []
    for number in (1, 2, 3):
        try:
            make_fold(numbered(3, number), dataset)
        except DataError as error:
            told.append(str(error))

    assert len(told) == 1
    assert "No validation ground has any of the classes. Received ['c']. Set another fold" in told[0]


def test_folds_asked_for_in_two_ways_are_the_same_folds(scenes: Make) -> None:
    dataset = scenes(dict.fromkeys("abcd", BOTH))
    dealt = make_fold(numbered(2), dataset)

    named = make_fold(FoldSettings(validation=dealt.scene_ids("validation")), dataset)

    assert named.fingerprint == dealt.fingerprint
    turned = make_fold(FoldSettings(validation=dealt.scene_ids("validation")[::-1]), dataset)
    assert turned.fingerprint == dealt.fingerprint
    assert make_fold(numbered(2, 2), dataset).fingerprint != dealt.fingerprint

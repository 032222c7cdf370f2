from pathlib import Path

import pytest

from pipeline.folds import make_fold
from pipeline.prepared import FORMAT_VERSION, MadeFor, Manifest, PreparedDataset, SceneRecord
from pipeline.scene import DataError, Georeference
from search_space.study import FoldSettings


def dataset(
    shares: dict[str, dict[str, float] | None], *, same_ground: tuple[tuple[str, ...], ...] = ()
) -> PreparedDataset:
    """A data set of which only the manifest exists: folds look at nothing else. None stands for no labels."""
    classes = tuple(next(share for share in shares.values() if share is not None))
    records = tuple(
        SceneRecord(
            id=name,
            key=name,
            labelled=share is not None,
            height_px=4,
            width_px=4,
            sources=(),
            georeference=Georeference(),
            bands=(),
            class_shares=share or dict.fromkeys(classes, 0.0),
            known_share=0.0 if share is None else 1.0,
            valid_share=1.0,
        )
        for name, share in sorted(shares.items())
    )
    made_for = MadeFor(format="masks", options={}, classes=classes, bands=(), indices=())
    manifest = Manifest(
        version=FORMAT_VERSION,
        made_for=made_for,
        classes=classes,
        bands=(),
        same_ground=same_ground,
        scenes=records,
    )
    return PreparedDataset(Path("nowhere"), manifest)


BOTH = {"road": 0.1, "water": 0.2}
DRY = {"road": 0.1, "water": 0.0}
BARE = {"road": 0.0, "water": 0.0}


def test_what_is_not_held_out_trains() -> None:
    fold = make_fold(FoldSettings(validation=("b",), test=("d",)), dataset(dict.fromkeys("abcd", BOTH) | {"e": None}))
    assert fold.training == ("a", "c")
    assert fold.validation == ("b",)
    assert fold.test == ("d",)
    assert fold.unlabelled == ("e",)
    assert fold.absent_in_validation == ()


def test_a_class_that_the_held_out_scenes_lack_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    fold = make_fold(FoldSettings(validation=("b",), test=("c",)), dataset({"a": BOTH, "b": DRY, "c": DRY}))
    assert fold.absent_in_validation == ("water",)
    assert fold.absent_in_test == ("water",)
    assert "No validation scene has water" in caplog.text


def test_unknown_scenes_name_the_nearest() -> None:
    scenes = dataset({"6010_1_2": BOTH, "6040_1_0": BOTH})
    with pytest.raises(DataError, match=r"folds\.validation.*Received '6010_1_3'\. Did you mean '6010_1_2'"):
        make_fold(FoldSettings(validation=("6010_1_3",)), scenes)
    with pytest.raises(DataError, match=r"folds\.test"):
        make_fold(FoldSettings(validation=("6010_1_2",), test=("6040_1_1",)), scenes)


def test_an_empty_training_fold_is_refused() -> None:
    with pytest.raises(DataError, match="training fold is empty"):
        make_fold(FoldSettings(validation=("a",)), dataset({"a": BOTH, "b": None}))


@pytest.mark.parametrize("settings", [FoldSettings(validation=("c",)), FoldSettings(validation=("a",), test=("c",))])
def test_held_out_scenes_need_labels(settings: FoldSettings) -> None:
    with pytest.raises(DataError, match=r"a scene without labels cannot be scored\. Received \['c'\]"):
        make_fold(settings, dataset({"a": BOTH, "b": BOTH, "c": None}))


def test_a_class_without_a_training_scene_is_refused() -> None:
    with pytest.raises(DataError, match=r"No training scene has water.*Let one of b train"):
        make_fold(FoldSettings(validation=("b",)), dataset({"a": DRY, "b": BOTH}))
    with pytest.raises(DataError, match=r"Leave it out of data\.classes"):
        make_fold(FoldSettings(validation=("b",)), dataset({"a": DRY, "b": DRY}))


def test_validation_without_any_class_is_refused() -> None:
    with pytest.raises(DataError, match="No validation scene has any of the classes"):
        make_fold(FoldSettings(validation=("b",)), dataset({"a": BOTH, "b": BARE}))


def test_scenes_of_the_same_ground_stay_together() -> None:
    scenes = dataset(dict.fromkeys("abcd", BOTH), same_ground=(("a", "b"),))
    with pytest.raises(DataError, match=r"same ground.*'a': 'training', 'b': 'validation'.*Put a and b together"):
        make_fold(FoldSettings(validation=("b",)), scenes)
    with pytest.raises(DataError, match="same ground"):
        make_fold(FoldSettings(validation=("a",), test=("b",)), scenes)
    assert make_fold(FoldSettings(validation=("a", "b")), scenes).training == ("c", "d")
    assert make_fold(FoldSettings(validation=("c",)), scenes).training == ("a", "b", "d")

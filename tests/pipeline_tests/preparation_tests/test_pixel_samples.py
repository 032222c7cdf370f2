"""The sample of a scene's pixels: which it holds, when it is read from its file, and when it must not be."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.preparation import pixel_samples
from pipeline.preparation.pixel_samples import SAMPLES, kept_sample, sample_pixels


def make(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    cube = rng.normal(size=(30, 20, 3)).astype(np.float32)
    valid = rng.random((30, 20)) < 0.7
    cube[~valid] = np.nan
    return cube, valid


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder.parent / SAMPLES / folder.name).iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prepared" / "a").mkdir(parents=True)
    return tmp_path / "prepared" / "a"


def test_few_pixels_are_all_taken_and_many_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    cube, valid = make(0)
    pixels = cube[valid]

    np.testing.assert_array_equal(sample_pixels(cube, valid), pixels.T)
    monkeypatch.setattr(pixel_samples, "PIXELS_PER_SCENE", 100)
    step = -(-len(pixels) // 100)
    sample = sample_pixels(cube, valid)
    assert 50 < sample.shape[1] <= 100
    # One pixel of each run of so many.
    places = [int(np.flatnonzero((pixels == pixel).all(axis=1))[0]) for pixel in sample.T]
    assert [place // step for place in places] == list(range(sample.shape[1]))


@pytest.mark.parametrize("side", [64, 60])
def test_every_column_is_in_a_thinned_sample(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every n-th pixel of a square scene would be of a few columns only."""
    monkeypatch.setattr(pixel_samples, "PIXELS_PER_SCENE", side * side // 4)
    cube = np.broadcast_to(np.arange(side, dtype=np.float32)[None, :, None], (side, side, 1))

    columns, counts = np.unique(sample_pixels(cube, np.ones((side, side), bool)), return_counts=True)

    assert len(columns) == side
    # About a quarter of each; every fourth pixel would be all of a quarter of them.
    assert counts.max() < 0.55 * side


def test_a_kept_sample_is_read_without_the_cube(folder: Path) -> None:
    cube, valid = make(0)
    first = np.array(kept_sample(cube, valid, folder, "key"))
    cube[:] = 7.0

    np.testing.assert_array_equal(kept_sample(cube, valid, folder, "key"), first)
    assert len(files(folder)) == 1


def test_other_pixels_of_the_same_scene_have_a_sample_of_their_own(folder: Path) -> None:
    cube, valid = make(0)
    left = valid.copy()
    left[:, 10:] = False
    kept_sample(cube, valid, folder, "key")

    np.testing.assert_array_equal(kept_sample(cube, left, folder, "key"), cube[left].T)
    assert len(files(folder)) == 2


def test_a_scene_that_was_prepared_again_is_sampled_again_and_the_old_sample_goes(folder: Path) -> None:
    old, valid = make(0)
    new = old * 2
    kept_sample(old, valid, folder, "before")

    np.testing.assert_array_equal(kept_sample(new, valid, folder, "after"), new[valid].T)
    assert [name.partition("-")[0] for name in files(folder)] == ["after"]


@pytest.mark.parametrize("damage", [b"", b"no array", b"\x93NUMPY"])
def test_a_damaged_sample_is_made_again(folder: Path, damage: bytes) -> None:
    cube, valid = make(0)
    kept_sample(cube, valid, folder, "key")
    [name] = files(folder)
    path = folder.parent / SAMPLES / "a" / name
    path.write_bytes(damage)

    np.testing.assert_array_equal(kept_sample(cube, valid, folder, "key"), cube[valid].T)
    assert len(path.read_bytes()) > 4 * 3 * np.count_nonzero(valid)


def test_a_cut_sample_is_made_again(folder: Path) -> None:
    cube, valid = make(0)
    kept_sample(cube, valid, folder, "key")
    [path] = (folder.parent / SAMPLES / "a").iterdir()
    path.write_bytes(path.read_bytes()[:-100])

    np.testing.assert_array_equal(kept_sample(cube, valid, folder, "key"), cube[valid].T)


def test_where_no_file_can_be_written_pixels_are_read_every_time(folder: Path) -> None:
    cube, valid = make(0)
    (folder.parent / SAMPLES).write_text("a file where the folder should be", encoding="utf-8")

    for _ in range(2):
        np.testing.assert_array_equal(kept_sample(cube, valid, folder, "key"), cube[valid].T)


def test_prepared_data_that_have_gone_away_do_not_come_back_as_a_folder_of_samples(tmp_path: Path) -> None:
    cube, valid = make(0)

    np.testing.assert_array_equal(kept_sample(cube, valid, tmp_path / "gone" / "a", "key"), cube[valid].T)
    assert not list(tmp_path.iterdir())

"""Scaling against NumPy; no-data never counts and never leaks."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.normalisation import Normalisation
from search_space.decode import decode, encode
from search_space.errors import MapgroveError


@dataclass(frozen=True)
class Imagery:
    cube: NDArray[np.float32]
    valid: NDArray[np.bool_]


def make(seed: int, scale: float = 1.0, no_data: bool = False) -> Imagery:
    rng = np.random.default_rng(seed)
    cube = (rng.normal(100, 20, (40, 50, 3)) * [1, 10, 0] * scale).astype(np.float32)
    valid = np.ones((40, 50), bool)
    if no_data:
        valid[:, :10] = False
        cube[~valid] = np.nan
    return Imagery(cube, valid)


def test_clip_mean_and_deviation_are_those_of_the_valid_training_pixels() -> None:
    scenes = [make(0), make(1, no_data=True)]
    pixels = np.concatenate([scene.cube[scene.valid] for scene in scenes]).astype(np.float64)
    low, high = np.percentile(pixels, (1, 99), axis=0)
    clipped = np.clip(pixels, low, high)

    scaling = Normalisation.fit("dataset", scenes).for_scene(make(2))

    np.testing.assert_allclose(scaling.low, low, rtol=1e-6)
    np.testing.assert_allclose(scaling.mean, clipped.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scaling.std[:2], clipped.std(axis=0)[:2], rtol=1e-4)


def test_no_data_becomes_the_mean_and_constant_bands_zero() -> None:
    scene = make(0, no_data=True)
    scaled = Normalisation.fit("dataset", [scene]).for_scene(scene).apply(scene.cube)

    assert (scaled[~scene.valid] == 0).all()
    assert (scaled[..., 2] == 0).all()
    assert abs(scaled[scene.valid][:, 0].mean()) < 1e-4
    assert np.isnan(scene.cube).any(), "the cube itself must stay as it was"


def test_scene_mode_makes_differently_stretched_scenes_alike() -> None:
    normalisation = Normalisation.fit("scene", [])
    plain, stretched = make(0), make(0, scale=7.0)

    np.testing.assert_allclose(
        normalisation.for_scene(plain).apply(plain.cube),
        normalisation.for_scene(stretched).apply(stretched.cube),
        atol=1e-4,
    )


def test_it_survives_being_written_down() -> None:
    normalisation = Normalisation.fit("dataset", [make(0)])

    assert decode(Normalisation, encode(normalisation), where="test") == normalisation


def test_a_data_set_without_data_is_refused() -> None:
    scene = make(0)
    empty = Imagery(scene.cube, np.zeros_like(scene.valid))

    with pytest.raises(MapgroveError, match="no pixel has data"):
        Normalisation.fit("dataset", [empty])

"""Cut patches against SciPy's interpolation, and the device's patches against the processor's."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from pipeline.patches.draws import draw_geometry, noise_table, reach_px, spline_basis
from pipeline.patches.on_device import PatchCutter, bytes_on_device, fits_on_device, plain_draws
from pipeline.patches.sampler import PatchSampler, displacements, placements
from pipeline.patches.scenes import TrainingScene
from pipeline.preparation.normalisation import BandScaling
from search_space.decode import decode
from search_space.training_plan import TrainingPlan

PATCH_PX = 16
EVERYTHING = {
    "turns": "any",
    "zoom": 0.4,
    "shear": 0.2,
    "elastic": 0.3,
    "jitter": 0.2,
    "brightness": 0.3,
    "contrast": 0.2,
    "noise": 0.5,
    "band_dropout": 0.4,
}
NOTHING = {"turns": "none", "jitter": 0.0}


@dataclass(frozen=True)
class NoisyScene:
    """Random bands, masks and holes."""

    seed: int = 0
    size: tuple[int, int] = (41, 53)
    id: str = "noisy"
    cube: NDArray[np.float32] = field(init=False)
    masks: NDArray[np.uint8] = field(init=False)
    valid: NDArray[np.bool_] = field(init=False)
    known: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        valid = rng.random(self.size) < 0.9
        cube = rng.normal(100, 30, (*self.size, 3)).astype(np.float32)
        cube[~valid] = np.nan
        masks = (rng.random((*self.size, 4)) < 0.4).astype(np.uint8)
        known = valid & (rng.random(self.size) < 0.9)
        masks[~known] = 0
        for name, value in (("cube", cube), ("masks", masks), ("valid", valid), ("known", known)):
            object.__setattr__(self, name, value)


def scaling(steps: int | None = None) -> BandScaling:
    numbers = ([60, 50, 70], [150, 140, 160], [100, 95, 110], [30, 20, 25])
    return BandScaling(*(np.array(each, np.float32) for each in numbers), steps)


def sources(bands: BandScaling | None = None) -> list[TrainingScene]:
    sizes = [(41, 53), (17, 90)]
    return [TrainingScene(NoisyScene(n, size), bands or scaling(), (2, 0)) for n, size in enumerate(sizes)]


UNBOUNDED = BandScaling(*(np.full(3, value, np.float32) for value in (-np.inf, np.inf, 100, 30)))


def plan(**augmentation: Any) -> TrainingPlan:
    fields = {"patch_px": PATCH_PX, "batch_size": 12, "augmentation": augmentation}
    return decode(TrainingPlan, fields, where="test")


def positions(sampler: PatchSampler, number: int, n: int) -> NDArray[np.float64]:
    """Rows and columns `(2, P, P)` that patch `n` shows, from the definition of a draw."""
    draws = sampler.draw(number)
    i, j = np.meshgrid(np.arange(PATCH_PX), np.arange(PATCH_PX), indexing="ij")
    middle = (PATCH_PX - 1) / 2
    matrix = draws.geometry.matrices[n]
    shown = np.einsum("ab,bij->aij", matrix, np.stack([i - middle, j - middle])) + draws.centre[n][:, None, None]
    bent = displacements(draws.geometry, PATCH_PX)[n]
    return shown + np.moveaxis(bent, -1, 0) if bent.size else shown


@pytest.mark.parametrize("turns", ["none", "d4", "d8", "any"])
@pytest.mark.parametrize("elastic", [0.0, 0.3])
def test_bands_are_those_scipy_interpolates(turns: str, elastic: float) -> None:
    sampler = PatchSampler(sources(), plan(turns=turns, zoom=0.4, shear=0.2, elastic=elastic, jitter=0.0), seed=1)
    bands, _ = sampler.batch(0)

    for n, number in enumerate(sampler.draw(0).scene):
        scaled = scaling().apply(sources()[number].scene.cube)
        at = positions(sampler, 0, n)
        expected = np.stack([map_coordinates(scaled[..., k], at, order=1, mode="mirror") for k in range(3)], axis=-1)
        np.testing.assert_allclose(bands[n], expected, atol=2e-5)


@pytest.mark.parametrize("bands", [scaling(steps=9), UNBOUNDED])
def test_every_form_of_scaling_is_applied_before_interpolation(bands: BandScaling) -> None:
    sampler = PatchSampler(sources(bands), plan(turns="any", jitter=0.0), seed=1)
    patches, _ = sampler.batch(0)

    for n, number in enumerate(sampler.draw(0).scene):
        scaled = bands.apply(sources()[number].scene.cube)
        at = positions(sampler, 0, n)
        expected = np.stack([map_coordinates(scaled[..., k], at, order=1, mode="mirror") for k in range(3)], axis=-1)
        np.testing.assert_allclose(patches[n], expected, atol=3e-5)


@pytest.mark.parametrize("turns", ["none", "d4"])
def test_quarter_turns_copy_pixels_exactly(turns: str) -> None:
    sampler = PatchSampler(sources(), plan(turns=turns, jitter=0.0), seed=1)
    bands, targets = sampler.batch(0)

    for n, number in enumerate(sampler.draw(0).scene):
        at = positions(sampler, 0, n)
        assert np.array_equal(at, np.round(at))
        scene = sources()[number].scene
        rows, columns = (mirrored(each, size) for each, size in zip(at.astype(int), scene.known.shape, strict=True))
        np.testing.assert_allclose(bands[n], scaling().apply(scene.cube[rows, columns]), atol=1e-6)
        np.testing.assert_array_equal(targets[n, ..., :2], scene.masks[rows, columns][..., [2, 0]])
        np.testing.assert_array_equal(targets[n, ..., 2], scene.known[rows, columns])


def mirrored(positions: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """By NumPy's own mirroring."""
    reach = 300
    return np.pad(np.arange(size), reach, mode="reflect")[positions + reach]


def test_hard_targets_are_the_nearest_pixels() -> None:
    sampler = PatchSampler(sources(), plan(turns="any", elastic=0.2), seed=2)
    _, targets = sampler.batch(3)

    for n, number in enumerate(sampler.draw(3).scene):
        scene = sources()[number].scene
        at = np.floor(positions(sampler, 3, n) + 0.5).astype(int)
        rows, columns = (mirrored(each, size) for each, size in zip(at, scene.known.shape, strict=True))
        np.testing.assert_array_equal(targets[n, ..., :2], scene.masks[rows, columns][..., [2, 0]])
        np.testing.assert_array_equal(targets[n, ..., 2], scene.known[rows, columns])


def test_soft_targets_are_interpolated_and_known_where_all_they_are_made_of_is() -> None:
    sampler = PatchSampler(sources(), plan(turns="any", soft_labels=True), seed=2)
    _, targets = sampler.batch(0)

    for n, number in enumerate(sampler.draw(0).scene):
        scene = sources()[number].scene
        at = positions(sampler, 0, n)
        masks = scene.masks[..., [2, 0]].astype(float)
        expected = np.stack([map_coordinates(masks[..., k], at, order=1, mode="mirror") for k in range(2)], axis=-1)
        np.testing.assert_allclose(targets[n, ..., :2], expected, atol=1e-5)
        share = map_coordinates(scene.known.astype(float), at, order=1, mode="mirror")
        np.testing.assert_array_equal(targets[n, ..., 2], share > 1 - 1e-9)
    assert 0 < targets[..., 2].mean() < 1


@pytest.mark.parametrize("soft_labels", [False, True])
@pytest.mark.parametrize("augmentation", [NOTHING, {"turns": "d4", "jitter": 0.3}, EVERYTHING])
def test_the_device_cuts_what_the_processor_cuts(augmentation: dict[str, Any], soft_labels: bool) -> None:
    chosen = plan(**augmentation, soft_labels=soft_labels)
    sampler = PatchSampler(sources(), chosen, seed=5)
    bands, targets = sampler.batch(1)

    on_device, targets_on_device = (
        np.asarray(each) for each in PatchCutter(sources(), chosen)(plain_draws(sampler.draw(1), PATCH_PX))
    )

    # Half precision keeps three digits, and a pixel's nearest neighbour may change where it lies half way.
    np.testing.assert_allclose(on_device, bands, atol=4e-3)
    assert (targets_on_device == targets).mean() > 0.998 or soft_labels
    assert np.abs(targets_on_device - targets).mean() < 2e-3


def test_variation_is_factor_offset_noise_and_dropped_bands() -> None:
    still, varied = (
        {"turns": "none", "jitter": 0.0},
        {"turns": "none", "jitter": 0.2, "noise": 0.5, "band_dropout": 0.5},
    )
    plain, _ = PatchSampler(sources(), plan(**still), seed=5).batch(0)
    sampler = PatchSampler(sources(), plan(**varied), seed=5)
    bands, _ = sampler.batch(0)
    drawn = sampler.draw(0).radiometry

    table = np.tile(noise_table(), 2)
    for n in range(len(bands)):
        noise = table[drawn.noise_start[n] :][: bands[n].size].reshape(bands[n].shape)
        expected = plain[n] * drawn.factor[n] + drawn.offset[n] + drawn.noise_std[n] * noise
        np.testing.assert_allclose(bands[n], expected, atol=1e-5)
    dropped = drawn.factor == 0
    assert 0.2 < dropped.mean() < 0.6
    assert not dropped.all(axis=1).any()
    assert not bands.transpose(0, 3, 1, 2)[dropped].any()


def test_each_strength_bounds_what_is_drawn() -> None:
    rng = np.random.default_rng(0)
    zooms = draw_geometry(plan(turns="none", zoom=0.5).augmentation, PATCH_PX, 500, rng).matrices[:, 0, 0]
    shears = draw_geometry(plan(turns="none", shear=0.3).augmentation, PATCH_PX, 500, rng).matrices[:, 0, 1]
    bent = draw_geometry(plan(turns="none", elastic=0.5).augmentation, PATCH_PX, 500, rng).control

    assert 1 / 1.5 <= zooms.min() < 0.7
    assert 1.45 < zooms.max() <= 1.5
    assert np.median(zooms) == pytest.approx(1.0, abs=0.05)
    assert 0.28 < np.abs(shears).max() <= 0.3
    assert 0.49 * PATCH_PX / 4 < np.abs(bent).max() <= 0.5 * PATCH_PX / 4


def test_d8_has_sixteen_elements_closed_under_turning() -> None:
    matrices = draw_geometry(plan(turns="d8").augmentation, PATCH_PX, 2000, np.random.default_rng(0)).matrices
    elements = {tuple(np.round(each, 6).ravel() + 0.0) for each in matrices}
    products = {tuple(np.round(a @ b, 6).ravel() + 0.0) for a in matrices[:60] for b in matrices[:60]}

    assert len(elements) == 16
    assert products <= elements
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(2), (2000, 2, 2)), atol=1e-12
    )


def test_the_bending_is_a_cubic_spline() -> None:
    control = np.random.default_rng(0).normal(size=7)
    spline = BSpline(np.arange(-3.0, 8.0), control, 3)

    np.testing.assert_allclose(spline_basis(33, 7) @ control, spline(np.linspace(0, 4, 33)), atol=1e-6)


@pytest.mark.parametrize("turns", ["d4", "any"])
def test_no_patch_reads_farther_than_its_reach(turns: str) -> None:
    augmentation = plan(turns=turns, zoom=0.5, shear=0.4, elastic=0.5, jitter=0.0).augmentation
    geometry = draw_geometry(augmentation, PATCH_PX, 3000, np.random.default_rng(0))
    i, j = np.meshgrid(*[np.arange(PATCH_PX) - (PATCH_PX - 1) / 2] * 2, indexing="ij")
    shown = np.einsum("nab,bij->naij", geometry.matrices, np.stack([i, j]))
    shown += np.moveaxis(displacements(geometry, PATCH_PX), -1, 1)

    farthest = np.abs(np.floor(shown) + (shown > 0)).max()
    assert farthest <= reach_px(augmentation, PATCH_PX)
    assert farthest > 0.6 * reach_px(augmentation, PATCH_PX)


def test_only_data_that_leave_room_go_to_the_device() -> None:
    scenes = sources()
    needed = bytes_on_device(scenes)

    assert needed == (41 * 53 + 17 * 90) * (2 * 3 + 3)
    assert fits_on_device(scenes, 10 * needed)
    assert not fits_on_device(scenes, 2 * needed)
    assert not fits_on_device(scenes, None)


def test_the_middle_of_a_patch_is_what_its_placement_says() -> None:
    sampler = PatchSampler(sources(), plan(turns="any", zoom=0.3), seed=8)
    draws = sampler.draw(0)
    middle = np.array([7.5, 7.5, 1.0])

    for n in range(12):
        np.testing.assert_allclose(placements(draws, PATCH_PX)[n] @ middle, draws.centre[n], atol=1e-9)

"""Patches: what they show, that they repeat, and that rare classes and borders come out right."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.patches.sampler import PatchSampler
from pipeline.patches.scenes import TrainingScene
from pipeline.preparation.normalisation import BandScaling
from search_space.decode import decode
from search_space.errors import InfeasibleError, MapgroveError
from search_space.training_plan import TrainingPlan

HEIGHT, WIDTH = 40, 30


@dataclass(frozen=True)
class FakeScene:
    """Every pixel's bands tell its row and column, so that a patch tells where it comes from."""

    id: str = "fake"
    cube: NDArray[np.float32] = field(
        default_factory=lambda: np.stack(np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), indexing="ij"), -1).astype(
            np.float32
        )
    )
    masks: NDArray[np.uint8] = field(default_factory=lambda: rare_masks())
    valid: NDArray[np.bool_] = field(default_factory=lambda: np.ones((HEIGHT, WIDTH), bool))
    known: NDArray[np.bool_] = field(default_factory=lambda: known_but_left())


def rare_masks() -> NDArray[np.uint8]:
    masks = np.zeros((HEIGHT, WIDTH, 2), np.uint8)
    masks[20:22, 15:17, 0] = 1
    masks[:, 10:, 1] = 1
    return masks


def known_but_left() -> NDArray[np.bool_]:
    known = np.ones((HEIGHT, WIDTH), bool)
    known[:, :5] = False
    return known


NO_SCALING = BandScaling(*(np.full(2, value, np.float32) for value in (-1e9, 1e9, 0.0, 1.0)))


def sampler(seed: int = 0, classes: tuple[int, ...] = (0, 1), scene: Any = None, **plan: Any) -> PatchSampler:
    fields = {"patch_px": 8, "batch_size": 16, "augmentation": {"turns": "none", "jitter": 0.0}} | plan
    source = TrainingScene(scene or FakeScene(), NO_SCALING, classes)
    return PatchSampler([source], decode(TrainingPlan, fields, where="test"), seed)


@pytest.mark.parametrize("turns", ["none", "d4"])
def test_bands_and_masks_of_a_patch_show_the_same_ground(turns: str) -> None:
    scene = FakeScene()
    bands, targets = sampler(augmentation={"turns": turns, "jitter": 0.0}).batch(0)

    rows, columns = bands[..., 0].astype(int), bands[..., 1].astype(int)
    np.testing.assert_array_equal(targets[..., :2], scene.masks[rows, columns])
    np.testing.assert_array_equal(targets[..., 2], scene.known[rows, columns])


def test_a_batch_depends_on_seed_and_number_alone() -> None:
    first = sampler(seed=3).batch(5)
    again = sampler(seed=3)
    again.batch(0)

    np.testing.assert_array_equal(first[0], again.batch(5)[0])
    assert not np.array_equal(first[0], sampler(seed=4).batch(5)[0])
    assert not np.array_equal(first[0], sampler(seed=3).batch(6)[0])


def test_a_rare_class_is_in_many_patches() -> None:
    targets = np.concatenate([sampler(seed=seed).batch(0)[1] for seed in range(10)])

    # A quarter of all patches is centred on it; its 4 of 1200 pixels would be in about 5 % by chance.
    assert (targets[..., 0].max(axis=(1, 2)) > 0).mean() > 0.2


def test_patches_over_the_border_mirror_the_scene() -> None:
    bands, _ = sampler(patch_px=32, batch_size=8).batch(0)
    rows, columns = bands[..., 0], bands[..., 1]

    # Mirroring moves by one pixel at a time and turns back at the border without repeating it.
    assert set(np.unique(np.abs(np.diff(rows, axis=1)))) == {1.0}
    assert set(np.unique(np.abs(np.diff(columns, axis=2)))) == {1.0}
    assert rows.min() >= 0
    assert rows.max() < HEIGHT
    assert columns.max() < WIDTH


def test_all_eight_turns_are_drawn() -> None:
    bands, _ = sampler(augmentation={"turns": "d4", "jitter": 0.0}, batch_size=200).batch(0)

    # A turn shows in the steps of row and column numbers along the two axes; mirrored borders would hide it.
    down, right = bands[:, 1, 0] - bands[:, 0, 0], bands[:, 0, 1] - bands[:, 0, 0]
    inside = np.abs(np.diff(bands, axis=1)).sum((1, 2, 3)) + np.abs(np.diff(bands, axis=2)).sum((1, 2, 3)) == 2 * 7 * 8
    steps = {tuple(each) for each in np.concatenate([down, right], axis=1)[inside].astype(int).tolist()}
    assert len(steps) == 8


def test_jitter_is_a_linear_transform_per_channel() -> None:
    plain, _ = sampler(augmentation={"turns": "none", "jitter": 0.0}).batch(0)
    # The draw of the jitter comes after all others of a patch, so only a batch of one shows the same ground.
    one, _ = sampler(batch_size=1, augmentation={"turns": "none", "jitter": 0.0}).batch(0)
    jittered, _ = sampler(batch_size=1, augmentation={"turns": "none", "jitter": 0.3}).batch(0)

    np.testing.assert_array_equal(one[0], plain[0])
    for channel in range(2):
        slope, offset = np.polyfit(one[0, ..., channel].ravel(), jittered[0, ..., channel].ravel(), 1)
        assert 0.7 <= slope <= 1.3
        assert abs(offset) <= 0.3 + 1e-3
        np.testing.assert_allclose(jittered[0, ..., channel], slope * one[0, ..., channel] + offset, atol=1e-3)


def test_classes_are_chosen_in_order() -> None:
    _, targets = sampler(classes=(1,)).batch(0)
    bands, both = sampler(classes=(1, 0)).batch(0)

    assert targets.shape[-1] == 2
    rows, columns = bands[..., 0].astype(int), bands[..., 1].astype(int)
    np.testing.assert_array_equal(both[..., 0], FakeScene().masks[rows, columns, 1])


def test_a_scene_smaller_than_the_patch_is_mirrored() -> None:
    bands, targets = sampler(patch_px=96, batch_size=1).batch(0)

    assert bands.shape == (1, 96, 96, 2)
    assert targets[..., :2].max() == 1


def test_scenes_without_a_label_are_refused() -> None:
    nothing = FakeScene(known=np.zeros((HEIGHT, WIDTH), bool))

    with pytest.raises(MapgroveError, match="no training scene has a labelled pixel"):
        sampler(scene=nothing)


def all_known(size: tuple[int, int] = (200, 300)) -> FakeScene:
    rows, columns = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    return FakeScene(
        cube=np.stack([rows, columns], -1).astype(np.float32),
        masks=np.zeros((*size, 2), np.uint8),
        valid=np.ones(size, bool),
        known=np.ones(size, bool),
    )


BENT = {"turns": "any", "zoom": 0.3, "elastic": 0.3, "jitter": 0.0}


@pytest.mark.parametrize("augmentation", [{"turns": "d4", "jitter": 0.0}, BENT])
def test_no_patch_reads_within_the_context_of_held_out_ground(augmentation: dict[str, Any]) -> None:
    scene, held_out, context_px = all_known(), np.zeros((200, 300), bool), 9
    held_out[60:120, 100:180] = True
    fields = {"patch_px": 24, "batch_size": 64, "augmentation": augmentation}
    source = TrainingScene(scene, NO_SCALING, (0, 1), held_out)
    drawn = PatchSampler([source], decode(TrainingPlan, fields, where="test"), 1, context_px)

    # The bands tell every row and column that is read; linear interpolation keeps them.
    near = cv2.dilate(held_out.astype(np.uint8), np.ones((2 * context_px + 1,) * 2, np.uint8)) > 0
    shown = np.zeros((200, 300), bool)
    for number in range(12):
        rows, columns = np.moveaxis(drawn.batch(number)[0], -1, 0)
        for round_to in (np.floor, np.ceil):
            assert not near[round_to(rows).astype(int), round_to(columns).astype(int)].any()
        shown[rows.astype(int), columns.astype(int)] = True
    assert shown[:20].mean() > 0.5


def test_patches_still_come_as_near_to_held_out_ground_as_they_may() -> None:
    held_out = np.zeros((200, 300), bool)
    held_out[60:120, 100:180] = True
    fields = {"patch_px": 24, "batch_size": 64, "augmentation": {"turns": "none", "jitter": 0.0}}
    source = TrainingScene(all_known(), NO_SCALING, (0, 1), held_out)
    drawn = PatchSampler([source], decode(TrainingPlan, fields, where="test"), 1, context_px=9)

    shown = np.concatenate([drawn.batch(number)[0] for number in range(40)])
    rows, columns = np.moveaxis(shown, -1, 0)
    above = rows[(rows < 90) & (columns > 110) & (columns < 170)]
    assert 60 - 9 - 5 <= above.max() < 60 - 9


def test_blocks_without_room_for_a_patch_are_infeasible() -> None:
    held_out = np.ones((200, 300), bool)
    held_out[80:120, 80:120] = False
    source = TrainingScene(all_known(), NO_SCALING, (0, 1), held_out)

    with pytest.raises(InfeasibleError, match="no room for patches of 24 px whose network looks 30 px far"):
        PatchSampler([source], decode(TrainingPlan, {"patch_px": 24}, where="test"), 1, context_px=30)


def test_ground_with_a_high_loss_is_drawn_more_often_once_settled() -> None:
    fields = {"patch_px": 32, "batch_size": 50, "sampling": {"kind": "loss", "share": 1.0}}
    source = TrainingScene(all_known(), NO_SCALING, (0, 1))
    drawn = PatchSampler([source], decode(TrainingPlan, fields, where="test"), 1)
    before = [drawn.draw(number) for number in range(20)]
    hard = [np.where(each.centre[:, 1] < 100, 9.0, 1.0) for each in before]
    for number, losses in enumerate(hard):
        drawn.record(number, losses)

    np.testing.assert_array_equal(drawn.draw(3).centre, before[3].centre)
    drawn.settle()
    left = np.concatenate([drawn.draw(number).centre[:, 1] < 100 for number in range(20)])
    # A third of the ground with nine times the loss: 9 / (9 + 2) of all patches, but for cells across the line.
    assert 0.65 < left.mean() < 0.9
    assert np.mean(np.concatenate(hard) > 5) < 0.45


def test_uniform_patches_show_all_ground_alike() -> None:
    fields = {"patch_px": 16, "batch_size": 100, "sampling": {"kind": "uniform"}}
    source = TrainingScene(all_known((64, 96)), NO_SCALING, (0, 1))
    drawn = PatchSampler([source], decode(TrainingPlan, fields, where="test"), 1)
    centres = np.concatenate([drawn.draw(number).centre for number in range(40)])

    counts, *_ = np.histogram2d(centres[:, 0], centres[:, 1], bins=(3, 4), range=((8, 56), (8, 88)))
    assert counts.max() / counts.min() < 1.4


def held_out_right(width_px: int = 150) -> NDArray[np.bool_]:
    held_out = np.zeros((200, 300), bool)
    held_out[:, width_px:] = True
    return held_out


def drawn_near_held_out_ground(scene: FakeScene, **plan: Any) -> PatchSampler:
    fields = {"patch_px": 16, "batch_size": 64, "augmentation": {"turns": "none", "jitter": 0.0}} | plan
    source = TrainingScene(scene, NO_SCALING, (0, 1), held_out_right())
    return PatchSampler([source], decode(TrainingPlan, fields, where="test"), 1, context_px=9)


def last_shown_column() -> int:
    """The column next to held-out ground that patches of 16 px with 9 px between can show."""
    drawn = drawn_near_held_out_ground(all_known(), sampling={"kind": "uniform"})
    return max(int(drawn.batch(number)[0][..., 1].max()) for number in range(20))


def test_a_class_at_the_rim_of_what_patches_can_show_is_in_each_that_is_drawn_for_it() -> None:
    scene, column = all_known(), last_shown_column()
    scene.masks[::5, column, 0] = 1
    drawn = drawn_near_held_out_ground(scene, sampling={"kind": "balanced", "share": 1.0})

    targets = np.concatenate([drawn.batch(number)[1] for number in range(5)])

    assert (targets[..., 0].max(axis=(1, 2)) > 0).all()


def test_a_class_that_no_patch_can_show_is_infeasible() -> None:
    scene, column = all_known(), last_shown_column()
    scene.masks[:, column + 1, 1] = 1

    with pytest.raises(InfeasibleError, match=r"no room for patches of 16 px whose.* to show a pixel of class 2:"):
        drawn_near_held_out_ground(scene)


@pytest.mark.parametrize(
    ("widths", "share"), [((1, 128), 1 / 129), ((100, 100), 1 / 2), ((256, 300), 1 / 2), ((64, 300), 64 / 320)]
)
def test_scenes_count_by_their_pixels_of_a_class_up_to_a_patch_full(widths: tuple[int, int], share: float) -> None:
    """Two scenes with a row of the class each; a patch has 256 pixels."""
    scenes = [all_known(), all_known()]
    for scene, width in zip(scenes, widths, strict=True):
        scene.masks[100, :width, 0] = 1
    fields = {"patch_px": 16, "batch_size": 300, "sampling": {"kind": "balanced", "share": 1.0}}
    sources = [TrainingScene(each, NO_SCALING, (0,)) for each in scenes]
    drawn = PatchSampler(sources, decode(TrainingPlan, fields, where="test"), 1)

    first = np.concatenate([drawn.draw(number).scene == 0 for number in range(10)])

    assert first.mean() == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / len(first)))


def test_every_square_of_ground_gets_a_loss_of_its_own() -> None:
    """Also those next to held-out ground, in which no patch has its middle."""
    drawn = drawn_near_held_out_ground(all_known(), sampling={"kind": "loss", "share": 1.0})
    for epoch in range(10):
        for number in range(epoch * 10, epoch * 10 + 10):
            drawn.record(number, np.where(drawn.draw(number).pixel[:, 1] < 40, 100.0, 1.0))
        drawn.settle()

    columns = np.concatenate([drawn.draw(number).pixel[:, 1] for number in range(20)])

    # 40 columns of a hundred, about 100 of one: all others together have a fortieth of the weight.
    assert (columns < 40).mean() > 0.93


def test_large_numbers_that_differ_little_keep_their_differences() -> None:
    scene = all_known()
    scene.cube[...] = 5e6 + 10 * np.random.default_rng(0).standard_normal(scene.cube.shape)
    scaling = BandScaling(*(np.full(2, value, np.float32) for value in (-1e9, 1e9, 5e6, 10.0)))
    fields = {"patch_px": 8, "batch_size": 4, "augmentation": {"turns": "none", "jitter": 0.0}}
    drawn = PatchSampler([TrainingScene(scene, scaling, (0,))], decode(TrainingPlan, fields, where="test"), 0)
    bands, _ = drawn.batch(0)

    corners = np.floor(drawn.draw(0).centre).astype(int) - 3
    for patch, (row, column) in zip(bands, corners, strict=True):
        if 0 <= row <= 192 and 0 <= column <= 292:
            expected = scaling.apply(scene.cube[row : row + 8, column : column + 8])
            np.testing.assert_allclose(patch, expected, atol=1e-5)

import numpy as np
import pytest

from pipeline.imagery.drawing import (
    NO_DATA,
    PAPER,
    DrawingError,
    class_colours,
    compose,
    draw_legend,
    draw_overlay,
    stretch_to_rgb8,
    to_display_size,
)

DSTL = [
    "Buildings",
    "Misc. manmade structures",
    "Road",
    "Track",
    "Trees",
    "Crops",
    "Waterway",
    "Standing water",
    "Vehicle large",
    "Vehicle small",
]


@pytest.mark.parametrize("classes", [1, 10, 11, 40, DSTL, DSTL[::-1], ["water"] * 12])
def test_every_class_has_a_colour_of_its_own(classes):
    colours = class_colours(classes)
    assert len({tuple(colour) for colour in colours.tolist()}) == (
        classes if isinstance(classes, int) else len(classes)
    )


def test_water_is_blue_and_trees_are_green_whatever_their_order():
    for order in (["water", "tree", "thing"], ["thing", "tree", "water"]):
        colours = dict(zip(order, class_colours(order).astype(int), strict=True))
        assert colours["water"].argmax() == 2
        assert colours["tree"].argmax() == 1


def test_bands_are_stretched_between_their_percentiles():
    ramp = np.linspace(100, 1100, 10_000, dtype=np.float32).reshape(100, 100)
    cube = np.stack([ramp, ramp[::-1], ramp * 0 + 5], axis=-1)
    rgb = stretch_to_rgb8(cube, (0, 1, 2))
    expected = np.clip((ramp - 120) / 960, 0, 1) * 255
    np.testing.assert_allclose(rgb[..., 0], expected, atol=1)
    np.testing.assert_allclose(rgb[..., 1], expected[::-1], atol=1)
    assert (rgb[..., 2] == 0).all()


def test_no_data_is_grey_and_does_not_stretch():
    cube = np.random.default_rng(0).random((40, 40, 3)).astype(np.float32)
    expected = stretch_to_rgb8(cube[10:], (2, 1, 0))
    cube[:5] = np.nan
    cube[5:10] = 1e9
    valid = np.ones((40, 40), bool)
    valid[5:10] = False
    rgb = stretch_to_rgb8(cube, (2, 1, 0), valid)
    assert (rgb[:10] == NO_DATA).all()
    np.testing.assert_array_equal(rgb[10:], expected)


def test_a_single_band_is_grey_and_an_empty_scene_too():
    cube = np.random.default_rng(0).integers(0, 2047, (9, 9, 2)).astype(np.uint16)
    rgb = stretch_to_rgb8(cube, [1])
    assert (rgb == rgb[..., :1]).all()
    assert (stretch_to_rgb8(cube, [1], np.zeros((9, 9), bool)) == NO_DATA).all()


@pytest.mark.parametrize("bands", [(0, 1), (0, 1, 3), (-1, 0, 1), ()])
def test_bands_that_make_no_picture_are_refused(bands):
    with pytest.raises(DrawingError, match="bands 0 to 2"):
        stretch_to_rgb8(np.zeros((3, 3, 3)), bands)


def test_an_overlay_tints_the_class_and_outlines_it():
    rgb = np.full((20, 20, 3), 100, np.uint8)
    masks = np.zeros((20, 20, 1), bool)
    masks[5:15, 5:15] = True
    picture = draw_overlay(rgb, masks, ["water"])
    colour = class_colours(["water"])[0]
    assert (picture[:5] == 100).all()
    assert (picture[5, 5:15] == colour).all()
    np.testing.assert_allclose(picture[10, 10], 0.58 * 100 + 0.42 * colour, atol=1)
    assert (rgb == 100).all()


def test_small_classes_lie_on_top():
    masks = np.zeros((20, 20, 2), bool)
    masks[..., 1] = True
    masks[8:10, 8:10, 0] = True
    picture = draw_overlay(np.zeros((20, 20, 3), np.uint8), masks, ["car", "crop"])
    assert (picture[8, 8] == class_colours(["car", "crop"])[0]).all()


def test_thin_things_survive_shrinking():
    masks = np.zeros((3000, 200, 1), np.uint8)
    masks[:, 100:102] = 1
    picture, shown = to_display_size(np.zeros((3000, 200, 3), np.uint8), masks, (400, 800))
    assert picture.shape[:2] == shown.shape[:2] == (800, 53)
    assert shown.any(axis=(1, 2)).all()


def test_small_scenes_grow_by_whole_factors():
    masks = np.random.default_rng(0).random((30, 50, 2)) < 0.5
    _, shown = to_display_size(np.zeros((30, 50, 3), np.uint8), masks, (400, 800))
    np.testing.assert_array_equal(shown, masks.repeat(8, axis=0).repeat(8, axis=1))


def test_panels_stand_side_by_side_unchanged():
    left, right = (np.random.default_rng(seed).integers(0, 255, (60, 50, 3)).astype(np.uint8) for seed in (0, 1))
    sheet = compose([("Left", left), ("Right", right)], ["a"])
    found = [
        (top, x)
        for top in range(sheet.shape[0] - 59)
        for x in range(sheet.shape[1] - 49)
        if any((sheet[top : top + 60, x : x + 50] == panel).all() for panel in (left, right))
    ]
    assert len(found) == 2
    assert found[0][0] == found[1][0]


def test_a_legend_shows_every_colour_and_wraps():
    wide, narrow = draw_legend(DSTL, 4000), draw_legend(DSTL, 300)
    assert narrow.shape[1] == 300
    assert narrow.shape[0] > 3 * wide.shape[0]
    for strip in (wide, narrow):
        pixels = {tuple(pixel) for pixel in strip.reshape(-1, 3).tolist()}
        assert {tuple(colour) for colour in class_colours(DSTL).tolist()} <= pixels
        assert (strip[:, -1] == PAPER).all()

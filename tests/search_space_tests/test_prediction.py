"""Tiles that suit a network: as far as it looks, they overlap."""

from typing import Any

import pytest

from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.network.unet import outline
from search_space.prediction import PredictionSettings, overlap_for, tiling_for


def candidate(patch_px: int = 128, **architecture: Any) -> Candidate:
    return decode(Candidate, {"architecture": architecture, "plan": {"patch_px": patch_px}}, where="test")


@pytest.mark.parametrize(
    ("context_px", "tile_px", "margin_px", "overlap"),
    [
        # Tiles that share 40 of 100 px: whoever is nearer than 20 px to a border is farther from that of the next tile.
        (20, 100, 0, 0.4),
        (20, 140, 20, 0.25),
        (30, 140, 20, 0.25),
        (37, 140, 20, 0.34),
        (1, 100, 0, 0.25),
        (60, 100, 0, 0.5),
        (None, 100, 0, 0.5),
    ],
)
def test_overlap_follows_the_context(context_px: int | None, tile_px: int, margin_px: int, overlap: float) -> None:
    assert overlap_for(context_px, tile_px, margin_px) == pytest.approx(overlap)


def test_tiles_are_of_the_patch_size_rounded_up_to_what_the_network_halves() -> None:
    chosen = candidate(50, depth=3, margin_px=8)
    assert tiling_for(chosen, PredictionSettings()).tile_px == 56
    assert tiling_for(chosen, PredictionSettings(tile_px=200)).tile_px == 200
    # 16 px of margins and at least 8 px of map.
    assert tiling_for(chosen, PredictionSettings(tile_px=3)).tile_px == 24
    assert tiling_for(chosen, PredictionSettings()).margin_px == 8


def test_what_a_study_sets_is_kept_and_what_it_leaves_open_comes_from_the_network() -> None:
    near = candidate(128, depth=1, units_per_stage=1)
    context_px = outline(near.architecture).context_px
    assert context_px is not None
    assert context_px < 32

    settings = PredictionSettings(symmetries="flips", batch_size=3)
    overlap = max(0.25, 2 * context_px / 128)
    assert tiling_for(near, settings) == (128, 0, overlap, "flips", 3, "mean", "spline", "snap")
    assert tiling_for(near, PredictionSettings(overlap=0.75)).overlap == 0.75
    assert tiling_for(near, PredictionSettings(overlap=0.0)).overlap == 0.0
    assert tiling_for(candidate(128, bottom={"kind": "attention"}), PredictionSettings()).overlap == 0.5


def test_a_recipe_says_how_its_tiles_are_cut_and_the_study_the_rest() -> None:
    ours = PredictionSettings(overlap=0.5, symmetries="none", window="hann", batch_size=3, min_area_px=7)
    theirs = PredictionSettings(tile_px=96, symmetries="flips", average="geometric", borders="beyond")

    both = ours.shaped_as(theirs)

    assert both == theirs.model_copy(update={"batch_size": 3, "min_area_px": 7})
    assert ours.shaped_as(None) == ours

"""The verb `score`: what it says of maps whose networks saw more than their training kept from them."""

import logging

import pytest

from search_space.architecture import Architecture
from search_space.candidate import Candidate
from search_space.records import ModelMember, ModelSet
from search_space.training_plan import TrainingPlan
from verbs.score import _tell_farther_sight


def model_set(**depths: int) -> ModelSet:
    """A model per class, of the given depth: the deeper, the farther it looks."""
    members = tuple(
        ModelMember(
            class_name=name,
            file=f"{name}.keras",
            candidate=Candidate(architecture=Architecture(depth=depth), plan=TrainingPlan(patch_px=64)),
            threshold=0.5,
        )
        for name, depth in depths.items()
    )
    return ModelSet(study="s", data_fingerprint="f", classes=tuple(depths), bands=("red",), members=members)


@pytest.mark.parametrize(("tile_px", "told"), [(0, ""), (64, ""), (32, ""), (256, "road")])
def test_maps_from_which_networks_see_training_ground_are_told(
    tile_px: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _tell_farther_sight(model_set(pond=1, road=5), tile_px)
    assert [record.args for record in caplog.records] == ([(told, tile_px)] if told else [])

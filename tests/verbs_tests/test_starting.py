"""What a search is told and refused before anything is tried."""

from pathlib import Path
from typing import Any

import pytest

from search_space.decode import encode
from search_space.errors import MapgroveError
from search_space.network.unet import InputBand
from search_space.objective import Outcome
from search_space.space import resolve_space, space_for
from search_space.starting_points import starting_points
from search_space.study import Study
from search_space.study_file import read_study
from trials_db.bridge import new_trial, propose
from trials_db.records import StudyRecord, Trial
from trials_db.sqlite_store import SqliteStore
from verbs.common import matching
from verbs.starting import check_weights, start_lines, with_found_starts

DEMO = Path(__file__).parents[2] / "configs" / "demo.toml"
COLOURS = [InputBand(name) for name in ("red", "green", "blue")]


def study_with(names: list[str], **limits: Any) -> Study:
    study = read_study(DEMO, [])
    search = study.search.model_copy(update={"start_from": tuple(names)})
    return study.model_copy(update={"search": search, "limits": study.limits.model_copy(update=limits)})


def test_starts_beyond_the_limits_are_told_before_they_are_tried() -> None:
    study = study_with(["recipes"], max_trials=20, max_parameters=5_000_000)
    lines = start_lines(study, resolve_space({}), COLOURS)
    assert lines[0].startswith("The first trials start from cresi, neuromation, nnunet-2d, residual-inception-skip, ")
    told = {line.split(" ")[0]: line for line in lines[1:]}
    assert set(told) == {"cresi", "neuromation", "nnunet-2d", "solaris", "ternaus", "unet-2015"}
    expected = "ternaus will be infeasible: the network has 7,85"
    assert told["ternaus"].startswith(expected)
    assert told["ternaus"].endswith("more than limits.max_parameters = 5,000,000")


def test_starts_that_coincide_or_come_too_late_are_told() -> None:
    space = resolve_space({"*": {"drop": True}, "architecture.encoder": {"choices": ["grown", "vgg16"]}})
    lines = start_lines(study_with(["ternaus", "solaris", "default", "cresi"], max_trials=20), space, COLOURS)
    assert lines == [
        "The first trials start from ternaus, solaris, as near as the space allows",
        "solaris will be infeasible: the network has 8,068,292 parameters, more than limits.max_parameters = 2,000,000",
        "The same as another in this space: default (as ternaus)",
        "Not in this study's space, and left out: cresi",
    ]
    lines = start_lines(study_with(["ternaus", "solaris", "default"], max_trials=1), space, COLOURS)
    assert lines[0] == "The first trials start from ternaus, as near as the space allows"
    assert lines[-1] == "More than limits.max_trials, and left out: solaris"
    assert start_lines(study_with([]), space, COLOURS) == []


@pytest.mark.parametrize(
    "overrides",
    [
        {"architecture.encoder[resnet34].weights": {"choices": ["none", "{}/r34.safetensors"]}},
        {"architecture.encoder": {"choices": ["grown", {"kind": "resnet34", "weights": "{}/r34.safetensors"}]}},
    ],
    ids=["a dimension", "an option"],
)
def test_weights_that_are_not_there_are_refused_at_once(overrides: dict[str, Any], tmp_path: Path) -> None:
    space = resolve_space(_filled(overrides, str(tmp_path)))
    with pytest.raises(MapgroveError, match=r"space\.architecture\.encoder.*there is no such file here.*r34"):
        check_weights(space)
    (tmp_path / "r34.safetensors").touch()
    check_weights(space)
    check_weights(resolve_space({}))


def _filled(plain: Any, text: str) -> Any:
    if isinstance(plain, dict):
        return {key: _filled(value, text) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_filled(each, text) for each in plain]
    return plain.format(text) if isinstance(plain, str) else plain


def test_branches_are_searched_only_where_bands_differ() -> None:
    space = resolve_space({})
    name = "architecture.encoder[grown].branches"
    assert name in space_for(space, [*COLOURS, InputBand("swir", 2)])
    assert set(space) - set(space_for(space, COLOURS)) == {name}


def test_a_search_starts_from_the_best_of_another_study(tmp_path: Path) -> None:
    study = study_with(["study:whole", "default"], max_trials=20)
    space = space_for(resolve_space({}), COLOURS)
    settings = study.search.model_copy(update={"start_from": (), "startup_trials": 9})
    # Jaccard at trees and at crops: best at trees are 4, 2 and 0; 1 failed, and 3 ranks only crops.
    jaccard = [(0.3, 0.9), None, (0.4, 0.1), (None, 1.0), (0.5, 0.0), (0.2, 0.9)]
    with SqliteStore(tmp_path / "t.sqlite") as store:
        whole = record_of(study, "whole")
        store.create_study(whole)
        history: list[Trial] = []
        for number, scores in enumerate(jaccard):
            store.add_trial("whole", new_trial(space, history, number, 1, settings))
            claim = store.claim("whole", "w", 60.0)
            assert claim
            known = {k: v for k, v in zip(("trees", "crops"), scores or (), strict=False) if v is not None}
            done = Outcome(state="done", loss=1 - sum(known.values()) / len(known), jaccard=known) if known else None
            store.finish(claim, done or Outcome(state="failed", reason="planted"))
            history = store.trials("whole")
        trees = study.of_class("trees")

        begun = with_found_starts(trees, store)

        assert [each.trial for each in begun.search.found] == [4, 2, 0]
        points = starting_points(space, begun.search.start_from, begun.search.found)
        assert points[:3] == [pytest.approx(history[number].point) for number in (4, 2, 0)]
        assert propose(space, [], 0, 7, begun.search).point == points[0]
        lines = start_lines(begun, space, COLOURS)
        assert lines[0].startswith("The first trials start from trial 4 of whole, trial 2 of whole")
        # What is found later changes nothing in a study that has begun.
        store.create_study(record_of(begun, trees.name))
        store.add_trial("whole", new_trial(space, history, 6, 1, settings))
        claim = store.claim("whole", "w", 60.0)
        assert claim
        store.finish(claim, Outcome(state="done", loss=0.0, jaccard={"trees": 1.0, "crops": 1.0}))
        assert with_found_starts(trees, store) == begun
        with pytest.raises(MapgroveError, match="no study named 'nix'"):
            with_found_starts(study_with(["study:nix"]), store)
        with pytest.raises(MapgroveError, match="no trial of study whole has a result for buildings"):
            with_found_starts(study.of_class("buildings").model_copy(update={"search": study.search}), store)


def record_of(study: Study, name: str) -> StudyRecord:
    return StudyRecord(name=name, settings=encode(study), space_fingerprint="s", data_fingerprint="d", seed=1)


def test_names_and_patterns_mean_studies() -> None:
    known = ["dstl", "dstl/road", "dstl/trees", "other"]
    assert matching(["dstl/*"], known) == ["dstl/road", "dstl/trees"]
    assert matching(["other", "dstl*"], known) == known
    assert matching(["absent"], known) == ["absent"], "so that whoever opens it says that it is not there"
    assert matching(["absent*"], known) == []

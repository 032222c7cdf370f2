"""What a word on the command line of `predict` stands for."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.preparation.prepare import prepare
from search_space.decode import decode
from search_space.errors import MapgroveError
from search_space.study import Study
from verbs.predict import _places


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Three scenes, one with a dot in its name; the current folder holds files of the same names."""
    for name in ("area.east", "area.west", "north"):
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
            pixels = np.ones((20, 30, 3) if kind == "images" else (20, 30), np.uint8)
            assert cv2.imwrite(str(tmp_path / kind / f"{name}.png"), pixels)
    settings = {
        "study": {"name": "s"},
        "data": {
            "format": "masks",
            "folder": str(tmp_path),
            "prepared": str(tmp_path / "prepared"),
            "classes": ["road"],
            "options": {"values": {"road": 1}, "images": "images/*.png", "masks": "masks/*.png"},
        },
        "folds": {"validation": ["north"], "test": ["area.west"]},
        "budget": {"epochs": 1, "steps_per_epoch": 1},
        "retrain": {"epochs": 1, "steps_per_epoch": 1},
        "limits": {"max_trials": 1},
    }
    study = decode(Study, settings, where="test")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "north").write_text("a note, no image")
    return study


def test_folds_and_scenes_come_before_files(study: Study) -> None:
    prepare(study.data)

    assert list(_places(study, ["test", "north"])) == ["area.west", "north"]
    assert all(not isinstance(place, Path) for place in _places(study, ["all"]).values())


def test_files_serve_without_prepared_data(study: Study) -> None:
    assert _places(study, ["images/area.east.png"]) == {"area.east": Path("images/area.east.png")}


def test_an_unknown_word_is_told_before_anything_is_mapped(study: Study) -> None:
    prepare(study.data)
    with pytest.raises(MapgroveError, match=r"no such scene, fold or image.*'area\.eats'.*area\.east"):
        _places(study, ["test", "area.eats"])


def test_an_image_whose_name_no_folder_should_have_is_refused(study: Study, tmp_path: Path) -> None:
    """Its map would lie in a folder that is hidden, and that `prepare` and `predict` take for one of their own."""
    image = (tmp_path / "images" / "north.png").read_bytes()
    (tmp_path / ".hidden.png").write_bytes(image)
    (tmp_path / "not.hidden.png").write_bytes(image)

    with pytest.raises(MapgroveError, match=r"name must fit a folder. Received '\.hidden\.png'. Rename it"):
        _places(study, [".hidden.png"])
    assert _places(study, ["not.hidden.png"]) == {"not.hidden": Path("not.hidden.png")}


def test_two_places_do_not_share_a_folder(study: Study, tmp_path: Path) -> None:
    prepare(study.data)
    with pytest.raises(MapgroveError, match="both be mapped"):
        _places(study, ["north", "images/north.png"])
    for word in ("north", "validation", "all"):
        with pytest.raises(MapgroveError, match=f"^{word} and another scene would both be mapped into .*'north'"):
            _places(study, ["images/north.png", word])
    assert list(_places(study, ["north", "validation", "north"])) == ["north"]

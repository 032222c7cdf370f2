"""The table of adapters, what the documentation promises of it, and the examples in `configs/`."""

import json
import re
import types
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.table import ADAPTERS, open_dataset, open_image
from pipeline.preparation.prepare import prepare
from pipeline.scene import DataError
from search_space.errors import MalformedError
from search_space.study import DataSettings
from search_space.study_file import read_study

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "adding-a-data-set.md"
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))


def settings(folder: Path, form: str, **options: object) -> DataSettings:
    return DataSettings(
        format=form, folder=str(folder), prepared=str(folder / "prepared"), classes=("ship",), options=options
    )


@pytest.fixture
def harbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSettings:
    """The adapter of the page in the table, and two scenes for it."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    module = types.ModuleType("arrays")
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(ADAPTERS, "arrays", module.ArraysAdapter)
    planes = np.full((4, 30, 40), 7, np.uint16)
    planes[:, 25:] = 0
    for name in ("east", "west"):
        np.save(tmp_path / f"{name}.npy", planes)
    boxes = {"ships": [[2, 3, 12, 8], [20, 20, 30, 28]], "doubtful": [[10, 0, 15, 10]]}
    (tmp_path / "east.json").write_text(json.dumps(boxes))
    return settings(tmp_path, "arrays", band_names=["red", "green", "blue", "nir"], pixel_m=3.0)


def test_the_adapter_of_the_documentation_prepares_a_data_set(harbour: DataSettings) -> None:
    dataset = prepare(harbour.model_copy(update={"indices": ("ndwi",)}))
    assert dataset.scene_ids == ("east", "west")
    assert dataset.bands == ("red", "green", "blue", "nir", "ndwi")
    east = dataset.scene("east")
    assert np.asarray(east.valid).sum() == 25 * 40
    assert np.asarray(east.known).sum() == 25 * 40 - 5 * 10
    assert np.asarray(east.masks).sum() == 8 * 5 + 10 * 5
    assert not dataset.scene("west").labelled


def test_its_files_tell_when_a_scene_must_be_prepared_again(harbour: DataSettings) -> None:
    prepare(harbour)
    (Path(harbour.folder) / "west.json").write_text('{"ships": [], "doubtful": []}')
    told = []
    prepare(harbour, lambda progress: told.append((progress.scene_id, progress.state, progress.labelled)))
    assert told == [("east", "unchanged", True), ("west", "prepared", True)]


def test_it_reads_an_image_from_elsewhere(harbour: DataSettings, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    np.save(tmp_path / "new" / "bay.npy", np.ones((4, 5, 6), np.uint8))
    alone = open_image(harbour.model_copy(update={"folder": "gone"}), tmp_path / "new" / "bay.npy")
    assert alone.scene_ids == ("bay",)
    assert alone.read("bay", ["red"]).labels is None


def test_it_tells_what_is_wrong_in_one_line(harbour: DataSettings) -> None:
    folder = Path(harbour.folder)
    adapter = open_dataset(harbour)
    (folder / "east.json").write_text('{"ships": 3}')
    with pytest.raises(DataError, match=r"east\.json: the boxes cannot be read"):
        adapter.read("east", ["red"])
    np.save(folder / "west.npy", np.ones((3, 5, 6)))
    with pytest.raises(DataError, match=r"west\.npy: .*\(B, H, W\) with the bands red, green, blue, nir.*\(3, 5, 6\)"):
        adapter.read("west", ["red"])
    (folder / "west.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"west\.npy: the array cannot be read"):
        adapter.read("west", ["red"])
    with pytest.raises(MalformedError, match="Did you mean 'band_names'"):
        open_dataset(settings(folder, "arrays", band_name=["red"], pixel_m=1.0))


def test_the_page_names_every_format() -> None:
    assert all(f"`{name}`" in PAGE.read_text(encoding="utf-8") for name in ADAPTERS)


def test_an_unknown_format_is_told_with_the_nearest(tmp_path: Path) -> None:
    for door in (open_dataset, lambda data: open_image(data, tmp_path / "a.tif")):
        with pytest.raises(DataError, match=r"no such format.*'geotif'.*Did you mean 'geotiff'"):
            door(settings(tmp_path, "geotif"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_has_options_that_its_adapter_understands(path: Path) -> None:
    data = read_study(path).data
    adapter = ADAPTERS[data.format](Path("gone"), data.options)
    assert set(data.classes) <= set(adapter.class_names)


def test_every_format_has_an_example() -> None:
    assert {read_study(path).data.format for path in CONFIGS} == set(ADAPTERS)

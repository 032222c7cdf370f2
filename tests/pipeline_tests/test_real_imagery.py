"""Real scenes beside the project; `make test` passes without them, and says that it did."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.prepare import prepare
from pipeline.scene import DataError
from search_space.study import DataSettings

DATA = Path(__file__).parents[2].parent / "shared" / "data"

pytestmark = pytest.mark.real_data


def folder(name: str) -> str:
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f"REAL IMAGERY IS ABSENT: {path}")
    return str(path)


def test_sentinel_2_of_india(tmp_path: Path) -> None:
    settings = DataSettings(
        format="masks",
        folder=folder("sentinel2_india"),
        prepared=str(tmp_path),
        classes=("built_up", "vegetation", "water"),
        indices=("ndwi", "savi"),
        options={
            "images": "images/*.tif",
            "masks": "masks/*.png",
            "band_names": ["red", "green", "blue", "nir"],
            "values": {"built_up": 1, "vegetation": 2, "water": 3},
            "ignore": [0],
        },
    )
    dataset = prepare(settings)
    assert dataset.scene_ids == ("33", "37", "46", "48", "49", "50", "59")
    assert dataset.bands == ("red", "green", "blue", "nir", "ndwi", "savi")
    scene = dataset.scene("48")
    assert scene.cube.shape == (610, 1073, 6)
    counts = {"built_up": 55664, "vegetation": 164700, "water": 9558}
    assert dict(zip(dataset.classes, scene.masks.sum(axis=(0, 1)).tolist(), strict=True)) == counts
    assert int(scene.known.sum()) == sum(counts.values())
    # Water absorbs near infrared, so the labels lie on the right pixels of the right band.
    nir, water = scene.cube[..., 3], scene.masks[..., 2] > 0
    assert nir[water].mean() < 0.7 * nir[scene.masks[..., 1] > 0].mean()


def test_aerial_roads_of_japan(tmp_path: Path) -> None:
    settings = DataSettings(
        format="masks",
        folder=folder("gsi_japan_roads"),
        prepared=str(tmp_path),
        classes=("road",),
        options={"images": "images/*.png", "masks": "masks/*.png", "values": {"road": [255, 120, 80]}},
    )
    dataset = prepare(settings)
    assert len(dataset.scene_ids) == 12
    assert int(dataset.scene("806").masks.sum()) == 64361
    assert np.mean([dataset.scene(n).record.class_shares["road"] for n in dataset.scene_ids]) == pytest.approx(
        0.08, abs=0.01
    )
    assert all(dataset.scene(name).known.all() for name in dataset.scene_ids)


def test_a_wrong_colour_is_told_with_the_right_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = DataSettings(
        format="masks",
        folder=folder("gsi_japan_roads"),
        prepared=str(tmp_path),
        classes=("road",),
        options={"images": "images/*.png", "masks": "masks/*.png", "values": {"road": [255, 255, 255]}},
    )
    with pytest.raises(DataError, match="12 of 12 scenes"):
        prepare(settings)
    assert "34267 of them [255, 120, 80]" in caplog.text

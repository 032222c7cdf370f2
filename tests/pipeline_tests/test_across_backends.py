"""A model that was saved on one backend maps alike on another."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pipeline.backend import BACKENDS
from pipeline.networks.builder import build_model
from search_space.architecture import Architecture
from search_space.decode import decode
from search_space.network.unet import InputBand

ROOT = Path(__file__).parents[2]
BANDS = [InputBand("red"), InputBand("nir", 1), InputBand("swir", 2)]

# Together they have every layer that Keras lacks, and those in which backends differ by tradition.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "branches": {"encoder": {"kind": "grown", "branches": True, "pooling": "inception"}, "up": {"kind": "transposed"}},
    "bilinear": {"up": {"kind": "bilinear"}, "bottom": {"kind": "pyramid"}, "normalisation": "group"},
    "subpixel": {"up": {"kind": "subpixel"}, "bottom": {"kind": "attention"}, "normalisation": "layer"},
    "nearest": {"up": {"kind": "nearest"}, "bottom": {"kind": "aspp"}, "skip": "gate", "activation": "gelu"},
    "wide": {"up": {"kind": "transposed", "kernel_px": 4}, "block": {"kind": "plain", "kernel_px": 4}},
    "separable": {"block": {"kind": "separable"}, "squeeze_excitation": True, "bands": ["swir", "red"]},
    "heads": {"deep_supervision": True, "energy": True, "margin_px": 4, "head": "hard_sigmoid"},
    "resnet34": {"encoder": {"kind": "resnet34"}},
    "efficientnet_b0": {"encoder": {"kind": "efficientnet_b0"}},
}

LOAD = """
import sys
from pathlib import Path
from pipeline.backend import use_backend
use_backend(num_threads=1)
import keras, numpy as np
import pipeline.networks.keras_layers
for path in sorted(Path(sys.argv[1]).glob("*.keras")):
    kept = np.load(path.with_suffix(".npz"))
    found = keras.saving.load_model(path, compile=False).predict_on_batch(kept["image"])
    for name, maps in (found if isinstance(found, dict) else {"masks": found}).items():
        np.testing.assert_allclose(np.asarray(maps), kept[name], atol=2e-5, err_msg=f"{path.stem}: {name}")
        print("EQUAL", path.stem, name)
"""


def _maps(model: keras.Model, image: Any) -> dict[str, Any]:
    found = model.predict_on_batch(image)
    return found if isinstance(found, dict) else {"masks": found}


@pytest.mark.slow
@pytest.mark.parametrize("other", [name for name in BACKENDS if name != keras.backend.backend()])
def test_models_of_this_backend_map_alike_on_another(other: str, tmp_path: Path) -> None:
    if find_spec(other) is None:
        pytest.skip(f"{other} is not installed: pip install {other}")
    image = np.random.default_rng(0).normal(size=(2, 37, 50, len(BANDS))).astype(np.float32)
    num_maps = 0
    for seed, (name, fields) in enumerate(ARCHITECTURES.items()):
        keras.utils.set_random_seed(seed)
        model = build_model(decode(Architecture, {"base_filters": 4, **fields}, where=name), BANDS, 2)
        maps = _maps(model, image)
        model.save(tmp_path / f"{name}.keras")
        np.savez(tmp_path / f"{name}.npz", image=image, **maps)
        num_maps += len(maps)

    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "MAPGROVE_BACKEND": other, "KERAS_BACKEND": other, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("EQUAL") == num_maps

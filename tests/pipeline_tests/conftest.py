"""The backend is chosen before any test imports Keras; data sets that only memory holds; helpers found beside."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.backend import use_backend
from pipeline.preparation.prepared import FORMAT_VERSION, MadeFor, Manifest, PreparedDataset, PreparedScene, SceneRecord
from pipeline.scene import Georeference

use_backend(num_threads=1)

import keras  # noqa: E402

# Keras collects garbage whenever it clears a session; the framework itself is none.
gc.freeze()

sys.path.insert(0, str(Path(__file__).parent))

Truth = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Masks `(H, W, K)`, and which pixels are known."""


@dataclass(frozen=True)
class InMemory(PreparedDataset):
    """A prepared data set without files; bands are noise."""

    truths: Mapping[str, Truth | None] = field(default_factory=dict)

    def scene(self, scene_id: str) -> PreparedScene:
        scene = super().scene(scene_id)
        truth = self.truths[scene_id]
        if truth is not None:
            masks, known = truth
            cube = np.random.default_rng(len(scene_id)).normal(size=(*known.shape, 2)).astype(np.float32)
            scene.__dict__.update(masks=masks, known=known, valid=np.ones_like(known), cube=cube)
        return scene


def in_memory(
    truths: Mapping[str, Truth | None], classes: Sequence[str], *, same_ground: tuple[tuple[str, ...], ...] = ()
) -> InMemory:
    """A data set with this truth; None stands for a scene without labels."""
    records = []
    for name, truth in sorted(truths.items()):
        known = np.zeros((4, 4), bool) if truth is None else truth[1]
        areas = np.zeros(len(classes), int) if truth is None else truth[0].sum(axis=(0, 1), dtype=int)
        records.append(
            SceneRecord(
                id=name,
                key=name,
                labelled=truth is not None,
                height_px=known.shape[0],
                width_px=known.shape[1],
                sources=(),
                georeference=Georeference(),
                bands=(),
                class_shares=dict(zip(classes, (areas / max(1, known.sum())).tolist(), strict=True)),
                known_share=float(known.mean()),
                valid_share=1.0,
            )
        )
    manifest = Manifest(
        version=FORMAT_VERSION,
        made_for=MadeFor(format="masks", options={}, classes=tuple(classes), bands=(), indices=()),
        classes=tuple(classes),
        bands=(),
        same_ground=same_ground,
        scenes=tuple(records),
    )
    return InMemory(Path("absent"), manifest, truths)


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., InMemory]:
    return in_memory


@pytest.fixture
def untraced() -> Iterator[None]:
    """One step of a large network takes TensorFlow far less than to trace it; the other tests are traced."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)

"""Validation over all held-out ground: every pixel once, every threshold in one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.networks.prediction import model_predictor, predict_scene
from pipeline.patches.scenes import TrainingScene
from pipeline.validation.confusion import ThresholdCounts
from search_space.errors import MapgroveError
from search_space.prediction import Tiling

OVERLAP = 0.25
TILES_PER_BATCH = 8


@dataclass(frozen=True)
class Validation:
    """What a model reaches on held-out ground.

    Attributes:
        jaccard: Per class present, at its best threshold.
        thresholds: That threshold.
        counts: Per class and scene, what was counted of its held-out ground: int64 `(2, 256)`, pixels without and with
            the class by the level of their probability. Classes that are absent are among them.
    """

    jaccard: dict[str, float]
    thresholds: dict[str, float]
    counts: Mapping[str, Mapping[str, NDArray[np.int64]]] = field(default_factory=dict, compare=False)

    @property
    def mean_jaccard(self) -> float:
        """Mean over the classes that are present."""
        return sum(self.jaccard.values()) / len(self.jaccard)


@dataclass(frozen=True)
class KnownImagery:
    """Bands of a scene of which no other pixels are asked for than the known ones."""

    cube: NDArray[np.float32]
    valid: NDArray[np.bool_]


def validate(
    model: keras.Model,
    scenes: Sequence[TrainingScene],
    class_names: Sequence[str],
    *,
    tile_px: int,
    margin_px: int = 0,
) -> Validation:
    """Predict scenes, without symmetries, and count at every threshold.

    Of each scene those tiles are predicted that hold a known pixel, with all that surrounds it in them; known pixels
    alone are counted. So a part of a scene is mapped as it is when the whole scene is.

    Args:
        model: From scaled bands to probabilities.
        scenes: Held-out scenes, or parts of them.
        class_names: In the order of the model's output.
        tile_px: Side length of a tile.
        margin_px: How much smaller the model's maps are, on each side.

    Returns:
        Jaccard and threshold per class, classes without a labelled pixel left out, and the counts behind them.

    Raises:
        MapgroveError: No class has a labelled pixel, or the model predicts NaN.
    """
    by_scene: dict[str, ThresholdCounts] = {}
    predict = model_predictor(model)
    tiling = Tiling(tile_px, margin_px, OVERLAP, "none", TILES_PER_BATCH)
    for source in scenes:
        seen = KnownImagery(source.scene.cube, np.asarray(source.scene.known))
        probabilities = predict_scene(predict, seen, source.scaling, tiling)
        counts = by_scene.setdefault(source.scene.id, ThresholdCounts(len(class_names)))
        counts.add(probabilities, source.scene.masks[..., source.classes], seen.valid)
    total = sum(by_scene.values(), ThresholdCounts(len(class_names)))
    best = [(name, each) for name, each in zip(class_names, total.best(), strict=True) if each is not None]
    if not best:
        raise MapgroveError("no class is labelled in the validation scenes", remedy="Choose others in [folds]")
    return Validation(
        jaccard={name: each.jaccard for name, each in best},
        thresholds={name: each.threshold for name, each in best},
        counts={
            name: {scene_id: counts.histogram[k] for scene_id, counts in by_scene.items()}
            for k, name in enumerate(class_names)
        },
    )

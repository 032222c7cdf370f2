"""The baseline that a segmenter must beat: gradient boosting over per-pixel features, on the study's own split.

Thresholds are chosen on the validation scenes, the Jaccard is that of the test scenes, as for the networks.

    python benchmarks/pixel_classifier.py configs/sentinel2_india.toml
"""

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

try:
    from sklearn.ensemble import HistGradientBoostingClassifier
except ImportError:
    sys.exit("scikit-learn is needed for this comparison: pip install -r requirements-dev.txt")

from pipeline.patches.scenes import TrainingScene
from pipeline.study_data import StudyData
from pipeline.validation.confusion import ThresholdCounts
from search_space.decode import decode, encode
from search_space.dimensions import Choice, Fixed
from search_space.space import resolve_space
from search_space.study import Study
from search_space.study_file import read_study
from search_space.training_plan import Scaling

PIXELS_PER_SCENE = 60_000
SCALES_PX = (3, 9)


def first_scaling(study: Study) -> Scaling:
    """What the study fixes of the scaling, and the first of what it leaves open."""
    plain = {}
    for path, dimension in resolve_space(study.space).items():
        group, _, name = path.rpartition(".")
        if group == "plan.scaling":
            match dimension:
                case Fixed(value):
                    plain[name] = value
                case Choice(options):
                    plain[name] = options[0]
                case _:
                    plain[name] = dimension.low
    return decode(Scaling, plain, where="space")


def features(source: TrainingScene) -> NDArray[np.float32]:
    """Scaled bands, and their mean and deviation in small neighbourhoods, `(H, W, F)`."""
    bands = source.scaling.apply(np.asarray(source.scene.cube))
    layers = [bands]
    for size_px in SCALES_PX:
        mean = cv2.blur(bands, (size_px, size_px)).reshape(bands.shape)
        square = cv2.blur(bands * bands, (size_px, size_px)).reshape(bands.shape)
        layers += [mean, np.sqrt(np.maximum(square - mean * mean, 0))]
    return np.concatenate(layers, axis=-1)


def sample(source: TrainingScene, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Features and masks of some known pixels."""
    known = np.flatnonzero(source.scene.known)
    chosen = rng.choice(known, min(PIXELS_PER_SCENE, len(known)), replace=False)
    maps, masks = features(source), source.scene.masks
    return maps.reshape(-1, maps.shape[-1])[chosen], masks.reshape(-1, masks.shape[-1])[chosen]


def count(classifiers: list[HistGradientBoostingClassifier], scenes: list[TrainingScene]) -> ThresholdCounts:
    """Predict whole scenes."""
    counts = ThresholdCounts(len(classifiers))
    for source in scenes:
        maps = features(source)
        flat = maps.reshape(-1, maps.shape[-1])
        columns = [each.predict_proba(flat)[:, 1] for each in classifiers]
        known = np.asarray(source.scene.known)
        probabilities = np.stack(columns, axis=-1).reshape(*known.shape, -1).astype(np.float32)
        counts.add(probabilities, np.asarray(source.scene.masks), known)
    return counts


def main() -> None:
    """Train, choose thresholds, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="the study's TOML file; its data must be prepared")
    options = parser.parse_args()
    study = read_study(options.study)
    started = time.monotonic()
    data = StudyData.open(study)
    scaling = first_scaling(study)
    normalisation = data.normalisation(scaling)
    names = study.data.classes
    rng = np.random.default_rng(study.study.seed)
    samples = [sample(source, rng) for source in data.scenes(data.fold.training, names, normalisation)]
    inputs = np.concatenate([each for each, _ in samples])
    masks = np.concatenate([each for _, each in samples])
    classifiers = [
        HistGradientBoostingClassifier(max_iter=200, random_state=0).fit(inputs, masks[:, k]) for k in range(len(names))
    ]
    best = count(classifiers, data.scenes(data.fold.validation, names, normalisation)).best()
    thresholds = [0.5 if each is None else each.threshold for each in best]
    scored = count(classifiers, data.scenes(data.fold.test, names, normalisation)).at(thresholds).jaccard
    result = {
        "study": study.name,
        "scenes": list(data.fold.scene_ids("test")),
        "scaling": encode(scaling),
        "num_features": inputs.shape[1],
        "validation_jaccard": {n: None if b is None else round(b.jaccard, 4) for n, b in zip(names, best, strict=True)},
        "test_jaccard": {name: round(float(each), 4) for name, each in zip(names, scored, strict=True)},
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

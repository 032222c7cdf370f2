"""Single things on maps: what prediction writes of them, and how well they agree with labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from pipeline.folds.ground import Part
from pipeline.imagery.rasters import read_instances, write_instances
from pipeline.maps.instances import described, instances
from pipeline.maps.polygon_scoring import count_polygons, total
from pipeline.maps.polygons import Instance, vectorise, vectorise_instances
from pipeline.preparation.prepared import PreparedScene
from pipeline.scene import Georeference
from search_space.errors import MapgroveError
from search_space.polygon_score import PolygonCounts, PolygonScore
from search_space.prediction import PredictionSettings

INSTANCES = "instances.tif"

Floats = npt.NDArray[np.float32]


def write_things(
    path: Path,
    probabilities: Mapping[str, Floats],
    energies: Mapping[str, Floats],
    thresholds: Mapping[str, float],
    settings: PredictionSettings,
    georeference: Georeference,
) -> dict[str, list[Instance]]:
    """Tell the things of those classes apart for which the settings ask, and write their numbers.

    Args:
        path: File to write, one band per such class; removed where there is none.
        probabilities: Of every class on the map, `(H, W)`, NaN where there is no data.
        energies: Of the classes that have one, `(H, W)`; the depth within the mask stands in for others.
        thresholds: Of every class.
        settings: Which classes, and what makes an instance.
        georeference: Where the scene lies.

    Returns:
        The things of each such class, in the order of `probabilities`.
    """
    found: dict[str, npt.NDArray[np.int32]] = {
        name: instances(
            each,
            energies.get(name),
            threshold=thresholds[name],
            marker_energy=settings.marker_energy,
            min_area_px=settings.min_area_px,
        )
        for name, each in probabilities.items()
        if name in settings.instances
    }
    if found:
        write_instances(path, np.stack(list(found.values()), axis=-1), georeference, tuple(found))
    else:
        path.unlink(missing_ok=True)
    return {name: described(labels, probabilities[name]) for name, labels in found.items()}


def score_things(
    parts: Sequence[Part], maps: Path, wanted: Sequence[str], classes: Sequence[str]
) -> dict[str, PolygonScore]:
    """Score what `write_things` wrote against labels, thing by thing.

    Args:
        parts: The ground that counts.
        maps: Folder of all maps; each part's scene has one.
        wanted: Classes whose things were told apart.
        classes: Those of the data set, in the order of its masks.

    Raises:
        MapgroveError: A map is of another size than its scene, or lacks a class.
    """
    counts: dict[str, dict[str, PolygonCounts]] = {name: {} for name in wanted}
    from_polygons: dict[str, set[bool]] = {name: set() for name in wanted}
    for part in parts if wanted else ():
        path = maps / part.id / INSTANCES
        labels, names = read_instances(path)
        if labels.shape[:2] != part.shape_px or not set(wanted) <= set(names):
            raise MapgroveError(f"{path} does not show what its map does", remedy="Run `predict` again")
        for name in wanted:
            truth = part.scene.outlines(name)
            from_polygons[name].add(truth is not None)
            counts[name][part.id] = count_polygons(
                vectorise_instances(labels[..., names.index(name)]),
                _places(part.scene, classes.index(name)) if truth is None else truth,
                np.asarray(part.known),
            )
    return {name: _score(counts[name], from_polygons[name]) for name in wanted}


def _places(scene: PreparedScene, k: int) -> list[shapely.Polygon]:
    return list(vectorise(scene.masks[..., k]).geoms)


def _score(scenes: dict[str, PolygonCounts], from_polygons: set[bool]) -> PolygonScore:
    counts = total(scenes.values())
    return PolygonScore(
        f1=counts.f1,
        precision=counts.precision,
        recall=counts.recall,
        counts=counts,
        scenes=scenes,
        truth="both" if len(from_polygons) > 1 else "polygons" if True in from_polygons else "masks",
    )

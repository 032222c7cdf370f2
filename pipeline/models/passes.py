"""In how few passes over an image the models of a set map it, and what each pass says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.networks.prediction import Predictor
from pipeline.preparation.normalisation import Normalisation
from search_space.network.cost import prediction_bytes
from search_space.network.unet import InputBand, draw_up
from search_space.prediction import PredictionSettings, Tiling, tiling_for
from search_space.records import ModelMember, ModelSet
from smoothing.settings import Blending


@dataclass(frozen=True)
class Layers:
    """What is mapped, in the order of the channels.

    Attributes:
        classes: A probability each.
        energies: Those of them whose energy is mapped too, after all probabilities.
    """

    classes: tuple[str, ...]
    energies: tuple[str, ...] = ()

    @property
    def num(self) -> int:
        """How many channels there are."""
        return len(self.classes) + len(self.energies)

    def places_of(self, member: ModelMember) -> tuple[int, ...]:
        """The channels to which a member's belong, in their order."""
        place = self.classes.index(member.class_name)
        if not member.candidate.architecture.energy or member.class_name not in self.energies:
            return (place,)
        return place, len(self.classes) + self.energies.index(member.class_name)


@dataclass(frozen=True)
class Pass:
    """Members that look at the same tiles of the same numbers.

    Attributes:
        members: Who they are.
        normalisation: How bands become numbers for all of them.
        tiling: How tiles lie, and become a map.
        layers: Which channels they map, rising.
    """

    members: tuple[ModelMember, ...]
    normalisation: Normalisation
    tiling: Tiling
    layers: tuple[int, ...]


def layers_of(models: ModelSet, settings: PredictionSettings) -> Layers:
    """What a set maps: every class that has models, and the energy of those whose things are told apart."""
    classes = tuple(each.class_name for each in models.maps)
    told_apart = {each.class_name for each in models.members if each.candidate.architecture.energy}
    return Layers(classes, tuple(name for name in classes if name in settings.instances and name in told_apart))


def passes_of(
    models: ModelSet, settings: PredictionSettings, size_of: Callable[[ModelMember], int], most_bytes: int
) -> list[Pass]:
    """The passes that map all layers; members whose bands are scaled alike and whose tiles are alike share one.

    Args:
        models: The set.
        settings: How tiles become a map; each model takes its own patch size where `tile_px` is 0, and the overlap that
            its context asks for where none is given; one that was made by a recipe takes what that says.
        size_of: Bytes of a member's file.
        most_bytes: Of the files of a pass; members beyond get another one.
    """
    layers = layers_of(models, settings)
    groups: dict[tuple[Normalisation, Tiling], list[list[ModelMember]]] = {}
    for name in layers.classes:
        for member in models.members_of(name):
            normalisation = Normalisation(member.candidate.plan.scaling, member.numbers)
            tiling = tiling_for(member.candidate, settings.shaped_as(member.prediction))
            chunks = groups.setdefault((normalisation, tiling), [[]])
            if chunks[-1] and sum(map(size_of, chunks[-1])) + size_of(member) > most_bytes:
                chunks.append([])
            chunks[-1].append(member)
    return [
        Pass(tuple(chunk), *key, tuple(sorted({place for member in chunk for place in layers.places_of(member)})))
        for key, chunks in groups.items()
        for chunk in chunks
    ]


def sized(of_pass: Pass, bands: Sequence[str], free_bytes: int, host_bytes: int, most: int) -> Pass:
    """The pass with as many tiles at a time as there is memory for, where the settings leave that open.

    Args:
        of_pass: Its networks compute one after the other.
        bands: Those that the set reads.
        free_bytes: Of whatever computes; a half of it may be taken.
        host_bytes: Of the processor, where tiles are turned and views averaged; a half of it may be taken.
        most: No more tiles, however much there is.
    """
    if of_pass.tiling.batch_size:
        return of_pass
    inputs = [InputBand(name) for name in bands]
    graphs = {
        member.candidate.architecture: draw_up(member.candidate.architecture, inputs, 1) for member in of_pass.members
    }
    tiling = of_pass.tiling
    tile_bytes = Blending(**tiling._replace(batch_size=1)._asdict()).batch_bytes(len(bands), len(of_pass.layers))
    batch_size = most
    while batch_size > 1 and (
        host_bytes < 2 * tile_bytes * batch_size
        or free_bytes < 2 * max(prediction_bytes(graph, tiling.tile_px, batch_size) for graph in graphs.values())
    ):
        batch_size //= 2
    return replace(of_pass, tiling=of_pass.tiling._replace(batch_size=batch_size))


def shares_of(models: ModelSet, layers: Layers) -> list[float]:
    """What each member counts for in the mean of each layer: one through the number of those that map it."""
    num = [0] * layers.num
    for name in layers.classes:
        for member in models.members_of(name):
            for place in layers.places_of(member):
                num[place] += 1
    return [1.0 / each for each in num]


def joined(of_pass: Pass, predictors: Sequence[Predictor], layers: Layers, shares: Sequence[float]) -> Predictor:
    """One predictor for all members of a pass: from tiles `(N, t, t, B)` to their part of its layers `(N, s, s, L)`.

    The parts of all passes add up to the map.

    Args:
        of_pass: Members and layers.
        predictors: Of the members, each to probabilities, and energies where there is a second channel.
        layers: Those of the set.
        shares: Of each of them, what a member counts for.
    """
    targets = [[of_pass.layers.index(place) for place in layers.places_of(member)] for member in of_pass.members]
    weights = [[np.float32(shares[place]) for place in layers.places_of(member)] for member in of_pass.members]

    def predict(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        total: NDArray[np.float32] | None = None
        for predictor, places, parts in zip(predictors, targets, weights, strict=True):
            said = predictor(tiles)
            if total is None:
                total = np.zeros((*said.shape[:3], len(of_pass.layers)), np.float32)
            for channel, (place, part) in enumerate(zip(places, parts, strict=True)):
                # A depth below 0 is none, and a geometric mean knows none.
                shown = said[..., channel] if channel == 0 else np.maximum(said[..., channel], np.float32(0.0))
                total[..., place] += shown * part
        if total is None:
            raise ValueError("a pass has members")
        return total

    return predict

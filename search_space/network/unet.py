"""From an architecture to the graph of a U-Net."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from search_space.architecture import Architecture, GrownEncoder
from search_space.errors import InfeasibleError, did_you_mean
from search_space.network.blocks import Grower
from search_space.network.encoders import ENCODERS, Features
from search_space.network.graph import Draft, Graph
from search_space.network.layers import Activate, Concatenate, Conv, Double, Pool, Select
from search_space.network.stages import BOTTOMS, DOWNS, SKIPS, UPS


@dataclass(frozen=True)
class InputBand:
    """A channel of the image.

    Attributes:
        name: Of the band or index.
        level: How often its sensor's resolution is half of the grid's: 0 for the grid's own, 2 for a quarter.
    """

    name: str
    level: int = 0


def draw_up(architecture: Architecture, bands: Sequence[InputBand], num_classes: int) -> Graph:
    """Draw up a network.

    Args:
        architecture: What it looks like.
        bands: The channels of the image, in order.
        num_classes: Channels of the map; classes may overlap.

    Returns:
        A graph whose output `masks` are probabilities at the resolution of the image; further ones are `energy`, and
        `masks1`, `masks2` … of coarser stages, brought to that resolution too.

    Raises:
        InfeasibleError: The architecture names a band that there is none of.

    Source:
        Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015.
    """
    draft = Draft(len(bands))
    grow = Grower(draft, architecture)
    read, image = _selected(draft, architecture, bands)
    if isinstance(architecture.encoder, GrownEncoder):
        features = _grown(grow, architecture.encoder, read, image)
    else:
        features = _deepened(grow, ENCODERS[type(architecture.encoder)](draft, image, architecture.depth))
    x = BOTTOMS[type(architecture.bottom)](grow, architecture.bottom, features[architecture.depth])
    outputs: dict[str, int] = {}
    for level in reversed(range(architecture.depth)):
        draft.stage = f"up{level}"
        filters = architecture.filters(level)
        x = UPS[type(architecture.up)](grow, architecture.up, x, filters)
        if level in features:
            x = SKIPS[architecture.skip](grow, features[level], x)
        x = grow.drop(grow.stage(x, filters))
        if level and architecture.deep_supervision:
            draft.stage = f"head{level}"
            outputs[f"masks{level}"] = _head(draft, "masks", x, num_classes, architecture.head, level)
    draft.stage = "head"
    outputs["masks"] = _head(draft, "masks", x, num_classes, architecture.head)
    if architecture.energy:
        outputs["energy"] = _head(draft, "energy", x, num_classes, "sigmoid")
    return draft.finished(outputs)


@lru_cache(maxsize=512)
def outline(architecture: Architecture) -> Graph:
    """The graph for a band of each resolution and one class, whatever the data have: with fewer it looks no farther."""
    levels = range(architecture.depth + 1)
    of_any = architecture.model_copy(update={"bands": ()})
    return draw_up(of_any, [InputBand(f"band{level}", level) for level in levels], 1)


def _selected(draft: Draft, architecture: Architecture, bands: Sequence[InputBand]) -> tuple[Sequence[InputBand], int]:
    if not architecture.bands:
        return bands, draft.image
    names = [band.name for band in bands]
    missing = [name for name in architecture.bands if name not in names]
    if missing:
        raise InfeasibleError(
            f"the data have no band {missing[0]!r}, which architecture.bands names",
            remedy=did_you_mean(missing[0], names),
        )
    places = tuple(names.index(name) for name in architecture.bands)
    return [bands[place] for place in places], draft.add("bands", Select(places), draft.image)


def _grown(grow: Grower, encoder: GrownEncoder, bands: Sequence[InputBand], image: int) -> Features:
    """Stages of blocks; at each level enter the bands that have its resolution."""
    draft, architecture = grow.draft, grow.architecture
    entries = _entries(grow, encoder, bands, image)
    x, found = entries.pop(0), Features()
    for level in range(architecture.depth + 1):
        draft.stage = "bottom" if level == architecture.depth else f"down{level}"
        if level == 0 and encoder.first_kernel_px:
            x = grow.conv(x, architecture.filters(0), encoder.first_kernel_px, "first")
        if level in entries:
            x = draft.add("enter", Concatenate(), x, entries[level])
        x = grow.stage(x, architecture.filters(level))
        for number in range(1, encoder.residual_units + 1):
            x = grow.residual_unit(x, architecture.filters(level), f"residual{number}")
        found[level] = x = grow.drop(x)
        if level < architecture.depth:
            draft.stage = f"pool{level}"
            x = DOWNS[encoder.pooling](grow, x)
    return found


def _deepened(grow: Grower, features: Features) -> Features:
    """A stage of blocks for each level that a known encoder does not have."""
    draft, architecture = grow.draft, grow.architecture
    for level in range(max(features) + 1, architecture.depth + 1):
        draft.stage = f"pool{level - 1}"
        x = DOWNS["max"](grow, features[level - 1])
        draft.stage = "bottom" if level == architecture.depth else f"down{level}"
        features[level] = grow.drop(grow.stage(x, architecture.filters(level)))
    return features


def _entries(grow: Grower, encoder: GrownEncoder, bands: Sequence[InputBand], image: int) -> dict[int, int]:
    """Level to the node with the bands that enter there; the finest enter at full resolution, whatever theirs is.

    A band that was brought to a finer grid holds nothing between its own pixels: their means give it back.
    """
    levels = [min(band.level, grow.architecture.depth) for band in bands]
    if not encoder.branches or len(set(levels)) == 1:
        return {0: image}
    draft, found = grow.draft, dict[int, int]()
    for level in sorted(set(levels)):
        draft.stage = f"branch{level}"
        places = tuple(place for place, each in enumerate(levels) if each == level)
        x = draft.add("bands", Select(places), image)
        if level == min(levels):
            found[0] = x
            continue
        for number in range(level):
            x = draft.add(f"mean{number}", Pool("average"), x)
        found[level] = grow.conv(x, max(2, grow.architecture.filters(level) // 2), 3, "first")
    return found


def _head(draft: Draft, name: str, x: int, num_classes: int, activation: str, doublings: int = 0) -> int:
    x = draft.add(f"{name}_conv1", Conv(num_classes, (1, 1)), x)
    for number in range(doublings):
        x = draft.add(f"{name}_bilinear{number}", Double("bilinear"), x)
    return draft.add(name, Activate(activation), x)

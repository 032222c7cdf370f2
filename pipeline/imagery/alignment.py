"""Which bands of a scene are compared to find out how far its groups of bands are shifted."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.imagery.cube import resampling_of
from pipeline.imagery.grid import shape_of
from pipeline.imagery.registration import Mask, Plane, Shift, measure_shift
from pipeline.imagery.resampling import HALF, Resampling, area_shares
from pipeline.scene import Band, BandGroup, Scene

LEAST_OVERLAP = 0.5
"""Share of the narrower one of two ranges of wavelengths from which they show the same light."""


def measure_shifts(scene: Scene, bands: Iterable[Band], needed: Collection[str]) -> tuple[Shift, ...]:
    """Measure the shift of every group that the sensor shot at another moment than the first one.

    Args:
        scene: Its first group is the reference, on whose grid labels are drawn.
        bands: Wavelengths by name; where they overlap, those bands are compared: they show the same edges.
        needed: Groups without any of these bands are left alone.

    Returns:
        One per group, in pixels of the scene's own grid; empty where nothing has to be registered.
    """
    reference = scene.groups[0]
    moving = [group for group in scene.groups[1:] if group.may_be_shifted and set(group.names) & set(needed)]
    known = {band.name: band for band in bands}
    return tuple(_measured(scene, reference, group, known) for group in moving)


def _measured(scene: Scene, reference: BandGroup, group: BandGroup, bands: Mapping[str, Band]) -> Shift:
    ours, theirs = matching_bands(
        [bands.get(name) for name in reference.names], [bands.get(name) for name in group.names]
    )
    moving, valid = _over_the_scene(scene, group, _mean(group, theirs))
    if reference.valid is not None:
        valid &= reference.valid
    return measure_shift(group.name, _mean(reference, ours), moving, valid)


def matching_bands(ours: Sequence[Band | None], theirs: Sequence[Band | None]) -> tuple[list[int], list[int]]:
    """Positions of the bands on both sides that see the same light; all of both where none does."""
    pairs = [(i, j) for i, a in enumerate(ours) for j, b in enumerate(theirs) if _see_the_same(a, b)]
    if not pairs:
        return list(range(len(ours))), list(range(len(theirs)))
    return sorted({i for i, _ in pairs}), sorted({j for _, j in pairs})


def _see_the_same(a: Band | None, b: Band | None) -> bool:
    if a is None or b is None or a.wavelength_nm is None or b.wavelength_nm is None:
        return False
    (low_a, high_a), (low_b, high_b) = a.wavelength_nm, b.wavelength_nm
    shared = min(high_a, high_b) - max(low_a, low_b)
    return shared > 0 and shared >= LEAST_OVERLAP * min(high_a - low_a, high_b - low_b)


def _mean(group: BandGroup, positions: Sequence[int]) -> Plane:
    """Plane by plane: a copy of all of them could be larger than the memory."""
    total: Plane = group.planes[positions[0]].astype(np.float32)
    for position in positions[1:]:
        total += group.planes[position]
    total /= np.float32(len(positions))
    if group.valid is not None and not group.valid.all():
        # Not-a-number would spread, and a cliff at the border of a hole would pass for an edge.
        total[~group.valid] = total[group.valid].mean(dtype=np.float64) if group.valid.any() else 0.0
    return total


def _over_the_scene(scene: Scene, group: BandGroup, plane: Plane) -> tuple[Plane, Mask]:
    """The plane over the ground of the whole scene, never finer than it; and where it has data, on the scene's grid."""
    own = (scene.height_px, scene.width_px)
    shape = tuple(min(pair) for pair in zip(shape_of(group, own), own, strict=True))
    resampling: Resampling = resampling_of(scene, group, (shape[0], shape[1]))
    values, valid = resampling.rows(plane[None], group.valid, 0, shape[0])
    known: NDArray[np.bool_] = np.ones(own, bool) if valid is None else area_shares(valid, *own) >= HALF
    return values[..., 0], known

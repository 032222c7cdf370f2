"""Instances: a class's pixels told apart into single things, such as a terrace into its houses."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from skimage.measure import label
from skimage.segmentation import watershed

from pipeline.maps.polygons import Instance, vectorise_instances
from search_space.errors import MapgroveError
from search_space.prediction import ENERGY_PX

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

_BAND_PIXELS = 1 << 24


class InstanceError(MapgroveError, ValueError):
    """Maps from which no instances can be made."""


def instances(
    probabilities: Floats,
    energy: Floats | None,
    *,
    threshold: float,
    marker_energy: float,
    min_area_px: int = 0,
) -> Labels:
    """Tell the things of one class apart: by a watershed on its energy, from the places that lie deep within it.

    Connected places whose energy is above `marker_energy` are markers; they may be connected by a corner. From them
    basins grow through the mask, the deepest pixels first, and meet in the valleys of the energy. A connected place of
    the mask with a single marker is one instance, and so is one with none: thin and small things are nowhere deep.
    Basins smaller than `min_area_px` go to their neighbours; instances that stay smaller are left out.

    Only places with several markers are flooded, each by itself. So a map of 10 000 x 10 000 pixels with 80 000 houses
    takes some ten seconds and, beside the inputs, 15 bytes per pixel. What is connected across the whole map, such as
    roads, takes a minute, and 35 bytes per pixel of the rectangle around it.

    Args:
        probabilities: Of the class, `(H, W)`, NaN where there is no data.
        energy: How deep within the class pixels lie, 0 to 1, `(H, W)`, see `pipeline.training.energy`; None: the depth
            within the mask stands in for it, which parts things at their necks.
        threshold: Probability from which a pixel is of the class.
        marker_energy: Energy above which a pixel is part of a marker.
        min_area_px: Least area of an instance.

    Returns:
        int32 `(H, W)`: 0 outside the class and where there is no data, elsewhere the number of the instance, from 1
        on in the order of their first pixels, row by row. The pixels of an instance are connected by their sides.

    Raises:
        InstanceError: Maps of different shapes, or no maps.

    Source:
        Golovanov et al., "Building Detection from Satellite Imagery using a Composite Loss Function", 2018; Beucher
        and Meyer, "The morphological approach to segmentation: the watershed transformation", 1993.
    """
    shapes = {probabilities.shape} if energy is None else {probabilities.shape, energy.shape}
    if len(shapes) > 1 or probabilities.ndim != 2 or not probabilities.size:
        raise InstanceError("probabilities and energy must be (H, W) both", received=sorted(shapes))
    # Not a number, which stands where there is no data, compares as False.
    mask = probabilities >= threshold
    depth = depths(mask) if energy is None else energy
    labels, windows = _places(mask)
    num_labels = len(windows) + 1
    for place in _places_to_part(labels, mask & (depth > marker_energy), num_labels):
        window = windows[place - 1]
        inside = labels[window] == place
        basins = _basins(inside, depth[window], marker_energy, min_area_px)
        others = basins > 1
        labels[window][others] = basins[others] + np.int32(num_labels - 2)
        num_labels += max(0, int(basins.max()) - 1)
    return _numbered(labels, num_labels, min_area_px)


def described(labels: Labels, probabilities: Floats) -> list[Instance]:
    """Outline and mean probability of each instance of `labels`, in order; both `(H, W)`."""
    inside = labels > 0
    numbers = labels[inside]
    sums, areas = np.bincount(numbers, weights=probabilities[inside]), np.bincount(numbers)
    outlines = vectorise_instances(labels)
    return [
        Instance(number, outline, float(sums[number] / areas[number])) for number, outline in enumerate(outlines, 1)
    ]


def depths(mask: Mask) -> Floats:
    """How deep within a mask its pixels lie, in the units of the energy: 1 pixel in is 1 / `ENERGY_PX`.

    Distances are counted as a king walks, beyond the image all goes on. Unlike the energy it does not end at 1.
    """
    # A mask without an end lies infinitely deep, for which OpenCV has no number.
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    depth: Floats = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_C, 3) / np.float32(ENERGY_PX)
    return depth


def _places(mask: Mask) -> tuple[Labels, list[tuple[slice, slice]]]:
    """Numbers of the places connected by sides, 0 outside; and the rectangle around each, from the first on."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    windows = [
        (slice(top, top + height), slice(left, left + width)) for left, top, width, height, _ in boxes[1:].tolist()
    ]
    return labels, windows


def _places_to_part(labels: Labels, marked: Mask, num_labels: int) -> Sequence[int]:
    """The places that have more than one marker."""
    num_markers, markers = cv2.connectedComponents(marked.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    marker, place = markers[marked], labels[marked]
    place_of = np.zeros(num_markers, np.int32)
    place_of[marker] = place
    counts = np.bincount(place_of[1:], minlength=num_labels)
    # A marker may reach over a corner into other places than that which it was counted for.
    is_other = place_of[marker] != place
    others = np.unique(np.stack([marker[is_other], place[is_other]]), axis=1)
    counts += np.bincount(others[1], minlength=num_labels)
    several: list[int] = np.flatnonzero(counts > 1).tolist()
    return several


def _basins(inside: Mask, depth: Floats, marker_energy: float, min_area_px: int) -> Labels:
    """Part one place: int32 numbers from 1 on, each connected by sides, 0 outside."""
    height = -np.nan_to_num(depth)
    _, seeds = cv2.connectedComponents((inside & (depth > marker_energy)).astype(np.uint8), connectivity=8)
    found = watershed(height, seeds, mask=inside, connectivity=1)
    areas = np.bincount(found.ravel())
    small = areas < min_area_px
    small[0] = False
    if small.any():
        small[1 + np.argmax(areas[1:])] = False
        found = watershed(height, np.where(small[seeds], 0, seeds), mask=inside, connectivity=1)
    # A marker whose halves touch at a corner may have been cut in two by its neighbours.
    connected: Labels = label(found, background=0, connectivity=1).astype(np.int32)
    return connected


def _numbered(labels: Labels, num_labels: int, min_area_px: int) -> Labels:
    """Leave out what is small, and number the rest by their first pixels; in place."""
    areas, firsts = np.zeros(num_labels, np.int64), np.zeros(num_labels, np.int64)
    rows = max(1, _BAND_PIXELS // labels.shape[1])
    # From the end on, and each band backwards: what is written last is the first pixel.
    for top in range((labels.shape[0] - 1) // rows * rows, -1, -rows):
        band = labels[top : top + rows].ravel()
        areas += np.bincount(band, minlength=num_labels)
        firsts[band[::-1]] = np.arange(len(band))[::-1] + top * labels.shape[1]
    kept = np.flatnonzero(areas >= max(1, min_area_px))
    kept = kept[kept > 0]
    numbers = np.zeros(num_labels, np.int32)
    numbers[kept[np.argsort(firsts[kept])]] = np.arange(1, len(kept) + 1, dtype=np.int32)
    for top in range(0, labels.shape[0], rows):
        labels[top : top + rows] = numbers[labels[top : top + rows]]
    return labels

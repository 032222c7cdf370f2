"""What labels mean: from codes and attributes to classes, ground that nobody knows, and a refusal of all else."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from pipeline.datasets.raster import Raster
from pipeline.imagery.rasterise import rasterise
from pipeline.scene import DataError, RasterLabels

Others = Literal["refuse", "background", "ignore"]
"""What becomes of a value without a meaning."""

IGNORED = ""
"""Stands for ground that nobody knows; no class has an empty name."""

MOST_SHOWN = 5
"""Values without a meaning that a message lists."""


@dataclass(frozen=True)
class Meanings:
    """What the values of labels stand for.

    Attributes:
        classes: Value to class.
        ignore: Values of ground that nobody knows.
        background: Values that are none of the classes.
        others: What becomes of all other values.
    """

    classes: Mapping[Any, str]
    ignore: Collection[Any] = ()
    background: Collection[Any] = ()
    others: Others = "refuse"


def labels_from_codes(
    codes: NDArray[np.int64], meanings: Meanings, path: Path, shown: Callable[[int], object] = int
) -> RasterLabels:
    """Turn a raster of codes into classes.

    Args:
        codes: int64 `(H, W)`.
        meanings: What codes stand for.
        path: The file, for messages.
        shown: A code as the study writes it.

    Raises:
        DataError: A code has no meaning; the commonest is named with its count.
    """
    found, counts = np.unique(codes, return_counts=True)
    strange = ~np.isin(found, [*meanings.classes, *meanings.ignore, *meanings.background])
    if strange.any() and meanings.others == "refuse":
        most = int(np.argmax(np.where(strange, counts, 0)))
        raise DataError(
            f"{path}: {int(counts[strange].sum())} pixels have a value without a meaning, "
            f"{int(counts[most])} of them {shown(int(found[most]))}",
            received=[shown(int(code)) for code in found[strange][:MOST_SHOWN]],
            remedy="Add it to data.options.values, ignore or background",
        )
    unknown = [*meanings.ignore, *(found[strange].tolist() if meanings.others == "ignore" else ())]
    by_class = {
        name: np.isin(codes, [code for code, owner in meanings.classes.items() if owner == name])
        for name in dict.fromkeys(meanings.classes.values())
    }
    return RasterLabels(by_class, ~np.isin(codes, unknown))


def meaning_of(values: Sequence[str], meanings: Meanings, path: Path) -> list[str | None]:
    """Find what the attribute of every feature stands for.

    Args:
        values: As text, one per feature.
        meanings: What they stand for.
        path: The file, for messages.

    Returns:
        The class, `IGNORED`, or None for background.

    Raises:
        DataError: A value has no meaning; the commonest is named with its count.
    """
    known = dict.fromkeys(meanings.background) | dict.fromkeys(meanings.ignore, IGNORED) | dict(meanings.classes)
    strange = Counter(value for value in values if value not in known)
    if strange and meanings.others == "refuse":
        value, count = strange.most_common(1)[0]
        raise DataError(
            f"{path}: {strange.total()} features have a value without a meaning, {count} of them {value!r}",
            received=[name for name, _ in strange.most_common(MOST_SHOWN)],
            remedy='Add it to data.options.values, ignore or background, or write others = "background"',
        )
    other = IGNORED if meanings.others == "ignore" else None
    return [known.get(value, other) for value in values]


def without_ground(labels: RasterLabels, ignored: Sequence[BaseGeometry]) -> RasterLabels:
    """The same labels, with nothing known within polygons in pixel coordinates."""
    if not ignored:
        return labels
    return RasterLabels(labels.by_class, labels.known & (rasterise(ignored, *labels.known.shape) == 0))


def as_codes(raster: Raster, path: Path, advice: str) -> NDArray[np.int64]:
    """The one band of a label raster as whole numbers.

    Args:
        raster: One band, or the equal bands of a grey picture that was saved as RGB.
        path: The file, for messages.
        advice: What to do about several different bands.

    Raises:
        DataError: Different bands, fractions or not-a-number.
    """
    first = raster.planes[0]
    if any(not np.array_equal(first, plane) for plane in raster.planes[1:3]):
        raise DataError(
            f"{path}: the label raster must have one band, as data.options.values are whole numbers",
            received=f"{len(raster.planes)} different bands",
            remedy=advice,
        )
    if not np.issubdtype(first.dtype, np.integer) and not (np.isfinite(first) & (np.trunc(first) == first)).all():
        received = f"fractions or not-a-number in {first.dtype}"
        raise DataError(f"{path}: labels must be whole numbers", received=received, remedy="Export it again")
    codes: NDArray[np.int64] = first.astype(np.int64)
    return codes

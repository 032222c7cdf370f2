"""Spectral indices: further bands computed from others, by the names of the bands, for any sensor that has them."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scene import DataError

Plane = NDArray[np.float32]

ROLES: Mapping[str, tuple[str, ...]] = {
    "nir": ("m_nir2", "nir2", "nir", "m_nir1", "nir1"),
    "red_edge": ("m_red_edge", "red_edge", "rededge", "red_edge1"),
    "red": ("red", "m_red"),
    "green": ("green", "m_green"),
    "blue": ("blue", "m_blue"),
}
"""What a formula needs, and the band names that can serve, the preferred one first."""

SMALLEST_DENOMINATOR = 1e-6


@dataclass(frozen=True)
class Index:
    """One spectral index.

    Attributes:
        roles: Keys of `ROLES`, in the order of the formula's arguments.
        formula: Float32 planes to numerator and denominator.
        scale: Factor of the quotient.
    """

    roles: tuple[str, ...]
    formula: Callable[..., tuple[Plane, Plane]]
    scale: float = 1.0


INDICES: Mapping[str, Index] = {
    "evi": Index(("nir", "red", "blue"), lambda nir, red, blue: (nir - red, nir + 6 * red - 7.5 * blue + 1)),
    "ndwi": Index(("green", "nir"), lambda green, nir: (green - nir, green + nir)),
    "savi": Index(("nir", "red"), lambda nir, red: (nir - red, nir + red + np.float32(0.5)), scale=1.5),
    "ccci": Index(
        ("nir", "red_edge", "red"),
        lambda nir, edge, red: ((nir - edge) * (nir - red), (nir + edge) * (nir + red)),
    ),
}
"""Formulas as in the DSTL write-ups, on raw values; SAVI with L = 0.5."""


def bands_for(index: str, bands: Sequence[str]) -> tuple[str, ...]:
    """Name the bands from which `index` is computed.

    Args:
        index: A key of `INDICES`.
        bands: What the sensor has.

    Returns:
        One of `bands` per role of the index.

    Raises:
        DataError: No such index (the nearest one is named), or a role that no band can play.
    """
    if index not in INDICES:
        near = difflib.get_close_matches(index, INDICES, n=1, cutoff=0.4)
        remedy = f"Did you mean {near[0]!r}?" if near else f"Known indices: {', '.join(INDICES)}"
        raise DataError("data.indices: no such spectral index", received=index, remedy=remedy)
    return tuple(_player(index, role, bands) for role in INDICES[index].roles)


def compute(index: str, planes: Mapping[str, NDArray[Any]]) -> Plane:
    """Compute one index.

    Args:
        index: A key of `INDICES`.
        planes: Bands `(H, W)` by name, of any real type.

    Returns:
        float32 `(H, W)`, finite everywhere: 0 where the denominator vanishes or a value is out of float's range.

    Raises:
        DataError: No such index, or bands are missing.
    """
    names = bands_for(index, tuple(planes))
    entry = INDICES[index]
    with np.errstate(all="ignore"):
        numerator, denominator = entry.formula(*(planes[name].astype(np.float32) for name in names))
        defined = np.abs(denominator) > SMALLEST_DENOMINATOR
        quotient = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=defined)
        quotient *= np.float32(entry.scale)
    quotient[~np.isfinite(quotient)] = 0.0
    return quotient


def _player(index: str, role: str, bands: Sequence[str]) -> str:
    for name in ROLES[role]:
        if name in bands:
            return name
    raise DataError(
        f"data.indices: {index} needs a band named {' or '.join(ROLES[role])}",
        received=list(bands),
        remedy=f"Leave {index} out, or name the bands so (`band_names`)",
    )

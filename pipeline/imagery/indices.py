"""Spectral indices: further bands computed from others, for any sensor that has them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imagery.formulas import Formula
from pipeline.scene import Band, DataError
from search_space.errors import nearest

Plane = NDArray[np.float32]

CATALOGUE = Path(__file__).with_name("spectral_indices.json")

WIDEST = 0.4
"""A band that spans more, in shares of its middle wavelength, plays no part by wavelength: it is panchromatic."""


@dataclass(frozen=True)
class Role:
    """A part of the spectrum that formulas name.

    Attributes:
        names: Band names that play it, the preferred one first.
        usual_nm: Where most sensors have it.
        range_nm: Where the middle of a band must lie to play it.
    """

    names: tuple[str, ...]
    usual_nm: float
    range_nm: tuple[float, float]


ROLES: Mapping[str, Role] = {
    "coastal": Role(("coastal", "m_coastal", "coastal_blue", "aerosol", "coastal_aerosol"), 430, (400, 450)),
    "blue": Role(("blue", "m_blue"), 485, (450, 515)),
    "green1": Role(("green1",), 531, (515, 540)),
    "green": Role(("green", "m_green"), 555, (515, 585)),
    "yellow": Role(("yellow", "m_yellow"), 605, (585, 625)),
    "red": Role(("red", "m_red"), 660, (625, 690)),
    "red_edge": Role(("m_red_edge", "red_edge", "rededge", "red_edge1", "rededge1"), 705, (690, 735)),
    "red_edge2": Role(("red_edge2", "rededge2", "m_red_edge"), 740, (720, 760)),
    "red_edge3": Role(("red_edge3", "rededge3"), 783, (760, 800)),
    "nir": Role(("m_nir2", "nir2", "nir", "m_nir1", "nir1"), 840, (760, 1000)),
    "nir_narrow": Role(("nir_narrow", "narrow_nir", "nir08"), 865, (845, 885)),
    "nir1": Role(("nir1", "m_nir1"), 835, (760, 880)),
    "nir2": Role(("nir2", "m_nir2"), 950, (880, 1000)),
    "swir1": Role(("swir1", "swir16", "a_swir3"), 1640, (1550, 1750)),
    "swir2": Role(("swir2", "swir22", "a_swir6"), 2200, (2080, 2350)),
    "thermal": Role(("thermal", "tir", "lwir"), 11000, (10000, 12600)),
    "thermal1": Role(("thermal1", "tir1", "lwir11"), 10900, (10400, 11400)),
    "thermal2": Role(("thermal2", "tir2", "lwir12"), 12000, (11400, 12600)),
}
"""What the formulas of the catalogue name."""


@dataclass(frozen=True)
class Index:
    """One spectral index of the catalogue.

    Attributes:
        name: By which a study asks for it.
        title: Its full name.
        about: What it shows: vegetation, soil, water, urban, snow, burn or clouds.
        formula: Over `ROLES`, on the values as they are stored.
        source: Where it was published.
    """

    name: str
    title: str
    about: str
    formula: str
    source: str


def _catalogue() -> Mapping[str, Index]:
    entries = (Index(**entry) for entry in json.loads(CATALOGUE.read_text(encoding="utf-8")))
    return {entry.name: entry for entry in entries}


INDICES: Mapping[str, Index] = _catalogue()
"""By name. `evi`, `ndwi`, `savi` and `ccci` are as in the write-ups of the DSTL competition; most others come from the
catalogue Awesome Spectral Indices (Montero et al. 2023, https://doi.org/10.1038/s41597-023-02096-0)."""


def bands_for(index: str, bands: Sequence[str | Band]) -> tuple[str, ...]:
    """Name the bands from which `index` is computed.

    Args:
        index: A key of `INDICES`, or a formula over names of bands and `ROLES`.
        bands: What the sensor has; roles are found by name, and by wavelength where a `Band` has one.

    Returns:
        One of `bands` for each name in the formula, in its order.

    Raises:
        DataError: No such index (the nearest one is named), a formula that cannot be read, a name that no band can
            play, or two names for one band.
    """
    return tuple(_players(index, bands).values())


def compute(index: str, planes: Mapping[str, NDArray[Any]], bands: Sequence[str | Band] = ()) -> Plane:
    """Compute one index.

    Args:
        index: A key of `INDICES`, or a formula over names of bands and `ROLES`.
        planes: Bands `(H, W)` by name, of any real type; besides those that `bands_for` names there may be others.
        bands: What the sensor has, as it was given to `bands_for`; the names of `planes` where empty.

    Returns:
        float32 `(H, W)`, finite everywhere: 0 where the formula has no value, such as where a denominator vanishes,
        or where the value is beyond `LARGEST`.

    Raises:
        DataError: As in `bands_for`.
    """
    players = _players(index, bands or tuple(planes))
    return _formula(index).compute({name: planes[band] for name, band in players.items()})


@cache
def _formula(index: str) -> Formula:
    """The formula of a known index, or the one that `index` itself is."""
    if index in INDICES:
        return Formula.parse(INDICES[index].formula)
    if re.fullmatch(r"\w+", index):
        near = nearest(index, INDICES, 0.4)
        remedy = f"Did you mean {near!r}? " if near else ""
        remedy += f"docs/indices.md lists all {len(INDICES)}, and a formula such as '(nir - red) / (nir + red)' will do"
        raise DataError("data.indices: no such spectral index", received=index, remedy=remedy)
    return Formula.parse(index)


def _players(index: str, bands: Sequence[str | Band]) -> dict[str, str]:
    """The band that plays each name of the formula."""
    sensor = {band if isinstance(band, str) else band.name: band for band in bands}
    players: dict[str, str] = {}
    for name in _formula(index).names:
        band = name if index not in INDICES and name in sensor else _player(index, name, sensor)
        others = [other for other, taken in players.items() if taken == band]
        if others:
            raise DataError(
                f"data.indices: {index} needs different bands as {others[0]} and {name}",
                received=band,
                remedy=f"Leave {index} out: this sensor has one band where it needs two",
            )
        players[name] = band
    return players


def _player(index: str, name: str, sensor: Mapping[str, str | Band]) -> str:
    """The band that plays a role: the first by name, else the one whose middle is nearest to the usual."""
    if name not in ROLES:
        raise _no_such_band(index, name, sensor)
    role = ROLES[name]
    spans = {key: None if isinstance(band, str) else band.wavelength_nm for key, band in sensor.items()}
    for key in role.names:
        # Where both are known, a name says less: the first short-wave band of WorldView-3 lies at 1210 nm.
        if key in spans and ((span := spans[key]) is None or _lies_in(span, role)):
            return key
    near = [
        (abs(sum(span) / 2 - role.usual_nm), key)
        for key, span in spans.items()
        if span is not None and _lies_in(span, role) and span[1] - span[0] < WIDEST * sum(span) / 2
    ]
    if near:
        return min(near)[1]
    lowest, highest = role.range_nm
    raise DataError(
        f"data.indices: {index} needs a band named {' or '.join(role.names)}, "
        f"or one whose middle lies at {lowest:g} to {highest:g} nm",
        received=list(sensor),
        remedy=f"Leave {index} out, or name the bands so (`band_names`)",
    )


def _lies_in(span: tuple[float, float], role: Role) -> bool:
    lowest, highest = role.range_nm
    return lowest <= sum(span) / 2 <= highest


def _no_such_band(index: str, name: str, sensor: Iterable[str]) -> DataError:
    known = [*sensor, *ROLES]
    near = nearest(name, known, 0.6)
    return DataError(
        f"data.indices: the formula names {name!r}, which is neither a band nor a part of the spectrum",
        received=index,
        remedy=f"Did you mean {near!r}?" if near else f"Known: {', '.join(dict.fromkeys(known))}",
    )

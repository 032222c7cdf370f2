import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.indices import INDICES, bands_for, compute
from pipeline.scene import DataError


def oracle(index: str, red: float, green: float, blue: float, edge: float, nir: float) -> float:
    """The formulas of the write-ups, in plain Python."""
    if index == "evi":
        return (nir - red) / (nir + 6 * red - 7.5 * blue + 1)
    if index == "ndwi":
        return (green - nir) / (green + nir)
    if index == "savi":
        return 1.5 * (nir - red) / (nir + red + 0.5)
    return ((nir - edge) / (nir + edge)) * ((nir - red) / (nir + red))


@pytest.mark.parametrize("index", sorted(INDICES))
def test_agrees_with_the_formulas(index: str) -> None:
    values = np.random.default_rng(1).integers(1, 2048, (5, 6, 7)).astype(np.uint16)
    planes = dict(zip(("red", "green", "blue", "m_red_edge", "m_nir2"), values, strict=True))
    got = compute(index, planes)
    assert got.dtype == np.float32
    for row in range(6):
        for column in range(7):
            expected = oracle(index, *(float(plane[row, column]) for plane in values))
            assert got[row, column] == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("index", "zero"),
    [
        ("evi", {"red": 0.0, "blue": 2.0, "nir": 14.0}),
        ("ndwi", {"green": 0.0, "nir": 0.0}),
        ("savi", {"nir": -0.25, "red": -0.25}),
        ("ccci", {"nir": 0.0, "red_edge": 0.0, "red": 5.0}),
    ],
)
def test_a_vanishing_denominator_gives_zero(index: str, zero: dict[str, float]) -> None:
    planes = {name: np.full((2, 3), value, np.float32) for name, value in zero.items()}
    assert np.array_equal(compute(index, planes), np.zeros((2, 3), np.float32))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=5, max_size=5))
def test_finite_everywhere(values: list[float]) -> None:
    names = ("red", "green", "blue", "red_edge", "nir")
    planes = {name: np.full((1, 1), value, np.float32) for name, value in zip(names, values, strict=True)}
    for index in INDICES:
        assert math.isfinite(compute(index, planes)[0, 0])


def test_the_preferred_band_of_a_role_is_taken() -> None:
    assert bands_for("ndwi", ("m_nir1", "m_nir2", "m_green", "green")) == ("green", "m_nir2")
    assert bands_for("ndwi", ("nir", "m_green")) == ("m_green", "nir")


def test_unknown_index_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"Received 'ndwl'\. Did you mean 'ndwi'\?"):
        bands_for("ndwl", ("green", "nir"))


def test_missing_band_is_named() -> None:
    with pytest.raises(DataError, match="ndwi needs a band named m_nir2 or nir2 or nir"):
        bands_for("ndwi", ("red", "green", "blue"))

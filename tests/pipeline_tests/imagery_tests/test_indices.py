"""Spectral indices: what a catalogue says, which bands serve, and values against plain Python numbers."""

import math
import re
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.datasets.dstl import FILES
from pipeline.imagery.indices import INDICES, ROLES, bands_for, compute
from pipeline.scene import Band, DataError

DOCS = Path(__file__).parents[3] / "docs" / "indices.md"

Numbers = Mapping[str, float]

PUBLISHED: Mapping[str, Callable[..., float]] = {
    "evi": lambda nir, red, blue, **_: (nir - red) / (nir + 6 * red - 7.5 * blue + 1),
    "ndwi": lambda green, nir, **_: (green - nir) / (green + nir),
    "savi": lambda nir, red, **_: 1.5 * (nir - red) / (nir + red + 0.5),
    "ccci": lambda nir, red_edge, red, **_: ((nir - red_edge) / (nir + red_edge)) * ((nir - red) / (nir + red)),
    "ndvi": lambda nir, red, **_: (nir - red) / (nir + red),
    "gndvi": lambda nir, green, **_: (nir - green) / (nir + green),
    "ndre": lambda nir, red_edge, **_: (nir - red_edge) / (nir + red_edge),
    "evi2": lambda nir, red, **_: 2.5 * (nir - red) / (nir + 2.4 * red + 1),
    "osavi": lambda nir, red, **_: (nir - red) / (nir + red + 0.16),
    "msavi": lambda nir, red, **_: (2 * nir + 1 - math.sqrt((2 * nir + 1) ** 2 - 8 * (nir - red))) / 2,
    "arvi": lambda nir, red, blue, **_: (nir - 2 * red + blue) / (nir + 2 * red - blue),
    "vari": lambda red, green, blue, **_: (green - red) / (green + red - blue),
    "mndwi": lambda green, swir1, **_: (green - swir1) / (green + swir1),
    "ndmi": lambda nir, swir1, **_: (nir - swir1) / (nir + swir1),
    "ndbi": lambda nir, swir1, **_: (swir1 - nir) / (swir1 + nir),
    "ndsi": lambda green, swir1, **_: (green - swir1) / (green + swir1),
    "nbr": lambda nir, swir2, **_: (nir - swir2) / (nir + swir2),
    "bai": lambda nir, red, **_: 1 / ((0.1 - red) ** 2 + (0.06 - nir) ** 2),
    "baim": lambda nir, swir2, **_: 1 / ((0.05 - nir) ** 2 + (0.2 - swir2) ** 2),
    "bsi": lambda red, blue, nir, swir1, **_: (swir1 + red - nir - blue) / (swir1 + red + nir + blue),
    "aweinsh": lambda green, nir, swir1, swir2, **_: 4 * (green - swir1) - (0.25 * nir + 2.75 * swir2),
    "aweish": lambda blue, green, nir, swir1, swir2, **_: blue + 2.5 * green - 1.5 * (nir + swir1) - 0.25 * swir2,
    "wvwi": lambda coastal, nir2, **_: (coastal - nir2) / (coastal + nir2),
    "wvbi": lambda coastal, red_edge, **_: (coastal - red_edge) / (coastal + red_edge),
    "wvsi": lambda green, yellow, **_: (green - yellow) / (green + yellow),
}


def as_planes(numbers: Numbers) -> dict[str, NDArray[np.float64]]:
    return {name: np.array([[value]]) for name, value in numbers.items()}


def roles_of(index: str) -> list[str]:
    return [role for role in ROLES if re.search(rf"\b{role}\b", INDICES[index].formula)]


@pytest.mark.parametrize("index", sorted(PUBLISHED))
def test_agrees_with_what_was_published(index: str) -> None:
    rng = np.random.default_rng(1)
    for lowest, highest in ((0.01, 0.9), (1, 2047)):
        for _ in range(20):
            numbers = {name: float(rng.uniform(lowest, highest)) for name in roles_of(index)}
            expected = PUBLISHED[index](**numbers)
            assert compute(index, as_planes(numbers))[0, 0] == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("index", sorted(INDICES))
def test_every_formula_of_the_catalogue_is_evaluated_as_python_would(index: str) -> None:
    """Python itself is the oracle: the catalogue is our own text."""
    rng = np.random.default_rng(2)
    numbers = {name: float(rng.uniform(0.05, 0.6)) for name in roles_of(index)}
    expected = eval(INDICES[index].formula, {"__builtins__": {}}, numbers)
    if isinstance(expected, complex):
        expected = 0.0
    assert compute(index, as_planes(numbers))[0, 0] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_catalogue_is_whole() -> None:
    assert len(INDICES) > 200
    for name, index in INDICES.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert index.title
        assert index.source
        assert index.about in {"vegetation", "soil", "water", "urban", "snow", "burn", "clouds"}
        assert bands_for(name, roles_of(name)), "every name in a formula is a role"


def test_the_documentation_lists_every_index_and_every_role() -> None:
    text = DOCS.read_text(encoding="utf-8")
    listed = re.findall(r"`([a-z0-9_]+)`(\\\*)?[,| ]", text.split("## The list")[1].split("## Where")[0])
    assert sorted(name for name, _ in listed) == sorted(INDICES)
    assert f"{len(INDICES)} indices" in text
    for name, role in ROLES.items():
        assert f"| `{name}` | {', '.join(f'`{each}`' for each in role.names)} | {role.usual_nm:g} |" in text
    depend_on_units = {name for name, star in listed if star}
    assert depend_on_units == {name for name in INDICES if not _is_free_of_units(name)}


def _is_free_of_units(index: str) -> bool:
    rng = np.random.default_rng(3)
    for _ in range(5):
        numbers = {name: float(rng.uniform(0.05, 0.6)) for name in roles_of(index)}
        larger = {name: 1000 * value for name, value in numbers.items()}
        value, again = (compute(index, as_planes(each))[0, 0] for each in (numbers, larger))
        if value != pytest.approx(again, rel=1e-4, abs=1e-7):
            return False
    return True


Tree = tuple[str, Callable[[Numbers], float]]
NAMES = ("red", "green", "blue", "red_edge", "nir")


def combined(parts: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    """A larger formula: its text, and the same in plain Python that raises where it has no value."""

    def binary(sign: str, left: Tree, right: Tree) -> Tree:
        def value(numbers: Numbers) -> float:
            a, b = left[1](numbers), right[1](numbers)
            if sign == "/" and abs(b) <= 1e-9:
                raise ZeroDivisionError
            return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else 0.0}[sign]

        return f"({left[0]} {sign} {right[0]})", value

    def power(base: Tree, exponent: float) -> Tree:
        def value(numbers: Numbers) -> float:
            number = base[1](numbers) ** exponent
            if isinstance(number, complex) or math.isinf(number):
                raise ValueError
            return float(number)

        return f"({base[0]} ** {exponent!r})", value

    def called(name: str, part: Tree) -> Tree:
        function = {"abs": abs, "sqrt": math.sqrt, "log": math.log}[name]
        return f"{name}({part[0]})", lambda numbers: float(function(part[1](numbers)))

    def extreme(name: str, left: Tree, right: Tree) -> Tree:
        choose = min if name == "minimum" else max
        return f"{name}({left[0]}, {right[0]})", lambda numbers: choose(left[1](numbers), right[1](numbers))

    def negative(part: Tree) -> Tree:
        return f"(-{part[0]})", lambda numbers: -part[1](numbers)

    return st.one_of(
        st.builds(binary, st.sampled_from("+-*/"), parts, parts),
        st.builds(power, parts, st.sampled_from([2.0, 0.5, 3.0, -1.0, 1 / 3])),
        st.builds(called, st.sampled_from(["abs", "sqrt", "log"]), parts),
        st.builds(extreme, st.sampled_from(["minimum", "maximum"]), parts, parts),
        st.builds(negative, parts),
    )


def name_leaf(name: str) -> Tree:
    return name, lambda numbers: numbers[name]


def number_leaf(number: float) -> Tree:
    return repr(number), lambda _: number


LEAVES = st.sampled_from(NAMES).map(name_leaf) | st.sampled_from([0.5, 1.0, 2.0, 7.5]).map(number_leaf)
FORMULAS = st.recursive(LEAVES, combined, max_leaves=8).filter(lambda tree: any(name in tree[0] for name in NAMES))
VALUES = st.sampled_from([0.0, 1.0, -1.0, 2.0]) | st.floats(-2000, 2000, allow_subnormal=False)


@settings(deadline=None)
@given(FORMULAS, st.lists(VALUES, min_size=5, max_size=5))
def test_formulas_agree_with_plain_python(tree: Tree, values: list[float]) -> None:
    text, value = tree
    numbers = dict(zip(NAMES, values, strict=True))
    try:
        expected = value(numbers)
    except (ZeroDivisionError, ValueError, OverflowError):
        expected = 0.0
    if not abs(expected) <= float(np.finfo(np.float32).max):
        expected = 0.0
    try:
        got = compute(f"({text})", as_planes(numbers))
    except DataError as error:
        if "a part of it without bands has no value" not in str(error):
            raise
        return
    assert got.dtype == np.float32
    assert got[0, 0] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(width=32), min_size=len(ROLES), max_size=len(ROLES)))
def test_finite_everywhere(values: list[float]) -> None:
    planes = {name: np.full((1, 1), value, np.float32) for name, value in zip(ROLES, values, strict=True)}
    for index in INDICES:
        assert math.isfinite(compute(index, planes)[0, 0])


@pytest.mark.parametrize(
    ("index", "zero"),
    [
        ("evi", {"red": 0.0, "blue": 2.0, "nir": 14.0}),
        ("ndwi", {"green": 0.0, "nir": 0.0}),
        ("savi", {"nir": -0.25, "red": -0.25}),
        ("ccci", {"nir": 0.0, "red_edge": 0.0, "red": 5.0}),
        ("1 / (red / nir)", {"red": 3.0, "nir": 0.0}),
        ("minimum(log(red), 1)", {"red": 0.0}),
        ("(red / nir) ** 0", {"red": 3.0, "nir": 0.0}),
        ("exp(red)", {"red": 1000.0}),
        ("red * red", {"red": 1e30}),
    ],
)
def test_where_any_part_has_no_value_there_is_zero(index: str, zero: dict[str, float]) -> None:
    planes = {name: np.full((2, 3), value, np.float32) for name, value in zero.items()}
    assert np.array_equal(compute(index, planes), np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float16, np.float32, np.float64])
def test_any_real_type_will_do(dtype: type) -> None:
    planes = {"nir": np.array([[7, 9]], dtype), "red": np.array([[9, 7]], dtype)}
    assert compute("ndvi", planes) == pytest.approx(np.array([[-0.125, 0.125]]))


@pytest.mark.parametrize("shape", [(1, 1), (3, 20_000), (20_000, 3), (257, 129)])
def test_blocks_leave_no_seams(shape: tuple[int, int]) -> None:
    red, nir = np.random.default_rng(3).uniform(1, 2000, (2, *shape)).astype(np.float32)
    expected = (nir.astype(np.float64) - red) / (nir.astype(np.float64) + red)
    assert compute("ndvi", {"red": red, "nir": nir}) == pytest.approx(expected, abs=1e-6)


def test_slices_of_a_cube_serve_as_planes() -> None:
    cube = np.random.default_rng(4).uniform(1, 2000, (40, 30, 5)).astype(np.float32)
    slices = dict(zip(NAMES, np.moveaxis(cube, -1, 0), strict=True))
    copies = {name: plane.copy() for name, plane in slices.items()}
    assert np.array_equal(compute("evi", slices), compute("evi", copies))


def test_little_memory_is_taken_beside_the_result() -> None:
    planes = {name: np.ones((2000, 1500), np.uint16) for name in ("nir", "red", "green", "swir1")}
    compute("ibi", {name: plane[:1] for name, plane in planes.items()})
    tracemalloc.start()
    result = compute("ibi", planes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < result.nbytes + 2_000_000


def test_the_preferred_band_of_a_role_is_taken() -> None:
    assert bands_for("ndwi", ("m_nir1", "m_nir2", "m_green", "green")) == ("green", "m_nir2")
    assert bands_for("ndwi", ("nir", "m_green")) == ("m_green", "nir")


def test_a_formula_names_bands_or_roles() -> None:
    sensor = ("red", "m_nir1", "m_nir2", "m_red_edge", "band-8", "3")
    assert bands_for("(nir1 - red_edge) / (nir1 + red_edge)", sensor) == ("m_nir1", "m_red_edge")
    assert bands_for("m_nir1 - nir", sensor) == ("m_nir1", "m_nir2")
    assert bands_for("red-m_nir1", sensor) == ("red", "m_nir1")
    assert bands_for("'band-8' / '3'", sensor) == ("band-8", "3")
    planes = {"band-8": np.full((1, 2), 6.0), "3": np.full((1, 2), 4.0)}
    assert compute("'band-8' / '3'", planes).tolist() == [[1.5, 1.5]]


def test_bands_without_familiar_names_are_found_by_wavelength() -> None:
    sentinel2 = [
        Band(name=name, wavelength_nm=(middle - width / 2, middle + width / 2))
        for name, middle, width in (
            *(("B1", 442.7, 21), ("B2", 492.4, 66), ("B3", 559.8, 36), ("B4", 664.6, 31), ("B5", 704.1, 15)),
            *(("B6", 740.5, 15), ("B7", 782.8, 20), ("B8", 832.8, 106), ("B8A", 864.7, 21), ("B9", 945.1, 20)),
            *(("B11", 1613.7, 91), ("B12", 2202.4, 175)),
        )
    ]
    found = {
        role: bands_for(f"{role} * 1", sentinel2)[0]
        for role in ROLES
        if role not in ("yellow", "green1") and not role.startswith("thermal")
    }
    assert found == {
        **{"coastal": "B1", "blue": "B2", "green": "B3", "red": "B4", "red_edge": "B5", "red_edge2": "B6"},
        **{"red_edge3": "B7", "nir": "B8", "nir_narrow": "B8A", "nir1": "B8", "nir2": "B9"},
        **{"swir1": "B11", "swir2": "B12"},
    }
    planes = {"B8": np.full((1, 1), 3.0), "B4": np.full((1, 1), 1.0), "B3": np.full((1, 1), 9.0)}
    assert compute("ndvi", planes, sentinel2)[0, 0] == 0.5


def test_dstl_bands_by_name_and_by_wavelength_are_the_same() -> None:
    sensor = [band for bands in FILES.values() for band in bands]
    names = [band.name for band in sensor]
    assert bands_for("bsi", names) == bands_for("bsi", sensor) == ("a_swir3", "red", "m_nir2", "blue")
    assert bands_for("nbr", names) == bands_for("nbr", sensor) == ("m_nir2", "a_swir6")


def test_a_name_that_its_wavelength_contradicts_does_not_count() -> None:
    """WorldView-3 counts its eight short-wave bands from 1210 nm on."""
    sensor = [
        Band(name="swir1", wavelength_nm=(1195, 1225)),
        Band(name="swir2", wavelength_nm=(1550, 1590)),
        Band(name="swir3", wavelength_nm=(1640, 1680)),
        Band(name="green", wavelength_nm=(510, 580)),
    ]
    assert bands_for("mndwi", sensor) == ("green", "swir3")
    assert bands_for("green - swir1", sensor) == ("green", "swir1"), "a formula means the band that it names"


def test_a_panchromatic_band_plays_no_part() -> None:
    sensor = [Band(name="pan", wavelength_nm=(450, 800)), Band(name="nir", wavelength_nm=(770, 895))]
    with pytest.raises(DataError, match="ndvi needs a band named red or m_red, or one whose middle lies at 625 to 690"):
        bands_for("ndvi", sensor)


def test_one_band_cannot_play_two_parts() -> None:
    sensor = [Band(name="edge", wavelength_nm=(705, 745)), Band(name="red", wavelength_nm=(630, 690))]
    with pytest.raises(DataError, match="ndvi705 needs different bands as red_edge2 and red_edge"):
        bands_for("ndvi705", sensor)


def test_unknown_index_names_the_nearest() -> None:
    for wrong, right in (("ndwl", "ndwi"), ("NDVI", "ndvi")):
        with pytest.raises(DataError, match=rf"Received '{wrong}'\. Did you mean '{right}'\?"):
            bands_for(wrong, ("green", "nir"))


def test_missing_band_is_named() -> None:
    with pytest.raises(DataError, match="ndwi needs a band named m_nir2 or nir2 or nir"):
        bands_for("ndwi", ("red", "green", "blue"))


def test_an_unknown_name_in_a_formula_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"names 'm_nir3'.*Did you mean 'm_nir"):
        bands_for("m_nir3 - red", ("red", "m_nir1", "m_nir2"))


@pytest.mark.parametrize(
    ("formula", "why"),
    [
        ("", "invalid syntax at its end"),
        ("red +", "invalid syntax at its end"),
        ("red ++* nir", "invalid syntax at character"),
        ("1 + 2", "it names no band"),
        ("__import__('os').system('true')", "may not hold"),
        ("red.__class__ + red", "may not hold 'red.__class__'"),
        ("red[0] + red", "may not hold"),
        ("[red for red in nir]", "may not hold"),
        ("red if red else nir", "may not hold"),
        ("(lambda: red)()", "may not hold"),
        ("red > nir", "may not hold"),
        ("red @ nir", "may not hold"),
        ("print(red)", "may not hold"),
        ("sqrt(red, nir)", "sqrt takes 1 value"),
        ("maximum(red)", "maximum takes 2 values"),
        ("minimum(red, x=nir)", "minimum takes 2 values"),
        ("True * red", "True is no number"),
        ("2j * red", "2j is no number"),
        ("9 ** 9 ** 9 * red", "a part of it without bands has no value"),
        ("log(0 - 1) + red", "a part of it without bands has no value"),
        ("1e400 * red", "a number in it is too large"),
        ("1" * 400 + " * red", "a number in it is too large"),
        ("(" * 300 + "red" + ")" * 300, "cannot be read"),
        ("- " * 100 + "red", "nested too deeply"),
        ("red + " * 400 + "red", "more than 1000 characters"),
        ("red\0 + nir", "cannot be read"),
    ],
)
def test_what_is_no_formula_is_refused(formula: str, why: str) -> None:
    with pytest.raises(DataError, match=re.escape(why)):
        bands_for(formula, ("red", "nir"))


@pytest.mark.parametrize("formula", ["exp(red)", "red ** 7"])
def test_values_that_are_no_measurements_become_zero(formula: str) -> None:
    red = np.array([[2.0, 900.0]], np.float32)
    found = compute(formula, {"red": red})
    assert found[0, 1] == 0.0
    assert found[0, 0] == pytest.approx({"exp(red)": np.exp(2.0), "red ** 7": 128.0}[formula])

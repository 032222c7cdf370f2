import pytest
from shapely.geometry import Point, box

from pipeline.scene import DataError, Georeference
from search_space.decode import decode, encode
from search_space.errors import MalformedError

DSTL = Georeference(xmax=0.0092, ymin=-0.0090)


def test_dstl_pixels_follow_the_competitions_formula() -> None:
    width, height = 3391, 3349
    x, y = 0.0061, -0.0034
    pixel = DSTL.to_pixels(Point(x, y), height, width)
    assert pixel.x == pytest.approx(x * (width * width / (width + 1)) / 0.0092, rel=1e-12)
    assert pixel.y == pytest.approx(y * (height * height / (height + 1)) / -0.0090, rel=1e-12)


@pytest.mark.parametrize(
    "georeference",
    [DSTL, Georeference(crs="EPSG:32633", transform=(0.3, 0.05, 500_000.0, 0.04, -0.3, 4_000_000.0)), Georeference()],
)
def test_to_map_is_the_inverse_of_to_pixels(georeference: Georeference) -> None:
    shape = box(3.25, 7.5, 100.0, 41.0)
    back = georeference.to_pixels(georeference.to_map(shape, 200, 300), 200, 300)
    assert back.equals_exact(shape, 1e-5)


def test_without_a_place_geometry_stays() -> None:
    assert Georeference().to_map(Point(3, 4), 10, 10).equals(Point(3, 4))
    assert Georeference().affine(10, 10) is None


def test_affine_maps_pixel_corners() -> None:
    place = Georeference(transform=(2.0, 0.0, 100.0, 0.0, -2.0, 50.0))
    assert place.to_map(Point(0, 0), 9, 9).equals(Point(100, 50))
    assert place.to_map(Point(3, 4), 9, 9).equals(Point(106, 42))


@pytest.mark.parametrize("place", [DSTL, Georeference(crs="X", transform=(1.0, 0.0, 2.0, 0.0, -1.0, 3.0))])
def test_goes_through_json(place: Georeference) -> None:
    assert decode(Georeference, encode(place), where="test") == place


@pytest.mark.parametrize(
    "plain",
    [{"xmax": 0.009}, {"xmax": -0.009, "ymin": -0.009}, {"xmax": 1.0, "ymin": -1.0, "transform": [1, 0, 0, 0, 1, 0]}],
)
def test_contradictions_are_refused(plain: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        decode(Georeference, plain, where="test")


def test_a_flat_transform_cannot_be_turned_round() -> None:
    with pytest.raises(DataError, match="two directions"):
        Georeference(transform=(1.0, 1.0, 0.0, 1.0, 1.0, 0.0)).to_pixels(Point(0, 0), 5, 5)

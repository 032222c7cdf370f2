"""How surely scenes of the same ground are told from others, and how long it takes for 450 scenes.

Synthetic places are painted on two dates: the same things stand there, made of other materials, on other grass; the
second picture is darker, flatter, noisier and cut elsewhere. Real scenes, where they lie beside the project, are cut
into tiles, so that tiles of one scene show other ground of the same texture; their second date is made of another band
(near infrared in place of red, green and blue), or of the same ones with another curve and noise.

    python benchmarks/same_ground.py
"""

import argparse
import itertools
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.imagery.thumbnail import edge_thumbnail, thumbnail_scale
from pipeline.preparation.same_ground import Agreement, Comparer, Picture
from pipeline.scene import BandGroup, Georeference, Scene
from pipeline.synthetic.landscape import Features, imagine
from pipeline.synthetic.spectra import paint

DATA = Path(__file__).parents[2] / "shared" / "data"
SIDE_PX, TILE_PX = 560, 290

Planes = NDArray[np.float32]
Dates = dict[str, tuple[Planes, Planes]]
"""Place to its planes on two dates."""


def synthetic(num: int) -> Dates:
    """Invented places."""
    found = {}
    for place in range(num):
        rng = np.random.default_rng([70, place])
        side = int(rng.integers(SIDE_PX - 60, SIDE_PX + 60))
        features = Features(road=place % 4 != 3, river=place % 3 == 1, ponds=place % 4, cars=place % 9)
        land = imagine(side, side, features, rng)
        first, second = (paint(land, np.random.default_rng([71, place, date]))[:3] for date in range(2))
        found[f"synthetic {place}"] = (first, cut(dim(second, rng), rng))
    return found


def dim(planes: Planes, rng: np.random.Generator) -> Planes:
    """Another light: a curve, a haze and noise."""
    low, high = float(planes.min()), float(planes.max())
    curved = ((planes - low) / (high - low)) ** 0.6
    return np.asarray(curved * 400 + 60 + rng.normal(0, 6, planes.shape), np.float32)


def cut(planes: Planes, rng: np.random.Generator) -> Planes:
    """Taken a bit elsewhere."""
    top, left, bottom, right = (int(edge) for edge in rng.integers(1, planes.shape[1] // 10, 4))
    return planes[:, top:-bottom, left:-right]


def real(folder: Path, pattern: str) -> Dates:
    """Tiles of real scenes."""
    found: Dates = {}
    rng = np.random.default_rng(3)
    for path in sorted(folder.glob(pattern)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as source:
                planes = source.read().astype(np.float32)
        for number, tile in enumerate(tiles(planes)):
            second = tile[3:4] if len(tile) > 3 else dim(tile, rng)
            found[f"{folder.parent.name} {path.stem}.{number}"] = (tile[:3], cut(second, rng))
    return found


def tiles(planes: Planes) -> Iterator[Planes]:
    """Squares side by side."""
    for top in range(0, planes.shape[1] - TILE_PX + 10, TILE_PX - 10):
        for left in range(0, planes.shape[2] - TILE_PX + 10, TILE_PX - 10):
            yield planes[:, top : top + TILE_PX - 10, left : left + TILE_PX - 10]


def picture(name: str, planes: Planes) -> Picture:
    """As `prepare` makes it."""
    shape = (planes.shape[1], planes.shape[2])
    group = BandGroup(tuple(f"b{number}" for number in range(len(planes))), planes, Path(name))
    edges = edge_thumbnail(Scene(name, *shape, (group,), None, Georeference()), shape)
    return Picture(name, edges, thumbnail_scale(shape), False, False)


def compare(title: str, dates: Dates) -> list[Picture]:
    """Print how the two dates of a place agree, and how different places do."""
    pictures = [picture(f"{name}/{date}", planes) for name, both in dates.items() for date, planes in enumerate(both)]
    comparer = Comparer(pictures)
    same, other = [], []
    for a, b in itertools.combinations(pictures, 2):
        agreement = comparer.agreement(a, b)
        if agreement is not None:
            (same if a.id.split("/")[0] == b.id.split("/")[0] else other).append(agreement)
    print(f"{title:20} {describe(same)}   {describe(other)}", flush=True)
    return pictures


def describe(agreements: list[Agreement]) -> str:
    """Number of pairs, how many count as the same ground, and the correlations and sharpness at the edge."""
    linked = sum(agreement.convinces for agreement in agreements)
    compared = [agreement for agreement in agreements if agreement.correlation]
    correlation = np.percentile([agreement.correlation for agreement in compared] or [0.0], (0, 50, 100))
    sharpness = np.percentile([agreement.sharpness for agreement in compared] or [1.0], (0, 50, 100))
    numbers = " ".join(f"{value:5.2f}" for value in (*correlation, *sharpness))
    return f"{linked:5}/{len(agreements):<6} {numbers}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=60, help="synthetic places (default 60)")
    parser.add_argument("--scenes", type=int, default=450, help="scenes to be timed (default 450)")
    options = parser.parse_args()
    print(
        "pairs linked / pairs; least, median and largest correlation and sharpness (other ground: where it comes near)"
    )
    print(f"{'':20} {'same ground':>48}   {'other ground':>48}")
    pictures = compare("synthetic", synthetic(options.places))
    for name, pattern in (("sentinel2_india", "images/*.tif"), ("gsi_japan_roads", "images/*.png")):
        if (DATA / name).is_dir():
            pictures += compare(name, real(DATA / name / pattern.split("/")[0], pattern.split("/")[1]))
        else:
            print(f"{name}: absent")
    many = [
        Picture(str(number), np.roll(each.edges, number, axis=0), 1.0, False, False)
        for number, each in zip(range(options.scenes), itertools.cycle(pictures), strict=False)
    ]
    comparer = Comparer(many)
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for a, b in itertools.combinations(many, 2):
        comparer.agreement(a, b)
    seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    num_pairs = len(many) * (len(many) - 1) // 2
    print(f"{len(many)} scenes, {num_pairs} pairs: {seconds:.1f} s, of which computed {cpu_s:.1f} s")


if __name__ == "__main__":
    main()

"""Polygons to pixels: time, area and agreement with what is covered by half, beside other ways to draw.

Two scenes of the DSTL competition's size, 3391 × 3349 px, with objects in random places:

- `crowded`, for time: as many objects as the competition's 25 training scenes have together, 75 000, each as much
  smaller as it takes to fit them into one scene;
- `true sizes`, for accuracy: objects as large as the competition's are on average (share of area × 25 scenes / number
  of objects), a twenty-fifth of them, but all of the vehicles.

The truth is drawn 16 times finer by GDAL; a pixel counts where at least half of it is covered. Areas are held against
the exact ones of the merged polygons.

    python benchmarks/rasterising.py
    python benchmarks/rasterising.py --slow     # scikit-image too: minutes
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rasterio.features import rasterize

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.imagery.rasterise import rasterise

HEIGHT, WIDTH = 3349, 3391
FINER, STRIPE_PX, REPEATS = 16, 128, 5
THIN = ("track", "vehicle_large", "vehicle_small")

Polygons = NDArray[Any]
Mask = NDArray[np.uint8]


def blobs(rng: np.random.Generator, num: int, least_px: float, most_px: float, corners: int) -> Polygons:
    """Wavy discs: trees, ponds, fields."""
    places, radii = rng.uniform(0, [WIDTH, HEIGHT], (num, 2)), rng.uniform(least_px, most_px, num)
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    phase = rng.uniform(0, 2 * np.pi, (num, 1))
    reach = radii[:, None] * (1 + 0.15 * np.cos(2 * turn + phase) + 0.1 * np.cos(3 * turn - phase))
    return shapely.polygons(places[:, None] + reach[..., None] * np.stack([np.cos(turn), np.sin(turn)], -1))


def boxes(rng: np.random.Generator, num: int, length_px: float, width_px: float) -> Polygons:
    """Turned rectangles: houses, sheds, vehicles."""
    places, turn = rng.uniform(0, [WIDTH, HEIGHT], (num, 2)), rng.uniform(0, 2 * np.pi, num)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2 * [length_px, width_px]
    corners = corners * rng.uniform(0.8, 1.2, (num, 1, 2))
    along, across = np.stack([np.cos(turn), np.sin(turn)], -1), np.stack([-np.sin(turn), np.cos(turn)], -1)
    return shapely.polygons(places[:, None] + corners[..., :1] * along[:, None] + corners[..., 1:] * across[:, None])


def ways(rng: np.random.Generator, num: int, length_px: float, width_px: float) -> Polygons:
    """Winding strips: roads, tracks, waterways."""
    steps = np.linspace(0, length_px, 60)
    heading = rng.uniform(0, 2 * np.pi, (num, 1)) + np.cumsum(rng.normal(0, 0.05, (num, 60)), axis=1)
    moves = np.stack([np.cos(heading), np.sin(heading)], -1) * (steps[1] - steps[0])
    lines = shapely.linestrings(rng.uniform(0, [WIDTH, HEIGHT], (num, 1, 2)) + np.cumsum(moves, axis=1))
    return shapely.get_parts(shapely.buffer(lines, width_px / 2))


def crowded(seed: int = 0) -> dict[str, Polygons]:
    """Polygons by class, as many of each as the competition's 25 training scenes have together, and smaller."""
    rng = np.random.default_rng(seed)
    return {
        "buildings": boxes(rng, 12_011, 18, 11),
        "misc_structures": boxes(rng, 12_315, 5, 4),
        "road": ways(rng, 14, 2500, 12),
        "track": ways(rng, 239, 700, 4),
        "trees": blobs(rng, 48_347, 3, 7, 14),
        "crops": blobs(rng, 422, 60, 140, 40),
        "waterway": ways(rng, 28, 1200, 18),
        "standing_water": blobs(rng, 224, 8, 30, 40),
        "vehicle_large": boxes(rng, 66, 11, 3.8),
        "vehicle_small": boxes(rng, 1_060, 5.6, 2.9),
    }


def true_sizes(seed: int = 0) -> dict[str, Polygons]:
    """Polygons by class, as large as the competition's: a small vehicle has 40 square pixels, a house 780."""
    rng = np.random.default_rng(seed)
    return {
        "buildings": boxes(rng, 480, 32, 24.4),
        "misc_structures": boxes(rng, 493, 14, 11.5),
        "road": ways(rng, 1, 5400, 30),
        "track": ways(rng, 10, 3560, 10),
        "trees": blobs(rng, 1934, 8, 18, 24),
        "crops": blobs(rng, 17, 180, 290, 60),
        "waterway": ways(rng, 1, 2030, 25),
        "standing_water": blobs(rng, 9, 20, 32, 40),
        "vehicle_large": boxes(rng, 66, 22, 7.2),
        "vehicle_small": boxes(rng, 1_060, 9.2, 4.3),
    }


def by_mapgrove(polygons: Polygons) -> Mask:
    """What `prepare` does."""
    return rasterise(polygons, HEIGHT, WIDTH)


def by_rasterio_at_once(polygons: Polygons) -> Mask:
    """GDAL, all as one multipolygon: overlapping parts cancel."""
    whole = shapely.multipolygons(polygons)
    return rasterize([(whole, 1)], out_shape=(HEIGHT, WIDTH), fill=0, dtype="uint8")


def by_opencv(polygons: Polygons, finer: int = 1) -> Mask:
    """The published way: corners rounded to pixels, borders drawn in."""
    mask = np.zeros((HEIGHT * finer, WIDTH * finer), np.uint8)
    for ring in shapely.get_exterior_ring(polygons):
        cv2.fillPoly(mask, [np.round(shapely.get_coordinates(ring) * finer).astype(np.int32)], 1)
    if finer == 1:
        return mask
    share = cv2.resize(mask.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return (share >= 0.5).astype(np.uint8)


def by_opencv_finer(polygons: Polygons) -> Mask:
    """The same, drawn four times finer and halved."""
    return by_opencv(polygons, finer=4)


def by_pillow(polygons: Polygons) -> Mask:
    """Pillow's polygons, which take fractions."""
    picture = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(picture)
    for ring in shapely.get_exterior_ring(polygons):
        draw.polygon(shapely.get_coordinates(ring).ravel().tolist(), fill=1)
    return np.asarray(picture)


def by_scikit_image(polygons: Polygons) -> Mask:
    """scikit-image, whose pixels have their centres on whole numbers."""
    from skimage.draw import polygon

    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for ring in shapely.get_exterior_ring(polygons):
        x, y = shapely.get_coordinates(ring).T - 0.5
        mask[polygon(y, x, mask.shape)] = 1
    return mask


WAYS: Mapping[str, Callable[[Polygons], Mask]] = {
    "Mapgrove `rasterise`": by_mapgrove,
    "rasterio `rasterize`, one multipolygon": by_rasterio_at_once,
    "OpenCV `fillPoly`, rounded": by_opencv,
    "OpenCV, 4× supersampled": by_opencv_finer,
    "Pillow": by_pillow,
}


def covered_by_half(polygons: Polygons) -> NDArray[np.bool_]:
    """Pixels of which at least half is covered, by 256 points in each."""
    truth = np.zeros((HEIGHT, WIDTH), bool)
    bounds = shapely.bounds(polygons)
    for top in range(0, HEIGHT, STRIPE_PX):
        rows = min(STRIPE_PX, HEIGHT - top)
        near = polygons[(bounds[:, 3] > top) & (bounds[:, 1] < top + rows)]
        if len(near):
            fine = rasterize(
                [(each, 1) for each in near],
                out_shape=(rows * FINER, WIDTH * FINER),
                transform=rasterio.Affine(1 / FINER, 0, 0, 0, 1 / FINER, top),
                dtype="uint8",
            )
            count = fine.reshape(rows, FINER, WIDTH * FINER).sum(axis=1, dtype=np.uint8)
            truth[top : top + rows] = count.reshape(rows, WIDTH, FINER).sum(axis=2, dtype=np.uint16) >= FINER**2 // 2
    return truth


def exact_area(polygons: Polygons) -> float:
    """Square pixels of the merged polygons within the scene."""
    return float(shapely.intersection(shapely.union_all(polygons), shapely.box(0, 0, WIDTH, HEIGHT)).area)


def timed(draw: Callable[[Polygons], Mask], classes: Mapping[str, Polygons], repeats: int) -> tuple[float, float]:
    """The best wall time for all classes, and the best time on the processor, which neighbours do not lengthen."""
    wall, processor = [], []
    for _ in range(repeats):
        wall_s, processor_s = time.perf_counter(), time.process_time()
        for polygons in classes.values():
            draw(polygons)
        wall.append(time.perf_counter() - wall_s)
        processor.append(time.process_time() - processor_s)
    return min(wall), min(processor)


def compare(
    title: str, classes: Mapping[str, Polygons], ways_to_draw: Mapping[str, Callable[[Polygons], Mask]]
) -> None:
    """Print how long each way takes, and how well what it draws agrees with the truth."""
    print(f"\n{title}: {WIDTH} × {HEIGHT} px, {sum(map(len, classes.values()))} polygons in {len(classes)} classes\n")
    truth = {name: covered_by_half(polygons) for name, polygons in classes.items()}
    area = {name: exact_area(polygons) for name, polygons in classes.items()}
    print(f"| way | wall s | CPU s | times our CPU s | IoU: {', '.join(THIN)} | worst error of area |")
    print("|---|---|---|---|---|---|")
    own_s = None
    for name, draw in ways_to_draw.items():
        wall_s, processor_s = timed(draw, classes, 1 if draw is by_scikit_image else REPEATS)
        own_s = own_s or processor_s
        masks = {each: draw(polygons) for each, polygons in classes.items()}
        ious = ", ".join(f"{_iou(masks[each], truth[each]):.3f}" for each in THIN)
        errors = {each: int(masks[each].sum()) / area[each] - 1 for each in classes}
        worst = max(errors, key=lambda each: abs(errors[each]))
        ratio = processor_s / own_s
        print(
            f"| {name} | {wall_s:.2f} | {processor_s:.2f} | {ratio:.1f} | {ious} | {errors[worst]:+.1%} ({worst}) |",
            flush=True,
        )
    print("\n| class | polygons | mean size, px² | error of area | IoU |\n|---|---|---|---|---|")
    for name, polygons in classes.items():
        mask = by_mapgrove(polygons)
        error, size = int(mask.sum()) / area[name] - 1, float(shapely.area(polygons).mean())
        print(f"| {name} | {len(polygons)} | {size:,.0f} | {error:+.2%} | {_iou(mask, truth[name]):.4f} |")


def main() -> None:
    """Measure all ways on both scenes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slow", action="store_true", help="also measure scikit-image, once")
    options = parser.parse_args()
    ways_to_draw = dict(WAYS) | ({"scikit-image `polygon`, -0.5 px": by_scikit_image} if options.slow else {})
    compare("Crowded", crowded(), ways_to_draw)
    compare("True sizes", true_sizes(), ways_to_draw)


def _iou(drawn: Mask, truth: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero((drawn > 0) & truth) / np.count_nonzero((drawn > 0) | truth))


if __name__ == "__main__":
    main()

"""What blending takes beside the network: seconds and memory, beside other tools and beside the least there is to do.

The predictor is a trivial one, a copy of the first bands of its tiles; its own time is taken off. Every run is a
process of its own with one thread; memory is what it takes beyond the image, at its highest, the map among it, pages of
mapped files not counted. `floor` is a bare loop that copies every view of every tile once to the predictor and adds
every prediction once, unweighted. `whole` does as the published blender does: all turned copies of the padded image,
all patches of each in one array. tiler and MONAI turn nothing, so they are to be held against `mapgrove` with one view;
pytorch-toolbelt turns as we do.

  python benchmarks/blending.py
  python benchmarks/blending.py --sides 2048 --classes 1 10 --only mapgrove whole floor
  python benchmarks/blending.py --sides 10000 --only mapgrove --times 1
  python benchmarks/blending.py --network 768                # the default U-Net instead: what is not its own time
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from smoothing.blending import stream
from smoothing.settings import Blending
from smoothing.streams import ArraySink, ArraySource
from smoothing.symmetries import SYMMETRIES
from smoothing.tiling import Axis, spans
from smoothing.windows import window_weights

TILE_PX, BANDS, BATCH_SIZE = 128, 20, 16
STEP_PX = TILE_PX // 2
LARGE_PX = 4000
"""Images with longer sides are mapped from disk, and their maps written there."""

RESULT = "RESULT "
POLL_S = 0.005

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Run:
    """One measurement to take.

    Attributes:
        method: Who blends.
        views: Of each tile.
        side_px: Of the image.
        num_classes: Of the map.
    """

    method: str
    views: int
    side_px: int
    num_classes: int


def main() -> None:
    """Measure everything, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[1024, 2048, 3350])
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--only", nargs="+", default=[name for name, _ in METHODS], metavar="METHOD")
    parser.add_argument("--views", type=int, nargs="+", default=[8, 1])
    parser.add_argument("--times", type=int, default=3, help="runs of each, of which the median counts")
    parser.add_argument("--keep", type=Path, help="a file to which each row is added, as JSON")
    parser.add_argument("--most-gb", type=float, default=20.0, help="leave out what would take more memory")
    parser.add_argument("--network", type=int, metavar="PX", help="blend with the default U-Net, an image of this side")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(Run(**json.loads(options.one)), options.folder)
        return
    if options.network:
        with_network(options.network, options.times)
        return
    print("| views | px | classes | method | s | of the floor | MB beside the image | of ours |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for side_px in options.sides:
            make_image(Path(name), side_px)
            for views in options.views:
                for num_classes in options.classes:
                    compare(Path(name), options, side_px, views, num_classes)


def compare(folder: Path, options: argparse.Namespace, side_px: int, views: int, num_classes: int) -> None:
    """All methods for one image; rows of the table."""
    found: dict[str, tuple[float, float]] = {}
    runs = [
        Run(name, views, side_px, num_classes) for name, offered in METHODS if name in options.only and views in offered
    ]
    # In turn, so that a slow minute of the machine is everybody's.
    taken: dict[str, list[tuple[float, float]]] = {run.method: [] for run in runs}
    for _ in range(options.times):
        for run in runs:
            if expected_gb(run) <= options.most_gb:
                taken[run.method].append(in_process(run, folder))
    for name, results in taken.items():
        if results:
            found[name] = median(seconds for seconds, _ in results), median(mb for _, mb in results)
    for name, (seconds, mb) in found.items():
        floor_s, ours_mb = found.get("floor", (0.0, 0.0))[0], found.get("mapgrove", (0.0, 0.0))[1]
        ratio = f"{seconds / floor_s:.2f}" if floor_s else "–"
        share = f"{mb / ours_mb:.1f}" if ours_mb else "–"
        if options.keep:
            row = {"views": views, "side_px": side_px, "classes": num_classes, "method": name, "s": seconds, "mb": mb}
            with options.keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        cells = (views, side_px, num_classes, name, f"{seconds:.2f}", ratio, f"{mb:.0f}", share)
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def expected_gb(run: Run) -> float:
    """What the methods that hold everything at once would take."""
    if run.method == "mapgrove":
        return 0.0
    if run.method == "whole":
        return 4 * (BANDS + 2 * run.num_classes) * 4 * run.side_px**2 / 1e9 + 8 * 4 * BANDS * run.side_px**2 / 1e9
    return 4 * (BANDS + 4 * run.num_classes) * run.side_px**2 / 1e9 if run.side_px > LARGE_PX else 0.0


def in_process(run: Run, folder: Path) -> tuple[float, float]:
    """Seconds, and the most MB beyond those at the start."""
    command = [sys.executable, __file__, "--one", json.dumps(asdict(run)), "--folder", str(folder)]
    # Of huge pages, for which NumPy asks and PyTorch does not, a virtual machine may take twenty times as long for some
    # as for others.
    environment = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment) as process:
        if process.stdout is None:
            raise RuntimeError("no output")
        if process.stdout.readline().strip() != "READY":
            raise RuntimeError(f"{run} did not begin")
        begun_mb = highest_mb = own_mb(process.pid)
        while process.poll() is None:
            highest_mb = max(highest_mb, own_mb(process.pid))
            time.sleep(POLL_S)
        for text in process.stdout:
            if text.startswith(RESULT):
                return float(text.removeprefix(RESULT)), highest_mb - begun_mb
    raise RuntimeError(f"{run} ended with {process.returncode}")


def own_mb(pid: int) -> float:
    """Memory of a process that is no mapped file; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem"))) / 1e3


def make_image(folder: Path, side_px: int) -> None:
    """Random bands, written a stretch at a time."""
    path = folder / f"{side_px}.npy"
    if path.exists():
        return
    image = np.lib.format.open_memmap(path, "w+", np.float32, (side_px, side_px, BANDS))
    rng = np.random.default_rng(0)
    for first in range(0, side_px, 256):
        image[first : first + 256] = rng.random(image[first : first + 256].shape, np.float32)
    image.flush()


def measure(run: Run, folder: Path) -> None:
    """Blend once, in this process; print the seconds."""
    is_large = run.side_px > LARGE_PX
    image: Array = np.load(folder / f"{run.side_px}.npy", mmap_mode="r" if is_large else None)
    model = Model(run.num_classes, channels_first=run.method in ("toolbelt", "monai"))
    blend = BY_NAME[run.method](image, run, model, folder)
    print("READY", flush=True)
    # The parent looks how much is there before anything is made.
    time.sleep(20 * POLL_S)
    started = time.perf_counter()
    blended = blend()
    seconds = time.perf_counter() - started - model.seconds
    # A few rows: to compare all would take more memory than blending did.
    rows = slice(None, None, max(1, run.side_px // 20))
    worst = float(np.abs(blended[rows] - image[rows][..., : run.num_classes]).max())
    if worst > 1e-3 and run.method not in ("floor", "whole"):
        raise RuntimeError(f"{run.method} does not give the image back: {worst}")
    print(f"{RESULT}{seconds}", flush=True)


class Model:
    """The first bands of tiles, in an array or tensor of their own.

    Args:
        num_classes: How many.
        channels_first: Tiles are `(N, B, t, t)` tensors, not `(N, t, t, B)` arrays.
    """

    def __init__(self, num_classes: int, *, channels_first: bool) -> None:
        self.seconds = 0.0
        """What the calls took."""
        self._num_classes = num_classes
        self._channels_first = channels_first

    def __call__(self, tiles: Any) -> Any:
        """Predict."""
        started = time.perf_counter()
        if self._channels_first:
            said = tiles[:, : self._num_classes].clone()
        else:
            said = np.array(tiles[..., : self._num_classes], order="C")
        self.seconds += time.perf_counter() - started
        return said


def with_network(side_px: int, times: int) -> None:
    """Blend with the default U-Net and print the seconds beside its own, 8 views."""
    from pipeline.backend import use_backend

    print(use_backend())
    from pipeline.networks.builder import build_model
    from pipeline.networks.prediction import model_predictor
    from search_space.architecture import Architecture

    predict = model_predictor(build_model(Architecture(depth=4), BANDS, 10))
    image = np.random.default_rng(0).random((side_px, side_px, BANDS), np.float32)
    blending = Blending(tile_px=TILE_PX, batch_size=BATCH_SIZE)
    predict(np.zeros((BATCH_SIZE, TILE_PX, TILE_PX, BANDS), np.float32))
    shares = []
    for _ in range(times):
        own: list[float] = []

        def timed(tiles: Array, own: list[float] = own) -> Array:
            started = time.perf_counter()
            said = predict(tiles)
            own.append(time.perf_counter() - started)
            return said

        started = time.perf_counter()
        stream(ArraySource(image), timed, ArraySink(side_px), blending)
        seconds = time.perf_counter() - started
        shares.append((seconds - sum(own)) / sum(own))
        print(f"{seconds:.1f} s, the network {sum(own):.1f} s in {len(own)} calls: {shares[-1]:.1%} more")
    print(f"median: {median(shares):.1%} more")


Blend = Callable[[], Any]


def mapgrove(image: Array, run: Run, model: Model, folder: Path) -> Blend:
    """Ours."""
    blending = Blending(
        tile_px=TILE_PX, symmetries="d4" if run.views == 8 else "none", batch_size=BATCH_SIZE, overlap=0.5
    )
    sink: Any = ArraySink(run.side_px)
    if run.side_px > LARGE_PX:
        sink = FileSink(folder / "map.npy", (run.side_px, run.side_px, run.num_classes))

    def blend() -> Any:
        stream(ArraySource(image), model, sink, blending)
        return sink.result

    return blend


class FileSink:
    """A map on disk."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.result = np.lib.format.open_memmap(path, "w+", np.float32, shape)

    def write(self, first_row: int, rows: Array) -> None:
        """See `Sink`."""
        self.result[first_row : first_row + len(rows)] = rows


def floor(image: Array, run: Run, model: Model, folder: Path) -> Blend:  # noqa: ARG001
    """Copies every view once, adds every prediction once, of the very tiles that ours takes."""
    starts = [span.start for span in spans(Axis(run.side_px, 0, run.side_px), TILE_PX, 0.5)]
    places = [np.s_[top : top + TILE_PX, left : left + TILE_PX] for top in starts for left in starts]
    views = SYMMETRIES["d4" if run.views == 8 else "none"].upright

    def blend() -> Any:
        total = np.zeros((*image.shape[:2], run.num_classes), np.float32)
        batch = np.empty((BATCH_SIZE, TILE_PX, TILE_PX, BANDS), np.float32)
        # Turned pixel by pixel, with all its bands, a tile is copied twice as fast as number by number.
        pixel = np.dtype((np.void, BANDS * batch.itemsize))
        for first in range(0, len(places), BATCH_SIZE):
            chunk = places[first : first + BATCH_SIZE]
            for view in views:
                for number, place in enumerate(chunk):
                    tile = image[place][None].view(pixel)
                    batch[number].view(pixel)[...] = view.forward(tile)[0]
                said = view.inverse(model(batch))
                for number, place in enumerate(chunk):
                    total[place] += said[number]
        return total

    return blend


def whole(image: Array, run: Run, model: Model, folder: Path) -> Blend:  # noqa: ARG001
    """All turned copies of the padded image, all patches of each in one array."""
    window = window_weights("spline", TILE_PX)[..., None]
    views = SYMMETRIES["d4" if run.views == 8 else "none"].upright

    def one(padded: Array) -> Array:
        rows, columns = (range(0, side - TILE_PX + 1, STEP_PX) for side in padded.shape[:2])
        patches = np.array([[padded[y : y + TILE_PX, x : x + TILE_PX] for x in columns] for y in rows])
        said = model(patches.reshape(-1, *patches.shape[2:])) * window
        said = said.reshape(*patches.shape[:2], *said.shape[1:])
        total = np.zeros((*padded.shape[:2], run.num_classes), np.float32)
        for down, y in enumerate(rows):
            for across, x in enumerate(columns):
                total[y : y + TILE_PX, x : x + TILE_PX] += said[down, across]
        return total / (TILE_PX // STEP_PX) ** 2

    def blend() -> Any:
        padded = np.pad(image, ((STEP_PX, STEP_PX), (STEP_PX, STEP_PX), (0, 0)), "reflect")
        turned = [np.ascontiguousarray(view.forward(padded[None])[0]) for view in views]
        mapped = [one(each) for each in turned]
        upright = [view.inverse(each[None])[0] for view, each in zip(views, mapped, strict=True)]
        return np.mean(upright, axis=0)[STEP_PX:-STEP_PX, STEP_PX:-STEP_PX]

    return blend


def toolbelt(image: Array, run: Run, model: Model, folder: Path) -> Blend:  # noqa: ARG001
    """pytorch-toolbelt's slicer and merger, with its own turns of a batch."""
    torch = import_torch()
    from pytorch_toolbelt.inference import tta
    from pytorch_toolbelt.inference.tiles import ImageSlicer, TileMerger

    def blend() -> Any:
        slicer = ImageSlicer(image.shape, TILE_PX, STEP_PX, weight=window_weights("spline", TILE_PX))
        merger = TileMerger(slicer.target_shape, run.num_classes, slicer.weight)
        for batch, places in batches(slicer.iter_split(image)):
            tiles = torch.from_numpy(np.stack([np.moveaxis(tile, -1, 0) for tile in batch]))
            merger.integrate_batch(tta.d4_image2mask(model, tiles) if run.views == 8 else model(tiles), places)
        return slicer.crop_to_orignal_size(np.moveaxis(merger.merge_().numpy(), 0, -1))

    return blend


def batches(tiles: Iterator[tuple[Array, Any]]) -> Iterator[tuple[list[Array], list[Any]]]:
    """As many tiles at a time as the others take."""
    found = list(zip(range(BATCH_SIZE), tiles, strict=False))
    while found:
        yield [tile for _, (tile, _) in found], [place for _, (_, place) in found]
        found = list(zip(range(BATCH_SIZE), tiles, strict=False))


def monai(image: Array, run: Run, model: Model, folder: Path) -> Blend:  # noqa: ARG001
    """MONAI's sliding-window inference with its Gaussian."""
    torch = import_torch()
    from monai.inferers import sliding_window_inference

    bands = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))[None]

    def blend() -> Any:
        mapped = sliding_window_inference(bands, TILE_PX, BATCH_SIZE, model, overlap=0.5, mode="gaussian")
        return mapped[0].permute(1, 2, 0)

    return lambda: blend().numpy()


def tiler(image: Array, run: Run, model: Model, folder: Path) -> Blend:  # noqa: ARG001
    """The overlapping tiles of tiler with padding, as without it borders are zero."""
    from tiler import Merger, Tiler

    def blend() -> Any:
        tiles = Tiler(image.shape, (TILE_PX, TILE_PX, BANDS), overlap=(STEP_PX, STEP_PX, 0), channel_dimension=2)
        shape, padding = tiles.calculate_padding()
        tiles.recalculate(data_shape=shape)
        padded = np.pad(image, padding, mode="reflect")
        out = Tiler(
            (*shape[:2], run.num_classes),
            (TILE_PX, TILE_PX, run.num_classes),
            overlap=(STEP_PX, STEP_PX, 0),
            channel_dimension=2,
        )
        merger = Merger(out, window="hann")
        for numbers, batch in tiles(padded, batch_size=BATCH_SIZE):
            merger.add_batch(numbers, BATCH_SIZE, model(batch))
        return merger.merge(extra_padding=padding, dtype=np.float32)

    return blend


def import_torch() -> Any:
    """Import PyTorch so that pytorch-toolbelt can be, also where torchvision's operators are missing."""
    import torch

    # A wheel of torchvision made for another build of PyTorch brings none; it only wants to see these declared.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        with suppress(RuntimeError):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    KEPT.append(library)
    torch.set_num_threads(1)
    return torch


KEPT: list[Any] = []
"""What goes away with the last who knows of it."""

BY_NAME: dict[str, Callable[[Array, Run, Model, Path], Blend]] = {
    "mapgrove": mapgrove,
    "floor": floor,
    "whole": whole,
    "toolbelt": toolbelt,
    "monai": monai,
    "tiler": tiler,
}
METHODS = [(name, (1,) if name in ("monai", "tiler") else (8, 1)) for name in BY_NAME]
"""Who blends, and with how many views."""

if __name__ == "__main__":
    main()

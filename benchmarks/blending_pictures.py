"""Pictures of blending for the documentation: seams and none, the windows, and what it costs.

python benchmarks/blending_pictures.py windows docs/pictures/windows.png
python benchmarks/blending_pictures.py cost docs/pictures/blending_cost.png --kept benchmarks/results/blending.jsonl
python benchmarks/blending_pictures.py seams docs/pictures/seams.png --models SET --study TOML --scene 37 --name water
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))

from smoothing.windows import WINDOWS, window_profile

INK, PAPER = "#262a2e", "#fafaf8"
LINES = ("#1f6feb", "#d1495b", "#2a9d5c", "#e09f3e", "#7b5ea7", "#6b7280")
NAMES = {"mapgrove": "Mapgrove", "floor": "floor", "whole": "whole image", "toolbelt": "pytorch-toolbelt"}


def main() -> None:
    """Draw one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["windows", "cost", "seams"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kept", type=Path, default=Path(__file__).parent / "results" / "blending.jsonl")
    parser.add_argument("--models", type=Path)
    parser.add_argument("--study", type=Path)
    parser.add_argument("--scene")
    parser.add_argument("--name", help="of the class")
    parser.add_argument("--crop", type=int, nargs=4, metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"))
    options = parser.parse_args()
    plt.rcParams.update({"figure.facecolor": PAPER, "axes.facecolor": PAPER, "text.color": INK, "font.size": 11})
    figure = {"windows": windows, "cost": cost, "seams": seams}[options.what](options)
    figure.savefig(options.out, dpi=110)


def windows(_: argparse.Namespace) -> Any:
    """Profiles of the windows, of two neighbours each, and their sum; the ramp is as wide as these overlap."""
    figure, axes = plt.subplots(1, len(WINDOWS), figsize=(13, 2.7), sharey=True, layout="constrained")
    for axis, name, colour in zip(axes, WINDOWS, LINES, strict=False):
        overlap = 0.25 if name == "cosine" else 0.5
        places = np.linspace(0.0, 2.0 - overlap, 801)
        both = [_at(name, places - start, overlap) for start in (0.0, 1.0 - overlap)]
        for each in both:
            axis.fill_between(places, each, color=colour, alpha=0.18, linewidth=0)
            axis.plot(places, each, color=colour)
        if name != "flat":
            shown = (places > 0.5) & (places < 1.5 - overlap)
            axis.plot(places[shown], (both[0] + both[1])[shown], color=INK, linestyle=":", linewidth=1.2)
        axis.set(title=name, xlabel="tiles", xticks=[0.0, 0.5, 1.0, 1.5], ylim=(0.0, 1.12))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("weight")
    return figure


def _at(name: str, places: NDArray[np.float64], overlap: float) -> NDArray[np.float64]:
    """The weights of a tile from 0 to 1; none beyond."""
    inside = (places >= 0.0) & (places <= 1.0)
    inwards = 2.0 * np.minimum(places, 1.0 - places).clip(0.0, 1.0)
    return np.where(inside, window_profile(name, inwards, overlap=overlap), 0.0)


def cost(options: argparse.Namespace) -> Any:
    """Seconds and memory by the size of the image, eight views, one class."""
    rows = [json.loads(line) for line in options.kept.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if (row["views"], row["classes"]) == (8, 1)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, colour in zip(NAMES, LINES, strict=False):
        ours = sorted((row["side_px"], row["s"], row["mb"]) for row in rows if row["method"] == name)
        if ours:
            megapixels = [side**2 / 1e6 for side, _, _ in ours]
            style = {"color": colour, "marker": "o", "label": NAMES[name], "linestyle": ":" if name == "floor" else "-"}
            left.plot(megapixels, [seconds for _, seconds, _ in ours], **style)
            right.plot(megapixels, [mb for _, _, mb in ours], **style)
    for axis, label in ((left, "seconds beside the network"), (right, "MB beside the image")):
        axis.set(xscale="log", yscale="log", xlabel="megapixels", ylabel=label)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    return figure


def seams(options: argparse.Namespace) -> Any:
    """The map of a held-out scene, tiles side by side on the left, blended on the right."""
    from pipeline.backend import use_backend
    from pipeline.models.model_set import LoadedModelSet
    from pipeline.preparation.prepared import PreparedDataset
    from search_space.prediction import PredictionSettings
    from search_space.study_file import read_study

    study = read_study(options.study)
    scene = PreparedDataset.open_for(study.data).scene(options.scene)
    use_backend()
    models = LoadedModelSet.open(options.models)
    k = models.classes.index(options.name)
    ways = {
        "tiles side by side": PredictionSettings(overlap=0.0, symmetries="none", window="flat"),
        "blended, eight views": PredictionSettings(),
    }
    top, left, height, width = options.crop or (0, 0, *scene.valid.shape)
    crop = np.s_[top : top + height, left : left + width, k]
    maps = {title: models.predict(scene, settings)[crop] for title, settings in ways.items()}
    height, width = next(iter(maps.values())).shape
    figure, axes = plt.subplots(1, 2, figsize=(12, 12 * height / width / 2 + 0.4), layout="constrained")
    for axis, (title, shown) in zip(axes, maps.items(), strict=True):
        axis.imshow(shown, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title)
        axis.set_axis_off()
    return figure


if __name__ == "__main__":
    main()

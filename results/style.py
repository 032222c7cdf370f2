"""The look of the figures: colours that colour-blind readers tell apart, on a light and on a dark page."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from results.files import write_bytes

TEXT_PT = 10.0
SMALL_PT = 8.5
TITLE_PT = 12.0


@dataclass(frozen=True)
class Theme:
    """Colours of a figure; series after Okabe and Ito, lightened for dark paper.

    Attributes:
        paper: Background.
        ink: Text that matters.
        quiet: Axes and explanations.
        faint: Grid lines and shades.
        series: Colours of what is compared, in order of use.
        bad: What failed.
    """

    paper: str
    ink: str
    quiet: str
    faint: str
    series: tuple[str, ...]
    bad: str


LIGHT = Theme(
    paper="#ffffff",
    ink="#1d2a26",
    quiet="#5d6b66",
    faint="#e6ebe8",
    series=("#00785a", "#0072b2", "#d55e00", "#a0528a", "#b07d00", "#3b9bd1"),
    bad="#d55e00",
)
DARK = Theme(
    paper="#18211e",
    ink="#e8efeb",
    quiet="#9fb0a9",
    faint="#2c3833",
    series=("#35c49c", "#6cb8ec", "#ff9052", "#dd9bc8", "#e8bd4a", "#a5d8f5"),
    bad="#ff9052",
)


def new_figure(width_in: float, height_in: float, theme: Theme) -> Figure:
    """An empty figure that touches no global state of Matplotlib."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, wspace=0.04, hspace=0.06)
    figure = Figure(figsize=(width_in, height_in), facecolor=theme.paper, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, theme: Theme, *, grid: Literal["x", "y"] | None = "y") -> None:
    """Quiet axes: no box, thin grid behind the data, readable numbers."""
    axes.set_facecolor(theme.paper)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == "bottom" and grid == "y")
        axes.spines[side].set_color(theme.quiet)
    axes.tick_params(colors=theme.quiet, labelsize=SMALL_PT, length=0, pad=5)
    if grid:
        axes.grid(axis=grid, color=theme.faint, linewidth=1.0)


def plain_text(theme: Theme, size_pt: float = SMALL_PT, *, strong: bool = False) -> dict[str, Any]:
    """Properties of a text that is shown as it is: a `$` in a class name starts no formula."""
    return {"color": theme.ink if strong else theme.quiet, "fontsize": size_pt, "parse_math": False}


def title(axes: Axes, text: str, theme: Theme) -> None:
    """What the figure says, above its left edge."""
    axes.set_title(text, loc="left", pad=14, fontweight="bold", **plain_text(theme, TITLE_PT, strong=True))


def png_bytes(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; that is no reason to fail or to chat.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()


def save_png(figure: Figure, path: Path, dpi: int = 160) -> Path:
    """Write the figure, complete or not at all.

    Returns:
        `path`.

    Raises:
        PlaceError: `path` is a folder, or a folder on the way to it is a file.
    """
    return write_bytes(path, png_bytes(figure, dpi))

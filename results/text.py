"""Tables as aligned text for a terminal, and as plain data for `--json`."""

import shutil
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.phrases import NOTHING, count_text, duration_text, is_missing, jaccard_text, safe_line

GAP = "  "
MIN_VALUE_CELLS = 16


@dataclass(frozen=True)
class _Look:
    """How a column is headed, worded and aligned, and, for free text, to how many cells it may shrink."""

    title: str
    text: Callable[[Any], str] = str
    right: bool = False
    min_cells: int = 0


_LOOKS: Mapping[str, _Look] = {
    "rank": _Look("#", count_text, right=True),
    "num_ended": _Look("ended", count_text, right=True),
    "trial": _Look("trial", count_text, right=True),
    "class_name": _Look("class"),
    "num_done": _Look("done", count_text, right=True),
    "num_running": _Look("running", count_text, right=True),
    "num_waiting": _Look("waiting", count_text, right=True),
    "num_failed": _Look("no model", count_text, right=True),
    "mean_jaccard": _Look("Jaccard", jaccard_text, right=True),
    "num_parameters": _Look("parameters", count_text, right=True),
    "train_s": _Look("time", duration_text, right=True),
    "architecture": _Look("architecture", min_cells=28),
    "note": _Look("note", min_cells=24),
    "value": _Look("value", min_cells=MIN_VALUE_CELLS),
    "origin": _Look("from"),
    "num_models": _Look("models", count_text, right=True),
    "spread": _Look("spread", lambda value: f"± {value:.3f}", right=True),
    "threshold": _Look("threshold", lambda value: f"{value:.3g}", right=True),
    "num_right_px": _Look("right, px", count_text, right=True),
    "num_too_much_px": _Look("too much, px", count_text, right=True),
    "num_missed_px": _Look("missed, px", count_text, right=True),
    "f1": _Look("F1", jaccard_text, right=True),
    "precision": _Look("precision", jaccard_text, right=True),
    "recall": _Look("recall", jaccard_text, right=True),
    "num_right": _Look("right", count_text, right=True),
    "num_too_many": _Look("too many", count_text, right=True),
    "num_missed": _Look("missed", count_text, right=True),
    "current_trial": _Look("trial", count_text, right=True),
    "epoch": _Look("epoch", count_text, right=True),
    "training_loss": _Look("loss", lambda value: f"{value:.4f}", right=True),
    "learning_rate": _Look("rate", lambda value: f"{value:.2g}", right=True),
    "patches_per_s": _Look("patches/s", lambda value: f"{value:.3g}", right=True),
    "data_wait_share": _Look("waits", lambda value: f"{value:.0%}", right=True),
    "size": _Look("size", right=True),
    "channels": _Look("channels", count_text, right=True),
    "convolutions": _Look("convolutions", count_text, right=True),
    "weights": _Look("weights", count_text, right=True),
    "gflop": _Look("GFLOP", lambda value: f"{value:.3f}", right=True),
    "elsewhere": _Look("works on"),
    "memory_mb": _Look("memory", lambda value: f"{count_text(value)} MB", right=True),
    "last_seen_s": _Look("last seen", lambda seconds: f"{duration_text(seconds)} ago", right=True),
}

_GROUPS = {"jaccard": "jaccard", "loss": "loss_parts"}
"""Kinds of columns of which there are several, such as `jaccard[road]`, to what their mapping is called as data."""

_LEAVE_OUT_FIRST = ("num_parameters", "train_s", "loss[", "jaccard[", "architecture", "learning_rate", "epoch", "host")
"""What a narrow terminal does without, in this order."""


def column_title(column: str) -> str:
    """How a column is headed: a class's Jaccard by the class's name, a fold by its number, a loss by its name."""
    if column.startswith(("jaccard[", "fold[", "loss[")):
        return column[column.index("[") + 1 : -1]
    return _look(column).title


def cell_text(column: str, value: object) -> str:
    """A cell as it is shown; a dash where there is nothing."""
    return NOTHING if is_missing(value) else _look(column).text(value)


def is_number_column(column: str) -> bool:
    """Whether the cells of a column are aligned to the right."""
    return _look(column).right


def is_free_text(column: str) -> bool:
    """Whether the cells of a column hold text of any length."""
    return _look(column).min_cells > 0


def _look(column: str) -> _Look:
    if column.startswith("jaccard["):
        return _Look(column, jaccard_text, right=True)
    if column.startswith("fold["):
        return _Look(column, right=True)
    if column.startswith("loss["):
        return _Look(column, lambda value: f"{value:.4f}", right=True)
    return _LOOKS.get(column, _Look(column.replace("_", " ")))


def terminal_cells() -> int:
    """Width of the terminal in character cells; 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def render_table(frame: pd.DataFrame, cells: int | None = None) -> str:
    """Lay out a table with aligned columns.

    Columns of free text shrink to the width; where that is not enough, less important columns are left out and a
    last line says so.

    Args:
        frame: A table of `results.tables` or `results.status`.
        cells: Width in character cells; the terminal's where None.

    Returns:
        Lines without a trailing line break; one line that says so where the table has no rows.
    """
    if frame.empty:
        return "nothing yet"
    room = terminal_cells() if cells is None else cells
    columns = {name: [safe_line(cell_text(name, value)) for value in frame[name]] for name in frame.columns}
    titles = {name: safe_line(column_title(name)) for name in columns}
    left_out: list[str] = []
    while (widths := _fit(columns, titles, room)) is None:
        name = _least_important(columns)
        if name is None:
            widths = _shrunk(_natural_widths(columns, titles), room, least=1)
            break
        left_out.append(titles[name])
        del columns[name]
    lines = [_line(titles, widths), GAP.join("─" * widths[name] for name in columns)]
    lines += [_line({name: column[row] for name, column in columns.items()}, widths) for row in range(len(frame))]
    if left_out:
        lines.append(f"(left out for want of width: {', '.join(left_out)})")
    return "\n".join(lines)


def _natural_widths(columns: Mapping[str, list[str]], titles: Mapping[str, str]) -> dict[str, int]:
    return {name: max(map(text_cells, [titles[name], *column])) for name, column in columns.items()}


def _fit(columns: Mapping[str, list[str]], titles: Mapping[str, str], room: int) -> dict[str, int] | None:
    """Widths of the columns that fit the room, None where even the shrunk columns do not."""
    widths = _shrunk(_natural_widths(columns, titles), room)
    return widths if _line_cells(widths) <= room else None


def _line_cells(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _shrunk(widths: Mapping[str, int], room: int, least: int | None = None) -> dict[str, int]:
    """Narrow the columns of free text, the widest first, to their own least width or to `least`."""
    shrunk = dict(widths)
    for name in sorted(filter(is_free_text, widths), key=lambda name: -widths[name]):
        excess = max(0, _line_cells(shrunk) - room)
        floor = _look(name).min_cells if least is None else least
        shrunk[name] = max(shrunk[name] - excess, min(floor, shrunk[name]))
    return shrunk


def _least_important(columns: Mapping[str, list[str]]) -> str | None:
    for start in _LEAVE_OUT_FIRST:
        for name in reversed(list(columns)):
            if name.startswith(start) and len(columns) > 1:
                return name
    return None


def _line(texts: Mapping[str, str], widths: Mapping[str, int]) -> str:
    parts = (_padded(texts[name], cells, right=_look(name).right) for name, cells in widths.items())
    return GAP.join(parts).rstrip()


def _padded(text: str, cells: int, *, right: bool) -> str:
    cut = _cut(text, cells)
    space = " " * (cells - text_cells(cut))
    return space + cut if right else cut + space


def _cut(text: str, cells: int) -> str:
    if text_cells(text) <= cells:
        return text
    while text and text_cells(text) > cells - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def text_cells(text: str) -> int:
    """Character cells that a text takes on a terminal: East Asian wide characters take two."""
    return sum(_character_cells(character) for character in text)


def _character_cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def render_details(frame: pd.DataFrame, cells: int | None = None) -> str:
    """Lay out a table of `group`, `name` and `value` under one heading per group."""
    room = terminal_cells() if cells is None else cells
    names = max((text_cells(safe_line(name)) for name in frame["name"]), default=0)
    blocks = []
    for group, rows in frame.groupby("group", sort=False):
        heading = safe_line(str(group))
        lines = [heading[:1].upper() + heading[1:]]
        for name, value in zip(rows["name"], rows["value"], strict=True):
            text = _cut(safe_line(str(value)), max(MIN_VALUE_CELLS, room - names - 2 * len(GAP)))
            lines.append(f"{GAP}{_padded(safe_line(name), names, right=False)}{GAP}{text}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as JSON data: one mapping per row.

    NaN becomes null, whole numbers stay whole, the Jaccard of all classes goes into one mapping `jaccard`, and what
    losses add into `loss_parts`.
    """
    rows = []
    for record in frame.astype(object).to_dict(orient="records"):
        row: dict[str, Any] = {}
        for name, value in record.items():
            group = _GROUPS.get(str(name).partition("[")[0])
            if group is not None and "[" in str(name):
                row.setdefault(group, {})[column_title(str(name))] = _plain(str(name), value)
            else:
                row[str(name)] = _plain(str(name), value)
        rows.append(row)
    return rows


def _plain(column: str, value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if is_missing(value):
        return None
    return int(value) if column.startswith("num_") or column in ("rank", "current_trial") else value

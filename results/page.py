"""The parts of the report's HTML page. Every text that comes from outside goes through `escape`."""

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from results.style import DARK, LIGHT, Theme, png_bytes
from results.text import cell_text, column_title, is_free_text, is_number_column
from search_space.errors import MapgroveError

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--card:#f5f8f6;--ink:#1d2a26;--quiet:#5d6b66;--line:#dfe6e2;--accent:#00785a;
--warm:#9a4a00;--warm-paper:#fff4e8}
@media (prefers-color-scheme:dark){:root{--paper:#18211e;--card:#202b27;--ink:#e8efeb;--quiet:#9fb0a9;--line:#33413b;
--accent:#35c49c;--warm:#ffb27d;--warm-paper:#35281d}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:62rem;margin:0 auto;padding:3rem 1.25rem 5rem}
.brand{color:var(--accent);font-weight:650;letter-spacing:.02em;margin:0}
h1{font-size:clamp(1.9rem,5vw,2.7rem);line-height:1.12;letter-spacing:-.02em;margin:.2rem 0 .7rem;
overflow-wrap:anywhere}
h2{font-size:1.35rem;letter-spacing:-.01em;line-height:1.25;margin:3.4rem 0 .5rem}
h3{font-size:1rem;margin:1.6rem 0 .4rem}
p{max-width:44rem;margin:.4rem 0 1rem}.lead{font-size:1.15rem;line-height:1.5}.quiet,figcaption{color:var(--quiet)}
.quiet,figcaption,td,th{font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));gap:.75rem;margin:1.6rem 0;padding:0}
.tile{background:var(--card);border-radius:.6rem;padding:.85rem 1rem}
.tile b{display:block;font-size:1.5rem;line-height:1.25;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.tile span{color:var(--quiet);font-size:.85rem;overflow-wrap:anywhere}
.wide{overflow-x:auto;margin:.6rem 0 1rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:600;color:var(--quiet);vertical-align:bottom}
th,td{padding:.42rem .8rem .42rem 0;border-bottom:1px solid var(--line)}td{vertical-align:top}
th:last-child,td:last-child{padding-right:0}
.number{text-align:right;white-space:nowrap}.best td{font-weight:650}.text{min-width:16rem}
.facts{width:auto;min-width:min(100%,30rem)}.facts th{font-weight:400;white-space:nowrap;vertical-align:top}
figure{margin:1rem 0 1.6rem}.scroll{overflow-x:auto}.scroll img{min-width:36rem}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:0 2.5rem}
.columns .facts{width:100%;min-width:0}
figure img{display:block;max-width:100%;height:auto;border-radius:.4rem}
figcaption{margin-top:.5rem;max-width:44rem;overflow-wrap:anywhere}
.pictures{display:flex;flex-wrap:wrap;justify-content:center;gap:1.75rem 1.25rem;width:calc(100vw - 2.5rem);
position:relative;left:50%;transform:translateX(-50%)}
.pictures figure{margin:0;max-width:100%}.pictures img{min-width:var(--readable)}
.next{background:var(--card);border-left:.25rem solid var(--accent);border-radius:.3rem;
padding:.8rem 1.1rem;margin:1rem 0}
.next p{margin:0 0 .4rem}.next pre{margin:0;padding:0;background:none}
.warning{color:var(--warm);background:var(--warm-paper);border-radius:.3rem;padding:.7rem 1.1rem}
pre,code{font:.86rem/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--card);border-radius:.6rem;padding:1rem 1.1rem;overflow-x:auto;margin:.6rem 0}
details{border-top:1px solid var(--line);padding:.7rem 0}summary{cursor:pointer;font-weight:600}
footer{margin-top:4rem;color:var(--quiet);font-size:.85rem}
@media print{main{max-width:none;padding:0}.pictures{width:100%}.pictures img{min-width:0}
h2{break-after:avoid}figure,tr{break-inside:avoid}}
"""

READABLE_SHARE = 0.6
"""A picture is not squeezed below this share of its width: lettering in it would be too small to read."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class PictureError(MapgroveError):
    """A picture for the report is missing or no PNG file."""


def document(title: str, body: Iterable[str]) -> str:
    """A complete page that needs no other file."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """The heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def subheading(text: str) -> str:
    """The heading of a part of a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; `kind` is one of the style's classes."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def study_title(text: str) -> str:
    """The heading of the page."""
    return f"<h1>{escape(text)}</h1>"


def columns(blocks: Iterable[str]) -> str:
    """Blocks of HTML side by side where there is room."""
    return f'<div class="columns">{"".join(f"<div>{block}</div>" for block in blocks)}</div>'


def tiles(facts: Sequence[tuple[str, str]]) -> str:
    """Large values, each with what it is."""
    inner = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in facts
    )
    return f'<div class="tiles">{inner}</div>'


def table(frame: pd.DataFrame, *, first_is_best: bool = False) -> str:
    """A table of `results.tables`, with the headings and wordings of the terminal."""
    kinds = {name: _class(_kind(str(name))) for name in frame.columns}
    head = "".join(f'<th scope="col"{kinds[name]}>{escape(column_title(name))}</th>' for name in frame.columns)
    rows = []
    for place, record in enumerate(frame.astype(object).to_dict(orient="records")):
        cells = "".join(f"<td{kinds[str(k)]}>{escape(cell_text(str(k), value))}</td>" for k, value in record.items())
        rows.append(f"<tr{_class('best' if first_is_best and place == 0 else '')}>{cells}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _kind(column: str) -> str:
    if is_number_column(column):
        return "number"
    return "text" if is_free_text(column) else ""


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Two columns: names and what they stand for."""
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in pairs)
    return f'<div class="wide"><table class="facts"><tbody>{rows}</tbody></table></div>'


def chart(draw: Callable[[Theme], Figure | None], words: str, caption: str = "") -> str:
    """A figure, drawn for light and for dark pages; empty where there is nothing to draw.

    Args:
        draw: Makes the figure with the colours given.
        words: What the figure shows, for readers who cannot see it.
        caption: Text below it.
    """
    light, dark = draw(LIGHT), draw(DARK)
    if light is None or dark is None:
        return ""
    return (
        '<figure><div class="scroll"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{_data_url(png_bytes(dark))}">'
        f'<img src="{_data_url(png_bytes(light))}" alt="{escape(words)}"></picture></div>{_caption(caption)}</figure>'
    )


def picture(path: Path, caption: str) -> str:
    """A PNG file, embedded, at its own size where the page is wide enough; on a narrow one it scrolls sideways.

    Raises:
        PictureError: The file is missing or is no PNG file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PictureError(
            f"a picture for the report cannot be read ({error.strerror})", received=str(path), remedy="Make it again"
        ) from error
    width_px, height_px = _png_size(content, path)
    return (
        f'<figure style="--readable:{round(READABLE_SHARE * width_px)}px"><div class="scroll">'
        f'<img src="{_data_url(content)}" width="{width_px}" height="{height_px}" alt="{escape(caption)}"></div>'
        f"{_caption(caption)}</figure>"
    )


def pictures(items: Iterable[tuple[Path, str]]) -> str:
    """PNG files with their captions, which may use the full width of the window; see `picture`."""
    return f'<div class="pictures">{"".join(picture(path, caption) for path, caption in items)}</div>'


def _png_size(content: bytes, path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the chunk that every PNG file begins with."""
    if not content.startswith(PNG_SIGNATURE) or content[12:16] != b"IHDR" or len(content) < 24:
        raise PictureError("a picture for the report is no PNG file", received=str(path), remedy="Make it again")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def _caption(text: str) -> str:
    return f"<figcaption>{escape(text)}</figcaption>" if text else ""


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def commands(lines: Sequence[str]) -> str:
    """Lines for a terminal."""
    return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"


def next_step(text: str, lines: Sequence[str]) -> str:
    """What to do next, with its commands."""
    return f'<div class="next"><p>{escape(text)}</p>{commands(lines)}</div>'


def collapsed(summary: str, inner: str) -> str:
    """Something long that opens on request; `inner` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>"

"""From a matplotlib figure to SVG that lives inside a page: its colours, its fonts, nothing fetched, the same bytes.

Figures are drawn in stand-in colours, one for each role; in the page each becomes a CSS variable, so one drawing
serves light and dark.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from smidgen.runs import atomic_write

SERIES = tuple(f"series-{i}" for i in range(1, 9))
LIGHT = {
    "paper": "#fcfbf8",
    "ink": "#1f1d1a",
    "muted": "#6a645b",
    "rule": "#dcd7cd",
    "accent": "#0b5e63",
    "band": "#0b5e63",
    "fail": "#9a3324",
    "series-1": "#2b6ca3",
    "series-2": "#b0741a",
    "series-3": "#a8477a",
    "series-4": "#4f7f3a",
    "series-5": "#7458a6",
    "series-6": "#b4533a",
    "series-7": "#3f8a8c",
    "series-8": "#76706a",
}
# Any distinct colours do, as long as none is one that matplotlib uses by itself.
STAND_INS: Mapping[str, str] = {role: f"#0a00{i:02x}" for i, role in enumerate(LIGHT, start=1)}

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    # Selector names and the like may hold a dollar sign; none of our texts is a formula.
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.unicode_minus": True,
    "path.simplify": False,
}


@contextmanager
def drawing(name: str, *, outlines: bool = False) -> Iterator[None]:
    """Settings under which every figure is drawn and saved; ids in the file depend on `name` alone.

    Args:
        name: Distinct within a page.
        outlines: Save letters as outlines, which look the same wherever they are shown, instead of as text.
    """
    with (
        mpl.rc_context({**_RC, "svg.hashsalt": name, "svg.fonttype": "path" if outlines else "none"}),
        warnings.catch_warnings(),
    ):
        # A name in a script that the font lacks is drawn as boxes in the PNG, and by the page's own fonts in SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """A figure drawn in `STAND_INS` as an SVG element for a page.

    Args:
        figure: Drawn within `drawing(name)`.
        name: Its class, and the prefix of every id in it; distinct within a page.
        label: What a reader who cannot see it is told.
    """
    text = print_svg(figure)
    found = re.search(r'<svg[^>]*?viewBox="([^"]+)"[^>]*>(.*)</svg>', text, re.DOTALL)
    assert found is not None, "matplotlib writes one svg element with a viewBox"
    view_box, body = found.groups()
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\sstyle="([^"]*)"', _as_attributes, body)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    for role, color in STAND_INS.items():
        body = body.replace(color, f"var(--{role})")
    body = re.sub(r"\n\s*", "\n", body)
    head = f'<svg class="plot {name}" viewBox="{view_box}" role="img" aria-label="{html.escape(label, quote=True)}">'
    return f"{head}{body}</svg>"


def print_svg(figure: Figure) -> str:
    """A figure as an SVG document, its background left open, the same text for the same drawing."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # Its comments repeat the figure's texts, which may hold what XML does not allow.
    return re.sub(r"<!--.*?-->", "", buffer.getvalue(), flags=re.DOTALL)


def write_png(figure: Figure, path: Path | str) -> Path:
    """Save a figure as PNG at twice its size, whole or not at all, the same bytes for the same drawing."""
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=144, metadata={"Software": None})
    return Path(path)


def _as_attributes(style: re.Match[str]) -> str:
    """A style attribute as presentation attributes, which a content security policy need not allow."""
    attributes = []
    for declaration in html.unescape(style.group(1)).split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":
            # The page's own font; of `12px 'DejaVu Sans', …` and `bold 12px …` only size and weight are kept.
            size = re.search(r"([\d.]+)px", value)
            attributes.append(f'font-size="{size.group(1)}"' if size else "")
            attributes.append('font-weight="600"' if re.search(r"\b(bold|[67]00)\b", value) else "")
        elif key in _PRESENTATION:
            attributes.append(f'{key}="{html.escape(value, quote=True)}"')
    return "".join(f" {attribute}" for attribute in attributes if attribute)


_PRESENTATION = {
    "fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray", "stroke-dashoffset",
    "stroke-linecap", "stroke-linejoin", "stroke-miterlimit", "opacity", "text-anchor", "font-size", "font-weight",
}  # fmt: skip

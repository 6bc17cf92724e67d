"""Templates to pages: every text is escaped, and what HTML cannot hold is shown as a sign of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup
from starlette.responses import HTMLResponse

from smidgen.report.page import printable
from smidgen.report.verdict import number
from smidgen.web.catalogue import Spread
from smidgen.web.holding import Holding

_MOST_SHOWN = 20_000  # characters of one text: more would only make the browser slow

# Named here one by one: a request can name nothing else.
STATIC: Mapping[str, tuple[bytes, str]] = {
    name: (files(package).joinpath(path).read_bytes(), kind)
    for name, package, path, kind in (
        ("look.css", "smidgen.report", "look.css", "text/css"),
        ("pages.css", "smidgen.web", "static/pages.css", "text/css"),
        ("pages.js", "smidgen.web", "static/pages.js", "text/javascript"),
        ("htmx.min.js", "smidgen.web", "static/htmx.min.js", "text/javascript"),
    )
}


class Pages:
    """Makes the pages of one holding."""

    def __init__(self, holding: Holding) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("smidgen.web"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            count=lambda value: f"{value:,}", figure=figure, words=words, histogram=histogram, score=number, cut=cut
        )
        # The name of a comparison's folder may well be made of the models' names.
        blind = holding.votes is not None
        self._common = {
            "run": "" if blind else holding.name,
            "rooms": [
                (path, title)
                for path, title, there in (
                    ("/frontier", "Frontier", holding.curve),
                    ("/pairs", "Pairs", holding.pairs),
                    ("/compare", "Compare", holding.votes),
                )
                if there is not None
            ],
        }

    def show(self, template: str, *, status: int = 200, **view: Any) -> HTMLResponse:
        """A page from a template and what it shows."""
        page = self._environment.get_template(f"{template}.html.j2").render(self._common | view)
        return HTMLResponse(printable(page).encode("utf-8", "replace"), status)


def figure(value: float | None) -> str:
    """A number as people read it: whole ones whole, others to four digits; a true minus sign.

    >>> figure(-1234.0), figure(0.123456), figure(None)
    ('−1,234', '0.1235', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"
    return text.replace("-", "−")


def words(name: str) -> str:
    """A feature's or label's name for people.

    >>> words("prompt_harmfulness")
    'prompt harmfulness'
    """
    return name.replace("_", " ")


def cut(text: str) -> str:
    """A text as far as a page shows it."""
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]} … ({len(text) - _MOST_SHOWN:,} characters more)"


def histogram(spread: Spread, at: float | None = None) -> Markup:
    """How a feature is distributed, as a small drawing; with a mark where a pair's own value is."""
    width, height = 120, 22
    most = max(spread.counts, default=0) or 1
    step = width / max(1, len(spread.counts))
    bars = Markup("").join(
        # A square root keeps the rare visible beside the frequent.
        Markup('<rect x="{}" y="{}" width="{}" height="{}"/>').format(
            f"{i * step:.2f}", f"{height - bar:.2f}", f"{step - 0.6:.2f}", f"{bar:.2f}"
        )
        for i, n in enumerate(spread.counts)
        if (bar := height * math.sqrt(n / most)) > 0
    )
    mark = Markup("")
    if at is not None and math.isfinite(at):
        share = (at - spread.low) / (spread.high - spread.low) if spread.high > spread.low else 0.5
        x = f"{width * min(1.0, max(0.0, share)):.2f}"
        mark = Markup('<line x1="{}" x2="{}" y1="-2" y2="{}"/>').format(x, x, height + 2)
    return Markup(
        '<svg class="spread" viewBox="0 -2 {} {}" preserveAspectRatio="none" aria-hidden="true">{}{}</svg>'
    ).format(width, height + 4, bars, mark)

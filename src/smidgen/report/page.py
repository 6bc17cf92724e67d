"""A page that opens offline: the shared style, its hash as the only thing allowed, every text escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup


def render_page(template: str, filters: Mapping[str, Callable[..., Any]], *, script: str = "", **shown: Any) -> str:
    """A template of this room as text.

    Args:
        template: Name of its file; it is given `style` and `script`, with `style_hash` and `script_hash` for its
            content security policy.
        filters: Of its own, by name.
        script: Name of the script's file, if it has one.
        shown: Everything else that it shows, by name.
    """
    style, code = _file("look.css") + _file("report.css"), _file(script) if script else ""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters)
    page = environment.from_string(_file(template)).render(
        style=Markup(style), script=Markup(code), style_hash=_hash(style), script_hash=_hash(code), **shown
    )
    return printable(page.lstrip())


def _file(name: str) -> str:
    return files("smidgen.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\ud800-\udfff]")


def printable(page: str) -> str:
    """What HTML cannot hold (control characters, lone surrogates) or what would turn text round, as a sign of it."""
    return _CONTROLS.sub(lambda found: chr(0x2400 + ord(found[0])) if ord(found[0]) < 0x20 else "\ufffd", page)

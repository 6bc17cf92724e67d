"""Which fonts a PDF takes, and which characters none of them has.

Latin, Greek, Cyrillic, Hebrew and formulas come from fonts inside the typesetter, the same everywhere. Other scripts
come from the fonts of the machine; without them a character is drawn as nothing, so it is found beforehand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable

import typst

TEXT_FONT = "Libertinus Serif"
# In this order, as far as they are there; what they lack the typesetter looks for in all others.
_BESIDE = (
    "Noto Serif CJK SC", "Noto Sans CJK SC", "Noto Serif CJK JP", "Noto Sans CJK JP", "Source Han Serif SC",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Noto Naskh Arabic", "Noto Sans Arabic",
    "Amiri", "Noto Serif Hebrew", "Noto Sans Hebrew", "Noto Serif Devanagari", "Noto Sans Devanagari",
    "Noto Color Emoji", "Noto Emoji", "Segoe UI Emoji", "Apple Color Emoji",
)  # fmt: skip
# No character, in any version of Unicode: whatever is drawn for it is what is drawn for a missing one.
_NO_CHARACTER = "\U0010fffe"
_PROBE = b"""
#let given = json(bytes(sys.inputs.given))
#set text(font: given.fonts)
#for cluster in given.clusters { page(width: 1cm, height: 1cm, margin: 0pt, cluster) }
"""
_SHAPE = re.compile(rb'<use xlink:href="#(\w+)"')


def font_families(*, system_fonts: bool = True) -> list[str]:
    """The fonts to set text in, the text's own first; those that are not there are left out."""
    there = set(typst.Fonts(include_system_fonts=system_fonts).families())
    return [TEXT_FONT, *(family for family in _BESIDE if family in there)]


def undrawn(clusters: Iterable[str], families: Collection[str], root: str, *, system_fonts: bool = True) -> set[str]:
    """Those of `clusters`, characters with their marks, that no font draws whole.

    Each is drawn on a page of its own; where something looks like a character that cannot be, it is missing.

    Args:
        families: As `font_families` says.
        root: A folder that holds nothing, the only one that the typesetter may read.
    """
    asked = sorted({cluster for cluster in clusters if not cluster.isascii() and not cluster.isspace()})
    given = json.dumps({"fonts": list(families), "clusters": [_NO_CHARACTER, _NO_CHARACTER, *asked]})
    compiler = typst.Compiler(_PROBE, root=root, ignore_system_fonts=not system_fonts, sys_inputs={"given": given})
    pages = compiler.compile(format="svg")
    assert isinstance(pages, list), "at least two pages are asked for"
    (missing,) = _SHAPE.findall(pages[0])
    return {cluster for cluster, page in zip(asked, pages[2:], strict=True) if missing in _SHAPE.findall(page)}

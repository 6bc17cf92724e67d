"""Docstrings as Markdown: their examples stand in blocks of code. Loaded by the site's builder; see mkdocs.yml."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Fences the examples of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = "\n".join(fenced_examples(obj.docstring.value.splitlines()))


def fenced_examples(lines: list[str]) -> Iterator[str]:
    """The lines of a docstring, those from `>>>` to the next empty line as one block.

    >>> print(*fenced_examples(["Add.", "", ">>> 1 + 1", "2", "", "End."]), sep="|")
    Add.||```pycon|>>> 1 + 1|2|```||End.
    """
    rest = iter(lines)
    for line in rest:
        if not line.startswith(">>>"):
            yield line
            continue
        example = [line, *itertools.takewhile(str.strip, rest)]
        yield from ("```pycon", *example, "```", "")

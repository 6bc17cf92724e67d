"""Plain text as Markdown that says the same: cells, tables, headings."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from markdown.extensions.toc import slugify

_CODE = re.compile(r"(`[^`]*`|(?<![\w-])--[a-z][\w-]*(?:\.[\w-]+)*)")


def escaped(text: str) -> str:
    """Plain text on one line; flags, and what stands between backticks, are code.

    >>> escaped("a_b < c|d, `x_y`, see --dry-run.")
    'a\\\\_b &lt; c\\\\|d, `x_y`, see `--dry-run`.'
    """
    plain, *rest = _CODE.split(" ".join(text.split()))
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return _escaped(plain) + "".join(code(marked.strip("`")) + _escaped(after) for marked, after in pairs)


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\*_\[\]|`#])", r"\\\1", text)


def code(text: str) -> str:
    """Text as code inside a line or cell; empty where there is none.

    >>> code("a|b"), code("")
    ('`a\\\\|b`', '')
    """
    if not text:
        return ""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", r"\|")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    <BLANKLINE>
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(_row(line, " " if number != 1 else "") for number, line in enumerate(lines))


def _row(cells: Sequence[str], space: str) -> str:
    return f"|{space}" + f"{space}|{space}".join(cells) + f"{space}|\n"


def flag_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose rows become paragraphs where the screen is narrow."""
    return f'<div class="rows" markdown="1">\n\n{table(columns, rows)}\n</div>\n'


def page(title: str, *blocks: str) -> str:
    """A page: its title, then blocks with an empty line between them."""
    return "\n\n".join([f"# {title}", *(block.strip("\n") for block in blocks if block.strip())]) + "\n"


def anchor(title: str) -> str:
    """The fragment that leads to a heading.

    >>> anchor("smidgen train ipo_averaged")
    'smidgen-train-ipo_averaged'
    """
    return slugify(title, "-")


def fenced(text: str, language: str = "text") -> str:
    """Text as it stands, in a block that nothing in it can end."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def opening_comment(text: str) -> str:
    """What a file says of itself in the lines with `#` at its top, as one paragraph.

    >>> opening_comment("# One.\\n# Two.\\nthree")
    'One. Two.'
    """
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines)

r"""LaTeX from text that others wrote, and from tables: all of the text is there, and none of it acts.

What pdfLaTeX has no letter for stands as its number, [U+1F600]; an engine whose font has it shows it.
"""

from __future__ import annotations

import re
import unicodedata

from smidgen.explain.base import Cell, Table
from smidgen.explain.wording import cell
from smidgen.report.pdf_text import breakable, printable

_COMMANDS = {
    **{c: f"\\{c}" for c in "{}%#$&_"},
    # In braces: a row of a table that starts with one of these would be taken for an argument of the line break.
    **{c: f"{{{c}}}" for c in "[]*"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "„": r"\quotedblbase{}",
    "‹": r"\guilsinglleft{}",
    "›": r"\guilsinglright{}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "·": r"\textperiodcentered{}",
    "•": r"\textbullet{}",
    "°": r"\textdegree{}",
    "½": r"\textonehalf{}",
    "€": r"\texteuro{}",
    "\u00a0": "~",
    "\u200b": r"\allowbreak{}",
}
# fmt: off
_MATHS = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "η": "eta", "θ": "theta", "λ": "lambda",
    "μ": "mu", "π": "pi", "σ": "sigma", "Δ": "Delta", "Σ": "Sigma", "∂": "partial", "√": "surd", "≻": "succ",
    "×": "times", "∞": "infty", "≈": "approx", "≥": "geq", "≤": "leq", "≠": "neq",
    "→": "rightarrow", "←": "leftarrow", "↑": "uparrow", "↓": "downarrow",
}
# fmt: on
_COMMANDS |= {character: f"$\\{name}$" for character, name in _MATHS.items()} | {"−": "$-$"}
# Letters of Latin-1 and Latin Extended-A that the encoding of fonts lacks.
_LACKING = frozenset("ĦħĿŀĸŉŦŧſ")
# Two of these in a row would become another sign.
_LIGATURE = re.compile(r"([-',])(?=\1)")
_MOST_INDENT = 12
_LINE = 92
_WIDE = 16
# Rows of a table that no page break may part.
_TOGETHER = 24

PREAMBLE = r"""\documentclass{article}
\usepackage{iftex}
\ifPDFTeX
  \usepackage[utf8]{inputenc}
  \usepackage[T1]{fontenc}
  \usepackage{lmodern}
  \usepackage{textcomp}
  \newcommand{\numbered}[1]{\allowbreak{\footnotesize\texttt{[U+#1]}}\allowbreak}
\else
  \newcommand{\numbered}[1]{\iffontchar\font"#1 \char"#1 \else\allowbreak{\footnotesize\texttt{[U+#1]}}\allowbreak\fi}
\fi
\IfFileExists{neurips_2024.sty}{\usepackage[preprint,nonatbib]{neurips_2024}}{\usepackage[margin=27mm]{geometry}}
\usepackage{array,booktabs,longtable}
\setlength{\LTleft}{0pt}
\setlength{\LTpre}{2pt}
\setlength{\LTpost}{6pt}
\setlength{\parindent}{0pt}
\setlength{\parskip}{5pt plus 1pt}
\setlength{\emergencystretch}{3em}
\newenvironment{written}{\begin{list}{}{\setlength{\leftmargin}{1.5em}\setlength{\topsep}{0pt}
  \setlength{\partopsep}{0pt}\setlength{\parsep}{0pt}}\item\small\raggedright}{\end{list}}
"""


def text(value: str) -> str:
    r"""A text on one line, as LaTeX that typesets its characters.

    >>> text(r"\input{x} 50% #1")
    '\\textbackslash{}input\\{x\\} 50\\% \\#1'
    """
    shown = breakable(unicodedata.normalize("NFC", printable(value)).replace("\n", " "))
    return "".join(map(_character, _LIGATURE.sub("\\1\u2060", shown)))


def _character(character: str) -> str:
    if character in _COMMANDS:
        return _COMMANDS[character]
    if character == "\u2060":
        return "{}"
    if " " <= character <= "~" or ("\u00a1" <= character <= "\u017f" and character not in _LACKING):
        return character
    return f"\\numbered{{{ord(character):04X}}}"


def written(value: str) -> str:
    """A text of several lines as a block that keeps them; an empty one is said to be empty."""
    lines = printable(value).strip("\n").split("\n")
    if not any(line.strip() for line in lines):
        return "\\begin{written}\\emph{(empty)}\\end{written}"
    # A line of spaces alone would be no line at all.
    shown = [_indented(line) if line.strip() else r"\strut" for line in lines]
    return "\n".join([r"\begin{written}", *(f"{line}\\par" for line in shown), r"\end{written}"])


def _indented(line: str) -> str:
    inner = line.lstrip(" ")
    depth = len(line) - len(inner)
    # One space is how models begin a word.
    return ("~" * min(depth, _MOST_INDENT) if depth > 1 else "") + text(inner)


def table(found: Table) -> str:
    """A table under its title: numbers to the right; long texts folded so that it fits the line."""
    cells = [[_shown(value, found.digits) for value in row] for row in found.rows]
    columns = range(len(found.columns))
    is_number = [all(not isinstance(row[i], str) for row in found.rows) for i in columns]
    widths = [max(len(row[i]) for row in (found.columns, *cells)) for i in columns]
    kinds = _kinds(widths, is_number)
    rows = [" & ".join(map(text, row)) + r" \\" for row in cells]
    head = " & ".join(map(text, found.columns)) + r" \\"
    note = [rf"{{\small {text(found.note)}\par}}"] if found.note else []
    if len(rows) <= _TOGETHER:
        opening, parts = "tabular", [r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
    else:
        opening, parts = "longtable", [r"\toprule", head, r"\midrule\endhead", r"\bottomrule\endlastfoot", *rows]
    return "\n".join([
        heading(text(found.title)),
        rf"{{\small\begin{{{opening}}}{{@{{}}{''.join(kinds)}@{{}}}}", *parts, rf"\end{{{opening}}}\par}}",
        *note,
    ])  # fmt: skip


def heading(latex: str) -> str:
    """LaTeX as a small heading that stays with what follows."""
    return rf"\par\smallskip\textbf{{{latex}}}\par\nopagebreak"


def _shown(value: Cell, digits: int) -> str:
    return value if isinstance(value, str) else cell(value, digits)


def _kinds(widths: list[int], is_number: list[bool]) -> list[str]:
    """LaTeX's kinds of columns: where they do not fit the line, wide texts share what the others leave."""
    kinds = ["r" if number else "l" for number in is_number]
    room = _LINE - 2 * len(widths)
    wide = [i for i, width in enumerate(widths) if not is_number[i] and width > _WIDE]
    if sum(widths) <= room or not wide:
        return kinds
    left = max(room - sum(width for i, width in enumerate(widths) if i not in wide), _WIDE * len(wide))
    # Square roots: one very long text must not squeeze the others to a word a line.
    weights = {i: widths[i] ** 0.5 for i in wide}
    for i in wide:
        share = left / _LINE * weights[i] / sum(weights.values())
        kinds[i] = rf">{{\raggedright\arraybackslash}}p{{{share:.3f}\linewidth}}"
    return kinds

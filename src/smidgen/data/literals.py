"""Lists of texts that stand written out in a Python file: read as text, never run.

A file is named with its list, `data.py#harmful_prompts`. What the file does when it is run does not matter, nor what
else stands in it; a list that is not simply written out is refused, since reading it would mean running the file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from smidgen.errors import InvalidData

_MOST_BYTES = 10_000_000
_CHANGES = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"}


def split_reference(path: Path | str) -> tuple[Path, str | None]:
    """A file, and the name of the list in it where one is given.

    >>> split_reference("course/data.py#harmful_prompts")
    (PosixPath('course/data.py'), 'harmful_prompts')
    >>> split_reference("prompts.txt")
    (PosixPath('prompts.txt'), None)
    """
    file, hash_sign, name = str(path).rpartition("#")
    if not hash_sign or not file.endswith(".py") or Path(path).exists():
        return Path(path), None
    return Path(file), name


def read_literals(path: Path | str, name: str) -> list[tuple[int, str]]:
    """The texts of the list `name` of a Python file, each with its line.

    Lists and tuples of strings are read, and sums of such; strings may be sums of strings.

    Raises:
        InvalidData: Not a Python file, no such list, or one that is not simply written out.
    """
    path = Path(path)
    tree = _parsed(path)
    assigned = [node for node in tree.body if name in _assigned_names(node)]
    elsewhere = [line for line in _changes(tree, name) if line not in {node.lineno for node in assigned}]
    if not assigned:
        raise InvalidData(
            f"{path}: expected a list {name} at the top level of the file, got none"
            f"{f' (line {elsewhere[0]} sets it inside something else)' if elsewhere else ''}. "
            f'Write it out there: {name} = ["…", "…"].'
        )
    if len(assigned) > 1 or elsewhere:
        lines = sorted({*(node.lineno for node in assigned), *elsewhere})
        raise InvalidData(
            f"{path}: expected {name} to be set once and never changed, got lines {', '.join(map(str, lines))}. "
            "The file is not run, so write the whole list out in one place."
        )
    value = getattr(assigned[0], "value", None)
    try:
        texts = list(_texts(value))
    except _NotWrittenOut as error:
        line = error.line or assigned[0].lineno
        raise InvalidData(
            f"{path}, line {line}: expected {name} as a list of texts in quotes, got {error.got}. "
            "The file is not run, so write the texts out."
        ) from None
    except RecursionError:
        raise InvalidData(
            f"{path}: expected {name} as a list of texts in quotes, got a sum of more terms than can be read. "
            "Write them as one list."
        ) from None
    return texts


class _NotWrittenOut(Exception):
    """A part of a list that only running the file could tell."""

    def __init__(self, node: ast.AST | None, what: str = "") -> None:
        self.line = getattr(node, "lineno", 0)
        self.got = what or f"a part that is none ({type(node).__name__})"


def _parsed(path: Path) -> ast.Module:
    try:
        raw = path.read_bytes()
        if len(raw) > _MOST_BYTES:
            raise ValueError(f"{len(raw):,} bytes, above {_MOST_BYTES:,}")
        return ast.parse(raw)
    except OSError as error:
        raise InvalidData(f"expected a Python file at {path}, got {error.strerror}. Check the path.") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem = f"{type(error).__name__}: {error}"[:200]
        raise InvalidData(
            f"{path}: expected a Python file, got one that cannot be read ({problem!a}). Mend it until Python reads it."
        ) from None


def _assigned_names(node: ast.stmt) -> list[str]:
    """Names that a statement sets to a value that stands in it."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _changes(tree: ast.Module, name: str) -> Iterator[int]:
    """Lines that set the name, delete it, or change the list that it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
            yield node.lineno
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.value, ast.Name):
            called = isinstance(node, ast.Attribute) and node.attr in _CHANGES
            if node.value.id == name and (called or not isinstance(node.ctx, ast.Load)):
                yield node.lineno


def _texts(node: ast.expr | None) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.List | ast.Tuple):
        for element in node.elts:
            yield element.lineno, _text(element)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _texts(node.left)
        yield from _texts(node.right)
    else:
        raise _NotWrittenOut(node)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if not isinstance(node, ast.Constant):
        raise _NotWrittenOut(node)
    if not isinstance(node.value, str):
        raise _NotWrittenOut(node, f"a value of type {type(node.value).__name__}")
    return node.value

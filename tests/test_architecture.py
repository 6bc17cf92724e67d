"""Imports point one way, from the command line to the data's own types; files and functions fit a screen or few."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import smidgen

PACKAGE = Path(smidgen.__file__).parent

# Each room may import from itself and from rooms that stand below it. Rooms of one level do not know each other.
LEVELS = [
    {"__main__"},
    {"api"},
    {"cli"},
    {"web"},
    {"report"},
    {"study"},
    {"selection", "synthesis", "trainers", "explain"},
    {"evaluation"},
    {"training"},
    {"models"},
    {"data"},
    {"assets"},
    {"pairs"},
    {"plugins"},
    {"settings"},
    {"runs"},
    {"errors"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def imported_rooms(source: str) -> Iterator[tuple[int, str]]:
    """Line and room of every import of this package, at the top or inside functions, for types or not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute, so that they say where they lead"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "smidgen" and rest:
                yield node.lineno, rest.split(".")[0]


def violations(room: str, source: str) -> list[str]:
    """What is wrong with the imports of a module of `room`."""
    return [
        f"line {line}: {room} imports {other}"
        for line, other in imported_rooms(source)
        if other in LEVEL and other != room and LEVEL[other] <= LEVEL[room]
    ]


def modules() -> list[tuple[str, Path]]:
    """Every module with its room; the package's own __init__ belongs to none."""
    paths = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
    return [(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path) for path in paths]


@pytest.mark.parametrize(("room", "path"), modules(), ids=lambda value: getattr(value, "stem", value))
def test_imports_run_one_way(room: str, path: Path) -> None:
    assert room in LEVEL, f"{path} stands in a room that the order of imports does not know"
    assert not violations(room, path.read_text(encoding="utf-8")), path


def test_a_room_that_looks_up_or_sideways_is_found() -> None:
    assert violations("models", "from smidgen.training.loop import train")
    assert violations("data", "def f():\n    import smidgen.models.load")
    assert violations("pairs", "from smidgen import cli")
    assert violations("selection", "from smidgen.synthesis.critique import critique")
    assert violations("training", "if TYPE_CHECKING:\n    from smidgen.study.plan import Trial")


def test_a_room_may_use_itself_and_what_lies_below() -> None:
    source = (
        "import torch\nfrom smidgen import __version__\nfrom smidgen.models.load import f\nfrom smidgen.pairs import g"
    )
    assert not violations("models", source)


def test_every_module_says_what_it_is_for() -> None:
    for _, path in modules():
        source = path.read_text(encoding="utf-8")
        assert not source.strip() or ast.get_docstring(ast.parse(source)), f"{path} has no docstring"

"""Smidgen: the smallest set of preference pairs that aligns a language model as well as all of them do.

The names below are the stable Python API; each is imported when it is first used.
"""

from __future__ import annotations

# As in `typing`, which takes its time to import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from smidgen.api import export, load_pairs, minimize
    from smidgen.data.prepare import Prepared, write_pairs
    from smidgen.errors import InvalidData, SmidgenError, UsageError
    from smidgen.pairs import Message, PairTable, PreferencePair

__version__ = "0.1.0"

__all__ = [
    "InvalidData",
    "Message",
    "PairTable",
    "PreferencePair",
    "Prepared",
    "SmidgenError",
    "UsageError",
    "export",
    "load_pairs",
    "minimize",
    "write_pairs",
]

_HOMES = {
    "smidgen.api": ("export", "load_pairs", "minimize"),
    "smidgen.data.prepare": ("Prepared", "write_pairs"),
    "smidgen.errors": ("InvalidData", "SmidgenError", "UsageError"),
    "smidgen.pairs": ("Message", "PairTable", "PreferencePair"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its API: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

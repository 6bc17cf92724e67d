"""A sheet: several explanations in a row, each named with its numbers, as one file holds them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import smidgen.explain
from smidgen.errors import UsageError
from smidgen.explain.base import Explanation, explanation

# A module of this room registers its explanation by being there.
for _module in iter_modules(smidgen.explain.__path__):
    if _module.name != "sheet":
        import_module(f"{smidgen.explain.__name__}.{_module.name}")


def sheet(sections: Mapping[str, Any]) -> list[Explanation]:
    """The explanations of a sheet, in its order.

    Args:
        sections: By the explanation's name its settings, or a list of settings for more than one of them.

    Raises:
        UsageError: An unknown name or setting, or numbers out of range; says in which section.
    """
    if not sections:
        raise UsageError(
            f"expected a sheet with at least one section, got none; name one of: {', '.join(explanation.names())}."
        )
    return [_one(name, settings) for name, found in sections.items() for settings in _listed(name, found)]


def _listed(name: str, found: Any) -> list[Mapping[str, Any]]:
    listed = found if isinstance(found, list) else [found]
    for settings in listed:
        if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
            raise UsageError(
                f"sheet, {name}: expected its settings as `name: value` lines, or a list of such, got "
                f"{settings!r:.60}; see `smidgen explain {name} --help` for their names."
            )
    return listed


def _one(name: str, settings: Mapping[str, Any]) -> Explanation:
    try:
        return explanation.bind(name, settings)()
    except UsageError as error:
        raise UsageError(f"sheet, {name}: {error}") from None

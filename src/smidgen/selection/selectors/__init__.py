"""Selectors: features in, ranking out, one function a file. A module in this folder registers itself by being there."""

from importlib import import_module
from pkgutil import iter_modules

from smidgen.selection.kinds import is_inverted, kind_of
from smidgen.selection.selectors.base import Selection, Selector, selector, top

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["Selection", "Selector", "is_inverted", "kind_of", "selector", "top"]

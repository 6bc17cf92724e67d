"""Pairs as other programs read them, one format a file. A module in this folder registers itself by being there."""

from importlib import import_module
from pkgutil import iter_modules

from smidgen.data.export.base import Layout, export_format
from smidgen.data.export.card import Origin
from smidgen.data.export.write import Exported, export_pairs

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["Exported", "Layout", "Origin", "export_format", "export_pairs"]

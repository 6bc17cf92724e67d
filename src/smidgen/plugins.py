"""Files of the user's own that register losses, selectors, judges and benchmarks by being run: `--plugin FILE`.

A plugin is Python, so running it trusts it as any program; no command runs a file that is not named as one.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from smidgen.errors import UsageError
from smidgen.settings import registries

_loaded: dict[str, str] = {}  # the file, absolute: its module's name


def load_plugins(paths: Iterable[str | Path]) -> None:
    """Run each file once in this process; what it decorates is then known by its function's name.

    Raises:
        UsageError: No such file, or one that cannot be run to its end.
    """
    for path in paths:
        file = str(Path(path).resolve())
        if file not in _loaded:
            _loaded[file] = _run(Path(file))


def loaded_plugins() -> tuple[str, ...]:
    """The files that were loaded, in that order; another process that is to know the same names loads them too."""
    return tuple(_loaded)


def _run(file: Path) -> str:
    name = f"smidgen_plugin_{len(_loaded)}_{file.stem}"
    spec = spec_from_file_location(name, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"expected a plugin, a Python file, got {file}; give the path of a file that ends in .py.")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script may end itself where it is done
        del sys.modules[name]
        # What it registered on its way would stand in the way of the mended file.
        for registry in registries():
            registry.forget(name)
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f"{file}, line {lines[-1]}" if lines else str(file)
        raise UsageError(
            f"expected a plugin that runs to its end, got {type(error).__name__} in {where}: {error}. Mend the file."
        ) from error
    return name

"""A function and its settings as one text, `name:key=value`, and sums of such."""

from __future__ import annotations

import re
from typing import Any

from smidgen.errors import UsageError
from smidgen.settings.yaml_files import yaml_value


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Split `name:key=value,key=value`, values read as YAML scalars.

    >>> parse_spec("margin_band:band=low,signed=false")
    ('margin_band', {'band': 'low', 'signed': False})
    """
    name, _, rest = spec.partition(":")
    settings: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"expected key=value after {name}:, got {item!r}")
        settings[key.strip()] = yaml_value(value, item)
    return name, settings


def parse_sum(spec: str) -> list[tuple[float, str]]:
    """Split a sum of weighted specs; plus signs stand between spaces, and a weight of 1 may be left out.

    >>> parse_sum("dpo:beta=0.1 + 0.2*nll")
    [(1.0, 'dpo:beta=0.1'), (0.2, 'nll')]
    """
    terms: list[tuple[float, str]] = []
    for term in re.split(r"\s\+\s", spec):
        weight, times, rest = term.partition("*")
        try:
            terms.append((float(weight), rest.strip()) if times else (1.0, term.strip()))
        except ValueError:
            raise UsageError(f"expected a number before * in {term!r}, got {weight!r}; write 0.2*nll") from None
    return terms

"""Settings come from signatures: a function's keyword-only arguments are its settings, declared nowhere else.

A `Registry` names functions of one kind (losses, selectors, benchmarks). Registration alone makes a function
known to the command line, to the docs' tables and to the contract tests.
"""

from smidgen.settings.ranges import OpenShare, PositiveShare, Share, check_ranges, out_of_range, range_words
from smidgen.settings.registry import Registry, registries, settings_model, settings_schema
from smidgen.settings.specs import parse_spec, parse_sum
from smidgen.settings.yaml_files import (
    MOST_SETTINGS_BYTES,
    load_yaml,
    parse_overrides,
    plain_settings,
    read_settings,
    settings_yaml,
    yaml_value,
)

__all__ = [
    "MOST_SETTINGS_BYTES",
    "OpenShare",
    "PositiveShare",
    "Registry",
    "Share",
    "check_ranges",
    "load_yaml",
    "out_of_range",
    "parse_overrides",
    "parse_spec",
    "parse_sum",
    "plain_settings",
    "range_words",
    "read_settings",
    "registries",
    "settings_model",
    "settings_schema",
    "settings_yaml",
    "yaml_value",
]

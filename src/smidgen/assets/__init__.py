"""What ships with the package: refusal patterns, prompts, presets, flags, the embedded demo and its maker."""

from pathlib import Path

_HERE = Path(__file__).parent

SHIPPED_PROMPTS = _HERE / "prompts"
"""Folder of the lists of prompts."""

DEMO = _HERE / "demo"
"""Folder of the demo's pairs, prompts and model."""

PRESETS = _HERE / "presets"
"""Folder of the presets, one YAML file each."""

COMPLETION_FLAGS = _HERE / "completion_flags.json"
"""Every command's flags, for shell completion."""

"""What ships with the package: refusal patterns, prompts, presets, the embedded demo and the maker of its world."""

from pathlib import Path

_HERE = Path(__file__).parent

SHIPPED_PROMPTS = _HERE / "prompts"
DEMO = _HERE / "demo"
PRESETS = _HERE / "presets"

"""What ships with the package: refusal patterns, prompts, presets, flags, the embedded demo and its maker."""

from pathlib import Path

_HERE = Path(__file__).parent

SHIPPED_PROMPTS = _HERE / "prompts"
DEMO = _HERE / "demo"
PRESETS = _HERE / "presets"
COMPLETION_FLAGS = _HERE / "completion_flags.json"

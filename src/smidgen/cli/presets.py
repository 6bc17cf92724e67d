"""Presets: settings of several commands under one name, as if they stood in a --config file below the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smidgen.assets import PRESETS
from smidgen.errors import UsageError
from smidgen.settings import read_settings

_COURSE = "{course}"


def preset_settings(name: str, command: str, course: Path | None) -> dict[str, Any]:
    """What a preset sets for a command.

    Args:
        name: Of a file in the package's presets.
        command: In full, such as "train dpo".
        course: The folder that stands for {course}; where None, settings that name it are left out.

    Raises:
        UsageError: No such preset, nothing in it for this command, or no place in it for a course's folder.
    """
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in names:
        raise UsageError(f"unknown preset {name!r}; expected one of: {', '.join(names)}.")
    commands = read_settings(PRESETS / f"{name}.yaml")
    commands.pop("shared", None)
    if command not in commands:
        raise UsageError(
            f"preset {name}: expected one of the commands {', '.join(sorted(commands))}, got {command!r}. "
            "Leave --preset out, or take one of these."
        )
    settings = commands[command]
    of_course = [key for key, value in settings.items() if isinstance(value, str) and _COURSE in value]
    if course is None:
        return {key: value for key, value in settings.items() if key not in of_course}
    if not of_course:
        takes = [other for other in sorted(commands) if _COURSE in str(commands[other])]
        raise UsageError(
            f"--course: expected a command that reads a course's files under preset {name} "
            f"({', '.join(takes) or 'none does'}), got {command!r}. Leave --course out."
        )
    return settings | {key: settings[key].replace(_COURSE, str(course)) for key in of_course}

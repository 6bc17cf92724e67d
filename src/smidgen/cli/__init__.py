"""The command line: one thin command a stage; imports everything, imported by nothing."""

from __future__ import annotations

from collections.abc import Sequence

from smidgen.runs.interrupts import interruptible

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (default: the process's own); its exit code."""
    with interruptible():
        # Takes half a second, in which nobody who interrupts should see a traceback.
        from smidgen.cli.app import main as run

        return run(argv)

"""The command line: one thin command a stage; imports everything, imported by nothing."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (default: the process's own); its exit code.

    Everything is imported here, which takes half a second or more: who interrupts that should see no traceback.
    """
    try:
        from smidgen.runs.interrupts import interruptible

        with interruptible():
            from smidgen.cli.app import main as run

            return run(argv)
    except KeyboardInterrupt:
        sys.stderr.write("smidgen: interrupted before it began; run the same command again\n")
        return 130

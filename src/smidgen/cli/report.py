"""`smidgen report`: a run's report, again, from nothing but the run's files."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import ExistingDirectory

from smidgen.cli.outcome import Outcome
from smidgen.report.frontier import frontier_text
from smidgen.report.html import write_report


def report(run: Annotated[ExistingDirectory, Parameter(metavar="FOLDER")], /) -> Outcome:
    """Rebuild a run's report from its files.

    Args:
        run: The folder of a finished run; report.html in it is written anew.
    """
    path = write_report(run)
    return Outcome({"report": str(path)}, f"{frontier_text(run)}\n\n{path}")

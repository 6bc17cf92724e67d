"""`smidgen report`: a run's report, again, from nothing but the run's files."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import ExistingDirectory

from smidgen.cli.outcome import Outcome
from smidgen.report.frontier import frontier_text
from smidgen.report.html import write_report
from smidgen.report.pdf import write_pdf


def report(run: Annotated[ExistingDirectory, Parameter(metavar="FOLDER")], /) -> Outcome:
    """Rebuild a run's report from its files, as a page and as a PDF.

    Args:
        run: The folder of a finished run; report.html and report.pdf in it are written anew.
    """
    page, document = write_report(run), write_pdf(run)
    lines = [frontier_text(run), "", str(page), str(document.path), *filter(None, [document.note])]
    data = {"report": str(page), "pdf": str(document.path), "undrawn": dict(document.undrawn)}
    return Outcome(data, "\n".join(lines))

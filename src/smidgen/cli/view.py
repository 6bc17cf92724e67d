"""`smidgen view`: a run's pages on this machine: pairs to browse, a study's frontier, answers to compare blind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from annotated_types import Interval
from cyclopts import Parameter

from smidgen.cli.outcome import Outcome
from smidgen.cli.shown import say


def view(
    run: Annotated[Path, Parameter(metavar="RUN")],
    /,
    *,
    port: Annotated[int, Interval(ge=0, le=65535), Parameter(metavar="PORT")] = 0,
    browser: bool = True,
) -> Outcome:
    """Show a run's pages: browse pairs, compare blind.

    Only this machine can reach them, and only by the address printed, which lets one browser in, once. Ctrl-C ends
    it; nothing is removed. Votes of a comparison are kept in verdicts.sqlite, in its folder.

    Args:
        run: The folder of a study, a selection, prepared pairs or a comparison; or a file of pairs.
        port: At 127.0.0.1; 0 takes one that is free.
        browser: Open the address in the browser.
    """
    from smidgen.web.app import make_app
    from smidgen.web.holding import open_holding
    from smidgen.web.serve import serve

    app = make_app(open_holding(run, say=say), say=say)
    say(f"the pages of {run}; Ctrl-C ends them")
    address = serve(app, port=port, browser=browser, say=say)
    return Outcome({"address": address, "run": str(run)}, f"ended; all of {run} is kept, votes too")

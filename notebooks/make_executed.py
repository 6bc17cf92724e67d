"""Write main.ipynb and benchmark.ipynb with their outputs: `python -m notebooks.make_executed [NAME …]`.

They are executed where they lie, by a kernel of this environment. What they train stays in notebooks/runs, where the
next execution finds it; remove that folder for one from nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

from notebooks import benchmark_cells, main_cells
from smidgen.report.notebook import notebook_of
from smidgen.runs import write_text

HERE = Path(__file__).parent
CELLS = {"main": main_cells.CELLS, "benchmark": benchmark_cells.CELLS}
_TIMEOUT_SECONDS = 3600


def executed(texts: Sequence[str], folder: Path) -> NotebookNode:
    """A notebook of words and code in turn, executed in a folder.

    What it wrote on standard error is left out, since that tells of this machine (how long it will take); an error
    or a warning among it is raised.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
        ValueError: A cell warned.
    """
    found = nbformat.reads(json.dumps(notebook_of(texts)), as_version=4)
    place = {"metadata": {"path": str(folder)}}
    with TemporaryDirectory() as sockets:
        # Through files, which nobody else can listen to, rather than through ports.
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        client = NotebookClient(found, config=config, timeout=_TIMEOUT_SECONDS, resources=place, coalesce_streams=True)
        client.execute()
    for cell in found.cells[1::2]:
        said = "".join(o.text for o in cell.outputs if o.get("name") == "stderr")
        if "Warning:" in said:
            raise ValueError(f"expected a cell that does not warn, got {said!r}; see to its cause.")
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        cell.metadata = {}  # when it was executed
    found.metadata["language_info"] = {"name": "python"}  # without this environment's version of it
    return found


def as_text(notebook: NotebookNode) -> str:
    """As it stands in its file."""
    return nbformat.writes(notebook)


def main(names: Sequence[str]) -> None:
    for name in names or CELLS:
        write_text(HERE / f"{name}.ipynb", as_text(executed(CELLS[name], HERE)))


if __name__ == "__main__":
    main(sys.argv[1:])

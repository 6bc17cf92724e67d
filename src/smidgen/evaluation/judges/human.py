"""The judges that are people: what they said on the blind page, one verdict for each person and match."""

from __future__ import annotations

from smidgen.errors import UsageError
from smidgen.evaluation.human import read_human_verdicts
from smidgen.evaluation.judges.base import Desk, Judge, judge


@judge
def human(desk: Desk) -> Judge:
    """What people have said so far; nothing until somebody has judged at `smidgen view`."""
    folder = desk.folder
    if folder is None:
        raise UsageError("expected the folder of a comparison, whose matches people judge, got none; give --out.")
    return lambda _: read_human_verdicts(folder)

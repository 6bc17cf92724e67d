"""What a study tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smidgen.study.records import TrialRecord


@dataclass(frozen=True, slots=True)
class Progress:
    """One event: what is being done, and the trial that just finished, if one did."""

    activity: str
    done: int
    total: int
    record: TrialRecord | None = None

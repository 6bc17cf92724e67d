"""The flags of `smidgen bench` that ask for a task's benchmark, or for one by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import ExistingFile
from pydantic import PositiveInt

from smidgen.cli.flags import RARE
from smidgen.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFlags:
    """What `--task` or `--benchmark` asks for; without either, nothing here may be given."""

    task: Annotated[
        str | None,
        Parameter(metavar="TASK", help="Measure a task instead: safety, role_play, sycophancy or a file"),
    ] = None
    benchmark: Annotated[
        str | None,
        Parameter(metavar="NAME", help="Run this benchmark, with its settings: in a task's frames, or in none"),
    ] = None
    after: Annotated[
        str | None,
        Parameter(metavar="MODEL", help="With --task, a second model on the same prompts"),
    ] = None
    sets: Annotated[
        tuple[str, ...],
        Parameter(metavar="NAME", help="With --task, this set of its frames alone; repeatable"),
    ] = ()
    prompts: Annotated[
        ExistingFile | None,
        Parameter(metavar="FILE", help="With --task, questions for personas or arguments to judge"),
    ] = None
    n_prompts: Annotated[
        PositiveInt | None,
        RARE,
        Parameter(help="With --task, at most this many prompts of each list, chosen by hash; 50 of the shipped ones."),
    ] = None

    def check_unused(self) -> None:
        """UsageError where something is given that only `--task` and `--benchmark` take."""
        given = {"after": self.after, "sets": self.sets, "prompts": self.prompts, "n-prompts": self.n_prompts}
        if flags := [name for name, value in given.items() if value]:
            raise UsageError(f"--{flags[0]}: expected --task beside it, got none; give --task safety, say.")

    @property
    def asks_for_one(self) -> bool:
        return bool(self.task or self.benchmark)

"""Progress of a training or a study on standard error; nothing where that is not a terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from smidgen.study.progress import Progress as StudyProgress

_BAR = 30


@contextmanager
def training_progress(n_steps: int) -> Iterator[Callable[[dict[str, float]], None]]:
    """Yield what is to be called with every row of the training's log."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]}  {task.fields[speed]} pairs/s"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=n_steps, loss="", speed="")

        def show(row: dict[str, float]) -> None:
            loss, speed = f"{row['loss']:.4f}", f"{row['pairs_per_second']:.1f}"
            progress.update(task, completed=row["step"], loss=loss, speed=speed)

        yield show


@contextmanager
def counted_progress(activity: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield what is to be called with how many are done."""
    columns = (TextColumn(activity), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(activity, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def study_progress() -> Iterator[Callable[[StudyProgress], None]]:
    """Yield what is to be called with every event of a study; shows the frontier as it grows."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda event: None
        return
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
    task = bar.add_task("starting", total=None)
    scores: dict[tuple[int, str], list[float]] = defaultdict(list)
    with Live(bar, console=console, transient=True, refresh_per_second=4) as live:

        def watch(event: StudyProgress) -> None:
            bar.update(task, description=event.activity, completed=event.done, total=event.total)
            if event.record and event.record.metrics.get("score") is not None:
                scores[event.record.budget, event.record.selector or event.record.arm].append(
                    event.record.metric("score")
                )
            live.update(Group(bar, frontier_table(scores)))

        yield watch


def frontier_table(scores: Mapping[tuple[int, str], Sequence[float]]) -> Table:
    """The best mean score so far at every number of pairs.

    Args:
        scores: Scores of single trials, by number of pairs and the name of what chose them.
    """
    best: dict[int, tuple[float, str, int]] = {}
    for (budget, name), values in scores.items():
        found = (sum(values) / len(values), name, len(values))
        best[budget] = max(best.get(budget, found), found)
    table = Table("pairs", "best so far", "trials", "score", "", box=None, padding=(0, 1))
    for budget in sorted(best):
        score, name, n_trials = best[budget]
        bar = "█" * round(_BAR * min(1.0, max(0.0, score)))
        table.add_row(f"{budget:,}", name, str(n_trials), f"{score:.3f}", bar)
    return table

"""The flags of commands that ask a chat model, and what such a command tells of its progress and cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cyclopts import Group, Parameter
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from smidgen.cli.flags import RARE
from smidgen.errors import UsageError
from smidgen.models.chat.budget import Prices, parse_budget
from smidgen.models.chat.estimate import Estimate
from smidgen.models.chat.spending import Spending
from smidgen.models.chat.teacher import LOCAL, STORE, Teacher

# Named, so that they stand on the first page where a command puts the others elsewhere.
_MAIN = Group.create_default_parameters()


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherFlags:
    """Whom to ask, how fast, and for how much.

    Attributes:
        not_identity: Fields that do not change what is answered, so that a run may go on with others.
    """

    not_identity: ClassVar[tuple[str, ...]] = (
        *("budget", "price_in", "price_out", "concurrency", "requests_per_minute", "tokens_per_minute"),
        *("key_variable", "timeout", "tries"),
    )

    teacher: Annotated[
        str | None,
        Parameter(
            group=_MAIN,
            metavar="URL|local",
            help="An OpenAI-compatible endpoint, or `local` for a model in this process. "
            "Most addresses end in /v1; the key stands in the environment.",
        ),
    ] = None
    model: Annotated[
        str | None,
        Parameter(group=_MAIN, metavar="NAME", help="As the endpoint calls it; else a folder or a hub name."),
    ] = None
    budget: Annotated[
        str | None,
        Parameter(
            metavar="AMOUNT",
            help="Most to spend: tokens (200k) or money ($5); never exceeded. "
            "Money needs --price-in and --price-out. Earlier calls of the same run count.",
        ),
    ] = None
    price_in: Annotated[
        NonNegativeFloat | None, Parameter(metavar="PRICE", help="Of a million tokens of prompts; none is built in.")
    ] = None
    price_out: Annotated[
        NonNegativeFloat | None, Parameter(metavar="PRICE", help="Of a million tokens of answers.")
    ] = None
    concurrency: Annotated[PositiveInt, Parameter(help="Conversations at once.")] = 8
    requests_per_minute: Annotated[PositiveFloat | None, RARE, Parameter(help="Most requests in any minute.")] = None
    tokens_per_minute: Annotated[PositiveFloat | None, RARE, Parameter(help="Most tokens in any minute.")] = None
    key_variable: Annotated[
        str | None,
        RARE,
        Parameter(
            metavar="NAME",
            help="The environment variable with the key; `none` sends no key. OPENAI_API_KEY where not given.",
        ),
    ] = None
    timeout: Annotated[PositiveFloat, RARE, Parameter(metavar="SECONDS", help="Most time of one try.")] = 120.0
    tries: Annotated[PositiveInt, RARE, Parameter(help="Most tries of one call.")] = 8
    replies: Annotated[
        Path | None,
        RARE,
        Parameter(metavar="FILE", help="Where replies are kept; name one file to share it between runs."),
    ] = None
    teacher_template: Annotated[
        str | None,
        RARE,
        Parameter(metavar="NAME", help="With `local`: how a conversation becomes text; the tokenizer's own, or plain."),
    ] = None

    def __post_init__(self) -> None:
        # Before anything is written down: what is wrong here may hold a secret.
        self._settings(LOCAL if self.teacher is None else self.teacher, self.model or "")

    @property
    def prices(self) -> Prices:
        return Prices(self.price_in, self.price_out)

    def settings(self) -> Teacher:
        """What the flags say.

        Raises:
            UsageError: They name no model.
        """
        if not self.teacher or not self.model:
            missing = "--model" if self.teacher else "--teacher"
            raise UsageError(
                f"expected {missing}, got none. Give --teacher with an address such as http://localhost:8000/v1 and "
                "--model with a name that it knows, or --teacher local and --model with a folder."
            )
        return self._settings(self.teacher, self.model)

    def _settings(self, url: str, model: str) -> Teacher:
        return Teacher(
            url=url,
            model=model,
            budget=None if self.budget is None else parse_budget(self.budget),
            prices=self.prices,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            key_variable=self.key_variable,
            timeout_seconds=self.timeout,
            tries=self.tries,
            replies=self.replies,
            template=self.teacher_template,
        )


NOBODY = TeacherFlags()


def store_files(*names: str) -> tuple[str, ...]:
    """Stores by name, each with what SQLite keeps beside it.

    >>> store_files("replies.sqlite")
    ('replies.sqlite', 'replies.sqlite-wal', 'replies.sqlite-shm')
    """
    return tuple(f"{name}{end}" for name in names for end in ("", "-wal", "-shm"))


STORES = store_files(STORE)


@contextmanager
def asking_progress(total: int, spending: Spending, activity: str) -> Iterator[Callable[[int, object], None]]:
    """Yield what `ask_each` is to call with everything that is done; silent where standard error is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn(activity),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    )
    start, done, before = time.monotonic(), 0, replace(spending)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(activity, total=total, said="")

        def show(position: int, result: object) -> None:
            nonlocal done
            done += 1
            said = progress_line(done, total, time.monotonic() - start, spending, before)
            progress.update(task, completed=done, said=said)

        yield show


def progress_line(done: int, total: int, seconds: float, spending: Spending, before: Spending) -> str:
    """Speed, tokens, and cost so far and to come.

    Args:
        done: Conversations that came to their end since this piece of work began, be it from the store. Positive.
        total: All there are.
        seconds: Since it began.
        spending: Of the whole run.
        before: The same as this piece of work began: what others cost says nothing of what is to come.
    """
    parts = [f"{done / max(seconds, 1e-9):.1f}/s", f"{spending.tokens:,} tokens"]
    if spending.cost > 0:
        parts.append(f"cost {spending.cost:.4g}")
    if spending.cost > before.cost:
        n_calls = spending.calls - before.calls
        calls_each = (n_calls + spending.cached - before.cached) / done
        to_come = (spending.cost - before.cost) / n_calls * calls_each * (total - done)
        parts[-1] += f", about {to_come:.4g} to come"
    return "  ".join(parts)


_AS_IF_NEW = "as if nothing had been asked before: replies that are kept are not asked for again, and cost nothing"


def estimate_lines(found: Estimate) -> list[str]:
    """What a dry run says of calls to come."""
    cost = (
        f", cost {found.expected_cost:.4g}, at most {found.most_cost:.4g}"
        if found.prices.known
        else ", cost unknown: no prices given"
    )
    return [
        f"{found.calls:,} calls, about {found.expected.tokens:,} tokens, at most {found.most.tokens:,}{cost}",
        _AS_IF_NEW,
    ]


def estimate_data(found: Estimate) -> dict[str, Any]:
    """The same for `--json`; costs are null without prices."""
    priced = found.prices.known
    return {
        "calls": found.calls,
        "expected_tokens": found.expected.tokens,
        "most_tokens": found.most.tokens,
        "expected_cost": found.expected_cost if priced else None,
        "most_cost": found.most_cost if priced else None,
    }


def spending_lines(spending: Spending) -> list[str]:
    """What a command says of its calls when it is done."""
    cost = f", cost {spending.cost:.4g}" if spending.cost > 0 else ""
    lines = [f"{spending.calls:,} calls, {spending.cached:,} replies from the store; {spending.tokens:,} tokens{cost}"]
    if spending.n_unsure:
        lines.append(
            f"{spending.n_unsure:,} tries ended without a reply and may have been billed: at most "
            f"{spending.unsure.tokens:,} tokens more, which count against the budget"
        )
    elif spending.unsure.tokens:
        lines.append(f"the server counted no tokens for some calls: at most {spending.unsure.tokens:,} tokens more")
    return lines

"""A teacher, or a judge, ready to be asked: from its settings to a chat whose replies are kept and paid for once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.errors import UsageError
from smidgen.models.chat.address import check_url, check_variable
from smidgen.models.chat.base import Chat
from smidgen.models.chat.budget import Budget, Limit, Prices
from smidgen.models.chat.limits import Limits
from smidgen.models.chat.spending import Spending

if TYPE_CHECKING:
    from smidgen.models.chat.source import Source

LOCAL = "local"
STORE = "replies.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Whom to ask, how fast, and for how much.

    Attributes:
        url: An OpenAI-compatible endpoint's address, most of which end in /v1; or "local" for a model in this process.
        model: As the endpoint calls it; with "local", a folder or a hub name.
        budget: Most to spend, earlier calls for the same folder included; None for no limit.
        prices: Of tokens.
        requests_per_minute: Most in any minute; None for no limit.
        tokens_per_minute: The same.
        key_variable: The environment variable with the key; OPENAI_API_KEY where None, no key where "none".
        timeout_seconds: Most time of one try.
        tries: Most of one call.
        replies: Where replies are kept, in place of the folder's own file: a file that several runs share.
        template: With "local", how a conversation becomes text; None for the tokenizer's own, or plain.

    Raises:
        UsageError: Settings that nobody can be asked with. What may be secret in them is not repeated.
    """

    url: str
    model: str
    budget: Limit | None = None
    prices: Prices = field(default_factory=Prices)
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    key_variable: str | None = None
    timeout_seconds: float = 120.0
    tries: int = 8
    replies: Path | None = None
    template: str | None = None

    def __post_init__(self) -> None:
        if self.url != LOCAL:
            check_url(self.url)
        check_variable(self.key_variable)
        if not self.timeout_seconds > 0:
            raise UsageError(f"expected --timeout above 0 seconds, got {self.timeout_seconds}; 120 is usual.")
        if self.tries < 1:
            raise UsageError(f"expected --tries of at least 1, got {self.tries}; 8 is usual.")
        Budget(self.budget, self.prices)
        self.limits()

    def limits(self) -> Limits:
        """Fresh ones."""
        return Limits(requests_per_minute=self.requests_per_minute, tokens_per_minute=self.tokens_per_minute)


@asynccontextmanager
async def open_chat(teacher: Teacher, folder: Path, *, seed: int = 0) -> AsyncIterator[tuple[Chat, Spending]]:
    """The model that the settings name, and the count of what it costs.

    Replies are kept in the folder's replies.sqlite, or in the file that the settings name, and never paid for twice.
    What earlier processes spent for the same folder counts against the budget.

    Args:
        teacher: Whom to ask.
        folder: Of the run.
        seed: Of a local model's draws.

    Raises:
        UsageError: No key where one is needed.
        SmidgenError: No model there, or a file of replies that cannot be used.
    """
    from smidgen.models.chat.once import AskOnce, Retries
    from smidgen.models.chat.replies import ReplyStore

    # A file that several runs share holds what others spent, too; the folder tells whose is whose.
    path, run = (teacher.replies, str(folder.resolve())) if teacher.replies else (folder / STORE, "")
    async with _source(teacher, seed) as source:
        with closing(ReplyStore(path, run=run)) as store:
            so_far = store.account()
            spending = Spending(teacher.prices, earlier=so_far.settled, unsure=so_far.unsure, n_unsure=so_far.n_unsure)
            chat = AskOnce(
                source=source,
                store=store,
                budget=Budget(teacher.budget, teacher.prices, so_far.settled + so_far.unsure),
                spending=spending,
                limits=teacher.limits(),
                retries=Retries(tries=teacher.tries),
            )
            yield chat, spending


@asynccontextmanager
async def _source(teacher: Teacher, seed: int) -> AsyncIterator[Source]:
    if teacher.url == LOCAL:
        from smidgen.models.chat.local import open_local, own_template
        from smidgen.models.load import load_language_model

        lm = load_language_model(teacher.model)
        template = own_template(lm, teacher.template)
        async with open_local(lm, template, model=Path(teacher.model).name, seed=seed) as source:
            yield source
        return
    from smidgen.models.chat.endpoint import open_endpoint

    variable, timeout = teacher.key_variable, teacher.timeout_seconds
    async with open_endpoint(teacher.url, teacher.model, key_variable=variable, timeout_seconds=timeout) as source:
        yield source

"""A budget is never exceeded, whatever the calls use within their worst case; and the worst case is one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import UsageError
from smidgen.models.chat.base import BudgetSpent, Sampling
from smidgen.models.chat.budget import Budget, Limit, Prices, Usage, parse_budget, worst_case
from smidgen.models.chat.estimate import estimate, growing
from smidgen.models.load import LanguageModel
from smidgen.pairs import Message

CALLS = st.tuples(st.integers(0, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1), st.integers(0, 4))
PRICES = Prices(2.0, 7.0)


def spend(budget: Budget, calls: Sequence[tuple[int, int, float, float, int]], at_once: int) -> tuple[list[Usage], int]:
    """Make these calls, a few at once; what was truly used, and how many did not fit."""
    used: list[Usage] = []
    refused = 0
    waiting = iter(calls)

    async def go_through() -> None:
        nonlocal refused
        for prompt, completion, prompt_share, completion_share, kind in waiting:
            try:
                async with budget.reserved(Usage(prompt, completion)) as reservation:
                    reservation.sent()
                    true = Usage(int(prompt * prompt_share), int(completion * completion_share))
                    for _ in range(kind):
                        await asyncio.sleep(0)
                    used.append(true)
                    # One in five is billed without anybody telling.
                    if kind != 3:
                        reservation.settle(true)
            except BudgetSpent:
                refused += 1

    async def main() -> None:
        await asyncio.gather(*(go_through() for _ in range(at_once)))

    asyncio.run(main())
    return used, refused


@settings(max_examples=200, deadline=None)
@given(calls=st.lists(CALLS, max_size=40), limit=st.integers(1, 1500), money=st.booleans(), at_once=st.integers(1, 6))
def test_what_is_used_never_exceeds_the_budget(
    calls: list[tuple[int, int, float, float, int]], limit: int, money: bool, at_once: int
) -> None:
    budget = Budget(Limit(limit * 4e-6 if money else limit, money), PRICES)
    used, refused = spend(budget, calls, at_once)
    total = sum(used, Usage())
    measured = PRICES.cost(total) if money else total.tokens
    assert measured <= budget.limit.amount * (1 + 1e-12)  # pyright: ignore[reportOptionalMemberAccess]
    assert (budget.spent - total).prompt >= 0 and (budget.spent - total).completion >= 0
    assert len(used) + refused == len(calls)
    if at_once == 1 and refused:
        # Nobody is turned away who would have fitted.
        assert not budget.fits(
            max((Usage(p, c) for p, c, *_ in calls), key=lambda u: PRICES.cost(u) if money else u.tokens)
        )


def test_a_call_waits_for_others_to_settle_before_it_is_turned_away() -> None:
    budget = Budget(Limit(100))
    order = []

    async def call(name: str, bound: int, used: int) -> None:
        async with budget.reserved(Usage(bound)) as reservation:
            reservation.sent()
            order.append(name)
            await asyncio.sleep(0.01)
            reservation.settle(Usage(used))

    async def main() -> None:
        await asyncio.gather(call("first", 90, 10), call("second", 90, 10))

    asyncio.run(main())
    assert order == ["first", "second"] and budget.spent == Usage(20)


def test_a_call_that_is_cancelled_once_sent_counts_in_full_and_before_that_not_at_all() -> None:
    budget = Budget(Limit(100))

    async def call(sent: bool) -> None:
        async with budget.reserved(Usage(30)) as reservation:
            if sent:
                reservation.sent()
            await asyncio.sleep(60)

    async def main() -> None:
        tasks = [asyncio.create_task(call(sent)) for sent in (True, False)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert budget.spent == Usage(30) and budget.fits(Usage(70))


def test_a_server_that_counts_more_than_the_worst_case_is_believed_from_then_on() -> None:
    budget = Budget(Limit(1000))

    async def main() -> int:
        for made in range(100):
            try:
                async with budget.reserved(Usage(10, 10)) as reservation:
                    reservation.sent()
                    reservation.settle(Usage(110, 10))
            except BudgetSpent:
                return made
        return 100

    made = asyncio.run(main())
    assert made == 8 and budget.spent.tokens <= 1000


@pytest.mark.parametrize("text", ["", "plain words", "äöü 汉字 🙂 \x00 \ud800", "x" * 400, "\n\n\n   "])
def test_no_conversation_has_more_tokens_than_its_worst_case(tiny: LanguageModel, text: str) -> None:
    messages = (Message("system", text), Message("user", text))
    plain = " ".join(f"{m.role}: {m.content}" for m in messages).encode("utf-8", "replace").decode()
    n_tokens = len(tiny.tokenizer(plain + " assistant:", verbose=False)["input_ids"])
    assert n_tokens <= worst_case(messages, Sampling()).prompt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200000", Limit(200_000)),
        ("200k", Limit(200_000)),
        ("2M", Limit(2_000_000)),
        ("1,500 tokens", Limit(1500)),
        ("$5", Limit(5.0, money=True)),
        ("5 usd", Limit(5.0, money=True)),
        ("0.5€", Limit(0.5, money=True)),
    ],
)
def test_budgets_read_as_people_write_them(text: str, expected: Limit) -> None:
    assert parse_budget(text) == expected


@pytest.mark.parametrize("text", ["", "lots", "-5", "$-1", "5 dollars of tokens", "0", "$0", "nan", "inf", "5 usd 6"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--budget"):
        parse_budget(text)


def test_money_needs_prices_and_prices_are_numbers() -> None:
    with pytest.raises(UsageError, match="--price-in and --price-out"):
        Budget(Limit(5.0, money=True))
    with pytest.raises(UsageError, match="--price-in and --price-out"):
        Budget(Limit(5.0, money=True), Prices(0.0, 0.0))
    # An answer whose price nobody gave is not free.
    for alone, missing in ((Prices, "--price-out"), (lambda price: Prices(None, price), "--price-in")):
        with pytest.raises(UsageError, match=f"Give {missing} too"):
            alone(0.6)
    assert not Budget(Limit(5.0, money=True), Prices(0.6, 0.0)).fits(Usage(10**7, 10**9))
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="--price-out of 0 or above"):
            Prices(1.0, wrong)


def test_an_estimate_bounds_what_a_growing_conversation_can_use() -> None:
    sampling = Sampling(max_new_tokens=10)
    calls = growing("Be kind.", ["Question?", "Criticise.", "Revise."], sampling)
    assert [len(call.messages) for call in calls] == [2, 3, 4]
    found = estimate(calls, prices=Prices(1e6, 2e6))
    assert found.calls == 3
    # The worst case of each call, as it will be asked, with replies of ten one-byte tokens.
    turns = [Message("system", "Be kind."), Message("user", "Question?")]
    bound = worst_case(tuple(turns), sampling)
    for turn in ("Criticise.", "Revise."):
        turns += [Message("assistant", "x" * 10), Message("user", turn)]
        bound += worst_case(tuple(turns), sampling)
    assert found.most == bound
    assert 0 < found.expected.tokens < found.most.tokens
    assert found.expected_cost == found.expected.prompt + 2 * found.expected.completion
    assert estimate([]).most == Usage() and estimate([]).calls == 0

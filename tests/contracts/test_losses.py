"""What every registered loss obeys, at every choice of its settings."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from torch import Tensor

import smidgen
from smidgen.errors import UsageError
from smidgen.models.logprobs import PairLogps, TokenLogps
from smidgen.settings import settings_model
from smidgen.training.losses import MissingReference, MissingScores, loss

Bound = Callable[[PairLogps], Tensor]
Maker = Callable[..., PairLogps]
PARTS = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")

# Signs of the gradient at the chosen and at the rejected answer's log-probabilities where policy and reference are
# equal. All others raise the chosen answer and lower the rejected one.
AT_START = {
    "nll": (-1, 0),  # does not look at the rejected answer
    "apo_down": (0, 1),  # raising and lowering the chosen answer are in balance at first
    "discopop": (1, -1),  # not convex: falls again on both sides of the start
}


def choices(function: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the settings that are one of a few; the others stay at their defaults."""
    fields = settings_model(function).model_fields
    few = {name: get_args(f.annotation) for name, f in fields.items() if get_origin(f.annotation) is Literal}
    for values in itertools.product(*few.values()):
        yield dict(zip(few, values, strict=True))


CASES = [
    pytest.param(partial(function, **settings), id="-".join([function.__name__, *settings.values()]))
    for function in loss
    for settings in choices(function)
]


def name_of(bound: Any) -> str:
    return bound.func.__name__


def change(logps: PairLogps, how: Callable[[TokenLogps], TokenLogps]) -> PairLogps:
    return replace(logps, **{name: how(getattr(logps, name)) for name in PARTS})


def take(logps: PairLogps, rows: Tensor) -> PairLogps:
    picked = change(logps, lambda answers: TokenLogps(answers.values[rows], answers.mask[rows]))
    assert logps.chosen_score is not None
    assert logps.rejected_score is not None
    return replace(picked, chosen_score=logps.chosen_score[rows], rejected_score=logps.rejected_score[rows], idx=rows)


def with_gradients(function: Bound, logps: PairLogps) -> tuple[Tensor, Tensor, Tensor]:
    """Values, and the gradient of their sum at the policy's chosen and rejected tokens."""
    chosen, rejected = (getattr(logps, name).values.detach().clone().requires_grad_() for name in PARTS[:2])
    values = function(
        replace(
            logps,
            policy_chosen=replace(logps.policy_chosen, values=chosen),
            policy_rejected=replace(logps.policy_rejected, values=rejected),
        )
    )
    values.sum().backward()
    none = torch.zeros_like(chosen)
    at_chosen, at_rejected = (none if at.grad is None else at.grad for at in (chosen, rejected))
    return values.detach(), at_chosen, at_rejected


@pytest.mark.parametrize("function", CASES)
class TestEveryLoss:
    def test_one_finite_value_a_pair(self, function: Bound, made_logps: Maker) -> None:
        values = function(made_logps(n=6))
        assert values.shape == (6,)
        assert values.isfinite().all()
        assert values.unique().numel() == 6

    def test_pairs_are_independent(self, function: Any, made_logps: Maker) -> None:
        """But for KTO with its reference point from the batch; even there their order does not matter."""
        logps, order = made_logps(n=6), torch.tensor([3, 0, 5, 1, 4, 2])
        values = function(logps)
        torch.testing.assert_close(function(take(logps, order)), values[order])
        alone = torch.cat([function(take(logps, torch.tensor([i]))) for i in range(6)])
        if function.keywords.get("reference_point") != "batch":
            torch.testing.assert_close(alone, values)

    def test_padding_has_no_influence(self, function: Bound, made_logps: Maker) -> None:
        def padded(answers: TokenLogps) -> TokenLogps:
            junk = torch.full((len(answers.values), 3), 123.0, dtype=answers.values.dtype)
            filled = torch.where(answers.mask, answers.values, 77.0)
            return TokenLogps(torch.cat([filled, junk], 1), torch.cat([answers.mask, junk < 0], 1))

        logps = made_logps()
        plain, *gradients = with_gradients(function, logps)
        values, *others = with_gradients(function, change(logps, padded))
        torch.testing.assert_close(values, plain)
        for found, expected in zip(others, gradients, strict=True):
            torch.testing.assert_close(found[:, : expected.shape[1]], expected)
            assert (found[:, expected.shape[1] :] == 0).all()

    def test_gradients_equal_finite_differences(self, function: Any, made_logps: Maker) -> None:
        """With KTO's reference point held fixed, which carries no gradient."""
        fixed = {"reference_point": "zero"} if "reference_point" in function.keywords else {}
        logps = made_logps(n=4, tokens=3)

        def of_values(chosen: Tensor, rejected: Tensor) -> Tensor:
            policy = {"policy_chosen": chosen, "policy_rejected": rejected}
            answers = {name: replace(getattr(logps, name), values=values) for name, values in policy.items()}
            return function(replace(logps, **answers), **fixed)

        inputs = [getattr(logps, name).values.requires_grad_() for name in PARTS[:2]]
        assert torch.autograd.gradcheck(of_values, inputs, atol=1e-6)

    def test_at_the_start_the_chosen_rises_and_the_rejected_falls(self, function: Any, made_logps: Maker) -> None:
        logps = made_logps(at_reference=True)
        _, *gradients = with_gradients(function, logps)
        expected = AT_START.get(name_of(function), (-1, 1))
        for gradient, answers, sign in zip(
            gradients, (logps.policy_chosen, logps.policy_rejected), expected, strict=True
        ):
            assert (gradient[answers.mask].round(decimals=12).sign() == sign).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("log_ratio", [1e4, -1e4])
    def test_extremes_are_finite(
        self, function: Bound, made_logps: Maker, log_ratio: float, dtype: torch.dtype
    ) -> None:
        """One answer all but certain and the other all but impossible, under the policy or under the reference."""
        logps = made_logps(tokens=1, dtype=dtype)
        low, high = torch.tensor([[-1e4]] * 6, dtype=dtype), torch.tensor([[0.0]] * 6, dtype=dtype)
        likely, unlikely = (high, low) if log_ratio > 0 else (low, high)
        sides = zip(PARTS, (likely, unlikely, unlikely, likely), strict=True)
        extreme = replace(logps, **{name: replace(getattr(logps, name), values=values) for name, values in sides})
        for found in with_gradients(function, extreme):
            assert found.isfinite().all()

    def test_what_is_missing_is_said(self, function: Any, made_logps: Maker) -> None:
        """In three parts, by the loss itself; the docs' table says beforehand what each needs."""
        needs_reference, needs_scores = needs(function, made_logps())
        row = documented()[name_of(function)]
        assert (row["reference"], row["scores"]) == (needs_reference, needs_scores)

    def test_beta_is_above_0(self, function: Any, made_logps: Maker) -> None:
        if "beta" in settings_model(function.func).model_fields:
            for beta in (0.0, -0.1):
                with pytest.raises(UsageError, match=f"expected beta above 0, got {beta}; give"):
                    function(made_logps(), beta=beta)

    def test_its_docstring_is_a_contract(self, function: Any) -> None:
        said = inspect.getdoc(function.func) or ""
        for part in ("Args:", "Returns:", "shape [pairs]", "Source:", "arXiv:"):
            assert part.lower() in said.lower(), part


def needs(function: Bound, logps: PairLogps) -> tuple[bool, bool]:
    """Whether a loss raises without reference, and without scores."""

    def refuses(given: PairLogps, error: type[Exception], complaint: str) -> bool:
        try:
            function(given)
        except error as raised:
            assert re.search(complaint, str(raised), re.DOTALL)
            return True
        return False

    without_reference = replace(logps, ref_chosen=None, ref_rejected=None)
    return (
        refuses(without_reference, MissingReference, "expected .*got .*Give "),
        refuses(replace(logps, rejected_score=None), MissingScores, "expected .*got .*Add "),
    )


def documented() -> dict[str, dict[str, bool]]:
    """The first table of docs/objectives.md: which losses need what."""
    page = Path(smidgen.__file__).parents[2] / "docs" / "objectives.md"
    rows = re.findall(r"^\| `(\w+)` \|.*?\| (yes|no) \| (yes|no) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: {"reference": reference == "yes", "scores": scores == "yes"} for name, reference, scores in rows}


def test_the_docs_name_every_loss_once() -> None:
    assert sorted(documented()) == loss.names()


def test_the_laws_can_fail(made_logps: Maker) -> None:
    """A loss of the batch's mean depends on the other pairs; one that sums unmasked values, on padding."""

    def centred(logps: PairLogps, *, beta: float = 0.1) -> Tensor:
        return logps.policy_chosen.sum() - logps.policy_chosen.sum().mean()

    def unmasked(logps: PairLogps) -> Tensor:
        return logps.policy_chosen.values.sum(-1)

    laws = TestEveryLoss()
    with pytest.raises(AssertionError):
        laws.test_pairs_are_independent(partial(centred), made_logps)
    with pytest.raises(AssertionError):
        laws.test_padding_has_no_influence(unmasked, made_logps)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        laws.test_beta_is_above_0(partial(centred), made_logps)

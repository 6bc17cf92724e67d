"""Losses equal hand-worked and published values, and say what they miss."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from smidgen.errors import InvalidData, UsageError
from smidgen.models.logprobs import PairLogps, TokenLogps
from smidgen.training.losses import (
    Loss,
    MissingReference,
    apo_down,
    apo_zero,
    bco,
    combine,
    cpo,
    discopop,
    dpo,
    dpo_averaged,
    exo,
    hinge,
    ipo,
    ipo_averaged,
    kto,
    ld_dpo,
    log_ratio_difference,
    log_ratios,
    loss,
    nca,
    nll,
    odpo,
    orpo,
    refined_dpo,
    robust,
    simpo,
    sppo,
)
from smidgen.training.losses.prospect import (
    REFERENCE_POINTS,
    Point,
    batch_reference_point,
    kto_desirable,
    kto_undesirable,
)
from smidgen.training.losses.reference_free import log_odds
from smidgen.training.losses.scored import FORMS, Form


def one_token(*logps: float) -> TokenLogps:
    return TokenLogps(torch.tensor(logps, dtype=torch.float64)[:, None], torch.ones(len(logps), 1, dtype=torch.bool))


def probabilities(chosen: float, rejected: float, ref_chosen: float, ref_rejected: float) -> PairLogps:
    return PairLogps(
        policy_chosen=one_token(math.log(chosen)),
        policy_rejected=one_token(math.log(rejected)),
        ref_chosen=one_token(math.log(ref_chosen)),
        ref_rejected=one_token(math.log(ref_rejected)),
    )


# A worked example: policy .2 and .3, reference .2 and .4, so that h = ln(4/3) and, at beta 2, σ(βh) = .64.
RAISED = probabilities(0.2, 0.3, 0.2, 0.4)
LOWERED = probabilities(0.2, 0.3, 0.2, 0.2)


def scored(chosen: float, rejected: float) -> PairLogps:
    scores = [torch.tensor([value], dtype=torch.float64) for value in (chosen, rejected)]
    return replace(RAISED, chosen_score=scores[0], rejected_score=scores[1])


@pytest.mark.parametrize(
    ("beta", "raised", "lowered"),
    [
        (0.1, 0.678867, 0.713626),
        (0.5, 0.623811, 0.799642),
        (1, 0.559616, 0.916291),
        (2, 0.446287, 1.178655),
        (5, 0.212935, 2.151035),
        (10, 0.054785, 4.071844),
    ],
)
def test_dpo_by_beta(beta: float, raised: float, lowered: float) -> None:
    assert dpo(RAISED, beta=beta).item() == pytest.approx(raised, abs=1e-6)
    assert dpo(LOWERED, beta=beta).item() == pytest.approx(lowered, abs=1e-6)
    assert dpo(RAISED, beta=beta).item() == pytest.approx(math.log(1 + 0.75**beta), abs=1e-9)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (dpo(RAISED, beta=2, label_smoothing=0.1), 0.503824),
        (robust(RAISED, beta=2, label_smoothing=0.1), 0.374367),
        (hinge(RAISED, beta=2), 0.424636),
        (ipo(RAISED, beta=2), 0.001420),
        (ipo_averaged(RAISED, beta=2), 0.001420),
        (sppo(RAISED, beta=2), 0.063920),
        (dpo_averaged(RAISED, beta=2), 0.446287),
        (bco(RAISED, beta=2), 1.139434),
        (discopop(RAISED, beta=2), 0.562499),
        (nll(RAISED), 1.609438),
        (cpo(RAISED, beta=2), 2.788093),
        (cpo(RAISED, beta=2, nll_weight=0.5), 1.983374),
        (simpo(RAISED, beta=2, gamma=0.5), 1.549608),
        (orpo(RAISED, odds_weight=0.1), 1.709291),
        (orpo(RAISED, odds_weight=1) - nll(RAISED), 0.998529),
        (log_odds(RAISED.policy_chosen.mean()) - log_odds(RAISED.policy_rejected.mean()), -0.538997),
        (apo_zero(RAISED, beta=2), 0.86),
        (apo_down(RAISED, beta=2), 0.86),
        (nca(RAISED, beta=2), 1.262864),
        (exo(RAISED, beta=2, label_smoothing=0.1), 0.242943),
        (kto_desirable(torch.tensor([0.0]), 0.0, beta=2), 0.50),
        (kto_undesirable(torch.tensor([math.log(0.75)]), 0.0, beta=2), 0.36),
        (kto(RAISED, beta=2, reference_point="zero"), 0.43),
        (odpo(scored(math.e, 0), beta=2), 0.927837),
        (odpo(scored(3 * math.e, 2 * math.e), beta=2), 0.927837),
        (refined_dpo(scored(1, 0), beta=2), 0.601026),
        (refined_dpo(scored(1, 0), beta=2, form="margin"), 0.927837),
        (refined_dpo(scored(1, 0), beta=2, form="distilled"), 0.180316),
        (refined_dpo(scored(1, 0), beta=2, form="weight"), 0.326262),
        (refined_dpo(scored(1, 0), beta=2, form="filter"), 0.446287),
        (refined_dpo(scored(0, 1), beta=2, form="filter"), 0.0),
    ],
)
def test_the_worked_example(found: Tensor, expected: float) -> None:
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_published_values_of_three_pairs() -> None:
    logps = PairLogps(
        policy_chosen=one_token(-0.5, -10, -1),
        policy_rejected=one_token(-0.1, -30, -21),
        ref_chosen=one_token(-0.5, -10.1, -0.1),
        ref_rejected=one_token(-0.1, -20.1, -0.1),
    )
    assert dpo(logps, beta=0.1).tolist() == pytest.approx([0.693147, 0.313262, 0.126928], abs=1e-6)
    assert hinge(logps, beta=0.1).tolist() == pytest.approx([1, 0, 0], abs=1e-6)


# What one loss is to another.


def test_special_cases_are_each_other(made_logps: Callable[..., PairLogps]) -> None:
    logps = made_logps()
    equal = replace(logps, rejected_score=logps.chosen_score)
    same = [
        (robust(logps, label_smoothing=0), dpo(logps)),
        (ld_dpo(logps, alpha=1), dpo(logps)),
        (odpo(logps, alpha=0), dpo(logps)),
        (refined_dpo(logps, eta=1e3), dpo(logps)),
        (refined_dpo(equal), (dpo(logps) + dpo(logps) + 0.1 * log_ratio_difference(logps)) / 2),
        (2 * kto(logps, reference_point="zero"), apo_zero(logps)),
        (loss.bind("dpo_averaged:beta=0.1")(made_logps(tokens=1)), dpo(made_logps(tokens=1))),
        (ipo_averaged(made_logps(tokens=1)), ipo(made_logps(tokens=1))),
    ]
    for found, expected in same:
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_robust_dpo_averaged_over_flips_is_dpo_on_the_true_labels(made_logps: Callable[..., PairLogps]) -> None:
    logps = made_logps()
    expected = 0.8 * robust(logps, label_smoothing=0.2) + 0.2 * robust(swapped(logps), label_smoothing=0.2)
    torch.testing.assert_close(expected, dpo(logps))


def test_exo_is_least_at_the_smoothed_preference() -> None:
    margin = math.log(0.9 / 0.1)
    at_target = PairLogps(
        policy_chosen=one_token(margin, margin + 0.3, margin - 0.3),
        policy_rejected=one_token(0, 0, 0),
        ref_chosen=one_token(0, 0, 0),
        ref_rejected=one_token(0, 0, 0),
    )
    target, above, below = exo(at_target, beta=1, label_smoothing=0.1).tolist()
    assert target == pytest.approx(0, abs=1e-12)
    assert min(above, below) > 1e-3


def swapped(logps: PairLogps) -> PairLogps:
    return replace(
        logps,
        policy_chosen=logps.policy_rejected,
        policy_rejected=logps.policy_chosen,
        ref_chosen=logps.ref_rejected,
        ref_rejected=logps.ref_chosen,
        chosen_score=logps.rejected_score,
        rejected_score=logps.chosen_score,
    )


def test_the_offset_swaps_pairs_whose_scores_say_so(made_logps: Callable[..., PairLogps]) -> None:
    logps = made_logps()
    torch.testing.assert_close(odpo(swapped(logps), unordered="swap"), odpo(logps))
    torch.testing.assert_close(odpo(logps, unordered="swap"), odpo(logps))


def test_only_the_longer_answers_tail_is_played_down() -> None:
    def answer(*values: float) -> TokenLogps:
        return TokenLogps(torch.tensor([[*values, *[0.0] * (4 - len(values))]]), torch.arange(4)[None] < len(values))

    logps = PairLogps(
        policy_chosen=answer(-1, -2, -4, -8),
        policy_rejected=answer(-3, -5),
        ref_chosen=answer(-1, -1, -1, -1),
        ref_rejected=answer(-1, -1),
    )
    h = (-1 - 2 - 0.25 * 12 + 1 + 1 + 0.25 * 2) - (-8 + 2)
    assert ld_dpo(logps, beta=2, alpha=0.25).item() == pytest.approx(math.log1p(math.exp(-2 * h)))
    h = (-1 - 2 - 0.25 * 12 + 1 + 1 + 0.25 * 2) * -1 + (-8 + 2)
    assert ld_dpo(swapped(logps), beta=2, alpha=0.25).item() == pytest.approx(math.log1p(math.exp(-2 * h)))


def test_averages_are_over_each_answers_tokens() -> None:
    chosen = TokenLogps(torch.tensor([[-1.0, -2.0, -6.0], [-4.0, 9.0, 9.0]]), torch.tensor([[1, 1, 1], [1, 0, 0]]) > 0)
    assert nll(PairLogps(policy_chosen=chosen, policy_rejected=chosen)).tolist() == [3.0, 4.0]


@pytest.mark.parametrize("distance", [1e-3, 1e-8, 1e-14, 1e-40])
def test_log_odds_near_certainty(distance: float) -> None:
    """log p = −d has odds e^(−d) / (1 − e^(−d)) ≈ 1/d, which 1 − exp(log p) loses."""
    logps = torch.tensor([-distance], dtype=torch.float64, requires_grad=True)
    found = log_odds(logps)
    assert found.item() == pytest.approx(-math.log(distance) - distance / 2 - distance**2 / 24, rel=1e-12)
    (gradient,) = torch.autograd.grad(found.sum(), logps)
    assert gradient.item() == pytest.approx(1 / distance, rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_log_odds_at_certainty_and_at_impossibility(dtype: torch.dtype) -> None:
    logps = torch.tensor([0.0, -1e4], dtype=dtype, requires_grad=True)
    found = log_odds(logps)
    (gradient,) = torch.autograd.grad(found.sum(), logps)
    assert found.isfinite().all()
    assert gradient.isfinite().all()
    assert found[0] > 10
    assert found[1] == logps[1]


# The reference point of KTO.


def test_the_reference_point_is_the_mean_log_ratio_at_least_0_and_carries_no_gradient() -> None:
    chosen = torch.tensor([3.0, 2.0], requires_grad=True)
    rejected = torch.tensor([-1.0, 0.0], requires_grad=True)
    z0 = batch_reference_point(chosen, rejected)
    assert z0.item() == 1.0
    assert not z0.requires_grad
    assert batch_reference_point(-chosen, rejected).item() == 0.0


def test_kto_takes_its_reference_point_from_the_batch(made_logps: Callable[..., PairLogps]) -> None:
    logps = made_logps()
    raised = replace(logps, policy_chosen=replace(logps.policy_chosen, values=logps.policy_chosen.values + 5))
    chosen, rejected = log_ratios(raised)
    z0 = (chosen.mean() + rejected.mean()) / 2
    assert z0 > 1
    expected = (torch.sigmoid(0.1 * (z0 - chosen)) + torch.sigmoid(0.1 * (rejected - z0))) / 2
    torch.testing.assert_close(kto(raised), expected)


# Sums of losses.


def test_a_sum_weighs_its_losses_pair_by_pair(made_logps: Callable[..., PairLogps]) -> None:
    logps = made_logps()
    expected = dpo(logps, beta=0.3) + 0.2 * nll(logps)
    spellings: list[Loss] = [
        combine({"dpo:beta=0.3": 1.0, "nll": 0.2}),
        combine({loss.bind(dpo, {"beta": 0.3}): 1, nll: 0.2}),
        combine({"dpo:beta=0.3 + 0.2*nll": 1}),
        loss.bind("dpo:beta=0.3 + 0.2*nll"),
        loss.bind("1 * dpo:beta=0.3 + 2e-1 * nll"),
    ]
    for objective in spellings:
        torch.testing.assert_close(objective(logps), expected)
    torch.testing.assert_close(loss.bind("0.5*nll")(logps), nll(logps) / 2)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("dpo + ", "unknown loss ''"),
        ("dpo + nlll", "unknown loss 'nlll'; expected one of: apo_down"),
        ("x*nll", "expected a number before"),
        ("dpo + 0.2*nll:beta=1", "nll: beta"),
    ],
)
def test_a_wrong_sum_says_what_is_wrong(spec: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        loss.bind(spec)


def test_a_sum_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one loss"):
        combine({})


# What is wrong is said.


def test_names_and_settings_are_checked() -> None:
    assert loss.bind("dpo:beta=2")(RAISED).item() == pytest.approx(0.446287, abs=1e-6)
    with pytest.raises(UsageError, match=r"one of: apo_down, .*, dpo, .*, sppo"):
        loss.bind("dpoo")
    with pytest.raises(UsageError, match="beta, label_smoothing"):
        loss.bind("dpo:bta=2")
    with pytest.raises(UsageError, match="soft_label"):
        loss.bind("refined_dpo:form=hard")


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("dpo:label_smoothing=0.5", "label_smoothing from 0 to below 0.5, got 0.5"),
        ("robust:label_smoothing=-0.1", "label_smoothing from 0"),
        ("exo:label_smoothing=0", "label_smoothing above 0 and below 0.5, got 0"),
        ("simpo:gamma=-1", "gamma of at least 0, got -1"),
        ("orpo:odds_weight=-1", "odds_weight of at least 0"),
        ("cpo:nll_weight=-1", "nll_weight of at least 0"),
        ("odpo:alpha=-1", "alpha of at least 0"),
        ("ld_dpo:alpha=1.5", "alpha from 0 to 1, got 1.5"),
        ("refined_dpo:eta=0", "eta above 0, got 0"),
        ("discopop:tau=0", "tau above 0"),
        ("dpo:beta=.inf", "beta above 0, got inf"),
        ("dpo:beta=.nan", "beta above 0, got nan"),
    ],
)
def test_a_setting_out_of_range_is_named(spec: str, complaint: str, made_logps: Callable[..., PairLogps]) -> None:
    with pytest.raises(UsageError, match=complaint):
        loss.bind(spec)(made_logps())


def test_choices_are_checked_without_the_registry(made_logps: Callable[..., PairLogps]) -> None:
    with pytest.raises(UsageError, match="unknown form 'hard'; expected one of: soft_label, margin"):
        refined_dpo(made_logps(), form="hard")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="unknown unordered 'drop'; expected one of: refuse, swap"):
        odpo(made_logps(), unordered="drop")  # pyright: ignore[reportArgumentType]


def test_every_choice_has_its_formula() -> None:
    assert set(FORMS) == set(get_args(Form))
    assert set(REFERENCE_POINTS) == set(get_args(Point))


def test_a_missing_reference_is_explained() -> None:
    with pytest.raises(MissingReference, match=r"expected reference.*got None.*Give both"):
        dpo(PairLogps(policy_chosen=one_token(-1.0), policy_rejected=one_token(-1.0)))
    assert issubclass(MissingReference, ValueError)


def test_pairs_that_have_no_offset_are_named(made_logps: Callable[..., PairLogps]) -> None:
    logps = made_logps(n=4)
    assert logps.chosen_score is not None
    tied = replace(logps, rejected_score=logps.chosen_score + torch.tensor([-1.0, 0.0, -1.0, 2.0]))
    with pytest.raises(InvalidData, match=r"got 2 of 4 pairs \(idx 11, 13\).*Leave these rows out.*unordered=swap"):
        odpo(tied)
    with pytest.raises(InvalidData, match=r"got 1 of 4 pairs \(idx 11\).*Leave these rows out of the data\."):
        odpo(tied, unordered="swap")
    with pytest.raises(InvalidData, match=r"\(position 1, 3\)"):
        odpo(replace(tied, idx=None))
    many = made_logps(n=9)
    with pytest.raises(InvalidData, match=r"9 of 9 pairs \(idx 10, 11, 12, 13, 14, …\)"):
        odpo(replace(many, chosen_score=many.rejected_score))

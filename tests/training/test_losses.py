"""Losses equal hand-worked and published values, and their gradients are those of the formula."""

import math

import pytest
import torch
from torch import Tensor

from smidgen.errors import UsageError
from smidgen.models.logprobs import PairLogps, TokenLogps
from smidgen.training.losses import dpo, hinge, ipo, loss


def one_token(*logps: float) -> TokenLogps:
    return TokenLogps(torch.tensor(logps, dtype=torch.float64)[:, None], torch.ones(len(logps), 1, dtype=torch.bool))


def probabilities(chosen: float, rejected: float, ref_chosen: float, ref_rejected: float) -> PairLogps:
    return PairLogps(
        policy_chosen=one_token(math.log(chosen)),
        policy_rejected=one_token(math.log(rejected)),
        ref_chosen=one_token(math.log(ref_chosen)),
        ref_rejected=one_token(math.log(ref_rejected)),
    )


# A worked example: policy .2 and .3, reference .2 and .4, so that h = ln(4/3).
RAISED = probabilities(0.2, 0.3, 0.2, 0.4)
LOWERED = probabilities(0.2, 0.3, 0.2, 0.2)


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


def test_conservative_dpo_hinge_and_ipo() -> None:
    assert dpo(RAISED, beta=2, label_smoothing=0.1).item() == pytest.approx(0.503824, abs=1e-6)
    assert hinge(RAISED, beta=2).item() == pytest.approx(0.424636, abs=1e-6)
    assert ipo(RAISED, beta=2).item() == pytest.approx((math.log(4 / 3) - 0.25) ** 2, abs=1e-9)


def test_published_values_of_three_pairs() -> None:
    logps = PairLogps(
        policy_chosen=one_token(-0.5, -10, -1),
        policy_rejected=one_token(-0.1, -30, -21),
        ref_chosen=one_token(-0.5, -10.1, -0.1),
        ref_rejected=one_token(-0.1, -20.1, -0.1),
    )
    assert dpo(logps, beta=0.1).tolist() == pytest.approx([0.693147, 0.313262, 0.126928], abs=1e-6)
    assert hinge(logps, beta=0.1).tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_gradient_of_dpo_is_the_papers() -> None:
    """dL/dh = -β σ(-βh), by Rafailov et al. 2023, section 4."""
    logps = one_token(math.log(0.2))
    values = logps.values.requires_grad_()
    loss_value = dpo(
        PairLogps(
            policy_chosen=TokenLogps(values, logps.mask),
            policy_rejected=one_token(math.log(0.3)),
            ref_chosen=one_token(math.log(0.2)),
            ref_rejected=one_token(math.log(0.4)),
        ),
        beta=2,
    )
    loss_value.sum().backward()
    assert values.grad is not None
    assert values.grad.item() == pytest.approx(-2 * (1 - 0.64), abs=1e-6)


def test_only_tokens_under_the_mask_count() -> None:
    def padded(logps: TokenLogps) -> TokenLogps:
        junk = torch.full_like(logps.values, 123.0)
        return TokenLogps(torch.cat([logps.values, junk], 1), torch.cat([logps.mask, ~logps.mask], 1))

    ref_chosen, ref_rejected = RAISED.ref_chosen, RAISED.ref_rejected
    assert ref_chosen is not None
    assert ref_rejected is not None
    padded_pairs = PairLogps(
        policy_chosen=padded(RAISED.policy_chosen),
        policy_rejected=padded(RAISED.policy_rejected),
        ref_chosen=padded(ref_chosen),
        ref_rejected=padded(ref_rejected),
    )
    assert dpo(padded_pairs, beta=2).item() == pytest.approx(dpo(RAISED, beta=2).item())


@pytest.mark.parametrize("name", loss.names())
def test_every_loss_gives_one_value_a_pair_and_prefers_the_chosen(name: str) -> None:
    """The contract: shape [pairs], finite, not reduced, and falling as the chosen answer gains at small margins."""
    function = loss.get(name)
    low, high = (probabilities(p, 0.3, 0.25, 0.3) for p in (0.25, 0.26))
    both: Tensor = function(
        PairLogps(
            policy_chosen=one_token(math.log(0.25), math.log(0.26)),
            policy_rejected=one_token(math.log(0.3), math.log(0.3)),
            ref_chosen=one_token(math.log(0.25), math.log(0.25)),
            ref_rejected=one_token(math.log(0.3), math.log(0.3)),
        )
    )
    assert both.shape == (2,)
    assert both.tolist() == pytest.approx([function(low).item(), function(high).item()])
    assert both[1] < both[0]


def test_names_and_settings_are_checked() -> None:
    assert loss.bind("dpo:beta=2")(RAISED).item() == pytest.approx(0.446287, abs=1e-6)
    with pytest.raises(UsageError, match="one of: dpo, hinge, ipo"):
        loss.bind("dpoo")
    with pytest.raises(UsageError, match="beta, label_smoothing"):
        loss.bind("dpo:bta=2")


def test_a_missing_reference_is_explained() -> None:
    with pytest.raises(ValueError, match="reference"):
        dpo(PairLogps(policy_chosen=one_token(-1.0), policy_rejected=one_token(-1.0)))

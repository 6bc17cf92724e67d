"""Values and gradients equal those of TRL's own code, given the same per-token log-probabilities."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

# Its trainers for ORPO and CPO warn on import that they are experimental.
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import pytest
import torch
from torch import Tensor, nn

from smidgen.models.logprobs import MarkedLogps, PairLogps, TokenLogps
from smidgen.training.losses import combine, loss
from smidgen.training.losses.marked import apo_zero_unpaired, kto_unpaired

Maker = Callable[..., PairLogps]
PROMPT_TOKENS = 2


class Given(nn.Module):
    """Stands for a model: its log-probabilities are the ones it was made with."""

    is_gradient_checkpointing = False

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, **inputs: Any) -> SimpleNamespace:
        nothing = torch.zeros_like(self.values)
        return SimpleNamespace(log_probs=self.values, entropy=nothing, mean_logits=nothing, is_top1=nothing > 0)


def stacked(chosen: TokenLogps, rejected: TokenLogps) -> Tensor:
    """As TRL has them: chosen rows before rejected ones, a prompt in front whose tokens count nothing."""
    values = torch.cat([chosen.values * chosen.mask, rejected.values * rejected.mask])
    return torch.cat([values.new_zeros(len(values), PROMPT_TOKENS - 1), values], 1)


def batch_of(logps: PairLogps) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """TRL's inputs, and what its policy and its reference are to answer."""
    assert logps.ref_chosen is not None
    assert logps.ref_rejected is not None
    mask = torch.cat([logps.policy_chosen.mask, logps.policy_rejected.mask]).long()
    completion_mask = torch.cat([mask.new_zeros(len(mask), PROMPT_TOKENS), mask], 1)
    inputs = {
        "input_ids": torch.ones_like(completion_mask),
        "attention_mask": torch.cat([mask.new_ones(len(mask), PROMPT_TOKENS), mask], 1),
        "completion_mask": completion_mask,
    }
    policy, ref = stacked(logps.policy_chosen, logps.policy_rejected), stacked(logps.ref_chosen, logps.ref_rejected)
    return inputs, policy.requires_grad_(), ref


def stub(**settings: Any) -> SimpleNamespace:
    """What TRL's losses ask of their trainer."""
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather=lambda values: values, gather_for_metrics=lambda values: values
    )
    common = {
        "accelerator": accelerator,
        "args": SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=0.05),
        "aux_loss_enabled": False,
        "_metrics": defaultdict(lambda: defaultdict(list)),
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    return SimpleNamespace(**common, **settings)


def trl_dpo(logps: PairLogps, loss_type: str, **settings: Any) -> tuple[Tensor, Tensor]:
    """TRL's loss, a mean over pairs, and its gradient at the policy's log-probabilities."""
    from trl.trainer.dpo_trainer import DPOTrainer

    inputs, policy, ref = batch_of(logps)
    model = Given(policy)
    own: dict[str, Any] = {"beta": 0.1, "label_smoothing": 0.0, "ld_alpha": None, **settings}
    trainer = stub(
        model=model,
        ref_model=Given(ref),
        precompute_ref_logps=False,
        f_divergence_type="reverse_kl",
        use_weighting=False,
        loss_types=[loss_type],
        loss_weights=[1.0],
        **own,
    )
    value: Any = DPOTrainer._compute_loss(trainer, model, inputs, False)  # pyright: ignore[reportArgumentType]
    (gradient,) = torch.autograd.grad(value, policy)
    return value.detach(), gradient


def ours(logps: PairLogps, function: Callable[[PairLogps], Tensor]) -> tuple[Tensor, Tensor]:
    """The mean over pairs, and its gradient in TRL's order."""
    chosen, rejected = (
        answers.values.detach().clone().requires_grad_() for answers in (logps.policy_chosen, logps.policy_rejected)
    )
    policy_chosen = replace(logps.policy_chosen, values=chosen)
    policy_rejected = replace(logps.policy_rejected, values=rejected)
    value = function(replace(logps, policy_chosen=policy_chosen, policy_rejected=policy_rejected)).mean()
    gradients = torch.autograd.grad(value, [chosen, rejected], allow_unused=True)
    rows = [torch.zeros_like(chosen) if g is None else g for g in gradients]
    masks = (logps.policy_chosen.mask, logps.policy_rejected.mask)
    return value.detach(), stacked(*(TokenLogps(g, mask) for g, mask in zip(rows, masks, strict=True)))


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], mask: Tensor, atol: float) -> None:
    assert found[1].abs().max() > 1e-4
    torch.testing.assert_close(found[0], expected[0], atol=atol, rtol=0, check_dtype=False)
    # TRL's own gradients at tokens that the mask leaves out are dropped further up, where its head gives zeros.
    torch.testing.assert_close(found[1], expected[1] * mask, atol=atol, rtol=0, check_dtype=False)


def scored_tokens(logps: PairLogps) -> Tensor:
    return stacked(
        *(TokenLogps(torch.ones_like(a.values), a.mask) for a in (logps.policy_chosen, logps.policy_rejected))
    )


@pytest.mark.parametrize(
    ("loss_type", "spec", "settings"),
    [
        ("sigmoid", "dpo", {}),
        ("robust", "robust:label_smoothing=0.2", {"label_smoothing": 0.2}),
        ("hinge", "hinge", {}),
        ("ipo", "ipo_averaged", {}),
        ("exo_pair", "exo:label_smoothing=0.2", {"label_smoothing": 0.2}),
        ("nca_pair", "nca", {}),
        ("bco_pair", "bco", {}),
        ("sppo_hard", "sppo", {}),
        ("apo_zero", "apo_zero", {}),
        ("apo_down", "apo_down", {}),
        ("discopop", "discopop", {}),
        ("sigmoid_norm", "dpo_averaged:beta=0.1", {}),
        ("sigmoid", "ld_dpo:alpha=0.3", {"ld_alpha": 0.3}),
        ("sigmoid", "dpo:beta=2", {"beta": 2.0}),
        ("ipo", "ipo_averaged:beta=0.7", {"beta": 0.7}),
    ],
)
def test_losses_of_the_dpo_trainer(made_logps: Maker, loss_type: str, spec: str, settings: dict) -> None:
    logps = made_logps(n=16, tokens=6)
    # EXO's smoothing is float32 there, whatever the rest.
    atol = 1e-7 if loss_type == "exo_pair" else 1e-12
    assert_same(ours(logps, loss.bind(spec)), trl_dpo(logps, loss_type, **settings), scored_tokens(logps), atol)


def test_the_sft_term_on_answers_of_one_length(made_logps: Maker) -> None:
    """TRL averages over the tokens of all answers, we over each answer's first."""
    logps = made_logps(n=16, tokens=1)
    assert_same(ours(logps, loss.bind("nll")), trl_dpo(logps, "sft"), scored_tokens(logps), 1e-12)
    mixed = combine({"dpo": 1.0, "nll": 0.2})
    expected = [a + 0.2 * b for a, b in zip(trl_dpo(logps, "sigmoid"), trl_dpo(logps, "sft"), strict=True)]
    assert_same(ours(logps, mixed), (expected[0], expected[1]), scored_tokens(logps), 1e-12)


def test_a_difference_is_found(made_logps: Maker) -> None:
    logps = made_logps(n=16, tokens=6)
    for spec in ("ipo", "dpo:beta=0.11"):
        with pytest.raises(AssertionError):
            assert_same(ours(logps, loss.bind(spec)), trl_dpo(logps, "ipo"), scored_tokens(logps), 1e-6)


@pytest.mark.parametrize(
    ("spec", "over_tokens", "settings", "atol"),
    [
        ("simpo:beta=2,gamma=0.7", TokenLogps.mean, {"beta": 2.0, "simpo_gamma": 0.7, "loss_type": "simpo"}, 1e-12),
        ("cpo:beta=0.2,nll_weight=0", TokenLogps.sum, {"beta": 0.2, "loss_type": "sigmoid"}, 1e-12),
        # TRL computes this one in float32, and subtracts it from the likelihood's.
        ("orpo:odds_weight=0.3 + -1*nll", TokenLogps.mean, {"beta": 0.3}, 1e-6),
    ],
)
def test_simpo_and_the_preference_terms_of_cpo_and_orpo(
    made_logps: Maker, spec: str, over_tokens: Callable[[TokenLogps], Tensor], settings: dict, atol: float
) -> None:
    from trl.experimental.cpo.cpo_trainer import CPOTrainer
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    logps = made_logps(n=16, tokens=6)
    trainer: Any = stub(alpha=0.0, label_smoothing=0.0, **settings)

    def trls(given: PairLogps) -> Tensor:
        answers: Any = [over_tokens(given.policy_chosen), over_tokens(given.policy_rejected)]
        if "loss_type" in settings:
            return CPOTrainer.cpo_loss(trainer, *answers)[0]
        return -ORPOTrainer.odds_ratio_loss(trainer, *answers)[0]

    assert_same(ours(logps, loss.bind(spec)), ours(logps, trls), scored_tokens(logps), atol)


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_kto_with_the_same_reference_point(made_logps: Maker, shift: float) -> None:
    """TRL's estimate over mismatched answers is replaced by the batch's own; the mean over answers is compared."""
    from trl.trainer.kto_trainer import KTOTrainer

    logps = made_logps(n=16, tokens=6)
    raised = replace(logps.policy_chosen, values=logps.policy_chosen.values + shift)
    logps = replace(logps, policy_chosen=raised)
    inputs, policy, ref = batch_of(logps)
    model = Given(policy)
    trainer: Any = stub(
        model=model,
        beta=0.1,
        loss_type="kto",
        calculate_KL=True,
        precompute_ref_logps=True,
        desirable_weight=1.0,
        undesirable_weight=1.0,
        _compute_kl_logps=lambda model, batch: policy.sum(-1),
    )
    n = len(policy) // 2
    rest: dict[str, Any] = {"label": torch.arange(2 * n) < n, "ref_logps": ref.sum(-1), "ref_KL_logps": ref.sum(-1)}
    value: Any = KTOTrainer._compute_loss(trainer, model, {**inputs, **rest}, False)
    (gradient,) = torch.autograd.grad(value, policy)
    assert_same(ours(logps, loss.bind("kto")), (value.detach(), gradient), scored_tokens(logps), 1e-12)
    zero, batch = (loss.bind(f"kto:reference_point={point}")(logps) for point in ("zero", "batch"))
    assert torch.allclose(zero, batch) == (shift == 0 and (policy - ref).sum() <= 0)


@pytest.mark.parametrize("shift", [-5.0, 5.0])
@pytest.mark.parametrize(
    ("loss_type", "function", "weights"),
    [
        ("kto", kto_unpaired, {}),
        ("kto", kto_unpaired, {"desirable_weight": 1.3, "undesirable_weight": 0.7}),
        ("apo_zero_unpaired", apo_zero_unpaired, {}),
    ],
)
def test_losses_on_single_answers(
    made_logps: Maker, loss_type: str, function: Callable[..., Tensor], weights: dict, shift: float
) -> None:
    """With TRL's reference point: mean of log-ratios of mismatched answers, above or below 0."""
    from trl.trainer.kto_trainer import KTOTrainer

    logps = made_logps(n=12, tokens=6)
    inputs, policy, ref = batch_of(logps)
    desirable = torch.arange(24) % 3 == 0
    mismatched = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + shift
    model = Given(policy)
    trainer: Any = stub(
        model=model,
        beta=0.2,
        loss_type=loss_type,
        calculate_KL=loss_type == "kto",
        precompute_ref_logps=True,
        **{"desirable_weight": 1.0, "undesirable_weight": 1.0, **weights},
        _compute_kl_logps=lambda model, batch: mismatched + ref.sum(-1),
    )
    rest: dict[str, Any] = {"label": desirable, "ref_logps": ref.sum(-1), "ref_KL_logps": ref.sum(-1)}
    theirs: Any = KTOTrainer._compute_loss(trainer, model, {**inputs, **rest}, False)
    (expected,) = torch.autograd.grad(theirs, policy)
    mask = scored_tokens(logps)
    own = policy.detach().clone().requires_grad_()
    marked = MarkedLogps(
        policy=TokenLogps(own, mask.bool()),
        ref=TokenLogps(ref, mask.bool()),
        desirable=desirable,
        mismatched_log_ratio=mismatched.mean() if loss_type == "kto" else None,
    )
    value = function(marked, beta=0.2, **weights).mean()
    (gradient,) = torch.autograd.grad(value, own)
    assert_same((value.detach(), gradient), (theirs.detach(), expected), mask, 1e-12)

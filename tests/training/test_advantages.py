"""The arithmetic of PPO: hand-worked values, the published test of GAE, gradients that the clip stops or lets by."""

import math

import pytest
import torch
from torch import Tensor

from smidgen.errors import UsageError
from smidgen.training.advantages import (
    adapted_kl_coef,
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
    gae,
    is_clipped,
    kl_tokens,
    masked_mean,
    token_rewards,
    whiten,
)


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def everywhere(like: Tensor) -> Tensor:
    return torch.ones(like.shape, dtype=torch.bool)


def random_answers(seed: int = 0, n: int = 5, tokens: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values and mask, with rubbish at padding."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, n, tokens, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, tokens + 1, (n,), generator=generator)
    return rewards, values, torch.arange(tokens) < lengths[:, None]


def test_returns_are_the_published_ones() -> None:
    given = row(0, 0, 0, 1)
    advantages, returns = gae(given, given, everywhere(given), gamma=0.9, lam=0.95)
    assert returns[0].tolist() == pytest.approx([0.657923, 0.7695, 0.9, 1], abs=1e-6)
    assert advantages[0].tolist() == pytest.approx([0.657923, 0.7695, 0.9, 0], abs=1e-6)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.7, 0.0)])
def test_advantages_are_the_sum_of_surprises_to_come(gamma: float, lam: float) -> None:
    rewards, values, mask = random_answers()
    found, returns = gae(rewards, values, mask, gamma=gamma, lam=lam)
    for i, n in enumerate(mask.sum(-1).tolist()):
        r, v = rewards[i, :n].tolist(), [*values[i, :n].tolist(), 0.0]
        surprises = [r[t] + gamma * v[t + 1] - v[t] for t in range(n)]
        expected = [sum((gamma * lam) ** (k - t) * surprises[k] for k in range(t, n)) for t in range(n)]
        assert found[i, :n].tolist() == pytest.approx(expected)
        assert returns[i, :n].tolist() == pytest.approx([a + x for a, x in zip(expected, v, strict=False)])
    assert not found[~mask].any()
    assert not returns[~mask].any()


def test_padded_equals_unpadded() -> None:
    rewards, values, mask = random_answers()
    together = gae(rewards, values, mask)
    for i, n in enumerate(mask.sum(-1).tolist()):
        alone = gae(rewards[i : i + 1, :n], values[i : i + 1, :n], mask[i : i + 1, :n])
        for whole, part in zip(together, alone, strict=True):
            assert torch.equal(whole[i, :n], part[0])


def test_without_discount_returns_are_what_is_still_to_come() -> None:
    rewards, values, mask = random_answers()
    _, returns = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    assert returns[:, 0].tolist() == pytest.approx((rewards * mask).sum(-1).tolist())


def test_whitening() -> None:
    values, _, mask = random_answers()
    values = 3 + 2 * values
    for shift_mean, mean in ((True, 0.0), (False, float(values[mask].mean()))):
        found = whiten(values, mask, shift_mean=shift_mean)
        assert float(found[mask].mean()) == pytest.approx(mean)
        assert float(found[mask].var(correction=0)) == pytest.approx(1, abs=1e-6)
        assert not found[~mask].any()
        assert torch.equal(found, whiten(torch.where(mask, values, 99.0), mask, shift_mean=shift_mean))
    one = row(7)
    assert whiten(one, everywhere(one), shift_mean=True).item() == 0


def test_rewards_of_tokens_are_the_price_of_kl_and_the_score_at_the_last() -> None:
    policy, ref = torch.tensor([[-1.0, -2.0, 0.0], [-1.0, -1.0, -1.0]]), torch.tensor([[-2.0, -1.0, 0.0], [-1.0] * 3])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    found = token_rewards(policy, ref, mask, torch.tensor([5.0, -1.0]), kl_coef=0.1)
    assert found.tolist() == [pytest.approx([-0.1, 5.1, 0]), pytest.approx([0, 0, -1])]


# Advantage, ratio; the loss by hand with ε = 0.2, its gradient by log π, whether the clip decides.
POLICY = [
    (1.0, 1.5, -1.2, 0.0, True),
    (1.0, 0.5, -0.5, -0.5, False),
    (1.0, 1.1, -1.1, -1.1, False),
    (-2.0, 0.5, 1.6, 0.0, True),
    (-2.0, 1.5, 3.0, 3.0, False),
    (1.0, 1.0, -1.0, -1.0, False),
    (0.0, 3.0, 0.0, 0.0, False),
]


def test_policy_losses_by_hand_and_no_gradient_beyond_the_clip() -> None:
    advantages, ratios, losses, gradients, clipped = (torch.tensor([column]) for column in zip(*POLICY, strict=True))
    old = torch.full_like(ratios, -0.7)
    logps = (old + ratios.log()).requires_grad_()
    found = clipped_policy_loss(logps, old, advantages, clip=0.2)
    (gradient,) = torch.autograd.grad(found.sum(), logps)
    torch.testing.assert_close(found.detach(), losses)
    torch.testing.assert_close(gradient, gradients)
    assert not gradient[clipped].any()
    assert torch.equal(is_clipped(logps.detach(), old, advantages, clip=0.2), clipped)


# Value, return, old value 0; the loss by hand with ε = 0.2, its gradient by the value.
VALUES = [(1.0, 2.0, 1.62, 0.0), (1.0, 0.0, 0.5, 1.0), (-0.1, 1.0, 0.605, -1.1), (0.5, 0.3, 0.02, 0.2)]


def test_value_losses_by_hand_and_no_gradient_beyond_the_clip() -> None:
    values, returns, losses, gradients = (torch.tensor([column]) for column in zip(*VALUES, strict=True))
    values.requires_grad_()
    found = clipped_value_loss(values, torch.zeros_like(values), returns, clip=0.2)
    (gradient,) = torch.autograd.grad(found.sum(), values)
    torch.testing.assert_close(found.detach(), losses)
    torch.testing.assert_close(gradient, gradients)


def test_explained_variance() -> None:
    returns = row(1, 2, 3, 4)
    mask = everywhere(returns)
    assert explained_variance(returns + 5, returns, mask).item() == pytest.approx(1)
    assert explained_variance(torch.zeros_like(returns), returns, mask).item() == pytest.approx(0)
    assert explained_variance(-returns, returns, mask).item() == pytest.approx(-3)
    padded = torch.cat([returns, row(9)], 1)
    assert explained_variance(padded + 5, padded, torch.cat([mask, ~mask[:, :1]], 1)).item() == pytest.approx(1)
    assert math.isfinite(explained_variance(returns, torch.ones_like(returns), mask).item())


def test_kl_estimates_average_to_the_kl_and_k2_nearly() -> None:
    policy, ref = (torch.randn(40, generator=torch.Generator().manual_seed(s)).double() * 0.2 for s in (0, 1))
    policy, ref = policy.log_softmax(0), ref.log_softmax(0)
    true = float((policy.exp() * (policy - ref)).sum())
    means = {name: float((policy.exp() * kl_tokens(policy, ref, estimator=name)).sum()) for name in ("k1", "k2", "k3")}
    assert means["k1"] == pytest.approx(true, rel=1e-9)
    assert means["k3"] == pytest.approx(true, rel=1e-9)
    assert means["k2"] == pytest.approx(true, rel=0.1)
    assert abs(means["k2"] - true) > 1e-5
    assert (kl_tokens(policy, ref, estimator="k3") >= 0).all()
    assert (kl_tokens(policy, ref, estimator="k1") < 0).any()
    with pytest.raises(UsageError, match="k1, k2, k3"):
        kl_tokens(policy, ref, estimator="k4")


def test_the_price_of_kl_follows_its_target() -> None:
    assert adapted_kl_coef(0.1, 6.0, target=6.0) == pytest.approx(0.1)
    assert adapted_kl_coef(0.1, 6.6, target=6.0) == pytest.approx(0.101)
    assert adapted_kl_coef(0.1, 60.0, target=6.0) == pytest.approx(0.102)
    assert adapted_kl_coef(0.1, -1.0, target=6.0) == pytest.approx(0.098)
    assert adapted_kl_coef(0.1, 60.0, target=6.0, gain=1.0) == pytest.approx(0.12)


def test_means_are_over_tokens() -> None:
    assert masked_mean(row(1, 2, math.nan), torch.tensor([[True, True, False]])).item() == 1.5

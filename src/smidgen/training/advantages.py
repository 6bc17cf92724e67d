"""The arithmetic of proximal policy optimisation: token rewards, advantages, clipped losses, KL estimates, β's control.

Pure functions on per-token tensors, [answers, tokens], padded on the right: `mask` is True where a token is, and what
stands elsewhere counts nowhere.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from smidgen.errors import UsageError

PerToken = Float[Tensor, "answers tokens"]
Mask = Bool[Tensor, "answers tokens"]


def masked_mean(values: PerToken, mask: Mask) -> Float[Tensor, ""]:
    """Mean over all tokens of all answers, so a long answer counts more than a short one."""
    return torch.where(mask, values, 0.0).sum() / mask.sum()


def whiten(values: PerToken, mask: Mask, *, shift_mean: bool) -> PerToken:
    """Scaled to variance 1 over all tokens (divided by n, not n − 1); padding becomes 0.

    Args:
        shift_mean: Also shift to mean 0, as for advantages. Rewards keep their mean: whether an answer is good or bad
            is what they say.

    Source: Ziegler et al. 2019, arXiv:1909.08593, in the authors' code.
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    return torch.where(mask, whitened if shift_mean else whitened + mean, 0.0)


def token_rewards(
    policy: PerToken, ref: PerToken, mask: Mask, scores: Float[Tensor, " answers"], *, kl_coef: float
) -> PerToken:
    """−β (log π − log ref) at every token, and the answer's score on top of its last one.

    Args:
        policy: Log-probabilities of the sampled tokens, nats.
        ref: The same under the reference.
        scores: One reward an answer.
        kl_coef: β.

    Source: Ziegler et al. 2019, arXiv:1909.08593, Eq. 2.
    """
    rewards = torch.where(mask, -kl_coef * (policy - ref), 0.0)
    last = mask.sum(-1) - 1
    rewards[torch.arange(len(rewards), device=rewards.device), last] += scores
    return rewards


def gae(
    rewards: PerToken, values: PerToken, mask: Mask, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[PerToken, PerToken]:
    """Generalised advantage estimates, and returns: advantages plus values.

    After its last token an answer is over: the value there is 0.

    Args:
        rewards: Of each token.
        values: What was expected, before each token, of the rewards from it on.
        gamma: Discount, from 0 to 1.
        lam: λ, from 0 (one step ahead) to 1 (the whole rest of the answer).

    Returns:
        Advantages and returns, 0 at padding.

    Source: Schulman et al. 2015, arXiv:1506.02438, Eq. 16.
    """
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(values)
    ahead = value_ahead = values.new_zeros(len(values))
    for t in reversed(range(values.shape[1])):
        surprise = rewards[:, t] + gamma * value_ahead - values[:, t]
        # At padding all three are 0, and so is what an answer's last token looks ahead to.
        ahead = surprise + gamma * lam * ahead
        advantages[:, t], value_ahead = ahead, values[:, t]
    return advantages, advantages + values


def clipped_policy_loss(logps: PerToken, old_logps: PerToken, advantages: PerToken, *, clip: float) -> PerToken:
    """max(−A ρ, −A clamp(ρ, 1 − ε, 1 + ε)) of each token, ρ = π / π_old; not reduced.

    A token whose ratio has left the clip in its advantage's direction has no gradient; one that left it the other way
    still has.

    Args:
        logps: Under the policy as it is, nats.
        old_logps: Under the policy that sampled, nats, without gradient.
        clip: ε.

    Source: Schulman et al. 2017, arXiv:1707.06347, Eq. 7.
    """
    ratio = (logps - old_logps).exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def is_clipped(logps: PerToken, old_logps: PerToken, advantages: PerToken, *, clip: float) -> Mask:
    """Tokens whose policy loss the clip decides, and which so have no gradient; arguments as `clipped_policy_loss`."""
    ratio = (logps - old_logps).exp()
    return torch.where(advantages > 0, ratio > 1 + clip, (ratio < 1 - clip) & (advantages < 0))


def clipped_value_loss(values: PerToken, old_values: PerToken, returns: PerToken, *, clip: float) -> PerToken:
    """½ max((V − R)², (clamp(V, V_old ± ε) − R)²) of each token; not reduced.

    Args:
        values: Of the value head as it is.
        old_values: Of the value head when the answers were sampled, without gradient.
        returns: What it should have said.
        clip: ε.

    Source: Ziegler et al. 2019, arXiv:1909.08593, in the authors' code, after OpenAI baselines' ppo2.
    """
    near = torch.clamp(values, old_values - clip, old_values + clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)


def explained_variance(values: PerToken, returns: PerToken, mask: Mask) -> Float[Tensor, ""]:
    """1 − Var(R − V) / Var(R) over all tokens: 1 for a perfect value head, 0 for a constant, else less."""

    def variance(x: PerToken) -> Tensor:
        return masked_mean((x - masked_mean(x, mask)) ** 2, mask)

    return 1 - variance(returns - values) / variance(returns).clamp(min=1e-12)


def kl_tokens(policy: PerToken, ref: PerToken, *, estimator: str = "k1") -> PerToken:
    """An estimate of KL(π ‖ ref) at each sampled token, nats; their sum over an answer estimates the answer's KL.

    With log r = log ref − log π at a token sampled from π: k1 = −log r, unbiased, of any sign; k2 = ½ (log r)², biased
    but of low variance; k3 = (r − 1) − log r, unbiased and never negative.

    Raises:
        UsageError: Another estimator.

    Source: Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html.
    """
    log_ratio = ref - policy
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio**2
    if estimator == "k3":
        return torch.expm1(log_ratio) - log_ratio
    raise UsageError(f"unknown KL estimator {estimator!r}; expected one of: k1, k2, k3")


def adapted_kl_coef(kl_coef: float, kl: float, *, target: float, gain: float = 0.1) -> float:
    """The next β: larger where the KL measured is above its target, smaller where it is below.

    β (1 + K e) with e = (KL − target) / target, held within ±0.2.

    Args:
        kl_coef: β now.
        kl: Measured on the latest answers, nats an answer.
        target: What it should be, nats an answer; positive.
        gain: K.

    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2, with K = 0.1.
    """
    error = min(0.2, max(-0.2, (kl - target) / target))
    return kl_coef * (1 + gain * error)

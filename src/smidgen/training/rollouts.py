"""Rollouts: answers sampled from the policy, with everything that a step of PPO needs to know about them.

Log-probabilities come from the engine and not from the sampler, so that old and new ones are computed alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from smidgen.errors import InvalidData
from smidgen.models.generate import Completion, sample
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import TokenLogps, computing_in
from smidgen.models.rewards import Reward
from smidgen.models.rows import Layout, RowBatch, Tokens, collate_rows, row_lengths, token_budget_batches
from smidgen.models.values import ValuedAnswers
from smidgen.pairs import Messages

Reference = Callable[[RowBatch], TokenLogps]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the reward reads it, and as the policy does."""

    messages: Messages
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Rollout:
    """Sampled answers, all tensors on the policy's device and without gradient.

    Attributes:
        prompts: One for each answer.
        answers: Token ids, end of text included where the policy wrote it.
        texts: What the reward read.
        ended: Whether the policy wrote end of text, [answers].
        scores: The reward's, [answers].
        mask: True where an answer has a token.
        policy: Log-probabilities under the policy that sampled, nats.
        ref: The same under the reference.
        values: Of the value head.
    """

    prompts: tuple[Prompt, ...]
    answers: tuple[Tokens, ...]
    texts: tuple[str, ...]
    ended: Bool[Tensor, " answers"]
    scores: Float[Tensor, " answers"]
    mask: Bool[Tensor, "answers tokens"]
    policy: Float[Tensor, "answers tokens"]
    ref: Float[Tensor, "answers tokens"]
    values: Float[Tensor, "answers tokens"]

    def __len__(self) -> int:
        return len(self.answers)


def roll_out(
    lm: LanguageModel,
    policy: ValuedAnswers,
    reference: Reference,
    reward: Reward,
    prompts: Sequence[Prompt],
    *,
    layout: Layout,
    max_new_tokens: int,
    seed: int,
    lead: str = " ",
    dtype: str = "float32",
    batch_tokens: int = 16384,
) -> Rollout:
    """Sample one answer to each prompt, from all of the policy's distribution, and look at it from every side.

    Args:
        lm: The policy, as `policy` has it inside.
        reference: What the policy is held close to.
        reward: Scores prompts and answer texts.
        layout: Of the batches that policy and reference take.
        seed: Of the sampling; an answer's luck follows from it and from the prompt's position.
        lead: What the template writes between prompt and answer, which is no part of what the reward reads.
        dtype: Of the computation.
        batch_tokens: Tokens scored at once.

    Raises:
        InvalidData: The reward did not give one finite number an answer, or a prompt leaves no room to answer in.
    """
    training = lm.model.training
    lm.model.eval()  # layers that are computed again in the backward pass keep no key-value cache
    with computing_in(dtype, lm.device):
        completions = sample(lm, [p.tokens for p in prompts], seed=seed, max_new_tokens=max_new_tokens)
    lm.model.train(training)
    written = [completion for (completion,) in completions]
    answers = tuple(c.tokens if c.end is None else (*c.tokens, c.end) for c in written)
    texts = tuple(_text(lm, completion).removeprefix(lead) for completion in written)
    scores = scored(reward, [p.messages for p in prompts], texts)
    columns = _looked_at(policy, reference, prompts, answers, layout, dtype, batch_tokens)
    return Rollout(
        tuple(prompts),
        answers,
        texts,
        torch.tensor([c.end is not None for c in written], device=lm.device),
        torch.from_numpy(scores).to(lm.device, torch.float32),
        *columns,
    )


def scored(reward: Reward, prompts: Sequence[Messages], texts: Sequence[str]) -> Float[np.ndarray, " answers"]:
    """What the reward says, float64.

    Raises:
        InvalidData: Not one finite number an answer.
    """
    scores = np.asarray(reward(prompts, texts), dtype=np.float64)
    if scores.shape != (len(texts),):
        raise InvalidData(
            f"expected one reward for each of {len(texts)} answers, got an array of shape {scores.shape}; "
            "a reward takes prompts and answers and returns one number an answer."
        )
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise InvalidData(
            f"expected finite rewards, got {scores[wrong[0]]} for {len(wrong)} of {len(texts)} answers, first "
            f"{texts[wrong[0]][:60]!r}. Correct the reward, so that every text gets a number."
        )
    return scores


@torch.no_grad()
def _looked_at(
    policy: ValuedAnswers,
    reference: Reference,
    prompts: Sequence[Prompt],
    answers: Sequence[Tokens],
    layout: Layout,
    dtype: str,
    batch_tokens: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mask, policy's and reference's log-probabilities and values, each [answers, tokens]."""
    device = policy.value_head.weight.device
    lengths = torch.tensor([len(answer) for answer in answers], device=device)
    mask = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
    found = torch.zeros(3, *mask.shape, device=device)
    tokens, groups = [p.tokens for p in prompts], [(answer,) for answer in answers]
    for batch in token_budget_batches(row_lengths(tokens, groups), batch_tokens, padded=layout != "packed"):
        rows = collate_rows([tokens[i] for i in batch], [groups[i] for i in batch], layout=layout).to(device)
        with computing_in(dtype, device):
            logps, values = policy(rows)
            ref = reference(rows)
        width = logps.mask.shape[1]
        found[:, batch, :width] = torch.stack([logps.values, ref.values, values])
    return mask, found[0], found[1], found[2]


def _text(lm: LanguageModel, completion: Completion) -> str:
    text = lm.tokenizer.decode(list(completion.tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text if isinstance(text, str) else "".join(text)

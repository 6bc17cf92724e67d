"""Hidden states of prompts, pooled to one vector each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from smidgen.models.load import LanguageModel
from smidgen.models.rows import token_budget_batches


@torch.no_grad()
def pooled_hidden(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], *, batch_tokens: int = 8192
) -> Float[np.ndarray, "prompts twice_width"]:
    """The last layer's mean over a prompt's tokens beside its last token's state, float32.

    Args:
        prompts: Token ids, at least one each.
    """
    result: list[np.ndarray] = [np.empty(0)] * len(prompts)
    for batch in token_budget_batches([len(p) for p in prompts], batch_tokens):
        length = max(len(prompts[i]) for i in batch)
        ids = torch.zeros(len(batch), length, dtype=torch.long)
        mask = torch.zeros(len(batch), length, dtype=torch.long)
        for row, i in enumerate(batch):
            ids[row, : len(prompts[i])] = torch.tensor(list(prompts[i]))
            mask[row, : len(prompts[i])] = 1
        ids, mask = ids.to(lm.device), mask.to(lm.device)
        states = lm.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state.float()
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        last = states[torch.arange(len(batch)), mask.sum(1) - 1]
        for row, i in enumerate(batch):
            result[i] = torch.cat([mean[row], last[row]]).cpu().numpy()
    return np.stack(result)

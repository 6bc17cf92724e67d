"""A value head beside the engine: what is expected of an answer at each of its tokens, in the pass that scores it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.errors import InvalidData
from smidgen.models.logprobs import AnswerLogps, TokenLogps
from smidgen.models.rows import RowBatch


class ValuedAnswers(nn.Module):
    """Log-probabilities of answers, and a value before each of their tokens, from one pass over one trunk.

    A value is read from the hidden state that predicts its token, whatever the layout.

    Args:
        scorer: The engine; its model is the trunk.
        start: Weights of the value head, [width], such as a reward model's; zeros where None, so that every value
            starts as 0.

    Raises:
        InvalidData: Weights that are not finite numbers.
    """

    def __init__(self, scorer: AnswerLogps, start: Float[Tensor, " width"] | None = None) -> None:
        super().__init__()
        self.scorer = scorer
        width = scorer.model.config.get_text_config().hidden_size
        if start is not None and not torch.isfinite(start).all():
            raise InvalidData("expected finite weights for the value head, got NaN or infinity; train it again.")
        self.value_head = nn.Linear(width, 1, device=scorer.model.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        # Another width is another model's: its directions would mean nothing here.
        self.starts_from_reward = start is not None and tuple(start.shape) == (width,)
        if start is not None and self.starts_from_reward:
            with torch.no_grad():
                self.value_head.weight.copy_(start[None])

    def forward(self, batch: RowBatch) -> tuple[TokenLogps, Float[Tensor, "answers tokens"]]:
        """Of every answer of the batch, float32; values are 0 at padding."""
        seen: list[Tensor] = []
        trunk = self.scorer.model.base_model
        hook = trunk.register_forward_hook(lambda module, inputs, output: seen.append(output.last_hidden_state))
        try:
            logps = self.scorer(batch)
        finally:
            hook.remove()
        states = seen[-1].flatten(0, 1)[batch.sources]
        with torch.autocast(states.device.type, enabled=False):
            found = self.value_head(states.float()).squeeze(-1)
        values = found.new_zeros(batch.answer_mask.shape)
        values[batch.answer_mask] = found
        return logps, values
